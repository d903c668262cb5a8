"""Stop a run that no longer improves."""

from dataclasses import dataclass

from ffnn_gpu.checks import require_positive_int
from ffnn_gpu.training.callbacks.callback import Run
from ffnn_gpu.training.callbacks.monitor import Monitor


@dataclass
class EarlyStopping(Monitor):
    """Stop at the `patience`-th epoch in a row without a better value of `monitor`, as Keras does.

    NaN and infinity are never better.
    """

    stored = "best", "waited"

    patience: int = 10
    monitor: str | None = None
    min_delta: float = 0.0
    mode: str | None = None

    def __post_init__(self) -> None:
        require_positive_int("the patience of EarlyStopping", self.patience)

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        self.waited = 0 if self.improves(row) else self.waited + 1
        run.stop = run.stop or self.waited >= self.patience
