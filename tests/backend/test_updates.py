"""The update rules as operations on vectors; whole trajectories stand in tests/test_optimizers.py."""

import numpy as np
import pytest

from ffnn_gpu.testing import assert_close, tolerance

RULES = {  # name → (vectors it keeps, settings)
    "sgd": (("velocity",), {"momentum": 0.9, "nesterov": False}),
    "rmsprop": (("v", "velocity"), {"rho": 0.9, "eps": 1e-8, "momentum": 0.5}),
    "adagrad": (("v",), {"eps": 1e-10}),
    "adam": (("m", "v"), {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}),
    "nadam": (("m", "v"), {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "psi": 4e-3}),
    "lion": (("m",), {"beta1": 0.9, "beta2": 0.99}),
}


def vectors(backend, dtype, *values):
    return [backend.asarray(np.array(value, dtype)) for value in values]


def apply(backend, rule, theta, grad, dtype, steps=1):
    kept, settings = RULES[rule]
    scalars = backend.asarray(np.array([0, 0.1, 1.0]))
    theta, grad = vectors(backend, dtype, theta, grad)
    state = {name: backend.zeros(theta.shape, dtype) for name in kept}
    step = backend.zeros((1,), np.int64)
    for _ in range(steps):
        backend.advance(scalars, step)
        if rule == "nadam": backend.advance_product(scalars, settings["beta1"], settings["psi"])
        getattr(backend, rule)(theta, grad, *state.values(), scalars, *settings.values())
    return theta, scalars, state


@pytest.mark.parametrize("rule", RULES)
def test_rule_counts_steps_keeps_dtype_and_leaves_padding_zero(backend, dtype, rule):
    theta, scalars, state = apply(backend, rule, [1, -2, 0, 0], [0.5, 3, 0, 0], dtype, steps=3)
    assert float(scalars[0]) == 3 and float(scalars[1]) == 0.1
    assert theta.dtype == dtype and scalars.dtype == np.float64
    for vector in (theta, *state.values()):
        assert vector.dtype == dtype
        assert backend.to_host(vector)[2:].tolist() == [0, 0]


@pytest.mark.parametrize("rule", RULES)
def test_rule_accepts_its_arguments_by_name(backend, dtype, rule):
    """An override has the reference's signature, so it can be called like the reference."""
    kept, settings = RULES[rule]
    theta, grad, *state = vectors(backend, dtype, *[[1.0, 2.0]] * (2 + len(kept)))
    scalars = backend.asarray(np.array([1, 0.1, 0.9]))
    getattr(backend, rule)(theta=theta, grad=grad, scalars=scalars, **dict(zip(kept, state, strict=True)), **settings)


@pytest.mark.parametrize("rule", RULES)
def test_rule_treats_every_element_alike_in_long_vectors(backend, dtype, rule):
    """50,001 elements are more than one block of a blockwise override, and not a multiple of it."""
    theta, grad = np.random.default_rng(0).normal(size=(2, 50_001))
    whole, _, _ = apply(backend, rule, theta, grad, dtype, steps=2)
    few = [0, 16_383, 16_384, 32_768, 50_000]
    part, _, _ = apply(backend, rule, theta[few], grad[few], dtype, steps=2)
    np.testing.assert_array_equal(backend.to_host(whole)[few], backend.to_host(part))


def test_advance_counts_both_the_rule_s_and_the_parameters_steps(backend):
    scalars, step = backend.asarray(np.array([4, 0.1, 1.0])), backend.zeros((1,), np.int64)
    backend.advance(scalars, step)
    assert [float(scalars[0]), int(step[0])] == [5, 1]


