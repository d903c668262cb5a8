"""The network of a fitted estimator: its initial weights, the arrays it shows, and its pickle.

`coefs_` and `intercepts_` are views of θ where NumPy computes in θ's type. So they change with training and
may be changed by the caller, as in scikit-learn. Elsewhere they are read-only copies. In both cases an array
that the caller puts into the lists replaces the parameter at the next use.
"""

import logging
import math
from collections.abc import Iterable
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.backends import Backend, get_backend
from ffnn_gpu.backends.choice import NumpyBackend
from ffnn_gpu.errors import BackendUnavailableError, ConfigurationError, ShapeError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers import Dense
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.parameters import Slot
from ffnn_gpu.optim.optimizers import Optimizer, OptimizerState

log = logging.getLogger("ffnn_gpu")


def draw_weights(network: Network, random: np.random.RandomState) -> None:
    """Draw W and b of the dense layers from U[−r, r), r = √(6/(I + O)), or √(2/(I + O)) before a sigmoid.

    scikit-learn draws the same numbers in the same order. The last layer takes the rule of the one before.

    Reference: Glorot, Bengio (2010), eq. 16.
    """
    arrays, factor = network.params.to_host(), 6.0
    pairs = [*zip(*dense_slots(network), _dense(network.layers), strict=True)]
    for k, (of_W, of_b, layer) in enumerate(pairs):
        if k + 1 < len(pairs):
            factor = 2.0 if layer.phi.name == "sigmoid" else 6.0
        bound = math.sqrt(factor / sum(of_W.shape))
        for slot in (of_W, of_b):
            drawn = random.uniform(-bound, bound, slot.shape)
            arrays[slot.name] = drawn.astype(network.dtype)
    network.params.assign(arrays)


def dense_slots(network: Network) -> tuple[list[Slot], list[Slot]]:
    """Return the places of W and of b of the dense layers, in the order of the layers."""
    slots = {slot.name: slot for slot in network.params.slots}
    names = [name.removesuffix("b") for name in slots if name.endswith(".b")]
    return [slots[name + "W"] for name in names], [slots[name + "b"] for name in names]


class Trained:
    """A network, the optimizer whose moments its parameters hold, and the arrays shown for it.

    Attributes:
        network: of the estimator.
        optimizer: of the last training run; None before it, and for L-BFGS.
    """

    def __init__(self, network: Network, optimizer: Optimizer | None = None) -> None:
        self.network, self.optimizer = network, optimizer
        self._shown: list[list[HostArray]] = []

    @property
    def is_live(self) -> bool:
        """True if the shown arrays are views of θ."""
        params = self.network.params
        return params.shadow is None and isinstance(params.theta, np.ndarray)

    def show(self) -> tuple[list[HostArray], list[HostArray]]:
        """Return `coefs_` and `intercepts_` for the parameters as they are now."""
        params, shown = self.network.params, []
        for slots in dense_slots(self.network):
            arrays = [slot.view(params.theta) for slot in slots]
            if not self.is_live:
                arrays = [np.array(params.backend.to_host(array), order="C") for array in arrays]
                for array in arrays:
                    array.flags.writeable = False
            shown.append(arrays)
        self._shown = [[*arrays] for arrays in shown]
        return shown[0], shown[1]

    def take(self, coefs: list[Any], intercepts: list[Any]) -> None:
        """Overwrite the parameters whose shown array the caller has replaced. Raises ShapeError."""
        params = self.network.params
        changed = False
        for slots, given, shown in zip(
            dense_slots(self.network), (coefs, intercepts), self._shown or ([], []), strict=True
        ):
            if len(given) != len(slots):
                raise ShapeError(f"{len(given)} arrays are given for {len(slots)} layers of the network")
            for k, (slot, array) in enumerate(zip(slots, given, strict=True)):
                if k < len(shown) and array is shown[k]:
                    continue
                array = np.asarray(array, self.network.dtype)
                if array.shape != slot.shape:
                    raise ShapeError(
                        f"layer {k} has parameters {slot.shape}; an array {array.shape} is given"
                    )
                params.backend.copy(params.backend.asarray(array), out=slot.view(params.theta))
                changed = True
        if changed:
            params.refresh()

    def is_shown(self, coefs: list[Any], intercepts: list[Any]) -> bool:
        """Return whether these are the arrays of `show`, none of them replaced."""
        given = [*coefs, *intercepts]
        shown = [array for arrays in self._shown for array in arrays]
        return len(given) == len(shown) and all(a is b for a, b in zip(given, shown, strict=True))

    def continue_with(self, optimizer: Optimizer) -> None:
        """Give an optimizer the moments of the last training run, if it computes the same ones."""
        states, before = self.network.params.optimizer_states, self.optimizer
        if before is not None and before is not optimizer:
            state = states.pop(before, None)
            if state is not None and type(before) is type(optimizer):
                states[optimizer] = state
        self.optimizer = optimizer

    def forget_moments(self) -> None:
        """Start the next training run with new moments."""
        self.network.params.optimizer_states.clear()
        self.optimizer = None

    def __getstate__(self) -> dict[str, Any]:
        """Return host arrays and plain values: what is opened on a machine without a GPU."""
        network, state = self.network, None
        backend = network.backend
        if self.optimizer is not None:
            state = network.params.optimizer_states.get(self.optimizer)
        moments = state and {name: np.array(backend.to_host(v)) for name, v in vars(state).items()}
        return {
            "n_in": network.n_in, "layers": network.layers, "device": backend.name,
            "small": type(backend) is NumpyBackend, "dtype": network.compute_dtype.name,
            "seed": network.seed, "arrays": network.params.to_host(),
            "step": int(backend.to_host(network.params.step)[0]),
            "optimizer": self.optimizer, "moments": moments,
        }  # fmt: skip

    def __setstate__(self, saved: dict[str, Any]) -> None:
        backend = NumpyBackend() if saved["small"] else usable(saved["device"])
        network = Network(saved["n_in"], saved["layers"], backend, saved["dtype"], saved["seed"])
        network.params.assign(saved["arrays"])
        backend.write(network.params.step, 0, saved["step"])
        self.__init__(network, saved["optimizer"])  # type: ignore[misc]
        if self.optimizer is not None and saved["moments"] is not None:
            state: OptimizerState = self.optimizer.state(network.params)
            for name, values in saved["moments"].items():
                backend.copy(backend.asarray(values), out=getattr(state, name))


def usable(device: str) -> Backend:
    """Return the backend on which a network was trained, or the CPU's if this machine has no such device."""
    try:
        return get_backend(device)
    except (BackendUnavailableError, ConfigurationError) as error:  # or a backend of the caller's own
        log.info("a network trained on %s computes on the CPU: %s", device, error)
        return get_backend("cpu")


def _dense(layers: Iterable[Layer]) -> Iterable[Dense]:
    for layer in layers:
        if isinstance(layer, Dense):
            yield layer
        yield from _dense(getattr(layer, "layers", ()))
