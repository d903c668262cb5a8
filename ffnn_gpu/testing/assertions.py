"""Assert that gradients are exact, for this package's tests and for your own layers.

This module needs neither CuPy nor pytest; `pytest_ffnn_gpu` is the plugin for pytest. The oracles are in
`derivatives`, the bounds in `tolerances`.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import is_16_bit
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.losses.loss import Loss
from ffnn_gpu.nn.losses.standard import get_loss
from ffnn_gpu.nn.network import Network
from ffnn_gpu.testing.bounds import Bounds
from ffnn_gpu.testing.constant_parameters import with_other_values
from ffnn_gpu.testing.derivatives import oracle
from ffnn_gpu.testing.one_pass import GRADIENT, as_network, one_pass
from ffnn_gpu.testing.rounding import scatter
from ffnn_gpu.testing.tolerances import Difference, tolerance


@dataclass(frozen=True)
class Report:
    """The result of a comparison, to print.

    Attributes:
        method: "complex step", "float64 differences (reason)", or "parity with" a backend.
        differences: the largest difference of each tensor, in the order of computation.
        waits: what waits for a strict device within a pass.
        left_out: the checks that were left out, and why.
    """

    method: str
    differences: tuple[Difference, ...]
    waits: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()

    @property
    def worst(self) -> Difference:
        """Return the tensor with the largest error relative to its bound."""
        return max(self.differences, key=lambda found: found.excess)

    def __str__(self) -> str:
        bad = [found for found in self.differences if found.excess > 1]
        first = f"{len(bad)} of them differ, {bad[0].what} first" if bad else "all agree"
        text = f"{self.method}, {len(self.differences)} tensors: {first}; {self.worst}"
        return "; ".join([text, *self.waits, *self.left_out])

    def checked(self) -> "Report":
        """Return this report; raise AssertionError with its text if a tensor exceeds its bound."""
        if self.worst.excess > 1:
            raise AssertionError(str(self))
        return self


def check_gradients(
    subject: Network | Layer,
    loss: Loss | str,
    x: Array,
    y: Array,
    *,
    sample_weight: Array | None = None,
    relative: float | None = None,
) -> Report:
    """Raise AssertionError unless every element of ∇θ and ∂L/∂x equals the derivative of the loss.

    The derivative is computed by the complex step, or by float64 differences if a formula does not allow
    complex numbers. Where x holds category codes, ∂L/∂x must be 0. Output and loss are compared with a
    float64 pass of the reference. The network is copied; yours is not changed. With a layer of your own,
    parameters that are constant, such as 0, are checked a second time at other values.

    Args:
        subject: a network on any backend, or a layer, which is put into a float64 network on NumPy.
        loss: a loss or its name.
        x, y: a batch. Keep it and the network small: every number costs a forward pass. Avoid kinks of ReLU.
        sample_weight: without it, ∂L/∂z is compared a second time, with random weights. If the loss raises
            NotImplementedError for weights, the report says that this check was left out.
        relative: bound relative to the largest element of each tensor. Default in float64: 1e-12, or 1e-6
            with differences. Default in other types: the "network" tolerance of the compute type. Where
            rounding alone moves a tensor further, it may differ by as much. There, and in 16-bit types, the
            network is compared in float64 too, if its backend computes in that.

    Raises:
        AssertionError: a gradient exceeds the bound.
        ConfigurationError: the loss has no usable derivative, or subject is neither a network nor a layer.
    """
    network, loss = as_network(subject, x), get_loss(loss) if isinstance(loss, str) else loss
    network = network.to(network.backend)
    method, found = _against_oracle(network, loss, x, y, sample_weight, relative)
    if (other := with_other_values(network)) is not None:
        _, more = _against_oracle(other, loss, x, y, sample_weight, relative)
        found += [replace(each, what=f"{each.what} at other values of the parameters") for each in more]
    left_out = list[str]()
    if sample_weight is None and np.size(x):
        try:
            found += _weighted(network, loss, x, y, relative)
        except NotImplementedError as error:
            reason = f"the loss raises NotImplementedError: {error}"
            left_out.append(f"the check with weights of rows was left out, because {reason}")
    return Report(method, tuple(found), left_out=tuple(left_out)).checked()


def _against_oracle(
    network: Network, loss: Loss, x: Array, y: Array, weight: Array | None, relative: float | None
) -> tuple[str, list[Difference]]:
    """Return the oracle's method, and the differences of output, loss and every gradient.

    Why a second comparison in float64 where rounding is large: a small gradient may be wrong by a factor of 3
    within it.
    """
    got, bound = one_pass(network, loss, x, y, weight), tolerance_for("network", network, x)
    method, error, z, value, slopes = oracle(network, loss, x, y, weight)
    want = {name: slopes[name.removeprefix(GRADIENT)] for name in got if name.startswith(GRADIENT)}
    want = {"output": z, "loss": value} | want
    own = relative or (error if network.dtype == np.float64 else max(error, bound))

    def compared(room: Mapping[str, float]) -> Iterator[Difference]:
        return Bounds(own, network.compute_dtype, room, max(bound, own)).compared(got, want, "the {}")

    found, rounds_much = list(compared({})), is_16_bit(network.compute_dtype)
    if not agree(found):
        found, rounds_much = list(compared(scatter(network, loss, x, y, weight))), True
    is_hiding = rounds_much and agree(found) and network.compute_dtype != np.float64
    if is_hiding and "float64" in network.backend.dtypes:
        twin = network.copied(network.backend, "float64")
        _, more = _against_oracle(twin, loss, x, y, weight, relative)
        found += [replace(each, what=f"{each.what} in float64") for each in more]
    return method, found


def _weighted(network: Network, loss: Loss, x: Array, y: Array, relative: float | None) -> list[Difference]:
    """Return the differences of ∂L/∂z for random weights of the rows, at the network's outputs z."""
    backend, B = network.backend, np.shape(x)[-2]
    z = backend.to_host(network.forward(backend.asarray(x, network.compute_dtype), network.workspace(B)))
    outputs = Network(network.widths[-1], [], backend, network.dtype, members=network.members)
    weight = np.random.default_rng(0).uniform(0.5, 1.5, (B,)).astype(network.dtype)
    _, found = _against_oracle(outputs, loss, np.array(z, network.dtype), y, weight, relative)
    what = "the gradient at the output with weights of rows"
    return [replace(each, what=what) for each in found if each.what == f"the {GRADIENT}x"]


def agree(found: Iterable[Difference]) -> bool:
    """Return whether all tensors are within their bounds."""
    return all(each.excess <= 1 for each in found)


def tolerance_for(kind: str, network: Network, x: Array) -> float:
    """Return tolerance(kind) for the widths, rows and matrices of a network."""
    weights = sum(len(slot.shape) > 1 for slot in network.params.slots)
    return tolerance(kind, network.compute_dtype, max(*network.widths, np.shape(x)[-2]), max(1, weights))
