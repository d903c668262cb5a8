import numpy as np
import pytest

from ffnn_gpu import Dense, Dropout, Network, softmax_cross_entropy, tanh
from ffnn_gpu.backend import Backend
from ffnn_gpu.testing import assert_parity


class Doubling(Backend):
    """A backend whose affine is wrong by a factor."""

    name = "doubling"

    def affine(self, x, W, b, phi, out, s=None):
        return super().affine(2 * x, W, b, phi, out, s)


def case():
    rng = np.random.default_rng(0)
    network = Network(4, [Dense(6, tanh), Dropout(0.2), Dense(3)], "numpy")
    return network, rng.normal(size=(8, 4)), rng.integers(0, 3, 8), softmax_cross_entropy


def test_parity_holds_between_the_backends_of_this_machine_and_leaves_the_network_alone():
    network, *rest = case()
    before = network.params.to_host()
    assert_parity(network, *rest)
    for name, value in network.params.to_host().items():
        np.testing.assert_array_equal(value, before[name])


def test_parity_names_the_wrong_backend():
    with pytest.raises(AssertionError, match="output on <doubling backend> first"):
        assert_parity(*case(), backends=("numpy", Doubling()))
