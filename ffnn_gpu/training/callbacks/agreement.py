"""What must be equal: the callbacks of all ranks, and those of a checkpoint and the run that resumes."""

from dataclasses import fields
from typing import Any

from ffnn_gpu.checks import is_number
from ffnn_gpu.errors import IncompatibleCheckpointError
from ffnn_gpu.training.callbacks.best_weights import BestWeights
from ffnn_gpu.training.callbacks.callback import Callback
from ffnn_gpu.training.callbacks.checkpoint_files import Checkpoints
from ffnn_gpu.training.callbacks.early_stopping import EarlyStopping
from ffnn_gpu.training.callbacks.reduce_on_plateau import ReduceOnPlateau

WHERE = ("path", "extras")  # fields of Checkpoints that may differ between ranks


def decisions(callbacks: list[Callback]) -> list[tuple[str, dict[str, Any]]]:
    """Return the names and settings of the callbacks that monitor a column.

    All ranks must agree on them, because ranks wait for each other in these callbacks.
    """
    kinds = EarlyStopping, BestWeights, ReduceOnPlateau, Checkpoints
    return [
        (type(c).__name__, {e.name: getattr(c, e.name) for e in fields(c) if e.name not in WHERE})
        for c in callbacks
        if isinstance(c, kinds)
    ]


def require_restorable(callbacks: list[Callback], states: list[dict[str, Any]]) -> None:
    """Raise IncompatibleCheckpointError unless `states` holds one state per callback, with all its values."""
    names = [type(callback).__name__ for callback in callbacks]
    saved = [state.get("callback") for state in states]
    if names != saved:
        raise IncompatibleCheckpointError(
            f"the checkpoint was written with the callbacks {saved}; this run has {names}"
        )
    for callback, state in zip(callbacks, states, strict=True):
        mine, name = callback.state(), type(callback).__name__
        lacks = ", ".join(sorted(mine.keys() - state.keys()))
        if lacks:
            raise IncompatibleCheckpointError(f"the state of {name} in the checkpoint lacks {lacks}")
        for key, value in mine.items():
            if is_number(value) and not is_number(state[key]):
                raise IncompatibleCheckpointError(
                    f"{key} of {name} in the checkpoint is {state[key]!r}, not a number"
                )
