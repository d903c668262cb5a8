"""A compiled loop equals NumPy's evaluation for every shape, layout and number of chunks."""

import ctypes
import gc

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from llvmlite import ir

from ffnn_gpu.arrays.precision import floating
from ffnn_gpu.backends.cpu.loops.formulas import slots
from ffnn_gpu.backends.elementwise import compiled_loop
from ffnn_gpu.backends.elementwise.compiled_loop import CompiledLoop, Loop, compiled
from ffnn_gpu.backends.elementwise.expression import FUNCTIONS, SPECIAL, evaluate
from ffnn_gpu.backends.elementwise.lanes import STORED
from ffnn_gpu.backends.elementwise.loop_code import LoopCode
from ffnn_gpu.backends.elementwise.trace import MODULE, operate, rounded
from tests.backends.elementwise.run import run

DTYPES = [np.float32, np.float64]
EDGES = np.array([0, -0.0, 1, -1, 0.5, 1e-30, -1e-30, 3e38, np.inf, -np.inf, np.nan])
PAIRS = ("power", "arctan2", "hypot", "copysign", "fmod", "minimum", "maximum", "add", "sub", "mul", "div")
REGISTERS = [16, 32, 64]


def same(got, expected, ulps):
    eps = np.finfo(expected.dtype).eps
    np.testing.assert_allclose(
        got, expected, ulps * eps, ulps * np.finfo(expected.dtype).tiny, equal_nan=True
    )


def mixed(x, y, b, w, t, dtype=np.float32):
    """Two results and two sums that use operands with all axes."""
    s = x * w + b
    return {"out": MODULE.where(s > 0, s, y * t), "y": y - s}, [s, y * y]


AXES = {"x": "both", "y": "both", "b": "columns", "w": "rows", "t": "value", "out": "both"}
PROGRAM = lambda x, y, b, w, t, out: mixed(x, y, b, w, t)  # noqa: E731


@pytest.mark.parametrize("register", REGISTERS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("rows", "columns"), [(1, 1), (5, 1), (1, 33), (3, 16), (4, 10), (2, 67), (7, 31), (0, 4)]
)
def test_loop_with_all_kinds_of_operands(rows, columns, dtype, register):
    code = CompiledLoop(Loop.of(dtype, AXES, PROGRAM), register)
    rng = np.random.default_rng(rows * 100 + columns)
    whole = rng.normal(size=(3, rows, columns + 5)).astype(dtype)
    x, y, out = whole[:, :, 2 : 2 + columns]  # rows with gaps
    b, w, t = rng.normal(size=columns).astype(dtype), rng.normal(size=rows).astype(dtype), 0.25
    untouched = whole.copy()
    s = x * w[:, None] + b
    expected = np.where(s > 0, s, y * dtype(t)), y - s
    sums = s.sum(dtype=np.float64), (y.astype(np.float64) ** 2).sum()
    total = np.zeros(2)
    words = [rows, columns, *slots(code, x=x, y=y, b=b, w=w, t=t, out=out), total[:1], total[1:]]
    memory = np.array([word(value) for value in words])
    code.call(None, word(memory), 0, 1)
    near = {"rtol": 0, "atol": 8 * np.finfo(dtype).eps}  # a b + c may be rounded once
    np.testing.assert_allclose(out, expected[0], **near)
    np.testing.assert_allclose(y, expected[1], **near)
    np.testing.assert_allclose(total, sums, 20 * np.finfo(dtype).eps, 1e-6)
    untouched[1:, :, 2 : 2 + columns] = whole[1:, :, 2 : 2 + columns]
    np.testing.assert_array_equal(whole, untouched)  # nothing else was written


def word(value):
    if isinstance(value, np.ndarray):
        return value.__array_interface__["data"][0]
    return int(np.float64(value).view(np.int64)) if isinstance(value, float) else int(value)


