"""Keep the parameters of the best epoch of each member of a pack."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checks import require_positive_int
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.training.callbacks.callback import Run
from ffnn_gpu.training.callbacks.monitor import Monitor

OF_THE_PACK = ("loss", "lr", "seconds", "samples_per_second")  # columns without a value for each member


@dataclass
class BestMembers(Monitor):
    """Restore the parameters of each member's own best epoch on every exit.

    A member is finished after `patience` epochs without a better value: its best epoch does not change any
    more. The run stops when all members are finished. So each member ends as a plain network does with
    `early_stopping=patience`. None for no end before the last epoch. A member without a finite value ends
    with the parameters of the epoch after which it is finished.
    """

    patience: int | None = None
    monitor: str | None = None
    mode: str | None = None

    def __post_init__(self) -> None:
        if self.patience is not None:
            require_positive_int("the patience of BestMembers", self.patience)

    def start(self, run: Run) -> None:
        super().start(run)
        if run.network.members is None:
            raise ConfigurationError("BestMembers needs a pack; use BestWeights for one network")
        if self.column in OF_THE_PACK:
            raise ConfigurationError(
                f"BestMembers monitors {self.column!r}, which is one number for the whole pack; give "
                "validation rows or metrics"
            )
        R = len(run.network.members)
        self.values, self.epochs_waited = np.full(R, np.nan), np.zeros(R, np.int64)
        self.kept: dict[str, HostArray] = {}

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        values = run.history.members[-1][self.column]
        is_first, gain = np.isnan(self.values), self.sign * (values - self.values)
        better = np.isfinite(values) & (is_first | (gain > self.min_delta)) & ~self.finished
        kept = better | (is_first & ~self.finished)
        if kept.any():
            with run.averaged():
                now = run.network.params.to_host()
            for name, array in now.items():
                self.kept.setdefault(name, array)[kept] = array[kept]
        self.values = np.where(better, values, self.values)
        self.epochs_waited = np.where(better, 0, self.epochs_waited + 1)
        run.stop = run.stop or bool(self.finished.all())

    @property
    def finished(self) -> HostArray:
        """Return whether each member has waited for `patience` epochs."""
        return self.epochs_waited >= (np.inf if self.patience is None else self.patience)

    def finish(self, run: Run) -> None:
        if self.kept:
            run.network.params.assign(self.kept)

    def state(self) -> dict[str, Any]:
        return {"members": len(self.values)}

    def arrays(self) -> dict[str, HostArray]:
        return self.kept | {"values": self.values, "epochs_waited": self.epochs_waited}

    def restore(self, state: dict[str, Any], arrays: dict[str, HostArray]) -> None:
        self.kept = dict(arrays)
        self.values, self.epochs_waited = self.kept.pop("values"), self.kept.pop("epochs_waited")
