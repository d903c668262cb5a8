"""How a text file is written: separator, quote, decimal sign, header; what is left open is decided.

Decided from the first rows, cut in every way: the best way gives most rows the same number of cells, and
cells that look like one value each.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import TextIO

from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.tables.decimal_signs import OTHER, decimal_sign, grouped

SEPARATORS = ",;\t|"
SPELT = {"tab": "\t", r"\t": "\t", "comma": ",", "semicolon": ";", "space": " ", "pipe": "|"}
SAMPLE_ROWS = 1000
MAX_CELL = 1 << 24  # characters, so that an open quote does not fill the memory
MAX_LINE = 1 << 26
NUMBER = re.compile(rf"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?|{grouped('.')}|{grouped(',')}")
BLANKS = re.compile(r"[^\S\r\n]+")  # a line of one such cell is no row
WHOLE = re.compile(r"[+-]?\d+")
NO_NAMES = ("", "na", "n/a", "nan", "null", "none", "?", "-")  # cells that stand in rows, in lower case
FEWEST_NUMBERED = 3  # columns whose names may be 0, 1, 2, …
MALFORMED = (  # what the csv module says → what it means
    ("unexpected end of data", "a quote opens here and is never closed"),
    ("expected after", "a cell goes on after its closing quote"),
    ("field limit", f"a cell is longer than {MAX_CELL:,} characters; a quote may be open"),
)

Row = list[str]


@dataclass(frozen=True)
class Dialect:
    """How a text file is written; None and "" are decided from its first rows.

    Args:
        separator: between cells: one character, or a word such as "tab".
        quote: around cells that contain the separator.
        decimal: the decimal sign, "." or ",".
        header: whether the first row holds the names of the columns.
        encoding: a name that Python knows, such as "latin-1".
        usual: the decimal sign of the training table, for cells such as 1.234 that may be meant either way.
    """

    separator: str = ""
    quote: str = ""
    decimal: str = ""
    header: bool | None = None
    encoding: str = ""
    usual: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "separator", SPELT.get(self.separator.lower(), self.separator))
        if len(self.separator) > 1 or self.separator in ("\n", "\r", '"', "\0"):
            raise ConfigurationError(
                f"--separator {self.separator!r}: one character separates cells, or {', '.join(SPELT)}"
            )

    def remarks(self, header_is_sure: bool) -> tuple[str, ...]:
        """Return what was decided: the header unless it is sure, the rest where it is not usual."""
        found = (
            (self.separator != ",", f"cells separated by {self.separator!r}"),
            (self.quote != '"', f"cells quoted by {self.quote}"),
            (self.decimal != ".", f"decimal sign {self.decimal!r}"),
            (self.encoding not in ("utf-8", "utf-8-sig"), f"text in {self.encoding}"),
            (not self.header, "no header"),
            (self.header and not header_is_sure, "the first row is the header"),
        )
        return tuple(remark for is_said, remark in found if is_said)


def decided(sample: str, dialect: Dialect, known: Sequence[str] = ()) -> Dialect:
    """Return the dialect with everything that it leaves open decided from the first rows of a file.

    known: names of columns; a first row with one of them is a header.
    """
    separators = dialect.separator or SEPARATORS
    quotes = dialect.quote or ('"' if '"' in sample else "\"'")
    ways = [replace(dialect, separator=s, quote=q) for q in quotes for s in separators]
    best = max(ways, key=lambda way: _plausibility(sample, way))
    rows, _ = first_rows(sample, best)
    if not best.decimal:
        best = replace(best, decimal=decimal_sign(rows, best.separator, best.usual)[0])
    if best.header is None:
        best = replace(best, header=bool(rows) and is_header(rows[0], rows[1:], known))
    return best


def doubt(sample: str, dialect: Dialect) -> tuple[str, ...]:
    """Return a remark if numbers in the first rows may be meant with the other decimal sign."""
    _, cell = decimal_sign(first_rows(sample, dialect)[0], dialect.separator, dialect.usual)
    if not cell:
        return ()
    other = OTHER[dialect.decimal]
    if dialect.decimal in cell:
        return (f"{cell!r} is read as a decimal number (--decimal {other!r} reads thousands)",)
    return (f"{cell!r} is read with thousands (--decimal {other!r} reads a decimal number)",)


def is_header(first: Row, rows: Sequence[Row], known: Sequence[str] = ()) -> bool:
    """Return whether `first` holds names and not values.

    It does if one of them is known, if they are 0, 1, 2, … as pandas numbers columns, or if a cell is no
    number above numbers only. Else it does if a cell is none of the texts that its column repeats, unless
    another cell is one. A number with a decimal sign is no name.
    """
    cells = [cell.strip() for cell in first]
    columns = [[row[k].strip() for row in rows if k < len(row) and row[k].strip()] for k in range(len(cells))]
    texts = [
        (cell, column)
        for cell, column in zip(cells, columns, strict=True)
        if cell.lower() not in NO_NAMES and not NUMBER.fullmatch(cell)
    ]
    numbered = {name for name in known if name.isdecimal() and int(name) < len(cells)}
    named = any(cell in known and cell not in numbered for cell in cells if cell)
    if named or (numbered and numbered <= {*cells}):  # a column without a name is called by its number
        return True
    if not rows:
        return len(texts) == len(cells)
    if any(NUMBER.fullmatch(cell) and not WHOLE.fullmatch(cell) for cell in cells):
        return False
    if _are_numbered(cells, columns):
        return True
    if any(column and all(map(NUMBER.fullmatch, column)) for _, column in texts):
        return True
    repeated = [(cell, column) for cell, column in texts if len(set(column)) <= len(column) / 2]
    return bool(repeated) and not any(cell in column for cell, column in repeated)


def _are_numbered(cells: Sequence[str], columns: Sequence[Sequence[str]]) -> bool:
    """Return whether cells are the names that pandas gives: 0, 1, 2, … or the same after an empty one.

    After a cell that is not empty they may also be a row of whole numbers, unless a column has other cells.
    """
    names = cells[1:] if cells[:1] == [""] else cells
    if [*names] != [*map(str, range(len(names)))] or not names:
        return False
    if len(names) < len(cells):
        return bool(columns[0]) and all(columns[0])
    whole = all(WHOLE.fullmatch(cell) for column in columns for cell in column)
    return len(names) >= FEWEST_NUMBERED and not whole


def rows_of(stream: TextIO, dialect: Dialect, source: str) -> Iterator[tuple[int, Row]]:
    """Yield (line, cells) of each row that is not a line of blanks. Raises DataError with the line."""
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(
        _lines(stream, source),
        delimiter=dialect.separator,
        quotechar=dialect.quote,
        doublequote=True,
        strict=True,
    )
    line = 1
    try:
        for row in reader:
            if len(row) > 1 or (row and not BLANKS.fullmatch(row[0])):
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        said = next((meaning for start, meaning in MALFORMED if start in str(error)), str(error))
        raise DataError(f"{source}, line {line}: {said}") from error


def _lines(stream: TextIO, source: str) -> Iterator[str]:
    """Yield the lines of a text. Raises DataError for an endless one and for a NUL character."""
    number = 0
    while line := stream.readline(MAX_LINE):
        number += 1
        if "\0" in line:
            raise DataError(f"{source}, line {number} contains a NUL byte; is it a text file?")
        if len(line) == MAX_LINE:
            raise DataError(f"{source}, line {number} is longer than {MAX_LINE:,} characters")
        yield line


def first_rows(sample: str, dialect: Dialect) -> tuple[list[Row], bool]:
    """Return the first rows, up to one that is malformed, and whether there is none."""
    rows = []
    with suppress(DataError):
        for _, row in islice(rows_of(io.StringIO(sample, newline=""), dialect, ""), SAMPLE_ROWS):
            rows.append(row)
        return rows, True
    return rows, False


def _plausibility(sample: str, dialect: Dialect) -> tuple[float, ...]:
    """Return a key by which the best way to cut the sample into cells is the largest."""
    rows, is_whole = first_rows(sample, dialect)
    if not rows:
        return (0.0, 0.0, 0.0)
    widths = Counter(map(len, rows))
    width, agreeing = max(widths.items(), key=lambda item: (item[1], item[0]))
    cells = [cell.strip() for row in rows if len(row) == width for cell in row]
    share = agreeing / len(rows) * (1.0 if is_whole else 0.5)
    plain = sum(_is_plain(cell, dialect) for cell in cells) / len(cells)
    return (share if width > 1 else 0.0) * plain, float(width), float(dialect.quote == '"')


def _is_plain(cell: str, dialect: Dialect) -> bool:
    """Return whether a cell is a number, or a text without the other separators and stray quotes."""
    if NUMBER.fullmatch(cell):
        return True
    others = set(SEPARATORS) - {dialect.separator, ","}
    return not (others & set(cell)) and not (cell[:1] in "\"'" and cell[-1:] == cell[:1] and len(cell) > 1)