@pytest.mark.parametrize(("rows", "columns"), [(1, 100), (1, 5), (9, 20), (64, 3)])
@pytest.mark.parametrize("chunks", [1, 2, 3, 8])
def test_chunks_together_do_the_whole_and_each_writes_its_sum(rows, columns, chunks):
    code = compiled(Loop.of(np.float32, {"x": "both"}, lambda x: ({"x": x + 1}, [x])))
    x = np.random.default_rng(0).normal(size=(rows, columns)).astype(np.float32)
    expected, sums = x + 1, np.full(chunks, np.nan)
    total = x.sum(dtype=np.float64)
    memory = np.array([word(v) for v in (rows, columns, *slots(code, x=x), sums)])
    for chunk in range(chunks):
        code.call(None, word(memory), chunk, chunks)
    np.testing.assert_array_equal(x, expected)
    assert sums.sum() == pytest.approx(total, rel=1e-12)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", [*FUNCTIONS, *SPECIAL, *PAIRS[5:]])
def test_every_operation_is_numpys(name, dtype):
    rng = np.random.default_rng(1)
    with np.errstate(over="ignore"):
        x = np.concatenate([EDGES, rng.normal(0, 3, 500), rng.uniform(-1, 1, 100)]).astype(dtype)
    y = rng.permutation(x)
    pair = name in PAIRS
    program = (
        (lambda x, y, out: {"out": operate(name, x, y)})
        if pair
        else (lambda x, y, out: {"out": operate(name, x)})
    )
    out = np.empty_like(x)
    loop = Loop.of(dtype, {"x": "both", "y": "both", "out": "both"}, program)
    run(compiled(loop), 1, len(x), x=x, y=y, out=out)
    import math

    special = {"erf": np.vectorize(math.erf, otypes=[dtype]), "erfc": np.vectorize(math.erfc, otypes=[dtype])}
    with np.errstate(all="ignore"):
        expected = evaluate(loop.stores["out"], {"x": x, "y": y}, special)
    # sin, cos and tan of 3e38 need more digits than some libraries have
    fits = np.abs(x) < 1e30 if name in ("sin", "cos", "tan") else np.full(len(x), True)
    same(out[fits], expected[fits], 8)


@pytest.mark.parametrize("name", ["maximum", "minimum"])
@pytest.mark.parametrize("constant", [None, 0.0, 1.5])
def test_extremes_of_nan_are_nan(name, constant):
    nan = np.float32([np.nan, 1, np.nan, -2])
    other = np.float32([1, np.nan, np.nan, 3])
    for turned in (False, True):

        def program(x, y, out, turned=turned):
            second = y if constant is None else constant
            return {"out": operate(name, second, x) if turned else operate(name, x, second)}

        out = np.empty_like(nan)
        axes = {"x": "both", "y": "both", "out": "both"}
        run(compiled(Loop.of(np.float32, axes, program)), 1, 4, x=nan, y=other, out=out)
        expected = getattr(np, name)(nan, other if constant is None else np.float32(constant))
        np.testing.assert_array_equal(out, expected)


