import numpy as np
import pytest

from ffnn_gpu import SGD, mean_squared_error, tanh, train_step
from ffnn_gpu.backends.choice import NumpyBackend
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.layers import Dense, Dropout, Residual
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.schedules import FlatCosine
from ffnn_gpu.testing import check_gradients


def batch(n, d, seed=0):
    return np.random.default_rng(seed).normal(size=(n, d))


def kept(backend, buf):
    """Return what a pass has kept. The mask itself is not stored on every backend."""
    return backend.to_host(buf.a) != 0


def masks(network, B, seed=None):
    """Return what the layers of dropout keep in one forward pass, in order."""
    ws = network.workspace(B, seed=seed)
    network.forward(network.backend.asarray(batch(B, network.n_in), network.dtype), ws)
    return [kept(network.backend, buf) for buf in ws.buffers if getattr(buf, "mask", None) is not None]


@pytest.mark.parametrize("rate", [0.0, 0.3, 0.8])
@pytest.mark.parametrize("B", [1, 5])
def test_dropout_gradient_equals_slope_of_loss(backend, rate, B):
    layers = [Dropout(rate), Dense(6, tanh), Dropout(rate), Dense(2)]
    check_gradients(Network(3, layers, backend, "float64"), mean_squared_error, batch(B, 3), batch(B, 2))


def test_dropout_is_the_identity_in_an_inference_workspace(backend, dtype):
    network, x = Network(4, [Dropout(0.9)], backend, dtype), batch(50, 4).astype(dtype)
    np.testing.assert_array_equal(network.predict(x), x)


def test_dropout_multiplies_by_its_mask(backend, dtype):
    network = Network(4, [Dropout(0.25)], backend, dtype)
    x, ws = backend.asarray(batch(50, 4), network.dtype), network.workspace(50)
    a = backend.to_host(network.forward(x, ws))
    mask = (kept(backend, ws.buffers[0]) * (1 / 0.75)).astype(dtype)
    np.testing.assert_array_equal(a, backend.to_host(x) * mask)
    assert 0.6 < (mask > 0).mean() < 0.9


def test_factor_of_a_schedule_multiplies_the_rate_bit_for_bit(backend, dtype):
    network = Network(4, [Dropout(0.5, "flat_cos"), Residual([Dropout(0.75, FlatCosine())])], backend, dtype)
    (factor,) = network.params.factors.values()
    for value in (1.0, 0.5, 0.25, 0.0):
        backend.write(factor, 0, value)
        plain = Network(4, [Dropout(0.5 * value), Residual([Dropout(0.75 * value)])], backend, dtype)
        x = backend.asarray(batch(50, 4), dtype)
        found, wanted = (backend.to_host(each.forward(x, each.workspace(50))) for each in (network, plain))
        np.testing.assert_array_equal(found, wanted)


def test_masks_are_equal_on_every_backend(backend, dtype):
    layers = [Dropout(0.5), Dense(9), Dropout(0.2)]
    got, want = (masks(Network(4, layers, each, dtype, seed=7), 12) for each in (backend, NumpyBackend()))
    for here, there in zip(got, want, strict=True):
        np.testing.assert_array_equal(here, there)


def test_layers_of_equal_shape_have_different_masks(backend):
    network = Network(8, [Dropout(0.5), Dropout(0.5), Residual([Dropout(0.5)])], backend)
    ws = network.workspace(8)
    network.forward(backend.asarray(batch(8, 8), network.dtype), ws)
    first, second = masks(network, 8)
    third = kept(backend, ws.buffers[2].layers[0])
    assert (first != second).any() and (second != third).any() and (first != third).any()


def test_mask_changes_with_the_update_and_not_with_the_pass(backend):
    network = Network(3, [Dropout(0.5), Dense(1)], backend)
    x, y, ws = (
        backend.asarray(batch(6, 3), "float32"),
        backend.asarray(batch(6, 1), "float32"),
        network.workspace(6),
    )
    first, again = masks(network, 6), masks(network, 6)
    train_step(network, mean_squared_error, SGD(lr=0.0), x, y, ws)
    after = masks(network, 6)
    np.testing.assert_array_equal(first, again)
    assert (first[0] != after[0]).any()


def test_mask_depends_on_the_seed_of_the_workspace(backend):
    network = Network(8, [Dropout(0.5)], backend, seed=3)
    (own,), (same,), (other,) = masks(network, 8), masks(network, 8, seed=3), masks(network, 8, seed=4)
    np.testing.assert_array_equal(own, same)
    assert (own != other).any()


def test_masks_of_a_part_equal_its_rows_of_the_whole_batch(backend):
    network = Network(5, [Dropout(0.5)], backend)
    (whole,) = masks(network, 9)
    ws = network.workspace(9)
    part = ws.first(4)
    part.stream.row = 5
    network.forward(backend.asarray(batch(4, 5), network.dtype), part)
    np.testing.assert_array_equal(kept(backend, part.buffers[0]), whole[5:])


def test_every_buffer_of_dropout_has_the_dtype(backend, dtype):
    network = Network(3, [Dropout(0.5)], backend, dtype)
    ws = network.workspace(4, input_gradient=True)
    z = network.forward(backend.asarray(batch(4, 3), network.dtype), ws)
    dx = network.backward(backend.asarray(batch(4, 3), network.dtype), ws)
    assert {str(array.dtype) for array in (z, dx, ws.buffers[0].a, ws.buffers[0].mask)} == {dtype}


@pytest.mark.parametrize("rate", [-0.1, 1, 1.0, 2, True, "0.5", None, float("nan")])
def test_dropout_rejects_bad_rates(rate):
    with pytest.raises(ConfigurationError, match="rate of Dropout must be at least 0 and below 1"):
        Dropout(rate)


def test_dropout_rejects_an_unknown_schedule():
    with pytest.raises(
        ConfigurationError, match="no schedule is called 'flat_cosine'; did you mean 'flat_cos'"
    ):
        Dropout(0.5, "flat_cosine")


def test_dropout_prints_the_call_that_creates_it():
    assert repr(Dropout(0.5, "flat_cos")) == "Dropout(0.5, FlatCosine(flat=0.5))"
    assert repr(Dropout(0.5)) == "Dropout(0.5)"
