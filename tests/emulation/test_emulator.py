"""The emulator passes correct kernels in every order, reports planted bugs, and computes what CUDA defines.

The emulator cannot detect:

- the GPU's own arithmetic: contraction to fma, fast-math and its intrinsics' errors, flushed denormals,
  tensor cores;
- PTX, `mma.sync`, `ldmatrix`, cp.async, TMA, which need a second body under CUDA_ON_CPU;
- speed, registers, spills, bank conflicts, occupancy, stack size;
- a missing fence on the reading side, L1 and L2 visibility, `volatile`, `__restrict__` pointers that alias;
- blocks that wait for each other (grid synchronisation) and loops that only read: such a kernel times out;
- an overrun from one `__shared__` array into the next through a pointer (indices of declared arrays are
  checked), or within the bytes that overlapping arguments share;
- errors in memcpy and memset, in a struct that a lambda or `__noinline__` function returns into memory or
  takes by value from it, and in pointers stored in memory;
- reads of global memory that nobody wrote: fill outputs with NaN before the launch.

It refuses some legal code on purpose, because such code is usually a bug:

- several threads that write the same value;
- warp collectives whose mask names lanes that returned or do not exist;
- a barrier after some threads returned;
- 16-bit arithmetic that is not done in float;
- a write to a place that several blocks have read, even if atomics order it.

It follows barriers, __syncwarp with any mask, fences and atomics ("the last block reduces").
"""

import math
import re
from itertools import pairwise

import cuda_build
import emulator
import feature_kernels
import mutants
import numpy as np
import pytest
from emulator import ORDERS, RawModule

rng = np.random.default_rng(0)
i32, f32 = np.int32, np.float32


def nan(*shape):
    return np.full(shape, np.nan, f32)


def random(*shape):
    return rng.standard_normal(shape).astype(f32)


def same(got, want, tolerance=0.0):
    np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


# --- launches of known result
def run_scale(kernel, n=131):
    x, y = random(n), nan(n)
    kernel((3,), (16,), (x, y, f32(3), i32(n)))
    same(y, 3 * x)


def run_row_sum(kernel, rows=5, cols=45):
    x, y = random(rows, cols), nan(rows, 2)
    kernel((3,), (64,), (x, y, i32(rows), i32(cols)))
    same(y, np.stack([x.sum(1), x.mean(1)], 1), 1e-5)


def run_transpose(kernel, rows=13, cols=10):
    x, y = random(rows, cols), nan(cols, rows)
    kernel((2, 2), (8, 8), (x, y, i32(rows), i32(cols)))
    same(y, x.T)


def run_matmul(kernel, m=13, k=19, n=9):
    a, b, c = random(m, k), random(k, n), nan(m, n)
    kernel((2, 2), (8, 8), (a, b, c, i32(m), i32(k), i32(n)))
    same(c, a @ b, 1e-5)


def run_total(kernel, n=300, block=64):
    x, partial, count, out = np.arange(n, dtype=f32), nan(5), np.zeros(1, np.uint32), nan(1)
    kernel((5,), (block,), (x, partial, count, out, i32(n)), shared_mem=4 * block)
    same(out, x.sum())
    assert count[0] == 0


def run_count(kernel, n=70, classes=10):
    label, counts = rng.integers(0, classes, n).astype(i32), np.zeros(classes, i32)
    label[0] = classes - 1
    kernel((3,), (32,), (label, counts, i32(n), i32(classes)))
    same(counts, np.bincount(label, minlength=classes))


def run_pair(kernel):
    x, y = random(64), nan(64)
    kernel((1,), (64,), (x, y))
    same(y, x.reshape(-1, 2)[:, ::-1].ravel() - x)


RUN = {
    "scale": run_scale,
    "row_sum": run_row_sum,
    "transpose": run_transpose,
    "matmul": run_matmul,
    "total": run_total,
    "count": run_count,
    "pair": run_pair,
}


@pytest.fixture(scope="module")
def variants():
    return RawModule(mutants.variants(), seconds=0.3)


@pytest.fixture(scope="module")
def fast():
    return RawModule("\n".join(mutants.KERNELS.values()), check=False)


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: f"{order[0]}{order[1]}")
@pytest.mark.parametrize("name", mutants.KERNELS)
def test_correct_kernel_passes_in_every_order_of_both_builds(name, order, variants, fast):
    for module in (variants, fast):
        module.schedule(order)
        RUN[name](module.get_function(name))


