"""n ranks, here threads, train to what one process does, to 1e-12 in float64."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import pytest

from ffnn_gpu.nn.losses.standard import Loss
from ffnn_gpu.testing.strict_device import StrictBackend
from tests.distributed.threads import on_ranks
from tests.training.data_parallel import cases
from tests.training.data_parallel.cases import CASES, assert_same_training, train


@cache
def alone(case):
    """What one process trains to."""
    return train(**dict(case))


@pytest.mark.parametrize(
    ("n", "shard"), [(2, False), (3, False), (4, False), (3, True)], ids=["2", "3", "4", "sharded"]
)
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case.values()))
def test_ranks_train_to_what_one_process_does(case, n, shard):
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
def test_ranks_on_devices_with_the_manners_of_a_gpu_do_the_same(case, shard):
    """Such a device refuses a step that waits for it or copies to it, which no recorded graph could hold."""
    found, _ = on_ranks(3, lambda ranks: train(ranks, backend=StrictBackend(), shard_optimizer=shard, **case))
    for rank in found:
        assert_same_training(rank, alone(tuple(case.items())))


@dataclass(frozen=True)
class Marked(Loss):
    """Squares of the rows that are marked, which it counts in whole numbers."""

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
def test_loss_of_the_user_s_that_does_not_count_rows(accumulate, monkeypatch):
    monkeypatch.setitem(cases.LOSSES, "marked", (Marked(), cases.NUMBERS))
    case = {"loss": "marked", "optimizer": "momentum", "accumulate": accumulate}
    expected = cases.train(**case)
    for found in on_ranks(3, lambda ranks: cases.train(ranks, **case))[0]:
        cases.assert_same_training(found, expected)
