import itertools

import numpy as np
import pytest

from ffnn_gpu.estimators.tabular.selection import greedy

RNG = np.random.default_rng(0)
TRUTH = RNG.normal(size=400)


def error(p):
    return float(np.sqrt(np.mean((p - TRUTH) ** 2)))


def noisy(scale, seed):
    return TRUTH + scale * np.random.default_rng(seed).normal(size=400)


def test_unlike_candidates_of_equal_error_share_the_weight():
    weights = greedy({"a": noisy(1, 1), "b": noisy(1, 2)}, error)
    assert sum(weights.values()) == pytest.approx(1)
    assert weights["a"] == pytest.approx(0.5, abs=0.1)


def test_a_useless_candidate_gets_no_weight():
    assert greedy({"good": noisy(0.1, 1), "useless": noisy(5, 2)}, error) == {"good": 1.0}


def test_a_gain_below_the_margin_is_not_taken():
    candidates = {"a": noisy(1, 1), "b": noisy(1.2, 2)}
    gained = greedy(candidates, error, margin=0.0)
    assert set(gained) == {"a", "b"}
    assert greedy(candidates, error, margin=0.5) == {"a": 1.0}


def test_error_of_the_mean_is_at_most_that_of_the_best_candidate():
    candidates = {str(k): noisy(scale, k) for k, scale in enumerate((1.0, 1.2, 0.9, 2.0))}
    weights = greedy(candidates, error)
    mean = sum(w * candidates[name] for name, w in weights.items())
    assert error(mean) < min(map(error, candidates.values()))


def test_weights_are_close_to_the_best_of_a_grid():
    a, b = noisy(1.0, 1), noisy(1.5, 2)
    weights = greedy({"a": a, "b": b}, error, margin=0.0)
    found = error(weights["a"] * a + weights.get("b", 0) * b)
    best = min(error(w * a + (1 - w) * b) for w in np.linspace(0, 1, 101))
    assert found < 1.01 * best


def test_order_of_the_candidates_does_not_matter():
    candidates = {str(k): noisy(1 + 0.1 * k, k) for k in range(3)}
    every = {
        tuple(sorted(greedy(dict(order), error).items()))
        for order in itertools.permutations(candidates.items())
    }
    assert len(every) == 1


@pytest.mark.parametrize("shift", [0.0, -10.0])
def test_error_below_zero_falls_by_its_share_too(shift):
    """A metric of the caller may have any sign."""
    candidates = {"a": noisy(1, 1), "b": noisy(1, 2)}
    assert set(greedy(candidates, lambda p: error(p) + shift, margin=1e-3)) == {"a", "b"}
    assert greedy(candidates, lambda p: error(p) + shift, margin=0.5) == {"a": 1.0}