@pytest.mark.parametrize("rule", ["sgd", "rmsprop", "adagrad", "adam", "lion"])
def test_first_step_is_the_rules_closed_form(backend, dtype, rule):
    theta, grad = np.array([1.0, -2.0, 0.25]), np.array([0.5, -3.0, 1e-3])
    first = {  # all moments start at 0, η = 0.1
        "sgd": grad,
        "rmsprop": grad / (np.sqrt(0.1 * grad**2) + 1e-8),
        "adagrad": grad / (np.abs(grad) + 1e-10),
        "adam": np.sign(grad) / (1 + 1e-8 / np.abs(grad)),
        "lion": np.sign(grad),
    }[rule]
    got, _, _ = apply(backend, rule, theta, grad, dtype)
    want = np.array(theta, dtype) - 0.1 * first
    # √(1 − 0.999) is √ of a float32 rounding of v = 0.001 g²: a handful of eps on the step, none on θ
    assert_close(backend.to_host(got), want, tolerance("network", dtype), rule, scale=np.abs(theta) + 0.1 * np.abs(first))


def test_nesterov_looks_one_momentum_ahead(backend, dtype):
    theta, grad, velocity = vectors(backend, dtype, [0, 0], [2, -4], [1, 1])
    backend.sgd(theta, grad, velocity, backend.asarray(np.array([1, 0.5, 1])), 0.5, True)
    # v = 0.5·(1, 1) + (2, −4) = (2.5, −3.5); θ = −0.5 (g + 0.5 v) = −0.5 (3.25, −5.75)
    assert backend.to_host(velocity).tolist() == [2.5, -3.5]
    assert backend.to_host(theta).tolist() == [-1.625, 2.875]


def test_clip_by_value_bounds_every_element(backend, dtype):
    (grad,) = vectors(backend, dtype, [-3, -0.5, 0, 0.5, 3])
    backend.clip_by_value(grad, 0.5)
    assert backend.to_host(grad).tolist() == [-0.5, -0.5, 0, 0.5, 0.5]


def test_clip_by_norm_shortens_long_and_leaves_short_vectors(backend, dtype):
    long, short = vectors(backend, dtype, [3, 4, 0], [0.3, 0.4, 0])
    backend.clip_by_norm(long, 1.0)
    backend.clip_by_norm(short, 1.0)
    assert_close(backend.to_host(long), np.array([0.6, 0.8, 0]), tolerance("product", dtype, K=3), "clipped")
    np.testing.assert_array_equal(backend.to_host(short), np.array([0.3, 0.4, 0], dtype))


def test_clip_by_norm_of_zero_and_of_huge_gradients_is_finite(backend, dtype):
    zero, huge = vectors(backend, dtype, [0, 0], [3e30, 4e30])  # ‖huge‖² is beyond float32
    with np.errstate(all="raise"):
        backend.clip_by_norm(zero, 1.0)
        backend.clip_by_norm(huge, 1.0)
    assert backend.to_host(zero).tolist() == [0, 0]
    assert_close(backend.to_host(huge), np.array([0.6, 0.8]), tolerance("product", dtype), "clipped")


def test_penalties_add_their_gradients(backend, dtype):
    theta, grad = vectors(backend, dtype, [2, -4, 0], [1, 1, 1])
    backend.penalize(theta, grad, l2=0.5, l1=0.25)
    assert backend.to_host(grad).tolist() == [2.25, -1.25, 1]


def test_decay_shrinks_by_rate_times_learning_rate(backend, dtype):
    (theta,) = vectors(backend, dtype, [2, -4])
    backend.decay(theta, backend.asarray(np.array([0, 0.5, 1])), rate=0.25)
    assert backend.to_host(theta).tolist() == [1.75, -3.5]


def test_average_moves_by_one_minus_decay(backend, dtype):
    mean, values = vectors(backend, dtype, [0, 8], [4, 0])
    backend.average(mean, values, 0.75)
    assert backend.to_host(mean).tolist() == [1, 6]


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_silent_for_zero_tiny_and_huge_gradients(backend, dtype, rule):
    largest = 1e15  # its square is still a float32
    with np.errstate(all="raise"):
        theta, _, _ = apply(backend, rule, [1] * 4, [0, 1e-30, -largest, largest], dtype, steps=2)
    assert np.isfinite(backend.to_host(theta)).all()
