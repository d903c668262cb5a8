"""Axes hold their numbers, and their ticks are few, round and inside."""

import math

import numpy as np
import pytest

from ffnn_gpu.report.axes import Axis, short_number

SPANS = [
    (0, 1),
    (-3, 7),
    (0.1, 0.1),
    (0, 0),
    (1e-9, 2e-9),
    (1e300, 1.7e308),
    (-1.7e308, 1.7e308),
    (99, 101),
    (1, 1000),
]


@pytest.mark.parametrize("ends", SPANS)
@pytest.mark.parametrize("may_be_log", [False, True])
def test_numbers_and_ticks_lie_on_the_axis(ends, may_be_log):
    axis = Axis.around("x", [*ends, math.nan, math.inf], may_be_log)
    places = [axis.place(number) for number in ends]
    assert all(-1e-9 <= place <= 1 + 1e-9 for place in places)
    ticks = axis.ticks()
    assert 1 <= len(ticks) <= 7 and ticks == sorted(ticks)
    assert all(-1e-9 <= axis.place(tick) <= 1 + 1e-9 for tick in ticks)


def test_ticks_are_round():
    assert np.allclose(Axis("x", 0.03, 0.97).ticks(), [0.2, 0.4, 0.6, 0.8])
    assert Axis("x", 0, 30).ticks() == [0, 5, 10, 15, 20, 25, 30]
    assert Axis("x", 0.004, 200, is_log=True).ticks() == pytest.approx([0.01, 0.1, 1, 10, 100])


def test_axis_of_integers_has_ticks_at_integers_only():
    assert Axis("epoch", 0.95, 1.05, is_whole=True).ticks() == [1]
    assert Axis("epoch", 0.9, 3.1, is_whole=True).ticks() == [1, 2, 3]
    assert Axis("epoch", 0, 31, is_whole=True).ticks() == [0, 10, 20, 30]


def test_axis_is_logarithmic_only_for_positive_numbers_of_several_sizes():
    assert Axis.around("x", [1, 31], True).is_log and not Axis.around("x", [1, 29], True).is_log
    assert not Axis.around("x", [0, 31], True).is_log and not Axis.around("x", [1, 31]).is_log
    assert Axis("x", 1, 100, is_log=True).place(10) == pytest.approx(0.5)


def test_nothing_finite_gives_an_axis_all_the_same():
    axis = Axis.around("x", [math.nan])
    assert axis.low < 0.0 < 1.0 < axis.high


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0.0, "0"), (-0.0, "0"), (0.1 + 0.2, "0.3"), (-2.5, "−2.5"), (3000, "3000"), (20_000, "20k"),
        (1_500_000, "1.5M"), (-2e9, "−2G"), (2e-5, "2e−05"), (1e20, "1e20"),
    ],
)  # fmt: skip
def test_short_numbers(number, text):
    assert short_number(number) == text
