"""Each column gets the kind that a reader would give it, with a reason; one bad cell never decides."""

import uuid
from datetime import date, timedelta

import numpy as np
import pyarrow as pa
import pytest

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.columns import Column
from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.embedded_database import connect
from ffnn_gpu.tables.kinds import columns_of
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import Table


def table_of(decimal=".", **columns):
    """Return a table of texts with these cells; None is a missing cell."""
    connection = connect()
    texts = {f"c{k}": pa.array(cells, pa.string()) for k, cells in enumerate(columns.values())}
    connection.register("texts", pa.table(texts))
    connection.execute("CREATE TABLE cells AS SELECT * FROM texts")
    return Table("t.csv", tuple(columns), connection, lambda row: f"line {row + 2}", decimal=decimal)


def typed(query, *names):
    """Return a table whose cells are the result of a query."""
    connection = connect()
    kinds = ", ".join(f"c{k}" for k in range(len(names)))
    connection.execute(f"CREATE TABLE cells AS SELECT * FROM ({query}) AS t({kinds})")
    return Table("t.parquet", names, connection)


def found(table, **decided):
    decisions = Decisions(**decided)
    return {
        column.name: column
        for column in columns_of(table, decisions, Spelling(table.decimal, decisions.missing))
    }


def kind_of(cells, decimal=".", name="a", **decided) -> Column:
    return found(table_of(decimal, **{name: cells}), **decided)[name]


def repeated(*cells, times=30):
    return [cell for _ in range(times) for cell in cells]


def test_plain_numbers_with_missing_cells_are_numbers():
    column = kind_of(["1.5", "-2", "+3", "1E2", "0.07", " 7 ", "", "NA", None])
    assert (column.kind, column.missing) == ("number", 3)
    assert column.reason == "numbers from -2 to 100"


def test_typed_numbers_with_many_infinities_are_no_texts():
    values = "CASE WHEN k % 3 = 0 THEN 'inf'::DOUBLE ELSE k * 0.5 END"
    with pytest.raises(DataError, match="26 of 40 cells are numbers; row 0 holds 'inf'"):
        found(typed(f"SELECT {values} FROM range(40) AS r(k)", "a"))


def test_numbers_with_leading_zeros_are_names():
    column = kind_of(repeated("007", "10", "20"))
    assert (column.kind, column.reason) == ("category", "numbers with leading zeros are names")
    assert kind_of(repeated("007", "10", "20"), number=("a",)).kind == "number"
    assert kind_of(repeated(" 007", "10", "20")).kind == "category"
    assert kind_of(repeated("0", "0.5", "107", "-3", " 20")).kind == "number"
    assert kind_of(repeated("0", "0.5", "-0.5")).kind == "number"


def test_repeated_whole_numbers_are_numbers():
    column = kind_of(repeated("1", "2", "", "nan", "3"))
    assert (column.kind, column.missing, column.reason) == ("number", 60, "numbers from 1 to 3")


@pytest.mark.parametrize("stray", ["1_5", "0x1F", "inf", "1e400", "+-5", "12.5 kg"])
def test_one_bad_cell_among_numbers_is_an_error_that_names_it(stray):
    cells = [f"{k}.5" for k in range(120)]
    cells[75] = stray
    with pytest.raises(DataError) as error:
        kind_of(cells, name="price")
    text = str(error.value)
    assert f"119 of 120 cells are numbers; line 77 holds {stray!r}" in text
    assert "--categorical price" in text and "--missing" in text
    column = kind_of(cells, name="price", missing=(stray,))
    assert (column.kind, column.missing) == ("number", 1)
    assert kind_of(cells, name="price", categorical=("price",)).kind == "category"


def test_the_error_quotes_cells_for_a_shell_and_names_all_such_columns():
    cells = [f"{k}.5" for k in range(60)]
    bad = [*cells[:-1], "12,5 kg"]
    with pytest.raises(DataError) as error:
        found(table_of(**{"a b": bad, "c": cells, "d": bad}))
    text = str(error.value)
    assert """--missing '"12,5 kg"'""" in text and "--categorical 'a b'" in text and "'d'" in text
    assert "'c'" not in text


def test_bad_cells_can_be_kept_as_an_unclear_column():
    table = table_of(a=[*map(str, range(5, 64)), "x"])
    (column,) = columns_of(table, Decisions(), Spelling(), allow_unclear=True)
    assert column.kind == "unclear" and "59 of 60 cells are numbers" in column.reason and not column.is_used


def test_a_level_with_a_sign_among_numbers_is_a_category():
    column = kind_of(repeated(*["1"] * 30, "2", "3+", times=4))
    assert column.kind == "category" and column.levels == {"1": 120, "2": 4, "3+": 4}


def test_decimal_commas_are_numbers_where_the_table_says_so():
    assert kind_of(["1,5", "2,25", "3"], decimal=",").reason == "numbers from 1.5 to 3"


