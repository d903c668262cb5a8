"""What ranks, here threads, agree on besides θ: when to stop, what to write, that they are in one training."""

import signal
import threading
import time

import numpy as np
import pytest

from ffnn_gpu import SGD, Adam, Callback, DivergedError, Network, ReduceOnPlateau, fit, load, training
from ffnn_gpu.errors import CheckpointError, ConfigurationError, DivergedRanksError
from ffnn_gpu.parallel import DataParallel, Single, team, writing
from ffnn_gpu.parallel.agreement import checksum, require_agreement
from tests.parallel import cases
from tests.parallel.cases import LABELS, LOSSES, NETWORKS, X, assert_same_training, train
from tests.parallel.threads import Exchange, ThreadRank, on_ranks


class Seen(Callback):
    """The steps and epochs it was called for."""

    def __init__(self):
        self.steps, self.epochs = [], []

    def after_step(self, run):
        self.steps.append(run.steps_done)

    def after_epoch(self, run, row):
        self.epochs.append(run.epoch)


class First(Seen):
    """The same where only the first rank has it."""

    first_rank_only = True


class Stop(Callback):
    """Makes the training end as a signal does, at update number `step`."""

    def __init__(self, step):
        self.step = step

    def after_step(self, run):
        if run.steps_done == self.step: run.team._noted.signal = signal.SIGTERM


def small(ranks, *, lr=1e-2, callbacks=(), start=lambda network: None, layers="dense", **more):
    network = Network(5, NETWORKS[layers], "numpy", "float64", seed=3)
    start(network)
    settings = {"batch_size": 16, "epochs": 3, "verbose": 0} | more
    return network, fit(network, LOSSES["softmax"][0], Adam(lr), (X, LABELS), callbacks=callbacks, communicator=ranks,
                        **settings)                                                                  # fmt: skip


# ---------------------------------------------------------------------- checkpoints


BEGUN = {"optimizer": "averaged", "network": "batch_norm", "settings": "uneven"}


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (2, 4), (4, 2)])
@pytest.mark.parametrize("shards", [(False, True), (True, False), (True, True)], ids=str)
def test_some_ranks_go_on_with_what_others_began(tmp_path, before, after, shards):
    _, history = on_ranks(before, lambda ranks: train(
        ranks, checkpoint=tmp_path, callbacks=[Stop(7)], shard_optimizer=shards[0], **BEGUN))[0][0]  # fmt: skip
    assert history.interrupted == signal.SIGTERM and len(history) == 1
    seen = Seen()
    found, _ = on_ranks(after, lambda ranks: train(
        ranks, checkpoint=tmp_path, resume=True, callbacks=[seen][: ranks.rank == 0], shard_optimizer=shards[1], **BEGUN))
    assert seen.steps[0] == (8 if before == 1 else 9)                                # ranks tell each other a step later
    for rank in found:
        assert_same_training(rank, train(**BEGUN))


class Counter(First):
    """Remembers, as a number and an array, how many epochs it saw; on the first rank only."""

    def start(self, run): self.count = 0
    def after_epoch(self, run, row): self.count += 1
    def state(self): return {"count": self.count}
    def arrays(self): return {"count": np.array([self.count])}
    def restore(self, state, arrays): self.count = min(state["count"], int(arrays["count"][0]))


@pytest.mark.parametrize("after", [1, 2])
def test_callback_of_the_first_rank_is_restored_there_and_nowhere_missed(tmp_path, after):
    case = {"optimizer": "momentum", "settings": "validated", "checkpoint": tmp_path}
    on_ranks(2, lambda ranks: train(ranks, callbacks=[Counter(), Stop(7)], **case))
    counters = [Counter(), Counter()]
    found, _ = on_ranks(after, lambda ranks: train(ranks, callbacks=[counters[ranks.rank]], resume=True, **case))
    assert counters[0].count == len(found[0][1]) == 5


def test_checkpoint_does_not_know_how_many_ranks_wrote_it(tmp_path):
    written = []
    for n in (1, 3):
        on_ranks(n, lambda ranks, n=n: train(ranks, checkpoint=tmp_path / str(n), shard_optimizer=True, epochs=1))
        folder = tmp_path / str(n) / "last"
        written.append({file.name: file.stat().st_size for file in folder.iterdir()})
        assert not {"rank", "ranks", "size", "communicator"} & {*(folder / "state.json").read_text().split('"')}
    assert written[0]["optimizer.safetensors"] == written[1]["optimizer.safetensors"]
    assert written[0].keys() == written[1].keys()


