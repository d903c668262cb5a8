"""Learning-rate and decay factors per parameter, under every rule."""

from dataclasses import replace

import numpy as np
import pytest

from ffnn_gpu import SGD, Adagrad, Adam, AdamW, Lion, Nadam, RMSprop
from ffnn_gpu.nn.parameters import Parameters
from ffnn_gpu.nn.rates import Rate
from ffnn_gpu.testing import assert_close, tolerance
from tests.optim.test_optimizers import read

STEPS = 4
DECLARED = {
    "0.W": Rate(0.5, 2.0), "0.b": Rate(0.1), "1.W": Rate(1.0, 0.0), "1.b": Rate(6.0, 1.0),
    "2.W": Rate(), "2.b": Rate(),
}  # fmt: skip
RULES = [
    SGD(0.1, momentum=0.9, nesterov=True, l2=0.1), RMSprop(0.01, momentum=0.5), Adagrad(0.1, l1=0.01),
    Adam(0.01, weight_decay=0.3), AdamW(0.01, l2=0.1, l1=0.1), Nadam(0.01, weight_decay=0.3),
    Lion(0.01, weight_decay=0.3),
]  # fmt: skip


def made(backend, dtype, names, rates):
    """Return parameters with these names only; W (3, 2), b (2,)."""
    shapes = [{n.split(".")[1]: (3, 2) if "W" in n else (2,) for n in names if n[0] == k} for k in "012"]
    of_layers = [{n.split(".")[1]: rate for n, rate in rates.items() if n[0] == k} for k in "012"]
    params = Parameters(backend, shapes, [{}] * 3, dtype, of_layers)
    start = np.random.default_rng(0).normal(size=(6, 3, 2))
    values = dict(zip(DECLARED, start, strict=True))
    params.assign({n: (values[n] if "W" in n else values[n][0]).astype(dtype) for n in names})
    return params


def run(rule, params, steps=STEPS):
    rng, backend = np.random.default_rng(1), params.backend
    for _ in range(steps):
        gradients = dict(zip(DECLARED, rng.normal(size=(6, 3, 2)), strict=True))
        for slot in params.slots:
            values = gradients[slot.name].reshape(-1)[: slot.size].reshape(slot.shape)
            backend.copy(backend.asarray(values.astype(params.dtype)), out=slot.view(params.grad))
        rule.step(params)
    return params.to_host()


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: type(rule).__name__)
def test_every_parameter_moves_as_alone_with_its_own_learning_rate_and_decay(backend, dtype, rule):
    params = made(backend, dtype, DECLARED, DECLARED)
    assert len(params.groups) == 4
    found = run(rule, params)
    for name, declared in DECLARED.items():
        rate = declared.of((3, 2) if "W" in name else (2,))
        settings = {each: rate.decay * getattr(rule, each) for each in ("l2", "l1", "weight_decay")}
        alone = made(backend, dtype, [name], {name: Rate(1.0, 1.0)})
        want = run(replace(rule, lr=rate.lr * rule.lr, **settings), alone)[name]
        assert_close(found[name], want, STEPS * tolerance("network", dtype), name)


@pytest.mark.parametrize("name", ["AdamW(lr=0.05, weight_decay=0.3)", "SGD(lr=0.1, momentum=0.9, l2=0.05)"])
def test_ten_steps_with_factors_equal_pytorchs_parameter_groups(backend, dtype, golden, name):
    stored = golden("optimizers")
    W, b = (Rate(*stored["factors of groups"][each]) for each in "Wb")
    params = Parameters(backend, [{"W": (3, 2), "b": (2,)}], [{}], dtype, [{"W": W, "b": b}])
    params.assign({f"0.{each}": np.array(stored[each], dtype) for each in "Wb"})
    rule, copy = read(name), backend.copy
    for t, (gradient, want) in enumerate(zip(stored["gradients"], stored["grouped"][name], strict=True)):
        for each in "Wb":
            new = backend.asarray(np.array(gradient[each], dtype))
            copy(new, out=getattr(params.views[0], f"d{each}"))
        rule.step(params)
        for each in "Wb":
            bound = (t + 1) * tolerance("network", dtype)
            assert_close(params.to_host()[f"0.{each}"], np.array(want[each]), bound, f"{each} after {t + 1}")


def test_learning_rate_factor_zero_freezes_a_parameter(backend, dtype):
    params = made(backend, dtype, DECLARED, {"1.W": Rate(0.0)})
    before = params.to_host()
    after = run(AdamW(0.1, weight_decay=0.5), params)
    assert {n for n in before if (before[n] == after[n]).all()} == {"1.W"}


def test_own_formula_is_called_once_for_each_group_with_its_learning_rate(backend):
    seen = []

    class Counts(Adam):
        moments = ("m",)

        def update(self, backend, update, state):
            backend.own_rule(update, self.formula, state.m)

        def formula(self, xp, theta, g, lr, t, m):
            seen.append((float(lr), theta.shape == m.shape))

    params = made(backend, "float64", DECLARED, {"0.b": Rate(0.25), "1.b": Rate(0.25)})
    Counts(0.5).step(params)
    assert seen == [(0.5, True), (0.125, True)]


def test_factor_on_the_learning_rate_is_kept_with_a_skipped_update(backend, dtype):
    params = made(backend, dtype, DECLARED, DECLARED)
    params.loss_scale = backend.asarray(np.array([1024.0, 0.0]))
    before = params.to_host()
    backend.copy(backend.asarray(np.full(params.grad.shape, np.inf, dtype)), out=params.grad)
    Nadam(0.1, weight_decay=0.5).step(params)
    for name, value in params.to_host().items():
        np.testing.assert_array_equal(value, before[name])
    assert backend.to_host(params.loss_scale).tolist() == [512, 0]
