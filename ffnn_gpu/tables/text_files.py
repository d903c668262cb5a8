"""Read delimited text of any dialect as text, cell by cell.

The separator, the quote and the header are decided from the first rows here and then given to DuckDB. Why not
by its sniffer: measured on DuckDB 2.0, it reads a file in which one row has a cell too many as one column, and
turns `1_5` into 15. A file that DuckDB refuses is read again row by row by Python's csv module, which either
accepts it (mixed line ends, blank lines of spaces) or names the line of the error.
"""

import codecs
import csv
import gzip
import io
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.table import CELLS, Scratch, Table, connect, literal

SEPARATORS = ",;\t|"
SAMPLE = 1 << 18  # characters that decide the dialect
SAMPLE_ROWS = 1000
BLOCK = 1 << 20
UNDEFINED = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")  # in Windows-1252
MAX_CELL = 1 << 24  # characters, so that an open quote does not fill the memory
BOMS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
GZIP_MAGIC, ZSTD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
NUMBER = re.compile(r"[+-]?(\d+([.,]\d*)?|[.,]\d+)([eE][+-]?\d+)?")

Row = list[str]


@dataclass(frozen=True)
class Dialect:
    """How a text file is written; None and "" are decided from its first rows.

    Args:
        separator: between cells: one character.
        quote: around cells that contain the separator.
        decimal: the decimal sign, "." or ",".
        header: whether the first row holds the names of the columns.
        encoding: a name that Python knows, such as "latin-1".
    """

    separator: str = ""
    quote: str = ""
    decimal: str = ""
    header: bool | None = None
    encoding: str = ""


def read_text(
    path: str | Path, dialect: Dialect, source: str, known: Sequence[str] = (), scratch: Scratch | None = None
) -> Table:
    """Return the cells of a text file.

    Args:
        source: what messages call the file.
        known: names of columns that the user or a model gave: a first row with one of them is a header.
        scratch: the folder that holds the file, if it has to live as long as the table.

    Raises:
        DataError: the file is empty or ragged, or its bytes are not text in the encoding; the message names the
            line.
    """
    scratch = scratch or Scratch()
    plain, encoding = _as_utf8(Path(path), dialect.encoding, source, scratch.path)
    with open(plain, encoding="utf-8-sig", newline="") as stream:
        sample = _sample(stream)
    if not sample.strip():
        raise DataError(f"{source} is empty")
    found = decided(sample, replace(dialect, encoding=encoding), known)
    first = next(_rows(io.StringIO(sample, newline=""), found, source))[1]
    connection = connect()
    _load(connection, plain, found, len(first), source)
    names = tuple(cell.strip() for cell in first) if found.header else tuple(map(str, range(len(first))))

    def place(row: int) -> str:
        with open(plain, encoding="utf-8-sig", newline="") as stream:
            rows = _rows(stream, found, source)
            return f"line {next(islice(rows, row + bool(found.header), None), (0, []))[0]}"

    return Table(
        source, names, connection, place, bool(found.header), found.decimal, _remarks(found), keeps=scratch
    )


def _remarks(dialect: Dialect) -> tuple[str, ...]:
    """Return what a reader of the file would not expect."""
    found = (
        (dialect.encoding not in ("utf-8", "utf-8-sig"), f"text in {dialect.encoding}"),
        (dialect.separator != ",", f"cells separated by {dialect.separator!r}"),
        (dialect.decimal != ".", f"decimal sign {dialect.decimal!r}"),
        (dialect.quote != '"', f"cells quoted by {dialect.quote}"),
        (not dialect.header, "no header"),
    )
    return tuple(remark for unusual, remark in found if unusual)


def decided(sample: str, dialect: Dialect, known: Sequence[str] = ()) -> Dialect:
    """Return the dialect with everything that it leaves open decided from the first rows of a file."""
    separators = dialect.separator or SEPARATORS
    quotes = dialect.quote or "\"'"
    ways = [replace(dialect, separator=s, quote=q) for q in quotes for s in separators]
    best = max(ways, key=lambda way: _plausibility(_parsed(sample, way), way))
    rows = _parsed(sample, best)
    if not best.decimal:
        best = replace(best, decimal=_decimal_sign(rows, best.separator))
    if best.header is None:
        best = replace(best, header=is_header(rows[0], rows[1:], known))
    return best


