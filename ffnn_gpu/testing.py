"""Proof for tests: how close is close enough, are the gradients exact, do two backends agree.

For this package's suite and for layers and losses of your own; imports and runs without CuPy.

Why a policy: CPU and GPU can agree on a wrong gradient, and a loose tolerance hides one. A bound here is a multiple of eps
that grows with the length of the sums, and an oracle is never the code under test: gradients are held to the complex step
f′(x) = Im f(x + ih)/h, which has no cancellation, through the reference backend in complex128.

Reference: Squire, Trapp, Using complex variables to estimate derivatives (1998).
"""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ffnn_gpu.backend import probe
from ffnn_gpu.backend.precision import eps, is_16_bit
from ffnn_gpu.backend.reference import Backend
from ffnn_gpu.layers import Layer
from ffnn_gpu.network import Network
from ffnn_gpu.optimizers import SGD, Optimizer
from ffnn_gpu.training import train_step

SMALLEST_SCALE = 1e-2  # of the largest gradient: one that cancels to zero, a bias before BatchNorm, has no scale of its own
COMPLEX_STEP = 1e-30  # h: far below eps, so the real part of every intermediate is that of the plain evaluation


def tolerance(kind: str, dtype: Any, K: int = 1, L: int = 1) -> float:
    """The largest error allowed, relative to the scale named below; eps is that of `dtype`, the type computed in.

    Args:
        kind: "product", one product or elementwise operation, relative to |A||B|: eps max(4, √K).
            "network", any tensor of a pass, relative to its largest element: eps max(16, √(L K)).
            "parity", between two backends, likewise: twice "network".
        K: the longest sum: max(fan-in, fan-out, batch). L: the number of weight layers.
    """
    bounds = {
        "product": max(4.0, math.sqrt(K)),
        "network": max(16.0, math.sqrt(L * K)),
        "parity": 2 * max(16.0, math.sqrt(L * K)),
    }
    return eps(dtype) * bounds[kind]


def assert_close(got: Any, want: Any, relative: float, what: str = "result", scale: Any = None) -> None:
    """Raise AssertionError unless |got − want| ≤ relative · scale everywhere; says where it is worst.

    Args:
        scale: number or array; the largest |want| by default.
    """
    got, want = np.asarray(got), np.asarray(want)
    dtype = got.dtype
    if is_16_bit(dtype): got, want = got.astype(np.float64), want.astype(np.float64)
    assert got.shape == want.shape, f"{what} has shape {got.shape}; expected {want.shape}"
    if not want.size:
        return
    assert np.isfinite(got).all(), f"{what} holds {np.count_nonzero(~np.isfinite(got))} values that are not finite"
    limit = relative * (np.abs(want).max() if scale is None else np.asarray(scale))
    excess = np.abs(got - want) - limit
    if excess.max() > 0:
        at = tuple(int(i) for i in np.unravel_index(excess.argmax(), excess.shape))
        error = abs(got[at] - want[at])
        unit = eps(dtype) * max(float(np.abs(want).max()), eps(dtype))
        raise AssertionError(
            f"{what} differs most at {at}: got {got[at]!r}, expected {want[at]!r}; the error {error:.3g} is "
            f"{error / unit:.3g} eps of the largest element, allowed is {float(np.max(limit)):.3g}"
        )


class ComplexBackend(Backend):
    """The reference in complex128, for complex-step derivatives."""

    name = "complex"
    dtypes = ("complex128",)


def check_gradients(
    subject: Network | Layer, loss: Any, x: Any, y: Any, *, sample_weight: Any = None, relative: float | None = None
) -> None:
    """Raise AssertionError unless every element of ∇θ and ∂L/∂x is the derivative of the loss, by the complex step.

    Args:
        subject: a network on any backend, or a layer, which is put into a float64 network on NumPy.
        loss: any loss that accepts complex z, as all of this package do.
        x, y: a batch; keep it and the network small, every parameter costs one forward pass.
        relative: bound relative to the largest element of each tensor; by default 1e-12 in float64 and the "network"
            tolerance of the type computed in for the others.

    Running statistics are as before afterwards, θ is never changed.
    """
    network = Network(np.shape(x)[1], [subject], "numpy", "float64") if isinstance(subject, Layer) else subject
    if relative is None:
        K, L = max(*network.widths, len(x)), max(1, len(network.layers))
        relative = 1e-12 if network.dtype == np.float64 else tolerance("network", network.compute_dtype, K, L)
    got = _gradients(network, loss, x, y, sample_weight)
    want = _complex_step(network, loss, x, y, sample_weight)
    largest = max(float(np.abs(gradient).max(initial=0)) for gradient in want.values())
    floor = SMALLEST_SCALE * (largest if largest > 1e-12 else 1.0)
    for name, gradient in want.items():
        scale = max(floor, float(np.abs(gradient).max(initial=0)))
        assert_close(got[name], gradient, relative, f"the gradient of {name}", scale=scale)


