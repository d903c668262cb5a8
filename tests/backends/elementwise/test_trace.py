"""A traced formula computes what the formula computes. What is no elementwise expression is refused."""

import math
from functools import partial

import numpy as np
import pytest

from ffnn_gpu.backends.elementwise.expression import Graph, evaluate, in_order, listing
from ffnn_gpu.backends.elementwise.trace import MODULE, UntraceableError, result, trace
from ffnn_gpu.backends.reference.special import erfc
from ffnn_gpu.nn.activations import ACTIVATIONS

DTYPES = [np.float32, np.float64]
X = np.array([-np.inf, -3.5, -1, -0.25, -0.0, 0.0, 0.3, 1, 2.75, 80, np.inf, np.nan])
SHARED = [  # functions of NumPy and CuPy on every number
    "sqrt", "exp", "expm1", "exp2", "log", "log1p", "log2", "log10", "tanh", "sinh", "cosh", "sin", "cos",
    "tan", "arcsin", "arccos", "arctan", "arcsinh", "arccosh", "arctanh", "cbrt", "floor", "ceil", "trunc",
    "rint", "abs", "absolute", "fabs", "negative", "square", "reciprocal", "sign", "isnan", "isfinite",
    "isinf", "ones_like", "zeros_like",
]  # fmt: skip
PAIRS = [
    "add", "subtract", "multiply", "divide", "true_divide", "power", "maximum", "minimum", "arctan2", "hypot",
    "copysign", "fmod", "less", "less_equal", "greater", "greater_equal", "equal", "not_equal", "heaviside",
    "logaddexp",
]  # fmt: skip
FORMULAS = {
    "operators": lambda xp, x, y: (2 - x) * y / (1 + abs(x)) - -(y**2) + 3**y - x**-1,
    "comparisons": lambda xp, x, y: xp.where((x < y) & (x != 0) | ~(y >= 1) ^ (x <= 2), x, -y),
    "truth as numbers": lambda xp, x, y: (x > y).astype(x.dtype) + 2 * (x == x),
    "truth alone": lambda xp, x, y: x > y,
    "number": lambda xp, x, y: 3,
    "truth chosen": lambda xp, x, y: xp.where(xp.where(x > 0, y > 0, y < 0), 1.5, x),
    "clip": lambda xp, x, y: xp.clip(x, -1, 2) + y.clip(0, 1) + xp.clip(y, None, 3),
    "functions of NumPy": lambda xp, x, y: np.exp(np.minimum(x, 1)) + np.where(x > y, x, np.float64(2)),
    "logic": lambda xp, x, y: xp.logical_and(x > 0, xp.logical_not(y > 0)) * xp.logical_or(x > y, y > 1),
    "full_like": lambda xp, x, y: xp.full_like(x, 0.1) * y,
    "powers": lambda xp, x, y: x**0 + x**1 + x**2 + x**3 + x**7 + x**0.5 + x**1.5 + x**-3 + x**9,
}


def points(dtype, inputs=2):
    grid = np.meshgrid(*[X] * inputs)
    return [axis.reshape(-1).astype(dtype) for axis in grid]


def traced(formula, dtype, inputs=2):
    names = [f"x{k}" for k in range(inputs)]
    return trace(
        lambda *x: result(x[0].node.graph, formula(MODULE, *x)), dtype, dict.fromkeys(names, "array")
    )