def test_first_rank_alone_writes_and_its_failure_is_everybodys(tmp_path):
    (tmp_path / "file").write_text("no folder")
    errors = []

    def work(ranks):
        try:
            small(ranks, checkpoint=tmp_path / "file" / "checkpoint")
        except (CheckpointError, OSError) as error:
            errors.append((ranks.rank, str(error)))

    on_ranks(3, work)
    assert sorted(rank for rank, _ in errors) == [0, 1, 2]
    assert sum("rank 0 could not write" in text for _, text in errors) == 2


def team_of(ranks, **more):
    network = Network(5, NETWORKS["dense"], "numpy", "float64", seed=3)
    return team.Team(DataParallel(ranks, **more), network, Adam(), False)


def test_checkpoint_that_takes_longer_than_ranks_wait_for_each_other_is_waited_for(monkeypatch):
    monkeypatch.setattr(writing, "BEAT", 0.1)
    written = []

    def slow():
        time.sleep(2.5)
        written.append(1)

    def work(ranks):
        team_of(ranks).alone(slow)
        assert written == [1]

    on_ranks(2, work, limit=1)


def test_checkpoint_that_is_never_written_fails_on_every_rank(monkeypatch):
    monkeypatch.setattr(writing, "BEAT", 0.01)
    errors = []

    def work(ranks):
        with pytest.raises(CheckpointError) as caught: team_of(ranks, checkpoint_limit=0.1).alone(lambda: time.sleep(2))
        errors.append(str(caught.value))

    on_ranks(2, work)
    others, first = sorted(errors)
    assert others == "rank 0 could not write the checkpoint; its own error says why"
    assert first == "the checkpoint was not on the disk after 0.1 s; checkpoint_limit of DataParallel allows more"


def test_best_network_is_written_with_the_average_gathered_from_all_pieces(tmp_path):
    on_ranks(3, lambda ranks: train(ranks, checkpoint=tmp_path / "n", shard_optimizer=True, **BEGUN))
    train(checkpoint=tmp_path / "1", **BEGUN)
    found, wanted = (load(tmp_path / name / "best", "numpy").params.to_host() for name in ("n", "1"))
    for name in wanted:
        np.testing.assert_allclose(found[name], wanted[name], rtol=1e-11, atol=1e-13)


# ---------------------------------------------------------------------- what all decide alike


def test_signal_heard_by_one_rank_stops_all_after_the_same_step():
    seen = [Seen() for _ in range(3)]
    found, _ = on_ranks(3, lambda ranks: small(ranks, callbacks=[seen[ranks.rank], *[Stop(5)][: ranks.rank == 2]]))
    assert {history.interrupted for _, history in found} == {signal.SIGTERM}
    assert [len(one.steps) for one in seen] == [6, 6, 6]                             # told with the losses of the next step


def test_callbacks_see_one_history_and_those_of_the_first_rank_are_called_there_only():
    first, every = [First() for _ in range(3)], [Seen() for _ in range(3)]
    found, _ = on_ranks(3, lambda ranks: small(
        ranks, callbacks=[first[ranks.rank], every[ranks.rank]], validation=0.3, metrics=["accuracy", "f1_macro"],
        schedule=ReduceOnPlateau(0.5, patience=0, min_delta=1.0), epochs=6))  # fmt: skip
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


# ---------------------------------------------------------------------- BatchNorm


def test_local_batch_norm_keeps_one_set_of_running_statistics_and_asks_the_others_less():
    def work(ranks, mode):
        network, history = small(DataParallel(ranks, batch_norm=mode), layers="batch_norm", batch_size=24)
        return network.params.to_host(), history.rows[-1]["loss"]

    (here, *others), calls = on_ranks(3, lambda ranks: work(ranks, "local"))
    (there, *_), more = on_ranks(3, lambda ranks: work(ranks, "global"))
    for numbers, loss in others:
        assert loss == here[1]
        assert all((numbers[name] == here[0][name]).all() for name in numbers)
    assert len(calls) < len(more) and abs(here[1] - there[1]) > 1e-6


