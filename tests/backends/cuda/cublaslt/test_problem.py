"""Arrays that cublasLt can multiply are accepted; others raise an error that names the fault."""

import itertools
from types import SimpleNamespace

import numpy as np
import pytest

from ffnn_gpu.backends.cuda.cublaslt import matmul as cublaslt
from ffnn_gpu.backends.cuda.cublaslt.problem import _operand
from ffnn_gpu.errors import ConfigurationError, ShapeError
from tests.backends.cuda.dense_products import make, matrices


@pytest.fixture
def parts(monkeypatch):
    """Return (CublasLt, FakeCupy, FakeCublasLt)."""
    return make(cublaslt, monkeypatch)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((3, 4), (5, 6), (3, 6)), r"A \(3, 4\) times B \(5, 6\)"),
        (((3, 4), (4, 5), (3, 6)), r"does not fit out \(3, 6\)"),
        (((3, 4), (4,), (3, 1)), r"B is \(4,\)"),
        (((4,), (4, 5), (1, 5)), r"A is \(4,\)"),
        (((3, 4), (4, 5), (15,)), r"out is \(15,\)"),
        (((3, 0), (0, 5), (3, 5)), "is empty"),
        (((3, 4), (4, 0), (3, 0)), "is empty"),
        (((0, 4), (4, 5), (0, 5)), "is empty"),
    ],
)
def test_shapes_that_do_not_match_raise_with_both_shapes(parts, shapes, message):
    with pytest.raises(ShapeError, match=message):
        parts[0].product(*matrices(parts[1], *shapes))


@pytest.mark.parametrize(
    "types",
    [
        ("float32", "float64", "float64"),
        ("float32", "float32", "float64"),
        ("float32",) * 2 + ("float16",),
        ("float16", "bfloat16", "float32"),
        ("float64", "float64", "float32"),
        ("int32",) * 3,
    ],
)
def test_mixed_types_raise(parts, types):
    with pytest.raises(ConfigurationError, match="float32"):
        parts[0].product(*matrices(parts[1], types=types))


def test_unsupported_strides_raise_with_a_hint(parts):
    lt, cupy, _ = parts
    A, B, out = matrices(cupy)
    every_second = cupy.empty((6, 8), "float32")[:, ::2][:3]
    broadcast = cupy.empty((1, 4), "float32")
    broadcast.host = np.broadcast_to(broadcast.host, (3, 4))
    reversed_rows = cupy.empty((3, 4), "float32")[::-1]
    for strange in (every_second, broadcast[:], reversed_rows):
        with pytest.raises(ShapeError, match=r"A \(3, 4\) has strides \(.*copy it into a contiguous array"):
            lt.product(strange, B, out)
    square = cupy.empty((3, 3), "float32")
    with pytest.raises(ShapeError, match=r"B \(4, 3\) has strides"):
        lt.product(A, every_second.T, square)
    with pytest.raises(ShapeError, match="row-major"):
        lt.product(A, B, cupy.empty((5, 3), "float32").T)


def leading_dimensions(rows, columns, row, column):
    """Search every ld of a row-major (rows, columns) matrix of 4-byte elements with these strides."""
    places = {(i, j): i * row + j * column for i in range(rows) for j in range(columns)}
    return [
        ld for ld in range(columns, 16) if all(4 * (i * ld + j) == place for (i, j), place in places.items())
    ]


@pytest.mark.parametrize(("rows", "columns"), list(itertools.product((1, 2, 3), repeat=2)))
def test_exactly_the_matrices_with_a_leading_dimension_are_accepted(rows, columns):
    for row, column in itertools.product(range(-8, 56, 2), repeat=2):
        array = SimpleNamespace(
            shape=(rows, columns),
            strides=(row, column),
            dtype=SimpleNamespace(name="float32", itemsize=4),
            data=SimpleNamespace(ptr=256),
        )
        plain, turned = (
            leading_dimensions(rows, columns, row, column),
            leading_dimensions(columns, rows, column, row),
        )
        if not plain and not turned:
            with pytest.raises(ShapeError):
                _operand(array, "A")
            continue
        found = _operand(array, "A")
        assert found.transposed == (not plain) and found.ld in (plain or turned)
        assert (found.rows, found.columns) == ((columns, rows) if plain else (rows, columns))


def test_vectors_that_do_not_match_raise(parts):
    lt, cupy, _ = parts
    A, B, out = matrices(cupy)
    with pytest.raises(ShapeError, match="the product has 5"):
        lt.product(A, B, out, bias=cupy.empty((4,), "float32"))
    with pytest.raises(ConfigurationError, match="float64"):
        lt.product(A, B, out, bias=cupy.empty((5,), "float64"))
    with pytest.raises(ShapeError, match="stride of 8"):
        lt.product(A, B, out, bias=cupy.empty((10,), "float32")[::2])
    b = cupy.empty((4,), "float32")[::2]
    with pytest.raises(ShapeError, match="stride of 8"):
        lt.product(A, B[:, :2], out[:, :2], bias=b)
    # the stride of a single element does not matter
    assert lt.attempt(A, B[:, :1], out[:, :1], bias=b[:1]) == ""


def test_invalid_combinations_of_epilogues_raise(parts):
    lt, cupy, _ = parts
    A, B, out = matrices(cupy)
    b = cupy.empty((5,), "float32")
    with pytest.raises(ConfigurationError, match="'gelu'"):
        lt.product(A, B, out, epilogue="gelu")  # the exact GELU, with erf
    with pytest.raises(ConfigurationError, match="alone"):
        lt.product(A, B, out, bias=b, bias_gradient=b)
    with pytest.raises(ConfigurationError, match="alone"):
        lt.product(A, B, out, epilogue="relu", bias_gradient=b)
    with pytest.raises(ConfigurationError, match="row-major B"):
        lt.product(A, cupy.empty((5, 4), "float32").T, out, bias_gradient=b)
