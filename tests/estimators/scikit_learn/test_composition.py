"""The estimators inside scikit-learn's tools: pipelines, searches, calibration, routing, processes."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import TransformedTargetRegressor
from sklearn.datasets import load_iris, make_regression
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import GridSearchCV, HalvingGridSearchCV, cross_val_predict, cross_val_score
from sklearn.neural_network import MLPClassifier as Theirs
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ffnn_gpu.estimators import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, Y = load_iris(return_X_y=True)
SMALL = {"hidden_layer_sizes": (6,), "max_iter": 15, "learning_rate_init": 0.05, "random_state": 0}


def test_cross_validation_in_a_pipeline_scores_as_scikit_learns_class():
    ours, theirs = (
        cross_val_score(make_pipeline(StandardScaler(), kind(**SMALL)), X, Y, cv=4)
        for kind in (MLPClassifier, Theirs)
    )
    np.testing.assert_array_equal(ours, theirs)


def test_grid_search_finds_what_it_finds_with_scikit_learns_class():
    grid = {"mlpclassifier__alpha": [1e-4, 10.0], "mlpclassifier__activation": ["relu", "tanh"]}
    ours, theirs = (
        GridSearchCV(make_pipeline(StandardScaler(), kind(**SMALL)), grid, cv=3).fit(X, Y)
        for kind in (MLPClassifier, Theirs)
    )
    assert ours.best_params_ == theirs.best_params_
    np.testing.assert_allclose(ours.cv_results_["mean_test_score"], theirs.cv_results_["mean_test_score"])


def test_halving_search_runs_over_epochs():
    search = HalvingGridSearchCV(
        MLPClassifier(hidden_layer_sizes=(6,), learning_rate_init=0.05, random_state=0),
        {"alpha": [1e-4, 1e-2, 1.0, 100.0]},
        resource="max_iter", min_resources=4, max_resources=16, factor=2, cv=3,
    ).fit(X, Y)  # fmt: skip
    assert search.best_params_["alpha"] < 100 and search.best_estimator_.n_iter_ <= 16


def test_calibrated_probabilities_sum_to_one():
    model = make_pipeline(StandardScaler(), MLPClassifier(**SMALL))
    calibrated = CalibratedClassifierCV(model, cv=3).fit(X, Y)
    np.testing.assert_allclose(calibrated.predict_proba(X).sum(axis=1), 1)
    assert calibrated.score(X, Y) > 0.9


def test_clone_has_the_parameters_and_nothing_learnt():
    model = MLPClassifier(dropout=[0.5], hidden_layer_sizes=[6], max_iter=2).fit(X, Y)
    copy = clone(model)
    assert copy.get_params() == model.get_params() and not hasattr(copy, "coefs_")


def test_set_output_of_a_pipeline_keeps_feature_names():
    pytest.importorskip("pandas")
    frame = load_iris(as_frame=True)
    model = make_pipeline(StandardScaler(), MLPClassifier(**SMALL)).set_output(transform="pandas")
    model.fit(frame.data, frame.target)
    assert [*model[-1].feature_names_in_] == [*frame.data.columns]


def test_sample_weights_are_routed_to_fit_and_score():
    weight = np.where(Y == 2, 1e-6, 1.0)
    with sklearn.config_context(enable_metadata_routing=True):
        model = MLPClassifier(**SMALL).set_fit_request(sample_weight=True)
        model = model.set_score_request(sample_weight=True)
        routed = cross_val_score(model, X, Y, cv=3, params={"sample_weight": weight})
    plain = cross_val_score(MLPClassifier(**SMALL), X, Y, cv=3)
    assert (routed > plain).all()  # rows of the class that is not learnt do not count


def test_target_transformer_restores_the_units():
    x, y = make_regression(80, 3, random_state=0)
    model = TransformedTargetRegressor(
        MLPRegressor(**SMALL, solver="sgd", batch_size=10), transformer=StandardScaler()
    )
    assert model.fit(x, 1000 + y).score(x, 1000 + y) > 0.9


def test_folds_in_processes_score_as_in_one_process():
    model = MLPClassifier(**SMALL)
    together = cross_val_predict(model, X, Y, cv=2, n_jobs=2, method="predict_proba")
    np.testing.assert_array_equal(together, cross_val_predict(model, X, Y, cv=2, method="predict_proba"))


def test_a_worker_of_joblib_computes_on_its_share_of_the_cores():
    """joblib sets the thread counts of numerical libraries in its workers, and the thread pool follows."""
    code = (
        "from joblib import Parallel, delayed\n"
        "from ffnn_gpu.backends.cpu.recording.threads import threads\n"
        "print(Parallel(n_jobs=2)(delayed(threads)() for _ in range(2)))\n"
    )
    environment = {"LOKY_MAX_CPU_COUNT": "2"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**_plain_environment(), **environment}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip
    assert done.stdout == "[1, 1]\n"


def _plain_environment():
    return {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}


def test_pickle_of_a_pipeline_predicts_the_same_bits():
    model = make_pipeline(StandardScaler(), MLPClassifier(**SMALL)).fit(X, Y)
    copy = pickle.loads(pickle.dumps(model))  # noqa: S301
    np.testing.assert_array_equal(copy.predict_proba(X), model.predict_proba(X))
