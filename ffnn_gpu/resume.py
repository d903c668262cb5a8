"""A training under way ↔ a checkpoint: N steps equal k steps, a new process and N − k steps, bit for bit on a CPU.

Nothing random needs saving: the order of an epoch and the bits of dropout are functions of integers.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ffnn_gpu import checkpoint
from ffnn_gpu.architecture import kinds
from ffnn_gpu.callbacks import require_restorable
from ffnn_gpu.errors import CheckpointCorruptError, IncompatibleCheckpointError
from ffnn_gpu.fingerprint import LATER, agree

REMEMBERED = {"epoch", "position", "lr_factor", "stop", "lr", "loss_sum", "weight_sum", "history", "callbacks"}


def save_run(run: Any, path: Path, extras: Mapping[str, Any]) -> None:
    """Write the run's network, optimizer state, counters, history and callbacks."""
    state = {
        "training": {
            "plan": plan(run), "epoch": run.epoch, "position": run.position, "lr_factor": run.lr_factor, "stop": run.stop,
            "lr": run.lr, "loss_sum": run.meter.total, "weight_sum": run.meter.weight, "history": run.history.rows,
            "callbacks": [{"callback": type(c).__name__, **c.state()} for c in resumable(run)],
        },
        "extras": dict(extras),
    }  # fmt: skip
    to_host = run.network.backend.to_host
    arrays = {f"optimizer.{name}": to_host(vector) for name, vector in _vectors(run).items()}
    for k, callback in enumerate(resumable(run)):
        arrays |= {f"callback.{k}.{name}": value for name, value in callback.arrays().items()}
    checkpoint.write(run.network, path, state, arrays)


def restore_run(run: Any, path: Path) -> None:
    """Put everything back; all or nothing.

    Raises:
        IncompatibleCheckpointError: it belongs to another network, data set or plan; names the first difference.
    """
    network, state, arrays = checkpoint.read(path, "numpy", kinds(run.network.layers))
    saved = _same_plan(run, path, network, state)
    vectors, callbacks = _vectors(run), resumable(run)
    for name, vector in vectors.items():
        found = arrays.get(f"optimizer.{name}")
        if found is None or found.shape != vector.shape:
            raise IncompatibleCheckpointError(f"{path} has no {name} of shape {vector.shape} for {run.optimizer!r}")
    require_restorable(callbacks, saved["callbacks"])
    # From here on nothing can fail.
    run.network.params.assign(network.params.to_host())
    run.network.backend.write(run.network.params.step, 0, int(network.params.step[0]))
    for name, vector in vectors.items():
        run.network.backend.copy(run.network.backend.asarray(arrays[f"optimizer.{name}"]), out=vector)
    for k, (callback, remembered) in enumerate(zip(callbacks, saved["callbacks"], strict=True)):
        prefix = f"callback.{k}."
        callback.restore(remembered, {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)})
    run.epoch, run.position, run.lr_factor, run.stop = (saved[key] for key in ("epoch", "position", "lr_factor", "stop"))
    run.lr, run.meter.total, run.meter.weight = saved["lr"], saved["loss_sum"], saved["weight_sum"]
    run.history.rows[:] = saved["history"]


def plan(run: Any) -> dict[str, Any]:
    """What must be equal for a trajectory to go on; the number of epochs may grow."""
    order = run.data.order
    return {
        "rows": run.data.rows,
        "batch_size": order.batch_size, "shuffle": order.shuffle, "drop_last": order.drop_last,
        "seed": run.seed, "accumulate": run.accumulate, "optimizer": repr(run.optimizer), "loss": repr(run.loss),
        "schedule": repr(run.schedule), **run.fingerprints,
    }  # fmt: skip


def resumable(run: Any) -> list[Any]:
    """The callbacks that remember something."""
    return [callback for callback in run.callbacks if callback.state()]


def _same_plan(run: Any, path: Path, network: Any, state: dict[str, Any]) -> dict[str, Any]:
    if "training" not in state:
        raise IncompatibleCheckpointError(f"{path} holds a network without its training; there is nothing to resume")
    saved = state["training"]
    try:
        found = saved["plan"] | {"n_in": network.n_in, "network": network.layers, "dtype": network.compute_dtype.name}
        missing = REMEMBERED - saved.keys()
    except (KeyError, TypeError, AttributeError) as error:
        raise CheckpointCorruptError(f"{path} is damaged: {type(error).__name__}: {error}") from error
    if missing:
        raise CheckpointCorruptError(f"{path} is damaged: it lacks {', '.join(sorted(missing))}")
    mine = run.network
    wanted = {"n_in": mine.n_in, "network": mine.layers, "dtype": mine.compute_dtype.name} | plan(run)
    for name, value in wanted.items():
        if name in LATER and name not in found: continue
        if not agree(name, found.get(name), value):
            raise IncompatibleCheckpointError(f"{path} was written with {name} {found.get(name)}; this run has {value}")
    return saved


def _vectors(run: Any) -> dict[str, Any]:
    params = run.network.params
    own = vars(run.optimizer.state(params))
    return own if params.loss_scale is None else own | {"loss_scale": params.loss_scale}
