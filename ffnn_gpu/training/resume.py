"""A training run ↔ a checkpoint: N steps equal k steps, a new process and N − k steps, bit for bit on a CPU.

The state is collected from the parts of the run: counters and sums from the run, vectors of the optimizer
from the team, and the state of each callback. Nothing random is stored: the order of an epoch and the bits of
dropout are functions of integers.
"""

import math
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checkpoints import checkpoint
from ffnn_gpu.checkpoints.architecture import kinds
from ffnn_gpu.checks import is_whole
from ffnn_gpu.errors import IncompatibleCheckpointError
from ffnn_gpu.evaluation.evaluate import metric_name
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.parameters import Parameters
from ffnn_gpu.nn.rates import Rate
from ffnn_gpu.training.callbacks import Callback, Run, decisions, require_restorable
from ffnn_gpu.training.data_fingerprint import LATER, agree

COUNTERS = ("epoch", "position", "lr_factor", "stop", "lr", "loss_sum", "weight_sum")  # attributes of Run

GROUPS = "groups of θ (start, stop, n_decayed, factors of learning rate and decay)"


@dataclass
class Saved:
    """The JSON values of a run in a checkpoint. `plan` is what `trajectory` returns."""

    plan: dict[str, Any]
    epoch: int
    position: int
    lr_factor: float
    stop: bool
    lr: float
    loss_sum: float
    weight_sum: float
    history: list[dict[str, Any]]
    callbacks: list[dict[str, Any]]
    members: list[dict[str, Any]] = field(default_factory=list)  # of a pack


class Snapshot(NamedTuple):
    """The whole state of a run. `callbacks` holds the values and arrays of each callback that has a state."""

    numbers: Mapping[str, HostArray]
    updates: int
    saved: Saved
    optimizer: Mapping[str, HostArray]
    callbacks: list[tuple[dict[str, Any], dict[str, HostArray]]]


def save_run(run: Run, path: Path, extras: Mapping[str, Any]) -> None:
    """Write the whole state of the run. All ranks gather it, rank 0 writes."""
    callbacks = resumable(run)
    training = vars(_saved(run, callbacks))
    if run.network.members is None:
        del training["members"]
    state = {"training": training, "extras": dict(extras)}
    arrays = {f"optimizer.{name}": vector for name, vector in run.team.optimizer_state().items()}
    for k, callback in enumerate(callbacks):
        arrays |= {f"callback.{k}.{name}": value for name, value in callback.arrays().items()}
    run.team.on_rank_zero(lambda: checkpoint.write(run.network, path, state, arrays))


def restore_run(run: Run, path: Path) -> None:
    """Restore the whole state of the run, or leave it unchanged if anything raises.

    Raises IncompatibleCheckpointError, naming the first difference in network, data set or trajectory.
    """
    network, state, arrays = checkpoint.read(path, "numpy", kinds(run.network.layers))
    saved, callbacks = _checked(run, path, network, state), resumable(run)
    elsewhere = {type(callback).__name__ for callback in run.elsewhere}
    states = [
        (values, _named(arrays, f"callback.{k}."))
        for k, values in enumerate(saved.callbacks)
        if values.get("callback") not in elsewhere
    ]
    optimizer = _named(arrays, "optimizer.")
    run.team.require_optimizer_state(optimizer, path)
    require_restorable(callbacks, [values for values, _ in states])
    before = _snapshot(run, callbacks)
    numbers, updates = network.params.to_host(), int(network.params.step[0])
    try:
        _restore(run, callbacks, Snapshot(numbers, updates, saved, optimizer, states), nullcontext())
    except BaseException:
        _restore(run, callbacks, before, suppress(Exception))
        raise


def finished_epochs(path: Path) -> int:
    """Return the number of finished epochs of the training run in a checkpoint. Raises CheckpointError."""
    saved = checkpoint.read_state(path).get("training", {}).get("epoch", 0)
    return saved if is_whole(saved) else 0


def trajectory(run: Run) -> dict[str, Any]:
    """Return everything that must be equal for a run to continue exactly; the number of epochs may grow."""
    return {
        "rows": run.data.rows,
        **asdict(run.data.order),
        "accumulate": run.accumulate,
        # Older checkpoints have no such setting.
        "optimizer": repr(run.optimizer).replace(", decay_schedule=None", ""),
        "loss": repr(run.loss),
        "schedule": repr(run.schedule),
        **_groups(run.network.params),
        **run.fingerprints,
    }


def settings(run: Run) -> dict[str, Any]:
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


def resumable(run: Run) -> list[Callback]:
    """Return the callbacks that have a state."""
    return [callback for callback in run.callbacks if callback.state()]


