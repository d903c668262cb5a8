"""Embedding: rows of tables, the sums of their gradients, and codes that are refused."""

import numpy as np
import pytest

from ffnn_gpu import AdamW, Network, fit, load, mean_squared_error, save, tanh, train_step
from ffnn_gpu.arrays.precision import eps
from ffnn_gpu.backends import Backend
from ffnn_gpu.errors import ConfigurationError, DataError, ShapeError
from ffnn_gpu.nn.initializers import Uniform
from ffnn_gpu.nn.layers import BatchNorm, Dense, Dropout, Embedding, LayerNorm, Residual
from ffnn_gpu.testing import assert_close, assert_parity, check_gradients, tolerance
from ffnn_gpu.testing.strict_device import StrictBackend
from ffnn_gpu.training.data_parallel import DataParallel
from tests.distributed.threads import on_ranks

LEVELS, WIDTHS, N = (4, 3, 5), (2, 1, 3), 2
LAYERS = [
    Embedding(LEVELS, WIDTHS), LayerNorm(), Dropout(0.2), Residual([BatchNorm(), Dense(8, tanh)]), Dense(2),
]  # fmt: skip


def rows(n, dtype="float64", seed=0):
    """Return (n, 5): two columns of numbers, then codes; the first and the last category occur."""
    rng = np.random.default_rng(seed)
    codes = np.stack([rng.integers(0, levels, n) for levels in LEVELS], axis=1)
    codes[0], codes[-1] = 0, np.array(LEVELS) - 1
    return np.concatenate([rng.normal(size=(n, N)), codes], axis=1).astype(dtype)


def targets(n):
    return np.random.default_rng(1).normal(size=(n, 2))


def one_hot_products(x, da, E):
    """Return a, dE and dx by products with one-hot rows, in float64."""
    a, dE, left = [x[:, :N]], [], N
    for k, table in enumerate(Embedding(LEVELS, WIDTHS).tables(E)):
        hot = np.eye(LEVELS[k])[x[:, N + k].astype(int)]
        a.append(hot @ table)
        dE.append(hot.T @ da[:, left : left + WIDTHS[k]])
        left += WIDTHS[k]
    dx = np.concatenate([da[:, :N], np.zeros((len(x), len(LEVELS)))], axis=1)
    return np.hstack(a), np.concatenate([each.ravel() for each in dE]), dx


@pytest.mark.parametrize("B", [1, 2, 17, 300])
def test_embedding_equals_products_with_one_hot_rows(backend, dtype, B):
    network, x = Network(5, [Embedding(LEVELS, WIDTHS)], backend, dtype), rows(B, dtype)
    da = np.random.default_rng(2).normal(size=(B, 8)).astype(dtype)
    ws = network.workspace(B, input_gradient=True)
    network.params.grad[...] = 7  # gradients are assigned
    a = backend.to_host(network.forward(backend.asarray(x), ws)).copy()
    dx = network.backward(backend.asarray(da), ws)
    p = network.params.views[0]
    wide = [array.astype(np.float64) for array in (x, da, network.params.to_host()["0.E"])]
    want = one_hot_products(*wide)
    np.testing.assert_array_equal(a, want[0].astype(dtype))
    np.testing.assert_array_equal(backend.to_host(dx), want[2].astype(dtype))
    relative = 1e-14 if dtype == "float64" else tolerance("network", dtype)
    assert_close(backend.to_host(p.dE), want[1], relative, "dE")
    np.testing.assert_array_equal(network.predict(x), a)


def test_embedding_equals_autograd(backend, golden):
    stored = {name: np.array(value) for name, value in golden("embedding").items() if name != "made_by"}
    levels, widths = (tuple(stored[name].tolist()) for name in ("levels", "widths"))
    x, da, dE = (backend.asarray(stored[name]) for name in ("x", "da", "E"))
    a, dx = backend.empty(da.shape, "float64"), backend.empty(x.shape, "float64")
    backend.embedding(x, backend.duplicate(dE), levels, widths, out=a)
    backend.embedding_backward(backend.duplicate(da), x, levels, widths, dE=dE, dx=dx)
    for name, found in (("a", a), ("dE", dE), ("dx", dx)):
        assert_close(backend.to_host(found), stored[name], 1e-14, name)


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16", "float16"])
def test_gradient_equals_the_slope_of_the_loss(backend, dtype):
    check_gradients(Network(5, LAYERS, backend, dtype), mean_squared_error, rows(6), targets(6))


