"""Text files: every cell arrives as the csv module reads it, or an error names the line."""

import csv
import gzip
import io
import random
import sys
import threading

import pytest

from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.tables import dialects, plain_text, text_encodings, text_files
from ffnn_gpu.tables.dialects import Dialect
from ffnn_gpu.tables.sources import read_table
from tests.every_case import some_of

duckdb = pytest.importorskip("duckdb")


def cells(table):
    """Return the rows of a table; a missing cell is ""."""
    return [tuple(cell or "" for cell in row) for row in table.ask("SELECT * FROM cells ORDER BY rowid")]


def written(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def read(tmp_path, content, dialect=Dialect(), known=(), name="a.csv"):
    return read_table(written(tmp_path / name, content), dialect, known)


def refused(tmp_path, content, *words, dialect=Dialect(), name="a.csv"):
    with pytest.raises(DataError) as caught:
        read(tmp_path, content, dialect, name=name)
    for word in words:
        assert word in str(caught.value)


# --- what cells hold


def test_no_cell_is_changed_by_a_parser(tmp_path):
    odd = ["007", "1_5", "1E2", "NA", "0x1F", "18446744073709551617", "0.10", "nan", "TRUE", " x ", "1e400",
           "\\N", "2020-01-01", "#1", "\\", "ü", "\u2028", "'", "NULL", "-0"]  # fmt: skip
    table = read(tmp_path, "a,b\n" + "".join(f"{cell},1\n" for cell in odd))
    assert [first for first, _ in cells(table)] == odd


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n", "\r"])
def test_separators_and_line_ends_are_found(tmp_path, separator, line_end):
    rows = [("name", "x", "y"), ("a b", "1", "2.5"), ("c", "-3", "4"), ("d", "", "6")]
    table = read(tmp_path, line_end.join(separator.join(row) for row in rows))
    assert table.names == rows[0]
    assert cells(table) == rows[1:]


def test_mixed_line_ends_and_blank_lines_shift_no_row(tmp_path):
    table = read(tmp_path, b"\n  \na,b\r\n1,2\n\n3,4\r\r\n   \n5,6\n\n\n")
    assert table.names == ("a", "b")
    assert cells(table) == [("1", "2"), ("3", "4"), ("5", "6")]
    assert [table.place(k) for k in range(3)] == ["line 4", "line 6", "line 9"]


def test_blank_lines_before_the_header_are_no_rows(tmp_path):
    for line_end in ("\n", "\r\n"):
        table = read(tmp_path, line_end.join(["", "", "a,b", "1,2", "3,4", ""]))
        assert (table.names, cells(table)) == (("a", "b"), [("1", "2"), ("3", "4")])
        assert table.place(1) == "line 5"


def test_blanks_around_quotes_are_part_of_a_cell_or_refused(tmp_path):
    assert cells(read(tmp_path, 'a,b\n1, "x"\n2,3\n')) == [("1", ' "x"'), ("2", "3")]
    refused(tmp_path, 'a,b\n1,"x" \n2,3\n', "line 2", "closing quote")


def test_quoted_line_breaks_belong_to_cells(tmp_path):
    table = read(tmp_path, b'"a\nx",b\n"1\r\n2",3\n4,"5\n\n"\n"\r",""\n')
    assert table.names == ("a\nx", "b")
    assert cells(table) == [("1\r\n2", "3"), ("4", "5\n\n"), ("\r", "")]
    assert [table.place(k) for k in range(3)] == ["line 3", "line 5", "line 8"]


def test_line_feeds_in_quotes_of_a_windows_file(tmp_path):
    table = read(tmp_path, b'a,b\r\n1,"x\ny"\r\n2,"z\r\n"\r\n')
    assert cells(table) == [("1", "x\ny"), ("2", "z\r\n")]


def test_single_quotes_are_found(tmp_path):
    table = read(tmp_path, "a,b\n'x,1','it''s'\n'y','z'\n", known=("a",))
    assert cells(table) == [("x,1", "it's"), ("y", "z")]


def test_apostrophes_are_no_quotes(tmp_path):
    table = read(tmp_path, "a,b\n'tis,1\nO'Brien,2\nfo'c's'le',3\n")
    assert cells(table) == [("'tis", "1"), ("O'Brien", "2"), ("fo'c's'le'", "3")]


def test_decimal_commas_are_found(tmp_path):
    table = read(tmp_path, "a;b\n1,5;2\n-0,25;3\n")
    assert (table.decimal, cells(table)) == (",", [("1,5", "2"), ("-0,25", "3")])
    assert read(tmp_path, 'a,b\n"1,5",2\n"3,25",4\n').decimal == ","
    assert read(tmp_path, 'a,b\n"1,500",2\n"13,250",4\n').decimal == "."  # thousands


def test_a_cell_longer_than_a_buffer_is_read(tmp_path):
    long = "x" * 3_000_000
    assert cells(read(tmp_path, f"a,b\n1,{long}\n2,y\n")) == [("1", long), ("2", "y")]


def test_a_header_longer_than_the_sample_is_read_whole(tmp_path):
    n = 400
    names = [f"column{k}{'-' * 1000}" for k in range(n)]
    table = read(tmp_path, f"{','.join(names)}\n{','.join(['1'] * n)}\n")
    assert table.names == tuple(names)


# --- small and odd tables


def test_one_column_keeps_empty_quotes_but_not_blank_lines(tmp_path):
    table = read(tmp_path, 'a\n1\n\n""\n  \n2\n')
    assert (table.names, cells(table)) == (("a",), [("1",), ("",), ("2",)])


def test_one_row_of_numbers_has_no_header(tmp_path):
    table = read(tmp_path, "1,2,3")
    assert (table.has_names, table.names, cells(table)) == (False, ("0", "1", "2"), [("1", "2", "3")])


def test_names_alone_are_a_header(tmp_path):
    table = read(tmp_path, "a,b\n")
    assert (table.names, len(table)) == (("a", "b"), 0)


def test_numeric_names_are_a_header_beside_a_word(tmp_path):
    assert read(tmp_path, "2019,2020,outcome\n1,2,3\n4,5,6\n").names == ("2019", "2020", "outcome")
    assert read(tmp_path, "2019,2020,outcome\n1,2,yes\n4,5,no\n6,7,yes\n8,9,no\n").has_names


def test_a_table_of_texts_has_a_header_if_a_name_is_known(tmp_path):
    content = "name,city\nann,rome\nbob,bern\n"
    assert not read(tmp_path, content).has_names
    assert read(tmp_path, content, known=("city",)).names == ("name", "city")
    assert read(tmp_path, content, Dialect(header=True)).names == ("name", "city")


def test_header_can_be_decided_by_the_user_and_is_said(tmp_path):
    table = read(tmp_path, "a,b\n1,2\n", Dialect(header=False))
    assert cells(table) == [("a", "b"), ("1", "2")]
    assert "no header" in table.remarks
    assert "the first row is the header" in read(tmp_path, "a,b\n1,2\n").remarks
    assert read(tmp_path, "a,b\n1,2\n", known=("b",)).remarks == ()  # nothing was guessed


def test_a_column_without_a_name_is_called_by_its_index(tmp_path):
    assert read(tmp_path, ",a\n0,1\n1,2\n").names == ("0", "a")


# --- encodings


@pytest.mark.parametrize(
    ("encoding", "found"),
    [("utf-8", "utf-8"), ("utf-8-sig", "utf-8-sig"), ("utf-16", "utf-16"), ("utf-16-le", "utf-16-le"),
     ("utf-16-be", "utf-16-be"), ("cp1252", "cp1252"), ("utf-32", "utf-32")],
)  # fmt: skip
@pytest.mark.parametrize("given", [True, False])
def test_encodings_are_found_or_given(tmp_path, encoding, found, given):
    content = "grün,y\nä€,1\nö,2\n" * 3
    table = read(tmp_path, content.encode(encoding), Dialect(encoding=encoding if given else "", header=True))
    assert table.names == ("grün", "y")
    assert cells(table)[:2] == [("ä€", "1"), ("ö", "2")]
    assert table.dialect.encoding == found


def test_bytes_outside_windows_1252_are_latin_1(tmp_path):
    table = read(tmp_path, b"a,b\n\xe4\x81,1\n", Dialect(header=True))
    assert cells(table) == [("ä\x81", "1")]


@pytest.mark.parametrize("block", [1, 4, 1 << 20])
def test_utf_8_with_a_damaged_byte_is_refused_with_its_line(tmp_path, monkeypatch, block):
    monkeypatch.setattr(text_encodings, "BLOCK", block)
    refused(tmp_path, "a,b\nä,1\n".encode() + b"\xe4,2\n", "line 3", "utf-8", "0xe4", "--encoding")


def test_a_wrong_encoding_is_refused_with_its_line(tmp_path):
    refused(tmp_path, b"a,b\n1,2\n\xff,3\n", "line 3", dialect=Dialect(encoding="utf-8"))
    refused(tmp_path, b"a,b\n1,2\n\xff,3\n", "line 3", dialect=Dialect(encoding="ascii"))
    with pytest.raises(ConfigurationError, match="--encoding klingon"):
        read(tmp_path, "a,b\n", Dialect(encoding="klingon"))


def test_a_mark_before_quotes_is_no_part_of_a_cell(tmp_path):
    table = read(tmp_path, b'\xef\xbb\xbf"a\nb",c\n1,2\n')
    assert (table.names, cells(table)) == (("a\nb", "c"), [("1", "2")])


# --- packed files


def test_packed_files_are_unpacked_by_their_first_bytes(tmp_path):
    content = b"a,b\n1,x\n2,y\n"
    for name in ("a.csv.gz", "packed.csv"):
        assert cells(read(tmp_path, gzip.compress(content), name=name)) == [("1", "x"), ("2", "y")]


def zstd():
    if sys.version_info >= (3, 14):
        from compression import zstd as module
    else:
        module = pytest.importorskip("backports.zstd")
    return module


def test_zstandard_files_are_unpacked_byte_by_byte(tmp_path):
    content = 'a,b\r\n"1\r\n",ü\r\n'.encode("utf-16")
    assert cells(read(tmp_path, zstd().compress(content), name="a.csv.zst")) == [("1\r\n", "ü")]


def test_half_a_packed_file_is_refused(tmp_path):
    content = "".join(f"{k},{k * k}\n" for k in range(9_000)).encode()
    checked = {zstd().CompressionParameter.checksum_flag: 1}  # as the program zstd writes files
    for packed, kind in (
        (gzip.compress(content), "gzip"),
        (zstd().compress(content, options=checked), "Zstandard"),
    ):
        refused(tmp_path, packed[: len(packed) // 2], f"incomplete {kind}", name="a.csv.gz")
        damaged = bytearray(packed)
        damaged[len(packed) // 2] ^= 255
        refused(tmp_path, bytes(damaged), f"damaged or incomplete {kind}", name="a.csv.gz")


def test_other_formats_are_named(tmp_path):
    refused(tmp_path, b"PK\x03\x04....", "zip")
    refused(tmp_path, b"PAR1....", "Parquet")


# --- malformed files


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        ("a,b\n1,2\n3\n", 3, "1 cell; the first row has 2"),
        ("a,b\n1,2\n\n3,4,5\n", 4, "3 cells"),
        ('a,b\n"1\n2",3\n4,5,6\n', 4, "3 cells"),
        ("a,b\r\n1,2,\r\n", 2, "3 cells"),
        ("\n\na,b\n1,2\n  \n1\n", 6, "1 cell"),
        ('a,b\n1,2\n"3,4\n5,6\n', 3, "never closed"),
        ('a,b\n1,"2"3\n', 2, "closing quote"),
        ("a,b\n1,2\0\n3,4\n", 2, "NUL"),
        ("a,b\n1,2\n" + "3," * 4 + "\n", 3, "5 cells"),
    ],
)
def test_a_malformed_file_is_refused_with_the_line(tmp_path, content, line, problem):
    refused(tmp_path, content, f"line {line}", problem, dialect=Dialect(separator=","))


def test_a_ragged_row_far_below_the_sample_is_refused(tmp_path):
    rows = ["a,b", *(f"{k},x" for k in range(30_000)), "1,2,3", "4,5"]
    refused(tmp_path, "\n".join(rows), "line 30002 has 3 cells")


@pytest.mark.parametrize("content", [b"", b"\n \n\n", b"\xef\xbb\xbf", b"\xff\xfe"])
def test_an_empty_file_is_refused(tmp_path, content):
    refused(tmp_path, content, "is empty")


def test_an_endless_line_and_an_endless_cell_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(dialects, "MAX_LINE", 1000)
    refused(tmp_path, "a,b\n1,2\n" + "3," * 600, "line 3 is longer than 1,000")
    monkeypatch.setattr(dialects, "MAX_CELL", 50)
    refused(tmp_path, 'a,b\n1,2\n3,"' + "x\n" * 60, "line 3", "a quote may be open")


def test_a_separator_that_cannot_be_is_refused():
    assert Dialect(separator="tab").separator == Dialect(separator=r"\t").separator == "\t"
    for wrong in ("::", "\n", '"'):
        with pytest.raises(ConfigurationError, match="--separator"):
            Dialect(separator=wrong)


# --- made-up files


PLAIN_CELLS = ["a", "1", "", "x y", " z ", "2.5", "ü", "-1e3", "\\", "#", "0x1", "O'Neil"]
QUOTED_CELLS = ["a,b", "a\nb", "a\r\nb", 'say "x"', '"', "\n", "\r", ",,", ";|\t", '""']
PIECES = [
    b",",
    b'"',
    b"\n",
    b"\r\n",
    b"\r",
    b"a",
    b" ",
    b"\t",
    b'""',
    b"'",
    b"x,y\n",
    b"\0",
    b"\xc3\xa9",
    b"#",
]


def expected(path, dialect, width):
    """Return the rows that the csv module reads, None if it refuses one or rows have another width."""
    rows = []
    try:
        with open(path, encoding="utf-8-sig", newline="") as stream:
            for row in csv.reader(stream, delimiter=dialect.separator, quotechar=dialect.quote, strict=True):
                if len(row) > 1 or (row and (row[0].strip(" \t") or not row[0])):
                    rows.append(tuple(row))
    except csv.Error:
        return None
    return rows if all(len(row) == width for row in rows) and b"\0" not in path.read_bytes() else None


@pytest.mark.parametrize("seed", some_of(range(3), 2))
def test_random_tables_are_read_back_cell_by_cell(tmp_path, seed):
    rng = random.Random(seed)
    for _ in range(12):
        dialect = Dialect(rng.choice(",;\t|"), '"', ".", True, rng.choice(["utf-8", "utf-16", "utf-8-sig"]))
        width = rng.randrange(1, 5)
        quoting = rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])
        pool = PLAIN_CELLS + QUOTED_CELLS * (quoting == csv.QUOTE_ALL)  # "\r" alone is not always quoted
        names = tuple(f"{rng.choice(pool).strip() or 'n'}{k}" for k in range(width))
        rows = [tuple(rng.choice(pool) for _ in names) for _ in range(rng.randrange(1, 9))]
        text = io.StringIO(newline="")
        line_end = rng.choice(["\n", "\r\n"])
        csv.writer(text, delimiter=dialect.separator, lineterminator=line_end, quoting=quoting).writerows(
            [names, *rows]
        )
        table = read(tmp_path, text.getvalue().encode(dialect.encoding), dialect)
        assert (table.names, cells(table)) == (names, rows), text.getvalue()


