"""On a CPU with Numba the pieces of a step between two sums run as tables, but for what needs the other ranks in between."""

import pytest

from ffnn_gpu import SGD, Callback, Network, fit
from ffnn_gpu.activations import relu
from ffnn_gpu.layers import BatchNorm, Dense, Dropout, LayerNorm, Residual
from ffnn_gpu.parallel import DataParallel
from tests.parallel.cases import LABELS, LOSSES, WEIGHT, X
from tests.parallel.threads import on_ranks

pytest.importorskip("numba")
PLAIN = (Dense(7, relu), Dropout(0.3), LayerNorm(), Residual([Dense(7, relu)]), Dense(3))
NORMALIZED = (Dense(7, relu), BatchNorm(), Dense(3))


class Recorded(Callback):
    """The names of the pieces that became tables, of whole batches and of partial ones."""

    def after_epoch(self, run, row):
        workspaces = {id(ws): ws for ws in (run.ws, *run.ws._parts.values())}.values()
        self.found = {program.code.__name__ for ws in workspaces for program in ws.programs if program.table is not None}


class OwnLayer(Dense):
    """A layer of the user's."""


@pytest.mark.parametrize(("layers", "more", "expected"), [
    (PLAIN, {}, {"share_of_gradient", "update"}), (PLAIN, {"accumulate": 2}, {"share_of_gradient", "update"}),
    (PLAIN, {"shard_optimizer": True}, {"share_of_gradient"}), (PLAIN, {"sample_weight": WEIGHT}, {"update"}),
    (NORMALIZED, {}, {"update"}), (NORMALIZED, {"batch_norm": "local"}, {"share_of_gradient", "update"}),
    ((OwnLayer(3),), {}, set()), (PLAIN, {"dtype": "float16"}, set()),
], ids=["plain", "accumulated", "sharded", "weights", "global statistics", "local", "own layer", "16 bits"])    # fmt: skip
def test_pieces_between_two_sums_are_recorded(layers, more, expected):
    def work(ranks):
        options, seen = {"epochs": 2, "batch_size": 13, "verbose": 0} | more, Recorded()
        plan = DataParallel(ranks, options.pop("batch_norm", "global"))
        network = Network(5, layers, "numpy", options.pop("dtype", "float64"))
        fit(network, LOSSES["softmax"][0], SGD(0.1), (X, LABELS), communicator=plan, callbacks=[seen], **options)
        return seen.found

    assert on_ranks(2, work)[0] == [expected] * 2
