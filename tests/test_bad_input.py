"""Bad input raises the same error on every backend and changes nothing."""

import itertools
import re

import numpy as np
import pytest

from ffnn_gpu import evaluate, fit, train_step
from ffnn_gpu.backends.choice import get_backend
from ffnn_gpu.errors import (
    BackendMismatchError,
    ConfigurationError,
    DataError,
    DivergedError,
    ShapeError,
    WorkspaceError,
)
from ffnn_gpu.nn.activations import relu, sigmoid
from ffnn_gpu.nn.layers import BatchNorm, Dense, Dropout, LayerNorm, Residual, Softmax
from ffnn_gpu.nn.losses.standard import (
    SoftmaxCrossEntropy,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    hinge,
    huber,
    mean_squared_error,
    poisson,
    softmax_cross_entropy,
)
from ffnn_gpu.nn.network import Network
from ffnn_gpu.optim.optimizers import Adam
from ffnn_gpu.training.callbacks import Callback

N, D, C = 20, 4, 3
rng = np.random.default_rng(0)
X = rng.normal(size=(N, D))
LABELS = rng.integers(0, C, N)
ONE_HOT = np.eye(C)[LABELS]


def changed(array, at, value):
    array = np.array(array)
    array[at] = value
    return array


OBJECTS = "Python objects|dtype object"


class State:
    """Return, as bytes, everything that bad input must not change."""

    def __init__(self, network, optimizer, *arrays):
        self.network, self.optimizer, self.arrays = network, optimizer, arrays
        self.before = self.look()

    def look(self):
        params = self.network.params
        vectors = [params.theta, params.state, params.step, *vars(self.optimizer.state(params)).values()]
        host = [self.network.backend.to_host(vector) for vector in vectors]
        return [np.array(a).tobytes() for a in (*host, *self.arrays) if np.asarray(a).dtype != object]

    def require_unchanged(self):
        assert self.look() == self.before


def network_of(backend="numpy", outputs=C):
    return Network(D, [Dense(5, relu), BatchNorm(), Dropout(0.2), Dense(outputs)], backend, "float64", seed=1)


def refuses(call, error, message, state):
    with pytest.raises(error, match=message):
        call()
    state.require_unchanged()


# ---------------------------------------------------------------------- rows

BAD_X = {
    "NaN": (
        changed(X, (3, 1), np.nan),
        DataError,
        r"x holds 1 values .* not finite; the first is nan at index \(3, 1\)",
    ),
    "Inf": (
        changed(changed(X, (3, 1), np.inf), (9, 0), -np.inf),
        DataError,
        r"x holds 2 .* inf at index \(3, 1\)",
    ),
    "float32 NaN": (changed(X, (19, 3), np.nan).astype(np.float32), DataError, r"index \(19, 3\)"),
    "Fortran NaN": (np.asfortranarray(changed(X, (3, 1), np.nan)), DataError, r"index \(3, 1\)"),
    "too few columns": (X[:, :3], ShapeError, "x has 3 columns; layer 0 of this network reads 4"),
    "too many columns": (np.hstack([X, X]), ShapeError, "x has 8 columns; layer 0 of this network reads 4"),
    "one row as vector": (X[0], ShapeError, r"x has shape \(4,\)"),
    "images": (X.reshape(N, 2, 2), ShapeError, r"x has shape \(20, 2, 2\)"),
    "number": (np.float64(3), ShapeError, r"x has shape \(\)"),
    "complex": (X.astype(complex), DataError, "x has dtype complex128"),
    "strings": (X.astype(str), DataError, "x has dtype <U"),
    "dates": (X.astype("M8[s]"), DataError, "x has dtype datetime64"),
    "objects": (X.astype(object), DataError, OBJECTS),
    "ragged list": ([[1, 2, 3, 4], [1, 2]], DataError, "cannot be read as an array"),
    "list of None": ([[None] * 4] * N, DataError, OBJECTS),
    "None": (None, DataError, OBJECTS),
}