@pytest.mark.parametrize("shard", [False, True])
def test_average_of_local_statistics_is_the_same_on_every_rank(shard):
    def work(ranks):
        network = Network(5, NETWORKS["batch_norm"], "numpy", "float64", seed=3)
        fit(network, LOSSES["softmax"][0], SGD(0.05, ema=0.9), (X, LABELS), batch_size=24, epochs=2, verbose=0,
            communicator=DataParallel(ranks, batch_norm="local"), shard_optimizer=shard)             # fmt: skip
        return network.params.state

    found, _ = on_ranks(3, work)
    assert (found[0] == found[1]).all() and (found[0] == found[2]).all()


def test_rank_without_rows_takes_part_in_the_statistics_of_the_others():
    (found, *_), _ = on_ranks(4, lambda ranks: small(ranks, layers="batch_norm", batch_size=3, epochs=1, lr=1e-4))
    wanted, _ = small(None, layers="batch_norm", batch_size=3, epochs=1, lr=1e-4)
    for name, value in wanted.params.to_host().items():
        np.testing.assert_allclose(found[0].params.to_host()[name], value, rtol=1e-10, atol=1e-12, err_msg=name)


# ---------------------------------------------------------------------- 16 bits


@pytest.mark.parametrize("shard", [False, True])
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_training_agrees_as_far_as_its_numbers_go(dtype, shard):
    wanted, reference = train(network="dropout", optimizer="clipped", dtype=dtype)
    for numbers, history in on_ranks(3, lambda ranks: train(
        ranks, network="dropout", optimizer="clipped", dtype=dtype, shard_optimizer=shard))[0]:      # fmt: skip
        np.testing.assert_allclose(history["loss"], reference["loss"], rtol=2e-3)
        for name, value in wanted.items():
            assert np.abs(numbers[name] - value).max() <= 2e-2 * max(np.abs(value).max(), 1e-2), name


@pytest.mark.parametrize("shard", [False, True])
def test_overflow_of_one_rank_skips_the_update_on_all(shard):
    def work(ranks):
        network = Network(5, NETWORKS["dense"], "numpy", "float16", seed=3)
        before = network.params.theta.copy()
        network.params.loss_scale[0] = 2.0**24
        x = X.copy()
        x[0] = 6e4                                                               # the first row alone overflows
        fit(network, LOSSES["mse"][0], Adam(1e-2), (x, cases.NUMBERS * 1e3), batch_size=53, epochs=1, verbose=0,
            shuffle=False, communicator=ranks, shard_optimizer=shard)                                # fmt: skip
        return (network.params.theta == before).all(), network.params.loss_scale[0], int(network.params.step[0])

    found, _ = on_ranks(3, work)
    assert found == [(True, 2.0**23, 0)] * 3


# ---------------------------------------------------------------------- ranks that differ


def ulp_up(network):
    network.params.theta[0] = np.nextafter(network.params.theta[0], 1)


@pytest.mark.parametrize(("what", "settings"), [
    ("the parameters", {"start": ulp_up}), ("optimizer", {"lr": 2e-2}), ("batch_size", {"batch_size": 15}),
    ("seed", {"seed": 1}), ("the architecture", {"layers": "dropout"}), ("epochs", {"epochs": 4}),
    ("shuffle", {"shuffle": False}), ("the metrics", {"metrics": ["accuracy"]}),
    ("the callbacks", {"checkpoint": "never-written"}), ("the callbacks", {"early_stopping": 1}),
], ids=lambda value: value if isinstance(value, str) else "")                                        # fmt: skip
def test_rank_that_differs_is_named_on_every_rank(what, settings):
    def work(ranks):
        with pytest.raises(DivergedRanksError, match=f"{what}: rank 1 differs from ranks 0 and 2"):
            small(ranks, **(settings if ranks.rank == 1 else {}))

    on_ranks(3, work)


def test_rank_of_another_version_is_named_though_it_compares_other_things(monkeypatch):
    versions = threading.local()
    monkeypatch.setattr(team, "__version__", type("Version", (), {"__repr__": lambda self: versions.mine})())
    real = training.settings
    monkeypatch.setattr(training, "settings", lambda run: real(run) | {"something new": 1} if run.team.rank else real(run))

    def work(ranks):
        versions.mine = f"0.{ranks.rank}"
        with pytest.raises(DivergedRanksError, match="the package's version: rank 1 differs from rank 0; what is compared"):
            small(ranks)

    on_ranks(2, work)


