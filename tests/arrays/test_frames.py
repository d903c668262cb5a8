"""Frames, series and sparse matrices are the numbers that they hold; other cells are refused by name."""

import subprocess
import sys
from decimal import Decimal
from pathlib import Path

import numpy as np
import pytest

import ffnn_gpu
from ffnn_gpu import Adam, Dense, Network, evaluate, fit, softmax_cross_entropy
from ffnn_gpu.arrays.boundary import host_array, rows_of
from ffnn_gpu.arrays.frames import cells_of, frame_of, labels_of
from ffnn_gpu.errors import DataError, ShapeError

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")
sparse = pytest.importorskip("scipy.sparse")

X = np.random.default_rng(0).normal(size=(60, 3))
Y = (X[:, 0] > 0).astype(int)
NUMBERS = pd.DataFrame(X, columns=list("abc"), index=np.arange(60) * 7 % 60)


def network():
    return Network(3, [Dense(2)], "numpy", "float64")


FRAMES = {
    "pandas": NUMBERS,
    "bool beside float": NUMBERS.assign(c=NUMBERS.a > 0),
    "nullable float": NUMBERS.astype("Float64"),
    "nullable integer": (10 * NUMBERS).round().astype("Int64"),
    "nullable boolean": (NUMBERS > 0).astype("boolean"),
    "objects": NUMBERS.astype(object),
    "decimals": NUMBERS.map(lambda value: Decimal(f"{value:.3f}")),
    "arrow in pandas": NUMBERS.astype(pd.ArrowDtype(pa.float64())),
    "sparse columns": NUMBERS.clip(lower=0).astype(pd.SparseDtype(float, 0)),
    "numbered columns": pd.DataFrame(X),
    "columns of one name": NUMBERS.set_axis(["a", "a", "b"], axis=1),
    "polars": pl.DataFrame(X, schema=["a", "b", "c"]),
    "lazy polars": pl.LazyFrame(X, schema=["a", "b", "c"]),
    "polars decimals": pl.DataFrame(X, schema=["a", "b", "c"]).cast(pl.Decimal(10, 3)),
    "arrow": pa.table({name: X[:, k] for k, name in enumerate("abc")}),
    "arrow of one name": pa.table([*X.T], names=["a", "a", "b"]),
    "columns": {name: X[:, k] for k, name in enumerate("abc")},
    "dicts": [dict(zip("abc", row, strict=True)) for row in X.tolist()],
}


def values(frame):
    """Return the numbers of a frame by means of its own library."""
    if isinstance(frame, dict):
        return np.column_stack([*frame.values()])
    if isinstance(frame, list):
        return np.array([[*row.values()] for row in frame])
    if isinstance(frame, pl.LazyFrame):
        frame = frame.collect()
    columns = (
        [frame.iloc[:, k].tolist() for k in range(3)]
        if isinstance(frame, pd.DataFrame)
        else [column.to_pylist() for column in frame.columns]
        if isinstance(frame, pa.Table)
        else [column.to_list() for column in frame.get_columns()]
    )
    return np.array([[*map(float, column)] for column in columns]).T


@pytest.mark.parametrize("name", FRAMES)
def test_frame_of_numbers_is_trained_predicted_and_evaluated_as_its_matrix(name):
    frame, matrix = FRAMES[name], values(FRAMES[name])
    found, wanted = network(), network()
    for net, x in ((found, frame), (wanted, matrix)):
        fit(net, softmax_cross_entropy, Adam(), (x, Y), epochs=2, seed=1, validation=0.2, verbose=0)
    np.testing.assert_array_equal(found.predict(frame), wanted.predict(matrix))
    assert evaluate(found, softmax_cross_entropy, (frame, Y)) == evaluate(
        wanted, softmax_cross_entropy, (matrix, Y)
    )


