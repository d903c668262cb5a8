"""A compiled function returns what Python returns for it, and refuses what it cannot compile."""

import ctypes
import math
from itertools import product

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from ffnn_gpu.backends.cpu.loops.chunks import bounds, command_of, sum_in_order
from ffnn_gpu.backends.cpu.loops.compiled_function import CompiledFunction
from ffnn_gpu.backends.cpu.loops.intrinsics import matrix, vector
from ffnn_gpu.backends.cpu.loops.values import FLOAT64, INT64, CompileError

SCALE = 3


def collatz(n, most):
    """Return the number of steps from n to 1, at most `most`."""
    steps = 0
    while n != 1 and steps < most:
        n = n // 2 if n % 2 == 0 else 3 * n + 1
        steps += 1
    return steps


def first_divisor(n, least):
    """Return the smallest divisor of n from `least` on, from inside two statements."""
    for d in range(least, n + 1):
        if n % d == 0:
            return d
    return 0


def pairs(n, m):
    """Sum over nested loops, with steps, tuples that change, and a function that returns a tuple."""
    total, (low, high) = 0, (0, n)
    for i in range(0, n, 3):
        for j in range(m):
            low, high = high, low + i * j
            total += min(low, high) + max(i, j) if low < high else SCALE
    start, stop = bounds(n, 4, 1, 3)
    return total + stop - start


def logic(n, m):
    return (0 < n < m or n == SCALE) + 2 * (not (n > 1 and m > 1)) + 4 * (n != m and m % (n + 1) == 0)


def constants(n, m):
    """A constant decides an `if`, whose other branch cannot be compiled; others change, so are variables."""
    size, total = SCALE, 0
    if size == 3:
        total += with_constant(n, 2) + with_constant(m, 3)
    else:
        total += [n]
    return total


def with_constant(n, factor):
    step = factor * 2
    while step < n:
        step += factor
    factor = n if factor == 2 else factor
    return step * factor


INTEGERS = (constants, collatz, first_divisor, pairs, logic)
compiled = {f: CompiledFunction(f, INT64, INT64, INT64) for f in INTEGERS}


@pytest.mark.parametrize("function", INTEGERS)
def test_function_of_integers_returns_what_python_returns(function):
    for n, m in product(range(1, 61), repeat=2):
        assert compiled[function](n, m) == function(n, m), (n, m)


def curve(x, n):
    y = -x * x + n / 4
    y -= abs_of(y) ** 2
    return math.sqrt(abs_of(y)) + (1.0 if math.isfinite(x) else 2) + math.log(1 + x * x)


def abs_of(x):
    return x if x >= 0 else -x


compiled_curve = CompiledFunction(curve, FLOAT64, FLOAT64, INT64)


def test_function_of_reals_returns_what_python_returns():
    rng = np.random.default_rng(0)
    for x in (0.0, 0.5, -0.5, 1e6, -1e6, *(rng.normal(size=200) * 10.0 ** rng.integers(-6, 7, 200))):
        for n in (-100, -3, 0, 1, 100):
            assert compiled_curve(x, n) == pytest.approx(curve(x, n), rel=1e-14), (x, n)


def sums(like, n, chunk, chunks):
    """out_r = Σ_c x_rc + the r-th number of a vector of bytes, over rows from 1 on"""
    x, bytes_, out = matrix(like, n[0], n[3], n[4]), vector(np.uint8, n[1], n[3]), vector(like, n[2], n[3])
    rest = x[1:]
    for r in range(len(rest)):
        out[1 + r] = sum_in_order(rest[r]) + bytes_[1 + r]
        rest[r, 0] *= x.dtype.type(2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_command_reads_and_writes_arrays(dtype):
    x = np.random.default_rng(0).normal(size=(5, 7)).astype(dtype)
    of_bytes, out, before = np.arange(251, 256, dtype=np.uint8), np.zeros(5, dtype), x.copy()
    n = np.array([x.ctypes.data, of_bytes.ctypes.data, out.ctypes.data, *x.shape])
    command_of(sums, np.dtype(dtype)).call(None, n.ctypes.data_as(ctypes.c_void_p), 0, 1)
    np.testing.assert_allclose(out[1:], before[1:].sum(1, np.float64) + of_bytes[1:], 1e-6)
    np.testing.assert_array_equal(x[1:, 0], 2 * before[1:, 0])
    assert out[0] == 0 and (x[0] == before[0]).all() and (x[:, 1:] == before[:, 1:]).all()


def over_list(n):
    for x in [n, n]:
        n += x
    return n


def with_text(n):
    return n + "a"


def with_lambda(n):
    return (lambda: n)()


def with_print(n):
    print(n)


def unknown(n):
    return n + undefined  # noqa: F821


REFUSED = {
    over_list: r"over_list has a loop over '\[n, n\]'", with_text: "'a' is no number",
    with_lambda: "with_lambda has 'lambda: n'", with_print: "with_print calls 'print'",
    unknown: "unknown has no value for undefined",
}  # fmt: skip


@pytest.mark.parametrize("function", REFUSED)
def test_what_is_not_in_the_language_is_refused(function):
    with pytest.raises(CompileError, match=REFUSED[function]):
        CompiledFunction(function, INT64, INT64)(1)
