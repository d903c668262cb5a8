"""Ranks that do not run the same training raise the same error on every rank."""

import threading

import numpy as np
import pytest

from ffnn_gpu import Callback
from ffnn_gpu.distributed.agreement import checksum, require_agreement
from ffnn_gpu.errors import DivergedRanksError
from ffnn_gpu.training import fit as training
from ffnn_gpu.training.data_parallel import DataParallel, team
from tests.distributed.threads import on_ranks
from tests.training.data_parallel.runs import Seen, small


def ulp_up(network):
    network.params.theta[0] = np.nextafter(network.params.theta[0], 1)


@pytest.mark.parametrize(
    ("what", "settings"),
    [
        ("the parameters", {"start": ulp_up}),
        ("optimizer", {"lr": 2e-2}),
        ("batch_size", {"batch_size": 15}),
        ("seed", {"seed": 1}),
        ("the architecture", {"layers": "dropout"}),
        ("epochs", {"epochs": 4}),
        ("shuffle", {"shuffle": False}),
        ("the metrics", {"metrics": ["accuracy"]}),
        ("the callbacks", {"checkpoint": "never-written"}),
        ("the callbacks", {"early_stopping": 1}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rank_that_differs_is_named_on_every_rank(what, settings):
    def work(ranks):
        with pytest.raises(DivergedRanksError, match=f"{what}: rank 1 differs from ranks 0 and 2"):
            small(ranks, **(settings if ranks.rank == 1 else {}))

    on_ranks(3, work)


def test_rank_of_another_version_is_named_even_if_it_compares_other_items(monkeypatch):
    versions = threading.local()
    monkeypatch.setattr(team, "__version__", type("Version", (), {"__repr__": lambda self: versions.mine})())
    real = training.settings
    monkeypatch.setattr(
        training, "settings", lambda run: real(run) | {"something new": 1} if run.team.rank else real(run)
    )

    def work(ranks):
        versions.mine = f"0.{ranks.rank}"
        with pytest.raises(
            DivergedRanksError, match="the package's version: rank 1 differs from rank 0; what is compared"
        ):
            small(ranks)

    on_ranks(2, work)


def test_checksum_ignores_the_address_of_a_function():
    def made(k):
        return lambda x: k * x

    first, second = made(1), made(2)
    assert repr(first) != repr(second) and checksum((first, 1)) == checksum((second, 1)) != checksum(
        (first, 2)
    )


def test_ranks_that_diverge_are_detected_within_check_every_steps():
    class Drift(Callback):
        def after_step(self, run):
            if run.steps_done == 4 and run.team.rank == 0:
                ulp_up(run.network)

    def work(ranks):
        seen = Seen()
        with pytest.raises(
            DivergedRanksError, match=r"the parameters: rank 1 differs from rank 0\. Different processors"
        ):
            small(DataParallel(ranks, check_every=5), callbacks=[Drift(), seen])
        return seen.steps

    assert on_ranks(2, work)[0] == [[1, 2, 3, 4]] * 2  # raised within the fifth


def test_error_names_every_differing_item_and_the_ranks_in_the_minority():
    def work(ranks):
        items = {"version": "0.1.0" if ranks.rank < 2 else "0.2.0", "rows": 53, "dtype": ranks.rank}
        with pytest.raises(DivergedRanksError) as caught:
            require_agreement(ranks, items)
        return str(caught.value)

    sentence = "version: rank 2 differs from ranks 0 and 1; dtype: ranks 1 and 2 differ from rank 0"
    assert on_ranks(3, work)[0] == [f"the ranks do not run the same training: {sentence}"] * 3
