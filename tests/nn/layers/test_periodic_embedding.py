"""PeriodicEmbedding: waves and a linear map of each column, and their gradients."""

import numpy as np
import pytest

from ffnn_gpu import AdamW, Network, mean_squared_error, tanh, train_step
from ffnn_gpu.backends import Backend
from ffnn_gpu.errors import ConfigurationError, ShapeError
from ffnn_gpu.nn.layers import Dense, Embedding, PeriodicEmbedding
from ffnn_gpu.testing import assert_close, assert_parity, check_gradients, tolerance
from ffnn_gpu.testing.strict_device import StrictBackend

F, I, LEVELS = 2, 3, (4, 3)
LAYERS = [Embedding(LEVELS, 2), PeriodicEmbedding(F, 5, 4, 0.5), Dense(6, tanh), Dense(2)]


def rows(n, dtype="float64", seed=0):
    """Return (n, 5): three columns of numbers, of which two are embedded, and two of codes."""
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, levels, n) for levels in LEVELS], axis=1)
    return np.concatenate([rng.normal(size=(n, I)), codes], axis=1).astype(dtype)


def targets(n):
    return np.random.default_rng(1).normal(size=(n, 2))


def by_loops(x, da, w, b, A, c):
    """Return a and every gradient, number by number in float64, as the formulas are in the paper."""
    (F, K), D = w.shape, c.shape[1]
    a = np.concatenate([np.zeros((len(x), F * D)), x], axis=1)
    dw, db, dA, dc = (np.zeros_like(each) for each in (w, b, A, c))
    dx = da[:, F * D :].copy()
    for r, f in np.ndindex(len(x), F):
        angle = 2 * np.pi * w[f] * x[r, f] + b[f]
        A_f, de = A[f * K : (f + 1) * K], da[r, f * D : (f + 1) * D]
        a[r, f * D : (f + 1) * D] = np.cos(angle) @ A_f + c[f]
        dA[f * K : (f + 1) * K] += np.outer(np.cos(angle), de)
        dc[f] += de
        of_angle = -np.sin(angle) * (A_f @ de)
        db[f] += of_angle
        dw[f] += 2 * np.pi * x[r, f] * of_angle
        dx[r, f] += 2 * np.pi * w[f] @ of_angle
    return a, {"w": dw, "b": db, "A": dA, "c": dc}, dx


@pytest.mark.parametrize("B", [1, 9, 300])
@pytest.mark.parametrize(
    "layer", [PeriodicEmbedding(3, 16), PeriodicEmbedding(1, 1, 2), PeriodicEmbedding(2, 7, 9)]
)
def test_periodic_embedding_equals_its_formula_number_by_number(backend, dtype, layer, B):
    rng = np.random.default_rng(3)
    x, network = rng.normal(size=(B, I)).astype(dtype), Network(I, [layer], backend, dtype)
    da = rng.normal(size=(B, network.widths[-1])).astype(dtype)
    ws, p = network.workspace(B, input_gradient=True), network.params.views[0]
    network.params.grad[...] = 7  # gradients are assigned
    a = backend.to_host(network.forward(backend.asarray(x), ws)).copy()
    dx = backend.to_host(network.backward(backend.asarray(da.copy()), ws))
    numbers = [network.params.to_host()[f"0.{name}"].astype(np.float64) for name in "wbAc"]
    want, gradients, of_x = by_loops(x.astype(np.float64), da.astype(np.float64), *numbers)
    relative = 1e-13 if dtype == "float64" else tolerance("network", dtype, K=max(B, 16))
    assert_close(a, want, relative, "a")
    assert_close(dx, of_x, relative, "dx")
    for name, value in gradients.items():
        # a sum over the batch may cancel; its rounding error is one of the sum of the magnitudes
        terms = max(abs(value).max(), abs(da).sum(0).max())
        assert_close(backend.to_host(getattr(p, f"d{name}")), value, relative, f"d{name}", scale=terms)
    np.testing.assert_array_equal(network.predict(x), a)


def test_raw_columns_follow_the_embedded_ones(backend, dtype):
    network, x = Network(5, [PeriodicEmbedding(F)], backend, dtype), rows(4, dtype)
    np.testing.assert_array_equal(network.predict(x)[:, F * 3 :], x)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_gradient_equals_the_slope_of_the_loss(backend, dtype):
    check_gradients(Network(5, LAYERS, backend, dtype), mean_squared_error, rows(6), targets(6))


def test_gradient_of_the_first_layer_equals_the_slope_of_the_loss(backend):
    check_gradients(
        Network(3, LAYERS[1:], backend, "float64"), mean_squared_error, rows(6)[:, :3], targets(6)
    )


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_backends_agree(dtype):
    backends = Backend(), "numpy", StrictBackend()
    assert_parity(Network(5, LAYERS, "numpy", dtype), rows(9), targets(9), "mean_squared_error",
                  backends=backends, optimizer=AdamW(clip_norm=1.0, ema=0.9))  # fmt: skip


def test_a_step_on_the_strict_device_neither_waits_nor_copies():
    backend = StrictBackend()
    network, x = Network(5, LAYERS, backend, "float32"), backend.asarray(rows(9, "float32"))
    y, ws, rule = backend.asarray(targets(9).astype("float32")), network.workspace(9), AdamW()
    rule.state(network.params)
    backend.capture(train_step)(network, mean_squared_error, rule, x, y, ws, None, None, True)


def test_initial_numbers_have_the_distributions_of_the_paper():
    p = Network(3, [PeriodicEmbedding(3, 4000, 5, 0.3)], "numpy").params.to_host()
    assert abs(p["0.w"].std() - 0.3) < 0.01 and abs(p["0.w"].mean()) < 0.01
    assert abs(p["0.b"].std() - np.pi / 3**0.5) < 0.03 and abs(p["0.b"]).max() <= np.pi
    for name in ("0.A", "0.c"):
        assert abs(p[name]).max() <= 4000**-0.5
    assert abs(p["0.A"].std() - (3 * 4000) ** -0.5) < 1e-4
    assert p["0.A"].shape == (12000, 4) and p["0.c"].shape == (3, 4)


def test_nan_in_a_column_reaches_its_numbers_only(backend, dtype):
    x = rows(3, dtype)
    x[1, 0] = np.nan
    network = Network(5, [PeriodicEmbedding(F)], backend, dtype)
    z = backend.to_host(network.forward(backend.asarray(x), network.workspace(3, training=False)))
    assert np.isnan(z).sum() == 4 and np.isnan(z[1, [0, 1, 2, 6]]).all()


REFUSED = {
    "no column": (lambda: PeriodicEmbedding(0), "columns of PeriodicEmbedding .* not 0"),
    "no frequency": (lambda: PeriodicEmbedding(1, 0), "frequencies of PeriodicEmbedding .* not 0"),
    "width 1": (lambda: PeriodicEmbedding(1, 4, 1), "width of PeriodicEmbedding must be at least 2"),
    "no spread": (lambda: PeriodicEmbedding(1, spread=0.0), "spread of PeriodicEmbedding"),
    "codes behind it": (lambda: Network(5, [PeriodicEmbedding(F), Embedding(LEVELS)]), "must be layer 0"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_periodic_embedding_is_refused(kind):
    make, text = REFUSED[kind]
    with pytest.raises(ConfigurationError, match=text):
        make()


def test_x_must_have_the_columns_to_embed():
    with pytest.raises(ShapeError, match=r"x has 2 columns; PeriodicEmbedding\(3\) embeds 3"):
        Network(2, [PeriodicEmbedding(3)])
