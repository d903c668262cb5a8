"""Rows of every kind are encoded in the Python file as by the encoding."""

import datetime as dt

import numpy as np
import pytest

from ffnn_gpu.export.to_numpy import columns
from ffnn_gpu.tables.encoders import BooleanEncoder, CodeEncoder, LevelEncoder, NumberEncoder, TimeEncoder
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.frames import table_of
from ffnn_gpu.tables.iso_times import MIXED, ZONED
from tests.export.models import FRAME, NEW, assert_same_bits, model_of_table

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")
IMPORTS = "import re\nfrom datetime import datetime, timedelta, timezone\nimport numpy as np\n"


@pytest.fixture
def features(imported):
    """Return a function from encoders to (the function `features` of a file with them, their encoding)."""

    def make(encoders, missing=(), names=None):
        encoding = Encoding(tuple(encoders), names or tuple(each.name for each in encoders), missing)
        blocks, tables = columns.source(encoding, np.dtype("float64"))
        return imported("\n\n\n".join((IMPORTS, *blocks)), WEIGHTS=tables).features, encoding

    return make


@pytest.fixture
def assert_encoded(features):
    """Return a function that raises unless encoders encode a frame alike in a file and here."""

    def check(encoders, frame, missing=()):
        encode, encoding = features(encoders, missing)
        assert_same_bits(encode(frame), encoding.encode(table_of(frame), np.float64))

    return check


# ---------------------------------------------------------------- kinds of rows


@pytest.fixture(scope="module")
def model():
    return model_of_table(dtype="float64", device="numpy")


def test_rows_of_every_kind_are_the_same_rows(model, loaded):
    file, want = loaded(model), model.features(NEW)
    lists = {name: column.tolist() for name, column in NEW.items()}
    kinds = {
        "shuffled frame": NEW[[*NEW.columns[::-1]]].assign(more=1),
        "nullable frame": NEW.convert_dtypes(),
        "dict of columns": dict(NEW.items()),
        "dict of lists": lists,
        "list of dicts": NEW.to_dict("records"),
        "polars frame": pl.from_pandas(NEW),
        "pyarrow table": pa.Table.from_pandas(NEW),
    }
    for kind, rows in kinds.items():
        np.testing.assert_array_equal(file.features(rows), want, err_msg=kind)


def test_matrix_is_taken_in_the_order_of_the_training_table(features):
    encoders = [NumberEncoder("b", 1.0, 2.0, True), NumberEncoder("a", 3.0, 0.5, False)]
    encode, encoding = features(encoders, names=("a", "b", "c"))
    x = np.array([[1.0, np.nan, 5.0], [2.0, 3.0, 6.0]])
    for rows in (x, x[:, :2]):
        assert_same_bits(encode(rows), encoding.encode_numbers(rows, np.float64))
    with pytest.raises(ValueError, match=r"rows have shape \(2, 1\); the model reads the columns a, b"):
        encode(x[:, :1])


def test_missing_column_is_named(features):
    encode, _ = features([NumberEncoder("b", 1.0, 2.0, True)])
    with pytest.raises(ValueError, match="rows lack the columns 'b'"):
        encode({"a": [1.0]})


# ---------------------------------------------------------------- kinds of cells


def test_numbers_may_be_texts_and_missing_in_every_spelling(assert_encoded):
    cells = ["1e3", " -7 ", "", None, "NA", "n/a", "gone", "0.1"]
    frame = pd.DataFrame({"x": pd.Series(cells, dtype=object)})
    assert_encoded([NumberEncoder("x", 3.0, 0.25, True)], frame, ("gone",))


def test_number_that_means_a_missing_cell_is_one_in_every_type(assert_encoded):
    encoders = [NumberEncoder("x", 3.0, 0.25, True), NumberEncoder("y", 1.0, 0.5, True)]
    frame = pd.DataFrame({"x": [-999.0, 2.0, np.nan], "y": ["-999.0", " -999 ", "4"]})
    assert_encoded(encoders, frame, ("-999",))
    encoder = TimeEncoder("t", NumberEncoder("t", 0.0, 1e-9, True), ("day",))
    times = pd.to_datetime(["1900-01-01", "2024-05-01", None])
    assert_encoded([encoder], pd.DataFrame({"t": times}), ("1900-01-01",))


@pytest.mark.parametrize("cell", ["12.5 kg", "1_5", "inf", np.inf])
def test_cell_that_is_no_number_is_named(cell, features):
    encode, _ = features([NumberEncoder("x", 3.0, 0.25, True)])
    with pytest.raises(ValueError, match=r"column 'x' holds .*; the model reads (finite )?numbers"):
        encode({"x": [1.0, cell]})


@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_times_of_a_type_are_read(unit, assert_encoded):
    t = np.array(["1969-12-31T23:00", "NaT", "2024-02-29T12:34:56", "1850-05-05"], f"M8[{unit}]")
    encoder = TimeEncoder("t", NumberEncoder("t", 1e9, 1e-9, True), ("day", "year"))
    assert_encoded([encoder], pd.DataFrame({"t": pd.Series(t)}))


