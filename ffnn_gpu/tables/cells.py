"""The cells of a column as numbers, times, truths or levels, whatever type the database keeps them in."""

import shlex
from collections.abc import Iterable, Sequence
from typing import Literal

import numpy as np

from ffnn_gpu.checks import counted, shortened
from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.embedded_database import literal
from ffnn_gpu.tables.iso_times import way_of
from ffnn_gpu.tables.spelling import Spelling, seconds, truth
from ffnn_gpu.tables.table import CELLS, MISSING, Codes, Table

Family = Literal["text", "number", "time", "boolean", "other"]
NUMBERS = (
    "TINYINT",
    "SMALLINT",
    "INTEGER",
    "BIGINT",
    "HUGEINT",
    "FLOAT",
    "DOUBLE",
    "DECIMAL",
    "INTERVAL",
    "BIGNUM",
)
TIMES = ("DATE", "TIME")
TRUTHS = ("false", "true")
EXAMPLES = 3  # cells that an error lists


def family(kind: str) -> Family:
    """Return what a column of this type of the database may hold; "other" for lists, blobs and the like.

    Only the beginning of the type's name counts: ENUM('DATE', 'INTEGER') holds texts.
    """
    if kind == "VARCHAR" or kind.startswith("ENUM("):
        return "text"
    if kind.endswith("]"):
        return "other"
    if kind.removeprefix("U").startswith(NUMBERS):
        return "number"
    if kind.startswith(TIMES):
        return "time"
    return "boolean" if kind == "BOOLEAN" else "other"


def number_of(table: Table, place: int, spelling: Spelling) -> str:
    """Return the SQL expression for the number in a cell; NULL if the cell holds none."""
    kind = table.types[place]
    if place in table.plain:
        return spelling.present(table.stored(place))
    if family(kind) != "number":
        return spelling.number(table.text(place))
    if kind == "INTERVAL":
        return f"epoch(c{place})"
    value = f"CAST(c{place} AS DOUBLE)"
    finite = f"CASE WHEN isfinite({value}) THEN {value} END" if kind in ("FLOAT", "DOUBLE") else value
    return spelling.present(finite)


def time_of(table: Table, place: int, written: str, spelling: Spelling) -> str:
    """Return the SQL expression for the time in a cell, in seconds since 1970; NULL if it holds none.

    Times of day lie in 1900 as text and in 1970 as a type: only their place in the day is learnt from. Where
    one way of ISO 8601 is written, its other ways are read too.
    """
    if family(table.types[place]) == "time":
        time = f"epoch(c{place})"
        for lost in spelling.missing_times:
            time = f"nullif({time}, CAST('{lost!r}' AS DOUBLE))"
        return time
    text, way = spelling.filled(table.text(place)), way_of(written)
    time = seconds(text, written)
    return f"coalesce({time}, {seconds(text, way)})" if way else time


def levels_of(table: Table, place: int, spelling: Spelling) -> tuple[Codes, list[str]]:
    """Return the codes of a column's texts in text order; blanks around them do not count."""
    codes, cells = table.coded(place)
    texts = sorted({cell.strip() for cell in cells if not spelling.is_missing_level(cell)})
    code = {text: k for k, text in enumerate(texts)}
    return _recoded(codes, [code.get(cell.strip(), MISSING) for cell in cells]), texts


def truths_of(table: Table, place: int, spelling: Spelling) -> tuple[Codes, list[str]]:
    """Return the codes of a column of booleans: 0 false, 1 true, 2 something else, and their texts."""
    codes, cells = table.coded(place)
    found = [MISSING if spelling.is_missing_number(cell) else _code(truth(cell)) for cell in cells]
    return _recoded(codes, found), [*TRUTHS, "neither"]


def _code(value: bool | None) -> int:
    return len(TRUTHS) if value is None else int(value)


def _recoded(codes: Codes, new: Sequence[int]) -> Codes:
    """Return new[code] for each code; MISSING stays."""
    return np.array([*new, MISSING], codes.dtype)[codes]


def others_error(
    table: Table, place: int, numbers: int, bad: Iterable[str], kind: str = "number"
) -> DataError:
    """Return the error about cells that are something else in a column of numbers or times."""
    return DataError(
        f"{table.source}, column {table.names[place]!r}: {others_sentence(table, place, numbers, bad, kind)}"
    )


def misread_error(table: Table, place: int, bad: Iterable[str], kind: str, written: str) -> DataError:
    """Return the error about cells of a new table that a model cannot read as numbers or times."""
    way = f", written like {written}" if written else ""
    return DataError(
        f"{table.source}, column {table.names[place]!r}: the model reads {kind}s here{way}; "
        f"{said(holding(table, place, bad, EXAMPLES))}. Correct these cells or leave them empty"
    )


def others_sentence(table: Table, place: int, numbers: int, bad: Iterable[str], kind: str = "number") -> str:
    """119 of 120 cells are numbers; line 77 holds '12.5 kg'. If that means a missing cell, use …"""
    found = holding(table, place, bad, EXAMPLES)
    remedy = f"if the column holds categories, use --categorical {option_value(table.names[place])}"
    are = f"is a {kind}" if numbers == 1 else f"are {kind}s"
    return (
        f"{numbers:,} of {counted(len(table), 'cell')} {are}; {said(found)}. "
        f"If that means a missing cell, use --missing {option_value(found[0][1])}; {remedy}"
    )


def holding(table: Table, place: int, cells: Iterable[str], most: int) -> list[tuple[str, str]]:
    """Return (place of the first row that holds it, cell) of the cells that occur first, in row order."""
    listed, cell = ", ".join(map(literal, cells)), table.text(place)
    query = f"SELECT min(rowid) AS r, {cell} AS c FROM {CELLS} WHERE c IN ({listed}) GROUP BY c ORDER BY r"
    return [(table.place(row), text) for row, text in table.ask(f"{query} LIMIT {most}")]


def said(found: Sequence[tuple[str, str]]) -> str:
    """line 3 holds '12.5 kg', line 7 holds 'x'"""
    return ", ".join(f"{where} holds {shortened(text)!r}" for where, text in found)


def option_value(text: str) -> str:
    """Return a text as a shell writes it for an option that takes several, separated by commas."""
    return shlex.quote(quoted(text))


def option_values(texts: Iterable[str]) -> str:
    """Return several texts as a shell writes them for one option."""
    return shlex.quote(",".join(map(quoted, texts)))


def quoted(text: str) -> str:
    """Return a text between double quotes if it holds a comma, a double quote or an end of line."""
    return '"' + text.replace('"', '""') + '"' if {*',"\r\n'} & {*text} else text
