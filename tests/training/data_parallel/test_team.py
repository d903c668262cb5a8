"""All ranks, here threads, stop at the same step and have the same history, statistics and loss scale."""

import signal
from itertools import pairwise

import numpy as np
import pytest

from ffnn_gpu import SGD, Adam, Callback, Dense, DivergedError, Network, ReduceOnPlateau, fit, tanh
from ffnn_gpu.backends import Backend
from ffnn_gpu.distributed import Single
from ffnn_gpu.distributed.communicator import piece_bounds
from ffnn_gpu.errors import ConfigurationError, DivergedRanksError
from ffnn_gpu.training.data_parallel import DataParallel, team
from tests.distributed.threads import Exchange, ThreadRank, on_ranks
from tests.training.data_parallel import cases
from tests.training.data_parallel.cases import LABELS, LOSSES, NETWORKS, X, train
from tests.training.data_parallel.runs import First, Seen, Stop, small

# ---------------------------------------------------------------------- common decisions


def test_signal_to_one_rank_stops_all_ranks_after_the_same_step():
    seen = [Seen() for _ in range(3)]
    found, _ = on_ranks(
        3, lambda ranks: small(ranks, callbacks=[seen[ranks.rank], *[Stop(5)][: ranks.rank == 2]])
    )
    assert {history.interrupted for _, history in found} == {signal.SIGTERM}
    # The signal is sent with the losses of the next step.
    assert [len(one.steps) for one in seen] == [6, 6, 6]


def test_callbacks_receive_the_same_history_and_first_rank_callbacks_run_only_there():
    first, every = [First() for _ in range(3)], [Seen() for _ in range(3)]
    found, _ = on_ranks(
        3,
        lambda ranks: small(
            ranks,
            callbacks=[first[ranks.rank], every[ranks.rank]],
            validation=0.3,
            metrics=["accuracy", "f1_macro"],
            schedule=ReduceOnPlateau(0.5, patience=0, min_delta=1.0),
            epochs=6,
        ),
    )
    histories = [history.rows for _, history in found]
    assert histories[0] == histories[1] == histories[2] and histories[0][-1]["lr"] < 1e-2
    assert [one.epochs for one in every] == [[1, 2, 3, 4, 5, 6]] * 3
    assert [bool(one.epochs) for one in first] == [True, False, False]


def test_loss_that_is_not_finite_on_one_ranks_rows_raises_on_every_rank():
    def work(ranks):
        with pytest.raises(DivergedError, match="the loss is nan at step") as caught:
            small(ranks, start=lambda network: network.params.theta.fill(np.nan))
        return str(caught.value)

    found, _ = on_ranks(3, work)
    assert len({*found}) == 1


