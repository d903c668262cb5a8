"""Compiled loops of formulas equal the reference, a user's own as well; a refusal is logged once."""

import functools
import gc
import itertools
import logging
import weakref

import numpy as np
import pytest

pytest.importorskip("llvmlite")

from ffnn_gpu.backends.cpu.loops import formulas
from ffnn_gpu.backends.elementwise.trace import UntraceableError
from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.backends.reference.updates import Update
from ffnn_gpu.nn.activations import ACTIVATIONS, Activation
from ffnn_gpu.nn.losses.standard import LOSSES, PointwiseLoss
from tests.backends.elementwise.run import run, run_rule

DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]
POINTWISE = [name for name, loss in LOSSES.items() if isinstance(loss, PointwiseLoss)]
RULES = {  # name → its settings; a vector stands for each moment
    "sgd": (None, 0.0, False),
    "momentum": ("moment", 0.9, False),
    "nesterov": ("moment", 0.9, True),
    "rmsprop": ("moment", None, 0.9, 1e-8, 0.0),
    "rmsprop with momentum": ("moment", "moment", 0.9, 1e-8, 0.9),
    "adagrad": ("moment", 1e-10),
    "adam": ("moment", "moment", 0.9, 0.999, 1e-8),
    "nadam": ("moment", "moment", 0.9, 0.999, 1e-8, 4e-3),
    "lion": ("moment", 0.9, 0.99),
}
METHODS = {"momentum": "sgd", "nesterov": "sgd", "rmsprop with momentum": "rmsprop"}
PENALTIES = [(0.0, 0.0, 0.0), (0.1, 0.0, 0.0), (0.0, 0.2, 0.3)]
reference = Backend()


def near(got, expected, dtype, factor=16):
    tolerance = factor * np.finfo(dtype).eps
    np.testing.assert_allclose(got, expected, tolerance, tolerance)


def numbers(dtype, *shape, seed=0):
    return np.random.default_rng(seed).normal(0, 2, shape).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_and_its_adjoint_equal_the_reference_in_float64(name, biased, dtype):
    phi, x, b = ACTIVATIONS[name], numbers(dtype, 7, 43), numbers(dtype, 43, seed=1)
    loop = formulas.activation(dtype, phi.value, biased, True)
    out, s, da = x.copy(), np.empty_like(x), numbers(dtype, 7, 43, seed=2)
    run(loop, 7, 43, out=out, b=b, s=s)
    wide = x.astype(np.float64) + (b if biased else 0)
    near(s, wide, dtype, 2)
    near(out, phi.value(np, wide), dtype)
    of = s if phi.needs_input else out
    expected = da * phi.derivative(np, of.astype(np.float64))
    run(formulas.adjoint(dtype, phi.derivative), 1, da.size, da=da, of=of)
    near(da, expected, dtype, 32)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("weights", [None, "rows", "both"])
@pytest.mark.parametrize("name", POINTWISE)
def test_pointwise_loss_equals_the_reference_in_float64(name, weights, dtype):
    loss, O = LOSSES[name], 1 if weights == "both" else 5
    rng = np.random.default_rng(0)
    z, w = rng.uniform(0.01, 0.99, (9, O)).astype(dtype), rng.random(9).astype(dtype)
    y = rng.choice([-1, 1] if name == "hinge" else [0, 1], (9, O)).astype(dtype)
    dz, expected = np.empty_like(z), np.empty(z.shape)
    weight = None if weights is None else w.astype(np.float64)
    wanted = reference.pointwise_loss(loss, z.astype(np.float64), y.astype(np.float64), weight, expected)
    loop = formulas.pointwise_loss(dtype, loss.value, loss.derivative, weights)
    share = 1 / (9 * O) if weights is None else 1 / O
    rows, columns = (9, O) if weights == "rows" else (1, 9 * O)
    value = run(loop, rows, columns, z=z, y=y, dz=dz, share=share, w=reference.normalized_weight(w))
    near(value, wanted, dtype)
    near(dz, expected, dtype)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("penalties", PENALTIES)
