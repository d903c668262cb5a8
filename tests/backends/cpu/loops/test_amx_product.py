"""Products in AMX's tiles: as accurate as those in register tiles, and equal to these at the limits."""

import importlib
import itertools
import os

import numpy as np
import pytest

from tests.backends.cpu.loops.test_matrix_product import (
    GUARD,
    between_guards,
    command,
    matrix_product,
    operands,
    partition,
    require_accurate,
)

amx_product = importlib.import_module("ffnn_gpu.backends.cpu.loops.amx_product")
amx_tiles = importlib.import_module("ffnn_gpu.backends.cpu.loops.amx_tiles")
pytestmark = pytest.mark.skipif(not amx_tiles.available(), reason="this processor or system has no AMX")
TURNED = [(False, False), (True, False), (False, True), (True, True)]
F = np.dtype(np.float32)


def register_product(A, B):
    """Return A B by the command that computes what AMX's tiles cannot."""
    (M, K), N, turned = A.shape, B.shape[1], not B.flags.c_contiguous
    C, strips = np.zeros((M, N), F), np.zeros(matrix_product.size_of_strips(M, K), F)
    factors = strips.ctypes.data, B.ctypes.data, B.strides[turned], turned
    of_A = A.ctypes.data, *A.strides
    numbers = np.array([*factors, C.ctypes.data, C.strides[0], M, N, K, 1, *of_A, 0])
    command("product", F).call(None, numbers.ctypes.data, 0, 1)
    return C


def product(A, B, pieces=3, own=True, grid=(3, 3)):
    """Return A B, written into the middle of an array full of GUARD, in chunks down and across.

    own: whether each chunk copies A.
    """
    (M, K), N, turned = A.shape, B.shape[1], not B.flags.c_contiguous
    name, (down, across) = {3: "amx", 1: "amx_bfloat16"}[pieces], grid
    frame = np.full((M + 2, N + 40), GUARD, F)
    C = frame[1:-1, 20:-20]
    copied = np.full(amx_product.size_of_amx_strips(M, K, pieces) + 128, 7, np.uint8)
    strips, of_A = copied[64:-64].ctypes.data, (A.ctypes.data, *A.strides)
    numbers = np.array([*of_A, strips, M, K])
    if not own:
        for chunk in (2, 0, 1):
            command(f"{name}_strips", F).call(None, numbers.ctypes.data, chunk, 3)
    assert (copied[:64] == 7).all() and (copied[-64:] == 7).all(), "memory outside A's copy was written"
    factors = 0 if own else strips, B.ctypes.data, B.strides[turned], turned
    otherwise = command("product", F).address
    of_C = C.ctypes.data, C.strides[0]
    numbers = np.array([*factors, *of_C, M, N, K, across, *of_A, otherwise, 0])
    for chunk in reversed(range(down * across)):
        command(f"{name}_product", F).call(None, numbers.ctypes.data, chunk, down * across)
    around = frame.copy()
    around[1:-1, 20:-20] = GUARD
    assert (around == GUARD).all(), "memory outside C was written"
    return C


def bfloat16(array):
    """Return the numbers cut off after the bits of bfloat16."""
    order = "C" if array.flags.c_contiguous else "F"
    return (array.view(np.uint32) & np.uint32(0xFFFF0000)).view(F).copy(order)


@pytest.mark.parametrize("pieces", [3, 1])
@pytest.mark.parametrize("turned", TURNED, ids=str)
def test_products_of_every_small_shape_are_accurate_for_every_grid(turned, pieces):
    for M, N, K in itertools.product((1, 15, 16, 33, 70), (1, 2, 17, 32, 65), (1, 3, 16, 31, 32, 50)):
        A, B = operands(M, N, K, F, turned)
        if pieces == 1:
            A, B = bfloat16(A), bfloat16(B)
        C = product(A, B, pieces)
        require_accurate(C, A, B)
        assert product(A, B, pieces, own=False, grid=(1, 2)).tobytes() == C.tobytes()


@pytest.mark.parametrize("turned", TURNED, ids=str)
def test_products_over_several_blocks_and_groups_are_accurate_for_every_grid(turned):
    for shape in ((290, 300, 40), (64, 65, 1100), (40, 33, 513)):
        A, B = operands(*shape, F, turned)
        C = product(A, B, grid=(1, 1))
        require_accurate(C, A, B)
        assert product(A, B, grid=(2, 1)).tobytes() == C.tobytes()
        assert product(A, B, own=False, grid=(1, 3)).tobytes() == C.tobytes()


@pytest.mark.skipif(os.name != "posix", reason="protects pages of memory")
@pytest.mark.parametrize("turned", TURNED, ids=str)
def test_no_memory_around_the_factors_is_used(turned):
    for M, N, K, end in itertools.product((1, 20, 40), (1, 33), (1, 9, 40), (False, True)):
        A, B = operands(M, N, K, F, (False, False))
        A, B = (
            between_guards(X.T, end).T if t else between_guards(X, end)
            for X, t in zip((A, B), turned, strict=True)
        )
        require_accurate(product(A, B, grid=(1, 1)), A, B)


