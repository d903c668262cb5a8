"""The package runs on the strict device, with results bitwise equal to the reference."""

import math

import numpy as np
import pytest

from ffnn_gpu import (
    SGD,
    Activation,
    Adam,
    AdamW,
    Backend,
    BackendMismatchError,
    BatchNorm,
    Dense,
    Dropout,
    LayerNorm,
    LogSoftmax,
    Network,
    Residual,
    RMSprop,
    Softmax,
    SoftmaxCrossEntropy,
    cross_entropy,
    evaluate,
    fit,
    gelu,
    load,
    mean_squared_error,
    relu,
    sigmoid,
    softmax_cross_entropy,
    softmax_jacobian,
    tanh,
    train_step,
)
from ffnn_gpu.nn.activations import ACTIVATIONS
from ffnn_gpu.nn.layers import Average, NTKDense
from ffnn_gpu.nn.losses.standard import LOSSES
from ffnn_gpu.optim.choice import OPTIMIZERS
from ffnn_gpu.testing.strict_device import Refusal, StrictBackend, StrictModule

ROWS, WIDTH, CLASSES = 7, 5, 3
RNG = np.random.default_rng(3)
X = RNG.normal(size=(ROWS, WIDTH))
LABELS = RNG.integers(0, CLASSES, ROWS)
WEIGHT = RNG.random(ROWS)
TARGETS = {
    "mean_squared_error": RNG.normal(size=(ROWS, CLASSES)),
    "mean_absolute_error": RNG.normal(size=(ROWS, CLASSES)),
    "huber": RNG.normal(size=(ROWS, CLASSES)) * 3,
    "poisson": RNG.integers(0, 4, (ROWS, CLASSES)),
    "binary_cross_entropy": RNG.random((ROWS, CLASSES)),
    "binary_cross_entropy_with_logits": RNG.integers(0, 2, (ROWS, CLASSES)),
    "cross_entropy": LABELS,
    "softmax_cross_entropy": LABELS,
    "hinge": RNG.choice([-1, 1], (ROWS, CLASSES)),
}
STACKS = {
    "dense": [Dense(4, tanh), Dense(CLASSES)],
    "no bias": [Dense(4, relu, bias=False), Dense(CLASSES)],
    "dropout": [Dense(6, tanh), Dropout(0.3), Dense(CLASSES)],
    "layer norm": [LayerNorm(), Dense(4, tanh), LayerNorm(), Dense(CLASSES)],
    "batch norm": [BatchNorm(), Dense(4, tanh), BatchNorm(), Dense(CLASSES)],
    "softmax": [Dense(4, tanh), Softmax(), Dense(CLASSES)],
    "log-softmax": [Dense(4, tanh), LogSoftmax(), Dense(CLASSES)],
    "residual": [
        Dense(4, tanh),
        Residual([BatchNorm(), Dense(6, gelu), Dropout(0.2), Dense(4)]),
        Dense(CLASSES),
    ],
}
RULES = {
    "sgd": SGD(lr=0.1),
    "momentum": SGD(lr=0.1, momentum=0.9),
    "nesterov": SGD(lr=0.1, momentum=0.9, nesterov=True),
    "rmsprop momentum": RMSprop(momentum=0.9),
    "clipped": SGD(lr=0.1, clip_value=0.01, clip_norm=0.02),
    "penalized": Adam(l2=0.1, l1=0.01, weight_decay=0.01),
    "averaged": Adam(ema=0.9),
} | {name: kind() for name, kind in OPTIMIZERS.items()}


