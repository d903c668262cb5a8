"""One pass, and some steps, of a network as numbers on the host: what `testing` compares.

Why gradients begin as ones: a backward that adds to them instead of assigning would look right where they begin as zeros.
Why an inference pass: there every buffer but `a` is None, and a layer that counts on another one would fail its user's first
prediction, after an epoch of training.
"""

from typing import Any

import numpy as np

from ffnn_gpu.errors import ConfigurationError, ShapeError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.parameters import Slot
from ffnn_gpu.optim.optimizers import Optimizer
from ffnn_gpu.testing.derivatives import Numbers
from ffnn_gpu.training.step import train_step

GRADIENT = "gradient of "


def as_network(subject: Network | Layer, x: Any) -> Network:
    """`subject`, a layer as a float64 network of its own on NumPy. Raises ConfigurationError for anything else."""
    if isinstance(subject, Network):
        return subject
    if isinstance(subject, Layer):
        if np.ndim(x) != 2:
            raise ShapeError(f"x has shape {np.shape(x)}; a layer reads a matrix (rows, columns)")
        return Network(np.shape(x)[1], [subject], "numpy", "float64")
    raise ConfigurationError(f"what is checked is a Network or a layer such as Dense(10), not {subject!r}")


def one_pass(network: Network, loss: Any, x: Any, y: Any, sample_weight: Any = None) -> Numbers:
    """Output, loss and every gradient in the order they are computed in. Running statistics are as before.

    In float16 the loss scale is halved until the gradient is finite.
    """
    backend, params = network.backend, network.params
    ws, kept, S = network.workspace(len(x), input_gradient=True), backend.duplicate(params.state), 1.0
    rows, y = backend.asarray(x, network.dtype), backend.asarray(y)
    x = backend.duplicate(rows)
    _inference(network, x)
    for slot in params.slots:
        backend.copy(1, out=slot.view(params.grad))
    while True:
        z = network.forward(x, ws)
        value = loss(backend, z, y, dz=ws.dz, sample_weight=sample_weight)
        dx = network.backward(ws.dz, ws)
        backend.copy(kept, out=params.state)
        if params.loss_scale is not None:
            S = float(backend.to_host(params.loss_scale)[0])
        if S == 1 or backend.all_finite(params.grad):
            break
        backend.write(params.loss_scale, 0, S / 2)
    if not (backend.to_host(x) == backend.to_host(rows)).all():
        raise AssertionError("a layer has changed its input x; forward and backward write into `buf`")
    assert dx is not None, "the first layer's backward returned None although the gradient at x was asked for"
    found = {name: np.array(backend.to_host(array)) for name, array in {"output": z, "loss": value}.items()}
    for slot in sorted(params.slots, key=_depth, reverse=True):
        found[GRADIENT + slot.name] = backend.to_host(slot.view(params.grad)) / S
    return found | {GRADIENT + "x": np.array(backend.to_host(dx))}


def some_steps(network: Network, loss: Any, optimizer: Optimizer, x: Any, y: Any, steps: int) -> Numbers:
    """Every parameter and running statistic after so many updates. Raises AssertionError if none of them moved at all."""
    backend, ws, before = network.backend, network.workspace(len(x)), network.params.to_host()
    x, y = backend.asarray(x, network.compute_dtype), backend.asarray(y)
    for _ in range(steps):
        train_step(network, loss, optimizer, x, y, ws)
    after, learnt = network.params.to_host(), [slot.name for slot in network.params.slots]
    if (
        learnt
        and backend.to_host(network.params.grad).any()
        and all((before[k] == after[k]).all() for k in learnt)
    ):
        raise AssertionError(
            f"{steps} updates by {optimizer!r} changed no parameter although the gradient is not zero; a formula changes θ "
            "in place: theta -= …, not theta = …"
        )
    return after


def _inference(network: Network, x: Any) -> None:
    """One pass without buffers for gradients, layer by layer: each must return (B, output width)."""
    ws = network.workspace(len(x), training=False)
    for k, (layer, p, buf) in enumerate(zip(network.layers, network.params.views, ws.buffers, strict=True)):
        try:
            x = layer.forward(network.backend, p, network.backend.asarray(x, network.compute_dtype), buf)
        except Exception as error:
            error.add_note(
                f"in the inference pass of layer {k}, {layer!r}, where every buffer but `a` is None"
            )
            raise
        wanted = ws.B, network.widths[k + 1]
        if getattr(x, "shape", None) != wanted:
            what = "nothing" if x is None else f"shape {x.shape}" if hasattr(x, "shape") else repr(x)
            raise ShapeError(f"{type(layer).__name__}.forward returned {what}; its output is {wanted}")


def _depth(slot: Slot) -> list[int]:
    """The places of a layer among the others, outermost first: [3, 1] for "3.layers.1.W"."""
    return [int(part) for part in slot.name.split(".") if part.isdigit()]