@pytest.mark.parametrize(
    "index", range(len(mutants.MUTANTS)), ids=[m.name.replace(" ", "_") for m in mutants.MUTANTS]
)
def test_planted_bug_is_reported_in_thread_order(index, variants):
    mutant = mutants.MUTANTS[index]
    variants.schedule(ORDERS[0])
    errors = tuple(
        AssertionError if e == "wrong" else getattr(emulator, f"Kernel{e}Error")
        for e in mutant.error.split("|")
    )
    with pytest.raises(errors) as caught:
        RUN[mutant.kernel](variants.get_function(f"mutant_{index}_{mutant.kernel}"))
    assert mutant.error == "wrong" or re.search(r" line \d+", str(caught.value))


def test_a_launch_after_a_failed_one_starts_clean(variants):
    index = next(i for i, m in enumerate(mutants.MUTANTS) if m.error == "Divergence")
    for _ in range(2):
        with pytest.raises(emulator.KernelDivergenceError):
            RUN["row_sum"](variants.get_function(f"mutant_{index}_row_sum"))
        run_row_sum(variants.get_function("row_sum"))


def test_a_race_is_reported_with_both_lines_and_both_threads():
    kernel = RawModule("""
extern "C" __global__ void k(float* y) {
  if (threadIdx.x % 2)
    y[1] = 1.f;
  else
    y[0] = y[1];
}""").get_function("k")
    told = r"k: race on byte 4 of argument 0 .*: a write .* line 4 .* the read at line 6 "
    told += r"by thread 0 .*thread \(1,0,0\)\]"
    with pytest.raises(emulator.KernelRaceError, match=told):
        kernel((1,), (2,), (nan(4),))
    with pytest.raises(emulator.KernelRaceError, match=r"line 6 .* line 6 by another block"):
        kernel((2,), (1,), (nan(4),))


# --- the meaning of CUDA's constructs
@pytest.fixture(scope="module", params=["checked", "fast"])
def features(request):
    options = ("-DWIDTH=3", "--std=c++17", "--use_fast_math")
    return RawModule(feature_kernels.FEATURES, options, check=request.param == "checked")


@pytest.mark.parametrize("dtype", ["float", "double"])
def test_fmax_and_fmin_drop_nan_and_order_zeros(features, dtype):
    T = {"float": f32, "double": np.float64}[dtype]
    x, y = np.array([np.nan, 1, -0.0, 0.0, 2, np.nan], T), np.array([1, np.nan, 0.0, -0.0, 3, np.nan], T)
    z = np.zeros((6, 4), T)
    features.get_function(f"choose_{dtype}")((1,), (32,), (x, y, z, i32(6)))
    want = np.array([[1, 1], [1, 1], [0.0, -0.0], [0.0, -0.0], [3, 2], [np.nan, np.nan]], T)[:, [0, 1, 0, 1]]
    same(z, want)
    assert np.array_equal(np.signbit(z[2:4]), np.signbit(want[2:4]))


def test_mathematical_functions_agree_with_numpy(features):
    x = np.concatenate([random(95) * 3, np.array([np.nan, np.inf, -np.inf, 0.0], f32)])
    y = nan(x.size, 12)
    features.get_function("unary")((4,), (32,), (x, y, i32(x.size)))
    d, a = x[:95].astype(float), np.abs(x[:95].astype(float))
    erfc = np.vectorize(math.erfc)
    want = [
        np.exp(d),
        np.exp(d),
        np.log(a),
        np.log1p(a),
        np.expm1(d),
        np.tanh(d),
        erfc(d),
        0.5 * erfc(-d / 2**0.5),
        a**0.5,
        a**-0.5,
        d * d + 1,
        0 * d + 2,
    ]
    same(y[:95], np.stack(want, 1), 2e-6)
    assert y[95:, 11].tolist() == [1, 3, 3, 2]


