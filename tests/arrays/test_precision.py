"""Operations on 16-bit arrays compute in float32 and round each result once."""

import sys

import ml_dtypes
import numpy as np
import pytest

from ffnn_gpu import ConfigurationError, Network
from ffnn_gpu.arrays.precision import (
    eps,
    floating,
    in_float32,
    is_16_bit,
    is_floating,
    loss_gradient,
    master,
    wide,
)
from ffnn_gpu.nn.layers import Dense
from tests.backends.cuda.kernel_checks import CHECKS, MATRICES, Case

BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
NARROW = [np.dtype(np.float16), BFLOAT16]


def test_master_wide_and_gradient_types_of_each_type():
    for dtype in NARROW:
        assert (
            is_16_bit(dtype)
            and is_floating(dtype)
            and master(dtype) == np.float32
            and wide(dtype) == np.float64
        )
    for name in ("float32", "float64", "complex128", "int16", "uint16"):
        assert not is_16_bit(np.dtype(name)) and master(name) == np.dtype(name)
    assert loss_gradient(np.float16) == np.float32 and loss_gradient(BFLOAT16) == BFLOAT16
    assert [eps(dtype) for dtype in (BFLOAT16, np.float16, np.float32)] == [2**-7, 2**-10, 2**-23]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16", ml_dtypes.bfloat16, BFLOAT16])
def test_backends_compute_in_every_floating_type(backend, dtype):
    assert backend.dtype(dtype) == np.dtype(dtype)


def test_bfloat16_without_ml_dtypes_is_refused_with_advice(backend, monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(ConfigurationError, match="pip install ml_dtypes, or use dtype='float32'"):
        Network(3, [Dense(2)], backend, "bfloat16")
    assert floating("float16") == np.float16


class Counting:
    """Operations whose results reveal a second rounding or a write to a read-only argument."""

    @in_float32("out")
    def sum_of_three(self, x, y, out):
        assert x.dtype == y.dtype == out.dtype == np.float32
        np.add(x, y, out=out)
        out += y
        return out

    @in_float32("x")
    def double(self, x, read_only):
        x *= 2 + 0 * read_only

    @in_float32("out")
    def largest(self, x, out=None):
        return x.max()


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_operation_in_float32_rounds_its_output_once(dtype):
    half_a_unit = eps(dtype) / 2  # if each of two additions to 1 were rounded, the sum would stay 1
    x, y, out = np.ones(3, dtype), np.full(3, half_a_unit, dtype), np.zeros(3, dtype)
    assert Counting().sum_of_three(x, y, out=out) is out
    assert out.astype(float).tolist() == [1 + 2 * half_a_unit] * 3
    assert x.tolist() == [1, 1, 1] and x.dtype == y.dtype == out.dtype == dtype
    assert (
        Counting().sum_of_three(out, y, out) is out
        and out.astype(float).tolist() == [1 + 4 * half_a_unit] * 3
    )


def test_output_that_holds_a_signaling_nan_is_overwritten_silently():
    """NumPy on aarch64 reports this NaN as invalid when it is cast; NumPy on x86-64 does not."""

    class Operations:
        @in_float32("out")
        def double(self, x, out):
            out[...] = 2 * x
            return out

    out = np.full(3, 0x7D00, np.uint16).view(np.float16)
    with np.errstate(all="raise"):
        assert Operations().double(np.ones(3, np.float16), out).tolist() == [2, 2, 2]


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_operation_in_float32_writes_only_its_named_argument(dtype):
    x, other = np.ones(3, dtype), np.ones(3, dtype)
    other.flags.writeable = False
    assert Counting().double(x, other) is None and x.tolist() == [2, 2, 2]
    assert Counting().largest(x).dtype == np.float32


def test_operation_in_float32_does_not_convert_other_types():
    x, out = np.ones(3), np.empty(3)
    with pytest.raises(AssertionError):
        Counting().sum_of_three(x, x, out)


@pytest.mark.parametrize("dtype", NARROW, ids=str)
@pytest.mark.parametrize("factor", [2.0**16, 2.0**-16, 1 / 3])
def test_scaled_multiplies_before_the_rounding(backend, dtype, factor):
    x = np.array([[1e-7, -3.0, 0.5]], np.float32)
    with np.errstate(over="ignore"):
        got = backend.scaled(backend.asarray(x), backend.asarray([factor]), out=backend.empty(x.shape, dtype))
        want = (x * factor).astype(dtype)
    assert np.array_equal(backend.to_host(got), want)


@pytest.mark.parametrize("dtype", NARROW, ids=str)
def test_product_is_rounded_once_to_the_type_of_its_output(backend, dtype):
    A = np.random.default_rng(0).normal(size=(40, 300)).astype(dtype)
    exact = A.astype(np.float64) @ A.T.astype(np.float64)
    for out_dtype, bound in ((np.dtype(np.float32), 1e-5), (dtype, eps(dtype) * 0.51)):
        out = backend.gemm(backend.asarray(A), backend.asarray(A).T, out=backend.empty((40, 40), out_dtype))
        assert (abs(backend.to_host(out).astype(float) - exact) <= bound * abs(exact) + 1e-4).all()


def test_column_sum_of_many_rows_is_not_summed_in_16_bits(backend):
    for dtype in NARROW:
        # A sum in float16 would stop growing at 2048, in bfloat16 at 256.
        A = np.full((100_000, 2), 0.5, dtype)
        out = backend.column_sum(backend.asarray(A), out=backend.empty((2,), np.float32))
        assert backend.to_host(out).tolist() == [50_000] * 2


@pytest.mark.parametrize("size", [(3, 5), (33, 31)], ids=str)
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", [name for name in MATRICES if name != "blend"])  # which CUDA alone has
def test_operation_in_16_bits_is_one_rounding_from_float64(backend, name, dtype, size):
    CHECKS[name](Case(backend, dtype, *size))