def test_check_gradients_accepts_the_layer_alone_and_finds_a_bug(monkeypatch):
    da = np.random.default_rng(2).normal(size=(6, 8))
    check_gradients(Embedding(LEVELS, WIDTHS), mean_squared_error, rows(6), da)
    backward = Embedding.backward
    monkeypatch.setattr(Embedding, "backward", lambda self, b, p, da, buf: backward(self, b, p, 2 * da, buf))
    with pytest.raises(AssertionError, match=r"gradient of (0\.E|x)"):
        check_gradients(Embedding(LEVELS, WIDTHS), mean_squared_error, rows(6), da)


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


# ---------------------------------------------------------------------- codes that are none

WRONG = {
    "too large": (3, 3.0), "negative": (3, -1.0), "not whole": (3, 1.5), "far too large": (3, 1e30),
    "of another column": (2, 4.0), "almost whole": (4, 1 + 1e-9),
}  # fmt: skip


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
@pytest.mark.parametrize("kind", WRONG)
def test_a_value_that_is_no_code_is_refused_before_anything_changes(backend, kind, dtype):
    column, value = WRONG[kind]
    network, x = Network(5, LAYERS, backend, dtype), rows(9)
    x[7, column] = value
    theta, n = network.params.to_host(), LEVELS[column - N]
    text = rf"row 7, column {column}; the codes of this column's {n} categories are .* 0 to {n - 1}"
    with pytest.raises(DataError, match=f"x holds {value:g} at {text}".replace("+", r"\+")):
        network.predict(x)
    with pytest.raises(DataError, match=text):
        fit(network, mean_squared_error, AdamW(), (x, targets(9)), epochs=1, verbose=0)
    for name, values in network.params.to_host().items():
        np.testing.assert_array_equal(values, theta[name])


@pytest.mark.parametrize("value", [3.0, -1.0, 1.5, np.nan, np.inf])
def test_a_step_on_the_host_checks_its_codes(value):
    for backend in (Backend(), "numpy"):
        network, x = Network(5, LAYERS, backend, "float32"), rows(9, "float32")
        ws = network.workspace(9)
        train_step(network, mean_squared_error, AdamW(), x, targets(9), ws)
        theta, bad = network.params.to_host(), x.copy()
        bad[7, 3] = value
        with pytest.raises(DataError, match=f"x holds {value:g} at row 7, column 3"):
            train_step(network, mean_squared_error, AdamW(), bad, targets(9), ws)
        for name, values in network.params.to_host().items():
            np.testing.assert_array_equal(values, theta[name])
        assert np.isfinite(train_step(network, mean_squared_error, AdamW(), x, targets(9), ws))


def test_a_value_that_is_no_code_makes_nan_on_a_device_and_has_no_gradient():
    backend = StrictBackend()
    network, x = Network(5, [Embedding(LEVELS, WIDTHS)], backend, "float32"), rows(9, "float32")
    x[[2, 5], [3, 4]] = 3, -1
    ws, x, da = network.workspace(9), backend.asarray(x), backend.asarray(np.ones((9, 8), "float32"))
    with backend.xp.within_a_step():
        z = network.forward(x, ws)
        network.backward(da, ws)
    nan = np.isnan(backend.to_host(z))
    assert nan.sum() == WIDTHS[1] + WIDTHS[2] and nan[2, 4] and nan[5, 5:].all()
    dE = Embedding(LEVELS, WIDTHS).tables(backend.to_host(network.params.views[0].dE))
    assert [table[:, 0].sum() for table in dE] == [9, 8, 8]


@pytest.mark.parametrize(("dtype", "most"), [("bfloat16", 256), ("float16", 2048), ("float32", 2**24)])
def test_levels_that_a_dtype_cannot_count_are_refused(backend, dtype, most):
    assert most == 2 / eps(np.dtype(backend.dtype(dtype)))
    Network(1, [Embedding([min(most, 2048)], 1)], backend, dtype)
    text = f"column 1 of x has {most + 1} categories; {dtype} .* exactly up to {most}"
    with pytest.raises(ConfigurationError, match=text):
        Network(2, [Embedding([most + 1], 1)], backend, dtype)


def test_codes_of_the_last_category_are_exact_in_every_dtype(backend):
    for dtype, n in (("bfloat16", 256), ("float16", 2048)):
        network, codes = Network(1, [Embedding([n], 1)], backend, dtype), np.arange(n)[:, None]
        E = network.params.to_host()["0.E"]
        np.testing.assert_array_equal(network.predict(codes)[:, 0], E.astype(backend.dtype(dtype)))