def steps(backend, layers, loss, optimizer, y, weight=None, dtype="float32", count=3, scale=None):
    """Return (name → bytes of every vector, losses) after `count` steps that must not wait for the device."""
    network = Network(WIDTH, layers, backend, dtype, seed=1)
    if scale is not None:
        network.params.loss_scale = backend.asarray(np.array([scale, 1999.0]))
    backend, ws = network.backend, network.workspace(ROWS, input_gradient=True)
    x, y = backend.asarray(X, dtype), backend.asarray(loss.targets(y, CLASSES, network.dtype))
    weight = None if weight is None else backend.asarray(weight, dtype)
    state = optimizer.state(network.params)

    def step():
        return train_step(network, loss, optimizer, x, y, ws, weight, checked=True)

    step = backend.capture(step)
    losses = [step() for _ in range(count)]
    vectors = vars(state) | {
        "theta": network.params.theta,
        "grad": network.params.grad,
        "state": network.params.state,
    }
    numbers = {name: np.asarray(backend.to_host(vector)) for name, vector in vectors.items()}
    assert all(n.dtype == (np.float64 if name == "scalars" else dtype) for name, n in numbers.items())
    return {name: n.tobytes() for name, n in numbers.items()}, [float(value) for value in losses]


def assert_same_on_strict_device(*args, **kwargs):
    assert steps(StrictBackend(), *args, **kwargs) == steps(Backend(), *args, **kwargs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_steps_with_each_activation_equal_the_reference_bit_for_bit(name, dtype):
    layers = [Dense(4, ACTIVATIONS[name]), Dense(CLASSES)]
    assert_same_on_strict_device(layers, softmax_cross_entropy, SGD(lr=0.1), LABELS, dtype=dtype)


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_steps_through_each_layer_equal_the_reference_bit_for_bit(stack):
    assert_same_on_strict_device(stack, softmax_cross_entropy, SGD(lr=0.1), LABELS)


@pytest.mark.parametrize(
    "weight", [None, WEIGHT, np.zeros(ROWS)], ids=["unweighted", "weighted", "all weights 0"]
)
@pytest.mark.parametrize("name", LOSSES)
def test_steps_with_each_loss_equal_the_reference_bit_for_bit(name, weight):
    last = {"cross_entropy": [Dense(CLASSES), Softmax()], "binary_cross_entropy": [Dense(CLASSES, sigmoid)]}
    layers = [Dense(4, tanh), *last.get(name, [Dense(CLASSES)])]
    assert_same_on_strict_device(layers, LOSSES[name], SGD(lr=0.1), TARGETS[name], weight)


@pytest.mark.parametrize("y", [LABELS, np.eye(CLASSES)[LABELS]], ids=["classes", "distributions"])
def test_steps_with_label_smoothing_equal_the_reference_bit_for_bit(y):
    assert_same_on_strict_device([Dense(CLASSES)], SoftmaxCrossEntropy(0.1), SGD(lr=0.1), y, WEIGHT)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_steps_under_a_loss_scale_equal_the_reference_bit_for_bit(rule):
    assert_same_on_strict_device(STACKS["dense"], softmax_cross_entropy, rule, LABELS, scale=2.0)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_steps_of_each_optimizer_equal_the_reference_bit_for_bit(rule, dtype):
    assert_same_on_strict_device(STACKS["batch norm"], softmax_cross_entropy, rule, LABELS, dtype=dtype)


@pytest.mark.parametrize("y", [LABELS, np.eye(CLASSES)[LABELS]], ids=["classes", "distributions"])
def test_class_weights_are_moved_to_the_device_once(y):
    loss = SoftmaxCrossEntropy(class_weight=(1.0, 2.0, 0.5))
    backend = StrictBackend()
    found = steps(backend, [Dense(CLASSES)], loss, SGD(), y)
    assert found == steps(Backend(), [Dense(CLASSES)], loss, SGD(), y)
    with backend.xp.within_a_step():
        moved = backend.constant(loss.class_weight, np.float32)
        assert backend.constant(loss.class_weight, np.float32) is moved
        with pytest.raises(Refusal, match="a copy from the host within a step"):
            backend.asarray(np.ones(3))


@pytest.mark.parametrize("members", [None, 2])
@pytest.mark.parametrize("layer", [Average([Dense(CLASSES)] * 2), NTKDense(CLASSES)], ids=["average", "ntk"])
def test_fit_of_constants_equals_the_reference_bit_for_bit(layer, members):
    found, x = [], np.random.default_rng(0).normal(size=(20, WIDTH))
    for backend in (StrictBackend(), Backend()):
        network = Network(WIDTH, [layer], backend, members=members)
        loss = SoftmaxCrossEntropy(class_weight=(1.0, 2.0, 0.5))
        history = fit(network, loss, SGD(), (x, np.arange(20) % CLASSES), epochs=2, batch_size=8, verbose=0)
        found.append((history["loss"], backend.to_host(network.params.theta).tobytes()))
    assert found[0] == found[1]


# --- the whole library


def trained(backend, folder=None, **options):
    layers = [Dense(6, gelu), BatchNorm(), Dropout(0.2), Dense(CLASSES)]
    network = Network(WIDTH, layers, backend, seed=2)
    x = np.random.default_rng(0).normal(size=(40, WIDTH))
    y = (x[:, 0] > 0).astype(int) + (x[:, 1] > 1)
    optimizer = options.pop("optimizer", AdamW(lr=0.01, ema=0.9))
    history = fit(
        network,
        softmax_cross_entropy,
        optimizer,
        (x, y),
        epochs=3,
        batch_size=12,
        validation=0.25,
        verbose=0,
        metrics=["accuracy"],
        checkpoint=folder,
        **options,
    )
    timing = ("seconds", "samples_per_second")
    return network, [{k: v for k, v in row.items() if k not in timing} for row in history.rows]


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sample_weight": np.linspace(0, 1, 40)},
        {"class_weight": "balanced", "accumulate": 3},
        {"accumulate": 2, "optimizer": SGD(lr=0.1, momentum=0.9)},
        {"early_stopping": 1, "drop_last": True},
    ],
    ids=["plain", "weights", "weighted micro-batches", "micro-batches", "early stopping"],
)
def test_fit_on_a_strict_device_equals_the_reference_bit_for_bit(options):
    (strict, history), (plain, expected) = trained(StrictBackend(), **options), trained(Backend(), **options)
    assert history == expected
    for (name, got), (_, want) in zip(strict.params.named(), plain.params.named(), strict=True):
        assert got.get().tobytes() == want.tobytes(), name


