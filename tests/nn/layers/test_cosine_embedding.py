"""CosineEmbedding: waves with a gain, and their gradients."""

import numpy as np
import pytest

from ffnn_gpu import AdamW, Network, mean_squared_error, tanh, train_step
from ffnn_gpu.backends import Backend
from ffnn_gpu.errors import ConfigurationError, ShapeError
from ffnn_gpu.nn.layers import CosineEmbedding, Dense, Embedding
from ffnn_gpu.testing import assert_close, assert_parity, check_gradients, tolerance
from ffnn_gpu.testing.strict_device import StrictBackend

F, I, LEVELS = 2, 3, (4, 3)
# spread 0.1: rounding w to 16 bits turns a wave by 2π w x eps
LAYERS = [Embedding(LEVELS, 2), CosineEmbedding(F, 5, 0.1), Dense(6, tanh), Dense(2)]


def rows(n, dtype="float64", seed=0):
    """Return (n, 5): three columns of numbers, of which two are embedded, and two of codes."""
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, levels, n) for levels in LEVELS], axis=1)
    return np.concatenate([rng.normal(size=(n, I)), codes], axis=1).astype(dtype)


def targets(n):
    return np.random.default_rng(1).normal(size=(n, 2))


def awake(network, seed=4):
    """Return the network with random numbers instead of its zeros."""
    rng, numbers = np.random.default_rng(seed), network.params.to_host()
    network.params.assign({
        name: value if value.any() else rng.normal(0, 0.5, value.shape).astype(value.dtype)
        for name, value in numbers.items()
    })  # fmt: skip
    return network


def by_loops(x, da, w, b, gain, bias):
    """Return a and every gradient, number by number in float64, as the formulas are in the docstring."""
    (F, D), K = gain.shape, w.shape[1]
    b, bias = b.reshape(F, K), bias.reshape(F, D)
    a = np.concatenate([np.zeros((len(x), F * D)), x[:, F:]], axis=1)
    dw, db, dgain, dbias = (np.zeros_like(each) for each in (w, b, gain, bias))
    dx = np.concatenate([np.zeros((len(x), F)), da[:, F * D :]], axis=1)
    for r, f in np.ndindex(len(x), F):
        angle, de = 2 * np.pi * (w[f] * x[r, f] + b[f]), da[r, f * D : (f + 1) * D]
        v = np.concatenate([[x[r, f]], np.cos(angle)])
        a[r, f * D : (f + 1) * D] = gain[f] * v + bias[f]
        dgain[f] += de * v
        dbias[f] += de
        of_turns = -2 * np.pi * np.sin(angle) * gain[f, 1:] * de[1:]
        db[f] += of_turns
        dw[f] += x[r, f] * of_turns
        dx[r, f] = gain[f, 0] * de[0] + w[f] @ of_turns
    return a, {"w": dw, "b": db.ravel(), "gain": dgain, "bias": dbias.ravel()}, dx


@pytest.mark.parametrize("B", [1, 9, 300])
@pytest.mark.parametrize("layer", [CosineEmbedding(3), CosineEmbedding(1, 2), CosineEmbedding(2, 8, 0.1)])
def test_cosine_embedding_equals_its_formula_number_by_number(backend, dtype, layer, B):
    rng = np.random.default_rng(3)
    x, network = rng.normal(size=(B, I)).astype(dtype), awake(Network(I, [layer], backend, dtype))
    da = rng.normal(size=(B, network.widths[-1])).astype(dtype)
    ws, p = network.workspace(B, input_gradient=True), network.params.views[0]
    network.params.grad[...] = 7  # gradients are assigned
    a = backend.to_host(network.forward(backend.asarray(x), ws)).copy()
    dx = backend.to_host(network.backward(backend.asarray(da.copy()), ws))
    names = ("w", "b", "gain", "bias")
    numbers = [network.params.to_host()[f"0.{name}"].astype(np.float64) for name in names]
    want, gradients, of_x = by_loops(x.astype(np.float64), da.astype(np.float64), *numbers)
    relative = 1e-13 if dtype == "float64" else tolerance("network", dtype, K=max(B, 16))
    assert_close(a, want, relative, "a")
    assert_close(dx, of_x, relative, "dx")
    for name, value in gradients.items():
        # a sum over the batch may cancel; its rounding error is one of the sum of the magnitudes
        terms = max(abs(value).max(), abs(da).sum(0).max())
        assert_close(backend.to_host(getattr(p, f"d{name}")), value, relative, f"d{name}", scale=terms)
    np.testing.assert_array_equal(network.predict(x), a)


def test_embedding_is_silent_at_the_start_and_passes_the_other_columns_on(backend, dtype):
    x = rows(4, dtype)
    z = Network(5, [CosineEmbedding(F, 3)], backend, dtype).predict(x)
    np.testing.assert_array_equal(z, np.hstack([np.zeros((4, 6)), x[:, F:]]))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_gradient_equals_the_slope_of_the_loss(backend, dtype):
    check_gradients(awake(Network(5, LAYERS, backend, dtype)), mean_squared_error, rows(6), targets(6))


def test_gradient_of_the_first_layer_equals_the_slope_of_the_loss(backend):
    network = awake(Network(3, LAYERS[1:], backend, "float64"))
    check_gradients(network, mean_squared_error, rows(6)[:, :3], targets(6))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_backends_agree(dtype):
    backends = Backend(), "numpy", StrictBackend()
    assert_parity(awake(Network(5, LAYERS, "numpy", dtype)), rows(9), targets(9), "mean_squared_error",
                  backends=backends, optimizer=AdamW(clip_norm=1.0, ema=0.9))  # fmt: skip


def test_a_step_on_the_strict_device_neither_waits_nor_copies():
    backend = StrictBackend()
    network, x = Network(5, LAYERS, backend, "float32"), backend.asarray(rows(9, "float32"))
    y, ws, rule = backend.asarray(targets(9).astype("float32")), network.workspace(9), AdamW()
    rule.state(network.params)
    backend.capture(train_step)(network, mean_squared_error, rule, x, y, ws, None, None, True)


def test_frequencies_are_normal_and_cut_at_three_deviations():
    w = Network(3, [CosineEmbedding(3, 4001, 0.5)], "numpy").params.to_host()["0.w"]
    assert abs(w.std() - 0.5 * 0.9866) < 0.01 and abs(w.mean()) < 0.02  # 0.9866: N(0, 1) cut at 3
    assert 1.4 < abs(w).max() <= 1.5


def test_biases_are_not_decayed():
    params = Network(3, [CosineEmbedding(3)], "numpy").params
    assert [slot.name for slot in params.slots if slot.start < params.n_decayed] == ["0.w", "0.gain"]


REFUSED = {
    "no column": (lambda: CosineEmbedding(0), "columns of CosineEmbedding .* not 0"),
    "width 1": (lambda: CosineEmbedding(1, 1), "width of CosineEmbedding must be at least 2"),
    "no spread": (lambda: CosineEmbedding(1, spread=0.0), "spread of CosineEmbedding"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_cosine_embedding_is_refused(kind):
    make, text = REFUSED[kind]
    with pytest.raises(ConfigurationError, match=text):
        make()


def test_x_must_have_the_columns_to_embed():
    with pytest.raises(ShapeError, match=r"x has 2 columns; CosineEmbedding\(3\) embeds 3"):
        Network(2, [CosineEmbedding(3)])
