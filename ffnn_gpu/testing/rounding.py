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

    def standardize_backward(self, dxhat: Array, xhat: Array, rstd: Array, axis: int, out: Array) -> Array:
        """Disturb the mean that is subtracted: its error is in every dx, and stays in their sum."""
        size = np.abs(dxhat).max(axis=axis, keepdims=True, initial=0) * (rstd if axis == 0 else rstd[:, None])
        super().standardize_backward(dxhat, xhat, rstd, axis, out)
        out += self.unit * self.rng.uniform(-1, 1, size.shape) * size
        return out


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


class _DisturbedLoss:
    """A loss whose terms are rounded before they cancel.

    The error of e^z/Σ e^z − 1 is eps, and not eps times the difference.
    """

    def __init__(self, loss: Any, unit: float, rng: np.random.Generator) -> None:
        self.loss, self.unit, self.rng = loss, unit, rng

    def __call__(self, backend: Backend, z: Array, y: Array, dz: Array, sample_weight: Array | None) -> Array:
        value = self.loss(backend, z, y, dz=dz, sample_weight=sample_weight)
        size = 1 + np.abs(z)
        share = 1 / max(z.shape[-2], 1) if sample_weight is None else _share(sample_weight)
        dz += self._noise(z.shape) * size * share
        return value + self._noise(np.shape(value)) * size.max(initial=0)

    def _noise(self, shape: tuple[int, ...]) -> HostArray:
        return self.unit * self.rng.uniform(-1, 1, shape)


def _share(weight: Array) -> HostArray:
    """w_b / Σ w as a column"""
    w = np.asarray(weight, np.float64)
    total = w.sum(axis=-1, keepdims=True)
    return np.asarray(w / np.where(total == 0, 1, total))[..., None]


def exact_pass(network: Network, loss: Loss, x: Array, y: Array, weight: Array | None) -> Numbers:
    """Return `one_pass` of a copy of the network in float64 on the reference backend."""
    return one_pass(network.copied(Backend(), "float64"), loss, _rows(network, x), y, weight)


def scatter(network: Network, loss: Loss, x: Array, y: Array, weight: Array | None) -> dict[str, float]:
    """Return how far rounding to the network's compute type moves each tensor of `one_pass`.

    name → the largest change of an element; NORM + name → the largest 2-norm of the change.
    """
    exact, found = exact_pass(network, loss, x, y, weight), dict[str, float]()
    for seed in range(DRAWS):
        backend = RoundingBackend(eps(network.compute_dtype) / 2, seed)
        twin, rows = network.copied(backend, "float64"), _rows(network, x)
        backend.disturb(twin.params.theta)
        backend.disturb(rows[..., : network.n_in - len(network.levels)])  # codes are exact
        twin.layers = tuple(map(_DisturbedLayer, twin.layers))  # type: ignore[arg-type]
        terms: Any = _DisturbedLoss(loss, eps(network.dtype) / 2, backend.rng)
        for name, value in one_pass(twin, terms, rows, y, weight).items():
            change = np.asarray(value - exact[name])
            for key, size in ((name, np.abs(change).max(initial=0)), (NORM + name, np.linalg.norm(change))):
                found[key] = max(found.get(key, 0.0), float(size))
    return found


def _rows(network: Network, x: Array) -> HostArray:
    """Return a copy of x as float64, rounded to the network's type of parameters."""
    return np.array(network.backend.to_host(network.backend.asarray(x, network.dtype)), np.float64)
