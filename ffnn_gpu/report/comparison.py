"""Several runs on one page: first what differs, then how they did, then each of them."""

from collections.abc import Iterator, Sequence

from ffnn_gpu.checks import counted
from ffnn_gpu.report.charts import Line, figure
from ffnn_gpu.report.curves import chart_of
from ffnn_gpu.report.findings import Findings, Panel
from ffnn_gpu.report.markup import Html, element, escaped, isolated, joined, name_of
from ffnn_gpu.report.numbers import number
from ffnn_gpu.report.page import Page, rendered, whole_page
from ffnn_gpu.report.sections import Section, number_of_rows, rows_called, sections_of
from ffnn_gpu.report.tables import table

MOST_WHOLE = 8  # runs that are shown whole
MOST_IMPORTANT = 15


def comparison_page(runs: Sequence[Findings]) -> str:
    """Return the page about several runs."""
    title = f"Comparison of {counted(len(runs), 'training run')}"
    names = joined([name_of(run.name) for run in runs], ", ")
    return whole_page(Page(title, escaped(title), names, tuple(_sections(runs))))


def _sections(runs: Sequence[Findings]) -> Iterator[Section]:
    yield Section("differences", "Differences", _differences(runs))
    yield Section("results", "Results", joined([_caution(runs), _scores(runs)]))
    if charts := [*_charts(runs)]:
        yield Section("training", "Training", element("div", *charts, class_="figures"))
    if any(run.tested and run.tested.importance for run in runs):
        yield Section("importance", "Importance of the columns", _importance(runs))
    for k, run in enumerate(runs[:MOST_WHOLE], 1):
        body = rendered(sections_of(run), f"run{k}-", level=3)
        yield Section(f"run{k}", f"Run {isolated(run.name)}", body)
    if len(runs) > MOST_WHOLE:
        said = f"Shown whole are the first {MOST_WHOLE} of {len(runs)} runs. `ffnn-gpu report RUN` shows one."
        yield Section("others", "Other runs", element("p", said))


def _headings(first: str, runs: Sequence[Findings]) -> list[object]:
    return [first, *(name_of(run.name) for run in runs)]


def _differences(runs: Sequence[Findings]) -> Html:
    """Return the settings that are not the same in all runs."""
    columns = [{each.name: each.value for each in run.settings} for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    values = {name: [column.get(name, "\u2013") for column in columns] for name in names}
    rows: list[list[object]] = [[name, *row] for name, row in values.items() if len({*row}) > 1]
    environments = [dict(run.environment) for run in runs]
    for name in dict.fromkeys(name for each in environments for name in each):
        row = [each.get(name, "\u2013") for each in environments]
        if len({*row}) > 1 and name not in names:
            rows.append([name, *row])
    if len({run.status for run in runs}) > 1:
        rows.append(["how it ended", *(run.status for run in runs)])
    if not rows:
        return element("p", "The runs have the same settings and the same environment.")
    return table("What differs between the runs", _headings("setting", runs), rows)


def _caution(runs: Sequence[Findings]) -> Html:
    if not (found := _other_rows(runs)):
        return element("p", "All runs have the same data and the same test rows.", class_="status")
    said = f"The runs differ in {', '.join(found)}. Their metrics may not be comparable."
    return element("p", said, class_="status warning")


def _other_rows(runs: Sequence[Findings]) -> list[str]:
    """Return in what the test rows of the runs differ."""
    known: dict[str, set[object]] = {
        "the data": {run.data for run in runs},
        "the cells of the data": {run.checksum for run in runs if run.checksum},
        "the target": {run.target for run in runs},
        "the number of test rows": {dict(run.rows).get("test") for run in runs},
        "the split of the rows": {_split_of(run) for run in runs},
    }
    return [name for name, values in known.items() if len(values) > 1]


def _split_of(run: Findings) -> tuple[str, ...]:
    known = {each.name: each.value for each in run.settings}
    return tuple(known.get(name, "") for name in ("seed", "test", "group", "split_by"))


def _scores(runs: Sequence[Findings]) -> Html:
    """Return the metrics, the number of rows and the costs, a column for each run."""
    metrics = {score.name: score.lower_is_better for run in runs for score in run.scores}
    rows: list[list[object]] = []
    is_fair = not _other_rows(runs)
    for name, lower in metrics.items():
        values = [_value(run, name) for run in runs]
        known = [value for value in values if value == value]
        best = (min if lower else max)(known, default=None)
        cells = [_marked(value, value == best and is_fair and len({*known}) > 1) for value in values]
        rows.append([name.replace("_", " "), *cells])
    for part in dict.fromkeys(part for run in runs for part, _ in run.rows):
        rows.append([rows_called(part), *(_rows_of(run, part) for run in runs)])
    for name in dict.fromkeys(name for run in runs for name, _ in run.costs):
        rows.append([name, *(dict(run.costs).get(name, "\u2013") for run in runs)])
    return table("Test metrics and costs", _headings("", runs), rows, range(1, 1 + len(runs)))


def _value(run: Findings, name: str) -> float:
    return next((score.value for score in run.scores if score.name == name), float("nan"))


def _marked(value: float, is_best: bool) -> Html:
    return joined([number(value), element("strong", " best") if is_best else ""])


def _rows_of(run: Findings, part: str) -> Html:
    count = dict(run.rows).get(part)
    return Html("\u2013") if count is None else number_of_rows(count)


def _charts(runs: Sequence[Findings]) -> Iterator[Html]:
    """Yield a chart for each panel that several runs have, with the last line of each run."""
    single = [run for run in runs if run.ensemble is None]
    titles = dict.fromkeys(panel.title for run in single for panel in run.panels)
    for title in titles:
        found = [(run, panel) for run in single for panel in run.panels if panel.title == title]
        if len(found) > 1:
            lines = tuple(Line(isolated(run.name), p.lines[-1].x, p.lines[-1].y) for run, p in found)
            first = found[0][1]
            said = f"{title}, {first.lines[-1].label}" if len(first.lines) > 1 else title
            yield figure(chart_of(Panel(said, first.axis, lines)))


def _importance(runs: Sequence[Findings]) -> Html:
    found = [
        {c.name: c.mean for c in run.tested.importance.columns}
        if run.tested and run.tested.importance
        else {}
        for run in runs
    ]
    largest: dict[str, float] = {}
    for columns in found:
        for name, mean in columns.items():
            largest[name] = max(mean, largest.get(name, mean))
    names = sorted(largest, key=lambda name: -largest[name])[:MOST_IMPORTANT]
    rows = [[name_of(name), *(number(columns.get(name)) for columns in found)] for name in names]
    caption = f"How much the error grows when a column is shuffled; the error is {_measured(runs)}"
    return table(caption, _headings("column", runs), rows, range(1, 1 + len(runs)))


def _measured(runs: Sequence[Findings]) -> str:
    """1 − accuracy: the error of all runs, or that of each run if they differ."""
    computed = [(run.name, run.tested.importance) for run in runs if run.tested and run.tested.importance]
    found = {name: importance.error for name, importance in computed}
    if len({*found.values()}) == 1:
        return next(iter(found.values()))
    return ", ".join(f"{error} of {isolated(name)}" for name, error in found.items())