def test_times_may_be_objects_with_or_without_a_zone(assert_encoded, features):
    berlin = dt.timezone(dt.timedelta(hours=2))
    encoder = TimeEncoder("t", NumberEncoder("t", 0.0, 1e-9, True), ("day",))
    for cells in (
        [dt.datetime(2024, 5, 6, 7, 8, 9, 10), None],
        [dt.datetime(2024, 5, 6, 7, 8, tzinfo=berlin), None],
        [dt.date(2024, 5, 6), dt.date(1930, 1, 1)],
    ):
        assert_encoded([encoder], pd.DataFrame({"t": pd.Series(cells, dtype=object)}))
    encode, _ = features([encoder])
    seconds = np.array([1714979289.00001, np.nan])
    assert_same_bits(encode({"t": ["2024-05-06T07:08:09.000010", ""]}), encode({"t": seconds}))


@pytest.mark.parametrize(
    ("written", "cells"),
    [
        ("%d.%m.%Y", ["06.05.2024", " 01.02.1999", "", "NaT"]),
        ("%m/%d/%y %I:%M %p", ["05/06/68 07:08 PM", "12/31/69 12:00 AM"]),
        ("%Y-%m-%dT%H:%M:%S%z", ["2024-05-06T07:08:09+0200", "2024-05-06T07:08:09-11:30"]),
        ("%H:%M:%S", ["07:08:09", "23:59:59"]),
        ("%b %d, %Y", ["May 06, 2024"]),
    ],
)
def test_times_are_read_as_the_training_table_wrote_them(written, cells, assert_encoded, features):
    encoder = TimeEncoder("t", NumberEncoder("t", 0.0, 1e-9, True), ("day",), written)
    assert_encoded([encoder], pd.DataFrame({"t": pd.Series(cells, dtype=object)}))
    encode, _ = features([encoder])
    with pytest.raises(ValueError, match="column 't' holds 'yesterday'; the model reads times here"):
        encode({"t": ["yesterday"]})


@pytest.mark.parametrize("kind", [LevelEncoder, CodeEncoder])
@pytest.mark.parametrize(
    "levels", [("1", "2", "x"), ("1.0", "2.0"), ("007", "8"), ("false", "true"), ("1", "1.0")]
)
def test_levels_are_found_in_texts_numbers_and_booleans(kind, levels, assert_encoded):
    encoder = kind("c", levels, True, True)
    for cells in (
        ["1", " 1.0 ", "1.00", "01", "7", "007", "x", "true", "True", "", None, "gone", "NA"],
        [1.0, 2.0, np.nan, 7.0, 2.5],
        np.array([1, 2, 8, 7, 2**60]),
        np.array([True, False]),
        [1, 2, 8, 7, 2**60],
    ):
        assert_encoded([encoder], pd.DataFrame({"c": cells}), ("gone",))


@pytest.mark.parametrize("levels", [("false", "true"), ("true",), ("false", "neither", "true")])
def test_booleans_are_found_in_every_spelling(levels, assert_encoded):
    encoder = BooleanEncoder("b", levels, False, True)
    words = [
        "yes",
        "NO",
        "tRUE",
        "f",
        "On",
        "off",
        "1",
        "0",
        "1.0",
        "1.00",
        "perhaps",
        "neither",
        "",
        "Gone",
        "N/a",
    ]
    for cells in (words, [1, 0], [1.0, np.nan], np.array([True, False]), [True, None]):
        assert_encoded([encoder], pd.DataFrame({"b": cells}), ("Gone",))


def test_frame_of_tests_has_every_kind_of_column(model):
    assert {type(each) for each in model.encoding.encoders} == {
        NumberEncoder, TimeEncoder, LevelEncoder, BooleanEncoder, CodeEncoder,
    }  # fmt: skip
    assert FRAME.isna().any().sum() >= 3


# ---------------------------------------------------------------- how texts are spelled


def test_groups_of_thousands_and_long_tails_are_numbers(assert_encoded):
    frame = pd.DataFrame({"x": ["1,234.50", "-12,345", "7", None, "1e9", "-3"]})
    assert_encoded([NumberEncoder("x", 2.0, 0.1, True, tail=0.25)], frame)


@pytest.mark.parametrize("zone", ["", "Z", "+02:00"])
def test_mixed_ways_of_iso_8601_are_times(features, zone):
    written = ZONED if zone else MIXED
    times = ["2024-01-05T10:00:00", "2024-01-06 23:59:59.5", "2024-02-29T00:00:01.125"]
    frame = pd.DataFrame({"t": [*(time + zone for time in times), None]})
    encoders = [TimeEncoder("t", NumberEncoder("t", 1.7e9, 1e-6, True), ("day",), written)]
    encode, encoding = features(encoders)
    assert_same_bits(encode(frame), encoding.encode(table_of(frame), np.float64))
    with pytest.raises(ValueError, match=r"holds .* the model reads times here"):
        encode({"t": [times[0] + ("" if zone else "Z")]})


@pytest.mark.parametrize("markers", [(), ("NA", "None")])
def test_markers_of_missing_levels_are_those_of_the_encoding(imported, markers):
    encoding = Encoding((LevelEncoder("a", ("NA", "b"), True, True),), ("a",), ("gone",), markers)
    blocks, tables = columns.source(encoding, np.dtype("float64"))
    encode = imported("\n\n\n".join((IMPORTS, *blocks)), WEIGHTS=tables).features
    frame = pd.DataFrame({"a": ["NA", "b", "None", "gone", None, "c"]})
    assert_same_bits(encode(frame), encoding.encode(table_of(frame), np.float64))
