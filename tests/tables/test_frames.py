"""A frame becomes a table cell by cell: the same values, names, order and missing cells."""

import datetime as dt
from decimal import Decimal

import numpy as np
import pytest

from ffnn_gpu.errors import DataError, ShapeError
from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.frames import is_named, table_of
from ffnn_gpu.tables.kinds import columns_of
from ffnn_gpu.tables.spelling import Spelling, as_spelled
from ffnn_gpu.tables.targets import read_target

pytest.importorskip("duckdb")
pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")

NOON = dt.datetime(2024, 3, 1, 12)
BIG = 2**60 + 1
COLUMNS = {  # a column in pandas → its type in the database, and its cells
    "Int64": (pd.array([BIG, None, -1], "Int64"), "BIGINT", [BIG, None, -1]),
    "uint64": (np.array([2**64 - 1, 0, 1], np.uint64), "UBIGINT", [2**64 - 1, 0, 1]),
    "Float64": (pd.array([0.1, None, -0.0], "Float64"), "DOUBLE", [0.1, None, -0.0]),
    "float32": (np.array([0.1, np.nan, np.inf], np.float32), "FLOAT", [float(np.float32(0.1)), None, np.inf]),
    "float16": (np.array([0.1, 1, 2], np.float16), "FLOAT", [float(np.float16(0.1)), 1, 2]),
    "boolean": (pd.array([True, None, False], "boolean"), "BOOLEAN", [True, None, False]),
    "string": (pd.array(["007", None, ""], "string"), "VARCHAR", ["007", None, ""]),
    "category": (pd.Categorical(["lo", None, "hi"]), "VARCHAR", ["lo", None, "hi"]),
    "numbered category": (pd.Categorical([3, None, 1]), "BIGINT", [3, None, 1]),
    "times": (pd.to_datetime([NOON, None, NOON]), "TIMESTAMP", [NOON, None, NOON]),
    "zone": (
        pd.to_datetime([NOON, None, NOON]).tz_localize("America/New_York"),
        "TIMESTAMP",
        [NOON + dt.timedelta(hours=5), None, NOON + dt.timedelta(hours=5)],
    ),
    "durations": (pd.to_timedelta([1.5, None, 60], "s"), "DOUBLE", [1.5, None, 60]),
    "mixed": ([1, "x", None], "VARCHAR", ["1", "x", None]),
    "mixed numbers": ([1, 2.5, float("nan")], "DOUBLE", [1, 2.5, None]),
    "big and fraction": (np.array([BIG, 0.5, None], object), "VARCHAR", [str(BIG), "0.5", None]),
    "beyond int64": (np.array([2**70, None, -1], object), "VARCHAR", [str(2**70), None, "-1"]),
    "decimals": ([Decimal("1.10"), None, Decimal("NaN")], "VARCHAR", ["1.10", None, None]),
    "bools and texts": ([True, "a", 1.0], "VARCHAR", ["true", "a", "1"]),
    "dates": ([dt.date(2024, 3, 1), pd.NaT, None], "DATE", [dt.date(2024, 3, 1), None, None]),
    "dates and times": (
        [dt.date(2024, 3, 1), NOON, None],
        "TIMESTAMP",
        [dt.datetime(2024, 3, 1), NOON, None],
    ),
    "bytes": ([b"a", b"\xff", None], "VARCHAR", ["a", "\\xff", None]),
    "nothing": ([None, None, None], "VARCHAR", [None, None, None]),
    "arrow": (pd.array([BIG, None, 1], pd.ArrowDtype(pa.int64())), "BIGINT", [BIG, None, 1]),
    "zero": (["a\0b", "é", "\U0001f600"], "VARCHAR", ["a\0b", "é", "\U0001f600"]),
}


def cells(table, place):
    return [row[0] for row in table.ask(f"SELECT c{place} FROM cells")]


@pytest.mark.parametrize("name", COLUMNS)
def test_column_of_pandas_keeps_its_cells(name):
    column, kind, wanted = COLUMNS[name]
    table = table_of(pd.DataFrame({"before": [1, 2, 3], name: column}, index=[5, 5, 9]))
    assert table.names == ("before", name) and table.has_names
    assert (table.types[1], cells(table, 1)) == (kind, wanted)
    assert np.signbit(cells(table, 1)[2] or 1) == np.signbit(wanted[2] or 1) if kind == "DOUBLE" else True


