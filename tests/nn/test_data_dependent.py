"""initialize_from: outputs of variance 1 and biases among the rows, the same on every backend."""

import numpy as np
import pytest

from ffnn_gpu import BatchNorm, Dense, Dropout, Embedding, Network, Residual, initialize_from, relu
from ffnn_gpu.backends import Backend
from ffnn_gpu.errors import DataError, ShapeError
from ffnn_gpu.nn.layers import Average, NTKDense, ParametricActivation, Scale, Stack
from ffnn_gpu.testing.strict_device import StrictBackend

LAYERS = [
    Scale(), NTKDense(8), ParametricActivation("mish"), Dropout(0.5), Dense(8, relu), BatchNorm(),
    Residual([NTKDense(8, relu)]), Dense(3, bias=False),
]  # fmt: skip
X = np.random.default_rng(0).normal(3, 10, size=(200, 5))


def outputs_of_dense(network, x):
    """Return [pre-activations x W/√I of each dense layer, and its bias], layer by layer in NumPy."""
    numbers, found = network.params.to_host(), []

    def run(layers, prefix, x):
        for k, layer in enumerate(layers):
            name = f"{prefix}{k}"
            if isinstance(layer, Dense):
                s = x @ numbers[f"{name}.W"] / (np.sqrt(x.shape[1]) if type(layer) is NTKDense else 1)
                found.append((s, numbers.get(f"{name}.b")))
                x = layer.phi.value(np, s + numbers.get(f"{name}.b", 0))
            elif isinstance(layer, Residual):
                x = x + run(layer.layers, f"{name}.layers.", x)
            elif isinstance(layer, ParametricActivation):
                x = layer.phi.value(np, x)
            elif isinstance(layer, BatchNorm):
                x = x / np.sqrt(1 + layer.eps)
        return x

    run(network.layers, "", x)
    return found


@pytest.mark.parametrize("seed", [0, 7])
def test_outputs_have_variance_1_and_biases_are_means_of_five_rows(backend, seed):
    network = Network(5, LAYERS, backend, "float64", seed=3)
    before = network.params.to_host()
    initialize_from(network, X, seed)
    found = outputs_of_dense(network, X)
    assert len(found) == 4
    for s, b in found:
        np.testing.assert_allclose(s.std(axis=0), 1, rtol=1e-12)
        if b is not None:
            assert (-b >= s.min(0)).all() and (-b <= s.max(0)).all()
    # the seeds of the biases belong to the layers one by one
    for (s, b), rng in zip(found, np.random.SeedSequence(seed).spawn(4), strict=True):
        if b is not None:
            draw, (rows, O) = np.random.default_rng(rng), s.shape
            chosen, weights = draw.integers(0, rows, (5, O)), draw.exponential(size=(5, O))
            for o in range(O):
                mean = sum(weights[i, o] * s[chosen[i, o], o] for i in range(5)) / weights[:, o].sum()
                np.testing.assert_allclose(b[o], -mean, rtol=1e-9, atol=1e-12)
    after = network.params.to_host()
    for name in ("0.gain", "2.alpha", "5.gain", "5.running_mean"):
        np.testing.assert_array_equal(after[name], before[name])
    ratio = after["1.W"] / before["1.W"]  # the directions stay
    np.testing.assert_allclose(ratio, np.broadcast_to(ratio[:1], ratio.shape), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_one_seed_gives_the_same_bits_on_every_backend(dtype):
    found = []
    for backend in (Backend(), "numpy", StrictBackend()):
        network = Network(5, LAYERS, backend, dtype)
        initialize_from(network, X, 5)
        found.append(network.params.to_host())
        assert (found[-1]["1.b"] != 0).all()
    for other in found[1:]:
        for name, values in found[0].items():
            np.testing.assert_array_equal(other[name], values)
    again = Network(5, LAYERS, "numpy", dtype)
    initialize_from(again, X, 6)
    assert (again.params.to_host()["1.b"] != found[0]["1.b"]).any()


def test_codes_pass_through_an_embedding(backend):
    x = np.column_stack([X[:, :2], np.arange(200) % 4])
    network = Network(3, [Embedding([4], 3), NTKDense(6), Dense(1)], backend, "float64")
    initialize_from(network, x)
    assert abs(network.predict(x).std() - 1) < 1e-12
    x[3, 2] = 4
    with pytest.raises(DataError, match="row 3, column 2"):
        initialize_from(network, x)


def test_columns_with_equal_outputs_stay_as_they_are(backend):
    network = Network(2, [Dense(3)], backend, "float64")
    before = network.params.to_host()["0.W"]
    initialize_from(network, np.full((9, 2), 0.1))
    np.testing.assert_array_equal(network.params.to_host()["0.W"], before)
    np.testing.assert_allclose(network.predict(np.full((1, 2), 0.1)), 0, atol=1e-15)


def test_shadow_of_a_16_bit_network_follows():
    network = Network(5, [NTKDense(4)], "numpy", "bfloat16")
    initialize_from(network, X)
    z = network.predict(X).astype(np.float64)
    np.testing.assert_allclose(z.std(axis=0), 1, rtol=0.05)


@pytest.mark.parametrize("rows", [0, 1])
def test_at_least_two_rows_are_needed(rows):
    network = Network(5, LAYERS, "numpy")
    with pytest.raises(ShapeError, match=f"x has {rows} row.* needs at least 2"):
        initialize_from(network, X[:rows])
    with pytest.raises(ShapeError, match="x has 4 columns"):
        initialize_from(network, X[:, :4])


def test_layers_of_a_stack_are_set_like_those_of_the_network(backend):
    inside = [NTKDense(8, relu), Residual([Stack([Dense(8, relu)])]), Dense(3)]
    network = Network(5, [Average([inside, Stack([Dense(3)])])], backend, "float64", seed=3)
    alone = Network(5, inside, backend, "float64")
    alone.params.assign(
        {name.removeprefix("0.layers.0.layers."): values for name, values in network.params.to_host().items()
         if name.startswith("0.layers.0.")}
    )  # fmt: skip
    initialize_from(network, X, 7)
    initialize_from(alone, X, 7)
    found = network.params.to_host()
    for name, values in alone.params.to_host().items():
        np.testing.assert_allclose(found[f"0.layers.0.layers.{name}"], values, rtol=1e-12)
    s = X @ found["0.layers.1.layers.0.W"]
    np.testing.assert_allclose(s.std(axis=0), 1, rtol=1e-12)
