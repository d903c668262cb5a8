"""A small training run with everything that resuming must restore, for the proofs of kills and resuming.

It runs without llvmlite, whose import takes longer than the run.
"""

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np

import ffnn_gpu as nn
from ffnn_gpu.backends.choice import NumpyBackend
from ffnn_gpu.nn.schedules import SCHEDULES
from ffnn_gpu.optim.choice import OPTIMIZERS
from ffnn_gpu.training.callbacks import Checkpoints, EarlyStopping, ReduceOnPlateau, Run

ROWS, BATCH, EPOCHS = 50, 16, 2  # 45 training rows: two full batches and one of 13
STEPS = 3 * EPOCHS
SCHEDULED = (*SCHEDULES, "reduce_on_plateau")
_rng = np.random.default_rng(3)
X, Y = _rng.normal(size=(ROWS, 4)), _rng.integers(0, 3, ROWS)


class Stop(nn.Callback):
    """Send Ctrl-C after update number `step`."""

    def __init__(self, step: int) -> None:
        self.step = step

    def after_step(self, run: Run) -> None:
        if run.steps_done == self.step:
            os.kill(os.getpid(), signal.SIGINT)


def train(
    folder: Path,
    optimizer: str = "adam",
    schedule: str = "one_cycle",
    *,
    every_steps: int | None = None,
    stop: int | None = None,
    epochs: int = EPOCHS,
) -> dict[str, Any]:
    """Call fit once, resuming from `folder`; return everything it leaves behind, as bytes and rows."""
    layers = [nn.Dense(8, nn.relu), nn.BatchNorm(), nn.Dropout(0.3), nn.LayerNorm(), nn.Dense(3)]
    network = nn.Network(4, layers, NumpyBackend())
    rule = OPTIMIZERS[optimizer](0.01, l2=1e-3, clip_norm=1.0, ema=0.9)
    history = nn.fit(
        network,
        nn.softmax_cross_entropy,
        rule,
        (X, Y),
        epochs=epochs,
        batch_size=BATCH,
        validation=0.1,
        seed=5,
        verbose=0,
        schedule=ReduceOnPlateau(0.5, 0, min_delta=9.0)
        if schedule == "reduce_on_plateau"
        else SCHEDULES[schedule],
        early_stopping=EarlyStopping(3),
        checkpoint=Checkpoints(folder, every_steps=every_steps),
        resume=True,
        callbacks=[] if stop is None else [Stop(stop)],
    )
    params = network.params
    vectors = vars(rule.state(params)) | {"theta": params.theta, "state": params.state, "step": params.step}
    rows = [
        {name: row[name] for name in row if name not in ("seconds", "samples_per_second")}
        for row in history.rows
    ]
    return {name: np.asarray(vector).tobytes().hex() for name, vector in vectors.items()} | {"rows": rows}
