"""The loss of an epoch is the weighted mean of its steps; a loss that is not finite raises an error."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from ffnn_gpu.backends.choice import Backend
from ffnn_gpu.errors import DivergedError
from ffnn_gpu.optim.optimizers import SGD
from ffnn_gpu.training.loss_meter import Meter


def run_of(steps):
    data = SimpleNamespace(steps=steps)
    return SimpleNamespace(epoch=0, position=0, loss_sum=0.0, weight_sum=0.0, data=data, optimizer=SGD(0.5))


def slow_reader(steps):
    """Return a backend that reads losses only every `steps` steps, like a GPU backend."""
    backend = Backend()
    backend.steps_between_reads = steps
    return backend


def feed(meter, run, losses, weights, then=lambda run: None):
    """Pass the losses to the meter in launches of `meter.most` steps."""
    for start in range(0, len(losses), meter.most):
        launch = slice(start, start + meter.most)
        for j, (value, weight) in enumerate(zip(losses[launch], weights[launch], strict=True)):
            meter.store(j, value, np.array(weight))
        k = len(losses[launch])
        run.position += k
        meter.add(k, np.array(0), run)
    then(run)


LAUNCHES = [(1, 1), (3, 1), (64, 1), (1, 4), (3, 2), (64, 16)]  # steps between reads, steps of a launch


@pytest.mark.parametrize(("steps", "most"), LAUNCHES)
def test_mean_of_an_epoch_is_weighted_by_samples(steps, most):
    meter, run = Meter(slow_reader(steps), most), run_of(4)
    feed(meter, run, [1.0, 2.0, 4.0, 8.0], [10, 10, 10, 2])
    assert meter.mean(run) == (10 + 20 + 40 + 16) / 32
    feed(meter, run, [3.0], [5])
    assert meter.mean(run) == 3.0


def test_losses_are_read_when_the_next_launch_may_not_fit():
    for steps, most, waiting in ((1, 1, [0] * 4), (3, 1, [1, 2, 0, 1]), (5, 2, [2, 0, 2, 0])):
        meter, run, found = Meter(slow_reader(steps), most), run_of(20), []
        for _ in range(4):
            feed(meter, run, [1.0] * most, [1] * most)
            found.append(meter.pending)
        assert found == waiting


def test_mean_of_no_weight_is_zero():
    meter, run = Meter(Backend(), 1), run_of(1)
    feed(meter, run, [0.0], [0.0])
    assert meter.mean(run) == 0.0


def test_scalar_weight_applies_to_every_step_of_the_launch():
    meter, run = Meter(slow_reader(64), 4), run_of(3)
    for j, value in enumerate([1.0, 2.0]):
        meter.store(j, value, 10)
    meter.add(2, 10, run)
    meter.store(0, 8.0, 4)
    meter.add(1, 4, run)
    assert meter.mean(run) == (10 + 20 + 32) / 24


@pytest.mark.parametrize(("steps", "most"), LAUNCHES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_loss_that_is_not_finite_is_reported_with_its_step_even_if_read_later(steps, most, bad):
    meter, run = Meter(slow_reader(steps), most), run_of(10)
    run.epoch = 2
    with pytest.raises(DivergedError, match=rf"loss is {bad} at step 24 \(epoch 3, minibatch 4 of 10\)"):
        feed(meter, run, [1.0, 1.0, 1.0, bad, math.nan, 1.0], [1] * 6, then=meter.flush)
