"""NTKDense: a Dense with the weights W/√I, and gradients of W."""

import numpy as np
import pytest

from ffnn_gpu import AdamW, Network, gelu, mean_squared_error, relu, tanh
from ffnn_gpu.backends import Backend
from ffnn_gpu.nn.initializers import Constant
from ffnn_gpu.nn.layers import Dense, NTKDense, Residual
from ffnn_gpu.testing import assert_close, assert_parity, check_gradients, tolerance
from ffnn_gpu.testing.strict_device import StrictBackend

LAYERS = [NTKDense(6, gelu), Residual([NTKDense(6, tanh, bias=False)]), NTKDense(2)]


def batch(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


@pytest.mark.parametrize("B", [1, 3, 70])  # a few rows have commands of their own
@pytest.mark.parametrize("phi", [relu, gelu, "identity"], ids=str)
@pytest.mark.parametrize("bias", [True, False])
def test_ntk_dense_equals_a_dense_with_the_weights_over_the_root_of_the_width(backend, dtype, B, phi, bias):
    layers = [kind(5, phi, bias=bias) for kind in (NTKDense, Dense)]
    network, plain = (Network(7, [layer], backend, dtype) for layer in layers)
    numbers = network.params.to_host()
    if bias:
        numbers["0.b"] = batch(1, 5, 2)[0].astype(dtype)
    network.params.assign(numbers)
    plain.params.assign(numbers | {"0.W": (numbers["0.W"] / np.sqrt(7)).astype(dtype)})
    x, da = batch(B, 7).astype(dtype), batch(B, 5, 1).astype(dtype)
    found = []
    for each in (network, plain):
        ws = each.workspace(B, input_gradient=True)
        z = backend.to_host(each.forward(backend.asarray(x), ws)).copy()
        dx = backend.to_host(each.backward(backend.asarray(da.copy()), ws))
        found.append([z, dx, each.params.views[0]])
    relative = tolerance("network", dtype, K=max(B, 7))
    for got, want in zip(found[0][:2], found[1][:2], strict=True):
        assert_close(got, want, relative)
    p, q = found[0][2], found[1][2]
    assert_close(backend.to_host(p.dW), backend.to_host(q.dW) / np.sqrt(7), relative, "dW")
    if bias:
        assert_close(backend.to_host(p.db), backend.to_host(q.db), relative, "db")
    np.testing.assert_array_equal(network.predict(x).shape, (B, 5))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_gradient_equals_the_slope_of_the_loss(backend, dtype):
    check_gradients(Network(3, LAYERS, backend, dtype), mean_squared_error, batch(6, 3), batch(6, 2))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_backends_agree(dtype):
    assert_parity(Network(3, LAYERS, "numpy", dtype), batch(9, 3), batch(9, 2), "mean_squared_error",
                  backends=(Backend(), "numpy", StrictBackend()), optimizer=AdamW(ema=0.9))  # fmt: skip


def test_weights_start_as_standard_normal_numbers_unless_given():
    W = Network(100, [NTKDense(100)], "numpy").params.to_host()["0.W"]
    assert abs(W.mean()) < 0.03 and abs(W.std() - 1) < 0.03
    W = Network(3, [NTKDense(2, weights=Constant(2.0), biases=Constant(1.0))], "numpy").params.to_host()
    assert (W["0.W"] == 2).all() and (W["0.b"] == 1).all()


def test_a_layer_is_no_dense_layer_of_the_same_width():
    assert NTKDense(3) != Dense(3) and repr(NTKDense(3, tanh)) == "NTKDense(3, tanh)"
