"""Dropout."""

from dataclasses import dataclass
from typing import Any

from ffnn_gpu.backends import Array, Backend
from ffnn_gpu.checks import is_number
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.parameters import Shapes, Views
from ffnn_gpu.nn.schedules import Schedule, get_schedule
from ffnn_gpu.nn.workspace import Buffers


@dataclass(frozen=True, repr=False)
class Dropout(Layer):
    """a = x ⊙ m in training, where m = 0 with probability `rate`, else 1/(1 − rate); a = x in inference.

    The mask is a function of (seed, number of updates of θ, layer, row, column), with the same bits on every
    backend. Two forward passes without an update between them use the same mask.

    Args:
        rate: of the elements that become 0.
        schedule: a factor on the rate, between 0 and 1, that follows the training run: an object of
            ffnn_gpu.schedules or its name, such as "flat_cos"; None for 1.

    Reference: Srivastava et al.: JMLR 15 (2014), section 4, with the scaling moved to training.
    """

    rate: float
    schedule: Schedule | str | None = None

    def __post_init__(self) -> None:
        if not is_number(self.rate) or not 0 <= self.rate < 1:
            raise ConfigurationError(f"the rate of Dropout must be at least 0 and below 1, not {self.rate!r}")
        if self.schedule is not None:
            object.__setattr__(self, "schedule", get_schedule(self.schedule))

    @property
    def schedules(self) -> tuple[Any, ...]:
        return () if self.schedule is None else (self.schedule,)

    def buffer_shapes(self, B: int, I: int) -> Shapes:
        return {"a": (B, I), "mask": (B, I)}

    def forward(self, backend: Backend, p: Views, x: Array, buf: Buffers) -> Array:
        if buf.mask is None:
            return x
        return backend.dropout_forward(x, buf.mask, buf.a, *self._of_mask(buf))  # a = x ⊙ m

    def backward(self, backend: Backend, p: Views, da: Array, buf: Buffers) -> Array | None:
        return backend.dropout_backward(da, buf.mask, *self._of_mask(buf))  # dx = da ⊙ m

    def _of_mask(self, buf: Buffers) -> tuple[Any, ...]:
        """Return what determines the mask."""
        stream = buf.stream
        factor = None if self.schedule is None else stream.factor(self.schedule)
        return stream.rate(self.rate), stream.seed, stream.step, buf.number, stream.row, factor
