"""Scale: a product with a gain, and the sums of its gradient."""

import numpy as np
import pytest

from ffnn_gpu import AdamW, Network, mean_squared_error, tanh
from ffnn_gpu.backends import Backend
from ffnn_gpu.nn.layers import Dense, Residual, Scale
from ffnn_gpu.testing import assert_close, assert_parity, check_gradients, tolerance
from ffnn_gpu.testing.strict_device import StrictBackend

LAYERS = [Scale(), Dense(6, tanh), Residual([Scale(), Dense(6)]), Dense(2)]


def batch(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def scattered(network):
    rng = np.random.default_rng(2)
    numbers = network.params.to_host()
    network.params.assign({k: rng.normal(size=v.shape).astype(v.dtype) for k, v in numbers.items()})
    return network


@pytest.mark.parametrize("B", [1, 7, 300])
def test_scale_equals_its_formula_and_sums(backend, dtype, B):
    network = scattered(Network(5, [Scale()], backend, dtype))
    x, da = batch(B, 5).astype(dtype), batch(B, 5, 1).astype(dtype)
    ws, gain = network.workspace(B, input_gradient=True), network.params.to_host()["0.gain"]
    a = network.forward(backend.asarray(x), ws)
    np.testing.assert_array_equal(backend.to_host(a), x * gain)
    dx = backend.to_host(network.backward(backend.asarray(da.copy()), ws))
    np.testing.assert_array_equal(dx, da * gain)
    want = (da.astype(np.float64) * x).sum(0)
    assert_close(backend.to_host(network.params.views[0].dgain), want, tolerance("product", dtype, K=B),
                 "dgain", scale=(abs(da) * abs(x)).sum(0))  # fmt: skip


def test_scale_is_the_identity_at_the_start(backend):
    x = batch(4, 3)
    np.testing.assert_array_equal(Network(3, [Scale()], backend, "float64").predict(x), x)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_gradient_equals_the_slope_of_the_loss(backend, dtype):
    check_gradients(
        scattered(Network(3, LAYERS, backend, dtype)), mean_squared_error, batch(6, 3), batch(6, 2)
    )


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_backends_agree(dtype):
    network = scattered(Network(3, LAYERS, "numpy", dtype))
    assert_parity(network, batch(9, 3), batch(9, 2), "mean_squared_error",
                  backends=(Backend(), "numpy", StrictBackend()), optimizer=AdamW(ema=0.9))  # fmt: skip
