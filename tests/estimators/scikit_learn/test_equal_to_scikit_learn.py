"""A fit with the same random_state gives scikit-learn's own weights and losses, in float64 to rounding.

Weights are drawn, rows are shuffled and held out by the same generator in the same order, so whole training
runs can be compared, with all attributes.
"""

import inspect
import warnings

import numpy as np
import pytest
import scipy.sparse
from sklearn import neural_network
from sklearn.datasets import make_classification, make_multilabel_classification, make_regression

from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.estimators import MLPClassifier, MLPRegressor
from ffnn_gpu.estimators.scikit_learn.lbfgs import Objective
from ffnn_gpu.estimators.scikit_learn.problem import regression
from ffnn_gpu.evaluation.samples import Samples

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
HAS_WEIGHTS = "sample_weight" in inspect.signature(neural_network.MLPRegressor.fit).parameters  # since 1.7
PAIRS = {
    "classifier": (MLPClassifier, neural_network.MLPClassifier),
    "regressor": (MLPRegressor, neural_network.MLPRegressor),
}
RECORDED = (
    "loss_", "loss_curve_", "best_loss_", "validation_scores_", "best_validation_score_", "n_iter_", "t_",
    "n_layers_", "n_outputs_", "out_activation_", "n_features_in_", "_no_improvement_count",
)  # fmt: skip


def problem(name):
    """Return the pair of classes, X and y."""
    if name == "multiclass":
        return (
            *PAIRS["classifier"],
            *make_classification(90, 6, n_informative=4, n_classes=3, random_state=0),
        )
    if name == "binary":
        return (*PAIRS["classifier"], *make_classification(90, 6, random_state=0))
    if name == "multilabel":
        return (*PAIRS["classifier"], *make_multilabel_classification(90, 6, random_state=0))
    X, y = make_regression(90, 6, n_targets=3 if name == "several numbers" else 1, random_state=0)
    return (*PAIRS["regressor"], X, y / 50)


PROBLEMS = "multiclass", "binary", "multilabel", "one number", "several numbers"


def fitted(pair, X, y, weight=None, **parameters):
    """Return our estimator and scikit-learn's, fitted alike."""
    parameters = {"hidden_layer_sizes": (8, 5), "max_iter": 12, "random_state": 3, **parameters}
    more = {} if weight is None else {"sample_weight": weight}
    return [kind(**parameters).fit(X, y, **more) for kind in pair]


def assert_equal(ours, theirs, rtol=1e-9, atol=1e-12):
    for name in (name for name in RECORDED if hasattr(theirs, name)):
        mine, wanted = getattr(ours, name), getattr(theirs, name)
        if wanted is None or isinstance(wanted, str):
            assert mine == wanted, name
        else:
            np.testing.assert_allclose(mine, wanted, rtol, atol, err_msg=name)
    for name in ("coefs_", "intercepts_"):
        for mine, wanted in zip(getattr(ours, name), getattr(theirs, name), strict=True):
            np.testing.assert_allclose(mine, wanted, rtol, atol, err_msg=name)
            assert mine.dtype == wanted.dtype


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_weights_and_losses_of_every_problem_equal_scikit_learn(name, solver):
    ours, theirs, X, y = problem(name)
    a, b = fitted((ours, theirs), X, y, solver=solver, batch_size=32, alpha=0.1, learning_rate_init=0.01)
    assert_equal(a, b)
    np.testing.assert_array_equal(a.predict(X).shape, b.predict(X).shape)
    np.testing.assert_allclose(a.predict(X), b.predict(X), 1e-9)


@pytest.mark.parametrize("name", ["multiclass", "binary", "multilabel", "one number"])
def test_lbfgs_reaches_the_weights_of_scikit_learn(name):
    ours, theirs, X, y = problem(name)
    assert_equal(*fitted((ours, theirs), X, y, solver="lbfgs", max_iter=8, alpha=0.1), rtol=1e-6, atol=1e-9)


