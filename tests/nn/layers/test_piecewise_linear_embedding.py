"""PiecewiseLinearEmbedding: a linear map bent at the ends of bins, its gradients, and bins of quantiles."""

import numpy as np
import pytest

from ffnn_gpu import AdamW, Network, mean_squared_error, tanh, train_step
from ffnn_gpu.backends import Backend
from ffnn_gpu.errors import ConfigurationError, DataError, ShapeError
from ffnn_gpu.nn.layers import Dense, Embedding, PiecewiseLinearEmbedding, quantile_edges
from ffnn_gpu.testing import assert_close, assert_parity, check_gradients, tolerance
from ffnn_gpu.testing.strict_device import StrictBackend

I, LEVELS = 3, (4, 3)
EDGES = (-1.0, -0.25, 0.0, 0.5, 2.0), (-0.5, 0.75)  # of the first two columns
LAYERS = [Embedding(LEVELS, 2), PiecewiseLinearEmbedding(EDGES, 5), Dense(6, tanh), Dense(2)]


def rows(n, dtype="float64", seed=0):
    """Return (n, 5): three columns of numbers, of which two are embedded, and two of codes."""
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, levels, n) for levels in LEVELS], axis=1)
    return np.concatenate([rng.normal(0, 1.5, (n, I)), codes], axis=1).astype(dtype)


def targets(n):
    return np.random.default_rng(1).normal(size=(n, 2))


def bent(network, seed=4):
    """Return the network with random numbers instead of its zeros."""
    rng, numbers = np.random.default_rng(seed), network.params.to_host()
    network.params.assign({
        name: value if value.any() else rng.normal(0, 0.5, value.shape).astype(value.dtype)
        for name, value in numbers.items()
    })  # fmt: skip
    return network


def by_loops(x, da, w, c, V, edges):
    """Return a and every gradient, number by number in float64, as the formulas are in the paper."""
    F, D = len(edges), V.shape[1]
    T, w, c = len(V) // F, w.reshape(F, D), c.reshape(F, D)
    a = np.concatenate([np.zeros((len(x), F * D)), x[:, F:]], axis=1)
    dw, dc, dV = (np.zeros_like(each) for each in (w, c, V))
    dx = np.concatenate([np.zeros((len(x), F)), da[:, F * D :]], axis=1)
    for r, f in np.ndindex(len(x), F):
        value, de, ends = x[r, f], da[r, f * D : (f + 1) * D], edges[f]
        e, slope = w[f] * value + c[f], w[f].copy()
        for t in range(len(ends) - 1):
            part, steepness = (value - ends[t]) / (ends[t + 1] - ends[t]), 1 / (ends[t + 1] - ends[t])
            if t > 0 and part < 0:
                part, steepness = 0.0, 0.0
            if t < len(ends) - 2 and part > 1:
                part, steepness = 1.0, 0.0
            e = e + part * V[f * T + t]
            slope += steepness * V[f * T + t]
            dV[f * T + t] += part * de
        a[r, f * D : (f + 1) * D] = e
        dw[f] += value * de
        dc[f] += de
        dx[r, f] = slope @ de
    return a, {"w": dw.ravel(), "c": dc.ravel(), "V": dV}, dx


@pytest.mark.parametrize("B", [1, 9, 300])
@pytest.mark.parametrize(
    "layer",
    [
        PiecewiseLinearEmbedding(EDGES, 5),
        PiecewiseLinearEmbedding([[0.0, 1.0]], 1),
        PiecewiseLinearEmbedding(quantile_edges(rows(500)[:, :3]), 16),
    ],
    ids=repr,
)
def test_embedding_equals_its_formula_number_by_number(backend, dtype, layer, B):
    rng = np.random.default_rng(3)
    x, network = rows(B, dtype)[:, :I].copy(), bent(Network(I, [layer], backend, dtype))
    da = rng.normal(size=(B, network.widths[-1])).astype(dtype)
    ws, p = network.workspace(B, input_gradient=True), network.params.views[0]
    network.params.grad[...] = 7  # gradients are assigned
    a = backend.to_host(network.forward(backend.asarray(x), ws)).copy()
    dx = backend.to_host(network.backward(backend.asarray(da.copy()), ws))
    numbers = [network.params.to_host()[f"0.{name}"].astype(np.float64) for name in "wcV"]
    want, gradients, of_x = by_loops(x.astype(np.float64), da.astype(np.float64), *numbers, layer.edges)
    # narrow bins are steep: the rounding error of x − l is divided by their width
    steep = max(1, *(1 / np.diff(column).min() for column in layer.edges))
    relative = steep * (1e-14 if dtype == "float64" else tolerance("network", dtype, K=max(B, 16)))
    assert_close(a, want, relative, "a")
    assert_close(dx, of_x, relative, "dx")
    for name, value in gradients.items():
        # a sum over the batch may cancel; its rounding error is one of the sum of the magnitudes
        terms = max(abs(value).max(), abs(da).sum(0).max())
        assert_close(backend.to_host(getattr(p, f"d{name}")), value, relative, f"d{name}", scale=terms)