def assert_parity(
    network: Network, x: Any, y: Any, loss: Any, *, backends: Iterable[Any] | None = None,
    optimizer: Optimizer | None = None, steps: int = 3,
) -> None:  # fmt: skip
    """Raise AssertionError unless all backends give the same outputs, loss, gradients and θ after `steps` updates.

    The first backend is the yardstick; by default they are the reference, NumPy and, where the probe passes, CuPy.
    Outputs and gradients are held to tolerance("parity"), θ after n updates to n times that. Trajectories of different
    rounding diverge, so use at most ten steps.
    """
    first, *others = backends or (Backend(), "numpy", *(["cupy"] if probe().usable else []))
    optimizer = optimizer or SGD(lr=1e-2)
    want = _trajectory(network.to(first), x, y, loss, optimizer, steps)
    relative = tolerance("parity", network.compute_dtype, max(*network.widths, len(x)), max(1, len(network.layers)))
    for backend in others:
        got = _trajectory(network.to(backend), x, y, loss, optimizer, steps)
        for name, value in want.items():
            factor = steps if name.startswith("θ") else 1
            scale = max(float(np.abs(value).max(initial=0)), float(np.finfo(network.dtype).tiny))
            assert_close(got[name], value, factor * relative, f"{name} on {backend} against {first}", scale=scale)


def _gradients(network: Network, loss: Any, x: Any, y: Any, sample_weight: Any) -> dict[str, np.ndarray]:
    backend, kept = network.backend, network.backend.duplicate(network.params.state)
    ws = network.workspace(len(x), input_gradient=True)
    z = network.forward(backend.asarray(x, network.dtype), ws)
    loss(backend, z, backend.asarray(y), dz=ws.dz, sample_weight=sample_weight)
    dx = network.backward(ws.dz, ws)
    backend.copy(kept, out=network.params.state)
    S = 1.0 if network.params.loss_scale is None else backend.to_host(network.params.loss_scale)[0]
    got = {slot.name: backend.to_host(slot.view(network.params.grad)) / S for slot in network.params.slots}
    return got if dx is None else got | {"x": backend.to_host(dx)}


def _complex_step(network: Network, loss: Any, x: Any, y: Any, sample_weight: Any) -> dict[str, np.ndarray]:
    twin = Network(network.n_in, network.layers, ComplexBackend(), "complex128", network.seed)
    twin.params.assign({name: value.astype(np.complex128) for name, value in network.params.to_host().items()})
    twin.backend.write(twin.params.step, 0, int(network.params.step[0]))
    ws = twin.workspace(len(x), seed=network.seed)
    batch = np.asarray(network.backend.to_host(network.backend.asarray(x, network.dtype)), np.complex128)

    def slopes(values: np.ndarray) -> np.ndarray:
        out = np.empty(values.shape)
        for at in np.ndindex(values.shape):
            values[at] += 1j * COMPLEX_STEP
            z = twin.run(batch, ws)
            out[at] = loss(twin.backend, z, y, sample_weight=sample_weight).imag / COMPLEX_STEP
            values[at] = values[at].real
        return out

    return {slot.name: slopes(slot.view(twin.params.theta)) for slot in twin.params.slots} | {"x": slopes(batch)}


def _trajectory(
    network: Network, x: Any, y: Any, loss: Any, optimizer: Optimizer, steps: int
) -> dict[str, np.ndarray]:
    backend = network.backend
    x, y = backend.asarray(x, network.dtype), backend.asarray(y)
    ws = network.workspace(len(x))
    z = network.forward(x, ws)
    found = {"output": np.array(backend.to_host(z))}
    found["loss"] = np.array(backend.to_host(loss(backend, z, y, dz=ws.dz)))
    network.backward(ws.dz, ws)
    for slot in network.params.slots:
        found[f"gradient of {slot.name}"] = np.array(backend.to_host(slot.view(network.params.grad)))
    for _ in range(steps):
        train_step(network, loss, optimizer, x, y, ws)
    return found | {f"θ {name} after {steps} steps": value for name, value in network.params.to_host().items()}