# ---------------------------------------------------------------------- the layer

REFUSED = {
    "no list": (lambda: Embedding(3), "levels of Embedding must be a list"),
    "text": (lambda: Embedding("34"), "levels of Embedding must be a list"),
    "nothing": (lambda: Embedding([]), "levels of Embedding must be a list"),
    "no category": (lambda: Embedding([3, 0]), "each of the levels of Embedding .* not 0"),
    "width 0": (lambda: Embedding([3], 0), "each of the widths of Embedding .* not 0"),
    "other lengths": (lambda: Embedding([3, 4], [2]), "2 levels and 1 widths"),
    "second": (lambda: Network(4, [Dense(3), Embedding([3])]), r"layer 1 is Embedding\(\(3,\), \(3,\)\)"),
    "nested": (lambda: Residual([Embedding([3], 1)]), "Residual cannot hold Embedding"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_is_no_embedding_is_refused(kind):
    make, text = REFUSED[kind]
    with pytest.raises(ConfigurationError, match=text):
        make()


def test_x_must_have_a_column_for_each_table():
    with pytest.raises(ShapeError, match=r"x has 2 columns; Embedding.* reads 3 columns of codes"):
        Network(2, [Embedding(LEVELS)])


def test_default_widths_follow_the_rule_of_fastai_up_to_16():
    assert Embedding([1, 2, 10, 50, 100, 10**6]).widths == (2, 2, 6, 14, 16, 16)
    assert Embedding([np.int64(3), 4], 5) == Embedding((3, 4), (5, 5)) != Embedding((3, 4))
    assert repr(Embedding([3, 4], 5)) == "Embedding((3, 4), (5, 5))"


def test_outputs_of_initial_tables_have_the_variance_of_standardized_numbers():
    E = Network(1, [Embedding([1000], 16)]).params.to_host()["0.E"]
    assert abs(E.mean()) < 0.03 and abs(E.var() - 1) < 0.03
    uniform = Network(1, [Embedding([1000], 16, Uniform(0, 1))]).params.to_host()["0.E"]
    assert uniform.min() >= 0 and uniform.max() < 1


def test_tables_are_neither_decayed_nor_penalized(backend):
    network, x = Network(5, [Embedding(LEVELS, WIDTHS), Dense(2)], backend, "float64"), rows(9)
    x[:, 2:] = 0  # the other categories do not occur
    before, ws = network.params.to_host(), network.workspace(9)
    rule = AdamW(lr=0.1, weight_decay=0.5, l2=0.1)
    train_step(network, mean_squared_error, rule, backend.asarray(x), backend.asarray(targets(9)), ws)
    after, layer = network.params.to_host(), network.layers[0]
    for old, new in zip(layer.tables(before["0.E"]), layer.tables(after["0.E"]), strict=True):
        np.testing.assert_array_equal(new[1:], old[1:])
        assert (new[0] != old[0]).all()


def test_a_saved_network_is_read_back(backend, tmp_path):
    network, x = Network(5, [Embedding(LEVELS, weights=Uniform(-2, 2)), Dense(2)], backend), rows(9)
    save(network, tmp_path / "model")
    again = load(tmp_path / "model", device=backend)
    assert again.layers == network.layers
    np.testing.assert_array_equal(again.predict(x), network.predict(x))


def test_summary_counts_the_numbers_of_the_tables():
    line = next(line for line in Network(5, LAYERS).summary().splitlines() if line.startswith("Embedding"))
    assert line.split()[-4:] == ["8", "26", "0", "104"]  # 4·2 + 3·1 + 5·3 numbers


def test_ranks_and_micro_batches_train_like_one_process(backend):
    x, y = rows(40), targets(40)
    layers = [Embedding(LEVELS, WIDTHS), Dense(6, tanh), Dense(2)]

    def trained(ranks=None, **more):
        network = Network(5, layers, backend, "float64")
        plan = None if ranks is None else DataParallel(ranks)
        fit(network, mean_squared_error, AdamW(lr=0.01, ema=0.9, clip_norm=1.0), (x, y), epochs=3,
            batch_size=13, verbose=0, communicator=plan, **more)  # fmt: skip
        return network.params.to_host()

    want = trained()
    found = [trained(accumulate=3), *on_ranks(2, trained)[0]]
    for numbers in found:
        for name, value in numbers.items():
            np.testing.assert_allclose(value, want[name], rtol=1e-9, atol=1e-12)
