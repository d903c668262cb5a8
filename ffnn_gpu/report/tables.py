"""A table as HTML: it has a caption and headings, and scrolls sideways by itself where it is too wide."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from ffnn_gpu.report.markup import Html, element, joined

MOST_ROWS = 25  # that are shown at once; more scroll by themselves, except in print
STRONGEST = 0.5  # opacity of the background of a cell, beside which text can still be read


@dataclass(frozen=True)
class Shaded:
    """A cell whose background shows a share in [0, 1]."""

    text: str
    share: float


def table(
    caption: str,
    headings: Sequence[object],
    rows: Sequence[Sequence[object]],
    numbers: Collection[int] = (),
    is_compact: bool = False,
) -> Html:
    """Return <table>; the first cell of each row is its heading.

    numbers: the places of columns that hold numbers, which are aligned to the right.
    is_compact: for many narrow columns.
    """
    kinds = ["number" if k in numbers else None for k in range(len(headings))]
    head = element("tr", *(_heading(text, kind) for text, kind in zip(headings, kinds, strict=True)))
    body = joined(_row(cells, kinds) for cells in rows)
    said = element("caption", caption)
    whole = element(
        "table",
        said,
        element("thead", head),
        element("tbody", body),
        class_="compact" if is_compact else None,
    )
    kind = "scroll tall" if len(rows) > MOST_ROWS else "scroll"
    return element("div", whole, class_=kind, tabindex=0, role="region", aria_label=caption)


def _heading(text: object, kind: str | None) -> Html:
    return element("th", text, scope="col", class_=kind)


def _row(cells: Sequence[object], kinds: Sequence[str | None]) -> Html:
    first = element("th", cells[0], scope="row", class_=kinds[0])
    rest = [_cell(cell, kind) for cell, kind in zip(cells[1:], kinds[1:], strict=True)]
    return element("tr", first, *rest)


def _cell(cell: object, kind: str | None) -> Html:
    if isinstance(cell, Shaded):
        color = f"background:rgb(var(--shade)/{STRONGEST * cell.share:.3f})"
        return element("td", cell.text, class_="number", style=color if cell.share else None)
    return element("td", cell, class_=kind)


def facts(pairs: Sequence[tuple[object, object]]) -> Html:
    """Return a list of names with what belongs to each."""
    items = (element("div", element("dt", name), element("dd", said)) for name, said in pairs)
    return element("dl", *items, class_="facts")
