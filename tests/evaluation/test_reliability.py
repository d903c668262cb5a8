"""Bins of probabilities agree with scikit-learn's calibration curve and with sums worked by hand."""

import numpy as np
import pytest

from ffnn_gpu.errors import ConfigurationError, DataError, ShapeError
from ffnn_gpu.evaluation.reliability import reliability

P = np.random.default_rng(0).beta(0.6, 0.9, 500)
EVENT = np.random.default_rng(1).uniform(size=500) < P**2


def test_bins_are_those_of_scikit_learn():
    calibration = pytest.importorskip("sklearn.calibration")
    observed, predicted = calibration.calibration_curve(EVENT, P, n_bins=10)
    found = reliability(P, EVENT)
    np.testing.assert_allclose(found.predicted, predicted, rtol=1e-12)
    np.testing.assert_allclose(found.observed, observed, rtol=1e-12)
    assert found.rows.sum() == 500


def test_error_is_the_distance_weighted_by_rows():
    """Three rows at 0.25 with one event, one at 0.85 with one: (3 |1/3 − 0.25| + |1 − 0.85|) / 4 = 0.1."""
    found = reliability([0.25, 0.25, 0.25, 0.85], [1, 0, 0, 1])
    assert found.rows.tolist() == [3, 1] and found.error == pytest.approx(0.1)


def test_certain_rows_are_in_the_first_and_the_last_bin():
    found = reliability([0.0, 1.0, 1.0], [0, 1, 1], bins=4)
    assert found.predicted.tolist() == [0, 1] and found.error == 0 and found.rows.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("p", "event", "message"),
    [
        ([], [], "p and event have no rows"),
        ([0.5, 1.2], [0, 1], r"probabilities from 0 to 1; it ranges from 0\.5 to 1\.2"),
        ([0.5, -0.1], [0, 1], r"it ranges from -0\.1 to 0\.5"),
        ([0.5, np.nan], [0, 1], "it ranges from nan to nan"),
        ([0.5, 0.5], [0, 2], r"event must hold 0 and 1; it ranges from 0\.0 to 2\.0"),
    ],
)
def test_numbers_that_are_no_probabilities_and_no_events_are_refused(p, event, message):
    with pytest.raises(DataError, match=message):
        reliability(p, event)
    with pytest.raises(ConfigurationError, match="bins must be a whole number of at least 1, not 0"):
        reliability([0.5], [1], bins=0)


def test_lengths_must_agree():
    with pytest.raises(ShapeError, match=r"p has shape \(2,\) and event \(1,\)"):
        reliability([0.5, 0.5], [1])
