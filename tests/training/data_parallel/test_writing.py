"""Rank 0 writes the checkpoint while the others wait, and any number of ranks can resume it."""

import json
import signal
import time

import numpy as np
import pytest

from ffnn_gpu import Adam, Network, load
from ffnn_gpu.checkpoints import tensor_file
from ffnn_gpu.distributed import rank_zero
from ffnn_gpu.errors import CheckpointError
from ffnn_gpu.training.data_parallel import DataParallel, team
from tests.distributed.threads import on_ranks
from tests.training.data_parallel.cases import NETWORKS, assert_same_training, train
from tests.training.data_parallel.runs import First, Seen, Stop, small

BEGUN = {"optimizer": "averaged", "network": "batch_norm", "settings": "uneven"}


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (2, 4), (4, 2)])
@pytest.mark.parametrize("shards", [(False, True), (True, False), (True, True)], ids=str)
def test_resumed_training_may_have_another_number_of_ranks(tmp_path, before, after, shards):
    _, history = on_ranks(
        before,
        lambda ranks: train(
            ranks, checkpoint=tmp_path, callbacks=[Stop(6)], shard_optimizer=shards[0], **BEGUN
        ),
    )[0][0]
    assert history.interrupted == signal.SIGTERM and len(history) == 1
    seen = Seen()
    found, _ = on_ranks(
        after,
        lambda ranks: train(
            ranks,
            checkpoint=tmp_path,
            resume=True,
            callbacks=[seen][: ranks.rank == 0],
            shard_optimizer=shards[1],
            **BEGUN,
        ),
    )
    assert seen.steps[0] == (7 if before == 1 else 8)  # ranks exchange the signal one step later
    for rank in found:
        assert_same_training(rank, train(**BEGUN))


class Counter(First):
    """Counts epochs on the first rank only; its state is a number and an array."""

    def start(self, run):
        self.count = 0

    def after_epoch(self, run, row):
        self.count += 1

    def state(self):
        return {"count": self.count}

    def arrays(self):
        return {"count": np.array([self.count])}

    def restore(self, state, arrays):
        self.count = min(state["count"], int(arrays["count"][0]))


@pytest.mark.parametrize("after", [1, 2])
def test_callback_of_the_first_rank_is_restored_only_there(tmp_path, after):
    case = {"optimizer": "momentum", "settings": "validated", "checkpoint": tmp_path}
    on_ranks(2, lambda ranks: train(ranks, callbacks=[Counter(), Stop(7)], **case))
    counters = [Counter(), Counter()]
    found, _ = on_ranks(
        after, lambda ranks: train(ranks, callbacks=[counters[ranks.rank]], resume=True, **case)
    )
    assert counters[0].count == len(found[0][1]) == 5


def test_checkpoint_does_not_depend_on_the_number_of_ranks(tmp_path):
    written = []
    for n in (1, 3):
        on_ranks(
            n, lambda ranks, n=n: train(ranks, checkpoint=tmp_path / str(n), shard_optimizer=True, epochs=1)
        )
        arrays, values = tensor_file.read(tmp_path / str(n) / "last.safetensors")
        written.append({name: (array.dtype, array.shape) for name, array in arrays.items()})
        assert not {"rank", "ranks", "size", "communicator"} & {*json.dumps(values).split('"')}
    assert written[0] == written[1]


def test_failure_of_the_writing_rank_is_raised_on_every_rank(tmp_path):
    (tmp_path / "last.safetensors").mkdir()
    (tmp_path / "last.safetensors" / "file").write_text("no checkpoint")
    errors = []

    def work(ranks):
        try:
            small(ranks, checkpoint=tmp_path)
        except (CheckpointError, OSError) as error:
            errors.append((ranks.rank, str(error)))

    on_ranks(3, work)
    assert sorted(rank for rank, _ in errors) == [0, 1, 2]
    assert len({text for _, text in errors}) == 1


def team_of(ranks, **more):
    network = Network(5, NETWORKS["dense"], "numpy", "float64", seed=3)
    return team.Team(DataParallel(ranks, **more), network, Adam(), False)


def test_ranks_wait_longer_for_a_checkpoint_than_for_each_other(monkeypatch):
    monkeypatch.setattr(rank_zero, "BEAT", 0.1)
    written = []

    def slow():
        time.sleep(2.5)
        written.append(1)

    def work(ranks):
        team_of(ranks).on_rank_zero(slow)
        assert written == [1]

    on_ranks(2, work, limit=1)


def test_checkpoint_that_is_never_written_fails_on_every_rank(monkeypatch):
    monkeypatch.setattr(rank_zero, "BEAT", 0.01)
    errors = []

    def work(ranks):
        with pytest.raises(CheckpointError) as caught:
            team_of(ranks, checkpoint_limit=0.1).on_rank_zero(lambda: time.sleep(2))
        errors.append(str(caught.value))

    on_ranks(2, work)
    message = "rank 0 was not done writing after 0.1 s; raise checkpoint_limit of DataParallel"
    assert errors == [message] * 2


def test_best_network_is_written_with_the_average_gathered_from_all_shards(tmp_path):
    on_ranks(3, lambda ranks: train(ranks, checkpoint=tmp_path / "n", shard_optimizer=True, **BEGUN))
    train(checkpoint=tmp_path / "1", **BEGUN)
    found, wanted = (load(tmp_path / name / "best", "numpy").params.to_host() for name in ("n", "1"))
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-11, atol=1e-13)