@pytest.mark.parametrize("kind", BAD_X)
@pytest.mark.parametrize("verb", ["fit", "evaluate", "predict", "validation"])
def test_unusable_rows_raise_with_the_numbers(backend, kind, verb):
    x, error, message = BAD_X[kind]
    network, optimizer = network_of(backend), Adam()
    calls = {
        "fit": lambda: fit(network, softmax_cross_entropy, optimizer, (x, LABELS), epochs=1, verbose=0),
        "evaluate": lambda: evaluate(network, softmax_cross_entropy, (x, LABELS)),
        "predict": lambda: network.predict(x),
        "validation": lambda: fit(
            network, softmax_cross_entropy, optimizer, (X, LABELS), validation=(x, LABELS), verbose=0
        ),
    }
    refuses(
        calls[verb], error, message, State(network, optimizer, *([x] if isinstance(x, np.ndarray) else []))
    )


@pytest.mark.parametrize("kind", ["too few columns", "one row as vector", "images", "complex", "strings"])
def test_forward_and_train_step_reject_everything_but_a_matrix_of_their_width(backend, kind):
    x, error, message = BAD_X[kind]
    network, optimizer = network_of(backend), Adam()
    ws, state = network.workspace(N), State(network, optimizer, x)
    if not backend.owns(x):  # a GPU has no strings
        if kind == "strings":
            error, message = BackendMismatchError, "x is a numpy.ndarray"
        else:
            x = backend.asarray(x)
    refuses(lambda: network.forward(x, ws), error, message, state)
    y = backend.asarray(LABELS)
    refuses(lambda: train_step(network, softmax_cross_entropy, optimizer, x, y, ws), error, message, state)


@pytest.mark.parametrize("x", [X.tolist(), "x", None])
def test_forward_rejects_arrays_of_another_device(backend, x):
    network = network_of(backend)
    refuses(
        lambda: network.forward(x, network.workspace(N)),
        BackendMismatchError,
        "backend",
        State(network, Adam()),
    )


def test_forward_of_nan_is_nan_and_predict_raises(backend):
    network = network_of(backend)
    z = network.forward(backend.asarray(changed(X, (3, 1), np.nan)), network.workspace(N, training=False))
    assert np.isnan(backend.to_host(z)[3]).all() and np.isfinite(backend.to_host(z)[4]).all()
    network.params.theta[0] = np.nan
    with pytest.raises(DivergedError, match="parameters diverged"):
        network.predict(X)


# ---------------------------------------------------------------------- targets