def test_losses_of_an_epoch_are_read_at_once():
    xp = StrictModule()
    network = Network(WIDTH, [Dense(2)], StrictBackend(xp))
    data = np.ones((60, WIDTH)), np.zeros((60, 2))
    before = xp.synchronizations
    fit(network, mean_squared_error, SGD(), data, epochs=2, batch_size=1, verbose=0)
    # per epoch: two vectors of the loss meter and the check that θ is finite, not 60 losses
    assert xp.synchronizations - before <= 2 * 3


def test_only_the_first_minibatch_copies_from_the_host():
    xp = StrictModule()
    network = Network(WIDTH, [Dense(2)], StrictBackend(xp))
    uploads = []
    for n in (10, 30):
        before = xp.uploads
        fit(
            network,
            mean_squared_error,
            SGD(),
            (np.ones((n, WIDTH)), np.zeros((n, 2))),
            epochs=1,
            batch_size=1,
            verbose=0,
        )
        uploads.append(xp.uploads - before)
    assert uploads[0] == uploads[1]


def test_checkpoint_written_on_a_strict_device_is_read_and_resumed_anywhere(tmp_path):
    network, _ = trained(StrictBackend(), tmp_path)
    on_host = load(tmp_path / "last", Backend())
    assert network.to("numpy").params.theta.tobytes() == network.params.theta.get().tobytes()
    assert on_host.n_in == WIDTH
    assert trained(StrictBackend(), tmp_path, resume=True)[1] == trained(Backend(), tmp_path, resume=True)[1]


@pytest.mark.parametrize("rows", [0, 1, 5, ROWS])
@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_prediction_equals_the_reference_bit_for_bit(stack, rows):
    x = X[:rows].astype("float32")
    got = Network(WIDTH, stack, StrictBackend()).predict(x, batch_size=4)
    assert got.tobytes() == Network(WIDTH, stack, Backend()).predict(x, batch_size=4).tobytes()


