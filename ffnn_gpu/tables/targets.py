"""The columns to predict → labels or numbers, as they are written in the source.

A label keeps its text: `007` is not 7. Whole numbers in their shortest form are integers, so that metrics
and callers compare them as such. A model, not a new file, decides how a label is read: `read_as`.
"""

from collections.abc import Collection, Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checks import counted
from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.cells import EXAMPLES, holding, levels_of, number_of, option_value, others_error, said
from ffnn_gpu.tables.columns import FEW_LEVELS, FEW_OTHERS, SEVERAL
from ffnn_gpu.tables.spelling import MARKERS, Spelling, are_booleans, truth
from ffnn_gpu.tables.table import MISSING, Codes, Table

NEVER_CLASSES = MARKERS - {"none", "nil", "missing"}  # unless many rows have one
MOST_CLASSES = 10_000


@dataclass(frozen=True, eq=False)
class Target:
    """y (m,) or (m, K) of the rows that have a target, and the indices of these rows (m,)."""

    y: HostArray
    rows: Codes


def read_target(
    table: Table,
    places: Sequence[int],
    spelling: Spelling,
    kind: str = "auto",
    categorical: Collection[str] = (),
) -> Target:
    """Read the target columns; rows that lack a target cell are left out.

    Args:
        kind: "regression" if every cell has to be a number.
        categorical: names of columns whose cells are classes, whatever they look like.

    Raises:
        DataError: cells that are no numbers among numbers, with their lines; several columns of texts; more
            texts than classes can be.
    """
    if len(places) == 1 and table.names[places[0]] in categorical:
        columns = [_texts(table, places[0], spelling)]
    else:
        columns = [_column(table, place, spelling, kind) for place in places]
    if len(columns) > 1:
        columns = [_truths(*column) for column in columns]
    there = np.logical_and.reduce([present for _, present in columns])
    if not there.any():
        raise DataError(f"{table.source}: no row has a target in {_names(table, places)}")
    texts = [place for place, (values, _) in zip(places, columns, strict=True) if values.dtype.kind == "U"]
    if len(columns) > 1 and texts:
        raise DataError(
            f"{table.source}: several targets must be numbers or booleans; {_names(table, texts)} "
            f"{'is not' if len(texts) == 1 else 'are not'}"
        )
    rows = np.flatnonzero(there)
    if texts:
        _require_classes(table, places[0], len(np.unique(columns[0][0][rows])), len(rows))
    y = columns[0][0] if len(columns) == 1 else np.stack([values for values, _ in columns], axis=1)
    return Target(y[rows], rows)


def read_as(table: Table, place: int, spelling: Spelling, classes: Sequence[Hashable]) -> Target:
    """Read a target column as a model that knows these classes reads it.

    Raises DataError: a cell is none of the classes, with its line.
    """
    known: dict[Any, int] = {}
    for k, label in enumerate(classes):
        known.setdefault(str(label), k)
        if isinstance(label, (int, float)) and not isinstance(label, bool):
            known[float(label)] = k
    are_numbers = all(spelling.value(str(label)) is not None for label in classes)
    is_missing = spelling.is_missing_level if are_numbers else spelling.is_missing
    codes, cells = table.coded(place)
    found = [
        MISSING if is_missing(cell) else known.get(cell.strip(), known.get(spelling.value(cell)))
        for cell in cells
    ]
    if None in found:
        unknown = [cell for cell, code in zip(cells, found, strict=True) if code is None]
        ((where, cell),) = holding(table, place, unknown, 1)
        listed = ", ".join(map(repr, classes[:10])) + ", …" * (len(classes) > 10)
        raise DataError(
            f"{table.source}, column {table.names[place]!r}: {where} "
            f"holds {cell!r}, which is not a known class; the classes are {listed}"
        )
    places = np.array([*found, MISSING])[codes]
    rows = np.flatnonzero(places != MISSING)
    table_of_classes = np.empty(len(classes), object)
    table_of_classes[:] = classes
    return Target(table_of_classes[places[rows]], rows)


def _column(table: Table, place: int, spelling: Spelling, kind: str) -> tuple[HostArray, Any]:
    """Return the values of one target column, and which rows have one."""
    number = number_of(table, place, spelling)
    x = table.numbers(number)
    numbers = int((~np.isnan(x)).sum())
    is_plain = place in table.plain and numbers == table.plain[place][0]
    others = {} if is_plain else table.levels(place, f"({number}) IS NULL", MOST_CLASSES + 1)
    is_missing = spelling.is_missing_level if numbers else spelling.is_missing  # NA may be a class of texts
    bad = {cell: count for cell, count in others.items() if not is_missing(cell)}
    if bad and (kind == "regression" or _is_slip(table, place, bad, numbers)):
        if numbers or kind == "regression":
            raise others_error(table, place, numbers, bad)
        raise _marker_error(table, place, bad)
    if bad or not numbers:
        return _texts(table, place, spelling)
    return _numbers(table, place, spelling, kind, number, x)