BAD_Y = {
    "label too high": (
        softmax_cross_entropy,
        changed(LABELS, 7, 3),
        DataError,
        r"y\[7\] is 3; .* 3 outputs, .* 0 to 2",
    ),
    "negative label": (softmax_cross_entropy, changed(LABELS, 7, -1), DataError, r"y\[7\] is -1"),
    "fractional label": (softmax_cross_entropy, LABELS + 0.5, DataError, r"y\[0\] is \d\.5"),
    "NaN label": (softmax_cross_entropy, changed(LABELS + 0.0, 7, np.nan), DataError, r"nan at index \(7,\)"),
    "infinite label": (
        softmax_cross_entropy,
        changed(LABELS + 0.0, 7, np.inf),
        DataError,
        r"inf at index \(7,\)",
    ),
    "bool labels": (softmax_cross_entropy, LABELS > 0, DataError, "dtype bool"),
    "string labels": (softmax_cross_entropy, LABELS.astype(str), DataError, "strings such as .*numpy.unique"),
    "object labels": (softmax_cross_entropy, LABELS.astype(object), DataError, OBJECTS),
    "complex labels": (softmax_cross_entropy, LABELS.astype(complex), DataError, "dtype complex128"),
    "labels too high for probabilities": (cross_entropy, changed(LABELS, 7, 3), DataError, r"y\[7\] is 3"),
    "huge label": (
        softmax_cross_entropy,
        changed(LABELS.astype(np.uint64), 7, 2**63),
        DataError,
        r"y\[7\] is 922337203",
    ),
    "one-hot too narrow": (
        softmax_cross_entropy,
        ONE_HOT[:, :2],
        ShapeError,
        r"shape \(20, 2\); the network has 3 outputs",
    ),
    "one-hot too wide": (
        cross_entropy,
        np.eye(4)[LABELS],
        ShapeError,
        r"shape \(20, 4\); the network has 3 outputs",
    ),
    "column of labels": (
        softmax_cross_entropy,
        LABELS[:, None],
        ShapeError,
        r"shape \(20, 1\); the network has 3 outputs",
    ),
    "rows not summing to 1": (
        softmax_cross_entropy,
        changed(ONE_HOT, (5, 0), 0.25),
        DataError,
        "row 5 of y sums to .*25",
    ),
    "negative probability": (
        softmax_cross_entropy,
        changed(ONE_HOT, (5,), [-1, 1, 1]),
        DataError,
        "row 5 of y holds a neg",
    ),
    "NaN probability": (
        softmax_cross_entropy,
        changed(ONE_HOT, (5, 2), np.nan),
        DataError,
        r"nan at index \(5, 2\)",
    ),
    "3-D targets": (softmax_cross_entropy, np.ones((N, C, 1)), ShapeError, r"shape \(20, 3, 1\)"),
    "one number": (softmax_cross_entropy, np.int64(1), ShapeError, r"shape \(\)"),
    "too few rows": (softmax_cross_entropy, LABELS[:-1], ShapeError, "20 rows and y has 19"),
    "too many rows": (softmax_cross_entropy, np.r_[LABELS, 0], ShapeError, "20 rows and y has 21"),
    "vector against 3 outputs": (
        mean_squared_error,
        X[:, 0],
        ShapeError,
        r"shape \(20,\); the network has 3 outputs",
    ),
    "column against 3 outputs": (
        mean_squared_error,
        X[:, :1],
        ShapeError,
        r"shape \(20, 1\); the network has 3 outputs",
    ),
    "NaN number": (
        mean_squared_error,
        changed(X[:, :3], (2, 1), np.nan),
        DataError,
        r"1 values .* nan at index \(2, 1\)",
    ),
    "infinite number": (huber, changed(X[:, :3], (2, 1), -np.inf), DataError, r"-inf at index \(2, 1\)"),
    "complex numbers": (mean_squared_error, X[:, :3] + 1j, DataError, "dtype complex128"),
    "string numbers": (mean_squared_error, X[:, :3].astype(str), DataError, "strings such as .*numbers"),
    "negative counts": (poisson, -ONE_HOT, DataError, "needs counts"),
    "probability above 1": (binary_cross_entropy_with_logits, 2 * ONE_HOT, DataError, "from 0 to 1"),
    "probability below 0": (binary_cross_entropy, -ONE_HOT, DataError, "from 0 to 1"),
    "hinge of 0 and 1": (hinge, ONE_HOT, DataError, r"\(-1, 1\)"),
    "class weights too many": (
        SoftmaxCrossEntropy(0, (1.0,) * 4),
        LABELS,
        ShapeError,
        "4 numbers; .* 3 outputs",
    ),
    "None": (mean_squared_error, None, DataError, OBJECTS),
}


@pytest.mark.parametrize("kind", BAD_Y)
@pytest.mark.parametrize("verb", ["fit", "evaluate", "train_step", "validation"])
def test_unusable_targets_raise_with_the_numbers(backend, kind, verb):
    loss, y, error, message = BAD_Y[kind]
    network, optimizer = network_of(backend), Adam()
    good = {softmax_cross_entropy: LABELS, cross_entropy: LABELS, hinge: 2 * ONE_HOT - 1}.get(loss, ONE_HOT)
    x = backend.asarray(X)
    calls = {
        "fit": lambda: fit(network, loss, optimizer, (X, y), epochs=1, verbose=0),
        "evaluate": lambda: evaluate(network, loss, (X, y)),
        "train_step": lambda: train_step(network, loss, optimizer, x, y, network.workspace(N)),
        "validation": lambda: fit(network, loss, optimizer, (X, good), validation=(X, y), verbose=0),
    }
    refuses(calls[verb], error, message, State(network, optimizer, np.asarray(y)))