def test_integer_intrinsics_agree_with_python(features):
    x, f = rng.integers(0, 2**32, 17, dtype=np.uint64).astype(np.uint32), random(16)
    y, wide = np.zeros((16, 3), np.uint32), np.zeros(16, np.uint64)
    features.get_function("integers")((1,), (16,), (x, y, f, wide))
    products = [a * b for a, b in pairwise(x.tolist())]
    assert y[:, 0].tolist() == [p >> 32 for p in products]
    assert y[:, 1].tolist() == f.view(np.uint32).tolist()
    bits = [v.bit_count() + 32 - v.bit_length() for v in x[:16].tolist()]
    assert y[:, 2].tolist() == (np.tile([2 + 1, 3 + 2, 5 + 3, 7 + 4], 4) + bits).tolist()
    assert wide.tolist() == products


def bfloat16_bits(x):
    u = x.view(np.uint32).astype(np.uint64)
    return np.where(np.isnan(x), 0x7FFF, (u + 0x7FFF + (u >> 16 & 1)) >> 16).astype(np.uint16)


def test_floats_round_to_16_bits_as_ieee_says(features):
    spread = random(4000) * np.exp2(rng.uniform(-40, 20, 4000)).astype(f32)
    ties = np.arange(0x33000000, 0x48000000, 0x1000, dtype=np.uint32).view(f32)[::64]
    x = np.concatenate([spread, ties, np.array([0.0, -0.0, 65519, 65520, np.inf, -np.inf], f32)])
    h, b = np.zeros(x.size, np.float16), np.zeros(x.size, np.uint16)
    features.get_function("narrow")((-(-x.size // 32),), (32,), (x, h, b, i32(x.size)))
    with np.errstate(over="ignore"):
        want = x.astype(np.float16)
    assert np.array_equal(h.view(np.uint16), want.view(np.uint16))
    assert np.array_equal(b, bfloat16_bits(x))


def test_every_16_bit_float_widens_exactly(features):
    bits = np.arange(65536, dtype=np.uint32).astype(np.uint16)
    from_half, from_bfloat16 = nan(65536), nan(65536)
    features.get_function("widen")((64,), (1024,), (bits.view(np.float16), bits, from_half, from_bfloat16))
    same(from_half, bits.view(np.float16).astype(f32))
    same(from_bfloat16, (bits.astype(np.uint32) << 16).view(f32))


def test_vector_loads_and_stores_move_whole_vectors(features):
    d, a = rng.standard_normal((8, 2)), rng.integers(-9, 9, (8, 4)).astype(i32)
    u = a.view(np.uint32).copy()
    x, b, v = np.zeros_like(d), np.zeros_like(a), np.zeros((8, 2), np.uint32)
    features.get_function("vectors")((1,), (8,), (d, a, u, x, b, v))
    same(x, d[:, ::-1])
    same(b, a[:, ::-1])
    same(v, u.reshape(8, 2, 2).sum(2, dtype=np.uint32))


def test_shuffles_and_votes_follow_the_manual(features):
    y, t = np.zeros((64, 8), i32), np.arange(64)
    features.get_function("lanes")((1,), (64,), (y,))
    lane, warp = t % 32, t // 32 * 32
    assert y[:, 0].tolist() == (warp + (lane ^ 5)).tolist()
    assert y[:, 1].tolist() == np.where(lane + 3 < 32, t + 3, t).tolist()
    assert y[:, 2].tolist() == np.where(lane >= 3, t - 3, t).tolist()
    assert y[:, 3].tolist() == (warp + 7).tolist()
    assert y[:, 4].tolist() == np.where(t % 8 + 3 < 8, t + 3, t).tolist()
    votes = [sum(1 << j for j in range(32) if (w + j) % 3 == 0) for w in (0, 32)]
    assert y[:, 5].view(np.uint32).tolist() == [votes[v // 32] for v in t]
    assert y[:, 6].tolist() == (warp == 32).tolist()
    assert y[:, 7].tolist() == (t ^ 1).tolist()


@pytest.mark.parametrize("order", ORDERS, ids=lambda order: f"{order[0]}{order[1]}")
def test_atomics_count_and_a_lock_protects(features, order):
    features.schedule(order)
    a, u, w, f = np.zeros(7, i32), np.zeros(1, np.uint32), np.zeros(1, np.uint64), np.zeros(1, f32)
    features.get_function("atomics")((3,), (40,), (a, u, w, f))
    assert a.tolist() == [120, -120, 119, -119, 255, 0, sum(range(120))]
    assert (u[0], w[0], f[0]) == (120 % 7, 120 << 33, 60)


def test_indices_cover_three_dimensions(features):
    y = np.full((2 * 3 * 2, 4 * 3 * 2), -1, i32)
    features.get_function("indices")((2, 3, 2), (4, 3, 2), (y,))
    same(y, 1000 * np.arange(12)[:, None] + np.arange(24))


def test_fences_before_the_barrier_let_the_last_block_read(features):
    partial, count, out = nan(4 * 32), np.zeros(1, i32), nan(1)
    for order in ORDERS:
        features.schedule(order)
        count[:] = 0
        features.get_function("everyone_fences")((4,), (32,), (partial, count, out))
        same(out, 128)


def test_overlapping_arrays_stay_one_memory(fast, variants):
    for module in (fast, variants):
        base = random(40)
        want = 2 * base[:20]
        module.get_function("scale")((1,), (32,), (base[:20], base[:20], f32(2), i32(20)))
        same(base[:20], want)


def test_view_at_an_odd_element_is_misaligned(variants):
    x, y = random(20), nan(20)
    with pytest.raises(emulator.KernelAlignmentError, match="16 bytes"):
        variants.get_function("scale")((1,), (32,), (x[1:], y, f32(2), i32(19)))


def test_null_is_a_pointer_and_options_reach_the_kernel(features):
    seen, byte, wide = np.ones(1, bool), np.zeros(1, np.uint8), np.zeros(1, np.int64)
    for null in (None, 0):
        features.get_function("optional")((1,), (1,), (null, seen, byte, wide, np.int64(1 << 40)))
        assert (bool(seen[0]), byte[0], wide[0]) == (False, 200, 3 << 40)


def test_a_null_pointer_or_a_wild_one_is_an_error_of_either_build(features):
    expected = (emulator.KernelBoundsError, emulator.KernelCrashError)
    with pytest.raises(expected):
        features.get_function("follow")((1,), (1,), (None, nan(1)))
    with pytest.raises(expected):
        features.get_function("wild")((1,), (1,), (np.zeros(4, i32), i32(1 << 29)))


def test_a_write_just_outside_an_array_is_an_error_of_either_build(features):
    for i in (-1, 4):
        with pytest.raises(emulator.KernelBoundsError):
            features.get_function("wild")((1,), (1,), (np.zeros(4, i32), i32(i)))


def test_a_stack_that_overflows_is_a_crash_of_either_build(features):
    kernel, n = features.get_function("deep"), i32(1 << 17)
    with pytest.raises(emulator.KernelCrashError):
        kernel((1,), (1,), (np.zeros(1, i32), n))


def test_unwritten_shared_memory_is_nan_in_the_fast_build_and_an_error_in_the_checked(features):
    y, kernel = np.zeros(2, f32), features.get_function("shared_garbage")
    if features.check:
        with pytest.raises(emulator.KernelUninitializedError):
            kernel((1,), (1,), (y,))
    else:
        kernel((1,), (1,), (y,))
        assert np.isnan(y[1])


# --- every construct is covered
@pytest.fixture(scope="module")
def statements():
    return RawModule(feature_kernels.statements())


@pytest.mark.parametrize("name", feature_kernels.STATEMENTS)
def test_every_form_of_load_and_store_is_watched(name, statements):
    kernel, x, y = statements.get_function(f"{name}_"), random(8), random(8)
    with pytest.raises(emulator.KernelRaceError, match="argument 1"):
        kernel((1,), (32,), (x, y))
    with pytest.raises(emulator.KernelBoundsError, match="argument 0"):
        kernel((2,), (32,), (x[:0], y))


# --- refusals
ARGUMENTS = {
    "Python_float_for_a_scalar": lambda x, y: (x, y, 2.0, i32(4)),
    "Python_int_for_a_scalar": lambda x, y: (x, y, f32(2), 4),
    "scalar_of_another_dtype": lambda x, y: (x, y, f32(2), np.int64(4)),
    "array_of_another_dtype": lambda x, y: (x.astype(np.float64), y, f32(2), i32(4)),
    "array_for_a_scalar": lambda x, y: (x, y, np.full(1, 2, f32), i32(4)),
    "scalar_for_an_array": lambda x, y: (f32(1), y, f32(2), i32(4)),
    "one_argument_too_few": lambda x, y: (x, y, f32(2)),
    "strided_array": lambda x, y: (x[::2], y, f32(2), i32(4)),
    "transposed_array": lambda x, y: (x.reshape(2, 8).T, y, f32(2), i32(4)),
    "null_scalar": lambda x, y: (x, y, None, i32(4)),
    "address": lambda x, y: (x.ctypes.data, y, f32(2), i32(4)),
    "read_only_output": lambda x, y: (x, np.broadcast_to(f32(0), (1,)), f32(2), i32(1)),
}


@pytest.mark.parametrize("case", ARGUMENTS)
def test_argument_that_does_not_fit_is_refused(case, fast):
    with pytest.raises(emulator.KernelArgumentError, match="scale"):
        fast.get_function("scale")((1,), (32,), ARGUMENTS[case](random(16), nan(16)))


@pytest.mark.parametrize(
    ("grid", "block", "shared"),
    [
        ((0,), (32,), 0),
        ((1,), (0,), 0),
        ((1, 0), (32,), 0),
        ((1,), (1025,), 0),
        ((1,), (1, 1, 65), 0),
        ((1, 65536), (1,), 0),
        ((1,), (32,), 48 * 1024 + 1),
        ((1,), (32,), -1),
    ],
)
def test_launch_no_gpu_would_take_is_refused(grid, block, shared, features):
    with pytest.raises(emulator.KernelLaunchError):
        features.get_function("dynamic")(grid, block, (nan(1), i32(1)), shared)


def test_launch_bounds_limit_the_block(fast):
    with pytest.raises(emulator.KernelLaunchError, match="at most 64"):
        fast.get_function("scale")((1,), (65,), (random(4), nan(4), f32(1), i32(4)))


def test_more_shared_memory_needs_the_opt_in(features):
    kernel, y, n = features.get_function("dynamic"), nan(1), 25 * 1024
    with pytest.raises(emulator.KernelLaunchError, match="max_dynamic"):
        kernel((1,), (1024,), (y, i32(n)), shared_mem=4 * n)
    kernel.max_dynamic_shared_size_bytes = 4 * n
    kernel((1,), (1024,), (y, i32(n)), shared_mem=4 * n)
    same(y, n - 1)
    kernel.max_dynamic_shared_size_bytes = 1 << 20
    with pytest.raises(emulator.KernelLaunchError):
        kernel((1,), (32,), (y, i32(1)), shared_mem=228 * 1024)


def test_text_that_does_not_compile_is_refused_with_its_line():
    with pytest.raises(emulator.KernelCompileError, match=r"kernels\.cu:2.*__no_such_intrinsic"):
        RawModule('extern "C" __global__ void k(float* y) {\n  y[0] = __no_such_intrinsic(1);\n}')
    with pytest.raises(emulator.KernelCompileError, match="uninitialized"):
        RawModule('extern "C" __global__ void k(float* y) {\n  float sum; sum += y[0]; y[0] = sum;\n}')
    with pytest.raises(emulator.KernelCompileError, match=r"deleted|ambiguous"):
        RawModule('extern "C" __global__ void k(__half* y) {\n  y[0] = y[0] + y[1];\n}')
    with pytest.raises(emulator.KernelCompileError, match="--no-such-option"):
        RawModule("", options=("--no-such-option",))


def test_unknown_kernel_is_refused_by_name(fast):
    known = "'nothing'; this module has scale, row_sum"
    with pytest.raises(emulator.KernelCompileError, match=known):
        fast.get_function("nothing")


def test_a_text_is_built_once(fast, monkeypatch):
    monkeypatch.setattr(cuda_build, "_gpp", lambda *arguments: pytest.fail("compiled again"))
    RawModule("\n".join(mutants.KERNELS.values()), check=False)


def test_absence_of_a_compiler_skips_or_fails_without_compiler(monkeypatch):
    monkeypatch.setattr(cuda_build.shutil, "which", lambda name: None)
    monkeypatch.setattr(cuda_build.platform, "system", lambda: "Linux")
    monkeypatch.setattr(cuda_build.platform, "machine", lambda: "x86_64")
    monkeypatch.delenv(emulator.REQUIRE, raising=False)
    with pytest.raises(pytest.skip.Exception, match=r"needs g\+\+"):
        emulator.require()
    monkeypatch.setenv(emulator.REQUIRE, "1")
    with pytest.raises(pytest.fail.Exception, match=emulator.REQUIRE):
        emulator.require()
