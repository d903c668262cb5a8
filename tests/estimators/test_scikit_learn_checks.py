"""scikit-learn's own checks of estimators, on both classes: with minibatches, and with L-BFGS."""

import inspect
import unittest

import pytest
from sklearn import neural_network
from sklearn.utils.estimator_checks import estimator_checks_generator

from ffnn_gpu.estimators import MLPClassifier, MLPRegressor
from tests.every_case import some_of

ESTIMATORS = [
    MLPClassifier(max_iter=30, learning_rate_init=0.01),
    MLPRegressor(max_iter=30, learning_rate_init=0.01),
    MLPClassifier(solver="lbfgs", max_iter=40),
    MLPRegressor(solver="lbfgs", max_iter=40),
]
# Why not parametrize_with_checks: that of scikit-learn 1.6 gives pytest a generator, which warns.
CASES = [
    pytest.param(*pair, id=f"{type(estimator).__name__}-{estimator.solver}-{k}")
    for j, estimator in enumerate(ESTIMATORS)
    for k, pair in some_of([*enumerate(estimator_checks_generator(estimator))], 1 + j // 2 * 2)
]  # every check with minibatches; with L-BFGS a third, or all if EVERY_CASE=1


def test_there_are_scikit_learns_checks():
    assert len(CASES) > 2 * 50 + 2 * 15


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("estimator", "check"), CASES)
def test_estimator_passes_the_checks_of_scikit_learn(estimator, check):
    check(estimator)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("parameters", "reason"),
    [({"dtype": "float32"}, "a rounding of 1.1e-7 exceeds 1e-7"), ({"dropout": 0.1}, "masks belong to rows")],
)
def test_only_equality_of_weights_and_repeated_rows_fails_for(parameters, reason):
    estimator, failed = MLPRegressor(max_iter=30, learning_rate_init=0.01, **parameters), set()
    checks = [*estimator_checks_generator(estimator)]
    weights = [each for each in checks if "sample_weight" in each[1].func.__name__]
    for given, check in {*some_of(checks, 4), *weights}:
        try:
            check(given)
        except unittest.SkipTest:
            continue
        except Exception:
            failed.add(check.func.__name__)
    assert failed == {f"check_sample_weight_equivalence_on_{kind}_data" for kind in ("dense", "sparse")}


@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_constructor_has_every_parameter_of_scikit_learn_with_its_default(kind):
    theirs = inspect.signature(getattr(neural_network, kind.__name__)).parameters
    ours = inspect.signature(kind).parameters
    assert {name: ours[name].default for name in theirs} == {name: p.default for name, p in theirs.items()}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("solver", ["adam", "lbfgs"])
@pytest.mark.parametrize("kind", [MLPClassifier, MLPRegressor])
def test_fitted_attributes_are_those_of_scikit_learn_and_more(kind, solver):
    X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1]
    theirs = getattr(neural_network, kind.__name__)(max_iter=1, solver=solver).fit(X, y)
    ours = kind(max_iter=1, solver=solver).fit(X, y)
    public = {name for name in vars(theirs) if name.endswith("_") and not name.startswith("_")}
    assert public <= {*vars(ours)}