DIFFERENCES = {  # of equal products, which is 0
    "same": lambda x, y: x * x - x * x,
    "other order": lambda x, y: x * y - y * x,
    "negative": lambda x, y: x * y + -(y * x),
    "negative first": lambda x, y: -(y * x) + x * y,
    "used elsewhere": lambda x, y: x * x - MODULE.maximum(x * x, 0),
    "stored elsewhere": lambda x, y: MODULE.where(x * x - y > 2, x * x, 0) - x * x * (x * x - y > 2),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", DIFFERENCES)
def test_difference_of_equal_products_is_zero(name, dtype):
    x, y = np.random.default_rng(0).normal(size=(2, 100)).astype(dtype)
    out, formula = np.ones_like(x), DIFFERENCES[name]
    axes = {"x": "both", "y": "both", "out": "both"}
    loop = Loop.of(dtype, axes, lambda x, y, out: {"out": formula(x, y)})
    run(compiled(loop), 1, len(x), x=x, y=y, out=out)
    np.testing.assert_array_equal(out, np.zeros_like(x))


def test_single_product_in_a_sum_is_rounded_once():
    code = LoopCode(
        ir.Module(), "block", AXES, Loop.of(np.float64, AXES, PROGRAM).stores, (), register=REGISTERS[0]
    )
    assert "fmuladd" in str(code.function)


LOGIC = {
    "not": lambda xp, x, y: xp.where(xp.logical_not(x), 1.5, x),
    "and": lambda xp, x, y: xp.where(xp.logical_and(x, y > 0), x, -y),
    "or": lambda xp, x, y: xp.where(xp.logical_or(x > 1, y), x, -1),
    "xor": lambda xp, x, y: xp.where(xp.logical_xor(x, y), x, y),
    "truth": lambda xp, x, y: xp.logical_and(x, y),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", LOGIC)
def test_logic_of_numbers_is_numpys(name, dtype):
    x, y = (axis.reshape(-1).astype(dtype) for axis in np.meshgrid([0, -0.0, 1, -2, np.nan], [0, 3, np.nan]))
    out, formula = np.empty_like(x), LOGIC[name]
    axes = {"x": "both", "y": "both", "out": "both"}
    loop = Loop.of(dtype, axes, lambda x, y, out: {"out": formula(MODULE, x, y)})
    run(compiled(loop), 1, len(x), x=x, y=y, out=out)
    np.testing.assert_array_equal(out, formula(np, x, y).astype(dtype))


@pytest.mark.parametrize("constant", [2, 1.5, True, np.float64(3)])
def test_constant_is_written_to_every_element(constant):
    out = np.zeros((3, 20), np.float32)
    run(compiled(Loop.of(np.float32, {"out": "both"}, lambda out: {"out": constant})), 3, 20, out=out)
    np.testing.assert_array_equal(out, np.full_like(out, constant))


def test_deep_formula_is_compiled():
    def program(x):
        for k in range(1000):
            x = x * 0.5 + k
        return {"x": x}

    x = np.ones(20)
    run(compiled(Loop.of(np.float64, {"x": "both"}, program)), 1, 20, x=x)
    np.testing.assert_allclose(x, np.full(20, program(np.float64(1))["x"]), 1e-12)


def test_loops_requested_last_are_kept(monkeypatch):
    monkeypatch.setattr(compiled_loop, "_compiled", {})
    monkeypatch.setattr(compiled_loop, "MOST", 3)
    monkeypatch.setattr(compiled_loop, "CompiledLoop", lambda loop: object())

    def request(factor):
        return compiled(Loop.of(np.float32, {"x": "both"}, lambda x: {"x": x * factor}))

    first, second = request(2), request(3)
    for factor in (4, 5, 6):
        assert request(2) is first
        request(factor)
    assert len(compiled_loop._compiled) == 3
    assert request(2) is first and request(3) is not second


def test_code_of_a_loop_that_is_no_longer_kept_can_be_called():
    """A recorded step has its address only."""
    code = CompiledLoop(Loop.of(np.float32, {"x": "both"}, lambda x: {"x": x * 77}))
    command = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2)(code.address)
    x = np.ones(20, np.float32)
    memory = np.array([word(value) for value in (1, 20, *slots(code, x=x))])
    del code
    gc.collect()
    command(None, word(memory), 0, 1)
    np.testing.assert_array_equal(x, np.full(20, 77, np.float32))


def test_equal_loops_are_compiled_once():
    first = compiled(Loop.of(np.float32, {"x": "both"}, lambda x: {"x": x * 3 + 1}))
    assert compiled(Loop.of(np.float32, {"x": "both"}, lambda x: {"x": MODULE.add(x * 3, 1)})) is first
    assert compiled(Loop.of(np.float64, {"x": "both"}, lambda x: {"x": x * 3 + 1})) is not first


def test_number_is_read_from_its_address_in_each_call():
    code = compiled(Loop.of(np.float32, {"x": "both", "t": "address"}, lambda x, t: {"x": x * t}))
    x, t = np.ones(20, np.float32), np.array([2.0])
    run(code, 1, 20, x=x, t=t)
    t[0] = 3
    run(code, 1, 20, x=x, t=t)
    np.testing.assert_array_equal(x, np.full(20, 6, np.float32))


# ---------------------------------------------------------------------- numbers stored in 16 bits


def bits_of(array):
    """Return the bits, one pattern for all NaN."""
    kind = {2: np.uint16, 4: np.uint32}[array.itemsize]
    return np.where(np.isnan(array.astype(np.float32)), kind(0xFFFF), array.view(kind))


@pytest.mark.parametrize("register", REGISTERS)
@pytest.mark.parametrize("stored", STORED)
def test_every_16_bit_number_is_widened_exactly(stored, register):
    loop = Loop.of(np.float32, {"x": stored, "out": "both"}, lambda x, out: {"out": x})
    x, out = np.arange(1 << 16, dtype=np.uint16).view(floating(stored)), np.zeros(1 << 16, np.float32)
    memory = np.array([word(v) for v in (1, x.size, *slots(CompiledLoop(loop, register), x=x, out=out))])
    CompiledLoop(loop, register).call(None, word(memory), 0, 1)
    with np.errstate(invalid="ignore"):  # of signalling NaN
        np.testing.assert_array_equal(bits_of(out), bits_of(x.astype(np.float32)))


@pytest.mark.parametrize("register", REGISTERS)
@pytest.mark.parametrize("stored", STORED)
def test_numbers_are_rounded_to_the_nearest_and_ties_to_even(stored, register):
    """Between any two neighbours: the middle, and the float32 numbers beside it."""
    patterns = np.arange(1 << 16, dtype=np.uint16).view(floating(stored))
    with np.errstate(all="ignore"):
        x = patterns.astype(np.float32)
        middle = (x + np.roll(x, -1)) / 2
        x = np.concatenate([x, middle, *(np.nextafter(middle, np.float32(end)) for end in (-np.inf, np.inf))])
        nan = np.array([0x7F800001, 0xFF800001, 0x7FFFFFFF, 0xFFFFFFFF, 0x7FC00000], np.uint32)
        x = np.concatenate([x, nan.view(np.float32), EDGES.astype(np.float32)])
        expected = x.astype(floating(stored))
    out, also = np.zeros_like(expected), x.copy()
    code = CompiledLoop(
        Loop.of(
            np.float32,
            {"x": "both", "out": stored},
            lambda x, out: dict.fromkeys(("x", "out"), rounded(x, stored)),
        ),
        register,
    )
    memory = np.array([word(v) for v in (1, x.size, *slots(code, x=also, out=out))])
    code.call(None, word(memory), 0, 1)
    np.testing.assert_array_equal(bits_of(out), bits_of(expected))
    np.testing.assert_array_equal(bits_of(also), bits_of(expected.astype(np.float32)))


@pytest.mark.parametrize("stored", STORED)
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (5, 1), (1, 33), (3, 16), (4, 10), (7, 31)])
def test_loop_over_16_bit_matrices_with_gaps_writes_nothing_else(stored, rows, columns):
    program = lambda x, y, b, out: ({"out": x * y + b}, [x])  # noqa: E731
    code = compiled(Loop.of(np.float32, {"x": stored, "y": "both", "b": "columns", "out": stored}, program))
    rng = np.random.default_rng(columns)
    whole = rng.normal(size=(2, rows, columns + 5)).astype(np.float32).astype(floating(stored))
    (x, out), untouched = whole[:, :, 2 : 2 + columns], whole.copy()
    y, b = rng.normal(size=(rows, columns)).astype(np.float32), rng.normal(size=columns).astype(np.float32)
    expected = (x.astype(np.float64) * y + b).astype(np.float32).astype(floating(stored))
    total = x.astype(np.float64).sum()
    found = np.zeros(1)
    memory = np.array([word(v) for v in (rows, columns, *slots(code, x=x, y=y, b=b, out=out), found)])
    code.call(None, word(memory), 0, 1)
    assert found[0] == pytest.approx(total, rel=1e-6, abs=1e-6)
    near = {"rtol": 2.0**-7 if stored == "bfloat16" else 2.0**-10, "atol": 0}
    np.testing.assert_allclose(out.astype(np.float64), expected.astype(np.float64), **near)
    untouched[1, :, 2 : 2 + columns] = out
    np.testing.assert_array_equal(bits_of(whole), bits_of(untouched))
