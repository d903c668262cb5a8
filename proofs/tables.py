"""Write made-up tables and read them back, break files, and read a file larger than the memory it may use.

hypothesis makes up names, cells and ways to write them, and damages files. What Python's csv module reads is
the truth.
"""

import csv
import io
import json
import subprocess
import sys
import traceback
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.cells import levels_of, number_of, time_of
from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.dialects import Dialect
from ffnn_gpu.tables.kinds import columns_of
from ffnn_gpu.tables.sources import read_table
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import MISSING
from proofs import ROOT, Figure, Settings

ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-be", "latin-1")
WAYS = ("", "T%H:%M", " %H:%M:%S", "T%H:%M:%S.%f")  # of writing the time of a day
ZONES = {"": 0, "Z": 0, "+02:00": 120, "-0330": -210, " +05": 300}  # in minutes
PIECES = (b",", b'"', b"\n", b"\r\n", b"\r", b"\0", b" ", b"\t", b'""', b"'", b"\xff", b"\xc3\xa9", b"a,b\n")
ROWS, COLUMNS = 400_000, 20  # of the large file: 73 MB of text
LIMIT = "64MB"  # of the database; it holds the cells of the large file in 147 MB

Row = tuple[str, ...]


def prove(settings: Settings) -> list[Figure]:
    """Return one row per promise."""
    settings.say(f"tables: {settings.examples} written, {settings.examples} broken, one of {ROWS:,} rows")
    return [
        _tried("cells of text files arrive as they were written", _written_tables, settings),
        _tried("numbers, times and missing words are read as they were meant", _meant_cells, settings),
        _tried("broken text files are read as by the csv module, or refused", _broken_files, settings),
        _larger_than_memory(settings.scratch),
    ]


def _tried(promise: str, proof: Callable[[Any, Path], Any], settings: Settings) -> Figure:
    from hypothesis import HealthCheck, seed
    from hypothesis import settings as limits
    from hypothesis import strategies as st

    within = limits(
        max_examples=settings.examples, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    try:
        seed(settings.seed)(within(proof(st, settings.scratch / "a.csv")))()
    except BaseException:
        return Figure(promise, "one was not", False, [traceback.format_exc()[-1500:]])
    return Figure(promise, f"{settings.examples} examples", True)


def _written_tables(st: Any, path: Path) -> Any:
    """Return a test: a table written in any way is read back equal."""
    from hypothesis import given

    letters = st.characters(blacklist_categories=("Cs",), blacklist_characters="\0\ufeff", max_codepoint=255)
    cell = st.one_of(
        st.text(letters, max_size=6),
        st.sampled_from(["007", "1E2", "NA", "0x1F", '"', "a\nb", "\r\n", ",;|\t"]),
    )
    table = st.integers(1, 4).flatmap(
        lambda width: st.lists(st.tuples(*[cell] * width), min_size=2, max_size=6)
    )

    @given(table, st.sampled_from(",;\t|"), st.sampled_from(ENCODINGS), st.sampled_from(["\n", "\r\n"]))
    def reads_back(rows: list[Row], separator: str, encoding: str, line_end: str) -> None:
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=separator, lineterminator=line_end, quoting=csv.QUOTE_ALL).writerows(rows)
        path.write_bytes(text.getvalue().encode(encoding))
        dialect = Dialect(separator, '"', ".", False, encoding)
        blank = [len(row) == 1 and row[0] != "" and not row[0].strip() for row in rows]  # a line of blanks
        assert any(blank) or cells(str(path), dialect) == rows

    return reads_back


def _meant_cells(st: Any, path: Path) -> Any:
    """Return a test: groups of thousands, mixtures of ISO 8601, Excel's first line and NA are read as meant.

    A number that may be meant otherwise may be read so if the table says it.
    """
    from hypothesis import assume, given

    number = st.tuples(st.integers(-(10**8), 10**8), st.integers(0, 3), st.booleans())
    moment = st.datetimes(datetime(1900, 1, 1), datetime(2100, 1, 1))
    word = st.sampled_from(["NA", "", "null", "NaN", "x", "y z", "Na", "-"])
    row = st.tuples(number, moment, st.sampled_from(WAYS), st.sampled_from([*ZONES][1:]), word)
    rows = st.lists(row, min_size=4, max_size=9)

    @given(rows, st.sampled_from(",;\t|"), st.sampled_from(".,"), st.booleans(), st.booleans(), st.booleans())
    def is_meant(
        rows: list[Any], separator: str, decimal: str, grouped: bool, zoned: bool, excel: bool
    ) -> None:
        text = io.StringIO(newline="")
        writer = csv.writer(text, delimiter=separator, lineterminator="\n")
        writer.writerow(["amount", "at", "word"])
        numbers, times = [], []
        for (units, places, has_groups), time, way, zone, word in rows:
            amount, value = _spelt(units, places, decimal, grouped and has_groups)
            written, seconds = _moment(time, (way or WAYS[1]) if zoned else way, zone if zoned else "")
            writer.writerow([amount, written, word])
            numbers.append(value)
            times.append(seconds)
        assume(len({*times}) > 2)  # a constant column has no times
        path.write_text(
            (f"sep={separator}\n" if excel else "") + text.getvalue(), encoding="utf-8", newline=""
        )
        table = read_table(str(path))
        assert table.names == ("amount", "at", "word") and len(table) == len(rows)
        read = table.numbers(number_of(table, 0, Spelling(table.decimal))).tolist()
        kinds = columns_of(
            table, Decisions(categorical=("word",)), Spelling(table.decimal), allow_unclear=True
        )
        said = any("is read as a decimal number" in remark for remark in table.remarks)
        assert said or kinds[0].note or kinds[0].kind == "unclear" or read == numbers
        assert kinds[1].kind == "time"
        found = table.numbers(time_of(table, 1, kinds[1].written, Spelling(table.decimal))).tolist()
        assert all(abs(a - b) < 1e-5 for a, b in zip(found, times, strict=True))
        codes, levels = levels_of(table, 2, Spelling())
        words = [levels[code] if code != MISSING else "" for code in codes.tolist()]
        assert words == [word if word in ("x", "y z", "Na", "-") else "" for *_, word in rows]

    return is_meant


