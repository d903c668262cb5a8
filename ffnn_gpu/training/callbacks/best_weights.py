"""Keep the parameters of the best epoch."""

from dataclasses import dataclass
from typing import Any

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.training.callbacks.callback import Run
from ffnn_gpu.training.callbacks.monitor import Monitor


@dataclass
class BestWeights(Monitor):
    """Restore the parameters of the best epoch on every exit."""

    monitor: str | None = None
    mode: str | None = None

    def start(self, run: Run) -> None:
        super().start(run)
        self.kept: dict[str, HostArray] = {}

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        if self.improves(row):
            with run.averaged():
                self.kept = run.network.params.to_host()

    def finish(self, run: Run) -> None:
        if self.kept:
            run.network.params.assign(self.kept)

    def arrays(self) -> dict[str, HostArray]:
        return self.kept

    def restore(self, state: dict[str, Any], arrays: dict[str, HostArray]) -> None:
        super().restore(state, arrays)
        self.kept = dict(arrays)
