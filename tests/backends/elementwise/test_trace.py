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
    "logic of numbers": lambda xp, x, y: xp.where(xp.logical_not(x), 1.5, 0 * x) + xp.logical_and(x, y > 0),
    "logic of all kinds": lambda xp, x, y: xp.logical_or(x, y) + 2 * xp.logical_xor(x > 0, y),
    "numbers of the module": lambda xp, x, y: xp.sqrt(2.0) * x + xp.square(xp.pi) * y,
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


def changed_copy(copy):
    """Return a program that changes a copy of m, and then reads m."""

    def program(xp, m, g):
        u = copy(xp, m)
        u *= 3
        m += u * g

    return program


def power_in_place(xp, m, g):
    m **= 3
    m **= 0.5
    m **= xp.minimum(g, 2)


def truth_in_place(xp, m, g):
    positive = m > 0
    other = positive
    positive &= g > 0
    positive |= m > 2
    positive ^= g > 2
    m[...] = xp.where(other, m, g)


def alias(xp, m, g):
    other = m
    other += g
    m[:] *= 2


IN_PLACE = {  # (xp, m, g), which changes m
    "power": power_in_place,
    "truth": truth_in_place,
    "alias": alias,
    "truth into an array": lambda xp, m, g: m.__setitem__(..., g > 0),
    "astype": changed_copy(lambda xp, m: m.astype(m.dtype)),
    "astype without a copy": changed_copy(lambda xp, m: m.astype(m.dtype, copy=False)),
    "plus": changed_copy(lambda xp, m: +m),
    "copy": changed_copy(lambda xp, m: m.copy()),
    "power of one": changed_copy(lambda xp, m: m**1),
    "product with one": changed_copy(lambda xp, m: m * 1),
    "clip without bounds": changed_copy(lambda xp, m: xp.clip(m, None, None)),
    "positional output": lambda xp, m, g: xp.multiply(m, 0.9, m),
    "output": lambda xp, m, g: xp.subtract(m, g, out=m),
    "output in a tuple": lambda xp, m, g: xp.exp(g, out=(m,)),
    "positional output of NumPy": lambda xp, m, g: np.hypot(m, 0.5, m),
    "output of NumPy": lambda xp, m, g: np.subtract(m, g, out=m),
    "comparison": lambda xp, m, g: xp.less(m, g, m),
    "logical output": lambda xp, m, g: xp.logical_and(m > 0, g > 0, out=m),
    "bitwise output": lambda xp, m, g: np.bitwise_or(m > 0, g > 0, out=m),
    "no output": lambda xp, m, g: m.__imul__(xp.multiply(m, 0.9, None)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", IN_PLACE)
def test_change_in_place_is_numpys(name, dtype):
    def program(m, g):
        IN_PLACE[name](MODULE, m, g)
        return m.node

    x, y = points(dtype)
    m = x.copy()
    with np.errstate(all="ignore"):
        IN_PLACE[name](np, m, y)
        got = evaluate(trace(program, dtype, {"m": "array", "g": "array"}), {"m": x, "g": y}, {})
    np.testing.assert_allclose(got, m, 16 * np.finfo(dtype).eps, 0, equal_nan=True)


@pytest.mark.parametrize("convert", [lambda lr: lr, lambda lr: lr.astype(np.float32), lambda lr: lr * 2])
def test_change_of_a_number_leaves_other_names_of_it_unchanged(convert):
    """As for a NumPy scalar."""

    def formula(lr, x):
        rate = convert(lr)
        small = rate
        small *= 0.25
        smaller = small
        smaller **= 2
        small += 1
        small -= x
        return x * rate + small * smaller

    traced = trace(
        lambda x, lr: result(x.node.graph, formula(lr, x)), np.float32, {"x": "array", "lr": "number"}
    )
    x, lr = np.float32([1, 2, 3]), np.float64(0.5)
    np.testing.assert_allclose(evaluate(traced, {"x": x, "lr": lr}, {}), formula(lr, x), 1e-6)


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


def test_operations_are_in_the_order_of_a_recursive_visit():
    node = traced(lambda xp, x, y: (xp.exp(y) - x) * xp.exp(y) + xp.tanh(x), np.float32)
    expected = ["input", "exp", "input", "sub", "mul", "tanh", "add"]
    assert [each.operation for each in in_order(node)] == expected
    assert [each.operation for each in in_order(node.args[1], node)][:2] == ["input", "tanh"]


def chain(xp, x, n):
    for k in range(n):
        x = 0.5 * x + k
    return x


def test_formula_deeper_than_pythons_stack_is_traced():
    node = traced(lambda xp, x: chain(xp, x, 1000), np.float64, 1)
    x = np.linspace(-1, 1, 5)
    np.testing.assert_array_equal(evaluate(node, {"x0": x}, {}), chain(np, x, 1000))


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
    "too many operations": (lambda xp, x: chain(xp, x, 5000), "it has more than 4096 operations"),
    "too many operands": (lambda xp, x: xp.exp(x, x, x), "it calls exp with 3 operands instead of 1"),
    "too few operands": (lambda xp, x: xp.multiply(x), "it calls mul with 1 operands instead of 2"),
    "where without values": (lambda xp, x: xp.where(x > 0), "it calls where with 1 operands instead of 3"),
    "where with an output": (lambda xp, x: xp.where(x > 0, x, x, x), "it calls where with 4 operands"),
    "output elsewhere": (lambda xp, x: xp.exp(x, OUTSIDE), "it writes to a ndarray that is none of its arg"),
    "output of a number": (
        lambda xp, x: xp.exp(x, 1.0),
        "it writes to a float that is none of its arguments",
    ),
    "numbers into truth": (
        lambda xp, x: (x > 0).__iadd__(1),
        "it writes numbers to an array of truth values",
    ),
    "bits": (lambda xp, x: x * ((x > 0) & 1), "it combines the bits of numbers; compare them first"),
    "bits in place": (lambda xp, x: x.__iand__(x > 0), "it combines the bits of numbers"),
    "bits of the module": (lambda xp, x: xp.bitwise_or(x, x > 0), "it combines the bits of numbers"),
    "bits of NumPy": (lambda xp, x: np.invert(x), "it combines the bits of numbers"),
    "named condition": (lambda xp, x: np.exp(x, where=x > 0), "it calls np.exp in a form that is not elem"),
    "no result": (lambda xp, x: None, "it computes with a NoneType"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_formula_that_is_no_expression_is_refused_with_the_reason(name):
    formula, reason = REFUSED[name]
    with pytest.raises(UntraceableError, match=reason):
        traced(formula, np.float32, 1)


@pytest.mark.parametrize(
    "write", [lambda t: t.__setitem__(..., 1), lambda t: np.exp(t, out=t), lambda t: t[...]]
)
def test_write_to_a_number_is_refused(write):
    with pytest.raises(UntraceableError, match=r"it (writes to a number|reads x)"):
        trace(write, np.float32, {"t": "number"})
