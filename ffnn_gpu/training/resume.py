"""A training run ↔ a checkpoint: N steps equal k steps, a new process and N − k steps, bit for bit on a CPU.

The state is collected from the parts of the run: counters and sums from the run, vectors of the optimizer
from the team, and the state of each callback. Nothing random is stored: the order of an epoch and the bits of
dropout are functions of integers.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Protocol

import msgspec
import numpy as np
from msgspec import Meta, structs

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checkpoints import checkpoint
from ffnn_gpu.checkpoints.architecture import kinds
from ffnn_gpu.errors import IncompatibleCheckpointError
from ffnn_gpu.evaluation.evaluate import metric_name
from ffnn_gpu.nn.network import Network
from ffnn_gpu.optim.schedules import Schedule
from ffnn_gpu.training.callbacks import Callback, Run, decisions, require_restorable
from ffnn_gpu.training.data_fingerprint import LATER, agree

Count = Annotated[int, Meta(ge=0)]


class ResumableRun(Run, Protocol):
    """A training run with all that a checkpoint stores or compares.

    Attributes:
        callbacks, elsewhere: the callbacks of this rank, and those that only rank 0 has.
    """

    callbacks: list[Callback]
    elsewhere: list[Callback]
    metrics: Sequence[Any]
    schedule: Schedule
    accumulate: int
    seed: int

    @property
    def fingerprints(self) -> dict[str, Any]:
        """Checksums of the data."""

    def steps_at_once(self) -> int:
        """The number of updates in one launch."""

    def state(self) -> dict[str, Any]:
        """Counters, sums and the history, as JSON values."""

    def restore(self, state: Mapping[str, Any]) -> None:
        """Overwrite them."""


class Saved(msgspec.Struct):
    """The JSON values of a run in a checkpoint. `plan` is what `trajectory` returns."""

    plan: dict[str, Any]
    epoch: Count
    position: Count
    lr_factor: float
    stop: bool
    lr: float
    loss_sum: float
    weight_sum: float
    history: list[dict[str, Any]]
    callbacks: list[dict[str, Any]]


class Snapshot(NamedTuple):
    """The whole state of a run: θ and statistics, the count of updates, JSON values, other arrays."""

    numbers: Mapping[str, HostArray]
    updates: int
    saved: Saved
    arrays: Mapping[str, HostArray]


def save_run(run: ResumableRun, path: Path, extras: Mapping[str, Any]) -> None:
    """Write the whole state of the run. All ranks gather it, rank 0 writes."""
    saved, arrays = _collected(run, resumable(run))
    state = {"training": structs.asdict(saved), "extras": dict(extras)}
    run.team.on_rank_zero(lambda: checkpoint.write(run.network, path, state, arrays))


def save_network(run: Run, path: Path, extras: Mapping[str, Any]) -> None:
    """Write the network alone."""
    run.team.on_rank_zero(lambda: checkpoint.save(run.network, path, extras=extras))


def restore_run(run: ResumableRun, path: Path) -> None:
    """Restore the whole state of the run, or leave it unchanged if anything raises.

    Raises:
        IncompatibleCheckpointError: the checkpoint belongs to another network, data set or trajectory. The
            message names the first difference.
    """
    network, state, arrays = checkpoint.read(path, "numpy", kinds(run.network.layers))
    saved, arrays = _of_this_rank(run, _saved(run, path, network, state), arrays)
    callbacks = resumable(run)
    run.team.require_optimizer_state(_named(arrays, "optimizer."), path)
    require_restorable(callbacks, saved.callbacks)
    before = _snapshot(run, callbacks)
    try:
        _restore(run, Snapshot(network.params.to_host(), int(network.params.step[0]), saved, arrays))
        for callback, values, own in _states(callbacks, saved, arrays):
            callback.restore(values, own)
    except BaseException:
        _restore(run, before)
        for callback, values, own in _states(callbacks, before.saved, before.arrays):
            with suppress(Exception):
                callback.restore(values, own)
        raise


def trajectory(run: ResumableRun) -> dict[str, Any]:
    """Return everything that must be equal for a run to continue exactly; the number of epochs may grow."""
    order = run.data.order
    return {
        "rows": run.data.rows,
        "batch_size": order.batch_size,
        "shuffle": order.shuffle,
        "drop_last": order.drop_last,
        "seed": run.seed,
        "accumulate": run.accumulate,
        "optimizer": repr(run.optimizer),
        "loss": repr(run.loss),
        "schedule": repr(run.schedule),
        **run.fingerprints,
    }


def settings(run: ResumableRun) -> dict[str, Any]:
    """Return everything that must be equal on every rank and does not change from step to step."""
    network, team = run.network, run.team
    if team.size == 1:
        return {}  # the fingerprints would read all data for nothing
    return {
        "the architecture": (network.n_in, network.layers),
        "the callbacks": decisions(run.callbacks),
        "dtype": network.compute_dtype.name,
        "the network's seed": network.seed,
        "epochs": run.epochs,
        "shard_optimizer": team.shard is not None,
        "batch_norm": team.data_parallel.batch_norm,
        "check_every": team.data_parallel.check_every,
        "steps per launch": run.steps_at_once(),
        "the metrics": [*map(metric_name, run.metrics)],
        **trajectory(run),
    }


def resumable(run: ResumableRun) -> list[Callback]:
    """Return the callbacks that have a state."""
    return [callback for callback in run.callbacks if callback.state()]


def _collected(run: ResumableRun, callbacks: list[Callback]) -> tuple[Saved, dict[str, HostArray]]:
    """Return the state of the run without θ, statistics and count of updates, which are the network's."""
    states = [{"callback": type(callback).__name__, **callback.state()} for callback in callbacks]
    saved = Saved(plan=trajectory(run), callbacks=states, **run.state())
    arrays = {f"optimizer.{name}": vector for name, vector in run.team.optimizer_state().items()}
    for k, callback in enumerate(callbacks):
        arrays |= {f"callback.{k}.{name}": value for name, value in callback.arrays().items()}
    return saved, arrays