@pytest.mark.parametrize(
    ("write", "sign", "decimal"),
    [
        ("{}.5%", "a percent sign", "."),
        ("${}.25", "a currency sign", "."),
        ("{} €", "a currency sign", "."),
        ("1'{}00", "a thousands separator", "."),
        ("1 {}00,5", "a thousands separator", ","),
        ("{},5", "a decimal comma", "."),
    ],
)
def test_numbers_with_signs_are_an_error_with_a_remedy(write, sign, decimal):
    cells = [*(write.format(k) for k in range(1, 10)), write.format(8)]
    with pytest.raises(DataError, match="line 2 holds") as error:
        kind_of(cells, decimal, name="rate")
    assert sign in str(error.value) and "--drop rate" in str(error.value)
    assert kind_of(cells, decimal, name="rate", categorical=("rate",)).kind == "category"


def test_few_repeated_texts_with_signs_are_a_category():
    assert kind_of(repeated("10%", "20%")).kind == "category"


@pytest.mark.parametrize(
    "cells",
    [
        ("true", "false"), ("True", "FALSE", "true"), ("yes", "NO"), ("T", "f"), ("y", "n", ""),
        ("on", "off"),
        ("True", "False", "1", "0"), ("True", "False", "NA"),
    ],
)  # fmt: skip
def test_two_opposite_words_are_boolean(cells):
    assert kind_of(repeated(*cells)).kind == "boolean"


def test_zeros_and_ones_are_numbers_and_yes_with_maybe_is_a_category():
    assert kind_of(repeated("0", "1")).kind == "number"
    assert kind_of(repeated("yes", "no", "maybe")).kind == "category"


def test_few_booleans_among_ones_and_zeros_are_boolean():
    assert kind_of([*repeated("0", "1"), "True", "False"]).kind == "boolean"


def test_a_category_of_426_levels_in_10_000_rows_stays_one():
    rng = np.random.default_rng(1)
    column = kind_of([f"street {k}" for k in rng.integers(0, 426, 10_000)])
    assert column.kind == "category" and len(column.levels) == 426


@pytest.mark.parametrize(
    "cells",
    [[str(uuid.UUID(int=k)) for k in range(50)], [f"C-{k:04}" for k in range(50)]],
    ids=["uuid", "code"],
)
def test_words_that_never_repeat_are_ids(cells):
    assert kind_of(cells).kind == "id"


def test_sentences_are_text():
    column = kind_of([f"the {k}th customer was satisfied" for k in range(50)])
    assert (column.kind, column.reason) == ("text", "50 different texts in 50 cells")


def test_more_texts_than_a_category_may_have_are_text_or_ids():
    many = 12_000
    assert kind_of([f"word number {k % 11_000}" for k in range(many)]).kind == "text"
    assert kind_of([f"C{k}" for k in range(many)]).kind == "id"


def test_running_numbers_and_numbers_called_id_are_ids():
    assert kind_of([*map(str, range(1, 51))], name="n").reason == "the cells are the row numbers 1, 2, …"
    shuffled = [str(k) for k in np.random.default_rng(0).permutation(50)]
    for name in ("customer_id", "id", "PassengerId", "Unnamed: 0", ""):
        assert kind_of(shuffled, name=name).kind == "id", name
    for name in ("n", "GRID", "paid"):
        assert kind_of(shuffled, name=name).kind == "number", name
    assert kind_of([*map(str, range(1, 51))], name="n", number=("n",)).kind == "number"
    assert kind_of([*map(str, range(50)), "7"], name="id").kind == "number"


def test_constant_and_empty_columns_are_named():
    assert kind_of(["3", "3.0", "3"]).reason == "every cell is 3"
    assert kind_of(["x", " x ", "x"]).reason == "every cell is 'x'"
    assert kind_of(["2024-01-05"] * 9).kind == "constant"
    assert kind_of(["", None, " "]).kind == "empty"
    assert kind_of(["x", "", "x"]).kind == "category" and kind_of(["3", "", "3"]).kind == "number"


def days(n=60):
    return [date(2024, 1, 1) + timedelta(days=k) for k in range(n)]


@pytest.mark.parametrize(
    "written",
    [
        "%Y-%m-%d", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%SZ", "%Y/%m/%d", "%m/%d/%Y",
        "%d/%m/%Y", "%d.%m.%Y", "%d-%m-%Y", "%m-%d-%Y", "%d-%b-%Y", "%d %B %Y", "%B %d, %Y", "%m/%d/%y",
        "%d.%m.%y", "%m/%d/%Y %I:%M %p",
    ],
)  # fmt: skip
def test_days_are_times_in_the_way_they_are_written(written):
    column = kind_of([*(day.strftime(written) for day in days()), ""])
    assert (column.kind, column.written, column.missing, column.note) == ("time", written, 1, "")