def _spelt(units: int, places: int, decimal: str, has_groups: bool) -> tuple[str, float]:
    """Return units / 10^places as text and as a number."""
    whole, part = divmod(abs(units), 10**places)
    sign = "-" if units < 0 else ""
    group = {".": ",", ",": "."}[decimal]
    text = f"{whole:,}".replace(",", group) if has_groups else str(whole)
    text += f"{decimal}{part:0{places}}" if places else ""
    return sign + text, float(f"{sign}{whole}.{part:0{places}}" if places else f"{sign}{whole}")


def _moment(time: datetime, way: str, zone: str) -> tuple[str, float]:
    """Return a time as text, and in seconds since 1970 in UTC, as far as the text gives it."""
    text = time.strftime(f"%Y-%m-%d{way}")
    known = datetime.strptime(text, f"%Y-%m-%d{way}")
    return text + zone, known.replace(tzinfo=timezone(timedelta(minutes=ZONES[zone]))).timestamp()


def _broken_files(st: Any, path: Path) -> Any:
    """Return a test: a damaged file is refused with a line, or read as the csv module reads it."""
    from hypothesis import given

    whole = 'a,b\r\n1,"x"\r\n"a\r\nb",""\r\n3,4\r\n5,"6"\r\n'
    edits = st.lists(st.tuples(st.integers(0, 40), st.sampled_from(PIECES), st.integers(0, 2)), max_size=4)

    @given(st.sampled_from([whole, whole.replace("\r", "")]), edits)
    def is_right(text: str, changes: list[tuple[int, bytes, int]]) -> None:
        content = bytearray(text.encode())
        for place, piece, removed in changes:
            content[place : place + removed] = piece
        path.write_bytes(content)
        dialect = Dialect(",", '"', ".", False)
        try:
            found = cells(str(path), dialect)
        except DataError as error:
            if "line " in str(error) or "is empty" in str(error):
                return
            raise
        table = read_table(str(path), dialect)
        assert table.dialect is not None
        decoded = content.decode(table.dialect.encoding)
        read = [tuple(row) for row in csv.reader(io.StringIO(decoded, newline=""), strict=True)]
        assert found == [row for row in read if len(row) > 1 or (row and (row[0].strip(" \t") or not row[0]))]

    return is_right


def cells(path: str, dialect: Dialect) -> list[Row]:
    """Return the cells of a file; a missing one is ""."""
    rows = read_table(path, dialect).ask("SELECT * FROM cells ORDER BY rowid")
    return [tuple(cell or "" for cell in row) for row in rows]


def _larger_than_memory(scratch: Path) -> Figure:
    """Encode a file in another process whose database may hold less than half of its cells."""
    line = ",".join(f"{k}.25" if k % 4 else f"level{k % 7}" for k in range(COLUMNS - 1))
    with open(scratch / "large.csv", "w", encoding="utf-8") as file:
        file.write(",".join(f"x{k}" for k in range(COLUMNS)) + "\n")
        file.writelines(f"{line},{k % 1000 + 0.125}\n" for k in range(ROWS))
    command = [sys.executable, "-m", "proofs.tables", str(scratch)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=1800, check=True)
    found = json.loads(done.stdout)
    megabytes = found["peak"] / 1e6
    right = found["mean"] == sum(k % 1000 + 0.125 for k in range(ROWS)) / ROWS and found["rows"] == ROWS
    promise = f"a table larger than the memory of its database ({LIMIT}) is encoded"
    return Figure(promise, f"{ROWS:,} rows, {megabytes:.0f} MB more", right and megabytes < 200)


def _encode_large(scratch: Path) -> dict[str, float]:
    """Read and encode the large file; return figures of the memory and of the result."""
    import resource

    import numpy as np

    from ffnn_gpu.tables import encoded, table
    from ffnn_gpu.tables.encoded import EncodedTable
    from ffnn_gpu.tables.encoding import Encoding, NumberEncoder

    table.MEMORY, encoded.MAPPED = LIMIT, 0
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    large = read_table(str(scratch / "large.csv"))
    encoding = Encoding((NumberEncoder(f"x{COLUMNS - 1}", 0.0, 1.0, False),), large.names)
    store = EncodedTable(large)
    store.folder = scratch
    matrix = store.matrix(encoding, np.float32)
    mean = float(large.numbers(number_of(large, COLUMNS - 1, Spelling())).sum() / len(large))
    peak = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
    return {"rows": len(matrix), "mean": mean, "peak": peak}


if __name__ == "__main__":
    print(json.dumps(_encode_large(Path(sys.argv[1]))))