def _saved(run: Run, callbacks: list[Callback]) -> Saved:
    counters = {name: getattr(run, name) for name in COUNTERS} | {"stop": bool(run.stop)}
    states = [{"callback": type(callback).__name__, **callback.state()} for callback in callbacks]
    members = [{name: values.tolist() for name, values in row.items()} for row in run.history.members]
    rows = [*run.history.rows]
    return Saved(plan=trajectory(run), history=rows, callbacks=states, members=members, **counters)


def _snapshot(run: Run, callbacks: list[Callback]) -> Snapshot:
    """Copy the whole state of the run."""
    params, saved = run.network.params, _saved(run, callbacks)
    updates, optimizer = int(params.backend.to_host(params.step)[0]), _copied(run.team.optimizer_state())
    arrays = [_copied(callback.arrays()) for callback in callbacks]
    return Snapshot(params.to_host(), updates, saved, optimizer, [*zip(saved.callbacks, arrays, strict=True)])


def _restore(
    run: Run, callbacks: list[Callback], snapshot: Snapshot, guard: AbstractContextManager[Any]
) -> None:
    """Overwrite the state of the run; enter `guard` around each callback's."""
    params = run.network.params
    params.assign(snapshot.numbers)
    params.backend.write(params.step, 0, snapshot.updates)
    run.team.restore_optimizer(snapshot.optimizer)
    for name in COUNTERS:
        setattr(run, name, getattr(snapshot.saved, name))
    run.history.rows[:] = [_numbers(row) for row in snapshot.saved.history]
    run.history.members[:] = [
        {name: np.array(values, np.float64) for name, values in row.items()} for row in snapshot.saved.members
    ]
    for callback, (values, arrays) in zip(callbacks, snapshot.callbacks, strict=True):
        with guard:
            callback.restore(values, arrays)


def _numbers(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of an epoch with NaN for null."""
    return {name: math.nan if value is None else value for name, value in row.items()}


def _copied(arrays: Mapping[str, HostArray]) -> dict[str, HostArray]:
    return {name: np.array(array) for name, array in arrays.items()}


def _named(arrays: Mapping[str, HostArray], prefix: str) -> dict[str, HostArray]:
    """Return the arrays whose names begin with the prefix, without it."""
    return {name.removeprefix(prefix): a for name, a in arrays.items() if name.startswith(prefix)}


def _checked(run: Run, path: Path, network: Network, state: Mapping[str, Any]) -> Saved:
    """Return the values of a checkpoint. Raises IncompatibleCheckpointError if the run cannot continue it."""
    import msgspec  # takes 10 ms

    if "training" not in state:
        raise IncompatibleCheckpointError(
            f"{path} holds a network without a training run; there is nothing to resume"
        )
    try:
        saved = msgspec.convert(state["training"], Saved)
        if min(saved.epoch, saved.position) < 0:
            raise msgspec.ValidationError("a count is negative")
    except msgspec.ValidationError as error:
        raise IncompatibleCheckpointError(
            f"{path} holds no training run that can be resumed: {error}"
        ) from error
    # Older checkpoints write the whole training run as 1.0.
    durations = r"\b(every|rise|warmup)=1\.0\b"
    schedule = re.sub(durations, r"\1='whole'", str(saved.plan.get("schedule")))
    found = saved.plan | {"schedule": schedule} | _architecture(network)
    wanted = _architecture(run.network) | {GROUPS: None} | trajectory(run)
    for name, value in wanted.items():
        if (name in LATER and name not in found) or agree(name, found.get(name), value):
            continue
        difference = f"{name} {found.get(name)}; this run has {value}"
        if name in run.fingerprints:
            difference = f"other {name.partition(' (')[0]}; resume with the data of the checkpoint"
        raise IncompatibleCheckpointError(f"{path} was written with {difference}")
    if saved.epoch > run.epochs:
        raise IncompatibleCheckpointError(
            f"{path} has {saved.epoch} finished epochs; epochs={run.epochs} must not be fewer"
        )
    position, steps = saved.position, run.data.steps
    if position > steps:
        raise IncompatibleCheckpointError(f"{path} is at minibatch {position} of an epoch of {steps}")
    return saved


def _groups(params: Parameters) -> dict[str, str]:
    """Return the groups of θ, which order the optimizer's vectors, if a layer declares factors."""
    declared = any(params.rates[slot.name][:2] != Rate().of(slot.shape)[:2] for slot in params.slots)
    return {GROUPS: repr([tuple(group)[:5] for group in params.groups])} if declared else {}


def _architecture(network: Network) -> dict[str, Any]:
    settings = {"n_in": network.n_in, "network": network.layers, "dtype": network.compute_dtype.name}
    return settings | {"members": network.members}
