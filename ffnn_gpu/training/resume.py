"""A training under way ↔ a checkpoint: N steps equal k steps, a new process and N − k steps, bit for bit on a CPU.

Nothing random needs saving: the order of an epoch and the bits of dropout are functions of integers.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta, structs

from ffnn_gpu.checkpoints import checkpoint
from ffnn_gpu.checkpoints.architecture import kinds
from ffnn_gpu.errors import IncompatibleCheckpointError
from ffnn_gpu.evaluation.evaluate import metric_name
from ffnn_gpu.training.callbacks import decisions, require_restorable
from ffnn_gpu.training.data_fingerprint import LATER, agree

Count = Annotated[int, Meta(ge=0)]


class Saved(msgspec.Struct):
    """What a checkpoint remembers of a training besides its arrays."""

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


def save_run(run: Any, path: Path, extras: Mapping[str, Any]) -> None:
    """Write the run's network, optimizer state, counters, history and callbacks. All ranks gather, the first writes."""
    training, arrays = _remembered(run, resumable(run))
    state = {"training": structs.asdict(training), "extras": dict(extras)}
    run.team.alone(lambda: checkpoint.write(run.network, path, state, arrays))


def save_network(run: Any, path: Path, extras: Mapping[str, Any]) -> None:
    """Write the run's network alone."""
    run.team.alone(lambda: checkpoint.save(run.network, path, extras=extras))


def restore_run(run: Any, path: Path) -> None:
    """Put everything back; all or nothing, whatever a callback does.

    Raises:
        IncompatibleCheckpointError: it belongs to another network, data set or plan; names the first difference.
    """
    network, state, arrays = checkpoint.read(path, "numpy", kinds(run.network.layers))
    saved, arrays = _of_this_rank(run, _same_plan(run, path, network, state), arrays)
    callbacks = resumable(run)
    _require_vectors(run, path, arrays)
    require_restorable(callbacks, saved.callbacks)
    mine, my_arrays = _remembered(run, callbacks)
    before = run.network.params.to_host(), int(run.network.backend.to_host(run.network.params.step)[0])
    copies = {name: np.array(array) for name, array in my_arrays.items()}
    try:
        _put(run, network.params.to_host(), int(network.params.step[0]), saved, arrays)
        for callback, remembered, parts in _parts(callbacks, saved, arrays):
            callback.restore(remembered, parts)
    except BaseException:
        _put(run, *before, mine, copies)
        for callback, remembered, parts in _parts(callbacks, mine, copies):
            with suppress(Exception):
                callback.restore(remembered, parts)
        raise


def plan(run: Any) -> dict[str, Any]:
    """What must be equal for a trajectory to go on; the number of epochs may grow."""
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


def settings(run: Any) -> dict[str, Any]:
    """What must be equal on every rank, besides what changes from step to step."""
    network, team = run.network, run.team
    if team.size == 1:
        return {}  # reading all data for nobody takes a while
    return {
        "the architecture": (network.n_in, network.layers),
        "the callbacks": decisions(run.callbacks),
        "dtype": network.compute_dtype.name,
        "the network's seed": network.seed,
        "epochs": run.epochs,
        "shard_optimizer": team.shard is not None,
        "batch_norm": team.plan.batch_norm,
        "check_every": team.plan.check_every,
        "steps per launch": run.steps_at_once(),
        "the metrics": [*map(metric_name, run.metrics)],
        **plan(run),
    }


def resumable(run: Any) -> list[Any]:
    """The callbacks that remember something."""
    return [callback for callback in run.callbacks if callback.state()]


def _remembered(run: Any, callbacks: list[Any]) -> tuple[Saved, dict[str, np.ndarray]]:
    """Counters and states, and arrays by name, as they are now; θ and the count of updates are the network's own."""
    states = [{"callback": type(callback).__name__, **callback.state()} for callback in callbacks]
    saved = Saved(
        plan=plan(run),
        epoch=run.epoch,
        position=run.position,
        lr_factor=run.lr_factor,
        stop=bool(run.stop),
        lr=run.lr,
        loss_sum=run.meter.total,
        weight_sum=run.meter.weight,
        history=[*run.history.rows],
        callbacks=states,
    )
    arrays = {f"optimizer.{name}": run.team.gathered(name, vector) for name, vector in _vectors(run).items()}
    for k, callback in enumerate(callbacks):
        arrays |= {f"callback.{k}.{name}": value for name, value in callback.arrays().items()}
    return saved, arrays


