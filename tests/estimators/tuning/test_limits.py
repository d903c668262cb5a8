"""Limits read trials and times as people write them."""

import pytest

from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.tuning.limits import Limits


def test_one_limit_is_enough_and_none_is_not():
    assert Limits.of(3, None) == Limits(3, None)
    assert Limits.of(None, "1m") == Limits(None, 60)
    with pytest.raises(ConfigurationError, match="a search needs an end: give trials"):
        Limits.of(None, None)
    for trials in (0, 2.5, True):
        with pytest.raises(ConfigurationError, match="trials must be a whole number of at least 1"):
            Limits.of(trials, None)
