"""The defaults of a training run that depend on its data."""

import numpy as np
import pytest

from ffnn_gpu.estimators import recipe
from ffnn_gpu.estimators.train_table import train_table as train

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2))
ROWS = {"a": X[:, 0], "b": X[:, 1], "y": X[:, 0] - X[:, 1]}


def rule_of(monkeypatch, **settings):
    """Return the optimizer that `fit` receives."""
    found = []
    fit = recipe.fit

    def spy(network, loss, rule, *arguments, **more):
        found.append(rule)
        return fit(network, loss, rule, *arguments, **more)

    monkeypatch.setattr(recipe, "fit", spy)
    train(ROWS, "y", verbose=0, epochs=1, hidden=(4,), device="numpy", **settings)
    return found[0]


def test_table_is_trained_with_the_weight_decay_of_tables(monkeypatch):
    assert rule_of(monkeypatch).weight_decay == recipe.TABLE_WEIGHT_DECAY == 1


@pytest.mark.parametrize("given", [0.0, 0.3])
def test_given_weight_decay_is_used(monkeypatch, given):
    assert rule_of(monkeypatch, weight_decay=given).weight_decay == given


def test_other_optimizer_keeps_its_own_weight_decay(monkeypatch):
    rule = rule_of(monkeypatch, optimizer="sgd")
    assert rule.weight_decay == type(rule)().weight_decay


def test_high_learning_rate_lowers_the_weight_decay_of_tables(monkeypatch):
    rule = rule_of(monkeypatch, lr=0.15)
    assert rule.lr * rule.weight_decay == pytest.approx(recipe.DECAY_OF_A_STEP)
    assert rule_of(monkeypatch, lr=1e-4).weight_decay == recipe.TABLE_WEIGHT_DECAY
