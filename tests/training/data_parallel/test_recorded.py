"""On a CPU with llvmlite, the parts of a step between two sums over ranks are recorded as tables.

A part that itself communicates with other ranks is not recorded.
"""

import numpy as np
import pytest

from ffnn_gpu import SGD, Callback, Network, fit
from ffnn_gpu.nn.activations import relu
from ffnn_gpu.nn.layers import BatchNorm, Dense, Dropout, LayerNorm, Residual
from ffnn_gpu.training.data_parallel import DataParallel
from tests.distributed.threads import on_ranks
from tests.training.data_parallel.cases import LABELS, LOSSES, WEIGHT, X

pytest.importorskip("llvmlite")
from ffnn_gpu.backends.cpu.recording import recorded_step

PLAIN = (Dense(7, relu), Dropout(0.3), LayerNorm(), Residual([Dense(7, relu)]), Dense(3))
NORMALIZED = (Dense(7, relu), BatchNorm(), Dense(3))


class Recorded(Callback):
    """Collects the names of the parts that were recorded, for whole and for partial batches."""

    def after_epoch(self, run, row):
        workspaces = {id(ws): ws for ws in (run.ws, *run.ws._parts.values())}.values()
        self.found = {
            recording.code.__name__
            for ws in workspaces
            for recording in ws.recordings
            if recording.table is not None
        }


class OwnLayer(Dense):
    """A custom layer."""


@pytest.mark.parametrize(
    ("layers", "more", "expected"),
    [
        (PLAIN, {}, {"gradient", "update"}),
        (PLAIN, {"accumulate": 2}, {"gradient", "update"}),
        (PLAIN, {"shard_optimizer": True}, {"gradient"}),
        (PLAIN, {"sample_weight": WEIGHT}, {"update"}),
        (NORMALIZED, {}, {"update"}),
        (NORMALIZED, {"batch_norm": "local"}, {"gradient", "update"}),
        ((OwnLayer(3),), {}, {"gradient", "update"}),
        (PLAIN, {"dtype": "bfloat16"}, {"gradient", "update"}),
    ],
    ids=["plain", "accumulated", "sharded", "weights", "global statistics", "local", "own layer", "16 bits"],
)
def test_parts_between_two_sums_are_recorded(layers, more, expected):
    def work(ranks):
        options, seen = {"epochs": 2, "batch_size": 14, "verbose": 0} | more, Recorded()
        plan = DataParallel(ranks, options.pop("batch_norm", "global"))
        network = Network(5, layers, "numpy", options.pop("dtype", "float64"))
        fit(
            network,
            LOSSES["softmax"][0],
            SGD(0.1),
            (X, LABELS),
            communicator=plan,
            callbacks=[seen],
            **options,
        )
        return seen.found

    assert on_ranks(2, work)[0] == [expected] * 2


@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["counted", "weighted"])
def test_micro_batches_of_one_process_are_recorded(weight):
    network, seen = Network(5, PLAIN, "numpy", "float64"), Recorded()
    options = {"epochs": 1, "batch_size": 13, "verbose": 0, "callbacks": [seen], "sample_weight": weight}
    fit(network, LOSSES["softmax"][0], SGD(0.1), (X, LABELS), accumulate=2, **options)
    assert seen.found == {"gradient", "update"}


def test_micro_batches_with_dropout_share_one_recording(monkeypatch):
    """There are more micro-batches than a workspace stores recordings.

    A recording for each micro-batch would be made again in every step.
    """
    made, make = [], recorded_step.RecordedStep.__init__
    monkeypatch.setattr(recorded_step.RecordedStep, "__init__", lambda *args: made.append(1) or make(*args))

    def work(ranks):
        network, options = (
            Network(5, PLAIN, "numpy", "float64", seed=3),
            {"epochs": 3, "batch_size": 48, "verbose": 0},
        )
        data = np.tile(X, (3, 1))[:144], np.tile(LABELS, 3)[:144]
        fit(network, LOSSES["softmax"][0], SGD(0.1), data, communicator=ranks, accumulate=12, **options)
        return network.params.theta

    found, alone = on_ranks(2, work)[0], len(made)
    assert alone == 2 * 2  # gradient and update of each rank
    np.testing.assert_allclose(found[0], work(None), rtol=0, atol=1e-13)
