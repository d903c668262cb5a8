import numpy as np
import pytest

from ffnn_gpu import cross_entropy, mean_squared_error, softmax_cross_entropy, softmax_jacobian, tanh
from ffnn_gpu.nn.layers import Dense, LogSoftmax, Softmax
from ffnn_gpu.nn.network import Network
from ffnn_gpu.testing import assert_close, check_gradients, tolerance

both = pytest.mark.parametrize("layer", [Softmax(), LogSoftmax()], ids=repr)


def batch(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


@both
@pytest.mark.parametrize("B", [1, 5])
def test_softmax_gradient_equals_slope_of_loss(backend, layer, B):
    for layers in ([layer], [Dense(4, tanh), layer], [Dense(4), layer, Dense(2)]):
        network = Network(3, layers, backend, "float64")
        check_gradients(network, mean_squared_error, batch(B, 3), batch(B, network.widths[-1]))


def test_softmax_with_cross_entropy_equals_the_fused_loss(backend, dtype):
    """The softmax layer with −log p and the loss on logits have the same gradient."""
    two, one = (Network(3, layers, backend, dtype) for layers in ([Dense(4), Softmax()], [Dense(4)]))
    x, y, found = backend.asarray(batch(6, 3), two.dtype), np.array([0, 1, 2, 3, 0, 1]), []
    for network, loss in ((two, cross_entropy), (one, softmax_cross_entropy)):
        ws = network.workspace(6)
        value = float(loss(backend, network.forward(x, ws), y, dz=ws.dz))
        network.backward(ws.dz, ws)
        found.append((value, np.array(backend.to_host(network.params.grad))))
    relative = tolerance("network", dtype, K=6, L=2)
    assert abs(found[0][0] - found[1][0]) <= relative * found[1][0]
    assert_close(found[0][1], found[1][1], relative, "∇θ")


@both
def test_every_buffer_of_softmax_has_the_dtype(backend, dtype, layer):
    network = Network(3, [layer], backend, dtype)
    ws = network.workspace(4, input_gradient=True)
    z = network.forward(backend.asarray(batch(4, 3), network.dtype), ws)
    dx = network.backward(backend.asarray(batch(4, 3), network.dtype), ws)
    assert {str(array.dtype) for array in (z, dx, ws.buffers[0].a)} == {dtype}


@both
def test_softmax_of_one_column_is_constant(backend, dtype, layer):
    want = 1.0 if isinstance(layer, Softmax) else 0.0
    assert (Network(1, [layer], backend, dtype).predict(batch(3, 1)) == want).all()


def test_softmax_jacobian_accepts_integers():
    np.testing.assert_array_equal(softmax_jacobian([[1, 2, 3]]), softmax_jacobian([[1.0, 2.0, 3.0]]))