@pytest.mark.parametrize(("seed", "block"), some_of([(0, 1), (1, 1), (0, 1 << 20), (1, 1 << 20)], 3))
def test_broken_files_are_refused_or_read_as_the_csv_module_reads_them(tmp_path, monkeypatch, seed, block):
    monkeypatch.setattr(plain_text, "BLOCK", block)
    rng = random.Random(seed)
    outcomes = set()
    for _ in range(20):
        body = bytearray("\n".join(["a,b", '1,"x"', '"a\nb",""', "3,4", "5,6"]).encode())
        for _ in range(rng.randrange(3)):
            k = rng.randrange(len(body))
            body[k : k + rng.randrange(2)] = rng.choice(PIECES)
        path = tmp_path / "a.csv"
        path.write_bytes(bytes(body))
        dialect = Dialect(",", '"', ".", False, "utf-8")
        want = expected(path, dialect, 2)
        try:
            found = cells(read_table(str(path), dialect))
        except DataError as error:
            outcomes.add("refused" if "line " in str(error) and not want else f"wrongly refused: {body!r}")
        else:
            width = len(found[0])
            assert found == expected(path, dialect, width), body
            outcomes.add("read")
    assert outcomes == {"refused", "read"}


@pytest.mark.parametrize("block", [1, 2, 3, 5, 1 << 20])
def test_a_plain_file_needs_no_second_reading(tmp_path, monkeypatch, block):
    monkeypatch.setattr(plain_text, "BLOCK", block)
    monkeypatch.setattr(text_files, "_rewrite", None)
    assert cells(read(tmp_path, "a,b,c\n10,20,30\n\n,,4\n5,6,7")) == [
        ("10", "20", "30"), ("", "", "4"), ("5", "6", "7"),
    ]  # fmt: skip
    assert cells(read(tmp_path, 'a,b\r\n1,"x,y"\r\n2,"z\r\n"\r\n')) == [("1", "x,y"), ("2", "z\r\n")]


