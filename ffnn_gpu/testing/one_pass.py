"""Compute one pass, or a few steps, of a network and return the results as host arrays for comparison.

Why gradients start as ones: zeros would hide a `backward` that adds instead of assigning.
Why there is an inference pass: every buffer but `a` is None in it. A layer that uses another buffer would
fail at its user's first prediction, after an epoch of training.
"""

from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.reference.members import Members, stacked
from ffnn_gpu.errors import ConfigurationError, ShapeError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.losses.loss import Loss
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.parameters import Slot
from ffnn_gpu.optim.optimizers import Optimizer
from ffnn_gpu.testing.derivatives import Numbers
from ffnn_gpu.training.step import train_step

GRADIENT = "gradient of "


def as_network(subject: Network | Layer, x: Array) -> Network:
    """Return a network unchanged, or a layer as a float64 network on NumPy.

    Raises ConfigurationError, or ShapeError if x is no matrix; for a pack, it may have an axis of members.
    """
    in_front = len(subject.leading) if isinstance(subject, Network) else 0
    if np.ndim(x) not in (2, 2 + in_front):
        raise ShapeError(f"x has shape {np.shape(x)}; it must be a matrix (rows, columns)")
    if isinstance(subject, Network):
        return subject
    if isinstance(subject, Layer):
        return Network(np.shape(x)[1], [subject], "numpy", "float64")
    raise ConfigurationError(f"subject must be a Network or a layer such as Dense(10), not {subject!r}")


def one_pass(network: Network, loss: Loss, x: Array, y: Array, sample_weight: Array | None = None) -> Numbers:
    """Return output, loss and every gradient in the order of computation. Running statistics are restored.

    In float16 the loss scale is halved until every gradient is finite.
    """
    backend, params = network.backend, network.params
    rows, y = _for_each_member(network, backend.asarray(x, network.dtype)), backend.asarray(y)
    ws, state = network.workspace(rows.shape[-2], input_gradient=True), backend.duplicate(params.state)
    x, S = backend.duplicate(rows), 1.0
    _inference(network, x)
    for slot in params.slots:
        backend.copy(1, out=slot.view(params.grad))
    while True:
        z = network.forward(x, ws)
        value = loss(backend, z, y, dz=ws.dz, sample_weight=sample_weight)
        dx = network.backward(ws.dz, ws)
        backend.copy(state, out=params.state)
        if params.loss_scale is not None:
            S = float(backend.to_host(params.loss_scale)[0])
        if S == 1 or (backend.all_finite(params.grad) and (dx is None or backend.all_finite(dx))):
            break
        backend.write(params.loss_scale, 0, S / 2)
    if not (backend.to_host(x) == backend.to_host(rows)).all():
        raise AssertionError("a layer has changed its input x; forward and backward must write into `buf`")
    assert dx is not None, "the first layer's backward returned None although buf.dx is not None"
    found = {name: np.array(backend.to_host(array)) for name, array in {"output": z, "loss": value}.items()}
    for slot in sorted(params.slots, key=_depth, reverse=True):
        found[GRADIENT + slot.name] = backend.to_host(slot.view(params.grad)) / S
    return found | {GRADIENT + "x": np.array(backend.to_host(dx))}


def some_steps(network: Network, loss: Loss, optimizer: Optimizer, x: Array, y: Array, steps: int) -> Numbers:
    """Return every parameter and running statistic after `steps` updates.

    Raises AssertionError if no parameter has changed, or if a moment of an own formula is still zero.
    """
    backend, ws, before = network.backend, network.workspace(np.shape(x)[-2]), network.params.to_host()
    x, y = backend.asarray(x, network.compute_dtype), backend.asarray(y)
    for _ in range(steps):
        train_step(network, loss, optimizer, x, y, ws)
    after, learnt = network.params.to_host(), [slot.name for slot in network.params.slots]
    unchanged = bool(learnt) and all((before[name] == after[name]).all() for name in learnt)
    if unchanged and backend.to_host(network.params.grad).any():
        raise AssertionError(
            f"{steps} updates by {optimizer!r} changed no parameter although the gradient is not zero; "
            "a formula must change θ in place: theta -= …, not theta = …"
        )
    if learnt and backend.to_host(network.params.grad).any():
        _require_moments(network, optimizer, steps)
    return after


def _require_moments(network: Network, optimizer: Optimizer, steps: int) -> None:
    """Raise AssertionError if a moment of a formula of the user's own is still zero."""
    if type(optimizer).update is not Optimizer.update:
        return
    state = optimizer.state(network.params)
    for name in optimizer.moments:
        if not network.backend.to_host(getattr(state, name)).any():
            raise AssertionError(
                f"the moment {name!r} of {optimizer!r} is 0 after {steps} updates; a formula must change its "
                f"moments in place: {name}[...] = …, not {name} = …"
            )


def _inference(network: Network, x: Array) -> None:
    """Run one inference pass, layer by layer. Raises ShapeError unless each returns (B, output width)."""
    ws = network.workspace(x.shape[-2], training=False)
    operations, x = network.operations, x if x.ndim == 2 else Members(x)
    for k, (layer, p, buf) in enumerate(zip(network.layers, network.params.views, ws.buffers, strict=True)):
        try:
            x = layer.forward(operations, p, _converted(network, x), buf)
        except Exception as error:
            where = f"in the inference pass of layer {k}, {layer!r}"
            error.add_note(f"{where}, where every buffer but `a` is None")
            raise
        wanted = ws.B, network.widths[k + 1]
        if getattr(x, "shape", None) != wanted:
            what = "nothing" if x is None else f"shape {x.shape}" if hasattr(x, "shape") else repr(x)
            raise ShapeError(f"{type(layer).__name__}.forward returned {what}; it must return shape {wanted}")


def _for_each_member(network: Network, x: Array) -> Array:
    """Return x with an axis of members if the network is a pack, so that each has its own gradient at x."""
    if network.members is None or x.ndim == 3:
        return x
    out = network.backend.empty((len(network.members), *x.shape), x.dtype)
    return network.backend.copy(x, out=out)


def _converted(network: Network, x: Any) -> Any:
    """Return x in the network's type."""
    array = network.backend.asarray(stacked(x), network.compute_dtype)
    return Members(array) if isinstance(x, Members) else array


def _depth(slot: Slot) -> list[int]:
    """Return the indices of a layer, outermost first: [3, 1] for "3.layers.1.W"."""
    return [int(part) for part in slot.name.split(".") if part.isdigit()]
