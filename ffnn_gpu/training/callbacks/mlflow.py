"""The history of a run for MLflow.

Why a database file and not the folder `mlruns`: MLflow 3.17 refuses its own file store, which is no longer
maintained, unless an environment variable allows it. Both need no server.
"""

import re
import time
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.training.callbacks.callback import Callback, Run

LONGEST = 500  # letters of a parameter; MLflow shortens longer ones


@dataclass
class MLflow(Callback):
    """Write the settings and each column of the history as a run of MLflow.

        fit(…, callbacks=[MLflow("mlflow.db")])        mlflow ui --backend-store-uri sqlite:///mlflow.db

    A resumed run of this package continues the run of MLflow, or begins another if that was deleted.

    Args:
        store: a database file, which is made if it is missing, or the address of another store, such as
            `"http://localhost:5000"`.
        experiment: the experiment of MLflow, which is made if it is missing.
        name: of the run; None for a name that MLflow makes up.

    Raises:
        ConfigurationError: when the run starts, if MLflow is not installed.
    """

    first_rank_only = True

    store: str | Path
    experiment: str = "ffnn_gpu"
    name: str | None = None

    def start(self, run: Run) -> None:
        self.run_id: str | None = None
        self._client = self._connected()

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        if self.run_id is None:  # after a checkpoint may have restored it
            self.run_id = self._begun(run)
        from mlflow.entities import Metric

        now = int(time.time() * 1000)
        columns = {_allowed(name): float(value) for name, value in row.items() if name != "epoch"}
        points = [Metric(name, value, now, run.epoch) for name, value in columns.items()]
        self._client.log_batch(self.run_id, metrics=points)

    def finish(self, run: Run) -> None:
        if self.run_id is None:
            return
        done = run.stop or run.epoch >= run.epochs
        status = "KILLED" if run.team.signal else "FINISHED" if done else "FAILED"
        self._client.set_terminated(self.run_id, status)

    def state(self) -> dict[str, Any]:
        return {"run_id": self.run_id}

    def restore(self, state: dict[str, Any], arrays: dict[str, HostArray]) -> None:
        self.run_id = state["run_id"] if self._has(state["run_id"]) else None
        if self.run_id is not None:
            self._client.update_run(self.run_id, "RUNNING")

    def _has(self, run_id: str | None) -> bool:
        """Return whether the store has this run; it may be another one now, or the run was deleted."""
        from mlflow.exceptions import MlflowException

        try:
            return run_id is not None and self._client.get_run(run_id).info.lifecycle_stage == "active"
        except MlflowException:
            return False

    def _connected(self) -> Any:
        store = str(self.store)
        if "://" not in store:
            Path(store).absolute().parent.mkdir(parents=True, exist_ok=True)
            store = f"sqlite:///{Path(store).absolute()}"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of MLflow about its own dependencies
            try:
                from mlflow.tracking import MlflowClient

                return MlflowClient(tracking_uri=store)
            except ImportError as error:
                raise ConfigurationError(
                    f'MLflow needs its package: pip install "ffnn_gpu[mlflow]" ({error})'
                ) from error

    def _begun(self, run: Run) -> str:
        """Begin a run of MLflow with the settings of this run; return its id."""
        from mlflow.entities import Param

        found = self._client.get_experiment_by_name(self.experiment)
        experiment = self._client.create_experiment(self.experiment) if found is None else found.experiment_id
        begun = self._client.create_run(experiment, run_name=self.name)
        settings = {
            "network": run.network, "loss": run.loss, "optimizer": run.optimizer, "epochs": run.epochs,
            "batch_size": run.data.order.batch_size, "seed": run.data.order.seed,
            "device": run.network.backend.name, "rows": run.data.rows,
        }  # fmt: skip
        values = [Param(name, str(value)[:LONGEST]) for name, value in settings.items()]
        run_id: str = begun.info.run_id
        self._client.log_batch(run_id, params=values)
        return run_id


def _allowed(name: str) -> str:
    """Return a name with the letters that MLflow allows."""
    return re.sub(r"[^\w\-. /]", "_", name)
