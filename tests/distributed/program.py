"""What the ranks of `test_mpi` run:  mpiexec -n N python -m tests.distributed.program TASK FOLDER."""

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
WHOLE = {
    "optimizer": "averaged",
    "network": "dropout",
    "settings": "uneven",
}  # a training that is begun by some ranks
HALF = 9  # one hears of Ctrl-C, all a step later


class At(Callback):
    """Do something after update number `step`."""

    def __init__(self, step, action):
        self.step, self.action = step, action

    def after_step(self, run):
        if run.steps_done == self.step:
            self.action(run)


class Steps(Callback):
    """The steps that were done."""

    def start(self, run):
        self.seen = []

    def after_step(self, run):
        self.seen.append(run.steps_done)


def interrupt(run):
    os.kill(os.getpid(), signal.SIGINT)


def exact(ranks, folder):
    """Every case is what one process does; ranks that differ say so; a training is interrupted for others to go on with."""
    for case in UNDER_MPI:
        for shard in (False, True):
            cases.assert_same_training(cases.train(ranks, shard_optimizer=shard, **case), cases.train(**case))
    differ(ranks)
    for shard in (False, True):
        path = folder / f"{ranks.size}-{shard}"
        last = [At(HALF, interrupt)] if ranks.rank == ranks.size - 1 else []  # one rank hears it, all stop
        _, history = cases.train(ranks, shard_optimizer=shard, callbacks=last, checkpoint=path, **WHOLE)
        assert history.interrupted == signal.SIGINT


def resume(ranks, folder):
    """What 2 ranks began, with and without shards, ends as in one process."""
    for path in sorted(folder.iterdir()):
        steps = Steps()
        found = cases.train(
            ranks,
            shard_optimizer="True" not in path.name,
            checkpoint=path,
            resume=True,
            callbacks=[steps],
            **WHOLE,
        )
        assert steps.seen[0] == HALF + 2
        cases.assert_same_training(found, cases.train(**WHOLE))


def differ(ranks):
    """θ by one ulp on one rank, at the start and midway; the learning rate."""

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
    """A training that does not end, writing checkpoints; rank 0 says when it is under way."""
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
    """Rank 0 stops before it begins to train."""
    if ranks.rank == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
    forever(ranks, folder)


def one_raises(ranks, folder):
    """The last rank alone."""
    if ranks.rank == ranks.size - 1:
        raise ZeroDivisionError("only here")
    forever(ranks, folder)


def all_raise(ranks, folder):
    """Every rank, for the same wrong argument."""
    cases.train(ranks, batch_size=0)


def absent(ranks, folder):
    """Rank 1 ended before it met the others."""


if __name__ == "__main__":
    if sys.argv[1] == "absent" and os.environ["PMI_RANK"] == "1":
        raise ValueError("never came")
    globals()[sys.argv[1]](communicator("numpy"), Path(sys.argv[2]))
    print(f"done {sys.argv[1]}", flush=True)
