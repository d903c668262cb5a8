import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from ffnn_gpu.estimators.tabular.calibration import half_width, ordered, temperature

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(3000, 3)) * 2
P = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
Y = np.array([RNG.choice(3, p=p) for p in P])


def log_loss(factor):
    """Return the log loss of the logits `factor` Z, as a function of the temperature."""

    def at(T):
        z = factor * Z / T
        return float(np.mean(np.log(np.exp(z).sum(axis=1)) - z[np.arange(3000), Y]))

    return at


@pytest.mark.parametrize("factor", [0.6, 1.0, 1.8])
def test_temperature_is_the_minimum_that_scipy_finds(factor):
    wanted = minimize_scalar(log_loss(factor), bounds=(0.5, 2), method="bounded").x
    assert temperature(log_loss(factor)) == pytest.approx(wanted, rel=2e-3)


def test_temperature_of_logits_that_are_too_large_undoes_their_factor():
    assert temperature(log_loss(1.8)) == pytest.approx(1.8, rel=0.08)


def test_temperature_stays_in_its_bounds():
    assert temperature(log_loss(9.0)) == pytest.approx(2.0, rel=2e-3)
    assert temperature(lambda T: 1.0) == 1.0  # nothing is better than 1


@pytest.mark.parametrize("coverage", [0.5, 0.9])
def test_interval_holds_as_often_as_it_promises(coverage):
    held = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        errors = rng.standard_t(3, size=(50, 1))
        held += abs(rng.standard_t(3)) <= half_width(ordered(errors), coverage)[0]
    # Lei et al.: between coverage and coverage + 1/51; four standard errors of 400 tries
    sigma = np.sqrt(coverage * (1 - coverage) / 400)
    assert coverage - 4 * sigma < held / 400 < coverage + 1 / 51 + 4 * sigma


def test_half_width_is_the_conformal_quantile():
    residuals = np.arange(1.0, 100.0)[:, None]  # 99 of them
    assert half_width(residuals, 0.9)[0] == 90
    assert half_width(residuals, 0.995)[0] == np.inf
    assert half_width(residuals, 0.55)[0] == 55  # 100 · 0.55 is 55.00000000000001


@pytest.mark.parametrize("n", [60, 30_000])
def test_a_residual_of_weight_2_counts_as_two(n):
    errors, weight = RNG.normal(size=(n, 2)), RNG.integers(0, 3, n)
    got, want = ordered(errors, weight.astype(float)), ordered(np.repeat(errors, weight, axis=0))
    for q in (0.1, 0.5, 0.9):
        np.testing.assert_allclose(
            half_width(got, q), half_width(want, q), atol=4 * np.abs(errors).max() / min(n, 2000)
        )
    np.testing.assert_array_equal(ordered(errors, np.full(n, 0.5))[-1], np.abs(errors).max(axis=0))


def test_every_residual_is_kept_so_that_high_coverages_have_finite_intervals():
    errors = RNG.normal(size=(30_000, 2))
    wanted = np.sort(np.abs(errors), axis=0)
    for given in (ordered(errors), ordered(errors, np.full(30_000, 0.3))):
        np.testing.assert_array_equal(given, wanted)
        np.testing.assert_array_equal(half_width(given, 0.9999), wanted[29_997])
        assert half_width(given, 0.99999)[0] == np.inf  # it needs 99,999 rows