@pytest.mark.parametrize("cell", ["2024-05-{:02}T10:00:00+02:00", "2024-05-{:02} 10:00:00.25+00", "10:{:02}"])
def test_zones_and_times_of_day_are_times(cell):
    assert kind_of([cell.format(k) for k in range(1, 29)]).kind == "time"


def test_one_bad_cell_among_times_is_an_error():
    cells = [str(day) for day in days()]
    cells[30] = "soon"
    with pytest.raises(DataError, match="59 of 60 cells are times; line 32 holds 'soon'"):
        kind_of(cells)
    assert kind_of(cells, missing=("soon",)).missing == 1


def test_ambiguous_days_are_read_in_the_order_of_rows_and_else_month_first():
    in_order = [f"{day:02}/{month:02}/2024" for month in (1, 2, 3) for day in (1, 5, 9)]
    column = kind_of(in_order)
    assert column.written == "%d/%m/%Y" and "in order" in column.note
    mixed = ["03/04/2024", "01/02/2024", "12/01/2024", "05/09/2024", "02/11/2024"]
    column = kind_of(mixed)
    assert column.written == "%m/%d/%Y" and "month first" in column.note
    assert kind_of([*mixed, "13/01/2024"]).written == "%d/%m/%Y"


def test_types_of_the_source_decide():
    table = typed(
        "SELECT (k * k)::INTEGER, k * 18446744073709551629::HUGEINT, (k / 8)::DECIMAL(12, 3), k % 2 = 0, "
        "DATE '2024-01-01' + k::INTEGER, TIMESTAMPTZ '2024-01-01 10:00:00+02' + to_days(k::INTEGER), "
        "TIME '10:00:00' + to_minutes(k), uuid(), [k], "
        "('DATE' || k % 3)::VARCHAR::ENUM('DATE0', 'DATE1', 'DATE2'), "
        "CASE WHEN k = 3 THEN 'nan'::DOUBLE WHEN k = 4 THEN NULL ELSE k / 7 END, to_hours(k), "
        "NULL::INTEGER, 5::TINYINT FROM range(7, 67) AS r(k)",
        "int", "huge", "decimal", "bool", "date", "zoned", "clock", "uuid", "list", "enum", "float", "hours",
        "null", "same",
    )  # fmt: skip
    kinds = {name: column.kind for name, column in found(table).items()}
    numbers = dict.fromkeys(["int", "huge", "decimal", "float", "hours"], "number")
    assert kinds == {
        **numbers, "bool": "boolean", "date": "time", "zoned": "time", "clock": "time", "uuid": "id",
        "list": "text", "enum": "category", "null": "empty", "same": "constant",
    }  # fmt: skip


def test_nan_is_missing_and_infinity_is_an_error_in_typed_numbers():
    query = "SELECT CASE k WHEN 3 THEN '{}' {} ELSE k / 7 END::DOUBLE FROM range(60) AS r(k)"
    table = typed(query.format("nan", "WHEN 4 THEN NULL"), "x")
    assert found(table)["x"].missing == 2
    table = typed(query.format("-inf", ""), "x")
    with pytest.raises(DataError, match="59 of 60 cells are numbers; row 3 holds '-inf'"):
        found(table)
    assert found(table, missing=("-inf",))["x"].missing == 1


def test_decisions_are_kept_and_said():
    cells = repeated("1", "2", "3")
    table = table_of(a=cells, b=cells, c=cells, d=cells, e=cells, f=cells)
    columns = found(table, categorical=("a",), drop=("b",), id=("c",), weight="d", group="e", split_by="f")
    assert {name: (column.kind, column.reason) for name, column in columns.items()} == {
        "a": ("category", "--categorical names it"),
        "b": ("dropped", "--drop names it"),
        "c": ("id", "--id names it"),
        "d": ("weight", "--weight names it"),
        "e": ("group", "--group names it"),
        "f": ("number", "numbers from 1 to 3"),
    }


def test_contradictions_and_unknown_columns_are_refused():
    table = table_of(price=["1", "2"], b=["1", "2"])
    with pytest.raises(DataError, match="'price' is named by --number and by --drop"):
        found(table, number=("price",), drop=("price",))
    with pytest.raises(DataError, match=r"--weight: t.csv has no column 'prise'; did you mean 'price'"):
        found(table, weight="prise")


def test_many_columns_are_counted_in_pieces():
    cells = {f"x{k}": [f"{k}.5", "2.25", "7", "5"] for k in range(130)}
    assert {column.kind for column in found(table_of(**cells)).values()} == {"number"}


def test_a_table_without_rows_has_empty_columns():
    assert found(table_of(a=[], b=[]))["a"].kind == "empty"


def test_categorical_holds_for_more_levels_than_a_scan_lists():
    cells = [f"k{k}" for k in range(10_001)] * 2
    assert kind_of(cells).kind == "text"
    column = kind_of(cells, categorical=("a",))
    assert (column.kind, column.reason, len(column.levels)) == ("category", "--categorical names it", 10_001)
