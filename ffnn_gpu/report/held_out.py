"""What the test rows show: errors, calibration, importance, and the worst rows."""

from collections.abc import Iterator

from ffnn_gpu.report.axes import Axis
from ffnn_gpu.report.charts import Bars, Chart, Dots, Guide, Line, figure
from ffnn_gpu.report.findings import (
    Calibration,
    ColumnImportance,
    Confusion,
    Coverage,
    Findings,
    Importance,
    LabelCounts,
    Residuals,
    Tested,
    Worst,
)
from ffnn_gpu.report.markup import Html, element, isolated, joined, name_of
from ffnn_gpu.report.numbers import number, percent, rounded
from ffnn_gpu.report.tables import Shaded, table

MOST_IMPORTANT = 30


def held_out_sections(found: Findings) -> Iterator[tuple[str, str, Html]]:
    """Yield (key, heading, content) of the parts about the test rows."""
    tested = found.tested
    if tested is None:
        return
    if tested.confusion:
        yield "confusion", "Confusion matrix", _confusion(tested.confusion)
    if tested.labels:
        yield "labels", "Labels", _labels(tested.labels)
    if tested.residuals:
        yield "residuals", "Residuals", joined(map(_residuals, tested.residuals))
    if tested.calibration:
        yield "calibration", "Calibration", _calibration(tested.calibration)
    if tested.coverage:
        yield "intervals", "Intervals", _intervals(tested)
    if tested.importance:
        yield "importance", "Importance of the columns", _importance(tested.importance)
    yield "worst", "Worst rows", _worst(tested.worst)


def _confusion(found: Confusion) -> Html:
    names = [name_of(name) for name in found.names]
    rows = []
    for name, counts in zip(names, found.counts, strict=True):
        total = max(1, sum(counts))
        rows.append([name, *(Shaded(f"{n:,}" if n else "", n / total) for n in counts)])
    heading = joined(["predicted \u2192", element("br"), "true \u2193"])
    grid = table("Test rows by true and predicted class", [heading, *names], rows, is_compact=True)
    whole = sum(map(sum, found.counts))
    said = (
        f"{found.right:,} of {whole:,} rows are predicted correctly. A darker cell holds a larger share of "
    )
    said += f"the rows of its true class.{_merged(found)}"
    return joined([element("p", said), grid, _pairs(found)])


def _merged(found: Confusion) -> str:
    """Say what the last row and column stand for; "" if they are a class."""
    if not found.merged:
        return ""
    shown = len(found.names) - 1
    return (
        f" There are {shown + found.merged} classes. Shown are the {shown} with the most errors. The last "
        f"row and column sum up the other {found.merged}, whose rows among each other are in the last cell."
    )


def _pairs(found: Confusion) -> Html:
    if not found.pairs:
        return element("p", "No row is predicted wrongly.")
    rows = [[name_of(true), name_of(predicted), f"{n:,}"] for true, predicted, n in found.pairs]
    return table("The most frequent errors", ["true class", "predicted class", "rows"], rows, (2,))


def _labels(found: tuple[LabelCounts, ...]) -> Html:
    rows = [
        [name_of(each.name), f"{each.actual:,}", f"{each.predicted:,}", f"{each.right:,}"] for each in found
    ]
    headings = ["label", "rows that have it", "rows predicted to have it", "both"]
    return table("Test rows of each label", headings, rows, (1, 2, 3))


def _residuals(found: Residuals) -> Html:
    name = isolated(found.target)
    ends = [*found.true, *found.predicted]
    x, y = Axis.around("true", ends), Axis.around("predicted", ends)
    exact = Guide("exact", (x.low, x.high), (x.low, x.high))
    half, most, worst = found.quantiles
    said = f"Half of the rows are off by at most {rounded(half)}, 90 % by {rounded(most)}, all by "
    said += f"{rounded(worst)}."
    against = Chart(
        f"{name}: predicted against true", said, x, y, (Dots("test rows", found.true, found.predicted), exact)
    )
    heights = Axis("rows", 0.0, 1.06 * max(1, *found.heights))
    bars = Bars("test rows", found.edges, found.heights)
    bias = f"The mean of predicted − true is {rounded(found.bias)}."
    spread = Chart(
        f"{name}: predicted − true",
        bias,
        Axis("predicted − true", found.edges[0], found.edges[-1]),
        heights,
        (bars,),
    )
    return element("div", figure(against, said), figure(spread, bias), class_="figures")


