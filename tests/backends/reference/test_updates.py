"""Update rules on single vectors. tests/optim/test_optimizers.py tests whole trajectories."""

import numpy as np
import pytest

from ffnn_gpu.backends.reference.updates import Update
from ffnn_gpu.testing import assert_close, tolerance

RULES = {  # name → (state vectors, settings)
    "sgd": (("velocity",), {"momentum": 0.9, "nesterov": False}),
    "rmsprop": (("v", "velocity"), {"rho": 0.9, "eps": 1e-8, "momentum": 0.5}),
    "adagrad": (("v",), {"eps": 1e-10}),
    "adam": (("m", "v"), {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8}),
    "nadam": (("m", "v"), {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "psi": 4e-3}),
    "lion": (("m",), {"beta1": 0.9, "beta2": 0.99}),
}


def vectors(backend, dtype, *values):
    return [backend.asarray(np.array(value, dtype)) for value in values]


def apply(backend, rule, theta, grad, dtype, steps=1, control=None, **shared):
    state_names, settings = RULES[rule]
    scalars = backend.asarray(np.array([0, 0.1, 1.0]))
    state = {name: backend.zeros((len(theta),), dtype) for name in state_names}
    (theta,), step = vectors(backend, dtype, theta), backend.zeros((1,), np.int64)
    if control is not None:
        control = backend.asarray(np.array(control, np.float64))
    for _ in range(steps):
        backend.advance(scalars, step, control)
        if rule == "nadam":
            backend.advance_product(scalars, settings["beta1"], settings["psi"], control)
        update = Update(theta, *vectors(backend, dtype, grad), scalars, control=control, **shared)
        getattr(backend, rule)(update, *state.values(), *settings.values())
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
    """An override has the same parameter names as the reference."""
    state_names, settings = RULES[rule]
    theta, grad, *state = vectors(backend, dtype, *[[1.0, 2.0]] * (2 + len(state_names)))
    update = Update(theta=theta, grad=grad, scalars=backend.asarray(np.array([1, 0.1, 0.9])))
    getattr(backend, rule)(update=update, **dict(zip(state_names, state, strict=True)), **settings)


@pytest.mark.parametrize("rule", RULES)
def test_rule_treats_every_element_alike_in_long_vectors(backend, dtype, rule):
    """An override may work in blocks: 50,001 elements are several blocks and not a multiple of one."""
    theta, grad = np.random.default_rng(0).normal(size=(2, 50_001))
    whole, _, _ = apply(backend, rule, theta, grad, dtype, steps=2)
    few = [0, 16_383, 16_384, 32_768, 50_000]
    part, _, _ = apply(backend, rule, theta[few], grad[few], dtype, steps=2)
    np.testing.assert_array_equal(backend.to_host(whole)[few], backend.to_host(part))


def test_advance_counts_steps_of_the_rule_and_of_the_parameters(backend):
    scalars, step = backend.asarray(np.array([4, 0.1, 1.0])), backend.zeros((1,), np.int64)
    backend.advance(scalars, step, None)
    assert [float(scalars[0]), int(step[0])] == [5, 1]
    backend.advance(scalars, step, control=None, lr=backend.asarray(np.array([0.25])))
    assert [*map(float, scalars), int(step[0])] == [6, 0.25, 1, 2]


def test_nadam_momentum_warms_up_to_beta1(backend):
    for t, mu in ((0, 0.45), (250, 0.9 * (1 - 0.5 * 0.96)), (1e9, 0.9)):
        scalars = backend.asarray(np.array([t, 0.1, 0.5]))
        backend.advance_product(scalars, 0.9, 4e-3, None)
        assert float(scalars[2]) == pytest.approx(0.5 * mu, rel=1e-12)


def test_skipped_step_is_not_counted_but_sets_the_learning_rate(backend):
    scalars, step = backend.asarray(np.array([4, 0.1, 0.5])), backend.zeros((1,), np.int64)
    control = backend.asarray(np.array([0.0, 1.0]))
    backend.advance(scalars, step, control, backend.asarray(np.array([0.25])))
    backend.advance_product(scalars, 0.9, 4e-3, control)
    assert [*map(float, scalars), int(step[0])] == [4, 0.25, 0.5, 0]


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
    # v = 0.001 g² is rounded to float32, which changes the step by a few eps and θ by none.
    assert_close(
        backend.to_host(got),
        want,
        tolerance("network", dtype),
        rule,
        scale=np.abs(theta) + 0.1 * np.abs(first),
    )


