"""evaluate returns the weighted loss and the metrics of the whole data, for any batch size."""

import functools
import tracemalloc

import numpy as np
import pytest

from ffnn_gpu.backends.choice import Backend, NumpyBackend
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.evaluation.evaluate import evaluate
from ffnn_gpu.evaluation.metrics import accuracy, mae, top_k_accuracy
from ffnn_gpu.nn.activations import sigmoid
from ffnn_gpu.nn.layers import BatchNorm, Dense, Dropout, Softmax
from ffnn_gpu.nn.losses import standard as losses
from ffnn_gpu.nn.losses.standard import (
    SoftmaxCrossEntropy,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    mean_squared_error,
    softmax_cross_entropy,
)
from ffnn_gpu.nn.network import Network

rng = np.random.default_rng(1)
X = rng.normal(size=(50, 4))
Y = rng.integers(0, 3, 50).astype(np.int32)


def classifier(backend="numpy", *more):
    return Network(4, [Dense(6), Dropout(0.5), *more, Dense(3)], backend, "float64", seed=2)


@pytest.mark.parametrize("batch_size", [1, 7, 50, 1000])
def test_evaluation_does_not_depend_on_the_batch_size(backend, batch_size):
    network, w = classifier(backend, BatchNorm()), rng.random(50)
    for loss in (softmax_cross_entropy, SoftmaxCrossEntropy(0.1, (1.0, 5.0, 0.5))):
        whole = evaluate(network, loss, (X, Y, w), metrics=["accuracy"], batch_size=50)
        got = evaluate(network, loss, (X, Y, w), metrics=["accuracy"], batch_size=batch_size)
        assert got.keys() == {"loss", "accuracy"}
        np.testing.assert_allclose([*got.values()], [*whole.values()], rtol=1e-13)


def test_evaluation_changes_neither_network_nor_data(backend):
    network = classifier(backend, BatchNorm())
    before = network.params.to_host()
    x = X.copy()
    evaluate(network, softmax_cross_entropy, (x, Y), metrics=["accuracy", "roc_auc"][:1])
    for name, value in network.params.to_host().items():
        np.testing.assert_array_equal(value, before[name])
    np.testing.assert_array_equal(x, X)


def test_evaluation_agrees_with_a_computation_by_hand():
    network = classifier()
    p = network.params.to_host()
    z = (X @ p["0.W"] + p["0.b"]) @ p["2.W"] + p["2.b"]  # dropout is the identity
    logp = z - np.log(np.exp(z).sum(axis=1, keepdims=True))
    w = np.arange(50.0)
    row = evaluate(
        network, softmax_cross_entropy, (X, Y, w), metrics=["accuracy", lambda y, p: y[3] * 10 + p[3]]
    )
    np.testing.assert_allclose(row["loss"], -(w * logp[np.arange(50), Y]).sum() / w.sum(), rtol=1e-13)
    right = z.argmax(axis=1) == Y
    np.testing.assert_allclose(row["accuracy"], (w * right).sum() / w.sum(), rtol=1e-13)
    assert row["<lambda>"] == Y[3] * 10 + z[3].argmax()


def test_score_metrics_receive_outputs_and_other_metrics_decisions():
    network, seen = classifier(), {}

    def spy(y, prediction):
        seen["y"], seen["prediction"] = y, prediction
        return 1.5

    top_2 = functools.partial(top_k_accuracy, k=2)
    row = evaluate(network, softmax_cross_entropy, (X, Y), metrics=[top_2, spy])
    assert row["spy"] == 1.5 and row["top_k_accuracy"] == top_k_accuracy(Y, network.predict(X), k=2)
    np.testing.assert_array_equal(seen["y"], Y)
    np.testing.assert_array_equal(seen["prediction"], network.predict(X).argmax(axis=1))


@pytest.mark.parametrize("name", ["roc_auc", "log_loss"])
def test_metrics_of_probabilities_receive_those_of_logits_and_of_probabilities(backend, name):
    """The order of logits in a column is another than that of probabilities."""
    oracle = pytest.importorskip("sklearn.metrics")
    logits, ends = (
        classifier(backend),
        Network(4, [Dense(6), Dense(3), Softmax()], backend, "float64", seed=2),
    )
    of_logits = evaluate(logits, SoftmaxCrossEntropy(0.1), (X, Y), metrics=name)[name]
    ends.params.assign({key.replace("2.", "1."): a for key, a in logits.params.to_host().items()})
    p = backend.to_host(ends.predict(X))
    more = {"multi_class": "ovr"} if name == "roc_auc" else {}
    wanted = {"roc_auc": oracle.roc_auc_score, "log_loss": oracle.log_loss}[name](Y, p, **more)
    assert of_logits == pytest.approx(wanted, rel=1e-12)
    assert evaluate(ends, cross_entropy, (X, Y), metrics=name)[name] == pytest.approx(wanted, rel=1e-12)