def test_lbfgs_of_several_numbers_follows_the_gradient_of_its_loss():
    """Not scikit-learn's weights: there, the gradient of several outputs is not that of the loss."""
    X, y = problem("several numbers")[2:]
    model = MLPRegressor(hidden_layer_sizes=(4,), activation="tanh", max_iter=1, random_state=0).fit(X, y)
    network = model.to_model().network
    weight = np.random.default_rng(0).uniform(0.5, 2, len(X))
    targets = regression(3, "squared_error")
    objective = Objective(network, targets, Samples(rows_of(X), y, weight), alpha=0.3)
    theta = network.params.theta.copy()
    slopes = []
    for k in range(len(theta)):
        step = 1e-6 * (np.arange(len(theta)) == k)
        slopes.append((objective(theta + step)[0] - objective(theta - step)[0]) / 2e-6)
    used = np.concatenate([np.arange(slot.start, slot.start + slot.size) for slot in network.params.slots])
    value, slope = objective(theta)
    np.testing.assert_allclose(slope[used], np.array(slopes)[used], 1e-5, 1e-7)
    error = np.average(((model.predict(X) - y) ** 2).mean(axis=1), weights=weight) / 2
    penalty = 0.5 * 0.3 * sum(np.sum(W**2) for W in model.coefs_) / weight.sum()
    assert objective.reported(value, theta) == pytest.approx(error + penalty, rel=1e-9)


SETTINGS = {
    "tanh": {"activation": "tanh"},
    "logistic": {"activation": "logistic"},
    "identity": {"activation": "identity"},
    "invscaling": {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.3},
    "adaptive": {"solver": "sgd", "learning_rate": "adaptive", "tol": 0.5, "n_iter_no_change": 1},
    "no momentum": {"solver": "sgd", "momentum": 0.0},
    "momentum of 1": {"solver": "sgd", "momentum": 1.0, "learning_rate_init": 1e-4},
    "plain momentum": {"solver": "sgd", "nesterovs_momentum": False},
    "no shuffling": {"shuffle": False, "batch_size": 32},
    "no penalty": {"alpha": 0.0, "batch_size": 32},
    "other decays": {"beta_1": 0.7, "beta_2": 0.9, "epsilon": 1e-3},
    "held-out rows": {
        "early_stopping": True,
        "validation_fraction": 0.3,
        "n_iter_no_change": 2,
        "max_iter": 40,
    },
    "held-out rows, equal scores": {
        "early_stopping": True,
        "tol": 0.0,
        "n_iter_no_change": 2,
        "max_iter": 30,
    },
    "convergence": {"tol": 0.05, "n_iter_no_change": 2, "max_iter": 60},
    "one layer": {"hidden_layer_sizes": 7},
    "no layer": {"hidden_layer_sizes": ()},
}


@pytest.mark.parametrize("setting", SETTINGS)
@pytest.mark.parametrize("name", ["multiclass", "binary", "one number"])
def test_every_setting_means_what_it_means_in_scikit_learn(setting, name):
    ours, theirs, X, y = problem(name)
    assert_equal(*fitted((ours, theirs), X, y, **SETTINGS[setting]))


@pytest.mark.parametrize("name", PROBLEMS)
def test_penalty_reaches_weights_of_constant_inputs_as_in_scikit_learn(name):
    """There the gradient is as small as epsilon, and its place in the rule of Adam shows."""
    ours, theirs, X, y = problem(name)
    assert_equal(*fitted((ours, theirs), np.hstack([X, np.zeros((len(X), 4))]), y), rtol=1e-8)


@pytest.mark.parametrize("name", ["multiclass", "one number"])
def test_sparse_rows_train_as_dense_ones(name):
    ours, theirs, X, y = problem(name)
    X = np.where(np.abs(X) > 0.5, X, 0)
    a, b = (
        fitted((ours, theirs), X, y, batch_size=40)[1],
        ours(hidden_layer_sizes=(8, 5), max_iter=12, random_state=3, batch_size=40).fit(
            scipy.sparse.csr_matrix(X), y
        ),
    )
    assert_equal(b, a)
    np.testing.assert_allclose(b.predict(scipy.sparse.csc_matrix(X)), b.predict(X))


@pytest.mark.parametrize("name", ["multiclass", "one number"])
def test_float32_rows_train_in_float32(name):
    ours, theirs, X, y = problem(name)
    assert_equal(*fitted((ours, theirs), X.astype(np.float32), y), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["multiclass", "binary", "one number"])
