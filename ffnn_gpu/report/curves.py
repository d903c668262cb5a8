"""What happened during the training: curves, and the members of an ensemble."""

import math
from dataclasses import replace

from ffnn_gpu.report.axes import Axis
from ffnn_gpu.report.charts import Chart, Line, figure, thinned
from ffnn_gpu.report.findings import Findings, Panel
from ffnn_gpu.report.markup import Html, element, joined
from ffnn_gpu.report.numbers import number, rounded
from ffnn_gpu.report.tables import table

MOST_ROWS = 60  # of a table of the same numbers


def curves_of(found: Findings) -> Html:
    """Return a chart for each panel, and a table of the same numbers."""
    if not found.panels:
        return Html("")
    charts = element("div", *(figure(chart_of(panel)) for panel in found.panels), class_="figures")
    return joined([charts, _numbers(found)])


def chart_of(panel: Panel) -> Chart:
    """Return the chart of some lines over the epochs."""
    x = [value for line in panel.lines for value in line.x]
    y = [value for line in panel.lines for value in line.y]
    axes = replace(Axis.around("epoch", x), is_whole=True), Axis.around(panel.axis, y, panel.axis == "loss")
    said = "; ".join(map(described, panel.lines))
    return Chart(panel.title, f"{said}.", *axes, panel.lines)


def described(line: Line) -> str:
    """training: first 2.31, last 0.042, least 0.041 — what a line shows, in words."""
    finite = [value for value in line.y if math.isfinite(value)]
    if not finite:
        return f"{line.label}: no finite value"
    ends = f"first {rounded(finite[0])}, last {rounded(finite[-1])}"
    return f"{line.label}: {ends}, least {rounded(min(finite))}, greatest {rounded(max(finite))}"


def _numbers(found: Findings) -> Html:
    """Return a closed table of the lines over the epochs; members have no common epochs."""
    lines = [(panel, line) for panel in found.panels for line in panel.lines]
    x = lines[0][1].x
    if found.ensemble is not None or any([*line.x] != [*x] for _, line in lines):
        return Html("")
    headings = ["epoch", *(_heading(panel, line) for panel, line in lines)]
    rows = [[f"{x[k]:g}", *(number(line.y[k]) for _, line in lines)] for k in thinned(len(x), MOST_ROWS)]
    grid = table("Values by epoch", headings, rows, range(len(headings)))
    return element("details", element("summary", "The same as numbers"), grid)


def _heading(panel: Panel, line: Line) -> str:
    return f"{panel.axis}, {line.label}" if len(panel.lines) > 1 else panel.title.lower()


def ensemble_of(found: Findings) -> Html:
    """Return the kinds of members with their scores and weights."""
    ensemble = found.ensemble
    if ensemble is None:
        return Html("")
    rows = [
        [
            recipe.name, str(recipe.members), number(recipe.score),
            "not used" if recipe.weight is None else f"{recipe.weight:.2f}",
        ]
        for recipe in ensemble.recipes
    ]  # fmt: skip
    rows.append(["all together", "", number(ensemble.score), ""])
    headings = ["kind of member", "members", f"{ensemble.what}, out of fold", "weight"]
    listed = table("Kinds of members of the ensemble", headings, rows, (1, 2, 3))
    return joined([listed, *(element("p", sentence) for sentence in ensemble.said)])
