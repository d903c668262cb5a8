"""Stacks of Dense layers, and an oracle of their step: float64, rounded where the kernel rounds to 16 bits.

`check(backend, case, B)` raises if a prediction, the loss or a gradient of CupyBackend is wrong, or if other
kernels computed them.
"""

from dataclasses import dataclass
from itertools import pairwise, zip_longest
from typing import Any

import ml_dtypes  # noqa: F401 - registers the name bfloat16 in NumPy
import numpy as np

from ffnn_gpu import SGD, Activation, Backend, Dense, Dropout, Network, train_step
from ffnn_gpu.backends.cuda.fused import stack
from ffnn_gpu.nn.losses.standard import LOSSES, SoftmaxCrossEntropy, huber
from ffnn_gpu.training.step import gradient

REFERENCE = Backend()
SCHEDULE, FACTOR, STEP, ROW = "flat_cos", 0.5, 7, 3  # of dropout
FACTORS = None, None, np.array([FACTOR])
NEIGHBOUR = {"bfloat16": 2.0**-8, "float16": 2.0**-10}


@dataclass(frozen=True)
class StackCase:
    """A network, its type and loss; B rows.

    exact: every number is a small multiple of a power of two and every sum exact, so results are equal.
    """

    name: str
    dtype: str
    widths: tuple
    phi: tuple
    loss: Any
    bias: bool = True
    weighted: bool = False
    exact: bool = False
    rates: tuple = ()

    @property
    def dense(self):
        return [Dense(width, phi, self.bias) for width, phi in zip(self.widths[1:], self.phi, strict=True)]

    @property
    def layers(self):
        """Return the dense layers, with a Dropout after each that has a rate; the last one has a schedule."""
        dropouts = [Dropout(rate, SCHEDULE if rate is self.rates[-1] else None) for rate in self.rates]
        pairs = zip_longest(self.dense, dropouts)
        return [each for pair in pairs for each in pair if each is not None]


# φ(0) = −∞: rows without data must not reach a gradient.
LOGARITHM = Activation(
    "logarithm", lambda xp, s, alpha: xp.log(xp.abs(s)), lambda xp, s, alpha: 1 / s, needs_input=True
)
CLASS_WEIGHT = (2.0, 0.0, 1.5, 0.25, 1.0)
LOGITS = SoftmaxCrossEntropy(label_smoothing=0.1)
CASES = (
    StackCase("classes", "bfloat16", (20, 24, 10), ("relu", "identity"), LOGITS, weighted=True),
    StackCase(
        "exact", "bfloat16", (8, 32, 16), ("relu", "identity"), LOSSES["mean_squared_error"], exact=True
    ),
    StackCase("half", "float16", (13, 33, 5, 1), ("tanh", "gelu", "identity"), huber),
    StackCase(
        "no bias", "bfloat16", (8, 40, 3), ("gelu", "silu"), LOSSES["binary_cross_entropy_with_logits"],
        bias=False, weighted=True,
    ),
    StackCase(
        "class weights", "bfloat16", (8, 16, 5), ("tanh", "identity"),
        SoftmaxCrossEntropy(label_smoothing=0.2, class_weight=CLASS_WEIGHT), weighted=True,
    ),
    StackCase(
        "dropout", "bfloat16", (8, 16, 33, 8, 2), ("sigmoid", "gelu", "relu", "identity"),
        LOSSES["mean_squared_error"], rates=(0.3, 0.5, 0.25),
    ),
    StackCase("infinite at 0", "bfloat16", (8, 16, 4), (LOGARITHM, "identity"), LOGITS),
)  # fmt: skip


def kernels(backend, case):
    """Return the kernels of this case."""
    layers = tuple(
        stack.dense_layer(I, O, layer.activation, bool(rate))
        for (I, O), layer, rate in zip_longest(pairwise(case.widths), case.dense, case.rates)
    )
    of_labels = isinstance(case.loss, SoftmaxCrossEntropy)
    loss = stack.CROSS_ENTROPY if of_labels else stack.pointwise_loss(case.loss)
    loss = stack.WEIGHTED_CROSS_ENTROPY if getattr(case.loss, "class_weight", None) else loss
    S = {"bfloat16": "bf16", "float16": "f16"}[case.dtype]
    without = tuple(layer._replace(dropout=False) for layer in layers)
    whole = stack.Stack(S, layers, loss, backend.shared_memory)
    forward = stack.Stack(S, without, None, backend.shared_memory)
    return [forward.prediction, whole.gradients, whole.gradient_sums]


