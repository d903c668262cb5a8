"""Small training runs of several ranks, and callbacks that observe them."""

import signal

from ffnn_gpu import Adam, Callback, Network, fit
from tests.training.data_parallel.cases import LABELS, LOSSES, NETWORKS, X


class Seen(Callback):
    """Records the steps and epochs it is called for."""

    def __init__(self):
        self.steps, self.epochs = [], []

    def after_step(self, run):
        self.steps.append(run.steps_done)

    def after_epoch(self, run, row):
        self.epochs.append(run.epoch)


class First(Seen):
    """Records them on the first rank only."""

    first_rank_only = True


class Stop(Callback):
    """Ends the training run at update number `step`, as a signal would."""

    def __init__(self, step):
        self.step = step

    def after_step(self, run):
        if run.steps_done == self.step:
            run.team.own_signal = lambda: signal.SIGTERM


def small(ranks, *, lr=1e-2, callbacks=(), start=lambda network: None, layers="dense", **more):
    network = Network(5, NETWORKS[layers], "numpy", "float64", seed=3)
    start(network)
    settings = {"batch_size": 16, "epochs": 3, "verbose": 0} | more
    return network, fit(
        network,
        LOSSES["softmax"][0],
        Adam(lr),
        (X, LABELS),
        callbacks=callbacks,
        communicator=ranks,
        **settings,
    )