@pytest.mark.parametrize(
    "labels",
    [
        LABELS.astype(np.float32),
        LABELS + 0.0,
        LABELS.astype(np.uint8),
        LABELS.astype(np.int16),
        LABELS.astype(">i4"),
        LABELS.tolist(),
        LABELS.astype(np.float16),
        np.where(LABELS == 0, -0.0, LABELS),
    ],
)
def test_labels_of_any_integral_kind_train_alike(backend, labels):
    a, b = network_of(backend), network_of(backend)
    fit(a, softmax_cross_entropy, Adam(), (X, labels), epochs=2, verbose=0)
    fit(b, softmax_cross_entropy, Adam(), (X, LABELS), epochs=2, verbose=0)
    np.testing.assert_array_equal(backend.to_host(a.params.theta), backend.to_host(b.params.theta))


@pytest.mark.parametrize("loss", [mean_squared_error, binary_cross_entropy_with_logits, poisson])
def test_vector_of_targets_is_a_column_for_one_output(backend, loss):
    a, b, y = network_of(backend, 1), network_of(backend, 1), (LABELS > 0) * 1.0
    rows = [fit(n, loss, Adam(), (X, t), epochs=2, verbose=0).rows for n, t in ((a, y), (b, y[:, None]))]
    assert [row["loss"] for row in rows[0]] == [row["loss"] for row in rows[1]]
    np.testing.assert_array_equal(backend.to_host(a.params.theta), backend.to_host(b.params.theta))
    with pytest.raises(ShapeError, match=r"shape \(20, 2\); the network has 1 outputs"):
        fit(a, loss, Adam(), (X, np.ones((N, 2))), verbose=0)


# ---------------------------------------------------------------------- weights

BAD_WEIGHTS = {
    "too few": (np.ones(N - 1), ShapeError, r"shape \(19,\); there are 20 rows"),
    "column": (np.ones((N, 1)), ShapeError, r"shape \(20, 1\)"),
    "one number": (2.0, ShapeError, r"shape \(\)"),
    "negative": (changed(np.ones(N), 4, -0.5), DataError, r"sample_weight\[4\] is -0.5"),
    "NaN": (changed(np.ones(N), 4, np.nan), DataError, r"sample_weight holds 1 .* nan at index \(4,\)"),
    "Inf": (changed(np.ones(N), 4, np.inf), DataError, r"sample_weight holds 1 .* inf at index \(4,\)"),
    "all zero": (np.zeros(N), DataError, "all 20 sample weights of .* are 0"),
    "strings": (np.ones(N).astype(str), DataError, "dtype <U"),
    "complex": (np.ones(N) + 0j, DataError, "dtype complex128"),
    "objects": (np.ones(N).astype(object), DataError, OBJECTS),
}


VERBS_AND_WEIGHTS = {*itertools.product(["fit", "evaluate", "triple", "train_step"], BAD_WEIGHTS)}
VERBS_AND_WEIGHTS -= {("train_step", "all zero")}  # all weights of a batch may be 0


@pytest.mark.parametrize(("verb", "kind"), sorted(VERBS_AND_WEIGHTS))
def test_invalid_sample_weights_raise(backend, kind, verb):
    w, error, message = BAD_WEIGHTS[kind]
    network, optimizer = network_of(backend), Adam()
    x, y = backend.asarray(X), backend.asarray(LABELS)
    calls = {
        "fit": lambda: fit(
            network, softmax_cross_entropy, optimizer, (X, LABELS), sample_weight=w, verbose=0
        ),
        "triple": lambda: fit(network, softmax_cross_entropy, optimizer, (X, LABELS, w), verbose=0),
        "evaluate": lambda: evaluate(network, softmax_cross_entropy, (X, LABELS, w)),
        "train_step": lambda: train_step(
            network, softmax_cross_entropy, optimizer, x, y, network.workspace(N), w
        ),
    }
    refuses(calls[verb], error, message, State(network, optimizer, np.asarray(w)))


# ---------------------------------------------------------------------- sizes


def test_empty_data_raises_by_fit_and_evaluate(backend):
    network, optimizer = network_of(backend), Adam()
    state, empty = State(network, optimizer), (X[:0], LABELS[:0])
    refuses(
        lambda: fit(network, softmax_cross_entropy, optimizer, empty),
        DataError,
        r"data is empty: .* \(0, 4\)",
        state,
    )
    refuses(lambda: evaluate(network, softmax_cross_entropy, empty), DataError, "data is empty", state)


