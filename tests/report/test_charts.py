"""Charts show their numbers where the axes say."""

import math
import re

import pytest

from ffnn_gpu.report.axes import Axis
from ffnn_gpu.report.charts import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Bars,
    Chart,
    Dots,
    Guide,
    Line,
    drawing,
    figure,
    thinned,
)  # fmt: skip
from tests.report.reader import read

X, Y = Axis("epoch", 0, 10), Axis("loss", 0, 4)


def chart(*marks, x=X, y=Y, title="Loss"):
    return Chart(title, "It falls.", x, y, marks)


def places(path):
    """Return the (x, y) of each point of a path, in units of the axes X and Y."""
    points = re.findall(r"[ML](-?[\d.]+) (-?[\d.]+)", path)
    width, height = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM
    return [(10 * (float(x) - LEFT) / width, 4 * (HEIGHT - BOTTOM - float(y)) / height) for x, y in points]


def paths(chart, kind):
    nodes = read(drawing(chart)).all("path")
    return [node.attributes["d"] for node in nodes if node.attributes["class"].split()[0] == kind]


def test_line_and_dots_are_at_their_numbers():
    x, y = [0, 2.5, 10], [4, 1, 0.5]
    for mark in (Line("a", x, y), Dots("a", x, y)):
        (path,) = paths(chart(mark), "dots")
        assert places(path) == [pytest.approx(each, abs=0.02) for each in zip(x, y, strict=True)]
    (path,) = paths(chart(Line("a", x, y)), "line")
    assert places(path) == [pytest.approx(each, abs=0.02) for each in zip(x, y, strict=True)]


def test_line_is_broken_where_there_is_no_number():
    (path,) = paths(chart(Line("a", [0, 1, 2, 3, 4], [1, 2, math.nan, 3, math.inf])), "line")
    assert re.sub(r"[\d. -]", "", path) == "MLM"


def test_line_on_a_logarithmic_axis_leaves_out_zero():
    log = Axis("loss", 0.01, 100, is_log=True)
    (path,) = paths(chart(Line("a", [0, 5, 10], [1, 0, 10]), y=log), "line")
    assert re.sub(r"[\d. -]", "", path) == "MM"


def test_bars_have_their_heights():
    (path,) = paths(chart(Bars("a", [0, 5, 10], [4, 1])), "bars")
    tops = [float(y) for y in re.findall(r"V([\d.]+)H", path)]
    assert tops == [pytest.approx(TOP), pytest.approx(TOP + 0.75 * (HEIGHT - TOP - BOTTOM), abs=0.1)]


def test_drawing_has_a_title_and_a_label_and_its_texts_lie_within():
    (svg,) = read(drawing(chart(Line("a", [0, 1], [1, 2]), title="<b>"))).children
    assert svg.attributes["role"] == "img" and svg.attributes["aria-label"] == "<b>. It falls."
    assert svg.children[0].name == "title" and svg.children[0].text == "<b>"
    assert all(0 <= float(text.attributes["x"]) <= WIDTH for text in svg.all("text"))
    assert {"epoch", "loss"} <= {text.text for text in svg.all("text")}


def test_key_names_each_mark_and_colours_differ():
    tree = read(figure(chart(Line("a", [0], [1]), Line("<i>", [0], [2]), Guide("exact", (0, 1), (0, 1)))))
    assert [item.text for item in tree.all("li")] == ["a", "<i>", "exact"]
    kinds = [node.attributes["class"] for node in tree.all("path") if "line" in node.attributes["class"]]
    assert kinds[:3] == ["line s0", "line s1", "line guide"] == kinds[3:]


@pytest.mark.parametrize("length", [0, 1, 5, 400, 401, 10_000])
def test_thinned_places_are_few_and_hold_both_ends(length):
    found = thinned(length)
    assert len(found) == min(length, 400) and found == sorted({*found})
    assert not length or (found[0], found[-1]) == (0, length - 1)
