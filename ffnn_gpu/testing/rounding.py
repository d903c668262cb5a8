"""Estimate how far the rounding of a number type moves each tensor of a pass.

Some correct gradients lose most of their digits: a gradient that cancels in BatchNorm over few rows, a sum of
large numbers that nearly cancel. A bound relative to the largest element rejects them. So the same pass is
run in float64, and every result of an operation is multiplied by 1 + u, where u is random within half the
type's eps. The tensors then scatter as far as rounding moves them.

Why this excuses no wrong formula: the wrong formula is in every pass, and its error is the same in each.

Reference: Parker: Monte Carlo Arithmetic (1997), section 4.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.arrays.precision import eps
from ffnn_gpu.backends import Backend
from ffnn_gpu.backends.reference.members import stacked
from ffnn_gpu.nn.losses.loss import Loss
from ffnn_gpu.nn.network import Network
from ffnn_gpu.testing.derivatives import Numbers
from ffnn_gpu.testing.one_pass import one_pass

DRAWS = 8  # the largest of 8 draws is 1.4 standard deviations of the rounding error
ROOM = 4.0  # times the scatter: an error beyond it is no rounding
NORM = "norm of "  # before the name of a tensor: the 2-norm of its change


class RoundingBackend(Backend):
    """The reference, with a relative error of up to `unit` in every result.

    Operations that declare what they write (`in_float32`) are disturbed, and so are θ, x and what a layer
    returns.
    """

    name = "rounding"

    def __init__(self, unit: float, seed: int) -> None:
        super().__init__()
        self.unit, self.rng = unit, np.random.default_rng(seed)

    def disturb(self, array: Any) -> None:
        """array ← array (1 + u)"""
        if isinstance(array, np.ndarray) and array.dtype.kind == "f":
            array *= 1 + self.unit * self.rng.uniform(-1, 1, array.shape)


def _disturbed(name: str) -> Callable[..., Any]:
    """Return the reference's operation of this name, which disturbs what it has written."""
    operation = getattr(Backend, name)
    names = operation.parameters

    @functools.wraps(operation)
    def run(self: RoundingBackend, *args: Any, **named: Any) -> Any:
        result = operation(self, *args, **named)
        given = dict(zip(names, args, strict=False)) | named
        for each in operation.written:
            self.disturb(given.get(each))
        return result

    return run


for _name in dir(Backend):
    if hasattr(getattr(Backend, _name), "written") and _name != "dropout_mask":
        setattr(RoundingBackend, _name, _disturbed(_name))


class _DisturbedLayer:
    """A layer that may compute without the backend: what it returns is disturbed."""

    def __init__(self, layer: Any) -> None:
        self.layer = layer

    def __getattr__(self, name: str) -> Any:
        return getattr(self.layer, name)

    def forward(self, backend: RoundingBackend, p: Any, x: Array, buf: Any) -> Array:
        a = self.layer.forward(backend, p, x, buf)
        if a is not None and not np.may_share_memory(stacked(a), stacked(x)):
            backend.disturb(a)
        return a

    def backward(self, backend: RoundingBackend, p: Any, da: Array, buf: Any) -> Array:
        dx = self.layer.backward(backend, p, da, buf)
        backend.disturb(dx)
        return dx


def exact_pass(network: Network, loss: Loss, x: Array, y: Array, weight: Array | None) -> Numbers:
    """Return `one_pass` of a copy of the network in float64 on the reference backend."""
    return one_pass(_twin(network, Backend()), loss, _rows(network, x), y, weight)


def scatter(network: Network, loss: Loss, x: Array, y: Array, weight: Array | None) -> dict[str, float]:
    """Return how far rounding to the network's compute type moves each tensor of `one_pass`.

    name → the largest change of an element; NORM + name → the largest 2-norm of the change.
    """
    exact, found = exact_pass(network, loss, x, y, weight), dict[str, float]()
    for seed in range(DRAWS):
        backend = RoundingBackend(eps(network.compute_dtype) / 2, seed)
        twin, rows = _twin(network, backend), _rows(network, x)
        backend.disturb(twin.params.theta)
        backend.disturb(rows[..., : network.n_in - len(network.levels)])  # codes are exact
        twin.layers = tuple(map(_DisturbedLayer, twin.layers))  # type: ignore[arg-type]
        for name, value in one_pass(twin, loss, rows, y, weight).items():
            change = np.asarray(value - exact[name])
            for key, size in ((name, np.abs(change).max(initial=0)), (NORM + name, np.linalg.norm(change))):
                found[key] = max(found.get(key, 0.0), float(size))
    return found


def _twin(network: Network, backend: Backend) -> Network:
    twin = Network(network.n_in, network.layers, backend, "float64", network.seed, network.members)
    twin.params.assign({name: value.astype("float64") for name, value in network.params.to_host().items()})
    backend.write(twin.params.step, 0, int(network.params.step[0]))
    return twin


def _rows(network: Network, x: Array) -> HostArray:
    """Return a copy of x as float64, rounded to the network's type of parameters."""
    return np.array(network.backend.to_host(network.backend.asarray(x, network.dtype)), np.float64)
