"""Tiled products: accurate to the rounding of a sum, inside C, and the same bits for every partition."""

import ctypes
import importlib
import itertools
import mmap
import os
import subprocess
import sys

import numpy as np
import pytest

from ffnn_gpu.testing import assert_close, tolerance

pytest.importorskip("llvmlite")
matrix_product = importlib.import_module("ffnn_gpu.backends.cpu.loops.matrix_product")
command = importlib.import_module("ffnn_gpu.backends.cpu.recording.commands").command
X86 = importlib.import_module("ffnn_gpu.backends.cpu.loops.intrinsics").X86
partition = importlib.import_module("ffnn_gpu.backends.cpu.recording.partition")
REGISTERS = partition.REGISTER_TILES
GUARD = 7.0  # fills the memory around C, which no product may change


def product(A, B, own=False):
    """Return A B, written into the middle of an array full of GUARD; its chunks copy A if `own`."""
    (M, K), N = A.shape, B.shape[1]
    frame = np.full((M + 2, N + 40), GUARD, A.dtype)
    C = frame[1:-1, 20:-20]
    turned = not B.flags.c_contiguous
    copied = np.full(matrix_product.size_of_strips(M, K) + 40, GUARD, A.dtype)
    strips = copied[20:-20]
    of_A = A.ctypes.data, *A.strides
    end = *(of_A if own else (0, 0, 0)), 0
    factors = strips.ctypes.data, B.ctypes.data, B.strides[turned], turned
    numbers = np.array([*of_A, strips.ctypes.data, M, K])
    of_product = np.array([*factors, C.ctypes.data, C.strides[0], M, N, K, 1, *end])
    for chunk in (2, 0, 1):  # in no order, because no chunk may change another one's strips
        if own:
            command("product", A.dtype).call(None, of_product.ctypes.data, chunk, 3)
        else:
            command("strips", A.dtype).call(None, numbers.ctypes.data, chunk, 3)
    assert (copied[:20] == GUARD).all() and (copied[-20:] == GUARD).all(), (
        "memory outside A's copy was written"
    )
    if not own:
        command("product", A.dtype).call(None, of_product.ctypes.data, 0, 1)
    around = frame.copy()
    around[1:-1, 20:-20] = GUARD
    assert (around == GUARD).all(), "memory outside C was written"
    return C


def operands(M, N, K, dtype, turned, seed=0):
    rng = np.random.default_rng(seed)
    A, B = (rng.normal(size=shape).astype(dtype) for shape in ((M, K), (K, N)))
    return (np.asfortranarray(A) if turned[0] else A), (np.asfortranarray(B) if turned[1] else B)


def require_accurate(C, A, B):
    scale = np.abs(A.astype(np.float64)) @ np.abs(B.astype(np.float64))
    bound = tolerance("product", C.dtype, K=A.shape[1])
    assert_close(
        C, A.astype(np.float64) @ B.astype(np.float64), bound, "product", scale=scale + np.finfo(C.dtype).tiny
    )


@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True), (True, True)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_every_small_shape_are_accurate(dtype, turned):
    for M in (1, 2, 5, 6, 7, 13):
        for N in (2, 3, 15, 16, 17, 31, 33, 47, 64, 65, 130):
            for K in (2, 3, 17, 40):
                A, B = operands(M, N, K, dtype, turned)
                C = product(A, B)
                require_accurate(C, A, B)
                assert product(A, B, own=True).tobytes() == C.tobytes()