@pytest.mark.parametrize("factor", [None, 0.5])
@pytest.mark.parametrize("name", RULES)
def test_rule_equals_the_reference_in_float64(name, factor, penalties, dtype):
    vectors = [numbers(dtype, 100, seed=k) for k in range(4)]
    vectors[2:] = [abs(vector) for vector in vectors[2:]]  # moments
    control = None if factor is None else np.array([factor, 0.0])

    def updated(run, vectors, dtype):
        theta, grad, *moments = [vector.astype(dtype) for vector in vectors]
        moment = iter(moments)
        settings = [next(moment) if value == "moment" else value for value in RULES[name]]
        scalars = np.array([3.0, 0.01, 0.7])
        run(METHODS.get(name, name), Update(theta, grad, scalars, 60, *penalties, control), tuple(settings))
        return theta, *moments

    expected = updated(
        lambda name, update, settings: getattr(reference, name)(update, *settings), vectors, np.float64
    )
    got = updated(run_rule, vectors, dtype)
    for each, wanted in zip(got, expected, strict=True):
        near(each, wanted, dtype, 32)


def test_one_loop_serves_every_setting_of_a_rule():
    theta, grad, m, v = numbers(DTYPES[0], 4, 20)
    update = Update(theta, grad, np.array([1.0, 0.1, 1.0]), 10, weight_decay=0.1)
    settings = [(m, v, beta1, 0.999, 1e-8) for beta1 in (0.9, 0.8)]
    loops = [[loop for loop, *_ in formulas.rule_parts("adam", update, each)] for each in settings]
    assert loops[0] == loops[1] and loops[0][0] is not loops[0][1]


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_two_activations_of_one_name_have_loops_of_their_own(dtype):
    results = []
    for factor in (2, 3):
        phi = Activation("mine", lambda xp, s, _, f=factor: f * s, lambda xp, a, _, f=factor: f + 0 * a)
        out = np.ones((1, 5), dtype)
        run(formulas.activation(dtype, phi.value, False, False), 1, 5, out=out)
        results.append(out[0, 0])
    assert results == [2, 3]


def test_formula_that_counts_its_calls_is_refused_and_logged_once(caplog):
    calls = itertools.count(1)

    def counting(xp, s):
        return s * next(calls)

    with caplog.at_level(logging.INFO, "ffnn_gpu"):
        for _ in range(2):
            with pytest.raises(UntraceableError, match="its values depend on more than its arguments"):
                formulas.activation(DTYPES[0], counting, False, False)
    assert len(caplog.records) == 1
    assert "counting" in caplog.text and "test_formulas.py" in caplog.text


CONSTANTS = {"float": 1.5, "int": 2, "bool": True, "number of NumPy": np.float32(3)}


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", CONSTANTS)
def test_constant_activation_is_written_to_every_element(name, dtype):
    phi = Activation("constant", lambda xp, s, _: CONSTANTS[name], lambda xp, a, _: CONSTANTS[name])
    out, da = numbers(dtype, 3, 20), np.ones((3, 20), dtype)
    expected = reference.activate(out.copy(), phi)
    run(formulas.activation(dtype, phi.value, False, False), 1, 60, out=out)
    np.testing.assert_array_equal(out, expected)
    run(formulas.adjoint(dtype, phi.derivative), 1, 60, da=da, of=out)
    np.testing.assert_array_equal(da, reference.activation_backward(np.ones((3, 20), dtype), out, phi))


def test_constant_loss_is_refused_because_the_reference_would_sum_it_once():
    loss = PointwiseLoss("constant", lambda xp, z, y, _: 1.0, lambda xp, z, y, _: 0 * z)
    with pytest.raises(UntraceableError, match=r"constant\.value is not compiled: it returns one number"):
        formulas.pointwise_loss(DTYPES[0], loss.value, loss.derivative, None)


@pytest.mark.parametrize("change", [lambda xp, s: s.__imul__(2), lambda xp, s: xp.maximum(s, 0, out=s)])
def test_activation_that_changes_its_argument_is_refused(change):
    phi = Activation("changing", lambda xp, s, _: change(xp, s), lambda xp, a, _: a, needs_input=True)
    with pytest.raises(UntraceableError, match="it changes an argument in place"):
        formulas.activation(DTYPES[0], phi.value, False, True)


# ---------------------------------------------------------------------- update rules of users


class Own:
    """An owner of formula(xp, θ, g, η, t, m, factor)."""

    def __init__(self, formula):
        self._formula = formula

    def formula(self, *args):
        self._formula(*args)


def through_power(xp, theta, g, lr, t, m, factor):
    m *= m
    m += abs(g)
    m **= 0.5
    theta -= lr * m / t


def through_output(xp, theta, g, lr, t, m, factor):
    xp.multiply(m, factor, m)
    xp.add(m, g, out=m)
    theta -= lr * m


def through_copies(xp, theta, g, lr, t, m, factor):
    u, v = g.astype(theta.dtype), +g
    u *= 3
    v *= 2
    theta -= lr * (u + v + g)
    m[...] = u


