"""Tasks for the ranks of `test_mpi`:  mpiexec -n N python -m tests.distributed.rank_tasks TASK FOLDER."""

import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from ffnn_gpu import Adam, Callback, DivergedRanksError, Network, fit
from ffnn_gpu.distributed import communicator
from ffnn_gpu.training.callbacks import Checkpoints
from ffnn_gpu.training.data_parallel import DataParallel
from tests.training.data_parallel import cases

UNDER_MPI = [
    {"optimizer": "penalized", "network": "dropout", "settings": "uneven"},
    {"optimizer": "clipped", "network": "batch_norm", "settings": "accumulated_weights"},
    {"optimizer": "averaged", "network": "batch_norm_first", "settings": "validated", "loss": "class"},
    {"optimizer": "nadam", "settings": "weights", "loss": "mse"},
]
INTERRUPTED = {"optimizer": "averaged", "network": "dropout", "settings": "uneven"}
HALF = 9  # the step in which one rank is interrupted; all stop one step later


class At(Callback):
    """Call action(run) after update number `step`."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def after_step(self, run):
        if run.steps_done == self.step:
            self.action(run)


class Steps(Callback):
    """Collect the numbers of the steps."""

    def start(self, run):
        self.seen = []

    def after_step(self, run):
        self.seen.append(run.steps_done)


def interrupt(run):
    os.kill(os.getpid(), signal.SIGINT)


def exact(ranks, folder):
    """Compare every case with one process, test differing ranks, and interrupt a run for `resume`."""
    for case in UNDER_MPI:
        for shard in (False, True):
            cases.assert_same_training(cases.train(ranks, shard_optimizer=shard, **case), cases.train(**case))
    differ(ranks)
    for shard in (False, True):
        path = folder / f"{ranks.size}-{shard}"
        last = (
            [At(HALF, interrupt)] if ranks.rank == ranks.size - 1 else []
        )  # one rank is interrupted, all stop
        _, history = cases.train(ranks, shard_optimizer=shard, callbacks=last, checkpoint=path, **INTERRUPTED)
        assert history.interrupted == signal.SIGINT


def resume(ranks, folder):
    """Resume the runs of 2 ranks, with and without shards, and compare them with one process."""
    for path in sorted(folder.iterdir()):
        steps = Steps()
        found = cases.train(
            ranks,
            shard_optimizer="True" not in path.name,
            checkpoint=path,
            resume=True,
            callbacks=[steps],
            **INTERRUPTED,
        )
        assert steps.seen[0] == HALF + 2
        cases.assert_same_training(found, cases.train(**INTERRUPTED))


def differ(ranks):
    """Test that differences are detected: θ by one ulp, at the start and midway, and the learning rate."""

    def ulp(network):
        if ranks.rank == 1:
            network.params.theta[0] = np.nextafter(network.params.theta[0], 1)

    def attempt(what, lr=1e-2, start=lambda network: None, **more):
        network = Network(5, cases.NETWORKS["dense"], "numpy", "float64", seed=3)
        start(network)
        with pytest.raises(DivergedRanksError, match=f"{what}: rank 1 differs from rank"):
            fit(
                network,
                cases.LOSSES["softmax"][0],
                Adam(lr),
                (cases.X, cases.LABELS),
                batch_size=16,
                verbose=0,
                communicator=DataParallel(ranks, check_every=5),
                **more,
            )

    attempt("the parameters", start=ulp)
    attempt("the parameters", callbacks=[At(7, lambda run: ulp(run.network))])
    attempt("the learning rate", lr=1e-2 * (1 + (ranks.rank == 1)))


def forever(ranks, folder):
    """Train without end and write checkpoints; each rank writes its process id to a file after 50 steps."""
    network = Network(5, cases.NETWORKS["dropout"], "numpy", seed=3)
    begun = At(50, lambda run: (folder / f"rank-{ranks.rank}").write_text(str(os.getpid())))
    fit(
        network,
        cases.LOSSES["softmax"][0],
        Adam(1e-3),
        (cases.X, cases.LABELS),
        batch_size=16,
        epochs=10**8,
        verbose=0,
        communicator=ranks,
        callbacks=[begun],
        checkpoint=Checkpoints(folder / "checkpoint", every_steps=20),
    )


def hangs(ranks, folder):
    """Suspend rank 0 before training begins."""
    if ranks.rank == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
    forever(ranks, folder)


def one_raises(ranks, folder):
    """Raise on the last rank only."""
    if ranks.rank == ranks.size - 1:
        raise ZeroDivisionError("only here")
    forever(ranks, folder)


def all_raise(ranks, folder):
    """Raise on every rank, for the same wrong argument."""
    cases.train(ranks, batch_size=0)


def absent(ranks, folder):
    """Do nothing: rank 1 has ended before its first call."""


if __name__ == "__main__":
    if sys.argv[1] == "absent" and os.environ["PMI_RANK"] == "1":
        raise ValueError("never came")
    globals()[sys.argv[1]](communicator("numpy"), Path(sys.argv[2]))
    print(f"done {sys.argv[1]}", flush=True)
