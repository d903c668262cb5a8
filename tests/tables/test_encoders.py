"""The columns of numbers: scaling, long tails, and what older files hold."""

import numpy as np
import pytest

from ffnn_gpu.tables.encoders import END, NumberEncoder, restored

RNG = np.random.default_rng(0)
DELAYS = RNG.exponential(1, 5000) ** 3  # |u| up to several hundred


def test_column_without_a_long_tail_is_one_column():
    x = RNG.normal(size=5000)
    assert NumberEncoder.fit("x", x).outputs == ("x",)


@pytest.mark.parametrize("lacks", [False, True])
def test_long_tail_is_a_column_proportional_to_the_number(lacks):
    x = np.append(DELAYS, np.nan) if lacks else DELAYS
    encoder = NumberEncoder.fit("delay", x)
    assert encoder.outputs[-1] == "delay, its tail"
    u = (x - np.nanmedian(x)) / np.subtract(*np.nanpercentile(x, (75, 25)))
    tail = encoder.encode(x)[:, -1]
    inside = np.abs(u) < END
    assert np.nanmax(u) > 10 and inside.sum() > 4900
    np.testing.assert_allclose(tail[inside], encoder.tail * u[inside], rtol=1e-12)
    np.testing.assert_allclose(np.mean(tail[: len(DELAYS)] ** 2), 1, rtol=1e-12)


def test_missing_number_is_in_the_middle_of_the_tail():
    encoder = NumberEncoder.fit("delay", np.append(DELAYS, np.nan))
    assert encoder.encode(np.array([np.nan])).tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("wrong", [1e9, -1e300, 1.7e308])
def test_one_wrong_number_leaves_the_tail_bounded(wrong):
    x = np.append(RNG.normal(size=5000), wrong)
    encoder = NumberEncoder.fit("x", x)
    encoded = encoder.encode(x)
    assert np.isfinite(encoded).all()
    assert np.abs(encoded[:, 1]).max() <= END  # its factor is below 1: the mean square is
    assert np.abs(encoded[:-1, 1]).max() > 1, "the other rows still differ"


def test_encoder_saved_before_there_were_tails_encodes_as_then():
    saved = {"kind": "number", "name": "x", "center": 0.0, "factor": 1.0, "lacks": False}
    assert restored(saved).encode(np.array([1000.0])).shape == (1, 1)


def test_saved_encoder_keeps_its_tail():
    encoder = NumberEncoder.fit("delay", DELAYS)
    assert restored(encoder.to_json()) == encoder
    assert encoder.tail
