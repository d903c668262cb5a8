"""Find what waits for the device within a step, such as by `float()` of or `if` on its values.

On a GPU the step then stops for each value, and no CUDA graph can hold it. The strict device counts
synchronizations; no other backend does.
"""

from typing import Any

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.nn.losses.loss import Loss
from ffnn_gpu.nn.network import Network
from ffnn_gpu.optim.optimizers import Optimizer


class Counted:
    """Calls a layer, loss or optimizer and counts how often the strict device `xp` was waited for."""

    def __init__(self, part: Any, what: str, xp: Any) -> None:
        self.part, self.what, self.xp = part, what, xp
        self.waits: dict[str, int] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self.part, name)

    def _counting(self, place: str, function: Any, *args: Any, **named: Any) -> Any:
        before = self.xp.synchronizations
        result = function(*args, **named)
        self.waits[place] = self.xp.synchronizations - before
        return result

    def forward(self, *args: Any) -> Array:
        return self._counting("forward", self.part.forward, *args)

    def backward(self, *args: Any) -> Array:
        return self._counting("backward", self.part.backward, *args)

    def __call__(self, *args: Any, **named: Any) -> Any:
        return self._counting("its call", self.part, *args, **named)

    def step(self, *args: Any) -> None:
        self._counting("its step", self.part.step, *args)

    def sentences(self) -> list[str]:
        """Return what waits, and how often in one pass."""
        return [f"{self.what}: {place} reads {n} of its values" for place, n in self.waits.items() if n]


def counted(network: Network, loss: Loss) -> tuple[Network, Any, list[Counted]]:
    """Return the network and the loss, counted if the network's device is strict, and what counts."""
    xp = network.backend.xp
    if not hasattr(xp, "synchronizations"):
        return network, loss, []
    twin = network.computed_by(network.backend)
    layers = [Counted(layer, f"layer {k}, {layer!r}", xp) for k, layer in enumerate(network.layers)]
    twin.layers = tuple(layers)  # type: ignore[arg-type]
    of_loss = Counted(loss, f"the loss {loss!r}", xp)
    return twin, of_loss, [*layers, of_loss]


def waits_of_step(network: Network, optimizer: Optimizer) -> list[str]:
    """Take one more step, after one that made its constants, and return whether it waits for a strict device.

    Other devices do not count, and take no step.
    """
    xp = network.backend.xp
    if not hasattr(xp, "synchronizations"):
        return []
    of_rule = Counted(optimizer, f"the optimizer {optimizer!r}", xp)
    of_rule.step(network.params)
    return of_rule.sentences()
