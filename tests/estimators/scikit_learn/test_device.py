"""Which backend trains: NumPy for small problems, whatever is asked for otherwise."""

import pickle
import subprocess
import sys

import numpy as np
import pytest

from ffnn_gpu.backends.choice import NumpyBackend, get_backend
from ffnn_gpu.backends.cuda import formulas
from ffnn_gpu.backends.elementwise.built_once import MOMENT
from ffnn_gpu.errors import BackendUnavailableError, ConfigurationError
from ffnn_gpu.estimators import MLPClassifier
from ffnn_gpu.estimators.scikit_learn.device import FEW_STEPS, LITTLE_WORK, backend_for
from ffnn_gpu.estimators.scikit_learn.parameters import size_of
from ffnn_gpu.estimators.scikit_learn.problem import classification, regression
from ffnn_gpu.estimators.scikit_learn.solvers import EpsilonHatAdam, VelocitySGD
from ffnn_gpu.testing.strict_device import StrictBackend

X, Y = np.arange(20.0).reshape(10, 2), np.arange(10) % 2


@pytest.mark.parametrize("device", ["auto", "cpu", "numpy"])
def test_small_problem_is_trained_by_numpy_and_a_large_one_by_the_usual_backend(device, monkeypatch):
    monkeypatch.delenv("FFNN_GPU_DEVICE", raising=False)
    assert type(backend_for(device, FEW_STEPS, LITTLE_WORK)) is NumpyBackend
    for steps, work in ((FEW_STEPS + 1, 1.0), (1, LITTLE_WORK * 1.001)):
        assert type(backend_for(device, steps, work)) is type(get_backend(device))


def test_environment_variable_is_a_request(monkeypatch):
    monkeypatch.setenv("FFNN_GPU_DEVICE", "cpu")
    assert type(backend_for("auto", 1, 1.0)) is type(get_backend("cpu"))


def test_gpu_that_is_asked_for_is_never_replaced(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendUnavailableError):
        MLPClassifier(device="cuda").fit(X, Y)


def test_unknown_device_is_named():
    with pytest.raises(ConfigurationError, match="no device is called 'gpu'"):
        MLPClassifier(device="gpu").fit(X, Y)


PARAMETERS = [
    {}, {"solver": "sgd", "learning_rate": "adaptive", "early_stopping": True}, {"solver": "lbfgs"},
    {"dropout": 0.1, "normalization": "layer"}, {"class_weight": {0: 0.3, 1: 2.0}},
]  # fmt: skip


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("parameters", PARAMETERS)
def test_steps_keep_to_the_rules_of_a_gpu(parameters):
    """The strict device refuses a wait or a copy from the host within a step, and arrays of the host."""
    random = np.random.default_rng(0)
    x = random.normal(size=(60, 4))
    y, settings = (x[:, 0] > 0).astype(int), {"hidden_layer_sizes": (6,), "max_iter": 4, "random_state": 0}
    strict, plain = (
        MLPClassifier(device=backend, **settings, **parameters).fit(x, y)
        for backend in (StrictBackend(), NumpyBackend())
    )
    np.testing.assert_allclose(strict.coefs_[0], plain.coefs_[0], 1e-12)
    np.testing.assert_allclose(strict.predict_proba(x), plain.predict_proba(x), 1e-12)
    assert type(strict.coefs_[0]) is np.ndarray and not strict.coefs_[0].flags.writeable
    copy = pickle.loads(pickle.dumps(strict))  # noqa: S301
    np.testing.assert_allclose(copy.predict_proba(x), plain.predict_proba(x), 1e-9)


@pytest.mark.parametrize("rule", [EpsilonHatAdam(), VelocitySGD(), VelocitySGD(nesterov=False)])
@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_rules_of_scikit_learn_become_cuda_kernels(rule, dtype):
    kernel = formulas.update_rule(dtype, "own_rule", (rule.formula, *[MOMENT] * len(rule.moments)))
    assert kernel.name.startswith(type(rule).__name__)


LOSSES = [
    classification("multilabel", 3, "log_loss"), regression(2, "squared_error"), regression(2, "poisson"),
]  # fmt: skip


@pytest.mark.parametrize("problem", LOSSES, ids=lambda problem: problem.loss.name)
def test_losses_of_scikit_learn_become_cuda_kernels(problem):
    assert problem.loss.name in formulas.pointwise_loss("f32", problem.loss).name


def test_backend_object_is_used_as_it_is():
    backend = NumpyBackend()
    model = MLPClassifier(device=backend, solver="lbfgs", max_iter=2000).fit(X, Y)
    assert model.to_model().network.backend is backend


def test_size_counts_the_updates_and_the_products():
    for parameters, steps in (
        ({"max_iter": 4, "batch_size": 3}, 16), ({"max_iter": 5, "solver": "lbfgs"}, 5), ({}, 200),
    ):  # fmt: skip
        model = MLPClassifier(hidden_layer_sizes=(7, 3), **parameters)
        found = size_of(model, X.shape, 1)
        assert found == (steps, model.max_iter * 10 * (2 * 7 + 7 * 3 + 3 * 1))


def test_small_fit_does_not_import_llvmlite():
    code = (
        "import sys, numpy as np\nfrom ffnn_gpu import MLPRegressor\nX = np.arange(20.0).reshape(10, 2)\n"
        "MLPRegressor(solver='lbfgs').fit(X, X[:, 0]).predict(X)\n"
        "print([name for name in ('llvmlite', 'cupy', 'duckdb') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_classes_are_on_top_and_name_the_extra_without_scikit_learn():
    code = (
        "import sys\nsys.modules['sklearn'] = None\nimport ffnn_gpu\n"
        "from ffnn_gpu.errors import ConfigurationError\n"
        "try: from ffnn_gpu import MLPClassifier\n"
        "except ConfigurationError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith('MLPClassifier needs scikit-learn: pip install "ffnn_gpu[sklearn]" (')