def test_prediction_has_the_kind_of_the_input_array():
    backend = StrictBackend()
    network = Network(WIDTH, [Dense(2)], backend)
    assert isinstance(network.predict(X), np.ndarray)
    assert backend.owns(network.predict(backend.asarray(X)))


def test_fit_and_evaluate_accept_device_arrays():
    backend = StrictBackend()
    network = Network(WIDTH, [Dense(CLASSES)], backend)
    data = backend.asarray(X), backend.asarray(LABELS)
    fit(network, softmax_cross_entropy, SGD(), data, epochs=1, validation=0.3, verbose=0)
    assert math.isfinite(evaluate(network, softmax_cross_entropy, data)["loss"])


def test_jacobian_of_softmax_equals_the_reference_bit_for_bit():
    got = softmax_jacobian(StrictBackend().asarray(X), StrictBackend())
    assert got.get().tobytes() == softmax_jacobian(X).tobytes()


@pytest.mark.parametrize("stack", STACKS.values(), ids=STACKS)
def test_training_pass_of_zero_rows_has_an_empty_output(stack):
    network = Network(WIDTH, stack, StrictBackend())
    assert network.forward(network.backend.asarray(X[:0], "float32"), network.workspace(0)).shape == (
        0,
        CLASSES,
    )


def test_host_array_in_forward_raises_a_mismatch():
    network = Network(WIDTH, [Dense(2)], StrictBackend())
    with pytest.raises(BackendMismatchError, match=r"numpy\.ndarray.*strict backend"):
        network.forward(X.astype("float32"), network.workspace(ROWS))


@pytest.mark.parametrize(
    ("loss", "y", "width"),
    [
        (softmax_cross_entropy, LABELS, CLASSES),
        (softmax_cross_entropy, np.eye(CLASSES, dtype=int)[LABELS], CLASSES),
        (cross_entropy, LABELS, CLASSES),
        (mean_squared_error, TARGETS["mean_squared_error"], CLASSES),
        (mean_squared_error, LABELS, 1),
    ],
    ids=["classes", "one-hot integers", "classes of probabilities", "float64 numbers", "one column"],
)
def test_loss_with_device_targets_equals_loss_with_host_targets(loss, y, width):
    z = np.abs(X[:, :width]).astype("float32") / 4
    dz, strict = np.empty_like(z), StrictBackend()
    value, on_device = loss(Backend(), z, y, dz=dz), strict.empty(z.shape, z.dtype)
    assert float(loss(strict, strict.asarray(z), strict.asarray(y), dz=on_device)) == float(value)
    assert on_device.get().tobytes() == dz.tobytes()


# --- the device itself


def faulty(formula):
    return Activation("faulty", formula, lambda xp, a, _: xp.ones_like(a))


FAULTS = {
    "float() in a step": (lambda xp, s, _: s * (1.0 / float(s.sum())), "synchronization within a step"),
    "a branch on a value": (lambda xp, s, _: s if (s > 0).all() else -s, "synchronization within a step"),
    "a boolean mask": (lambda xp, s, _: s * s[s > 0].sum(), "synchronization within a step"),
    "places of values": (lambda xp, s, _: s + xp.flatnonzero(s)[0], "synchronization within a step"),
    "a NumPy array in an operator": (lambda xp, s, _: s + np.ones(4, "float32"), "numpy.ndarray"),
    "a NumPy array before the operator": (lambda xp, s, _: np.ones(4, "float32") * s, "numpy.ndarray"),
    "a NumPy array in a function": (lambda xp, s, _: xp.maximum(s, np.zeros(4, "float32")), "numpy.ndarray"),
    "a NumPy function": (lambda xp, s, _: np.linalg.norm(s), "Implicit conversion"),
    "a conversion": (lambda xp, s, _: xp.asarray(np.asarray(s)), "Implicit conversion"),
    "a copy from the host": (lambda xp, s, _: s + xp.asarray(np.ones(4, "float32")), "copy from the host"),
    "a NumPy float64": (lambda xp, s, _: s * np.float64(2), "float64"),
    "an array made without a dtype": (lambda xp, s, _: s * xp.ones(4), "float64"),
    "a loop over rows": (lambda xp, s, _: sum(row for row in s), "iteration"),
    "an index from the device": (lambda xp, s, _: s * [1, 2][xp.arange(1).sum()], "cannot be an index"),
    "an argument CuPy lacks": (lambda xp, s, _: xp.sum(s, where=s > 0), "where"),
}


