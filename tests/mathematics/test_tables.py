"""The tables of formulas hold.

Derivatives are those of mpmath, in 15 digits.
"""

import re
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest

from ffnn_gpu import schedules
from ffnn_gpu.nn.activations import get_activation
from ffnn_gpu.nn.initializers import INITIALIZERS
from ffnn_gpu.nn.losses import get_loss
from tests.mathematics.pages import ACTIVATIONS, LOSSES, NETWORK, OPTIMIZERS, rows, run, value


def precise() -> dict[str, Any]:
    """Return functions of numbers of mpmath."""
    sigmoid = lambda s: 1 / (1 + mpmath.exp(-s))  # noqa: E731
    return {
        "e": +mpmath.e, "π": +mpmath.pi, "sqrt": mpmath.sqrt, "log": mpmath.log, "tanh": mpmath.tanh,
        "sign": mpmath.sign, "Φ": mpmath.ncdf, "σ": sigmoid,
        "σ_prime": lambda s: sigmoid(s) * (1 - sigmoid(s)),
    }  # fmt: skip


def with_constants(page: Path, name: str, names: dict[str, Any]) -> dict[str, Any]:
    """Return `names` with those that the list below the table gives for one row, such as `α = 0.01`."""
    (line,) = re.findall(rf"^- `{name}`: (.*)$", page.read_text(encoding="utf-8"), re.M) or [""]
    for equation in re.findall(r"`([^`]+ = [^`]+)`", line):
        names = run(equation, names)
    return names


@pytest.mark.parametrize("name", rows(ACTIVATIONS, "activation"))
def test_activation_and_derivative_of_the_page_are_those_of_the_code(name: str) -> None:
    phi, slope, of_output = rows(ACTIVATIONS, "activation")[name]
    coded = get_activation(name)
    known = lambda s: with_constants(ACTIVATIONS, name, precise() | {"s": s})  # noqa: E731
    for s in map(mpmath.mpf, ("-4.5", "-2.25", "-0.7", "0.4", "1.9", "3.5")):
        a, want = value(phi, known(s)), mpmath.diff(lambda s: value(phi, known(s)), s)
        assert abs(value(slope, known(s)) - want) < 1e-12, s
        if of_output:
            assert abs(value(of_output, known(s) | {"a": a}) - want) < 1e-12, s
        assert coded.needs_input is not bool(of_output)
        s_or_a = s if coded.needs_input else a
        assert abs(coded.value(np, np.float64(s)) - a) < 1e-14
        assert abs(coded.derivative(np, np.float64(s_or_a)) - want) < 1e-14


@pytest.mark.parametrize("name", rows(LOSSES, "loss"))
def test_loss_and_derivative_of_the_page_are_those_of_the_code(name: str) -> None:
    loss, slope = rows(LOSSES, "loss")[name]
    names, coded = with_constants(LOSSES, name, precise()), get_loss(name)
    outputs = ("0.3", "0.85") if name == "binary_cross_entropy" else ("-2.4", "-0.6", "0.3", "1.9")
    for z in map(mpmath.mpf, outputs):
        for y in (-1, 1) if name == "hinge" else (0, 1):
            at = lambda z, y=y: value(loss, names | {"z": z, "y": y})  # noqa: E731
            want = mpmath.diff(at, z)
            assert abs(value(slope, names | {"z": z, "y": y}) - want) < 1e-12, (z, y)
            assert abs(coded.value(np, np.float64(z), y) - at(z)) < 1e-14
            assert abs(coded.derivative(np, np.float64(z), np.float64(y)) - want) < 1e-14


@pytest.mark.parametrize("name", rows(NETWORK, "initializer"))
def test_initial_values_have_the_variance_of_the_page(name: str) -> None:
    I, O = 500, 300
    W = INITIALIZERS[name](np.random.default_rng(0), (I, O))
    want = value(rows(NETWORK, "initializer")[name][0], {"I": I, "O": O, "max": max})
    assert abs(W.var() / want - 1) < 0.02  # the standard error is 0.4 %


def test_schedules_have_the_factors_of_the_page() -> None:
    T, table = 40, rows(OPTIMIZERS, "schedule")
    functions = {"floor": np.floor, "cos": np.cos, "log2": np.log2, "π": np.pi, "min": min}
    settings = {"StepDecay": {"every": 7}, "LinearWarmup": {"warmup": 6}, "Cosine": {"floor": 0.2}}
    for name, (factor,) in table.items():
        schedule = getattr(schedules, name)(**settings.get(name, {}))
        names = functions | vars(schedule) | ({"every": T} if name == "Exponential" else {})
        for t in range(T):
            want = value(factor, names | {"t": t, "u": t / T})
            assert abs(schedule(t, T) - want) < 1e-12, (name, t)
