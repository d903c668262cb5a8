"""Lower the learning rate of a run that no longer improves."""

from dataclasses import dataclass

from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.training.callbacks.callback import Run
from ffnn_gpu.training.callbacks.monitor import Monitor


@dataclass
class ReduceOnPlateau(Monitor):
    """lr ← factor · lr at the (`patience` + 1)-th epoch in a row without a better value of `monitor`.

    PyTorch's scheduler acts then too; Keras's and `EarlyStopping` act at the `patience`-th such epoch.

    Args:
        cooldown: epochs to wait after a reduction before counting again.
        factor_floor: the product of all factors does not fall below it.
    """

    stored = "best", "waited", "cooling"

    factor: float = 0.1
    patience: int = 10
    monitor: str | None = None
    min_delta: float = 0.0
    cooldown: int = 0
    factor_floor: float = 0.0
    mode: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.factor < 1 or self.patience < 0:
            raise ConfigurationError(f"ReduceOnPlateau needs 0 < factor < 1 and patience >= 0, not {self}")

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        self.waited = 0 if self.improves(row) else self.waited + 1
        if self.cooling:
            self.cooling, self.waited = self.cooling - 1, 0
        if self.waited > self.patience:
            run.lr_factor = max(run.lr_factor * self.factor, self.factor_floor)
            self.cooling, self.waited = self.cooldown, 0