def test_forward_of_zero_rows_has_zero_rows(backend):
    network = Network(
        D, [Dense(5, relu), LayerNorm(), BatchNorm(), Dropout(0.5), Dense(C), Softmax()], backend
    )
    assert network.predict(X[:0]).shape == (0, C)
    for training in (True, False):
        x = backend.asarray(X[:0], "float32")
        assert network.forward(x, network.workspace(0, training)).shape == (0, C)
        assert network.forward(x, network.workspace(7, training).first(0)).shape == (0, C)


def test_one_row_and_a_batch_larger_than_the_data_work(backend):
    network = network_of(backend)
    assert network.predict(X[:1]).shape == (1, C)
    whole, large = network_of(backend), network_of(backend)
    fit(whole, softmax_cross_entropy, Adam(), (X, LABELS), epochs=2, batch_size=N, verbose=0)
    fit(large, softmax_cross_entropy, Adam(), (X, LABELS), epochs=2, batch_size=1000, verbose=0)
    np.testing.assert_array_equal(backend.to_host(whole.params.theta), backend.to_host(large.params.theta))
    for rows, batch in ((1, 5), (5, 1), (5, 4)):
        data, settings = (X[:rows], LABELS[:rows]), {"epochs": 2, "batch_size": batch, "verbose": 0}
        plain = Network(D, [Dense(5, relu), LayerNorm(), Dropout(0.2), Dense(C)], backend, "float64", seed=1)
        history = fit(plain, softmax_cross_entropy, Adam(), data, **settings)
        assert np.isfinite(history["loss"]).all()
        with pytest.raises(ConfigurationError, match="leave a batch of 1 row, and BatchNorm"):
            fit(network, softmax_cross_entropy, Adam(), data, **settings)


@pytest.mark.parametrize(
    "store",
    [
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=1)[:, ::2],
        lambda x: x[::-1].copy()[::-1],
        lambda x: x.astype(">f8"),
        lambda x: np.lib.stride_tricks.as_strided(x.copy(), writeable=False),
        lambda x: x.tolist(),
    ],
    ids=["fortran", "strided", "negative stride", "big-endian", "read-only", "list"],
)
def test_memory_layout_of_rows_changes_no_bit_and_rows_are_unchanged(backend, store):
    stored, plain, other = store(X), network_of(backend), network_of(backend)
    before = np.array(stored)
    np.testing.assert_array_equal(plain.predict(X), plain.predict(stored))
    fit(plain, softmax_cross_entropy, Adam(), (X, LABELS), epochs=2, validation=0.2, verbose=0)
    fit(other, softmax_cross_entropy, Adam(), (stored, LABELS), epochs=2, validation=0.2, verbose=0)
    np.testing.assert_array_equal(backend.to_host(plain.params.theta), backend.to_host(other.params.theta))
    np.testing.assert_array_equal(np.array(stored), before)


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int64, bool, np.float16])
def test_whole_numbers_are_cast_once_at_the_boundary(backend, kind):
    x = (np.abs(X) * 50).astype(kind)
    a, b = network_of(backend), network_of(backend)
    fit(a, softmax_cross_entropy, Adam(), (x, LABELS), epochs=2, verbose=0)
    fit(b, softmax_cross_entropy, Adam(), (x.astype(float), LABELS), epochs=2, verbose=0)
    np.testing.assert_array_equal(backend.to_host(a.params.theta), backend.to_host(b.params.theta))
    np.testing.assert_array_equal(a.predict(x), a.predict(x.astype(float)))


def test_rows_too_large_for_the_network_dtype_raise(backend):
    network = Network(D, [Dense(C)], backend, "float32")
    x = changed(X, (2, 2), 1e300)
    state = State(network, Adam(), x)
    refuses(lambda: network.predict(x), DataError, r"1e\+300|float32", state)
    train = lambda: fit(network, softmax_cross_entropy, Adam(), (x, LABELS), verbose=0)  # noqa: E731
    refuses(train, DataError, r"1e\+300|float32", state)