def test_address_of_a_function_is_no_difference():
    def made(k): return lambda x: k * x

    first, second = made(1), made(2)
    assert repr(first) != repr(second) and checksum((first, 1)) == checksum((second, 1)) != checksum((first, 2))


def test_ranks_that_drift_apart_are_noticed_within_check_every_steps():
    class Drift(Callback):
        def after_step(self, run):
            if run.steps_done == 4 and run.team.rank == 0: ulp_up(run.network)

    def work(ranks):
        seen = Seen()
        with pytest.raises(DivergedRanksError, match=r"the parameters: rank 1 differs from rank 0\. Unlike processors"):
            small(DataParallel(ranks, check_every=5), callbacks=[Drift(), seen])
        return seen.steps

    assert on_ranks(2, work)[0] == [[1, 2, 3, 4]] * 2                                # raised within the fifth


def test_every_item_that_differs_is_named_with_the_ranks_that_are_not_like_most():
    def work(ranks):
        items = {"version": "0.1.0" if ranks.rank < 2 else "0.2.0", "rows": 53, "dtype": ranks.rank}
        with pytest.raises(DivergedRanksError) as caught: require_agreement(ranks, items)
        return str(caught.value)

    sentence = "version: rank 2 differs from ranks 0 and 1; dtype: ranks 1 and 2 differ from rank 0"
    assert on_ranks(3, work)[0] == [f"the ranks are not in the same training: {sentence}"] * 3


# ---------------------------------------------------------------------- one process


def test_communicator_of_one_process_changes_no_bit():
    for name in ("dropout", "batch_norm"):
        wanted, _ = train(network=name)
        found, _ = train(Single(), network=name, shard_optimizer=True)
        assert all((found[key] == wanted[key]).all() for key in wanted)


def test_what_is_no_communicator_is_refused_before_anything_happens():
    with pytest.raises(ConfigurationError, match="communicator must be what"): small("mpi")
    with pytest.raises(ConfigurationError, match="'global' or 'local', not 'none'"): DataParallel(Single(), "none")
    with pytest.raises(ConfigurationError, match="check_every must be"): DataParallel(Single(), check_every=0)


@pytest.mark.parametrize(("used", "fits"), [("cupy", False), ("cupy:1", True), ("numpy", True)])
def test_network_on_the_gpu_of_another_rank_is_refused(used, fits):
    ranks = ThreadRank(Exchange(2), 1)
    ranks.device = "cupy:1"
    network = Network(5, NETWORKS["dense"], "numpy", seed=3)
    network.backend.name = used                                                      # a backend of this network alone
    if fits:
        team.Team(DataParallel(ranks), network, Adam(), False)
        return
    with pytest.raises(ConfigurationError, match="rank 1 computes on cupy, and the rank's GPU is cupy:1"):
        team.Team(DataParallel(ranks), network, Adam(), False)


def test_sharded_optimizer_keeps_a_part_of_the_moments():
    lengths = []

    class Look(Callback):
        def start(self, run):
            lengths.append(len(run.optimizer.state(run.team.params).m))

    on_ranks(3, lambda ranks: small(ranks, callbacks=[Look()], shard_optimizer=True))
    whole = len(small(None)[0].params.theta)
    assert sum(lengths) == whole and max(lengths) < whole / 2


@pytest.mark.parametrize("first", [False, True])
def test_training_with_a_sharded_optimizer_goes_on_from_the_moments_of_the_one_before(first):
    def twice(ranks, *shards):
        network, rule = Network(5, NETWORKS["dense"], "numpy", "float64", seed=3), Adam(1e-2, ema=0.9)
        for shard in shards:
            fit(network, LOSSES["softmax"][0], rule, (X, LABELS), batch_size=16, epochs=2, verbose=0, communicator=ranks,
                shard_optimizer=shard)                                                               # fmt: skip
        assert rule not in network.params.optimizer_states or ranks is None          # no memory for what is shared out
        return network.params.theta

    wanted = twice(None, False, False)
    for found in on_ranks(3, lambda ranks: twice(ranks, first, True))[0]:
        np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-14)