def test_nesterov_step_adds_momentum_times_velocity_to_the_gradient(backend, dtype):
    theta, grad, velocity = vectors(backend, dtype, [0, 0], [2, -4], [1, 1])
    backend.sgd(Update(theta, grad, backend.asarray(np.array([1, 0.5, 1]))), velocity, 0.5, True)
    # v = 0.5·(1, 1) + (2, −4) = (2.5, −3.5); θ = −0.5 (g + 0.5 v) = −0.5 (3.25, −5.75)
    assert backend.to_host(velocity).tolist() == [2.5, -3.5]
    assert backend.to_host(theta).tolist() == [-1.625, 2.875]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n_decayed", [0, 3, 16_384, 20_000, 40_000])
def test_factor_penalties_and_decay_of_every_rule_equal_their_formulas(backend, dtype, rule, n_decayed):
    """Expected: g = c ∇θ + λ₂ W + λ₁ sign W and W ← W (1 − η λ), then the rule without extras."""
    theta, grad = np.random.default_rng(0).normal(size=(2, 40_000)).astype(dtype)
    theta[::5] = 0
    got, _, state = apply(
        backend,
        rule,
        theta,
        grad,
        dtype,
        control=[0.5, 0],
        n_decayed=n_decayed,
        l2=0.25,
        l1=0.125,
        weight_decay=0.5,
    )
    matrices, wide = np.arange(40_000) < n_decayed, theta.astype(np.float64)
    g = 0.5 * grad + matrices * (0.25 * wide + 0.125 * np.sign(wide))
    want, _, want_state = apply(backend, rule, np.where(matrices, wide * (1 - 0.1 * 0.5), wide), g, "float64")
    # The step is at most η/√(1 − ρ) = 0.32. For tiny g, the error of √v is as large as g.
    away = np.abs(g) > 1e-3
    assert_close(
        backend.to_host(got)[away],
        backend.to_host(want)[away],
        4 * tolerance("network", dtype),
        rule,
        scale=1,
    )
    for name, vector in state.items():
        found, wanted = backend.to_host(vector)[away], backend.to_host(want_state[name])[away]
        assert_close(found, wanted, tolerance("network", dtype), name, scale=1 + np.abs(wanted))


@pytest.mark.parametrize("rule", RULES)
def test_skipped_update_changes_nothing_and_raises_no_warning(backend, dtype, rule):
    state_names, _ = RULES[rule]
    with np.errstate(all="raise"):
        theta, scalars, state = apply(
            backend,
            rule,
            [1, -2, 3],
            [np.inf, np.nan, 1],
            dtype,
            control=[0, 1],
            n_decayed=2,
            l2=0.1,
            l1=0.1,
            weight_decay=0.1,
        )
    assert backend.to_host(theta).tolist() == [1, -2, 3]
    assert [backend.to_host(state[name]).tolist() for name in state_names] == [[0, 0, 0]] * len(state_names)
    assert [*map(float, scalars)] == [0, 0.1, 1]


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("n_decayed", [0, 20_000])
def test_16_bit_copy_of_theta_is_the_updated_theta_rounded(backend, rule, n_decayed):
    theta, grad = np.random.default_rng(0).normal(size=(2, 20_001))
    shadow = backend.asarray(np.full(20_001, np.nan, np.float16))
    theta, _, _ = apply(
        backend, rule, theta, grad, "float32", shadow=shadow, n_decayed=n_decayed, weight_decay=0.5
    )
    np.testing.assert_array_equal(backend.to_host(shadow), backend.to_host(theta).astype(np.float16))


def test_penalties_and_decay_equal_a_worked_example(backend, dtype):
    theta, grad = vectors(backend, dtype, [2, -4, 0, 2], [1, 1, 1, 1])
    scalars = backend.asarray(np.array([1, 0.5, 1]))
    backend.sgd(
        Update(theta, grad, scalars, n_decayed=3, l2=0.5, l1=0.25, weight_decay=0.25), None, 0.0, False
    )
    # g = 1 + 0.5 θ + 0.25 sign θ = (2.25, −1.25, 1); θ (1 − 0.5·0.25) = (1.75, −3.5, 0).
    # The last element belongs to no matrix, so it has neither penalty nor decay.
    assert backend.to_host(theta).tolist() == [1.75 - 1.125, -3.5 + 0.625, -0.5, 2 - 0.5]