def _snapshot(run: ResumableRun, callbacks: list[Callback]) -> Snapshot:
    """Copy the whole state of the run."""
    saved, arrays = _collected(run, callbacks)
    params = run.network.params
    updates = int(params.backend.to_host(params.step)[0])
    return Snapshot(
        params.to_host(), updates, saved, {name: np.array(array) for name, array in arrays.items()}
    )


def _restore(run: ResumableRun, snapshot: Snapshot) -> None:
    """Overwrite the state of everything but the callbacks."""
    params = run.network.params
    params.assign(snapshot.numbers)
    params.backend.write(params.step, 0, snapshot.updates)
    run.team.restore_optimizer(_named(snapshot.arrays, "optimizer."))
    run.restore(structs.asdict(snapshot.saved))


def _states(
    callbacks: list[Callback], saved: Saved, arrays: Mapping[str, HostArray]
) -> Iterator[tuple[Callback, dict[str, Any], dict[str, HostArray]]]:
    """Yield each callback with its values and its arrays."""
    for k, (callback, values) in enumerate(zip(callbacks, saved.callbacks, strict=True)):
        yield callback, values, _named(arrays, f"callback.{k}.")


def _named(arrays: Mapping[str, HostArray], prefix: str) -> dict[str, HostArray]:
    """Return the arrays whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _of_this_rank(
    run: ResumableRun, saved: Saved, arrays: dict[str, HostArray]
) -> tuple[Saved, dict[str, HostArray]]:
    """Drop the states of callbacks that only rank 0 has; number the others anew."""
    elsewhere = {type(callback).__name__ for callback in run.elsewhere}
    kept = [k for k, values in enumerate(saved.callbacks) if values.get("callback") not in elsewhere]
    mine = {name: array for name, array in arrays.items() if not name.startswith("callback.")}
    for place, k in enumerate(kept):
        mine |= {f"callback.{place}.{name}": a for name, a in _named(arrays, f"callback.{k}.").items()}
    return structs.replace(saved, callbacks=[saved.callbacks[k] for k in kept]), mine


def _saved(run: ResumableRun, path: Path, network: Network, state: Mapping[str, Any]) -> Saved:
    """Return the JSON values of a checkpoint.

    Raises IncompatibleCheckpointError unless this run can continue it.
    """
    if "training" not in state:
        raise IncompatibleCheckpointError(
            f"{path} holds a network without a training run; there is nothing to resume"
        )
    try:
        saved = msgspec.convert(state["training"], Saved)
    except msgspec.ValidationError as error:
        raise IncompatibleCheckpointError(
            f"{path} holds no training run that can be resumed: {error}"
        ) from error
    # Older checkpoints write the whole training as 1.0.
    durations = r"\b(every|rise|warmup)=1\.0\b"
    schedule = re.sub(durations, r"\1='whole'", str(saved.plan.get("schedule")))
    found = saved.plan | {"schedule": schedule} | _architecture(network)
    wanted = _architecture(run.network) | trajectory(run)
    for name, value in wanted.items():
        if name in LATER and name not in found:
            continue
        if agree(name, found.get(name), value):
            continue
        if name in run.fingerprints:
            what = name.partition(" (")[0]
            raise IncompatibleCheckpointError(
                f"{path} was written with other {what}; resume with the data of the checkpoint"
            )
        raise IncompatibleCheckpointError(
            f"{path} was written with {name} {found.get(name)}; this run has {value}"
        )
    if saved.position > run.data.steps:
        raise IncompatibleCheckpointError(
            f"{path} is at minibatch {saved.position} of an epoch of {run.data.steps}"
        )
    return saved


def _architecture(network: Network) -> dict[str, Any]:
    return {"n_in": network.n_in, "network": network.layers, "dtype": network.compute_dtype.name}
