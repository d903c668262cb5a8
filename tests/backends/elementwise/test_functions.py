"""exp, log, tanh, erf and their kin on vectors, against mpmath."""

import ctypes
import itertools
from functools import cache

import numpy as np
import pytest

pytest.importorskip("llvmlite")
mpmath = pytest.importorskip("mpmath")

from llvmlite import ir  # noqa: E402

from ffnn_gpu.backends.elementwise import functions, machine_code  # noqa: E402
from ffnn_gpu.backends.elementwise.functions import FUNCTIONS  # noqa: E402
from ffnn_gpu.backends.elementwise.lanes import REGISTER, Lane, Lanes  # noqa: E402

mp = mpmath.mp
ULPS = {name: 4 if name in ("erf", "erfc") else 2 for name in FUNCTIONS}
EXACT = {name: getattr(mp, name) for name in FUNCTIONS if hasattr(mp, name) and name != "log2"} | {
    "exp2": lambda x: mp.mpf(2) ** x,
    "log2": lambda x: mp.log(x) / mp.log(2),
    "cos_turns": lambda t: mp.cospi(2 * t),
    "sin_turns": lambda t: mp.sinpi(2 * t),
}
INF, NAN = float("inf"), float("nan")
# The values at −inf and inf.
LIMITS = {
    "exp": (0, INF), "exp2": (0, INF), "expm1": (-1, INF), "log": (NAN, INF), "log2": (NAN, INF),
    "log1p": (NAN, INF), "tanh": (-1, 1), "sinh": (-INF, INF), "cosh": (INF, INF), "erf": (-1, 1),
    "erfc": (2, 0), "cos_turns": (NAN, NAN), "sin_turns": (NAN, NAN),
}  # fmt: skip
POLES = {"log": 0.0, "log2": 0.0, "log1p": -1.0}
# Beyond, each function of e^x is its limit in float64, up to a rounding error.
FAR = {"exp": 800, "exp2": 1200, "expm1": 800, "sinh": 800, "cosh": 800, "tanh": 40, "erf": 10, "erfc": 40}
# Where a formula changes, a number is clamped, or a result overflows or becomes subnormal.
EDGES = (
    0.125, 0.25, 0.34657359, 0.375, 0.5, 0.55, 0.70710678, 0.75, 1, 1.41421356, 4, 9.2, 9.41, 10, 10.1, 20,
    26.5, 27.2, 27.3, 40, 87.33, 88.72, 89, 89.41, 103.97, 104, 126, 127, 128, 149, 150, 708.39, 709.78, 710,
    710.47, 745.13, 746, 1022, 1024, 1074,
)  # fmt: skip
ODD = ("expm1", "log1p", "tanh", "sinh", "erf")
names = pytest.mark.parametrize("name", FUNCTIONS)


class Unfused(Lanes):
    """Vectors of a processor without fused multiply-add."""

    def fma(self, a, b, c):
        given = next(each for each in (a, b, c) if isinstance(each, Lane))
        return self.like(given, a) * b + c


VARIANTS = {"wide": (Lanes, REGISTER), "narrow": (Lanes, 16), "unfused": (Unfused, 16)}


numbers = itertools.count()  # so that each function has a name of its own


