"""Function objects compute what NumPy computes. They run on a CPU, compiled by g++ as the emulator does."""

import functools

import numpy as np
import pytest

from ffnn_gpu.backends.elementwise import cuda_function
from ffnn_gpu.backends.elementwise.cuda_function import constant, function_object, rule_object
from ffnn_gpu.backends.elementwise.expression import ARITHMETIC, COMPARISONS, FUNCTIONS, Graph, evaluate
from ffnn_gpu.backends.elementwise.trace import MODULE, result, rounded, trace
from ffnn_gpu.backends.reference.special import erfc
from tests.backends.cuda.emulated_cupy import emulator

CTYPE = {"float32": "float", "float64": "double"}
SPECIAL = [np.nan, np.inf, -np.inf, 0.0, -0.0]
X, Y = (
    axis.reshape(-1)
    for axis in np.meshgrid([*SPECIAL, 0.5, 1.0, -1.0, 2.5, -3.75, 0.1], [*SPECIAL, 0.3, -0.7, 2.5, -2.0])
)
BINARY = {
    "add", "sub", "mul", "div", "minimum", "maximum", "lt", "le", "gt", "ge", "eq", "ne", "power", "arctan2",
    "hypot", "copysign", "fmod",
}  # fmt: skip
NAMES = {"sub": "subtract", "mul": "multiply", "div": "divide", "neg": "negative"}
NAMES |= {"lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
NAMES |= {"eq": "equal", "ne": "not_equal"}


def by_name(name):
    """Return the formula that calls one function of the array module."""
    function = NAMES.get(name, name)
    if name in BINARY:
        return lambda xp, x, y: getattr(xp, function)(x, y)
    return lambda xp, x, y: getattr(xp, function)(x) + 0 * y


OPERATIONS = {name: by_name(name) for name in (*ARITHMETIC, *COMPARISONS, *FUNCTIONS)}
FORMULAS = OPERATIONS | {
    "input": lambda xp, x, y: y,
    "constant": lambda xp, x, y: 3,
    "where": lambda xp, x, y: xp.where(x > y, x, y),
    "nested where": lambda xp, x, y: xp.where(xp.where(x > 0, y > 0, y < 0), 1.5, x),
    "logic": lambda xp, x, y: xp.logical_and(x > 0, ~(y > 0)) * xp.logical_or(x > y, y > 1),
    "xor": lambda xp, x, y: xp.where((x > 0) ^ (y > 0), x, y),
    "logic of numbers": lambda xp, x, y: xp.where(xp.logical_and(x, y), 1, 2),
    "at most 1": lambda xp, x, y: xp.minimum(x, 1) + xp.minimum(1, y),
    "at least 1": lambda xp, x, y: xp.maximum(x, 1) + xp.maximum(1, y),
    "at most ∞": lambda xp, x, y: xp.minimum(x, xp.inf) + xp.maximum(y, -xp.inf),
    "at most NaN": lambda xp, x, y: xp.minimum(x, xp.nan),
    "isnan": lambda xp, x, y: xp.where(xp.isnan(x), 7, xp.where(xp.isfinite(y), 8, 9)),
    "sign": lambda xp, x, y: xp.sign(x) + xp.heaviside(y, 0.25),
    "constants": lambda xp, x, y: 0.1 * x + 1e-30 * y - 1 / 3 - (-2.5) * x + 1e30,
    "shared": lambda xp, x, y: (x * y) * (x * y) + (x * y),
    "powers": lambda xp, x, y: x**2 + x**-3 + x**1.5,
    "logaddexp": lambda xp, x, y: xp.logaddexp(x, y),
}


def expression(formula, dtype):
    return trace(
        lambda x, y: result(x.node.graph, formula(MODULE, x, y)), dtype, {"x": "array", "y": "array"}
    )


def module(expressions):
    """Compile one kernel for each name, out = formula(x, y)."""
    text = []
    for k, each in enumerate(expressions):
        function, real = function_object(f"formula {k}", each, ("x", "y")), CTYPE[each.graph.dtype.name]
        text.append(
            f'{function.text}extern "C" __global__ void k{k}(const {real}* x, const {real}* y, {real}* out, '
            f"int n) {{ for (int i = 0; i < n; ++i) out[i] = {function.name}()(x[i], y[i]); }}\n"
        )
    return emulator.RawModule("".join(text), check=False)


def run(compiled, k, dtype):
    x, y = X.astype(dtype), Y.astype(dtype)
    out = np.full(len(x), 77, dtype)
    compiled.get_function(f"k{k}")((1,), (1,), (x, y, out, np.int32(len(x))))
    return out


def by_numpy(each):
    dtype = each.graph.dtype
    special = {"erfc": functools.partial(erfc, np), "erf": lambda x: 1 - erfc(np, x)}
    with np.errstate(all="ignore"):
        got = evaluate(each, {"x": X.astype(dtype), "y": Y.astype(dtype)}, special)
    return np.broadcast_to(got, X.shape).astype(dtype)


def assert_same(got, want, ulps=8):
    assert np.array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_allclose(got, want, rtol=ulps * np.finfo(want.dtype).eps, atol=0)


@pytest.fixture(scope="module")
def compiled():
    """Return every formula of both types, compiled together."""
    emulator.require()
    return module([expression(formula, dtype) for dtype in CTYPE for formula in FORMULAS.values()])


@pytest.mark.parametrize("dtype", CTYPE)
@pytest.mark.parametrize("name", FORMULAS)
def test_function_equals_numpy_also_at_nan_infinity_and_zero(compiled, name, dtype):
    k = list(CTYPE).index(dtype) * len(FORMULAS) + list(FORMULAS).index(name)
    assert_same(run(compiled, k, dtype), by_numpy(expression(FORMULAS[name], dtype)))


WRONG = {
    "minimum that drops NaN": ("OPERATIONS", "minimum", "{0} < {1} ? {0} : {1}", "minimum"),
    "maximum that drops NaN": ("OPERATIONS", "maximum", "{0} > {1} ? {0} : {1}", "maximum"),
    "swapped where": ("OPERATIONS", "where", "{0} ? {2} : {1}", "where"),
    "bound that drops NaN": ("WITH_CONSTANT", "minimum", "{0} < {1} ? {0} : {1}", "at most 1"),
    "swapped difference": ("OPERATIONS", "sub", "{1} - {0}", "sub"),
    "less for less or equal": ("OPERATIONS", "le", "{0} < {1}", "le"),
    "or for and": ("OPERATIONS", "and", "{0} || {1}", "logic"),
    "floor for trunc": ("CALLS", "trunc", "floor", "trunc"),
}


@pytest.fixture(scope="module")
def wrong():
    """Return one kernel for each entry of WRONG, compiled together."""
    emulator.require()
    text, code = [], ""
    for k, (table, operation, new, name) in enumerate(WRONG.values()):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(getattr(cuda_function, table), operation, new)
            function = function_object(f"wrong {k}", expression(FORMULAS[name], "float32"), ("x", "y"))
        text.append(function.text)
        code += (
            f'extern "C" __global__ void k{k}(const float* x, const float* y, float* out, int n) '
            f"{{ for (int i = 0; i < n; ++i) out[i] = {function.name}()(x[i], y[i]); }}\n"
        )
    return emulator.RawModule("".join([*text, code]), check=False)


@pytest.mark.parametrize("k", range(len(WRONG)), ids=[name.replace(" ", "_") for name in WRONG])
def test_planted_mistake_of_the_generator_is_detected(wrong, k):
    name = list(WRONG.values())[k][-1]
    with pytest.raises(AssertionError):
        assert_same(run(wrong, k, "float32"), by_numpy(expression(FORMULAS[name], "float32")))


@pytest.mark.parametrize("dtype", CTYPE)
def test_constant_is_read_back_as_the_same_number(dtype):
    graph, rng = Graph(dtype), np.random.default_rng(0)
    bits = rng.integers(0, 2**63, 2000).astype(np.uint64)
    for number in bits.astype(np.uint32 if dtype == "float32" else np.uint64).view(dtype):
        if np.isfinite(number):
            text = constant(graph.constant(number))
            assert text.endswith("f") == (dtype == "float32") and {".", "e"} & set(text)
            assert np.dtype(dtype).type(text.rstrip("f")) == number


def test_text_has_one_line_for_each_operation_and_shares_common_parts():
    function = function_object("my φ", expression(FORMULAS["shared"], "float32"), ("x", "y"))
    assert function.name.startswith("my_")
    assert function.text.splitlines()[2:-2] == [
        "    const float v0 = x * y;",
        "    const float v1 = v0 * v0;",
        "    const float v2 = v1 + v0;",
        "    return v2;",
    ]


def test_name_differs_if_and_only_if_the_computation_differs():
    names = [
        function_object("f", expression(lambda xp, x, y, c=c: c * x, dtype), ("x", "y")).name
        for c, dtype in ((0.1, "float32"), (0.1, "float32"), (0.2, "float32"), (0.1, "float64"))
    ]
    assert names[0] == names[1] and len(set(names)) == 3


def test_rounded_product_is_not_part_of_a_sum():
    each = expression(lambda xp, x, y: rounded(x * y) + 1, "float32")
    assert "__fmul_rn(x, y)" in function_object("f", each, ("x", "y")).text
    each = expression(lambda xp, x, y: rounded(x * y) + 1, "float64")
    assert "__dmul_rn(x, y)" in function_object("f", each, ("x", "y")).text


def rule(program, numbers=("t", "lr")):
    """Return the text of an update rule: program(theta, grad, m, v, *numbers) → new values by name."""
    names = dict.fromkeys(("theta", "grad", "m", "v"), "array") | dict.fromkeys(numbers, "number")
    traced = trace(
        lambda *given: {name: result(given[0].node.graph, value) for name, value in program(*given).items()},
        "float32",
        names,
    )
    return rule_object("mine", traced, numbers).text


def computed_by(text, theta, grad, m, v, *numbers):
    """Run a rule on one element and return theta, m and v."""
    name = text.split()[1]
    code = f"""{text}
extern "C" __global__ void k(float* x, float grad, double t, double lr) {{
  float number[{name}::numbers];
  {name}().prepare(t, lr, number);
  {name}()(number, x[0], grad, x[1], x[2]);
}}
"""
    x = np.array([theta, m, v], "f")
    emulator.RawModule(code, check=False).get_function("k")(
        (1,), (1,), (x, np.float32(grad), *map(np.float64, numbers))
    )
    return x.tolist()


def test_rule_computes_once_what_is_the_same_for_all_elements():
    text = rule(
        lambda theta, grad, m, v, t, lr: {
            "theta": theta - grad * (lr * 0.5**t).astype("f") * MODULE.exp(lr.astype("f"))
        }
    )
    prepare, apply = text.split("operator()")
    assert "pow" in prepare and "exp" in prepare and "pow" not in apply and "exp" not in apply
    emulator.require()
    assert computed_by(text, 1, 2, 0, 0, 3, 0) == [1, 0, 0]
    assert computed_by(text, 1, 2, 0, 0, 1, 1)[0] == pytest.approx(1 - np.e)


def test_rule_reads_old_values():
    emulator.require()
    text = rule(lambda theta, grad, m, v, t, lr: {"theta": m, "m": theta, "v": v + grad * lr.astype("f")})
    assert computed_by(text, 1, 2, 3, 4, 0, 5) == [3, 1, 14]


def test_rule_may_use_no_number_and_a_truth_of_numbers():
    emulator.require()
    text = rule(lambda theta, grad, m, v, t, lr: {"theta": theta - grad})
    assert computed_by(text, 1, 2, 0, 0, 0, 0)[0] == -1
    assert "numbers = 1;" in text  # CUDA has no arrays of length 0
    text = rule(
        lambda theta, grad, m, v, t, lr: {
            "theta": MODULE.where(t > 1, theta, grad),
            "m": MODULE.where(t, 1, 2),
        }
    )
    assert computed_by(text, 1, 2, 0, 0, 2, 0) == [1, 1, 0]
    assert computed_by(text, 1, 2, 0, 0, 1, 0) == [2, 1, 0]
    assert computed_by(text, 1, 2, 0, 0, 0, 0) == [2, 2, 0]
