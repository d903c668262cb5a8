"""n ranks, here threads, train to what one process does, to 1e-12 in float64."""

from functools import cache

import pytest

from tests.parallel.cases import CASES, assert_same_training, train
from tests.parallel.threads import on_ranks


@cache
def alone(case):
    """What one process trains to."""
    return train(**dict(case))


@pytest.mark.parametrize("shard", [False, True], ids=["whole", "sharded"])
@pytest.mark.parametrize("n", [2, 3, 4])
@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case.values()))
def test_ranks_train_to_what_one_process_does(case, n, shard):
    found, _ = on_ranks(n, lambda ranks: train(ranks, shard_optimizer=shard, **case))
    for rank in found:
        assert_same_training(rank, alone(tuple(case.items())))