def test_log_loss_of_two_classes_is_the_loss(backend):
    y = (Y > 0).astype(float)
    for loss, layer in (
        (binary_cross_entropy, Dense(1, sigmoid)),
        (binary_cross_entropy_with_logits, Dense(1)),
    ):
        row = evaluate(Network(4, [layer], backend, "float64"), loss, (X, y), metrics=["log_loss", "roc_auc"])
        assert row["log_loss"] == pytest.approx(row["loss"], rel=1e-12)


def test_metric_may_be_a_partial_function_of_scores():
    network = classifier()
    row = evaluate(network, softmax_cross_entropy, (X, Y), metrics=[functools.partial(top_k_accuracy, k=2)])
    assert row["top_k_accuracy"] == top_k_accuracy(Y, network.predict(X), k=2)


@pytest.mark.parametrize(
    ("loss", "layers"), [(softmax_cross_entropy, [Dense(3)]), (cross_entropy, [Dense(3), Softmax()])]
)
@pytest.mark.parametrize("one_hot", [False, True])
def test_accuracy_of_classes_is_the_same_from_indices_and_one_hot_rows(loss, layers, one_hot):
    network = Network(4, layers, "numpy", "float64")
    y = np.eye(3)[Y] if one_hot else Y
    top_2 = functools.partial(top_k_accuracy, k=2)
    row = evaluate(network, loss, (X, y), metrics=["accuracy", "balanced_accuracy", top_2])
    assert row["accuracy"] == accuracy(Y, network.predict(X).argmax(axis=1))
    assert row["top_k_accuracy"] == top_k_accuracy(Y, network.predict(X), k=2)


@pytest.mark.parametrize(
    ("loss", "layer"),
    [(binary_cross_entropy, Dense(1, sigmoid)), (binary_cross_entropy_with_logits, Dense(1))],
)
@pytest.mark.parametrize("shape", [(50,), (50, 1)])
def test_accuracy_of_binary_targets_uses_the_loss_own_threshold(loss, layer, shape):
    network, y = Network(4, [layer], "numpy", "float64"), (Y > 0).astype(float)
    z = network.predict(X).ravel()
    decided = (z > (0.5 if loss is binary_cross_entropy else 0)).astype(int)
    assert 0 < decided.sum() < 50
    assert evaluate(network, loss, (X, y.reshape(shape)), metrics=["accuracy"])["accuracy"] == accuracy(
        y, decided
    )


def test_regression_metrics_receive_the_outputs():
    network = Network(4, [Dense(2)], "numpy", "float64")
    y = rng.normal(size=(50, 2))
    row = evaluate(network, mean_squared_error, (X, y), metrics=["mse", "mae"])
    assert row["mse"] == pytest.approx(row["loss"], rel=1e-13) and row["mae"] == mae(y, network.predict(X))


@pytest.mark.parametrize(("kind", "parts"), [(Backend, [4096, 904]), (NumpyBackend, [1024] * 4 + [904])])
def test_default_batch_size_of_evaluation_depends_on_the_backend(kind, parts, monkeypatch):
    network, rows = Network(1, [Dense(1)], kind()), []
    run = network.run
    monkeypatch.setattr(network, "run", lambda x, ws: rows.append(len(x)) or run(x, ws))
    monkeypatch.setattr(network, "forward", network.run)
    evaluate(network, mean_squared_error, (np.zeros((5000, 1)), np.zeros(5000)))
    assert rows == parts


@pytest.mark.parametrize("batch_size", [0, -3, 2.5, True])
def test_evaluation_refuses_a_batch_size_that_is_no_positive_integer(batch_size):
    with pytest.raises(ConfigurationError, match="batch_size must be a whole number"):
        evaluate(classifier(), softmax_cross_entropy, (X, Y), batch_size=batch_size)


def test_unknown_metric_is_refused_with_the_closest_name():
    with pytest.raises(ConfigurationError, match="did you mean 'accuracy'"):
        evaluate(classifier(), softmax_cross_entropy, (X, Y), metrics=["acuracy"])


def test_loss_of_rows_whose_classes_have_weight_zero_is_zero():
    assert evaluate(classifier(), SoftmaxCrossEntropy(0, (0.0, 1.0, 1.0)), (X, 0 * Y)) == {"loss": 0}


@pytest.mark.parametrize("stored", ["float64", "float32"])
def test_memory_mapped_rows_are_never_copied_whole_by_evaluation(tmp_path, stored):
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", stored, (100_000, 40)).flush()
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    network, y = Network(40, [Dense(1)], "numpy", "float32"), np.zeros(len(x), np.float32)
    evaluate(
        network, losses.mean_squared_error, (x[:9], y[:9])
    )  # llvmlite compiles before memory is measured
    tracemalloc.start()
    try:
        evaluate(network, losses.mean_squared_error, (x, y))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < x.nbytes / 2


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_metrics_of_probabilities_are_nan_as_the_loss_is(backend, value):
    network = Network(4, [Dense(3)], backend, "float64")
    numbers = network.params.to_host()
    numbers["0.b"][1] = value
    network.params.assign(numbers)
    with np.errstate(invalid="ignore"):  # ∞ − ∞ of the reference
        found = evaluate(network, softmax_cross_entropy, (X, Y), metrics=["log_loss", "roc_auc"])
    assert all(np.isnan(each) for each in found.values())