def _calibration(found: Calibration) -> Html:
    x = [each.predicted for each in found.bins]
    y = [each.observed for each in found.bins]
    unit = Axis("predicted probability", 0.0, 1.0), Axis("share that came true", 0.0, 1.0)
    said = (
        f"The mean distance between predicted and observed shares is {percent(found.error)} (the expected "
        "calibration error)."
    )
    marks = (Line("test rows", x, y), Guide("exact", (0, 1), (0, 1)))
    title = f"Probability of {isolated(found.what)} against its frequency"
    rows = [[percent(each.predicted), percent(each.observed), f"{each.rows:,}"] for each in found.bins]
    headings = ["mean predicted probability", "share that came true", "rows"]
    grid = table("Calibration by tenths of the probability", headings, rows, (0, 1, 2))
    return element("div", figure(Chart(title, said, *unit, marks), said), grid, class_="figures")


def _intervals(tested: Tested) -> Html:
    said = f"The half-width of an interval is a quantile of the {tested.coverage_source}."
    parts = [_interval(each) for each in tested.coverage]
    return joined([element("p", said), *parts])


def _interval(found: Coverage) -> Html:
    unit = Axis("share asked for", 0.4, 1.0), Axis("share of test rows within", 0.0, 1.0)
    marks = (Line("test rows", found.asked, found.observed), Guide("exact", (0.4, 1), (0.4, 1)))
    pairs = zip(found.asked, found.observed, strict=True)
    said = "; ".join(
        f"{percent(observed)} within the interval of {percent(asked)}" for asked, observed in pairs
    )
    title = f"{isolated(found.target)}: coverage of intervals"
    rows = [
        [percent(asked), percent(observed), number(half)]
        for asked, observed, half in zip(found.asked, found.observed, found.half_widths, strict=True)
    ]
    headings = ["share asked for", "share of test rows within", "half-width"]
    grid = table(f"Intervals of {isolated(found.target)}", headings, rows, (0, 1, 2))
    return element("div", figure(Chart(title, f"{said}.", *unit, marks)), grid, class_="figures")


def _importance(found: Importance) -> Html:
    largest = max((column.mean for column in found.columns), default=0.0)
    rows = [_important(column, largest) for column in found.columns[:MOST_IMPORTANT]]
    more = len(found.columns) - len(rows)
    note = (
        f"How much {found.error} grows when the cells of a column are given to other rows: mean and standard "
        f"deviation of {found.repeats} repeats over {found.rows:,} test rows."
    )
    note += f" {more:,} further columns matter less." if more > 0 else ""
    headings = ["column", element("span", "share of the largest", class_="unseen"), "growth", "deviation"]
    return joined([element("p", note), table("Permutation importance", headings, rows, (2, 3))])


def _important(column: ColumnImportance, largest: float) -> list[Html]:
    share = max(0.0, column.mean / largest) if largest > 0 else 0.0
    bar = element("span", class_="bar", style=f"inline-size:{100 * share:.1f}%", aria_hidden="true")
    return [name_of(column.name), bar, number(column.mean), number(column.deviation)]


def _worst(found: Worst) -> Html:
    rows = [
        [
            each.where,
            name_of(each.true),
            name_of(each.predicted),
            number(each.error),
            *map(name_of, each.cells),
        ]
        for each in found.rows
    ]
    headings = ["row", "true", "predicted", found.error, *map(name_of, found.columns)]
    return table(f"The {len(rows)} test rows with the largest error", headings, rows, (3,))