def test_every_row_with_quoted_line_breaks_arrives(tmp_path):
    n = 10_000
    lines = (f'{k},"line\n{k % 7}, ""{"y" * (k % 97)}"""\n' for k in range(n))
    table = read(tmp_path, "a,b\n" + "".join(lines), Dialect(separator=","))
    want = [(str(k), f'line\n{k % 7}, "{"y" * (k % 97)}"') for k in range(n)]
    assert cells(table) == want


# --- files of Excel and pandas


@pytest.mark.parametrize("first", ["sep=;\n", '"sep=;"\r\n', "SEP=;\r\n", "\ufeffsep=;\n"])
def test_line_of_excel_names_the_separator_and_is_no_row(tmp_path, first):
    table = read(tmp_path, first + "a;b\n1,5;x|y|z\n2,5;u|v|w\n")
    assert table.names == ("a", "b") and cells(table) == [("1,5", "x|y|z"), ("2,5", "u|v|w")]
    assert table.place(1) == "line 4" and "the first line, sep=;, is no row" in table.remarks
    assert table.decimal == ","


def test_line_of_excel_is_honoured_where_another_separator_is_likelier(tmp_path):
    table = read(tmp_path, "sep=|\na,b|c,d\n1,2|3,4\n5,6|7,8\n")
    assert table.names == ("a,b", "c,d") and len(table) == 2
    assert read(tmp_path, "sep=\t\na\tb\n1\t2\n").names == ("a", "b")
    refused(tmp_path, "sep=;\na;b\n1;2\n3;4;5\n", "line 4 has 3 cells")
    assert read(tmp_path, "sep=;\na;b\n1;2\n", Dialect(separator=",", header=True)).names == ("a;b",)