def test_function_is_continuous_at_the_ends_of_bins_and_linear_beyond(backend):
    network = bent(Network(1, [PiecewiseLinearEmbedding(EDGES[:1], 4)], backend, "float64"))
    for end in EDGES[0]:
        below, here, above = network.predict(np.array([[end - 1e-9], [end], [end + 1e-9]]))
        np.testing.assert_allclose([below, above], [here, here], atol=1e-7)
    for start in (-4.0, 3.0):
        first, second, third = network.predict(start + np.array([[0.0], [0.5], [1.0]]))
        np.testing.assert_allclose(second, (first + third) / 2, rtol=1e-12)


def test_embedding_is_linear_at_the_start_and_passes_the_other_columns_on(backend, dtype):
    network, x = Network(5, LAYERS[1:2], backend, dtype), rows(4, dtype)
    p, z = network.params.to_host(), network.predict(x)
    np.testing.assert_array_equal(z[:, 10:], x[:, 2:])
    want = x[:, 1:2].astype(float) * p["0.w"][5:] + p["0.c"][5:]
    assert_close(z[:, 5:10], want, tolerance("network", dtype), "e")


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_gradient_equals_the_slope_of_the_loss(backend, dtype):
    check_gradients(bent(Network(5, LAYERS, backend, dtype)), mean_squared_error, rows(6), targets(6))


def test_gradient_of_the_first_layer_equals_the_slope_of_the_loss(backend):
    network = bent(Network(3, LAYERS[1:], backend, "float64"))
    check_gradients(network, mean_squared_error, rows(6)[:, :3], targets(6))


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_backends_agree(dtype):
    backends = Backend(), "numpy", StrictBackend()
    assert_parity(bent(Network(5, LAYERS, "numpy", dtype)), rows(9), targets(9), "mean_squared_error",
                  backends=backends, optimizer=AdamW(clip_norm=1.0, ema=0.9))  # fmt: skip


def test_a_captured_step_on_the_strict_device_neither_waits_nor_copies():
    backend = StrictBackend()
    network, x = Network(5, LAYERS, backend, "float32"), backend.asarray(rows(9, "float32"))
    y, ws, rule = backend.asarray(targets(9).astype("float32")), network.workspace(9), AdamW()
    rule.state(network.params)
    arguments = network, mean_squared_error, rule, x, y, ws, None, None, True
    train_step(*arguments)  # moves the bins
    backend.capture(train_step)(*arguments)


def test_nan_in_a_column_reaches_its_numbers_only(backend, dtype):
    x = rows(3, dtype)
    x[1, 0] = np.nan
    network = bent(Network(5, LAYERS[1:2], backend, dtype))
    z = backend.to_host(network.forward(backend.asarray(x), network.workspace(3, training=False)))
    assert np.isnan(z).sum() == 5 and np.isnan(z[1, :5]).all()


def test_weights_of_the_bins_alone_are_decayed():
    params = Network(3, [PiecewiseLinearEmbedding(EDGES)], "numpy").params
    assert [slot.name for slot in params.slots if slot.start < params.n_decayed] == ["0.V"]


def test_edges_are_the_different_quantiles_of_each_column():
    x = np.column_stack([np.arange(101.0), np.repeat([0.0, 1.0, 5.0], [60, 30, 11])])
    assert quantile_edges(x, 4) == ((0.0, 25.0, 50.0, 75.0, 100.0), (0.0, 1.0, 5.0))
    assert len(quantile_edges(x)[0]) == 49
    with pytest.raises(DataError, match="column 1 of x holds the value 3 only"):
        quantile_edges(np.column_stack([x[:, 0], np.full(101, 3.0)]))
    with pytest.raises(DataError, match="column 0 of x holds a number that is not finite"):
        quantile_edges(np.full((3, 1), np.nan))
    with pytest.raises(ShapeError, match=r"x has shape \(3,\)"):
        quantile_edges(np.ones(3))


REFUSED = {
    "no list": (lambda: PiecewiseLinearEmbedding(3), "must be a list of ascending numbers for each column"),
    "one column as it is": (lambda: PiecewiseLinearEmbedding([0.0, 1.0]), "must be a list of ascending"),
    "nothing": (lambda: PiecewiseLinearEmbedding([]), "must be a list of ascending numbers for each column"),
    "one end": (lambda: PiecewiseLinearEmbedding([[0, 1], [1.0]]), "edges of column 1 must be at least two"),
    "equal ends": (lambda: PiecewiseLinearEmbedding([[0, 1, 1]]), "edges of column 0 must be .* ascending"),
    "infinite": (lambda: PiecewiseLinearEmbedding([[0, np.inf]]), "edges of column 0 must be .* finite"),
    "width 0": (lambda: PiecewiseLinearEmbedding([[0, 1]], 0), "width of PiecewiseLinearEmbedding"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_piecewise_linear_embedding_is_refused(kind):
    make, text = REFUSED[kind]
    with pytest.raises(ConfigurationError, match=text):
        make()


def test_repr_is_short_and_x_must_have_the_columns_to_embed():
    layer = PiecewiseLinearEmbedding(EDGES)
    assert repr(layer) == "PiecewiseLinearEmbedding(<2 columns of 1 to 4 bins>, width=16)"
    with pytest.raises(ShapeError, match=r"x has 1 columns; PiecewiseLinearEmbedding.* embeds 2"):
        Network(1, [layer])