def test_columns_of_polars_and_arrow_keep_their_cells():
    frame = pl.DataFrame(
        {
            "i": [BIG, None],
            "b": [None, True],
            "s": ["007", None],
            "e": pl.Series(["hi", None], dtype=pl.Enum(["lo", "hi"])),
            "d": [dt.date(2024, 3, 1), None],
            "z": pl.Series([NOON, None]).dt.replace_time_zone("America/New_York"),
            "m": [Decimal("1.10"), None],
            "l": [[1, 2], None],
            "n": [float("nan"), 0.5],
            "t": [dt.time(1), None],
        }
    )
    wanted = [
        [BIG, None], [None, True], ["007", None], ["hi", None], [dt.date(2024, 3, 1), None],
        [NOON + dt.timedelta(hours=5), None], ["1.10", None], ["[1, 2]", None], [None, 0.5],
        ["01:00:00", None],
    ]  # fmt: skip
    for given in (frame, frame.lazy(), frame.to_arrow()):
        table = table_of(given)
        assert table.names == tuple(frame.columns)
        assert [cells(table, place) for place in range(10)] == wanted
    assert cells(table_of(pl.DataFrame({"i": pl.Series([2**100, None], dtype=pl.Int128)})), 0) == [
        str(2**100),
        None,
    ]


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_times_at_midnight_as_classes_are_the_texts_that_files_hold(unit):
    days = pd.Series(["2024-03-01", None, "2024-03-02"]).astype(f"datetime64[{unit}]")
    table = table_of({"when": days, "y": ["a", "b", "c"]})
    assert table.types[0] == "DATE"
    assert read_target(table, [0], Spelling()).y.tolist() == ["2024-03-01", "2024-03-02"]
    mixed = table_of({"when": days + pd.to_timedelta([0, 0, 1], "h")})
    assert read_target(mixed, [0], Spelling()).y.tolist() == ["2024-03-01 00:00:00", "2024-03-02 01:00:00"]


def test_a_date_as_a_class_is_the_text_that_files_hold():
    days = [dt.date(2024, 3, 1), dt.date(2024, 3, 2), None]
    for given in (pd.DataFrame({"d": days}), pl.DataFrame({"d": days}), pl.DataFrame({"d": days}).to_arrow()):
        assert read_target(table_of(given), [0], Spelling()).y.tolist() == ["2024-03-01", "2024-03-02"]


def test_dicts_of_rows_are_columns_in_the_order_of_their_first_appearance():
    table = table_of([{"b": 1, "a": "x"}, {"c": True, "b": 2.5}])
    assert table.names == ("b", "a", "c")
    assert [cells(table, k) for k in range(3)] == [[1, 2.5], ["x", None], [None, True]]


def test_dicts_of_columns_and_record_arrays_keep_their_cells():
    table = table_of({"a": np.array([1, 2], ">i4"), "b": pd.Series(["x", None]), "c": (1, 2.5)})
    assert [cells(table, k) for k in range(3)] == [[1, 2], ["x", None], [1, 2.5]]
    table = table_of(np.array([(BIG, "é")], [("a", int), ("b", "U3")]))
    assert table.names == ("a", "b") and [cells(table, k) for k in range(2)] == [[BIG], ["é"]]
    with pytest.raises(ShapeError, match="different numbers of rows: 'a' 1, 'b' 2"):
        table_of({"a": [1], "b": [1, 2]})


def test_matrix_of_objects_has_no_names():
    table = table_of([["red", 1.5], ["blue", None]])
    assert not table.has_names and [cells(table, k) for k in range(2)] == [["red", "blue"], [1.5, None]]
    with pytest.raises(ShapeError, match=r"x has shape \(2,\); it must be a matrix"):
        table_of([1, 2])
    assert not is_named([["red"]]) and not is_named(np.ones((2, 2))) and is_named([{"a": 1}])


def test_frame_without_rows_keeps_its_columns():
    for frame in (
        pd.DataFrame({"a": [1], "b": ["x"]}).iloc[:0],
        pl.DataFrame({"a": [1], "b": ["x"]}).head(0),
    ):
        table = table_of(frame)
        assert (len(table), table.names, table.types) == (0, ("a", "b"), ("BIGINT", "VARCHAR"))


def test_text_that_is_no_unicode_is_refused():
    with pytest.raises(DataError, match="the frame holds a text that is no Unicode"):
        table_of({"a": ["\ud800"]})


def test_declared_categories_are_categories_and_keep_their_order():
    sizes = pd.Categorical([3, 1, 2] * 10, [3, 2, 1], ordered=True)
    table = table_of(pd.DataFrame({"size": sizes, "n": np.arange(30) * 1.5}))
    assert table.declared == {0: ("3", "2", "1")}
    kinds = [(column.name, column.kind) for column in columns_of(table, Decisions(), Spelling())]
    assert kinds == [("size", "category"), ("n", "number")]
    assert table_of(pl.DataFrame({"e": pl.Series(["b"], dtype=pl.Enum(["b", "a"]))})).declared == {
        0: ("b", "a")
    }


@pytest.mark.parametrize(
    ("texts", "levels", "found"),
    [
        (["true", "false"], ["False", "True"], ["True", "False"]),
        (["true", "false"], ["0", "1"], ["1", "0"]),
        (["1", "2"], ["1.0", "2.0"], ["1.0", "2.0"]),
        (["7"], ["007"], ["007"]),
        (["7"], ["007", "7"], ["7"]),
        (["7"], ["007", "07"], ["7"]),
        (["red", "1_5", "nan"], ["blue", "15", "NaN"], ["red", "1_5", "nan"]),
    ],
)
def test_values_are_spelled_as_the_levels_of_a_text_file(texts, levels, found):
    assert as_spelled(texts, levels) == found


def test_durations_of_years_and_months_are_seconds():
    table = table_of({"y": np.array([0, 1], "m8[Y]"), "m": np.array([0, 12], "m8[M]")})
    assert [table.numbers(f"c{k}").tolist() for k in range(2)] == [[0.0, 31_556_952.0]] * 2