def is_header(first: Row, rows: Sequence[Row], known: Sequence[str] = ()) -> bool:
    """Return whether `first` holds names and not values.

    It does if one of them is known, or if a cell is no number above numbers only. Else it does if a cell is none of
    the texts that its column repeats, unless another cell is one.
    """
    cells = [cell.strip() for cell in first]
    columns = [[row[k].strip() for row in rows if k < len(row) and row[k].strip()] for k in range(len(cells))]
    texts = [
        (cell, column)
        for cell, column in zip(cells, columns, strict=True)
        if cell and not NUMBER.fullmatch(cell)
    ]
    if any(cell in known for cell in cells if cell):
        return True
    if not rows:
        return len(texts) == len(cells)
    if any(column and all(map(NUMBER.fullmatch, column)) for _, column in texts):
        return True
    repeated = [(cell, column) for cell, column in texts if len(set(column)) <= len(column) / 2]
    return bool(repeated) and not any(cell in column for cell, column in repeated)


def _plausibility(rows: list[Row], dialect: Dialect) -> tuple[float, ...]:
    """Return a key by which the best way to cut the sample into cells is the largest."""
    if not rows:
        return (0.0, 0.0, 0.0)
    widths = Counter(map(len, rows))
    width, agreeing = max(widths.items(), key=lambda item: (item[1], item[0]))
    cells = [cell.strip() for row in rows if len(row) == width for cell in row]
    whole = sum(_is_plain(cell, dialect) for cell in cells) / len(cells)
    share = agreeing / len(rows)
    return (share if width > 1 else 0.0) * whole, float(width), float(dialect.quote == '"')


def _is_plain(cell: str, dialect: Dialect) -> bool:
    """Return whether a cell is a number, or a text without the other separators and stray quotes."""
    if NUMBER.fullmatch(cell):
        return True
    others = set(SEPARATORS) - {dialect.separator, ","}
    return not (others & set(cell)) and not (cell[:1] in "\"'" and cell[-1:] == cell[:1] and len(cell) > 1)


def _decimal_sign(rows: Sequence[Row], separator: str) -> str:
    if separator == ",":
        return "."
    numbers = [cell.strip() for row in rows for cell in row if NUMBER.fullmatch(cell.strip())]
    commas = sum("," in number for number in numbers)
    return "," if commas > sum("." in number for number in numbers) else "."


def _parsed(sample: str, dialect: Dialect) -> list[Row]:
    """Return the first rows, up to one that is malformed: reading the whole file names its line."""
    rows = []
    with suppress(DataError):
        for _, row in islice(_rows(io.StringIO(sample, newline=""), dialect, ""), SAMPLE_ROWS):
            rows.append(row)
    return rows


def _rows(stream: TextIO, dialect: Dialect, source: str) -> Iterator[tuple[int, Row]]:
    """Yield (line, cells) of each row that is not blank."""
    csv.field_size_limit(MAX_CELL)
    reader = csv.reader(
        stream, delimiter=dialect.separator, quotechar=dialect.quote, doublequote=True, strict=True
    )
    line = 1
    try:
        for row in reader:
            if len(row) > 1 or (row and row[0].strip()):
                yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{source}, line {line}: {error}") from error


def _load(connection: Any, path: Path, dialect: Dialect, width: int, source: str) -> None:
    """Fill the database with the cells, by DuckDB alone if it accepts the file."""
    import duckdb

    try:
        _copy(connection, path, dialect, width)
    except duckdb.Error:
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", newline="", suffix=".csv") as clean:
            clean_dialect = replace(dialect, separator=",", quote='"')
            _rewrite(path, clean, dialect, width, source)
            clean.flush()
            _copy(connection, Path(clean.name), clean_dialect, width)