def test_type_of_a_frame_is_the_one_its_columns_have_in_common():
    assert host_array(NUMBERS.astype("float32").assign(c=True)).dtype == np.float32
    assert host_array(pd.DataFrame({"a": [1], "b": [2**60 + 1]})).tolist() == [[1, 2**60 + 1]]
    assert host_array(pd.DataFrame({"a": [True]})).dtype == bool


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (["red"] * 60, "column 'c', row 0 holds 'red', a str; a network reads numbers"),
        ([1.0] * 59 + ["x"], "column 'c', row 59 holds 'x', a str"),
        (pd.Categorical(["red"] * 60), "column 'c', row 0 holds 'red', a str"),
        (pd.date_range("2020-01-01", periods=60), "column 'c'(, row 0 holds Timestamp| holds datetime64)"),
        ([1j] * 60, "column 'c', row 0 holds 1j, a complex"),
        (pd.array([1, None, 3] * 20, "Int64"), r"column 'c', row 1 is missing \(20 of 60 cells are\)"),
        ([True, None] * 30, r"column 'c', row 1 is missing \(30 of 60 cells are\)"),
        ([0.5, np.nan] * 30, r"column 'c', row 1 is missing \(30 of 60 cells are\)"),
    ],
)
def test_cell_that_is_no_number_is_refused_by_column_and_row(column, message):
    frame = NUMBERS.reset_index(drop=True).assign(c=column)
    for given in (frame, frame.to_dict("list")):
        with pytest.raises(DataError, match=message):
            network().predict(given)
    with pytest.raises(DataError, match=message):
        fit(network(), softmax_cross_entropy, Adam(), (frame, Y), epochs=1, verbose=0)


def test_null_of_polars_and_arrow_is_a_missing_cell():
    for frame in (pl.DataFrame({"a": [1, None]}), pa.table({"a": [1, None]})):
        with pytest.raises(DataError, match=r"column 'a', row 1 is missing"):
            host_array(frame)


def test_columns_of_different_lengths_are_refused_with_both_numbers():
    with pytest.raises(ShapeError, match="different numbers of rows: 'a' 2, 'b' 3"):
        host_array({"a": [1, 2], "b": [1, 2, 3]})


@pytest.mark.parametrize(
    "y",
    [
        pd.Series(Y, index=NUMBERS.index),
        pd.Series(Y).astype("Int64"),
        pd.Series(Y).astype("category"),
        pl.Series(Y),
        pl.Series(Y, dtype=pl.Int8),
        pa.chunked_array([Y]),
    ],
)
def test_targets_may_be_a_series_or_a_column(y):
    wanted = evaluate(network(), softmax_cross_entropy, (X, Y))
    assert evaluate(network(), softmax_cross_entropy, (NUMBERS, y)) == wanted


@pytest.mark.parametrize(
    ("y", "labels"),
    [
        (pd.Series(pd.Categorical(["lo", "hi"], ["lo", "hi"], ordered=True)), ["lo", "hi"]),
        (pl.Series(["lo", "hi"], dtype=pl.Enum(["lo", "hi"])), ["lo", "hi"]),
        (pd.Series(pd.Categorical([7, 3])), [7, 3]),
        (pd.Series(["a\0", "a"]), ["a\0", "a"]),
        (pd.Series([2**63, -1]), [2**63, -1]),
        (pd.Series([True, False], dtype="boolean"), [True, False]),
        (pd.DataFrame({"y": ["a", "b"]}), [["a"], ["b"]]),
        (pd.DataFrame({"y": [1, 2], "z": [0.5, 1.0]}), [[1, 0.5], [2, 1.0]]),
    ],
)
def test_labels_of_a_series_are_its_values(y, labels):
    assert labels_of(y).tolist() == labels


def test_missing_target_is_refused_with_its_row():
    with pytest.raises(DataError, match=r"y, row 2 is missing \(1 of 3 cells are\)"):
        labels_of(pd.Series(["a", "b", None]))
    with pytest.raises(DataError, match=r"column 'kind', row 1 is missing"):
        labels_of(pd.Series(["a", None], name="kind"))


