"""Every layer satisfies the contract in nn/layer.py."""

import dataclasses

import numpy as np
import pytest

from ffnn_gpu.nn import layers as family
from ffnn_gpu.nn.activations import gelu, tanh
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers import (
    Average,
    BatchNorm,
    CosineEmbedding,
    Dense,
    Dropout,
    Embedding,
    LayerNorm,
    LogSoftmax,
    NTKDense,
    ParametricActivation,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    Residual,
    Scale,
    Softmax,
    Stack,
)
from ffnn_gpu.nn.network import Network

EXAMPLES = [
    Dense(4, gelu), Dropout(0.5), Embedding([3], 1), LayerNorm(), BatchNorm(), Softmax(), LogSoftmax(),
    Residual([Dense(4, tanh)]), Stack([Dense(4, tanh), Dropout(0.5)]), Average([Dense(4, tanh), Dense(4)]),
    Residual([Dense(4, tanh)]), Scale(), PeriodicEmbedding(2, 3, 3), CosineEmbedding(2, 3),
    ParametricActivation("mish"), NTKDense(4, gelu),
    PiecewiseLinearEmbedding(((-1.0, 0.0, 1.0), (0.0, 1.0)), 3),
]  # fmt: skip
every = pytest.mark.parametrize("layer", EXAMPLES, ids=lambda layer: type(layer).__name__)


def batch(n, d, seed=0):
    """Return random numbers; the last column holds codes of 3 categories."""
    x = np.random.default_rng(seed).normal(size=(n, d))
    x[:, -1] = np.arange(n) % 3
    return x


def test_examples_contain_every_layer():
    kinds = {getattr(family, name) for name in family.__all__ if isinstance(getattr(family, name), type)} - {
        Layer
    }
    assert {type(layer) for layer in EXAMPLES} == kinds


@every
def test_layer_is_frozen_comparable_and_without_arrays(layer):
    assert layer == dataclasses.replace(layer) and hash(layer) == hash(dataclasses.replace(layer))
    assert not any(isinstance(getattr(layer, entry.name), np.ndarray) for entry in dataclasses.fields(layer))
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        layer.width = 3


@every
def test_forward_writes_only_its_buffers(backend, dtype, layer):
    network = Network(4, [layer], backend, dtype)
    x = backend.asarray(batch(5, 4), network.dtype)
    before = [np.array(backend.to_host(array)) for array in (x, network.params.theta, network.params.state)]
    network.params.grad[...] = 7
    network.forward(x, network.workspace(5))
    for array, kept in zip((x, network.params.theta, network.params.state), before, strict=True):
        np.testing.assert_array_equal(backend.to_host(array), kept)
    assert (backend.to_host(network.params.grad) == 7).all()


@every
def test_backward_does_not_change_theta_and_the_padding_of_the_gradient(backend, dtype, layer):
    network = Network(4, [layer], backend, dtype)
    ws = network.workspace(5, input_gradient=True)
    theta = np.array(backend.to_host(network.params.theta))
    network.forward(backend.asarray(batch(5, 4), network.dtype), ws)
    network.backward(backend.asarray(batch(5, network.widths[-1], seed=1), network.dtype), ws)
    padding = np.ones(network.params.grad.shape, bool)
    for slot in network.params.slots:
        padding[slot.start : slot.start + slot.size] = False
    np.testing.assert_array_equal(backend.to_host(network.params.theta), theta)
    assert (backend.to_host(network.params.grad)[padding] == 0).all()


@every
def test_forward_twice_gives_the_same_bits(backend, dtype, layer):
    network = Network(4, [layer], backend, dtype)
    x, ws = backend.asarray(batch(5, 4), network.dtype), network.workspace(5)
    first = np.array(backend.to_host(network.forward(x, ws)))
    np.testing.assert_array_equal(backend.to_host(network.forward(x, ws)), first)


@every
def test_inference_of_a_row_equals_inference_in_a_batch_without_dropout(backend, layer):
    network, x = Network(4, [layer], backend, "float64"), batch(6, 4)
    whole, alone = network.predict(x), np.vstack([network.predict(row[None]) for row in x])
    # Matrix and vector products round differently.
    np.testing.assert_allclose(alone, whole, rtol=1e-13, atol=1e-13)


OPERATIONS_PER_ROW = {  # for 4 columns; a layer of width 4 multiplies and adds 4 × 4 times, and adds 4 biases
    "Dense": 2 * 4 * 4 + 4,
    "Dropout": 4,
    "Embedding": 0,
    "LayerNorm": 8 * 4,  # sum, difference, square, sum, root, quotient, gain, bias
    "BatchNorm": 8 * 4,
    "Scale": 4,
    "PiecewiseLinearEmbedding": 2 * (2 + 4 * 3),  # a bin and the part of it; two products and sums
    "NTKDense": 2 * 4 * 4 + 4 + 4,  # its factor
    "ParametricActivation": 4 * 4,  # the activation, difference, product, sum
    "CosineEmbedding": 2 * (2 * 4 + 3 * 2),  # each wave: product, sum, range, cosine; then gain and bias
    "PeriodicEmbedding": 2
    * 3
    * (4 + 2 * 2),  # each wave: product, sum, range, cosine, its share of 2 products
    "Softmax": 4 * 4,  # maximum, difference and exponential, sum, quotient
    "LogSoftmax": 4 * 4,
    "Residual": 2 * 4 * 4 + 4 + 4,  # its Dense, and the sum
    "Stack": 2 * 4 * 4 + 4 + 4,  # its Dense, and Dropout
    "Average": 2 * (2 * 4 * 4 + 4 + 2 * 4),  # its Dense, a product and a sum, twice
}


@every
def test_operations_of_a_row_are_counted(layer):
    assert layer.flops(4) == OPERATIONS_PER_ROW[type(layer).__name__]