def _is_slip(table: Table, place: int, bad: dict[str, int], numbers: int) -> bool:
    """Return whether a few cells among numbers or classes mean a missing target, not a class of their own."""
    others = sum(bad.values())
    if numbers:
        levels = table.levels(place, most=MOST_CLASSES + 1)
        if len(levels) <= FEW_LEVELS and min(levels.values()) >= SEVERAL:
            return False
        are_markers = all(cell.strip().lower() in MARKERS for cell in bad)
        are_too_many = numbers >= others and len(levels) > max(FEW_LEVELS, (others + numbers) ** 0.5)
        return others <= FEW_OTHERS * (others + numbers) or are_markers or are_too_many
    markers = [count for cell, count in bad.items() if cell.strip().lower() in NEVER_CLASSES]
    return 0 < sum(markers) <= FEW_OTHERS * others and max(markers) < SEVERAL


def _marker_error(table: Table, place: int, cells: dict[str, int]) -> DataError:
    """Return the error about cells such as '?' among classes."""
    markers = [cell for cell in cells if cell.strip().lower() in NEVER_CLASSES]
    found, name = holding(table, place, markers, EXAMPLES), table.names[place]
    classes = counted(len(cells) - len(markers), "class", "classes")
    return DataError(
        f"{table.source}, target {name!r}: {said(found)} among {classes}. If that"
        f" means a missing target, use --missing {option_value(found[0][1])}; if it is a class, use "
        f"--categorical {option_value(name)}"
    )


def _require_classes(table: Table, place: int, classes: int, rows: int) -> None:
    if _are_too_many(classes, rows):
        raise DataError(
            f"{table.source}, target {table.names[place]!r}: {classes:,} different texts in "
            f"{counted(rows, 'row')} are no classes; choose another --target"
        )


def _are_too_many(classes: int, rows: int) -> bool:
    return classes > max(FEW_LEVELS, rows / 2)


def _truths(values: HostArray, present: Any) -> tuple[HostArray, Any]:
    """Return booleans that are texts as 0 and 1, any other column unchanged."""
    if values.dtype.kind != "U":
        return values, present
    texts, codes = np.unique(values, return_inverse=True)
    if not are_booleans(text for text in texts.tolist() if text):
        return values, present
    return np.array([int(bool(truth(text))) for text in texts.tolist()])[codes], present


def _numbers(
    table: Table, place: int, spelling: Spelling, kind: str, number: str, x: HostArray
) -> tuple[HostArray, Any]:
    """Return numbers as integers, floats or texts: the type whose shortest text is what the cells hold."""
    present = ~np.isnan(x)
    if (x[present] != np.floor(x[present])).any():
        return x, present
    cell = f"trim({table.text(place)})"
    whole = f"try_cast({cell} AS BIGINT)"
    if table.count(f"({number}) IS NOT NULL AND CAST({whole} AS VARCHAR) = {cell}") == present.sum():
        return table.integers(f"coalesce({whole}, 0)"), present
    if kind == "regression":
        return x, present
    cells = table.levels(place, most=MOST_CLASSES)
    texts = [
        cell.strip().replace(spelling.decimal, ".") for cell in cells if not spelling.is_missing_level(cell)
    ]
    if len(texts) == MOST_CLASSES or all(map(_is_shortest, texts)) or any(map(spelling.is_grouped, cells)):
        return x, present
    return _texts(table, place, spelling, spelling.markers)


def _is_shortest(text: str) -> bool:
    """Return whether a number is written as Python writes it."""
    try:
        return repr(float(text)) == text
    except ValueError:  # digits in groups
        return False


def _texts(
    table: Table, place: int, spelling: Spelling, markers: tuple[str, ...] = ()
) -> tuple[HostArray, Any]:
    """Return texts. markers: those that mean a missing cell; NA may be a class."""
    codes, texts = levels_of(table, place, replace(spelling, markers=markers))
    if bad := [text for text in texts if text.endswith("\0")]:  # NumPy takes "a\0" for "a"
        raise DataError(
            f"{table.source}, column {table.names[place]!r}: the class {bad[0]!r} ends with a NUL character; "
            "remove it"
        )
    return np.array([*texts, ""])[codes], codes != MISSING


def _names(table: Table, places: Sequence[int]) -> str:
    return ", ".join(repr(table.names[place]) for place in places)
