"""Durations are read as people write them."""

import math

import pytest

from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.durations import seconds_of

TIMES = {
    90: 90, 0.5: 0.5, "90": 90, "90s": 90, "1.5s": 1.5, "10m": 600, "1h": 3600, "1h30m": 5400, "1.5h": 5400,
    "2h 5m 3s": 7503, "10M": 600, " 4s ": 4,
}  # fmt: skip
NO_TIMES = ["", "m", "10x", "1m1h", "1.2.3s", "-5", "0", 0, -1, math.inf, math.nan, True, [3], "10 minutes"]


@pytest.mark.parametrize("given", TIMES)
def test_time_is_read_in_seconds(given):
    assert seconds_of(given) == TIMES[given]


@pytest.mark.parametrize("given", NO_TIMES, ids=repr)
def test_what_is_no_time_is_refused(given):
    with pytest.raises(
        ConfigurationError, match=r"time_limit = .* is not accepted: give seconds or a time such as"
    ):
        seconds_of(given, "time_limit")
