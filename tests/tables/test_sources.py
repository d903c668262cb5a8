"""Files, folders, patterns, databases, queries and pipes → tables; odd names and wrong ones."""

import io
import json
import os
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.tables import table as tables
from ffnn_gpu.tables.dialects import Dialect
from ffnn_gpu.tables.sources import is_table, read_table

duckdb = pytest.importorskip("duckdb")


def cells(table):
    columns = ", ".join(f"c{k}" for k in range(len(table.names)))
    return table.ask(f"SELECT {columns} FROM cells ORDER BY rowid")


def written(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return str(path)


def refused(source, *words, **how):
    with pytest.raises((DataError, ConfigurationError)) as caught:
        read_table(str(source), **how)
    for word in words:
        assert word in str(caught.value)


def copied(query, path):
    duckdb.connect().execute(f"COPY ({query}) TO '{path}' (FORMAT parquet)")
    return str(path)


# --- names


@pytest.mark.parametrize(
    "name",
    ["a*.csv", "a[1].csv", "a?b.csv", "it's.csv", "ü .csv", "{a,b}.csv", "~.csv", "%41.csv", "-.csv"],
)  # fmt: skip
def test_a_file_is_read_whatever_its_name_means_elsewhere(tmp_path, name, monkeypatch):
    written(tmp_path / "aXb.csv", "no,no\n0,0\n")
    written(tmp_path / "a1.csv", "no,no\n0,0\n")
    written(tmp_path / name, "a,b\n1,2\n")
    monkeypatch.chdir(tmp_path)
    assert cells(read_table(name)) == cells(read_table(str(tmp_path / name))) == [("1", "2")]


def test_a_folder_called_like_a_partition_adds_no_column(tmp_path):
    folder = tmp_path / "year=2020"
    folder.mkdir()
    assert read_table(written(folder / "a.csv", "a,b\n1,2\n")).names == ("a", "b")
    assert read_table(copied("SELECT 1 AS a", folder / "a.parquet")).names == ("a",)


def test_a_wrong_name_suggests_a_close_one(tmp_path):
    written(tmp_path / "sales.csv", "a,b\n1,2\n")
    refused(tmp_path / "salse.csv", "there is no file", "did you mean", "sales.csv")
    refused(written(tmp_path / "a.xyz", "a"), ".xyz", ".csv", ".parquet", ".jsonl", ".duckdb")
    refused(tmp_path / "*.parquet", "no file matches")


# --- Parquet


def test_parquet_keeps_numbers_times_and_texts(tmp_path):
    query = (
        "SELECT 9007199254740993::BIGINT AS i, 0.1::DOUBLE AS x, '007' AS t, true AS b,"
        " DATE '2020-01-02' AS d,"
        " TIMESTAMPTZ '2020-01-01 10:00:00+02' AS z, 'u'::ENUM('u', 'v') AS e, 1.50::DECIMAL(9,2) AS m,"
        " TIME '10:00:00' AS c, INTERVAL 2 MINUTE AS s"
    )
    table = read_table(copied(query, tmp_path / "a.parquet"))
    assert table.names == tuple("ixtbdzemcs")
    assert table.types == ("BIGINT", "DOUBLE", "VARCHAR", "BOOLEAN", "DATE", "TIMESTAMP", "VARCHAR",
                           "DECIMAL(9,2)", "VARCHAR", "DOUBLE")  # fmt: skip
    assert [str(cell) for cell in cells(table)[0]] == [
        "9007199254740993", "0.1", "007", "True", "2020-01-02", "2020-01-01 08:00:00", "u", "1.50",
        "10:00:00", "120.0",
    ]  # fmt: skip


@pytest.mark.parametrize("value", ["[1, 2]", "{'x': 1}", "'a'::BLOB", "MAP {'a': 1}"])
def test_nested_columns_are_refused_by_name(tmp_path, value):
    refused(copied(f"SELECT 1 AS a, {value} AS nest", tmp_path / "a.parquet"), "'nest'", "select its parts")


def test_damaged_parquet_is_refused(tmp_path):
    path = copied("SELECT range AS a FROM range(1000)", tmp_path / "a.parquet")
    whole = Path(path).read_bytes()
    refused(written(tmp_path / "b.parquet", whole[: len(whole) // 2]), "not a whole Parquet file")
    refused(written(tmp_path / "c.parquet", b""), "not a whole Parquet file")


# --- JSON lines


def test_json_lines_arrive_as_they_are_written(tmp_path):
    lines = [
        '{"a": 1E2, "b": "x,\\n\\"y\\"", "c": 12345678901234567890}',
        "",
        '{"a": 0.10, "d": true, "b": null}',
    ]
    table = read_table(written(tmp_path / "a.jsonl", "\n".join(lines)))
    assert table.names == ("a", "b", "c", "d")
    assert cells(table) == [("1E2", 'x,\n"y"', "12345678901234567890", None), ("0.10", None, None, "true")]
    assert table.place(1) == "line 3"


@pytest.mark.parametrize(
    ("line", "problem"),
    [('{"a": [1]}', "'a' is nested"), ('{"a": 1', "line 2"), ("[1]", "no object"),
     ('{"a": 1, "a": 2}', "twice"),
     ("7", "no object"), ('{"a": ' + "[" * 99999, "line 2")],
)  # fmt: skip
def test_malformed_json_is_refused_with_the_line(tmp_path, line, problem):
    refused(written(tmp_path / "a.ndjson", '{"a": 1}\n' + line + "\n"), "line 2", problem)


# --- several files


def test_files_of_a_folder_are_matched_by_name(tmp_path):
    written(tmp_path / "a.csv", "x,y\n1,2\n")
    written(tmp_path / "b.csv", "y,x\n\n3,4\n5,6\n")
    written(tmp_path / "c.jsonl", json.dumps({"x": 7, "y": 8}) + "\n")
    for other in (".hidden.csv", "_log.csv", "notes.md"):
        written(tmp_path / other, "nothing\n")
    for source in (str(tmp_path), str(tmp_path / "[abc].*")):
        table = read_table(source)
        assert is_table(source)
        assert cells(table) == [("1", "2"), ("4", "3"), ("6", "5"), ("7", "8")]
        assert [table.place(k) for k in (0, 2, 3)] == [
            f"line 2 of {tmp_path / 'a.csv'}", f"line 4 of {tmp_path / 'b.csv'}",
            f"line 1 of {tmp_path / 'c.jsonl'}",
        ]  # fmt: skip
        assert table.remarks[0] == "3 files"


def test_a_file_with_another_header_is_refused_with_names(tmp_path):
    written(tmp_path / "a.csv", "x,y\n1,2\n")
    written(tmp_path / "b.csv", "x,z\n1,2\n")
    refused(tmp_path, "b.csv", "lacks 'y'", "has also 'z'", "a.csv")


def test_files_without_a_header_are_matched_by_place(tmp_path):
    written(tmp_path / "a.csv", "1,2\n3,4\n")
    written(tmp_path / "b.csv", "5,6\n")
    assert cells(read_table(str(tmp_path))) == [("1", "2"), ("3", "4"), ("5", "6")]
    written(tmp_path / "c.csv", "5,6,7\n")
    refused(tmp_path, "c.csv", "3 columns, not 2")


def test_files_with_several_decimal_signs_are_refused(tmp_path):
    written(tmp_path / "a.csv", "x;y\n" + "1,5;a\n2,25;b\n" * 20)
    written(tmp_path / "b.csv", "x;y\n7;a\n" + "1.5;a\n2.25;b\n" * 20)
    refused(
        tmp_path, "column 'x': the decimal sign is ',' in", "and '.' in", "b.csv, line 3", "--decimal ','"
    )
    assert len(read_table(str(tmp_path), Dialect(decimal=","))) == 81
    for same in ("x;y\n1;a\n2;b\n", "x;y\n1.234;a\n1,5;b\n", "x;y\n1.234;a\n2;b\n"):
        written(tmp_path / "b.csv", same)
        assert read_table(str(tmp_path)).decimal == ","


def test_parquet_files_with_days_and_times_are_times(tmp_path):
    copied("SELECT DATE '2024-01-01' AS t", tmp_path / "a.parquet")
    copied("SELECT TIMESTAMP '2024-01-02 10:00:00' AS t", tmp_path / "b.parquet")
    table = read_table(str(tmp_path))
    assert table.types == ("TIMESTAMP",)
    assert [str(time) for (time,) in cells(table)] == ["2024-01-01 00:00:00", "2024-01-02 10:00:00"]


def test_parquet_files_of_which_one_has_a_zone_are_refused(tmp_path):
    copied("SELECT TIMESTAMPTZ '2024-01-01 10:00:00+00' AS t", tmp_path / "a.parquet")
    assert read_table(str(tmp_path)).zoned == {0}
    copied("SELECT TIMESTAMP '2024-01-01 10:00:00' AS t", tmp_path / "b.parquet")
    refused(tmp_path, "column 't' holds times with a zone in only one of", "a.parquet", "b.parquet")


def test_parquet_files_of_several_types_get_the_wider_one(tmp_path):
    copied("SELECT 1::INTEGER AS a, 'x' AS b", tmp_path / "a.parquet")
    copied("SELECT 'y' AS b, 0.5::DOUBLE AS a", tmp_path / "b.parquet")
    table = read_table(str(tmp_path))
    assert (table.types, cells(table)) == (("DOUBLE", "VARCHAR"), [(1.0, "x"), (0.5, "y")])
    copied("SELECT 'no' AS a, 'z' AS b", tmp_path / "c.parquet")
    refused(tmp_path, "'a' holds DOUBLE", "VARCHAR", "c.parquet")


def test_rows_of_several_files_are_counted_without_gaps(tmp_path):
    for name in "abc":
        written(tmp_path / f"{name}.csv", "x,y\n" + f"1,{name}\n" * 3)
    table = read_table(str(tmp_path))
    assert [row for (row,) in table.ask("SELECT rowid FROM cells ORDER BY 1")] == [*range(9)]
    assert table.part(2, 5).levels(1) == {"a": 1, "b": 2}


# --- databases and queries


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "sales.duckdb"
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE TABLE orders AS SELECT range AS a, range * 2 AS b FROM range(3)")
    return str(path)


def test_a_database_gives_its_only_table_or_the_named_one(database):
    assert cells(read_table(database)) == cells(read_table(f"{database}:orders")) == [(0, 0), (1, 2), (2, 4)]
    with duckdb.connect(database) as connection:
        connection.execute('CREATE TABLE "my ""odd"" one" AS SELECT 7 AS x')
    assert cells(read_table(f'{database}:my "odd" one')) == [(7,)]
    refused(database, "2 tables", "orders", f"{database}:")
    refused(f"{database}:ordres", "did you mean 'orders'")
    refused(database.replace("sales", "sale"), "no file", "did you mean")


def test_a_file_that_is_no_database_is_refused(tmp_path):
    refused(written(tmp_path / "a.duckdb", "a,b\n1,2\n" * 1000), "cannot be read as a DuckDB database")


def test_a_query_reads_files_and_databases(tmp_path, database):
    path = copied("SELECT 1 AS a UNION ALL SELECT 2", tmp_path / "a.parquet")
    assert cells(read_table("", query=f"SELECT a, a + 1 AS b FROM '{path}' ORDER BY a")) == [(1, 2), (2, 3)]
    assert cells(read_table(database, query="SELECT sum(b) AS s FROM orders")) == [(6,)]


@pytest.mark.parametrize(
    "query",
    ["DROP TABLE orders", "DELETE FROM orders", "SELECT 1; DROP TABLE orders", "COPY (SELECT 1) TO 'out.csv'",
     "SELECT 1) AS t; COPY (SELECT 1) TO 'out.csv'; SELECT * FROM (SELECT 1", "SELEC 1",
     "SELECT * FROM nowhere",
     "INSTALL httpfs", "SET memory_limit = '1GB'", "", "SELECT * FROM 'https://example.com/a.parquet'"],
)  # fmt: skip
def test_a_query_only_reads(database, tmp_path, monkeypatch, query):
    monkeypatch.chdir(tmp_path)
    before = Path(database).read_bytes()
    refused(database, "--query" if query else "", query=query or "SELECT")
    assert Path(database).read_bytes() == before
    assert not (tmp_path / "out.csv").exists()


@pytest.fixture
def hostile(tmp_path, database):
    """Return a database with views and a macro that read files; the secret is 42."""
    secret = written(tmp_path / "secret.csv", "x,y\n42,42\n")
    with duckdb.connect(database) as connection:
        connection.execute(f"CREATE VIEW leak AS SELECT * FROM read_csv('{secret}')")
        connection.execute(f"CREATE VIEW list AS SELECT * FROM glob('{tmp_path}/*')")
        connection.execute("CREATE VIEW indirect AS SELECT a FROM orders UNION ALL SELECT x FROM leak")
        connection.execute(f"CREATE MACRO upper(t) AS (SELECT max(content) FROM read_text('{secret}'))")
        connection.execute("CREATE VIEW by_macro AS SELECT main.upper('a') AS t FROM orders")
        connection.execute("CREATE VIEW plain AS SELECT a FROM orders WHERE a > 0")
    return database


@pytest.mark.parametrize("view", ["leak", "list", "indirect", "by_macro"])
def test_a_view_of_a_database_reads_no_file(hostile, view):
    refused(f"{hostile}:{view}", f"the view {view!r} reads files", "--query")
    refused(hostile, "--query reads files and names", repr(view), query=f"SELECT * FROM {view.upper()}")


def test_a_macro_of_a_database_that_hides_a_function_reads_no_file(hostile):
    refused(hostile, "names 'upper'", query="SELECT upper('a') AS t FROM orders")


def test_views_and_queries_that_read_only_tables_are_read(hostile):
    assert cells(read_table(f"{hostile}:plain")) == [(1,), (2,)]
    assert cells(read_table(hostile, query="SELECT sum(a) AS s FROM plain")) == [(3,)]
    assert cells(read_table(f"{hostile}:orders")) == [(0, 0), (1, 2), (2, 4)]


def test_a_query_of_the_user_reads_files_beside_a_database(hostile):
    secret = Path(hostile).parent / "secret.csv"
    query = f"SELECT a, x FROM orders, '{secret}' WHERE a = 2"
    table = read_table(hostile, query=query)
    assert cells(table) == [(2, 42)]
    with pytest.raises(duckdb.Error):
        table.ask(f"SELECT * FROM read_csv('{secret}')")


def test_a_query_beside_another_source_is_refused(tmp_path):
    refused(written(tmp_path / "a.csv", "a\n1\n"), "--query", query="SELECT 1")


def test_after_reading_the_database_reaches_no_file(tmp_path):
    path = written(tmp_path / "a.csv", "a,b\n1,2\n")
    with pytest.raises(duckdb.Error):
        read_table(path).ask(f"SELECT * FROM read_csv('{path}')")


# --- streams


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes")
def test_a_named_pipe_is_read_once(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(b"a;b\n1;2\n"))
    writer.start()
    assert is_table(str(pipe))
    assert cells(read_table(str(pipe), Dialect(header=True))) == [("1", "2")]
    writer.join()


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_standard_input_is_read_by_its_first_bytes(tmp_path, monkeypatch, kind):
    copied("SELECT '1' AS a, '2' AS b", tmp_path / "a.parquet")
    content = {
        "csv": b"a,b\n1,2\n",
        "json": b'{"a": 1, "b": 2}\n',
        "parquet": (tmp_path / "a.parquet").read_bytes(),
    }
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content[kind])))
    table = read_table("-")
    assert (table.source, table.names, cells(table)) == ("standard input", ("a", "b"), [("1", "2")])


def test_part_of_a_table_reads_its_rows_only(tmp_path):
    table = read_table(written(tmp_path / "a.csv", "a,b\n" + "".join(f"{k},w{k % 3}\n" for k in range(10))))
    part = table.part(4, 8)
    assert len(part) == 4
    assert np.array_equal(part.numbers("try_cast(c0 AS DOUBLE)"), [4, 5, 6, 7])
    assert part.levels(1) == {"w0": 1, "w1": 2, "w2": 1}
    codes, texts = part.coded(1)
    assert [texts[code] for code in codes] == ["w1", "w2", "w0", "w1"]
    assert np.array_equal(part.part(1, 9).numbers("c0::DOUBLE"), [5, 6, 7])


def test_computed_values_equal_those_of_the_expression_row_by_row(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "TOGETHER", 3)
    lines = [f"{k},{'' if k % 5 == 0 else k / 4},w{k % 7}\n" for k in range(5000)]
    path = written(tmp_path / "a.csv", "a,b,c\n" + "".join(lines))
    plain, table = read_table(path), read_table(path)
    values = ["try_cast(c1 AS DOUBLE)", *(f"try_cast(c0 AS DOUBLE) + {k}" for k in range(6))]
    table.compute(values)
    table.part(7, 9).compute_codes([2, 1])  # of all rows
    table.compute([values[3], "1.5::DOUBLE"])
    assert {relation for relation, _ in table.computed.values()} > {"computed0", "computed3", "computed6"}
    table.ask("UPDATE cells SET c0 = 'changed', c1 = 'changed', c2 = 'changed'")  # not read again
    assert table.spans([*values, "c2"]) == [*plain.spans(values), (5000, "changed", "changed")]
    for rows, same in ((table, plain), (table.part(1234, 1250), plain.part(1234, 1250))):
        for value in values:
            np.testing.assert_array_equal(rows.numbers(value), same.numbers(value))
        for column in (1, 2):
            (codes, texts), (wanted, cells) = rows.coded(column), same.coded(column)
            assert [*np.array([*texts, ""])[codes]] == [*np.array([*cells, ""])[wanted]]


def test_json_array_gets_a_hint_about_json_lines(tmp_path):
    array = '[{"a": 1, "b": 2},\n {"a": 3, "b": 4}]\n'
    for name in ("a.json", "a.jsonl"):
        refused(written(tmp_path / name, "\n" + array), "line 2", "JSON array", "one object per line")
    lines = '{"a": 1, "b": 2}\n{"a": 3, "b": 4}\n'
    assert read_table(written(tmp_path / "b.json", lines)).names == ("a", "b")
    (tmp_path / "c").mkdir()
    written(tmp_path / "c" / "rows.csv", "a,b\n1,2\n")
    written(tmp_path / "c" / "about.json", array)  # describes the files of a folder
    assert len(read_table(str(tmp_path / "c"))) == 1


def test_json_array_on_standard_input_gets_the_hint(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'[ {"a": 1}]')))
    refused("-", "JSON array", "one object per line")