def _put(
    run: Any, numbers: Mapping[str, np.ndarray], updates: int, saved: Saved, arrays: Mapping[str, np.ndarray]
) -> None:
    """Make everything but the callbacks as it was."""
    backend, params = run.network.backend, run.network.params
    params.assign(numbers)
    backend.write(params.step, 0, updates)
    for name, vector in _vectors(run).items():
        backend.copy(backend.asarray(run.team.own(name, arrays[f"optimizer.{name}"])), out=vector)
    run.epoch, run.position, run.lr_factor, run.stop = (
        saved.epoch,
        saved.position,
        saved.lr_factor,
        saved.stop,
    )
    run.lr, run.meter.total, run.meter.weight = saved.lr, saved.loss_sum, saved.weight_sum
    run.history.rows[:] = saved.history


def _parts(
    callbacks: list[Any], saved: Saved, arrays: Mapping[str, np.ndarray]
) -> Iterator[tuple[Any, dict[str, Any], dict[str, np.ndarray]]]:
    """Each callback with its state and its arrays."""
    for k, (callback, remembered) in enumerate(zip(callbacks, saved.callbacks, strict=True)):
        prefix = f"callback.{k}."
        yield (
            callback,
            remembered,
            {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)},
        )


def _of_this_rank(
    run: Any, saved: Saved, arrays: dict[str, np.ndarray]
) -> tuple[Saved, dict[str, np.ndarray]]:
    """Without what callbacks remember that only the first rank has; the others are numbered anew."""
    elsewhere = {type(callback).__name__ for callback in run.elsewhere}
    kept = [k for k, remembered in enumerate(saved.callbacks) if remembered.get("callback") not in elsewhere]
    mine = {name: array for name, array in arrays.items() if not name.startswith("callback.")}
    for place, k in enumerate(kept):
        prefix = f"callback.{k}."
        mine |= {
            f"callback.{place}.{n.removeprefix(prefix)}": a for n, a in arrays.items() if n.startswith(prefix)
        }
    return structs.replace(saved, callbacks=[saved.callbacks[k] for k in kept]), mine


def _require_vectors(run: Any, path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    for name, vector in _vectors(run).items():
        found, shape = arrays.get(f"optimizer.{name}"), run.team.shape(name, vector)
        if found is None or found.shape != shape or found.dtype != vector.dtype:
            has = "no such array" if found is None else f"{found.dtype} {found.shape}"
            wanted = f"{name} of {run.optimizer!r} is {vector.dtype} {shape}"
            raise IncompatibleCheckpointError(f"{wanted}; {path} has {has}")


def _same_plan(run: Any, path: Path, network: Any, state: dict[str, Any]) -> Saved:
    if "training" not in state:
        raise IncompatibleCheckpointError(
            f"{path} holds a network without its training; there is nothing to resume"
        )
    try:
        saved = msgspec.convert(state["training"], Saved)
    except msgspec.ValidationError as error:
        raise IncompatibleCheckpointError(f"{path} holds no training that can go on: {error}") from error
    mine = run.network
    found = saved.plan | {
        "n_in": network.n_in,
        "network": network.layers,
        "dtype": network.compute_dtype.name,
    }
    wanted = {"n_in": mine.n_in, "network": mine.layers, "dtype": mine.compute_dtype.name} | plan(run)
    for name, value in wanted.items():
        if name in LATER and name not in found:
            continue
        if not agree(name, found.get(name), value):
            raise IncompatibleCheckpointError(
                f"{path} was written with {name} {found.get(name)}; this run has {value}"
            )
    if saved.position > run.data.steps:
        raise IncompatibleCheckpointError(
            f"{path} is at minibatch {saved.position} of an epoch of {run.data.steps}"
        )
    return saved


def _vectors(run: Any) -> dict[str, Any]:
    params = run.team.params
    own = vars(run.optimizer.state(params))
    return own if params.loss_scale is None else own | {"loss_scale": params.loss_scale}
