"""Training with n ranks, here threads, equals training in one process to 1e-12 in float64."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from ffnn_gpu import SGD, Dense, Network, fit
from ffnn_gpu.nn.losses.standard import Loss, SoftmaxCrossEntropy
from ffnn_gpu.testing.strict_device import StrictBackend
from tests.distributed.threads import on_ranks
from tests.training.data_parallel import cases
from tests.training.data_parallel.cases import CASES, LABELS, X, assert_same_training, train


@cache
def alone(case):
    """Train in one process."""
    return train(**dict(case))


@pytest.mark.parametrize(
    ("n", "shard"), [(2, False), (3, False), (4, False), (3, True)], ids=["2", "3", "4", "sharded"]
)
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case.values()))
def test_training_of_ranks_equals_training_of_one_process(case, n, shard):
    found, _ = on_ranks(n, lambda ranks: train(ranks, shard_optimizer=shard, **case))
    for rank in found:
        assert_same_training(rank, alone(tuple(case.items())))


@pytest.mark.parametrize("shard", [False, True], ids=["whole", "sharded"])
@pytest.mark.parametrize(
    "case",
    [
        {"network": "batch_norm", "optimizer": "averaged", "settings": "uneven"},
        {"network": "dropout", "optimizer": "clipped", "settings": "accumulated_weights"},
        {"network": "batch_norm_first", "settings": "validated", "loss": "mse"},
    ],
    ids=lambda case: "-".join(case.values()),
)
def test_training_of_ranks_on_strict_devices_equals_training_of_one_process(case, shard):
    """The strict device refuses waits and copies within a step, because no CUDA graph can record them."""
    found, _ = on_ranks(3, lambda ranks: train(ranks, backend=StrictBackend(), shard_optimizer=shard, **case))
    for rank in found:
        assert_same_training(rank, alone(tuple(case.items())))


@dataclass(frozen=True)
class Marked(Loss):
    """Mean squared error of the marked rows; the total weight is their number, an int."""

    def targets(self, y, O, dtype):
        return np.asarray(y, dtype)

    def total_weight(self, backend, y, sample_weight):
        return int((y[:, 0] > 0).sum())

    def value_and_gradient(self, backend, z, y, dz, sample_weight):
        marked, n = y[:, :1] > 0, max(self.total_weight(backend, y, None), 1)
        if dz is not None:
            dz[...] = 2 * marked * (z - y) / n
        return (marked * (z - y) ** 2).sum() / n


@pytest.mark.parametrize("accumulate", [1, 3])
def test_ranks_use_the_total_weight_of_a_custom_loss(accumulate, monkeypatch):
    monkeypatch.setitem(cases.LOSSES, "marked", (Marked(), cases.NUMBERS))
    case = {"loss": "marked", "optimizer": "momentum", "accumulate": accumulate}
    expected = cases.train(**case)
    for found in on_ranks(3, lambda ranks: cases.train(ranks, **case))[0]:
        cases.assert_same_training(found, expected)


@pytest.mark.parametrize("rows", [True, False], ids=["counted", "not counted"])
def test_ranks_wait_between_the_passes_only_for_a_loss_that_does_not_count_rows(rows):
    class Own(SoftmaxCrossEntropy):
        counts_rows = rows

    def work(ranks):
        calls, all_reduce = [], ranks.all_reduce

        class Seen(Dense):
            def forward(self, *args):
                calls.append("forward")
                return super().forward(*args)

            def backward(self, *args):
                calls.append("backward")
                return super().backward(*args)

        ranks.all_reduce = lambda *args: (calls.append("sum"), all_reduce(*args))
        network = Network(5, [Seen(3)], "cpu", "float64")
        fit(network, Own(), SGD(0.1), (X, LABELS), communicator=ranks, epochs=1, batch_size=53, verbose=0)
        start = calls.index("forward")
        return calls[start : start + 3]

    order = ["forward", "backward", "sum"] if rows else ["forward", "sum", "backward"]
    assert on_ranks(2, work)[0] == [order] * 2
