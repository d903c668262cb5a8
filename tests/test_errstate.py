"""Results do not depend on the caller's np.seterr: an underflow that is right raises nothing."""

import functools

import numpy as np
import pytest

from ffnn_gpu import BatchNorm, Dense, Dropout, LayerNorm, Network, Standardizer, evaluate, fit
from ffnn_gpu.backends.choice import NumpyBackend
from ffnn_gpu.data.labels import LabelMap, infer_task
from ffnn_gpu.data.splits import train_test_split
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.evaluation.metrics import METRICS
from ffnn_gpu.nn.activations import ACTIVATIONS
from ffnn_gpu.nn.layers import LogSoftmax, Residual, Softmax
from ffnn_gpu.nn.losses.standard import LOSSES
from ffnn_gpu.nn.schedules import SCHEDULES
from ffnn_gpu.optim.choice import OPTIMIZERS
from ffnn_gpu.testing import assert_close, assert_parity, check_gradients
from ffnn_gpu.training.history import History

rng = np.random.default_rng(0)
X = rng.normal(size=(24, 3)) * [1.0, 1e-30, 3e4]
CLASSES = np.arange(24) % 3
TINY = np.array([[1e-310, 2e-160], [2e-310, 0.0], [0.0, 1e-160], [3e-310, 3e-160]])
WIDE = np.concatenate([[0.0, 1e-310, -1e-310, 1e-160], np.linspace(-1e4, 1e4, 41), [-800.0, 88.0, -104.0]])
WIDE_OF = {dtype: WIDE.astype(dtype)[None] for dtype in ("float32", "float64")}
TOP_2 = functools.partial(METRICS["top_k_accuracy"], k=2)
SCORES = np.abs(X) * 1e-300, np.exp(-np.arange(24.0) * 40), np.exp(X[:, 0] / 1e3) * 1e-300
LAYERS = [Dense(4, "tanh"), LayerNorm(), Dropout(0.2), Residual([Dense(4, "sigmoid"), BatchNorm()]), Dense(3)]


def network(dtype="float32", layers=LAYERS, scale=300.0):
    made = Network(3, layers, "numpy", dtype, seed=1)
    made.params.theta *= scale
    return made


def model(y, kind="auto"):
    task = Task.of(np.array(y), kind)
    made = network("float32", [Dense(4, "tanh"), *task.head])
    return Model(made, task.with_units_of(np.array(y)), Standardizer.fit(X))


def used(y, kind="auto"):
    made = model(y, kind)
    chances = [] if made.task.kind == "regression" else [made.probabilities(X)]
    return [made.predict(X), made.outputs(X), *chances, list(made.evaluate(X, np.array(y)).values())]


def trained(optimizer, dtype="float32", schedule="cosine"):
    made = network(dtype, scale=1.0)
    more = {"validation": 0.25, "metrics": ["accuracy", TOP_2], "schedule": schedule}
    history = fit(
        made, "softmax_cross_entropy", optimizer, (X, CLASSES), epochs=2, batch_size=8, verbose=0, **more
    )
    return [*made.params.to_host().values(), history["loss"], history["val_loss"], made.predict(X)]


def of_tiny_data():
    """Features, targets and weights that are 0 in float32."""
    made = network(layers=[Dense(2)], scale=1.0)
    data = np.hstack([TINY, TINY[:, :1]]), TINY, np.array([1.0, 1e-60, 2.0, 1e-200])
    history = fit(made, "mse", "adam", data, epochs=2, batch_size=2, validation=data, verbose=0)
    ws = made.workspace(4)
    value = LOSSES["mean_squared_error"](made.backend, made.forward(data[0], ws), data[1], ws.dz, data[2])
    of_classes = network(layers=[Dense(3)], scale=1.0)
    weighted = {"class_weight": {0: 1e-200, 1: 1.0}, "epochs": 1, "verbose": 0}
    fit(of_classes, "softmax_cross_entropy", "adam", (X, CLASSES), **weighted)
    return [history["val_loss"], value, made.predict(data[0]), of_classes.params.theta]


