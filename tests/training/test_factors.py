"""Dropout and weight decay that follow a schedule over a training run."""

from dataclasses import dataclass

import numpy as np
import pytest

from ffnn_gpu import SGD, fit, mean_squared_error, train_step
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.layers import Dense, Dropout
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.schedules import Cosine, FlatCosine, Schedule, get_schedule
from ffnn_gpu.testing import assert_close, tolerance
from ffnn_gpu.training.callbacks import Callback

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(20, 3)), RNG.normal(size=(20, 2))
EPOCHS, STEPS = 3, 12  # batches of 5 rows
FLAT, COSLOG = FlatCosine(), get_schedule("coslog4")


class Reads(Callback):
    """Reads the factors of each step after it."""

    def start(self, run):
        self.seen = []

    def after_step(self, run):
        params = run.network.params
        found = {schedule: float(value[0]) for schedule, value in params.factors.items()}
        self.seen.append((found, float(run.optimizer.state(params).scalars[1])))


def made(backend, dtype="float64"):
    return Network(3, [Dropout(0.5, "flat_cos"), Dense(2)], backend, dtype, seed=1)


def settings(**more):
    return {"epochs": EPOCHS, "batch_size": 5, "shuffle": False, "verbose": 0} | more


def test_every_step_reads_the_factors_of_its_schedules_and_they_are_1_afterwards(backend):
    network, reads = made(backend), Reads()
    rule = SGD(0.1, weight_decay=0.5, decay_schedule="coslog4")
    fit(network, mean_squared_error, rule, (X, Y), callbacks=reads, schedule=Cosine(), **settings())
    for t, (factors, lr) in enumerate(reads.seen):
        assert factors == {FLAT: FLAT(t, STEPS), COSLOG: COSLOG(t, STEPS)}
        assert lr == 0.1 * Cosine()(t, STEPS)
    assert len(reads.seen) == STEPS
    assert [float(value[0]) for value in network.params.factors.values()] == [1, 1]


def test_fit_equals_steps_whose_rate_of_dropout_and_decay_are_set_by_hand(backend, dtype):
    network, by_hand = made(backend, dtype), made(backend, dtype)
    rule = SGD(0.1, weight_decay=0.5, decay_schedule="coslog4")
    fit(network, mean_squared_error, rule, (X, Y), seed=1, **settings())
    params, ws = by_hand.params, by_hand.workspace(5)
    for t in range(STEPS):
        backend.write(params.factor(FLAT), 0, FLAT(t, STEPS))
        own, rows = SGD(0.1, weight_decay=0.5 * COSLOG(t, STEPS)), slice(5 * (t % 4), 5 * (t % 4) + 5)
        x, y = (backend.asarray(part[rows], dtype) for part in (X, Y))
        train_step(by_hand, mean_squared_error, own, x, y, ws)
    for name, value in params.to_host().items():
        assert_close(network.params.to_host()[name], value, STEPS * tolerance("network", dtype), name)
    assert any(COSLOG(t, STEPS) > 0.9 for t in range(STEPS))


def test_decay_follows_its_schedule_and_not_the_penalties(backend, dtype):
    network = Network(3, [Dense(2)], backend, dtype)
    before = network.params.to_host()["0.W"].astype(np.float64)
    rule = SGD(0.5, weight_decay=0.25, l2=0.125, decay_schedule="flat_cos")
    backend.write(network.params.factor(FLAT), 0, 0.5)
    rule.step(network.params)  # the gradient is 0
    want = before * (1 - 0.5 * 0.25 * 0.5) - 0.5 * 0.125 * before
    assert_close(network.params.to_host()["0.W"], want, tolerance("network", dtype), "W")


@dataclass(frozen=True)
class TooLarge(Schedule):
    def __call__(self, step, total):
        return 1.0 + (step == 2) / 4


def test_factor_above_1_raises_and_leaves_1_behind():
    network = Network(3, [Dropout(0.5, TooLarge()), Dense(2)], "numpy")
    with pytest.raises(
        ConfigurationError, match=r"TooLarge\(\) returned 1.25; a factor of dropout or weight"
    ):
        fit(network, mean_squared_error, SGD(0.1), (X, Y), **settings())
    assert float(network.params.factor(TooLarge())[0]) == 1


def test_unknown_decay_schedule_raises():
    with pytest.raises(ConfigurationError, match="no schedule is called 'x'; there are constant"):
        SGD(decay_schedule="x")


class Another(Callback):
    """Uses a schedule that the run does not."""

    def after_step(self, run):
        run.network.params.factor(Cosine())


def test_schedule_that_comes_up_during_a_run_stays_at_1(backend):
    network = made(backend)
    fit(network, mean_squared_error, SGD(0.1), (X, Y), callbacks=Another(), **settings())
    assert [float(value[0]) for value in network.params.factors.values()] == [1, 1]