def test_partial_fit_continues_as_in_scikit_learn(name):
    *kinds, X, y = problem(name)
    classes = {} if name == "one number" else {"classes": np.unique(y)}
    both = []
    for kind in kinds:
        model = kind(
            hidden_layer_sizes=(8, 5), max_iter=12, random_state=3, solver="sgd", learning_rate="invscaling"
        )
        for start in (0, 30, 60):
            model.partial_fit(X[start : start + 30], y[start : start + 30], **classes)
        both.append(model)
    assert_equal(*both)


def test_weights_that_are_set_by_hand_are_those_that_train():
    *kinds, X, y = problem("multiclass")
    both = [
        kind(hidden_layer_sizes=(8, 5), max_iter=1, random_state=3, warm_start=True).fit(X, y)
        for kind in kinds
    ]
    start = np.random.default_rng(0)
    weights = [start.normal(0, 0.3, W.shape) for W in both[0].coefs_]
    for model in both:
        model.coefs_ = [W.copy() for W in weights]
        model.set_params(solver="sgd", max_iter=6).fit(X, y)
    assert_equal(*both)


@pytest.mark.skipif(not HAS_WEIGHTS, reason="scikit-learn takes sample_weight and poisson since 1.7")
@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("name", ["multiclass", "binary", "multilabel", "one number"])
def test_sample_weights_count_as_in_scikit_learn(name, solver):
    ours, theirs, X, y = problem(name)
    weight = np.random.default_rng(1).uniform(0.1, 3, len(X))
    exact = {} if solver == "lbfgs" else {"batch_size": 32}
    a, b = fitted((ours, theirs), X, y, weight, solver=solver, alpha=0.5, max_iter=8, **exact)
    assert_equal(a, b, rtol=1e-6 if solver == "lbfgs" else 1e-9)
    assert a.score(X, y, weight) == pytest.approx(b.score(X, y, weight))


@pytest.mark.skipif(not HAS_WEIGHTS, reason="scikit-learn takes sample_weight and poisson since 1.7")
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
def test_poisson_deviance_equals_scikit_learn(solver):
    _, _, X, y = problem("one number")
    counts = np.random.default_rng(1).poisson(np.exp(0.2 * y))
    a, b = fitted(PAIRS["regressor"], X, counts, loss="poisson", solver=solver, max_iter=8)
    assert_equal(a, b, rtol=1e-6 if solver == "lbfgs" else 1e-9, atol=1e-9)
    np.testing.assert_allclose(a.predict(X), b.predict(X), 1e-6)


@pytest.mark.skipif(not HAS_WEIGHTS, reason="scikit-learn takes sample_weight and poisson since 1.7")
def test_held_out_rows_are_scored_with_their_weights():
    ours, theirs, X, y = problem("one number")
    weight = np.random.default_rng(1).uniform(0.1, 3, len(X))
    assert_equal(*fitted((ours, theirs), X, y, weight, early_stopping=True, max_iter=15))


@pytest.mark.parametrize("solver", ["adam", "sgd"])
def test_verbose_prints_the_lines_of_scikit_learn(solver, capsys):
    *kinds, X, y = problem("binary")
    printed = []
    for kind in kinds:
        for learning_rate, stop in (("constant", True), ("adaptive", False)):
            settings = {"learning_rate": learning_rate, "early_stopping": stop, "tol": 0.5, "max_iter": 30}
            kind((4,), random_state=0, solver=solver, verbose=True, n_iter_no_change=1, **settings).fit(X, y)
        printed.append(capsys.readouterr().out)
    assert printed[0] == printed[1] and "Stopping." in printed[0]


def test_warnings_are_those_of_scikit_learn():
    *kinds, X, y = problem("binary")
    texts = []
    for kind in kinds:
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            kind((4,), random_state=0, max_iter=2, batch_size=1000).fit(X, y)
            places = {entry.filename for entry in found}
            kind((4,), random_state=0, max_iter=2, solver="lbfgs").fit(X, y)
        texts.append([(entry.category, str(entry.message).split("\n")[0]) for entry in found])
        assert kind is kinds[1] or places == {__file__}
    assert texts[0] == texts[1] and len(texts[0]) == 3