def test_names_that_begin_like_the_line_of_excel_are_names(tmp_path):
    assert read(tmp_path, "sep=x,b\n1,2\n3,4\n").names == ("sep=x", "b")
    assert read(tmp_path, "sep=,b\n1,2\n3,4\n").names == ("sep=", "b")


def test_numbers_that_pandas_takes_for_names_are_the_header(tmp_path):
    table = read(tmp_path, ",0,1,2\n0,1.5,2,x\n1,2.5,3,y\n")
    assert table.names == ("Unnamed: 0", "0", "1", "2") and len(table) == 2
    assert table.column("0", "--target") == 1
    assert read(tmp_path, ",0,1\n5,1,2\n7,3,4\n").names == ("Unnamed: 0", "0", "1")
    assert read(tmp_path, "0,1,2\n1.5,2,3\n2.5,3,4\n").names == ("0", "1", "2")
    for rows in (
        "0,1,2\n3,4,5\n6,7,8\n",
        "0,1\n1.5,2\n",
        ",1,2\n3,4,5\n",
        "1,2,3\n1.5,2,3\n",
        ",0\n,1\n,2\n",
    ):
        assert not read(tmp_path, rows).has_names, rows


def test_pandas_file_without_a_header_has_none(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"x": [1.5, 2.5, 3.5, 4.5], "word": ["only", "a", "a", "a"], "n": [None, 1, 2, 3]}
    )
    for how in ({}, {"index": False}, {"index": False, "na_rep": "NA"}):
        frame.to_csv(tmp_path / "a.csv", header=False, **how)
        assert len(read_table(str(tmp_path / "a.csv"))) == 4, how
        frame.to_csv(tmp_path / "a.csv", **how)
        assert read_table(str(tmp_path / "a.csv")).names[-3:] == ("x", "word", "n"), how


class Interrupted:
    """A connection whose query for the number of rows is interrupted."""

    def __init__(self, connection):
        self.connection, self.times = connection, 0

    def __getattr__(self, name):
        return getattr(self.connection, name)

    def execute(self, query, *more):
        if query.startswith("SELECT count(*)") and not self.times:
            self.times = 1
            raise duckdb.InterruptException("INTERRUPT Error: Interrupted!")
        return self.connection.execute(query, *more)


def test_interrupt_after_the_copy_is_one_of_the_copy(tmp_path, monkeypatch):
    real, check, made, counted = text_files._copied, text_files.plain, [], threading.Event()

    def plain(*arguments):
        counted.wait(10)  # else the check may interrupt the copy itself
        return check(*arguments)

    def copied(connection, *others):
        made.append(Interrupted(connection))
        found = real(connection if len(made) > 1 else made[0], *others)
        counted.set()
        return found

    monkeypatch.setattr(text_files, "_copied", copied)
    monkeypatch.setattr(text_files, "plain", plain)
    table = read(tmp_path, "a|b\r1|2\r3|4\r")  # no plain file: a lone CR ends its lines
    assert made[0].times and table.names == ("a", "b") and len(table) == 2