def compiled(function, dtype, lanes, register):
    """Return a function of one array that runs `function` on vectors of `register` bytes."""
    name = f"{function.__name__} {next(numbers)}"
    module = machine_code.new_module(name)
    integer, size = ir.IntType(64), np.dtype(dtype).itemsize
    kind = ir.FunctionType(ir.VoidType(), [integer, integer, integer])
    builder = ir.IRBuilder(ir.Function(module, kind, name).append_basic_block())
    x, y, end = builder.function.args
    v, before = lanes(builder, size, register), builder.block
    body = builder.append_basic_block()
    builder.branch(body)
    builder.position_at_end(body)
    offset = builder.phi(integer)
    source, target = (builder.inttoptr(builder.add(at, offset), v.real_type.as_pointer()) for at in (x, y))
    value = function(v, Lane(v, builder.load(source, align=size), "real"))
    builder.store(value.value, target, align=size)
    after = builder.add(offset, integer(register))
    offset.add_incoming(integer(0), before)
    offset.add_incoming(after, body)
    done = builder.append_basic_block()
    builder.cbranch(builder.icmp_signed("<", after, end), body, done)
    builder.position_at_end(done)
    builder.ret_void()
    machine_code.load(name, machine_code.object_code(module))
    call = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)(machine_code.address(name))

    def run(x):
        padded = np.zeros(-(-x.size // v.count) * v.count, dtype)
        padded[: x.size] = x
        out = np.empty_like(padded)
        call(padded.ctypes.data, out.ctypes.data, padded.nbytes)
        return out[: x.size]

    return run


@cache
def points(dtype):
    """Return dense, logarithmic and special numbers, and the neighbours of EDGES."""
    rng, info = np.random.default_rng(0), np.finfo(dtype)
    special = [0, info.smallest_subnormal, info.tiny, info.tiny * 0.75, info.eps, 1, 2, info.max, INF]
    edges = [np.asarray(EDGES, dtype)]
    for towards in (-INF, INF):
        edges += [np.nextafter(edges[0], dtype(towards)), edges[0] * dtype(1 + np.sign(towards) * 1e-5)]
    logarithm = rng.uniform(np.log(float(info.smallest_subnormal)), np.log(float(info.max)), 300)
    positive = np.concatenate([
        np.asarray(special, dtype), *edges, np.exp(logarithm), np.exp(rng.uniform(-20, 8, 300)),
        rng.uniform(0, 1, 300), rng.uniform(0, 4, 300), rng.uniform(0, 28, 100),
        rng.uniform(0, 110 if dtype is np.float32 else 750, 300),
    ]).astype(dtype)  # fmt: skip
    return np.concatenate([positive, -positive, np.asarray([NAN], dtype)])


def exact(name, x):
    """Return the value of a function at the number x as mpmath computes it."""
    if x != x or x < POLES.get(name, -INF):
        return mp.mpf(NAN)
    if x == POLES.get(name):
        return mp.mpf(-INF)
    if abs(x) > FAR.get(name, np.finfo(float).max):
        return mp.mpf(LIMITS[name][x > 0])
    return EXACT[name](mp.mpf(x))


@cache
def expected(name, dtype):
    """Return for all points the nearest number of the type, an ulp, and the distance to the value in ulp."""
    info, rows = np.finfo(dtype), []
    digits, lowest = info.nmant + 1, int(np.log2(float(info.smallest_subnormal)))
    with mp.workprec(120):
        for x in points(dtype).tolist():
            value = exact(name, x)
            nearest = float(dtype(float(value)))
            if not np.isfinite(nearest):
                rows.append((nearest, 1.0, 0.0))
                continue
            ulp = 2.0 ** max(mp.frexp(value)[1] - digits, lowest) if value else 2.0**lowest
            rows.append((nearest, ulp, float((value - nearest) / ulp)))
    return np.array(rows).T


def errors(name, dtype, got):
    """Return the distance to the value in ulp at all points. It is inf for a wrong NaN or infinity."""
    nearest, ulp, rest = expected(name, dtype)
    got = got.astype(np.float64)
    same = (got == nearest) | (np.isnan(got) & np.isnan(nearest))
    distance = np.abs((got - nearest) / ulp - rest)
    return np.where(np.isfinite(got) & np.isfinite(nearest), distance, np.where(same, 0, INF))


def worst(name, dtype, variant="wide"):
    """Return the greatest error in ulp and its x."""
    lanes, register = VARIANTS[variant]
    x = points(dtype)
    with np.errstate(all="ignore"):
        distance = errors(name, dtype, compiled(FUNCTIONS[name], dtype, lanes, register)(x))
    return distance.max(), x[distance.argmax()]


@names
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("variant", VARIANTS)
def test_error_in_ulp(name, dtype, variant):
    error, x = worst(name, dtype, variant)
    assert error <= ULPS[name], f"{name}({x!r}) is {error:.2f} ulp from the value"


@pytest.mark.parametrize("name", ODD)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_sign_of_x_is_kept(name, dtype):
    x = points(dtype)
    y = compiled(FUNCTIONS[name], dtype, Lanes, REGISTER)(x)
    number = ~np.isnan(y)
    assert (np.signbit(y) == np.signbit(x))[number].all()


@pytest.mark.parametrize("name", ["tanh", "erf"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("variant", VARIANTS)
def test_bounded_by_one(name, dtype, variant):
    """Code such as 1 + erf(x) and √(1 − tanh²(x)) relies on it."""
    x = np.linspace(1, 20, 100_000, dtype=dtype)
    assert compiled(FUNCTIONS[name], dtype, *VARIANTS[variant])(x).max() == 1


CHANGES = [
    ("exp", "exp", 1), ("exp2", "exp", 0), ("expm1", "exp", 0), ("log", "log", 0), ("log2", "log", 0),
    ("log1p", "log", 1), ("tanh", "tanh", 0), ("sinh", "sinh", 0), ("cosh", "exp", 1), ("erf", "erf", 0),
    ("erf", "erf_far", 0), ("erfc", "erfc", 0), ("exp", "ln2", 0), ("log", "ln2", 0),
    ("cos_turns", "turn", 0), ("cos_turns", "cos_turns", 0), ("sin_turns", "sin_turns", 0),
]  # fmt: skip


@pytest.mark.parametrize(("name", "field", "place"), CHANGES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_changed_coefficient_is_detected(monkeypatch, name, field, place, dtype):
    constants = "SINGLE" if dtype is np.float32 else "DOUBLE"
    given = getattr(functions, constants)
    numbers = list(getattr(given, field))
    if not numbers:
        pytest.skip(f"{field} is not used in {dtype.__name__}")
    numbers[place] *= 1 + 1000 * float(np.finfo(dtype).eps)
    monkeypatch.setattr(functions, constants, given._replace(**{field: tuple(numbers)}))
    assert worst(name, dtype)[0] > ULPS[name]