def of_loss(name, dtype):
    ends = {"cross_entropy": [Softmax()], "negative_log_likelihood": [LogSoftmax()]}
    kind = "sigmoid" if name in ("binary_cross_entropy", "poisson") else "identity"
    made = network(dtype, [Dense(3, kind), *ends.get(name, [])])
    one_hot = np.eye(3)[CLASSES]
    y = 2 * one_hot - 1 if name == "hinge" else one_hot
    ws = made.workspace(24)
    z = made.forward(np.clip(X, -1, 1).astype(made.dtype), ws)
    value = float(LOSSES[name](made.backend, z, y, ws.dz))
    made.backward(ws.dz, ws)
    return [value, made.params.grad, list(evaluate(made, name, (X, y)).values())]


def of_activation(name, dtype):
    s = WIDE_OF[dtype]
    made = Network(s.shape[1], [Dense(s.shape[1], name)], "numpy", dtype)
    W = made.params.theta[: s.size**2]
    W[:] = np.eye(s.size).ravel()
    ws = made.workspace(1, input_gradient=True)
    z = made.forward(s, ws)
    return [z.copy(), made.backward(np.full_like(z, 1e-30), ws), ACTIVATIONS[name].value(np, s)]


def of_metric(name):
    if name == "roc_auc":
        return [METRICS[name](CLASSES > 0, SCORES[1])]
    if name == "log_loss":
        return [METRICS[name](CLASSES, SCORES[0])]
    if name == "top_k_accuracy":
        return [METRICS[name](CLASSES, SCORES[0], k=1)]
    labels = name.endswith(("accuracy", "macro"))
    return [METRICS[name](*((CLASSES, CLASSES[::-1]) if labels else (TINY, TINY[::-1])))]


def of_standardizer():
    made = Standardizer.fit(TINY)
    scaled = made.transform(TINY, np.float64)
    return [
        made.mean,
        made.scale,
        scaled,
        made.transform(TINY),
        made.inverse(scaled),
        made.rows(TINY, 5.0)[:],
    ]


def of_data():
    plot = History([{"epoch": 1, "loss": 1e-310, "val_loss": 1e-320}]).best_epoch()
    parts = train_test_split(CLASSES, 0.25, 0, stratify=True)
    return [plot, *parts, LabelMap.fit(TINY[:, 0]).encode(TINY[:, 0]), infer_task(TINY[:, 0]) == "regression"]


def of_testing_kit():
    x = np.clip(X, -1, 1)
    check_gradients(network("float64", scale=1.0), LOSSES["softmax_cross_entropy"], x[:6], CLASSES[:6])
    assert_parity(network(scale=1.0), x, CLASSES, "softmax_cross_entropy", backends=["numpy", NumpyBackend()])
    assert_close(TINY, TINY.copy(), 1e-12, "tiny numbers")
    return []


TYPES = ("float32", "float64")
CALLS = {
    **{f"{name}, {dtype}": (of_activation, name, dtype) for name in ACTIVATIONS for dtype in TYPES},
    **{f"{name}, {dtype}": (of_loss, name, dtype) for name in LOSSES for dtype in TYPES},
    **{f"metric {name}": (of_metric, name) for name in METRICS},
    **{f"fit by {name}": (trained, name) for name in OPTIMIZERS},
    **{f"fit in {dtype}": (trained, "adam", dtype) for dtype in ("float16", "bfloat16")},
    **{f"fit with {name}": (trained, "sgd", "float32", name) for name in SCHEDULES},
    "binary": (used, CLASSES > 0),
    "multiclass": (used, CLASSES),
    "regression": (used, SCORES[2]),
    "multilabel": (used, np.eye(3)[CLASSES][:, :2]),
    "Standardizer": (of_standardizer,),
    "data": (of_data,),
    "tiny data": (of_tiny_data,),
    "testing kit": (of_testing_kit,),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_every_public_entrance_computes_the_same_under_np_errstate_raise(call):
    function, *arguments = call
    want = function(*arguments)
    with np.errstate(all="raise"):
        got = function(*arguments)
    for one, other in zip(got, want, strict=True):
        np.testing.assert_array_equal(one, other)