def test_clip_by_value_bounds_every_element(backend, dtype):
    values = [-3, -0.5, 0, 0.5, 3, np.inf, np.nan]
    plain, scaled = vectors(backend, dtype, values, values)
    backend.clip_by_value(plain, 0.5, None)
    np.testing.assert_array_equal(
        backend.to_host(plain), np.array([-0.5, -0.5, 0, 0.5, 0.5, 0.5, np.nan], dtype)
    )
    # With a loss scale of 4, the bound is 4 · 0.5.
    backend.clip_by_value(scaled, 0.5, backend.asarray(np.array([4.0, 0])))
    np.testing.assert_array_equal(
        backend.to_host(scaled), np.array([-2, -0.5, 0, 0.5, 2, np.inf, np.nan], dtype)
    )


def factor(backend, grad, limit, scale=None):
    """Return (control, loss_scale) after `gradient_factor`."""
    control = backend.asarray(np.array([np.nan, np.nan]))
    scale = None if scale is None else backend.asarray(np.array(scale, np.float64))
    with np.errstate(all="raise"):
        backend.gradient_factor(grad, limit, control, scale)
    return backend.to_host(control).tolist(), None if scale is None else backend.to_host(scale).tolist()


def test_gradient_factor_shortens_long_and_leaves_short_vectors(backend, dtype):
    long, short, zero = vectors(backend, dtype, [3, 4, 0], [0.375, 0.5, 0], [0, 0])
    assert factor(backend, long, 1.0) == ([0.2, 0], None)
    assert (
        factor(backend, short, 1.0)
        == factor(backend, zero, 1.0)
        == factor(backend, long, None)
        == ([1, 0], None)
    )
    assert backend.to_host(long).tolist() == [3, 4, 0]


def test_gradient_factor_of_a_huge_gradient_is_finite(backend, dtype):
    (huge,) = vectors(backend, dtype, [3e30, 4e30])  # ‖huge‖² overflows float32
    assert factor(backend, huge, 1.0)[0] == pytest.approx([2e-31, 0], rel=1e-6)


def test_without_a_loss_scale_nothing_is_skipped_and_nan_stays_nan(backend, dtype):
    (grad,) = vectors(backend, dtype, [1, np.nan])
    assert factor(backend, grad, 1.0) == ([1, 0], None)


def test_gradient_factor_divides_by_the_loss_scale_before_clipping(backend, dtype):
    (grad,) = vectors(backend, dtype, [3 * 1024, 4 * 1024])
    assert factor(backend, grad, None, [1024, 7]) == ([1 / 1024, 0], [1024, 8])
    assert factor(backend, grad, 5.0, [1024, 7]) == ([1 / 1024, 0], [1024, 8])
    assert factor(backend, grad, 1.0, [1024, 7]) == ([0.2 / 1024, 0], [1024, 8])


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("limit", [None, 1.0])
def test_overflow_halves_the_loss_scale_and_requests_a_skip(backend, dtype, limit, bad):
    grad = np.ones(40_001)
    grad[30_000] = bad
    (grad,) = vectors(backend, dtype, grad)
    assert factor(backend, grad, limit, [1024, 1999]) == ([0, 1], [512, 0])
    assert factor(backend, grad, limit, [1.5, 3]) == ([0, 1], [1, 0])


def test_loss_scale_doubles_after_2000_good_updates_up_to_its_maximum(backend, dtype):
    (grad,) = vectors(backend, dtype, [1, 1])
    assert factor(backend, grad, None, [1024, 1998])[1] == [1024, 1999]
    assert factor(backend, grad, None, [1024, 1999]) == ([1 / 1024, 0], [2048, 0])
    assert factor(backend, grad, None, [2**24, 1999])[1] == [2**24, 0]


def test_average_moves_by_one_minus_decay(backend, dtype):
    mean, values = vectors(backend, dtype, [0, 8], [4, 0])
    backend.average(mean, values, 0.75)
    assert backend.to_host(mean).tolist() == [1, 6]


@pytest.mark.parametrize("rule", RULES)
def test_rule_is_silent_for_zero_tiny_and_huge_gradients(backend, dtype, rule):
    largest = 1e15  # its square is finite in float32
    with np.errstate(all="raise"):
        theta, _, _ = apply(backend, rule, [1] * 4, [0, 1e-30, -largest, largest], dtype, steps=2)
    assert np.isfinite(backend.to_host(theta)).all()


def test_underflow_in_momentum_product_and_gradient_norm_is_silent(backend):
    tiny = np.finfo("float64").tiny
    scalars = backend.asarray(np.array([1, 0.1, 1.1 * tiny]))
    with np.errstate(all="raise"):
        backend.advance_product(scalars, 0.9, 4e-3, None)
    assert 0 <= float(scalars[2]) < tiny
    (grad,) = vectors(backend, "float64", [1.1e-160, 1.3e-160])
    assert factor(backend, grad, 1.0) == ([1, 0], None)