def test_ranks_are_compared_every_few_steps_whatever_the_length_of_a_launch(monkeypatch):
    compared = []
    monkeypatch.setattr(Backend, "steps_per_launch", lambda self, rows: 3)
    monkeypatch.setattr(team.Team, "require_agreement", lambda self, _, steps, *more: compared.append(steps))
    found, _ = on_ranks(2, lambda ranks: small(DataParallel(ranks, check_every=4), batch_size=2, epochs=2))
    last = 2 * (len(X) // 2)
    assert last >= 12 and len(found) == 2
    assert all(any(m <= step < m + 3 for step in compared) for m in range(4, last + 1, 4))


# ---------------------------------------------------------------------- BatchNorm


def test_local_batch_norm_has_equal_running_statistics_and_communicates_less():
    def work(ranks, mode):
        network, history = small(DataParallel(ranks, batch_norm=mode), layers="batch_norm", batch_size=23)
        return network.params.to_host(), history.rows[-1]["loss"]

    (here, *others), calls = on_ranks(3, lambda ranks: work(ranks, "local"))
    (there, *_), more = on_ranks(3, lambda ranks: work(ranks, "global"))
    for numbers, loss in others:
        assert loss == here[1]
        assert all((numbers[name] == here[0][name]).all() for name in numbers)
    assert len(calls) < len(more) and abs(here[1] - there[1]) > 1e-6


def test_local_statistics_are_the_mean_of_what_each_rank_computes_alone():
    def statistics(rows, **more):
        network = Network(5, NETWORKS["batch_norm"], "numpy", "float64", seed=3)
        settings = {"batch_size": 23, "epochs": 1, "shuffle": False, "verbose": 0} | more
        fit(network, LOSSES["softmax"][0], SGD(0.05), (X[rows], LABELS[rows]), **settings)
        return network.params.state.copy()

    found, _ = on_ranks(
        3, lambda ranks: statistics(slice(23), communicator=DataParallel(ranks, batch_norm="local"))
    )
    alone = [statistics(slice(*each)) for each in pairwise(piece_bounds(23, 3))]
    np.testing.assert_allclose(found[0], np.mean(alone, axis=0), rtol=1e-12)


@pytest.mark.parametrize("shard", [False, True])
def test_average_of_local_statistics_is_the_same_on_every_rank(shard):
    def work(ranks):
        network = Network(5, NETWORKS["batch_norm"], "numpy", "float64", seed=3)
        fit(
            network,
            LOSSES["softmax"][0],
            SGD(0.05, ema=0.9),
            (X, LABELS),
            batch_size=23,
            epochs=2,
            verbose=0,
            communicator=DataParallel(ranks, batch_norm="local"),
            shard_optimizer=shard,
        )
        return network.params.state

    found, _ = on_ranks(3, work)
    assert (found[0] == found[1]).all() and (found[0] == found[2]).all()


def test_ranks_that_begin_with_other_running_statistics_are_refused():
    def work(ranks):
        def start(network):
            network.params.state[-1] += ranks.rank == 1

        with pytest.raises(DivergedRanksError, match="the running statistics: rank 1 differs from rank"):
            small(ranks, layers="batch_norm", start=start)

    on_ranks(3, work)


def test_statistics_are_right_if_a_rank_has_no_rows():
    (found, *_), _ = on_ranks(
        4, lambda ranks: small(ranks, layers="batch_norm", batch_size=3, epochs=1, lr=1e-4)
    )
    wanted, _ = small(None, layers="batch_norm", batch_size=3, epochs=1, lr=1e-4)
    for name, value in wanted.params.to_host().items():
        np.testing.assert_allclose(
            found[0].params.to_host()[name], value, rtol=1e-10, atol=1e-12, err_msg=name
        )


# ---------------------------------------------------------------------- 16 bits


@pytest.mark.parametrize("shard", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_training_of_ranks_equals_one_process_within_rounding(dtype, shard):
    wanted, reference = train(network="dropout", optimizer="clipped", dtype=dtype)
    for numbers, history in on_ranks(
        3,
        lambda ranks: train(
            ranks, network="dropout", optimizer="clipped", dtype=dtype, shard_optimizer=shard
        ),
    )[0]:
        np.testing.assert_allclose(history["loss"], reference["loss"], rtol=2e-3)
        for name, value in wanted.items():
            assert np.abs(numbers[name] - value).max() <= 2e-2 * max(np.abs(value).max(), 1e-2), name


@pytest.mark.parametrize("shard", [False, True])
def test_overflow_on_one_rank_skips_the_update_on_all_ranks(shard):
    def work(ranks):
        network = Network(5, [Dense(7, tanh), Dense(3)], "numpy", "float16", seed=3)
        before = network.params.theta.copy()
        network.params.loss_scale[0] = 2.0**24
        x = X.copy()
        x[0] = 6e4  # only the first row overflows
        fit(
            network,
            LOSSES["mse"][0],
            Adam(1e-2),
            (x, cases.NUMBERS * 1e3),
            batch_size=53,
            epochs=1,
            verbose=0,
            shuffle=False,
            communicator=ranks,
            shard_optimizer=shard,
        )
        return (
            (network.params.theta == before).all(),
            network.params.loss_scale[0],
            int(network.params.step[0]),
        )

    found, _ = on_ranks(3, work)
    assert found == [(True, 2.0**23, 0)] * 3


# ---------------------------------------------------------------------- one process


def test_communicator_of_one_process_changes_no_bit():
    for name in ("dropout", "batch_norm"):
        wanted, _ = train(network=name)
        found, _ = train(Single(), network=name, shard_optimizer=True)
        assert all((found[key] == wanted[key]).all() for key in wanted)


def test_invalid_communicator_and_settings_are_refused_before_training():
    with pytest.raises(ConfigurationError, match="communicator must be what"):
        small("mpi")
    with pytest.raises(ConfigurationError, match="'global' or 'local', not 'none'"):
        DataParallel(Single(), "none")
    with pytest.raises(ConfigurationError, match="check_every must be"):
        DataParallel(Single(), check_every=0)


@pytest.mark.parametrize(("used", "fits"), [("cupy", False), ("cupy:1", True), ("numpy", True)])
def test_network_on_the_gpu_of_another_rank_is_refused(used, fits):
    ranks = ThreadRank(Exchange(2), 1)
    ranks.device = "cupy:1"
    network = Network(5, NETWORKS["dense"], "numpy", seed=3)
    network.backend.name = used  # no other network uses this backend
    if fits:
        team.Team(DataParallel(ranks), network, Adam(), False)
        return
    with pytest.raises(ConfigurationError, match="rank 1 computes on cupy, and the rank's GPU is cupy:1"):
        team.Team(DataParallel(ranks), network, Adam(), False)


def test_sharded_optimizer_stores_a_part_of_the_moments_on_each_rank():
    lengths = []

    class Look(Callback):
        def start(self, run):
            lengths.append(len(run.optimizer.state(run.team.params).m))

    on_ranks(3, lambda ranks: small(ranks, callbacks=[Look()], shard_optimizer=True))
    whole = len(small(None)[0].params.theta)
    assert sum(lengths) == whole and max(lengths) < whole / 2


@pytest.mark.parametrize("first", [False, True])
def test_second_training_with_a_sharded_optimizer_starts_from_the_moments_of_the_first(first):
    def twice(ranks, *shards):
        network, rule = Network(5, NETWORKS["dense"], "numpy", "float64", seed=3), Adam(1e-2, ema=0.9)
        for shard in shards:
            fit(
                network,
                LOSSES["softmax"][0],
                rule,
                (X, LABELS),
                batch_size=16,
                epochs=2,
                verbose=0,
                communicator=ranks,
                shard_optimizer=shard,
            )
        # The sharded moments leave no full-size state behind.
        assert rule not in network.params.optimizer_states or ranks is None
        return network.params.theta

    wanted = twice(None, False, False)
    for found in on_ranks(3, lambda ranks: twice(ranks, first, True))[0]:
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-14)