def test_names_and_cells_are_those_of_the_frame():
    frame = frame_of(pd.DataFrame({"b": [1], 7: ["x"], ("m", 1): [None]}))
    assert frame.names == ("b", "7", "('m', 1)") and frame.has_names
    assert not frame_of(pd.DataFrame([[1, 2]])).has_names
    assert [cells_of(column).tolist() for column in frame.columns] == [[1], ["x"], [None]]
    for other in (X, [1, 2], X.tolist(), "text", 5, None, [], pd.Series([1])):
        assert frame_of(other) is None


@pytest.mark.parametrize("kind", ["csr_matrix", "csc_matrix", "coo_array", "csr_array"])
def test_sparse_matrix_is_trained_and_predicted_as_its_dense_matrix(kind):
    dense = np.where(X > 0, X, 0)
    given = getattr(sparse, kind)(dense)
    found, wanted = network(), network()
    for net, x in ((found, given), (wanted, dense)):
        fit(net, softmax_cross_entropy, Adam(), (x, Y), epochs=2, seed=1, validation=0.2, verbose=0)
    np.testing.assert_array_equal(found.predict(given), wanted.predict(dense))


def test_sparse_matrix_is_dense_one_block_at_a_time(monkeypatch):
    import tracemalloc

    wide = sparse.random_array((20_000, 3), density=0.01, rng=0, format="csr")
    wide = sparse.hstack([wide, sparse.csr_array((20_000, 2_000))], format="csr")
    net = Network(wide.shape[1], [Dense(2)], "numpy")
    tracemalloc.start()
    net.predict(wide, batch_size=64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < wide.shape[0] * wide.shape[1] * 8 / 10


def test_error_in_a_sparse_matrix_shows_its_place():
    broken = sparse.csr_array(np.where(np.arange(180).reshape(60, 3) == 100, np.inf, X))
    with pytest.raises(DataError, match=r"x holds 1 values that are not finite; .* at index \(33, 1\)"):
        network().predict(broken)
    with pytest.raises(ShapeError, match="x has 2 columns; layer 0 of this network reads 3"):
        network().predict(sparse.csr_array(X[:, :2]))
    with pytest.raises(DataError, match=r"a sparse csr_array can be x only; pass csr_array.toarray\(\)"):
        evaluate(network(), softmax_cross_entropy, (X, sparse.csr_array(Y[:, None])))
    assert rows_of(sparse.csr_array(X)).shape == (60, 3)


def test_import_of_the_package_imports_no_library_of_frames():
    names = ("narwhals", "pandas", "polars", "pyarrow", "duckdb", "scipy")
    code = (
        "import sys, numpy as np, ffnn_gpu as f\n"
        "f.Network(2, [f.Dense(1)], 'numpy').predict(np.zeros((3, 2)))\n"
        f"sys.exit(' '.join(n for n in {names} if n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0 or done.stderr.strip() in ("", "scipy"), done.stderr
    assert ffnn_gpu.__version__


NO_COLUMNS = {
    "a number": 1.0,
    "a text": "red",
    "bytes": b"red",
    "a scalar of NumPy": np.float64(1),
    "an array of no dimension": np.array(1.0),
    "a matrix": np.ones((2, 2)),
    "a dict": {"x": 1},
    "a set": {1, 2},
    "a generator": (k for k in range(3)),
    "nothing": None,
}


@pytest.mark.parametrize("kind", NO_COLUMNS)
def test_value_that_is_no_column_is_refused_with_its_name(kind):
    with pytest.raises(DataError, match=r"column 'b' (is|has shape) .*pass a list of values"):
        frame_of({"a": [1, 2, 3], "b": NO_COLUMNS[kind]})


def test_path_is_no_array():
    for given in (Path("rows.npy"), "rows.npy"):
        with pytest.raises(DataError, match=r"'rows.npy' is a text or a path; pass its rows"):
            host_array(given)