def between_guards(array, end):
    """Return a copy at the start or the `end` of memory between two pages that end the process if used."""
    page, size = mmap.PAGESIZE, array.nbytes
    pages = -(-size // page)
    mapped = mmap.mmap(-1, (pages + 2) * page)
    memory = (ctypes.c_char * size).from_buffer(mapped, (pages + 1) * page - size if end else page)
    first = ctypes.addressof(ctypes.c_char.from_buffer(mapped))
    for guard in (first, first + (pages + 1) * page):
        assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(guard), ctypes.c_size_t(page), 0) == 0
    copy = np.frombuffer(memory, array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


@pytest.mark.skipif(os.name != "posix", reason="protects pages of memory")
@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True)], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_memory_around_the_factors_and_the_strips_is_used(dtype, turned):
    for M, N, K, end in itertools.product((1, 7, 40), (1, 10, 33), (1, 9, 16), (False, True)):
        A, B = operands(M, N, K, dtype, (False, False))
        A, B = (
            between_guards(X.T, end).T if t else between_guards(X, end)
            for X, t in zip((A, B), turned, strict=True)
        )
        strips = between_guards(np.zeros(matrix_product.size_of_strips(M, K), dtype), end)
        C = np.zeros((M, N), dtype)
        factors = strips.ctypes.data, B.ctypes.data, B.strides[turned[1]], turned[1]
        sizes = C.ctypes.data, C.strides[0], M, N, K, 1
        numbers = np.array([*factors, *sizes, A.ctypes.data, *A.strides, 0])
        for chunk in range(3):
            command("product", A.dtype).call(None, numbers.ctypes.data, chunk, 3)
        require_accurate(C, A, B)


@pytest.mark.parametrize("turned", [(False, False), (True, False), (False, True)], ids=str)
@pytest.mark.parametrize(
    "shape", [(100, 70, 511), (19, 64, 512), (50, 33, 513), (64, 65, 1025), (7, 129, 3000)], ids=str
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_over_several_depths_are_accurate(dtype, shape, turned):
    A, B = operands(*shape, dtype, turned)
    require_accurate(product(A, B), A, B)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_integers_are_multiplied_exactly(dtype):
    rng = np.random.default_rng(0)
    A, B = rng.integers(-50, 50, (40, 600)), rng.integers(-50, 50, (600, 90))
    np.testing.assert_array_equal(product(A.astype(dtype), B.astype(dtype)), A @ B)


def test_nan_and_infinity_reach_only_their_row_and_column():
    A, B = operands(20, 70, 30, "float32", (False, False))
    A[3, 5], B[7, 66] = np.nan, np.inf
    C = product(A, B)
    assert np.isnan(C[3]).all() and not np.isfinite(C[:, 66]).any()
    assert np.isfinite(np.delete(np.delete(C, 3, axis=0), 66, axis=1)).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_part_of_a_product_equals_the_whole_bit_for_bit(dtype):
    A, B = operands(61, 150, 700, dtype, (False, False))
    whole = product(A, B)
    for top, left in ((0, 64), (6, 0), (12, 32), (5, 128)):
        assert product(A[top:], np.ascontiguousarray(B[:, left:])).tobytes() == whole[top:, left:].tobytes()


@pytest.mark.skipif(not X86, reason="these are features of x86 processors")
@pytest.mark.parametrize("name", ["haswell,+sse2,+avx,+avx2,+fma", "x86-64,+sse2"])
def test_products_for_older_processors_are_accurate(name):
    cpu, _, features = name.partition(",")
    environment = os.environ | {"NUMBA_CPU_NAME": cpu, "NUMBA_CPU_FEATURES": features}
    pytest_options = ["-q", "-p", "no:cacheprovider", __file__, "-k", "small_shape or depths"]
    command = [sys.executable, "-m", "pytest", *pytest_options]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "skipped" not in done.stdout, done.stdout[-2000:]


@pytest.mark.parametrize("threads", [1, 2, 3, 16])
@pytest.mark.parametrize(
    "shape",
    [
        (1024, 512, 784),
        (128, 512, 784),
        (784, 10, 1024),
        (5, 4096, 4096),
        (4096, 5, 4096),
        (300, 300, 300),
        (32, 32, 8),
    ],
    ids=str,
)
def test_grids_split_large_products_evenly_and_small_ones_not_at_all(shape, threads):
    chunks, across = partition.Partition(threads, 4).grid(*shape)
    if threads == 1 or np.prod(shape) < 1 << 18:
        assert (chunks, across) == (1, 1)
    else:
        panels, strips = -(-4 * shape[1] // REGISTERS.panel), -(-shape[0] // REGISTERS.rows)
        assert chunks % across == 0 and across <= panels and chunks // across <= strips
        assert min(threads, panels * strips) <= chunks <= REGISTERS.chunks * threads
        chunk = -(-strips // (chunks // across)) * -(-panels // across)
        most = -(-chunks // threads) * chunk  # tiles of the busiest thread
        assert most <= 1.4 * max(panels * strips / threads, 1)