def test_errors_are_no_larger_than_those_in_registers():
    rng = np.random.default_rng(1)
    for K in (2, 20, 128, 512, 2000):
        A, B = rng.normal(size=(64, K)).astype(F), rng.normal(size=(K, 64)).astype(F)
        B[K // 2 :] = -(A[:, K // 2 :].T @ A[:, : K // 2]) @ B[: K // 2] / K  # most of the sums cancel
        exact = A.astype(np.float64) @ B.astype(np.float64)
        errors = [abs(C - exact) for C in (product(A, B, grid=(1, 1)), register_product(A, B))]
        scale = abs(A).astype(np.float64) @ abs(B).astype(np.float64)
        ours, theirs = ((each / scale).mean() for each in errors)
        assert ours <= 1.1 * theirs, (K, ours / theirs)


def test_integers_are_multiplied_exactly():
    rng = np.random.default_rng(0)
    A, B = rng.integers(-1000, 1000, (40, 600)), rng.integers(-50, 50, (600, 90))
    A[:, 300:] //= 100
    sums = A @ B
    assert abs(sums).max() < 1 << 24
    np.testing.assert_array_equal(product(A.astype(F), B.astype(F)), sums)


LARGEST = np.finfo(F).max
SPECIAL = {
    "infinite": (np.inf, 1.0),
    "minus infinite": (1.0, -np.inf),
    "NaN": (np.nan, 1.0),
    "infinite and 0": (np.inf, 0.0),
    "largest": (LARGEST, 1.0),
    "minus largest": (-0.5, -LARGEST),
    "overflowing": (2.0**70 * (2 - 2.0**-10), 2.0**70),  # h is 2 ** 71, and m is negative
    "overflowing only in h h": (2.0**63 * (2 - 2.0**-10), 2.0**63 * (2 - 2.0**-10)),
    "denormal": (1e-40, 1.0),
    "tiny": (1e-44, 1e30),
    "tiny, the other": (1e30, 2.0**-149),
    "denormal product": (1e-20, 1e-20),
    "underflowing": (1e-25, 1e-25),
}


# Whose l is denormal; the second one is rounded up to a power of 2.
SMALL = {
    "denormal l": 1.2345678e-33,
    "denormal l, largest h": float(np.nextafter(F.type(2.0**-103), F.type(0))),
}


@pytest.mark.parametrize("pieces", [3, 1])
@pytest.mark.parametrize("name", SPECIAL)
def test_units_with_special_numbers_equal_those_in_registers(name, pieces):
    A, B = (np.full(shape, 0, F) for shape in ((70, 40), (40, 70)))
    A[::7], B[:, ::5] = 1.5, -0.75
    A[40, 3], B[3, 40] = np.array(SPECIAL[name], F)
    found, want = product(A, B, pieces), register_product(A, B)
    unit = slice(32, 64), slice(32, 64)
    np.testing.assert_array_equal(found[unit], want[unit])
    np.testing.assert_allclose(found, want, rtol=2.0**-22)


@pytest.mark.parametrize("name", SMALL)
def test_small_numbers_are_whole_if_their_products_are_not_small(name):
    A, B = np.zeros((40, 40), F), np.full((40, 40), 1.1e30, F)
    A[5, 3] = SMALL[name]
    np.testing.assert_array_equal(product(A, B), register_product(A, B))


def test_rows_and_columns_of_very_different_sizes_are_accurate():
    rng = np.random.default_rng(2)
    A, B = rng.normal(size=(96, 50)), rng.normal(size=(50, 80))
    A = (A * 10.0 ** rng.integers(-30, 31, (96, 1))).astype(F)
    B = (B * 10.0 ** rng.integers(-8, 9, (1, 80))).astype(F)
    C = product(A, B)
    with np.errstate(over="ignore", invalid="ignore"):
        want = register_product(A, B)
    assert (np.isfinite(C) == np.isfinite(want)).all()
    finite = np.isfinite(want)
    scale = abs(A).astype(np.float64) @ abs(B).astype(np.float64) + np.finfo(F).tiny
    error = abs(C.astype(np.float64) - A.astype(np.float64) @ B.astype(np.float64)) / scale
    assert error[finite].max() <= 1e-6


def test_numbers_that_are_not_bfloat16_are_not_rounded():
    A, B = operands(40, 40, 40, F, (False, False))
    assert product(A, B, pieces=1).tobytes() == register_product(A, B).tobytes()


def test_part_of_a_product_equals_the_whole_bit_for_bit():
    A, B = operands(100, 150, 700, F, (False, False))
    A[40, 600], B[600, 100] = np.inf, 1e-42
    whole = product(A, B)
    for top, left in ((0, 64), (32, 0), (64, 96)):
        assert product(A[top:], np.ascontiguousarray(B[:, left:])).tobytes() == whole[top:, left:].tobytes()


@pytest.mark.parametrize("kind", [partition.AMX_TILES, partition.AMX_BFLOAT16_TILES], ids=["3", "1"])
@pytest.mark.parametrize("threads", [1, 2, 3, 16])
def test_grids_give_every_thread_work_and_no_chunk_too_few_panels(threads, kind):
    for M, N, K in ((1024, 512, 784), (128, 512, 784), (784, 40, 1024), (4096, 4096, 64), (300, 300, 300)):
        chunks, across = partition.Partition(threads, 4).grid(M, N, K, kind)
        panels, strips = -(-4 * N // kind.panel), -(-M // kind.rows)
        assert chunks % across == 0 and chunks // across <= strips and chunks <= kind.chunks * threads
        assert across == 1 or panels >= kind.wide * across
        chunk = -(-strips // (chunks // across)) * -(-panels // across)
        assert -(-chunks // threads) * chunk <= 2 * max(panels * strips / threads, kind.wide)
