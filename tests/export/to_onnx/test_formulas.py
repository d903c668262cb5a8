"""Every activation is exported through its trace, also a user's own."""

import numpy as np
import pytest
from ffnn_gpu.activations import Activation

from ffnn_gpu import Dense, Network
from ffnn_gpu.backends.elementwise.expression import FUNCTIONS
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.export.to_onnx import formulas, onnx_bytes
from ffnn_gpu.export.to_onnx.graph import Graph
from ffnn_gpu.nn.activations import ACTIVATIONS
from tests.export.runtime import assert_close, session

S = np.concatenate([np.linspace(-30, 30, 400), 10.0 ** np.arange(-12, 0), [0.0, -0.0, np.inf, -np.inf]])
# The values that a function is tried at, if it is not defined for all of S.
DEFINED = {
    "arccosh": (1, 30), "arcsin": (-1, 1), "arccos": (-1, 1), "arctanh": (-0.9, 0.9), "tan": (-1.5, 1.5),
    "sqrt": (0, 30), "log": (0.1, 30), "log2": (0.1, 30), "log10": (0.1, 30), "log1p": (-0.9, 30),
    "sin": (-9, 9), "cos": (-9, 9), "arctan": (-9, 9), "arcsinh": (-9, 9), "cosh": (-9, 9), "sinh": (-9, 9),
    "exp": (-9, 9), "exp2": (-9, 9), "expm1": (-9, 9),
}  # fmt: skip
ABSENT = {"arctan2", "hypot", "fmod"}  # which ONNX lacks, or computes otherwise


def run(formula, s, dtype="float64"):
    graph = Graph(("s", "out"))
    x = graph.input("s", dtype, 1)
    graph.output("out", formulas.apply(graph, formula, x, dtype, "it"), dtype, 1)
    (got,) = session(graph.file("formula", {})).run(None, {"s": s.astype(dtype).reshape(-1, 1)})
    return got[:, 0]


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activation_is_computed_by_onnx(name, dtype):
    s = S[np.isfinite(S)].astype(dtype)
    want = ACTIVATIONS[name].value(np, s)
    np.testing.assert_allclose(
        run(ACTIVATIONS[name].value, s, dtype), want, rtol=1e-6, atol=2e-7 if dtype == "float32" else 1e-14
    )


@pytest.mark.parametrize("name", sorted({*FUNCTIONS} - ABSENT))
def test_function_that_a_user_may_call_is_computed_by_onnx(name):
    function = getattr(np, name)
    s = np.concatenate([np.linspace(*DEFINED.get(name, (-30, 30)), 99), [1e-9] * (name != "arccosh")])
    dtype = "float32" if name in formulas.FLOAT32 else "float64"
    s = s.astype(dtype)

    def formula(xp, x):
        two = (x, 1 - x) if function.nin == 2 else (x,)
        return getattr(xp, name)(*((x * x + 1, 0.3) if name == "power" else two))

    got, want = run(formula, s, dtype), formula(np, s)
    np.testing.assert_allclose(got, want, rtol=2e-6 if dtype == "float32" else 1e-12)


@pytest.mark.parametrize(
    "formula",
    [
        lambda xp, x: xp.where((x > 0) & (x <= 2) | ~(x != -1), x, xp.sign(x)),
        lambda xp, x: xp.logaddexp(x, 0) ** 3 / (1 + x * x),
        lambda xp, x: xp.clip(x, -1, 2) * xp.where(xp.logical_xor(x < 0, x >= 3), 1, 2),
        lambda xp, x: xp.ones_like(x),
        lambda xp, x: (x > 0).astype(x.dtype) - xp.isnan(x),
    ],
)
def test_formula_of_a_user_is_computed_by_onnx(formula):
    s = S[np.isfinite(S)]
    np.testing.assert_allclose(run(formula, s), formula(np, s), rtol=1e-12, atol=1e-300)


def test_log1p_is_exact_at_both_ends():
    s = np.array([1e-300, -1e-17, 3e-16, 1e300, np.inf])
    np.testing.assert_allclose(run(lambda xp, x: xp.log1p(x), s), np.log1p(s), rtol=1e-15)


@pytest.mark.parametrize("name", ["relu", "hard_tanh", "gelu", "softplus", "sigmoid"])
def test_nan_stays_nan(name):
    assert np.isnan(run(ACTIVATIONS[name].value, np.array([np.nan, np.nan]))).all()


@pytest.mark.parametrize(
    ("phi", "dtype", "complaint"),
    [
        (lambda xp, s, _: s if s.sum() > 0 else -s, "float32", "it reads the attribute 'sum' of an array"),
        (lambda xp, s, _: xp.arctan2(s, 1), "float32", "it calls arctan2, which has no operator in float32"),
        (lambda xp, s, _: xp.arctan(s), "float64", "it calls arctan, which has no operator in float64"),
    ],
)
def test_activation_that_onnx_cannot_express_is_refused(phi, dtype, complaint):
    mine = Activation("mine", phi, lambda xp, a, _: a)
    with pytest.raises(ConfigurationError, match=f"the activation mine of layer 1 cannot be .*: {complaint}"):
        onnx_bytes(Network(2, [Dense(2), Dense(2, mine)], "numpy", dtype))


def test_activation_of_a_user_is_exported():
    bent = Activation("bent", lambda xp, s, _: (xp.sqrt(s * s + 1) - 1) / 2 + s, lambda xp, a, _: a)
    network = Network(3, [Dense(4, bent)], "numpy")
    x = np.linspace(-3, 3, 30, dtype="float32").reshape(10, 3)
    assert_close(session(onnx_bytes(network)).run(None, {"x": x})[0], network.predict(x))