def through_numbers(xp, theta, g, lr, t, m, factor):
    small, count, third = lr, t, factor
    small *= 0.1
    count += 1
    third /= 3
    theta -= lr * g + small * t * xp.sign(g) + factor * count + third
    m += count


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("formula", [through_power, through_output, through_copies, through_numbers])
def test_users_rule_that_changes_vectors_and_numbers_in_place_equals_the_reference(formula, dtype):
    own, results = Own(formula), []
    for rule in (run_rule, lambda name, update, settings: reference.own_rule(update, *settings)):
        theta, grad, m = numbers(dtype, 3, 100)
        update = Update(theta, grad, np.array([3.0, 0.1, 1.0]), 60, 0.1, 0.2, 0.3)
        rule("own_rule", update, (own.formula, m, 0.9))
        results.append((theta, m))
    for got, wanted in zip(*results, strict=True):
        near(got, wanted, dtype, 64)


def counting():
    calls = itertools.count(1)

    def formula(xp, theta, g, lr, t, m, factor):
        theta -= lr * g * next(calls)

    return formula


def of_the_module(xp, theta, g, lr, t, m, factor):
    m += 1 if xp is np else 2


def raising(xp, theta, g, lr, t, m, factor):
    theta -= lr * g
    if xp is np:
        raise ValueError("no")


def branching(xp, theta, g, lr, t, m, factor):
    theta -= lr * g if factor else g


USERS = {
    "counts its calls": (counting(), "its values depend on more than its arguments"),
    "depends on the module": (of_the_module, "its values depend on more than its arguments"),
    "raises": (raising, "it raises ValueError at a sample: no"),
    "branches on a number": (branching, "it branches on a value of an array"),
}


@pytest.mark.parametrize("name", USERS)
def test_users_rule_that_is_not_its_trace_is_refused_and_logged_once(name, caplog):
    formula, why = USERS[name]
    own, (theta, grad, m) = Own(formula), numbers(DTYPES[0], 3, 100)
    with caplog.at_level(logging.INFO, "ffnn_gpu"):
        for _ in range(2):
            update = Update(theta, grad, np.ones(3), 60, 0.1)
            with pytest.raises(UntraceableError, match=why):
                next(formulas.rule_parts("own_rule", update, (own.formula, m, 0.9)))
    assert len(caplog.records) == 1 and "Own.formula" in caplog.text


def test_static_formula_is_compiled():
    class Static:
        @staticmethod
        def formula(xp, theta, g, lr, t):
            theta -= lr * g

    theta, grad = np.ones((2, 50))
    run_rule("own_rule", Update(theta, grad, np.array([1.0, 0.25, 1.0]), 50), (Static().formula,))
    np.testing.assert_array_equal(theta, np.full(50, 0.75))


# ---------------------------------------------------------------------- what is kept


class Held:
    """Something in the closure of a formula."""


def test_activations_losses_and_rules_are_not_kept_alive():
    alive = []

    def build():
        held = Held()
        alive.append(weakref.ref(held))

        def value(xp, x, *_):
            return x * (2 if held else 1)

        def formula(xp, theta, g, lr, t, m, factor):
            theta -= g if held else lr

        phi = Activation("mine", value, value)
        loss = PointwiseLoss("mine", lambda xp, z, y, _: value(xp, z), lambda xp, z, y, _: value(xp, y))
        formulas.activation(DTYPES[0], phi.value, True, False)
        formulas.activation(DTYPES[0], functools.partial(value), True, False)
        formulas.adjoint(DTYPES[0], phi.derivative)
        formulas.pointwise_loss(DTYPES[0], loss.value, loss.derivative, None)
        theta, grad, m = numbers(DTYPES[0], 3, 10)
        update = Update(theta, grad, np.ones(3), 10)
        run_rule("own_rule", update, (Own(formula).formula, m, 0.5))
        with pytest.raises(UntraceableError):
            formulas.activation(DTYPES[0], lambda xp, s: s.sum() if held else s, True, False)

    build()
    gc.collect()
    assert alive[0]() is None


def test_loop_is_kept_for_its_activation(monkeypatch):
    phi = Activation("mine", lambda xp, s, _: 2 * s, lambda xp, a, _: 2 + 0 * a)
    first = formulas.activation(DTYPES[0], phi.value, False, False)
    monkeypatch.setattr(formulas, "check", None)
    assert formulas.activation(DTYPES[0], phi.value, False, False) is first
