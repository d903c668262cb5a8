"""The parts of a page about one run, in their order."""

from collections.abc import Iterator
from typing import NamedTuple

from ffnn_gpu.checks import counted
from ffnn_gpu.report.curves import curves_of, ensemble_of
from ffnn_gpu.report.findings import Findings
from ffnn_gpu.report.held_out import held_out_sections
from ffnn_gpu.report.markup import Html, element, joined, name_of
from ffnn_gpu.report.numbers import number
from ffnn_gpu.report.tables import facts, table


class Section(NamedTuple):
    """A part of a page: what its address ends in, its heading and its content."""

    key: str
    title: str
    body: Html


def sections_of(found: Findings) -> Iterator[Section]:
    """Yield the parts of a page about one run; parts without content are left out."""
    yield Section("results", "Results", _results(found))
    if found.omitted:
        yield Section("missing", "What is not here", _omitted(found))
    if found.columns:
        yield Section("columns", "Columns", _columns(found))
    if found.panels or found.ensemble:
        yield Section("training", "Training", joined([curves_of(found), ensemble_of(found)]))
    yield from (Section(*each) for each in held_out_sections(found))
    yield Section("costs", "Time and memory", facts(found.costs))
    yield Section("settings", "Settings", _settings(found))
    yield Section("environment", "Environment", facts(found.environment))
    yield Section("commands", "Commands", _commands(found))


def _results(found: Findings) -> Html:
    kind = "status" if found.is_complete else "status warning"
    status = element("p", found.status, class_=kind)
    about = [("data", name_of(found.data)), ("task", found.task)]
    if found.target:
        about.insert(1, ("target", name_of(found.target)))
    about += [(rows_called(part), number_of_rows(count)) for part, count in found.rows]
    return joined([status, _headline(found), _scores(found), facts(about)])


def _headline(found: Findings) -> Html:
    """Return the first metric in large figures, beside that of the constant prediction."""
    if not found.scores:
        return Html("")
    first, name = found.scores[0], found.scores[0].name.replace("_", " ")
    shown = [(f"test {name}", first.value), ("constant prediction", first.baseline)]
    items = (
        element("div", element("dt", said), element("dd", number(value)))
        for said, value in shown
        if value is not None
    )
    return element("dl", *items, class_="headline")


def rows_called(part: str) -> str:
    """training rows, validation rows, test rows"""
    return f"{'training' if part == 'train' else part} rows"


def number_of_rows(count: int) -> Html:
    """1,797, with the exact value for programs."""
    return element("data", f"{count:,}", value=count)


def _scores(found: Findings) -> Html:
    if not found.scores:
        return element("p", "No metric is known.")
    has_baseline = any(score.baseline is not None for score in found.scores)
    headings = ["metric", "model", *["constant prediction"] * has_baseline, "better is"]
    rows = []
    for score in found.scores:
        cells = [score.name.replace("_", " "), number(score.value)]
        cells += [number(score.baseline) if score.baseline is not None else ""] * has_baseline
        rows.append([*cells, "lower" if score.lower_is_better else "higher"])
    numbers = range(1, 2 + has_baseline)
    return joined([table("Metrics of the test rows", headings, rows, numbers), _baseline(found)])


def _baseline(found: Findings) -> Html:
    if not found.baseline:
        return Html("")
    said = element("bdi", found.baseline)
    return element("p", joined([found.better, " The constant prediction is ", said, "."]))


def _omitted(found: Findings) -> Html:
    rows = [[each.part, each.reason] for each in found.omitted]
    return table("Parts that are left out", ["part", "reason"], rows)


def _columns(found: Findings) -> Html:
    rows = [
        [
            name_of(each.name), each.kind, each.reason, each.treatment,
            "" if each.missing is None else f"{each.missing:,}", each.values,
        ]
        for each in found.columns
    ]  # fmt: skip
    headings = ["column", "kind", "why", "what the network reads", "missing cells", "values"]
    kept = [k for k in range(len(headings)) if k < 2 or any(row[k] for row in rows)]
    rows = [[row[k] for k in kept] for row in rows]
    places = [kept.index(k) for k in (4,) if k in kept]
    listed = table("The columns of the data", [headings[k] for k in kept], rows, places)
    return joined([element("p", found.column_note), _remarks(found), listed])


def _remarks(found: Findings) -> Html:
    if not found.remarks:
        return Html("")
    items = (element("li", remark) for remark in found.remarks)
    said = element("p", counted(len(found.remarks), "remark") + " about the data:")
    return joined([said, element("ul", *items, class_="remarks")])


def _settings(found: Findings) -> Html:
    changed = [[each.name, each.value] for each in found.settings if not each.is_default]
    whole = [[each.name, each.value] for each in found.settings]
    headings = ["setting", "value"]
    first = table("Settings that are not the default", headings, changed) if changed else ""
    summary = element("summary", f"All {len(whole)} settings")
    return joined([first, element("details", summary, table("All settings", headings, whole))])


def _commands(found: Findings) -> Html:
    said = ((element("p", what), element("pre", element("code", line))) for what, line in found.commands)
    return joined(part for pair in said for part in pair)
