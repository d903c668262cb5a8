"""Each kind of raw column is encoded in ONNX as by its encoder."""

import numpy as np
import pytest

from ffnn_gpu.export.to_onnx.columns import encoded
from ffnn_gpu.export.to_onnx.graph import Graph
from ffnn_gpu.tables.encoders import BooleanEncoder, CodeEncoder, LevelEncoder, NumberEncoder, TimeEncoder
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.frames import table_of
from tests.export.runtime import inputs_of, session

pd = pytest.importorskip("pandas")
NAN = np.nan


def matrices(encoders, frame, missing=()):
    """Return the matrix of ONNX and the matrix of the encoding."""
    encoding = Encoding(tuple(encoders), tuple(each.name for each in encoders), missing)
    graph = Graph((*encoding.read, "out"))
    graph.output("out", encoded(graph, encoding, np.float64), np.float64, len(encoding.outputs))
    run = session(graph.file("columns", {}))
    return run.run(None, inputs_of(frame, run))[0], encoding.encode(table_of(frame), np.float64)


@pytest.mark.parametrize("lacks", [False, True])
@pytest.mark.parametrize("factor", [0.0, 0.25, 1e-300, 1e300])
def test_numbers_are_scaled_and_limited(lacks, factor):
    x = [3.0, NAN, 4.5, -7e5, 1e308, -1e308, 1e-300, 3.0000001]
    with np.errstate(invalid="ignore"):  # of the encoder, where x · factor overflows
        got, want = matrices([NumberEncoder("x", 3.0, factor, lacks)], pd.DataFrame({"x": x}))
    np.testing.assert_allclose(got, want, rtol=1e-15, atol=0)


def test_numbers_that_mean_a_missing_cell_are_missing_but_not_in_times():
    encoders = [
        NumberEncoder("x", 3.0, 0.25, True),
        TimeEncoder("t", NumberEncoder("t", 0.0, 0.1, True), ("day",)),
    ]
    frame = pd.DataFrame({"x": [-999.0, 2.0, NAN, 99.0], "t": pd.to_datetime([-999, 99, 5, None], unit="s")})
    got, want = matrices(encoders, frame, ("-999", "?", "99", "1970-01-01T00:00:05"))
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-15)
    assert want[:, 1].tolist() == [1, 0, 1, 1] and want[:, 3].tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize("periods", [(), ("day",), ("day", "week", "year")])
def test_times_are_seconds_and_places_on_circles(periods):
    t = pd.to_datetime(
        ["1969-12-31 23:00", None, "2024-02-29 12:34:56.789", "1970-01-01", "1850-05-05"], format="ISO8601"
    )
    encoders = [
        TimeEncoder("t", NumberEncoder("t", 1e9, 1e-9, True), periods),
        NumberEncoder("a", 1.0, 2.0, False),
        TimeEncoder("u", NumberEncoder("u", 0.0, 1e-8, False), ("week",)),
    ]
    frame = pd.DataFrame({"t": t, "a": [1, 2, 3, 4, 5.0], "u": t[[0, 0, 3, 2, 4]]})
    got, want = matrices(encoders, frame)
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-15)


@pytest.mark.parametrize("has_others", [False, True])
@pytest.mark.parametrize("lacks", [False, True])
@pytest.mark.parametrize("levels", [("a", "b"), ("1", "2", "x"), ("only",), ("1", "1.0")])
@pytest.mark.parametrize("kind", [LevelEncoder, CodeEncoder])
def test_levels_and_others_and_missing_cells_are_looked_up(kind, levels, lacks, has_others):
    frame = pd.DataFrame({"c": [*levels, *levels[::-1], None, "", "?", "unseen", "\0", "NA", "1.0", "01"]})
    got, want = matrices([kind("c", levels, has_others, lacks)], frame, ("?",))
    np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize("levels", [("false", "true"), ("true",), ("false", "neither", "true")])
def test_booleans_are_read_in_every_spelling(levels):
    words = ["yes", "NO", "True", "FALSE", "t", "F", "on", "Off", "1", "0", "1.0", "0.0", "maybe"]
    frame = pd.DataFrame({"b": [*words, "", None, "NA", "n/a", "None", "-", "?", "gone", "neither"]})
    got, want = matrices([BooleanEncoder("b", levels, False, True)], frame, ("gone",))
    np.testing.assert_array_equal(got, want)


def test_outputs_of_one_name_keep_their_places():
    encoders = [NumberEncoder("x", 0.0, 1.0, True), NumberEncoder("x is missing", 0.0, 1.0, False)]
    frame = pd.DataFrame({"x": [NAN, 1.0], "x is missing": [0.5, 0.25]})
    got, want = matrices(encoders, frame)
    np.testing.assert_allclose(got, want, rtol=1e-15)