# ---------------------------------------------------------------------- settings of a network

BAD_NETWORKS = {
    "int32": (
        lambda b: Network(4, [Dense(3)], b, np.int32),
        ConfigurationError,
        "'int32' .* float32, float64",
    ),
    "complex64": (
        lambda b: Network(4, [Dense(3)], b, np.dtype("complex64")),
        ConfigurationError,
        "'complex64'",
    ),
    "no dtype": (lambda b: Network(4, [Dense(3)], b, None), ConfigurationError, "'None'"),
    "misspelt dtype": (lambda b: Network(4, [Dense(3)], b, "flaot32"), ConfigurationError, "'flaot32'"),
    "no layer": (lambda b: Network(4, [Dense(3), relu], b), ConfigurationError, "not relu"),
    "layer class": (lambda b: Network(4, [Dense], b), ConfigurationError, "layers must hold layers"),
    "layer name": (lambda b: Network(4, ["Dense(3)"], b), ConfigurationError, re.escape("'Dense(3)'")),
    "n_in 0": (lambda b: Network(0, [Dense(3)], b), ConfigurationError, "n_in .* not 0"),
    "n_in negative": (lambda b: Network(-4, [Dense(3)], b), ConfigurationError, "n_in .* not -4"),
    "n_in fractional": (lambda b: Network(4.0, [Dense(3)], b), ConfigurationError, "n_in .* not 4.0"),
    "n_in bool": (lambda b: Network(True, [Dense(3)], b), ConfigurationError, "n_in .* not True"),
    "seed negative": (lambda b: Network(4, [Dense(3)], b, seed=-1), ConfigurationError, "seed .* not -1"),
    "seed fractional": (lambda b: Network(4, [Dense(3)], b, seed=0.5), ConfigurationError, "seed .* not 0.5"),
    "width 0": (lambda b: Dense(0), ConfigurationError, "width of Dense .* not 0"),
    "width bool": (lambda b: Dense(True), ConfigurationError, "width of Dense .* not True"),
    "width float": (lambda b: Dense(3.0), ConfigurationError, "width of Dense .* not 3.0"),
    "activation name": (lambda b: Dense(3, "rleu"), ConfigurationError, "did you mean 'relu'"),
    "activation class": (
        lambda b: Dense(3, Dense),
        ConfigurationError,
        "activation must be an object such as",
    ),
    "dropout 1": (lambda b: Dropout(1.0), ConfigurationError, "below 1, not 1.0"),
    "dropout negative": (lambda b: Dropout(-0.1), ConfigurationError, "not -0.1"),
    "dropout NaN": (lambda b: Dropout(float("nan")), ConfigurationError, "not nan"),
    "dropout bool": (lambda b: Dropout(True), ConfigurationError, "not True"),
    "dropout text": (lambda b: Dropout("0.1"), ConfigurationError, "not '0.1'"),
    "residual of another width": (
        lambda b: Network(4, [Residual([Dense(5)])], b),
        ShapeError,
        "change the width from 4 to 5",
    ),
    "residual of nothing": (lambda b: Residual([]), ConfigurationError, "at least one layer"),
    "residual of no layers": (lambda b: Residual([relu]), ConfigurationError, "at least one layer"),
    "eps 0": (lambda b: LayerNorm(0.0), ConfigurationError, "eps of LayerNorm"),
    "momentum 0": (lambda b: BatchNorm(0.0), ConfigurationError, "momentum of BatchNorm"),
    "smoothing 1": (lambda b: SoftmaxCrossEntropy(1.0), ConfigurationError, "label_smoothing"),
    "class weight negative": (
        lambda b: SoftmaxCrossEntropy(0, (-1.0, 1.0)),
        ConfigurationError,
        "class weights",
    ),
    "huber 0": (lambda b: huber.with_alpha(0), ConfigurationError, "alpha of huber"),
}


@pytest.mark.parametrize("kind", BAD_NETWORKS)
def test_invalid_network_raises_with_the_reason(backend, kind):
    make, error, message = BAD_NETWORKS[kind]
    with pytest.raises(error, match=message):
        make(backend)