@pytest.mark.parametrize(("formula", "complaint"), FAULTS.values(), ids=FAULTS)
def test_planted_fault_raises(formula, complaint):
    layers = [Dense(4, faulty(formula)), Dense(CLASSES)]
    with pytest.raises(TypeError, match=complaint):
        steps(StrictBackend(), layers, softmax_cross_entropy, SGD(), LABELS)


def test_assignment_of_a_numpy_array_raises():
    x = StrictBackend().zeros((3,), "float32")
    with pytest.raises(Refusal, match=r"non-scalar numpy\.ndarray"):
        x[...] = np.ones(3, "float32")


def test_array_of_another_device_raises():
    xp = StrictModule(count=2)
    with xp.cuda.Device(1):
        x = xp.ones(3, "float32")
    for misuse in (lambda: x + 1, lambda: xp.exp(x), lambda: x.__setitem__(0, 1.0), lambda: x.__iadd__(1)):
        with pytest.raises(Refusal, match="of device 1 in a kernel of device 0"):
            misuse()


def test_device_counts_its_operations():
    xp = StrictModule()
    x = xp.asarray(np.ones(3, "float32"))
    y = xp.exp(x) + 1
    assert (xp.uploads, xp.launches, xp.allocations, xp.synchronizations) == (1, 2, 3, 0)
    assert float(y.sum()) == pytest.approx(3 * math.e + 3)
    assert xp.synchronizations == 1


def test_view_of_a_device_array_shares_its_memory():
    x = StrictModule().asarray(np.zeros((2, 3), "float32"))
    x[1][2:] += 1
    scalar = x[0, 0]
    scalar += 5
    x.T[0, 1] = 7
    assert x.tolist() == [[5, 0, 0], [7, 0, 1]]


def test_functions_for_custom_layers_are_passed_on_to_numpy():
    xp = StrictModule()
    x = xp.asarray(np.arange(6, dtype="float32").reshape(2, 3))
    for got, want in [
        (xp.concatenate([x, x], axis=1), np.concatenate([x.host, x.host], axis=1)),
        (xp.einsum("ij,kj->ik", x, x), x.host @ x.host.T),
        (abs(-x), x.host),
        (x @ x.T, x.host @ x.host.T),
        (x.mean(axis=0), x.host.mean(axis=0)),
        (x.ravel(), x.host.ravel()),
        (xp.cos(xp.pi * x), np.cos(np.pi * x.host)),
        (xp.logaddexp(x, 0.0), np.logaddexp(x.host, 0)),
        (x // 2 % 2, x.host // 2 % 2),
    ]:
        assert got.dtype == np.float32
        np.testing.assert_array_equal(got.get(), want)


@pytest.mark.parametrize(
    "mixed",
    [
        lambda xp, x: xp.concatenate([x, np.ones((2, 3), "float32")]),
        lambda xp, x: xp.cos(np.ones(3)),
        lambda xp, x: x @ np.ones(3),
        lambda xp, x: x.dot(np.ones(3)),
        lambda xp, x: np.concatenate([x, x]),
        lambda xp, x: np.exp(x),
    ],
)
def test_host_array_mixed_with_a_device_array_raises(mixed):
    xp = StrictModule()
    with pytest.raises(TypeError):
        mixed(xp, xp.asarray(np.ones((2, 3), "float32")))


@pytest.mark.parametrize("missing", [lambda xp, x: xp.cosinus, lambda xp, x: x.cosinus])
def test_function_missing_in_numpy_is_an_attribute_error(missing):
    xp = StrictModule()
    with pytest.raises(AttributeError, match="cosinus"):
        missing(xp, xp.asarray(np.ones(3)))
