"""n ranks, here threads, train to what one process does, to 1e-12 in float64."""

from functools import cache

import pytest

from ffnn_gpu.backend.strict import StrictBackend
from tests.parallel.cases import CASES, assert_same_training, train
from tests.parallel.threads import on_ranks


@cache
def alone(case):
    """What one process trains to."""
    return train(**dict(case))


@pytest.mark.parametrize(("n", "shard"), [(2, False), (3, False), (4, False), (3, True)], ids=["2", "3", "4", "sharded"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case.values()))
def test_ranks_train_to_what_one_process_does(case, n, shard):
    found, _ = on_ranks(n, lambda ranks: train(ranks, shard_optimizer=shard, **case))
    for rank in found:
        assert_same_training(rank, alone(tuple(case.items())))


@pytest.mark.parametrize("shard", [False, True], ids=["whole", "sharded"])
@pytest.mark.parametrize("case", [
    {"network": "batch_norm", "optimizer": "averaged", "settings": "uneven"},
    {"network": "dropout", "optimizer": "clipped", "settings": "accumulated_weights"},
    {"network": "batch_norm_first", "settings": "validated", "loss": "mse"},
], ids=lambda case: "-".join(case.values()))                                                         # fmt: skip
def test_ranks_on_devices_with_the_manners_of_a_gpu_do_the_same(case, shard):
    """Such a device refuses a step that waits for it or copies to it, which no recorded graph could hold."""
    found, _ = on_ranks(3, lambda ranks: train(ranks, backend=StrictBackend(), shard_optimizer=shard, **case))
    for rank in found:
        assert_same_training(rank, alone(tuple(case.items())))