def _copy(connection: Any, path: Path, dialect: Dialect, width: int) -> None:
    columns = ", ".join(f"'c{k}': 'VARCHAR'" for k in range(width))
    quote = literal(dialect.quote)
    connection.execute(
        f"CREATE OR REPLACE TABLE {CELLS} AS SELECT * FROM read_csv({literal(str(path))}, auto_detect=false,"
        f" delim={literal(dialect.separator)}, quote={quote}, escape={quote}, header=false,"
        f" skip={int(bool(dialect.header))}, strict_mode=true, columns={{{columns}}})"
    )


def _rewrite(path: Path, clean: Any, dialect: Dialect, width: int, source: str) -> None:
    """Write the rows again in one plain dialect. Raises DataError with the line of a ragged row."""
    writer = csv.writer(clean, lineterminator="\n", quoting=csv.QUOTE_ALL)
    with open(path, encoding="utf-8-sig", newline="") as stream:
        for line, row in _rows(stream, dialect, source):
            if len(row) != width:
                raise DataError(
                    f"{source}, line {line} has {len(row)} cells; the first row has {width} "
                    f"(separated by {dialect.separator!r})"
                )
            writer.writerow(row)


def _sample(stream: TextIO) -> str:
    """Return whole lines from the beginning of a text."""
    text = stream.read(SAMPLE)
    return text if len(text) < SAMPLE else text[: text.rfind("\n") + 1] or text


def _as_utf8(path: Path, encoding: str, source: str, scratch: Path) -> tuple[Path, str]:
    """Return a plain UTF-8 file with the same text, written to `scratch` if need be, and the encoding found."""
    with _reading(source), open(path, "rb") as stream:
        magic = stream.read(4)
    if magic.startswith((GZIP_MAGIC, ZSTD_MAGIC)):
        path = _unpacked(path, magic, source, scratch / "unpacked")
    encoding = encoding or _encoding(path, source)
    if encoding in ("utf-8", "utf-8-sig"):
        return path, encoding
    with (
        _reading(f"{source}, encoding {encoding}"),
        open(path, encoding=encoding, newline="") as text,
        open(scratch / "utf8", "w", encoding="utf-8", newline="") as plain,
    ):
        shutil.copyfileobj(text, plain, BLOCK)
    return scratch / "utf8", encoding


def _unpacked(path: Path, magic: bytes, source: str, target: Path) -> Path:
    """Write the contents of a gzip or Zstandard file to `target`."""
    with _reading(source):
        if magic.startswith(GZIP_MAGIC):
            with gzip.open(path) as packed, open(target, "wb") as plain:
                shutil.copyfileobj(packed, plain, BLOCK)
        else:  # DuckDB unpacks it: as one column of whole lines, whose separator and quote never occur
            line = r"columns={'line': 'VARCHAR'}, auto_detect=false, delim='\x1f', quote='', escape='', header=false"
            connect().execute(
                f"COPY (FROM read_csv({literal(str(path))}, compression='zstd', {line})) TO"
                f" {literal(str(target))} (FORMAT csv, DELIMITER '\x1f', QUOTE '', ESCAPE '', HEADER false)"
            )
    return target


def _encoding(path: Path, source: str) -> str:
    """Return the encoding of a file: by its byte order mark, UTF-8 if it decodes as that, else Windows-1252."""
    with open(path, "rb") as stream:
        start = stream.read(SAMPLE)
        for mark, name in BOMS.items():
            if start.startswith(mark):
                return name
        if b"\0" in start:
            return "utf-16-le" if start[1:2] == b"\0" else "utf-16-be"
        decoder = codecs.getincrementaldecoder("utf-8")()
        try:
            decoder.decode(start)
            while block := stream.read(BLOCK):
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return "cp1252" if _is_windows(path) else "latin-1"
    return "utf-8"


def _is_windows(path: Path) -> bool:
    """Return whether no byte is undefined in Windows-1252, which otherwise contains Latin-1's letters."""
    with open(path, "rb") as stream:
        return not any(UNDEFINED.search(block) for block in iter(lambda: stream.read(BLOCK), b""))


@contextmanager
def _reading(source: str) -> Iterator[None]:
    """Turn every failure to read the file into a DataError that names it."""
    try:
        yield
    except (DataError, MemoryError):
        raise
    except Exception as error:
        raise DataError(f"{source} cannot be read: {type(error).__name__}: {error}") from error