def check(backend, case, B, share=None):
    """Raise unless predictions, the loss and every gradient of B rows are those of the oracle.

    Return the network.

    share: factor of the gradient, as of a micro-batch; None for a whole step.
    """
    network = Network(case.widths[0], case.layers, backend, case.dtype, seed=1)
    rng = np.random.default_rng(B)
    if case.exact:
        backend.copy(
            backend.asarray(rng.integers(-2, 3, network.params.theta.shape) / 4, np.float32),
            out=network.params.theta,
        )
        network.params.refresh()
    values = (
        rng.integers(-2, 3, (B, case.widths[0])) / 2 if case.exact else rng.normal(size=(B, case.widths[0]))
    )
    x = values.astype(network.compute_dtype)
    y = targets(case, B, rng)
    w = rng.uniform(0.5, 2, B).astype(np.float32) if case.weighted else None
    on_device = [None if each is None else backend.asarray(each) for each in (x, y, w)]
    parameters = [
        [None if a is None else backend.to_host(a).astype(np.float64) for a in (p.W, getattr(p, "b", None))]
        for p in network.params.views
        if hasattr(p, "W")
    ]
    loss_scale = network.params.loss_scale
    scale = 1.0 if loss_scale is None else float(backend.to_host(loss_scale)[0])
    backend.write(network.params.step, 0, STEP)
    if case.rates:
        backend.write(network.params.factor(network.layers[-2].schedule), 0, FACTOR)
    masks = [
        REFERENCE.dropout_mask(rate, 1, np.array([STEP]), 2 * number + 1, ROW, np.empty((B, width)), factor)
        for number, (rate, width, factor) in enumerate(
            zip(case.rates, case.widths[1:], FACTORS, strict=False)
        )
    ]
    z = oracle(case, parameters, x, y, w)[0]
    _, value, gradients = oracle(case, parameters, x, y, w, masks, share or 1.0, scale)
    launched = getattr(backend.xp, "launched", None)  # of the emulator
    if launched is not None:
        launched.clear()
    got_z = network.predict(on_device[0])
    ws = network.workspace(max(B, 1))
    ws.stream.row = ROW
    if share is None:
        got = train_step(
            network, case.loss, SGD(0.0), *on_device[:2], ws.first(B), on_device[2], checked=True
        )
    else:
        factor = backend.asarray(np.array([share]))
        got = gradient(network, case.loss, None, *on_device[:2], ws.first(B), on_device[2], factor, True)
    if launched is not None:
        require_launched(backend, case, set(launched))
    near(case, "z", backend.to_host(got_z), z)
    near(case, "loss", backend.to_host(got), value)
    dense = [views for views in network.params.views if hasattr(views, "W")]
    for l, (views, wanted) in enumerate(zip(dense, gradients, strict=True)):
        for name, right in zip(("dW", "db"), wanted, strict=True):
            if right is not None:
                mine, roundings = backend.to_host(getattr(views, name)), 1 if backend.use_kernels else 2
                near(case, f"{name} of layer {l}", mine, right, roundings)
    return network


def require_launched(backend, case, names):
    """Raise unless the kernels of the case were launched, and none of a single layer."""
    missing = [kernel.name for kernel in kernels(backend, case) if kernel.name not in names]
    assert not missing, (missing, names)
    single = ("bias_activation", "activation_backward", "column_sums", "dropout", "multiply")
    assert not [name for name in names if name.startswith(single)], names


def targets(case, B, rng):
    O = case.widths[-1]
    if isinstance(case.loss, SoftmaxCrossEntropy):
        return rng.integers(0, O, B).astype(np.int32)
    if case.exact:
        return (rng.integers(-2, 3, (B, O)) / 2).astype(np.float32)
    return rng.uniform(size=(B, O)).astype(np.float32)


def oracle(case, parameters, x, y, w, masks=(), share=1.0, scale=1.0):
    """Return outputs, the loss, and dW and db of each layer, times the loss scale."""
    masks = [*masks, *[1.0] * (len(parameters) - len(masks))]

    def rounded(a):
        return a.astype(case.dtype).astype(np.float64)

    a, s, before = [x.astype(np.float64)], [], []
    for (W, b), layer, mask in zip(parameters, case.dense, masks, strict=True):
        pre = a[-1] @ W + (0 if b is None else b)
        s.append(rounded(pre))
        before.append(rounded(layer.activation.value(np, pre)))
        a.append(rounded(before[-1] * rounded(np.asarray(mask))))
    z, dz, weight = a[-1], np.empty_like(a[-1]), None if w is None else w.astype(np.float64)
    if isinstance(case.loss, SoftmaxCrossEntropy):
        smoothing = float(np.float32(case.loss.label_smoothing))
        v = case.loss.class_weight and np.array(case.loss.class_weight)
        value = REFERENCE.softmax_cross_entropy(z, y, weight, v, smoothing, dz)
    else:
        value = REFERENCE.pointwise_loss(case.loss, z, y.astype(np.float64), weight, dz)
    da = scale * share * dz
    gradients = []
    for l in reversed(range(len(parameters))):
        phi, (W, b) = case.dense[l].activation, parameters[l]
        slope = phi.derivative(np, s[l] if phi.needs_input else before[l])
        delta = rounded(da * rounded(np.asarray(masks[l])) * slope)
        gradients.insert(0, (a[l].T @ delta, None if b is None else delta.sum(0)))
        da = delta @ W.T
    return z, value, gradients


def near(case, what, got, want, roundings=1):
    """Raise unless `got` is `want`, or for inexact cases near it.

    A sum in another order may round a number of 16 bits to its neighbour, and all that follows from it.
    roundings: of each δ. Operations one by one round it twice.
    """
    if case.exact and what != "loss":
        np.testing.assert_array_equal(got, np.asarray(want).astype(got.dtype), err_msg=what)
        return
    assert np.isfinite(got).all(), what
    error = np.abs(got.astype(np.float64) - want).max(initial=0) / max(np.abs(want).max(initial=0), 1e-30)
    assert error <= (1e-6 if case.exact else roundings * NEIGHBOUR[case.dtype]), (what, error)
