"""A chart as an SVG element of a few kilobytes.

Why a template of our own and not matplotlib: a loss curve of 30 epochs takes 1.8 kB instead of 23 (14 with
text as text); colours follow the light or dark page; and the report needs no extra.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count

from ffnn_gpu.report.axes import Axis, short_number
from ffnn_gpu.report.markup import Html, element, joined

WIDTH, HEIGHT = 360, 244  # units of the drawing; a unit is about a pixel of a telephone
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 24, 40
COLORS = 6  # classes s0 … s5 of page.css: a colour and a dash each
MOST_POINTS = 400  # of a line
MARKED = 12  # points up to which a line shows each of them


@dataclass(frozen=True)
class Line:
    """y over x, broken where y is not finite."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Dots:
    """A dot at each (x, y)."""

    label: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Bars:
    """A bar of each height between two of the edges."""

    label: str
    edges: Sequence[float]
    heights: Sequence[float]


@dataclass(frozen=True)
class Guide:
    """A dashed grey line of what would be exact."""

    label: str
    x: tuple[float, float]
    y: tuple[float, float]


Mark = Line | Dots | Bars | Guide


@dataclass(frozen=True)
class Chart:
    """Marks on two axes, with a title and a sentence for those who cannot see them."""

    title: str
    description: str
    x: Axis
    y: Axis
    marks: tuple[Mark, ...]


def figure(chart: Chart, note: object = "") -> Html:
    """Return <figure>: the title, the key of the marks, the drawing and a note."""
    key = _key(chart) if len(chart.marks) > 1 else ""
    caption = element("figcaption", element("strong", chart.title), key)
    said = element("p", note, class_="note") if note else ""
    return element("figure", caption, drawing(chart), said)


def drawing(chart: Chart) -> Html:
    """Return <svg>. Its label is read aloud in place of the drawing."""
    return element(
        "svg",
        element("title", chart.title),
        _grid(chart),
        *(_mark(mark, color, chart) for mark, color in _colored(chart.marks)),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{chart.title}. {chart.description}",
    )


def thinned(length: int, most: int = MOST_POINTS) -> list[int]:
    """Return at most `most` places of `length`, evenly spread, the first and the last included."""
    if length <= most:
        return [*range(length)]
    return sorted({round(k * (length - 1) / (most - 1)) for k in range(most)})


def _colored(marks: Sequence[Mark]) -> Iterator[tuple[Mark, str]]:
    """Yield each mark with its class; guides take no colour."""
    colors = count()
    for mark in marks:
        yield mark, "guide" if isinstance(mark, Guide) else f"s{next(colors) % COLORS}"


def _key(chart: Chart) -> Html:
    """Return a list of the labels with a piece of the mark beside each."""
    items = []
    for mark, color in _colored(chart.marks):
        form = Html("M2 6h0") if isinstance(mark, Dots) else Html("M1 6h22")
        kind = "dots" if isinstance(mark, Dots) else "bars" if isinstance(mark, Bars) else "line"
        piece = element("path", d=form, class_=f"{kind} {color}")
        sample = element("svg", piece, viewBox="0 0 24 12", class_="sample", aria_hidden="true")
        items.append(element("li", sample, element("bdi", mark.label)))
    return element("ul", *items, class_="key")


def _grid(chart: Chart) -> Html:
    """Return the lines and labels of both axes."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    lines, texts = [], []
    for tick in chart.y.ticks():
        y = _y(chart, tick)
        lines.append(f"M{LEFT} {y:.1f}H{right}")
        texts.append(element("text", short_number(tick), x=LEFT - 6, y=f"{y + 4:.1f}", class_="end"))
    for tick in chart.x.ticks():
        x = _x(chart, tick)
        lines.append(f"M{x:.1f} {TOP}V{bottom}")
        texts.append(element("text", short_number(tick), x=f"{x:.1f}", y=bottom + 15, class_="middle"))
    middle = (LEFT + right) / 2
    texts.append(element("text", chart.x.label, x=middle, y=HEIGHT - 6, class_="middle"))
    texts.append(element("text", chart.y.label, x=0, y=12))
    return joined([element("path", d="".join(lines), class_="grid"), *texts])


def _mark(mark: Mark, color: str, chart: Chart) -> Html:
    if isinstance(mark, Bars):
        return element("path", d=_bars(mark, chart), class_=f"bars {color}")
    if isinstance(mark, Dots):
        return element("path", d=_dots(mark.x, mark.y, chart), class_=f"dots {color}")
    line = element("path", d=_line(mark.x, mark.y, chart), class_=f"line {color}")
    if isinstance(mark, Guide) or len(mark.x) > MARKED:
        return line
    return joined([line, element("path", d=_dots(mark.x, mark.y, chart), class_=f"dots {color}")])


def _line(x: Sequence[float], y: Sequence[float], chart: Chart) -> str:
    found, begins = [], True
    for k in thinned(len(x)):
        if not _is_shown(chart.y, y[k]):
            begins = True
            continue
        found.append(f"{'M' if begins else 'L'}{_x(chart, x[k]):.1f} {_y(chart, y[k]):.1f}")
        begins = False
    return "".join(found)


def _dots(x: Sequence[float], y: Sequence[float], chart: Chart) -> str:
    places = ((a, b) for a, b in zip(x, y, strict=True) if _is_shown(chart.x, a) and _is_shown(chart.y, b))
    return "".join(f"M{_x(chart, a):.1f} {_y(chart, b):.1f}h0" for a, b in places)


def _bars(mark: Bars, chart: Chart) -> str:
    ground, found = _y(chart, max(0.0, chart.y.low)), []
    for k, height in enumerate(mark.heights):
        if not height:
            continue
        left, right = (_x(chart, edge) for edge in mark.edges[k : k + 2])
        gap = min(1.0, (right - left) / 4)
        found.append(
            f"M{left + gap:.1f} {ground:.1f}V{_y(chart, height):.1f}H{right - gap:.1f}V{ground:.1f}z"
        )
    return "".join(found)


def _is_shown(axis: Axis, number: float) -> bool:
    return math.isfinite(number) and (number > 0 or not axis.is_log)


def _x(chart: Chart, number: float) -> float:
    return LEFT + chart.x.place(number) * (WIDTH - RIGHT - LEFT)


def _y(chart: Chart, number: float) -> float:
    return HEIGHT - BOTTOM - chart.y.place(number) * (HEIGHT - BOTTOM - TOP)
