"""The network of a fitted estimator: the arrays it shows, its pickle, and the moments of its optimizer."""

import copy
import gc
import pickle
import pickletools
import sys

import numpy as np
import pytest
from sklearn.datasets import load_iris

from ffnn_gpu.backends.choice import NumpyBackend, get_backend
from ffnn_gpu.errors import ShapeError
from ffnn_gpu.estimators import MLPClassifier, MLPRegressor
from ffnn_gpu.nn.workspace import Workspace

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, Y = load_iris(return_X_y=True)
SMALL = {"hidden_layer_sizes": (6,), "max_iter": 5, "random_state": 0}


def test_arrays_changed_in_place_change_the_predictions():
    model = MLPClassifier(**SMALL).fit(X, Y)
    model.coefs_[1][...] = 0
    model.intercepts_[1][...] = [0, 0, 1]
    assert set(model.predict(X)) == {2}


def test_array_that_replaces_another_changes_the_predictions():
    model = MLPClassifier(**SMALL).fit(X, Y)
    model.coefs_ = [model.coefs_[0], np.zeros((6, 3))]
    model.intercepts_[1] = np.array([0.0, 1.0, 0.0])
    assert set(model.predict(X)) == {1}


def test_array_of_another_shape_is_refused():
    model = MLPClassifier(**SMALL).fit(X, Y)
    model.coefs_[1] = np.zeros((5, 3))
    with pytest.raises(ShapeError, match=r"layer 1 has parameters \(6, 3\); an array \(5, 3\) is given"):
        model.predict(X)


def test_shown_arrays_of_16_bit_parameters_cannot_be_changed_unnoticed():
    model = MLPClassifier(dtype="bfloat16", **SMALL).fit(X, Y)
    with pytest.raises(ValueError, match="read-only"):
        model.coefs_[0][...] = 0
    model.coefs_[1] = np.zeros((6, 3))
    model.intercepts_[1] = np.array([0.0, 1.0, 0.0])
    assert set(model.predict(X)) == {1}


def test_weights_of_an_estimator_that_was_never_fitted_are_trained_on():
    start, model = MLPClassifier(**SMALL).fit(X, Y), MLPClassifier(**SMALL, warm_start=True)
    model.coefs_, model.intercepts_ = start.coefs_, start.intercepts_
    model.n_outputs_, model.n_layers_, model.out_activation_, model.n_features_in_ = 3, 3, "softmax", 4
    model.loss_curve_, model.best_loss_, model._no_improvement_count, model.t_ = [], np.inf, 0, 0
    model.validation_scores_ = model.best_validation_score_ = model.validation_loss_curve_ = None
    model.fit(X, Y)
    assert model.loss_curve_[0] < start.loss_curve_[0]


def through_pickle(model):
    return pickle.loads(pickle.dumps(model))  # noqa: S301


@pytest.mark.parametrize("copied", [copy.deepcopy, through_pickle])
def test_copy_predicts_and_trains_on_as_the_original(copied):
    model = MLPRegressor(**SMALL).fit(X, Y)
    twin = copied(model)
    np.testing.assert_array_equal(twin.predict(X), model.predict(X))
    for each in (model, twin):
        each.partial_fit(X, Y).partial_fit(X, Y)
    np.testing.assert_array_equal(twin.coefs_[0], model.coefs_[0])
    assert twin.loss_curve_ == model.loss_curve_


def test_moments_of_the_optimizer_are_in_the_pickle():
    model = MLPRegressor(**SMALL).fit(X, Y)
    fresh = copy.deepcopy(model)
    fresh._trained.forget_moments()
    for each in (model, fresh):
        each.partial_fit(X, Y)
    assert not np.array_equal(model.coefs_[0], fresh.coefs_[0])


def test_moments_survive_a_warm_start():
    """Two warm fits of 5 epochs give the weights of one fit of 10; scikit-learn starts new moments."""
    whole = MLPRegressor(**{**SMALL, "max_iter": 10}, shuffle=False).fit(X, Y)
    model = MLPRegressor(**SMALL, shuffle=False, warm_start=True).fit(X, Y).fit(X, Y)
    np.testing.assert_array_equal(model.coefs_[0], whole.coefs_[0])
    cold = MLPRegressor(**SMALL, shuffle=False).fit(X, Y).fit(X, Y)
    np.testing.assert_array_equal(cold.loss_curve_, whole.loss_curve_[:5])


def test_moments_of_another_rule_are_not_used():
    model = MLPRegressor(**SMALL, warm_start=True).fit(X, Y)
    twin = copy.deepcopy(model)
    twin._trained.forget_moments()
    for each in (model, twin):
        each.set_params(solver="sgd").fit(X, Y)
    np.testing.assert_array_equal(model.coefs_[0], twin.coefs_[0])


def test_pickle_names_no_module_of_cupy_and_opens_where_the_gpu_is_gone(monkeypatch):
    model = MLPClassifier(**SMALL).fit(X, Y)
    saved = model._trained.__getstate__() | {"device": "cupy", "small": False}
    data = pickle.dumps(model)
    names = {argument for _, argument, _ in pickletools.genops(data) if isinstance(argument, str)}
    assert not any("cupy" in name.lower() for name in names)
    assert all(isinstance(array, np.ndarray) for array in saved["arrays"].values())
    monkeypatch.setitem(sys.modules, "cupy", None)
    model._trained.__setstate__(saved)
    model.coefs_, model.intercepts_ = model._trained.show()
    assert model._trained.network.backend.name == "numpy" and len(model.predict(X)) == len(X)


def test_pickle_holds_each_parameter_once():
    model = MLPClassifier(hidden_layer_sizes=(300, 300), max_iter=1, solver="lbfgs").fit(X, Y)
    assert len(pickle.dumps(model)) < 1.2 * 8 * model.to_model().network.params.count


def test_network_trained_by_numba_predicts_what_numpy_predicts():
    pytest.importorskip("llvmlite")
    by_numba = MLPClassifier(device=get_backend("cpu"), **SMALL).fit(X, Y)
    by_numpy = MLPClassifier(device=NumpyBackend(), **SMALL).fit(X, Y)
    np.testing.assert_allclose(by_numba.predict_proba(X), by_numpy.predict_proba(X), 1e-9)
    np.testing.assert_allclose(by_numba.loss_curve_, by_numpy.loss_curve_, 1e-9)


@pytest.mark.parametrize("first", [True, False])
def test_warm_start_may_stop_by_the_other_quantity(first):
    model = MLPClassifier(**SMALL, warm_start=True, early_stopping=first).fit(X, Y)
    model.set_params(early_stopping=not first).fit(X, Y)
    assert model.n_iter_ == 5 and len(model.loss_curve_) == 10
    assert len(model.validation_scores_) == 5 and np.isfinite(
        model.best_loss_ or model.best_validation_score_
    )


@pytest.mark.parametrize("parameters", [{"early_stopping": True}, {"solver": "lbfgs"}])
def test_memory_of_a_fit_is_free_before_the_garbage_collector_runs(parameters):
    gc.collect()
    gc.disable()
    try:
        model = MLPClassifier(**SMALL, **parameters).fit(X, Y)
        model.predict(X)
        held = [o for o in gc.get_objects() if issubclass(type(o), Workspace) and vars(o)]  # no proxies
    finally:
        gc.enable()
    assert not [ws for ws in held if ws.owner is model.to_model().network.params]