@pytest.mark.parametrize("name", ["torch", "numpy:0", "cupy:x", "cupy:-1", "gpu", "", "cupy:"])
def test_unknown_backend_raises_with_the_known_names(name):
    with pytest.raises(ConfigurationError, match=r"there are 'auto', 'cpu' \(or 'numpy'\), and 'cuda'"):
        get_backend(name)


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True, "8"])
def test_predict_rejects_an_invalid_batch_size(backend, batch_size):
    with pytest.raises(ConfigurationError, match="batch_size must be a whole number"):
        network_of(backend).predict(X, batch_size)


# ---------------------------------------------------------------------- workspaces


def test_backward_rejects_a_workspace_without_a_pass(backend):
    network, other = network_of(backend), network_of(backend)
    x, ws = backend.asarray(X), network.workspace(N)
    state = State(network, Adam(), X)
    dz = backend.zeros((N, C), np.float64)

    refuses(lambda: network.backward(dz, ws), WorkspaceError, "holds no forward pass", state)
    network.forward(x, ws)
    network.backward(dz, ws)
    refuses(
        lambda: network.backward(dz, ws),
        WorkspaceError,
        "holds no forward pass",
        state := State(network, Adam()),
    )

    inference = network.workspace(N, training=False)
    network.forward(x, inference)
    refuses(lambda: network.backward(dz, inference), WorkspaceError, "made with training=False", state)

    network.forward(x, ws)
    network.forward(x[:5], ws.first(5))  # overwrites the pass over all rows
    refuses(lambda: network.backward(dz, ws), WorkspaceError, "holds no forward pass", state)

    refuses(lambda: network.forward(x, other.workspace(N)), WorkspaceError, "made by another network", state)
    refuses(lambda: network.backward(dz, other.workspace(N)), WorkspaceError, "holds no forward pass", state)


def test_sizes_that_differ_from_the_workspace_raise_with_the_remedy(backend):
    network = network_of(backend)
    x, ws = backend.asarray(X), network.workspace(7)
    with pytest.raises(
        ShapeError, match=r"x has 20 rows and the workspace 7; make one with network.workspace\(20\)"
    ):
        network.forward(x, ws)
    with pytest.raises(ShapeError, match=r"x has 5 rows and the workspace 7; pass workspace.first\(5\)"):
        network.forward(x[:5], ws)
    with pytest.raises(ShapeError, match="holds 7 rows, not 8"):
        ws.first(8)
    for B in (-1, 2.0, True, None):
        with pytest.raises(ShapeError, match="number of rows"):
            network.workspace(B)
    network.forward(x[:7], ws)
    with pytest.raises(ShapeError, match=r"dz has shape \(7, 4\); this pass has outputs \(7, 3\)"):
        network.backward(backend.zeros((7, 4), np.float64), ws)


def test_probabilities_outside_the_unit_interval_raise(backend):
    network = Network(D, [Dense(1, sigmoid)], backend)
    with pytest.raises(DataError, match=r"from 0.0 to 2.0"):
        fit(network, binary_cross_entropy, Adam(), (X, LABELS), verbose=0)


@pytest.mark.parametrize("stray", [object(), None, Callback])
def test_invalid_callback_raises_before_anything_changes(backend, stray):
    network = network_of(backend)
    with pytest.raises(ConfigurationError, match=f"derived from Callback, not {re.escape(repr(stray))}"):
        fit(network, softmax_cross_entropy, Adam(), (X, LABELS), callbacks=[stray], verbose=0)
    assert int(backend.to_host(network.params.step)[0]) == 0


def test_failing_callback_leaves_no_half_step(backend):
    class Fails(Callback):
        def after_step(self, run):
            raise ZeroDivisionError

    failed, one = network_of(backend), network_of(backend)
    with pytest.raises(ZeroDivisionError):
        fit(failed, softmax_cross_entropy, Adam(), (X, LABELS), callbacks=[Fails()], verbose=0)
    fit(one, softmax_cross_entropy, Adam(), (X, LABELS), epochs=1, verbose=0)
    np.testing.assert_array_equal(backend.to_host(failed.params.theta), backend.to_host(one.params.theta))
