"""The scatter of a pass is as large as its rounding errors, and the same for a wrong formula."""

import numpy as np
import pytest

from ffnn_gpu import BatchNorm, Dense, Network, mean_squared_error
from ffnn_gpu.arrays.precision import eps
from ffnn_gpu.backends.choice import Backend
from ffnn_gpu.testing.one_pass import one_pass
from ffnn_gpu.testing.rounding import DRAWS, NORM, RoundingBackend, exact_pass, scatter
from proofs import false_alarms

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(8, 4)), RNG.normal(size=(8, 3))
LAYERS = {"dense": [Dense(6, "tanh"), Dense(3)], "batch norm": [Dense(6, "tanh"), BatchNorm(), Dense(3)]}


def test_operations_of_the_backend_are_disturbed_within_the_unit():
    backend, A = RoundingBackend(1e-3, 0), np.ones((50, 3))
    out = backend.gemm(A, np.eye(3), np.empty((50, 3)))
    assert 1e-4 < np.abs(out - 1).max() <= 1e-3 and (A == 1).all()
    norms = [np.empty((50, 3)), np.empty((50, 3)), *np.empty((3, 3))]
    backend.batch_norm(RNG.normal(size=(50, 3)), np.ones(3), np.zeros(3), 1e-5, *norms)
    _, xhat, rstd, _, variance = norms
    assert (np.abs(rstd * np.sqrt(variance + 1e-5) - 1) > 1e-6).any() and xhat.std() == pytest.approx(1, 0.01)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("layers", LAYERS.values(), ids=LAYERS)
def test_scatter_is_as_large_as_the_rounding_errors(layers, dtype):
    network = Network(4, layers, Backend(), dtype)
    exact, got = (
        exact_pass(network, mean_squared_error, X, Y, None),
        one_pass(network, mean_squared_error, X, Y),
    )
    room = scatter(network, mean_squared_error, X, Y, None)
    assert {name for name in room if not name.startswith(NORM)} == set(exact) and DRAWS >= 4
    for name, value in exact.items():
        error, largest = np.abs(got[name] - value).max(), np.abs(value).max()
        assert error <= 4 * room[name] + eps(network.dtype) * largest, name
        assert room[name] <= 200 * eps(network.compute_dtype) * max(largest, 1), name


def test_exact_pass_is_that_of_the_network_in_float64_on_the_reference():
    network = Network(4, LAYERS["dense"], "numpy", "float32", seed=3)
    twin = Network(4, LAYERS["dense"], Backend(), "float64", seed=3)
    twin.params.assign({name: value.astype(float) for name, value in network.params.to_host().items()})
    want = one_pass(twin, mean_squared_error, X.astype("float32").astype(float), Y)
    for name, value in exact_pass(network, mean_squared_error, X, Y, None).items():
        np.testing.assert_array_equal(value, want[name])


@pytest.mark.parametrize("number", [27, 246])  # a gradient that cancels in float16, a small one in bfloat16
def test_wrong_formula_within_the_rounding_of_16_bits_is_detected(number):
    drawn = false_alarms.draw(number, false_alarms.Wrong())
    with pytest.raises(AssertionError, match=r"the gradient of \d\.b in float64 first"):
        false_alarms.gradients(drawn)


# a loss far below its outputs, batch norm over equal rows, softmax of a certain class
@pytest.mark.parametrize(("seed", "number"), [(0, 1001), (3, 304), (1, 1432)])
def test_correct_gradient_with_a_large_rounding_error_is_accepted(seed, number):
    false_alarms.gradients(false_alarms.draw(number, seed=seed))


@pytest.mark.parametrize(("seed", "number"), [(0, 1929), (1, 1785)])
def test_backends_whose_updates_move_apart_by_rounding_are_accepted(seed, number):
    false_alarms.parity(false_alarms.draw(number, seed=seed))