def require_same(formula, dtype, inputs=2, ulps=4):
    arrays = points(dtype, inputs)
    with np.errstate(all="ignore"):
        expected = np.broadcast_to(formula(np, *arrays), arrays[0].shape).astype(dtype)
        values = {f"x{k}": array for k, array in enumerate(arrays)}
        got = evaluate(traced(formula, dtype, inputs), values, {"erfc": partial(erfc, np)})
    got = np.broadcast_to(got, expected.shape)
    np.testing.assert_allclose(got, expected, ulps * np.finfo(dtype).eps, 0, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", SHARED)
def test_function_of_the_module_is_numpys(name, dtype):
    require_same(lambda xp, x: getattr(xp, name)(x), dtype, inputs=1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", PAIRS)
def test_function_of_two_arrays_is_numpys(name, dtype):
    require_same(lambda xp, x, y: getattr(xp, name)(x, y), dtype, ulps=16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FORMULAS)
def test_traced_formula_is_the_formula(name, dtype):
    require_same(FORMULAS[name], dtype, ulps=16)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_every_activation_can_be_traced(name, dtype):
    phi = ACTIVATIONS[name]
    require_same(phi.value, dtype, inputs=1, ulps=16)
    require_same(phi.derivative, dtype, inputs=1, ulps=64)


def test_in_place_operators_change_the_symbol():
    def program(m, g):
        m *= 0.5
        m += g
        g /= 4
        m -= g * g
        return m.node

    x, y = points(np.float64)
    with np.errstate(all="ignore"):
        expected = x * 0.5 + y - (y / 4) ** 2
        got = evaluate(trace(program, np.float64, {"m": "array", "g": "array"}), {"m": x, "g": y}, {})
    np.testing.assert_array_equal(got, expected)


def test_number_of_float64_is_rounded_only_where_it_meets_an_array():
    def program(x, t):
        return result(x.node.graph, x * (1 - 0.999**t).astype(np.float32))

    traced = trace(program, np.float32, {"x": "array", "t": "number"})
    got = evaluate(traced, {"x": np.float32([3]), "t": np.float64(2)}, {})
    np.testing.assert_array_equal(got, np.float32(3) * np.float32(1 - 0.999**2))


# ---------------------------------------------------------------------- the expression


def test_constants_are_folded():
    node = traced(lambda xp, x: x * (xp.ones_like(x) * 2 + xp.sqrt(4 * xp.ones_like(x))), np.float32, 1)
    assert [each.operation for each in in_order(node)] == ["input", "constant", "mul"]
    assert node.args[1].value == 4


def test_common_parts_are_one_node():
    node = traced(lambda xp, x: xp.exp(x) * (1 + xp.exp(x)) + xp.exp(x + 0 * 1), np.float32, 1)
    assert [each.operation for each in in_order(node)].count("exp") <= 2
    same = traced(lambda xp, x: xp.exp(x) * xp.exp(x), np.float32, 1)
    assert same.args[0] is same.args[1]


def test_division_by_a_constant_is_a_product_with_its_inverse():
    node = traced(lambda xp, x: x / 8, np.float32, 1)
    assert (node.operation, node.args[1].value) == ("mul", 0.125)


def test_signed_zeros_and_nan_are_different_constants():
    graph = Graph(np.float32)
    assert graph.constant(0.0) is not graph.constant(-0.0)
    assert graph.constant(math.nan) is graph.constant(math.nan)


def test_listing_differs_if_and_only_if_the_expression_does():
    def text(formula, dtype=np.float32):
        return listing(traced(formula, dtype, 2))

    assert text(lambda xp, x, y: x + 2 * y) == text(lambda xp, x, y: xp.add(x, 2 * y))
    others = [lambda xp, x, y: y + 2 * x, lambda xp, x, y: x + 3 * y, lambda xp, x, y: x - 2 * y]
    assert len({text(formula) for formula in (lambda xp, x, y: x + 2 * y, *others)}) == 4
    assert text(others[0]) != text(others[0], np.float64)


# ---------------------------------------------------------------------- refusals

OUTSIDE = np.arange(3.0)
REFUSED = {
    "branch": (lambda xp, x: x if x > 0 else -x, "it branches on a value of an array; use xp.where"),
    "sum": (lambda xp, x: x - x.sum(), "it reads the attribute 'sum' of an array"),
    "sum of the module": (lambda xp, x: x - xp.sum(x), "it uses xp.sum, which has no compiled form"),
    "sum of NumPy": (lambda xp, x: x - np.sum(x), "it uses xp.sum, which has no compiled form"),
    "sum of a ufunc": (lambda xp, x: np.add.reduce(x), "it calls np.add in a form that is not elementwise"),
    "shape": (lambda xp, x: x / x.shape[0], "it reads the attribute 'shape' of an array"),
    "element": (lambda xp, x: x - x[0], r"it reads x\[0\]"),
    "write to an element": (lambda xp, x: x.__setitem__(0, 1), r"it writes to x\[0\]"),
    "array from elsewhere": (lambda xp, x: x * OUTSIDE, r"it reads an array of shape \(3,\) that is none of"),
    "conversion": (lambda xp, x: x.astype(np.float16), "it converts float32 to float16"),
    "Python number": (lambda xp, x: math.exp(x), "it reads a value of an array"),
    "another function": (lambda xp, x: np.spacing(x), "it calls spacing, which has no compiled form"),
    "text": (lambda xp, x: x + "1", "it computes with a str"),
    "error": (lambda xp, x: x * undefined, "it raises NameError for a symbolic array"),  # noqa: F821
    "no result": (lambda xp, x: None, "it computes with a NoneType"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_formula_that_is_no_expression_is_refused_with_the_reason(name):
    formula, reason = REFUSED[name]
    with pytest.raises(UntraceableError, match=reason):
        traced(formula, np.float32, 1)
