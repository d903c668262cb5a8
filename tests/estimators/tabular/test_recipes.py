"""The recipes of members: their layers, rules, targets and initial values."""

import numpy as np
import pytest

from ffnn_gpu import get_backend
from ffnn_gpu.data.labels import LabelMap
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.tabular.fit_ensemble import fit_ensemble
from ffnn_gpu.estimators.tabular.folds import folds_of
from ffnn_gpu.estimators.tabular.members import Plan, Rows, train_members
from ffnn_gpu.estimators.tabular.recipes import LINEAR, MLP_PLE, PRESETS, REAL_MLP, Plain, Preset, RealMLP
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.nn.layers import (
    Dense,
    Dropout,
    Embedding,
    NTKDense,
    ParametricActivation,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    Scale,
)
from ffnn_gpu.nn.network import Network

BINARY = Task("binary", 1, "binary_cross_entropy_with_logits", labels=LabelMap((0, 1)))
CLASSES = Task("multiclass", 3, "softmax_cross_entropy", labels=LabelMap((0, 1, 2)))
NUMBERS = Task("regression", 2, "mean_squared_error")


def test_recipes_of_a_preset_have_different_names():
    for preset in PRESETS.values():
        assert len({recipe.name for recipe in preset.recipes}) == len(preset.recipes)


RNG = np.random.default_rng(0)
X = np.column_stack([RNG.normal(size=(120, 2)), np.arange(120) % 5]).astype(np.float32)
X5 = np.hstack([X[:, :2], X])
SMALL = RealMLP(name="small", hidden=(8, 8), epochs=3, steps=1)


def test_linear_is_a_linear_model():
    assert LINEAR.layers((), X, NUMBERS) == [Dense(2)]
    assert [type(layer) for layer in LINEAR.layers((3, 5), X, NUMBERS)] == [Embedding, Dense]


def test_rates_of_dropout_are_for_classes_and_for_numbers():
    recipe = Plain(name="dropping", hidden=(8, 4), dropout=(0.4, 0.1))
    rates = [
        [layer.rate for layer in recipe.layers((), X, task) if isinstance(layer, Dropout)]
        for task in (CLASSES, NUMBERS)
    ]
    assert rates == [[0.4, 0.4], [0.1, 0.1]]


def test_numbers_alone_are_embedded():
    """Flags behind them and codes are passed on; a flag between numbers is one bin."""
    flags = (X[:, :1] > 0).astype(np.float32)
    x = np.hstack([flags, X[:, :2], flags, X[:, 2:]])
    embedding, bins, *dense = MLP_PLE.layers((5,), x, NUMBERS)
    assert isinstance(embedding, Embedding) and [*map(type, dense)] == 2 * [Dense, Dropout] + [Dense]
    assert isinstance(bins, PiecewiseLinearEmbedding)
    assert bins.edges[0] == (0, 1) and [len(column) for column in bins.edges] == [2, 49, 49]
    waves = REAL_MLP.layers((5,), x, NUMBERS)[1]
    assert isinstance(waves, PeriodicEmbedding) and waves.columns == 3


@pytest.mark.parametrize(("task", "phi"), [(CLASSES, "selu"), (BINARY, "selu"), (NUMBERS, "mish")])
def test_layers_of_realmlp_are_those_of_the_paper(task, phi):
    found = REAL_MLP.layers((7,), X5, task)
    block = [NTKDense, ParametricActivation, Dropout]
    assert [type(layer) for layer in found] == [Embedding, PeriodicEmbedding, Scale, *3 * block, NTKDense]
    assert {layer.phi.name for layer in found if isinstance(layer, ParametricActivation)} == {phi}
    assert [layer.width for layer in found if isinstance(layer, NTKDense)] == [256, 256, 256, task.outputs]
    assert {layer.rate for layer in found if isinstance(layer, Dropout)} == {0.15}


def test_rates_of_realmlp_are_those_of_the_paper():
    network = Network(5, REAL_MLP.layers((7,), X5, NUMBERS), "numpy")
    lr = {
        rate.lr for name in ("1.w", "1.b", "1.A", "1.c", "4.alpha") for rate in [network.params.rates[name]]
    }
    assert lr == {0.1}
    assert network.params.rates["2.gain"][:2] == (6, 6)
    assert network.params.rates["3.W"].lr == 1 and network.params.rates["3.b"][:2] == (0.1, 0)


def test_realmlp_of_codes_alone_has_no_waves():
    assert PeriodicEmbedding not in [type(layer) for layer in REAL_MLP.layers((7, 3), X[:, 1:], NUMBERS)]


def test_label_smoothing_keeps_the_mean_of_balanced_classes():
    y = np.array([0, 1, 1, 0])
    np.testing.assert_allclose(REAL_MLP.targets(y, BINARY), [0.05, 0.95, 0.95, 0.05], rtol=1e-6)
    assert REAL_MLP.task(CLASSES).label_smoothing == 0.1 and REAL_MLP.targets(y, CLASSES) is y
    assert REAL_MLP.task(NUMBERS) == NUMBERS and REAL_MLP.targets(y, NUMBERS) is y
    assert MLP_PLE.task(CLASSES) == CLASSES


def test_initial_values_depend_on_rows_outside_the_fold_only(backend):
    y, folds = RNG.normal(size=(120, 2)), folds_of(120, 3, 0)
    spoiled = X.copy()
    spoiled[folds == 1, :2] = 1e6
    thetas = []
    for x in (X, spoiled):
        rows = x[folds != 1]
        network = Network(3, SMALL.layers((5,), rows, NUMBERS), backend, seed=4)
        SMALL.initialize(network, rows, 4)
        thetas.append(np.array(backend.to_host(network.params.theta)))
    np.testing.assert_array_equal(*thetas)
    (member,), _ = train_members([Plan(SMALL, 1, 4)], Rows(X, y), folds, NUMBERS, (5,), backend, "float32")
    assert np.isfinite(member.held_out).all()


@pytest.mark.parametrize(
    ("task", "y"),
    [
        (BINARY, (X[:, 0] > 0).astype(int)),
        (CLASSES, np.digitize(X[:, 0], [-0.4, 0.4])),
        (NUMBERS, X[:, :2].astype(float)),
    ],
    ids=["binary", "classes", "numbers"],
)
def test_realmlp_learns(backend, task, y):
    learning = RealMLP(name="learning", hidden=(16, 16), epochs=40, steps=1, batch_size=32)
    constant = Plain(name="constant", lr=1e-9, epochs=1, steps=1)
    found = fit_ensemble(Rows(X, y), folds_of(120, 2, 0), task, (5,), [learning, constant], backend, seed=1)
    assert found.errors["learning"] < 0.5 * found.errors["constant"]
    assert found.weights == {"learning": 1.0}


def test_realmlp_trains_on_one_row():
    (member,), _ = train_members(
        [Plan(SMALL, 1, 4)],
        Rows(X[:2], np.eye(2)),
        np.arange(2),
        NUMBERS,
        (5,),
        get_backend("cpu"),
        "float32",
    )
    assert np.isfinite(member.held_out).all()


@pytest.mark.parametrize(
    ("recipes", "folds", "message"),
    [
        ((), 3, "recipes with different names"),
        ((LINEAR, LINEAR), 3, "recipes with different names"),
        ((LINEAR,), 1, "folds of a Preset must be"),
        ((LINEAR,), 2.0, "folds of a Preset must be"),
    ],
)
def test_preset_that_cannot_be_trained_is_refused(recipes, folds, message):
    with pytest.raises(ConfigurationError, match=message):
        Preset(recipes, folds)
