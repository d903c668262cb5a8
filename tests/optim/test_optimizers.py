import copy
from dataclasses import dataclass, fields, replace

import numpy as np
import pytest

import ffnn_gpu
from ffnn_gpu import SGD, Adagrad, Adam, AdamW, Lion, Muon, Nadam, RMSprop
from ffnn_gpu.backends.choice import NumpyBackend
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.parameters import Parameters
from ffnn_gpu.nn.rates import Rate
from ffnn_gpu.optim.choice import OPTIMIZERS, get_optimizer
from ffnn_gpu.optim.optimizers import Optimizer
from ffnn_gpu.testing import assert_close, tolerance

STEPS = 10  # after more, trajectories of different rounding diverge
EVERY = [
    SGD(), SGD(momentum=0.9), SGD(momentum=0.9, nesterov=True), RMSprop(), RMSprop(momentum=0.9), Adagrad(),
    Adam(),
    AdamW(), Nadam(), Lion(), Muon(output_layer=True),
]  # fmt: skip
every = pytest.mark.parametrize("rule", EVERY, ids=lambda rule: type(rule).__name__)


def read(text):
    """Return the optimizer for the name of a golden trajectory, such as "SGD(lr=0.1, nesterov=True)"."""
    name, _, settings = text.removesuffix(")").partition("(")
    pairs = (entry.split("=") for entry in settings.split(", "))
    values = {key: value == "True" if value in ("True", "False") else float(value) for key, value in pairs}
    return getattr(ffnn_gpu, name)(**values)


def parameters(backend, dtype="float64", W=None, b=None):
    rates = [{"W": Rate(matrix=True)}]
    params = Parameters(backend, [{"W": (3, 2), "b": (2,)}], [{}], dtype, rates)
    rng = np.random.default_rng(0)
    W, b = rng.normal(size=(3, 2)) if W is None else W, rng.normal(size=2) if b is None else b
    params.assign({"0.W": np.array(W, dtype), "0.b": np.array(b, dtype)})
    return params


def set_gradient(params, W, b):
    backend, views = params.backend, params.views[0]
    backend.copy(backend.asarray(np.array(W, params.dtype)), out=views.dW)
    backend.copy(backend.asarray(np.array(b, params.dtype)), out=views.db)


def gradients(steps=STEPS, seed=1):
    rng = np.random.default_rng(seed)
    return [(rng.normal(size=(3, 2)), rng.normal(size=2)) for _ in range(steps)]


def host(params):
    numbers = params.to_host()
    return numbers["0.W"], numbers["0.b"]


def run(rule, params, steps):
    for dW, db in steps:
        set_gradient(params, dW, db)
        rule.step(params)
    return host(params)


def assert_follows(backend, dtype, rule, stored, path, factors=None):
    params = parameters(backend, dtype, stored["W"], stored["b"])
    for t, (gradient, want) in enumerate(zip(stored["gradients"], path, strict=True)):
        if factors is not None:
            rule.set_lr(params, rule.lr * factors[t])
        set_gradient(params, gradient["W"], gradient["b"])
        rule.step(params)
        # n steps, n times the bound, relative to the largest parameter
        relative = (t + 1) * tolerance("network", dtype)
        for got, name in zip(host(params), ("W", "b"), strict=True):
            assert_close(got, np.array(want[name]), relative, f"{name} after {t + 1} steps of {rule}")
    assert int(params.step[0]) == STEPS


# ---------------------------------------------------------------------- against PyTorch


def golden_names():
    """Return the names of the stored trajectories, so that a missing one is detected."""
    return [
        "SGD(lr=0.1)",
        "SGD(lr=0.1, l2=0.05)",
        "SGD(lr=0.1, momentum=0.9)",
        "SGD(lr=0.1, momentum=0.9, nesterov=True)",
        "SGD(lr=0.1, momentum=0.8, nesterov=True, l2=0.05)",
        "RMSprop(lr=0.01)",
        "RMSprop(lr=0.01, rho=0.9, eps=1e-3)",
        "RMSprop(lr=0.01, momentum=0.9, l2=0.05)",
        "Adagrad(lr=0.1)",
        "Adagrad(lr=0.1, eps=1e-2, l2=0.05)",
        "Adam(lr=0.05)",
        "Adam(lr=0.05, beta1=0.8, beta2=0.95, eps=1e-2)",
        "Adam(lr=0.05, l2=0.05)",
        "Adam(lr=0.05, weight_decay=0.3)",
        "AdamW(lr=0.05)",
        "AdamW(lr=0.05, weight_decay=0.3)",
        "Nadam(lr=0.05)",
        "Nadam(lr=0.05, beta1=0.8, beta2=0.95, psi=0.02)",
        "Nadam(lr=0.05, l2=0.05)",
        "Nadam(lr=0.05, weight_decay=0.3)",
    ]


def test_every_golden_trajectory_is_tested(golden):
    assert list(golden("optimizers")["of"]) == golden_names()
    assert {name.split("(")[0] for name in golden_names()} | {"Lion", "Muon"} == {
        kind.__name__ for kind in OPTIMIZERS.values()
    }


@pytest.mark.parametrize("name", golden_names())
def test_ten_steps_equal_pytorch(backend, dtype, golden, name):
    stored = golden("optimizers")
    assert_follows(backend, dtype, read(name), stored, stored["of"][name])


@pytest.mark.parametrize(
    "name",
    ["SGD(lr=0.1, momentum=0.9)", "Adam(lr=0.05)", "AdamW(lr=0.05, weight_decay=0.3)", "Nadam(lr=0.05)"],
)
def test_ten_steps_with_a_falling_learning_rate_equal_pytorch(backend, golden, name):
    stored = golden("optimizers")
    assert_follows(backend, "float64", read(name), stored, stored["scheduled"][name], stored["factors"])


def test_lion_equals_its_algorithm(backend, dtype):
    params, lr, beta1, beta2 = parameters(backend, dtype), 0.01, 0.9, 0.99
    theta, m = [np.array(value, np.float64) for value in host(params)], [np.zeros((3, 2)), np.zeros(2)]
    rule = Lion(lr, beta1, beta2, weight_decay=0.1)
    for t, gradient in enumerate(gradients()):
        run(rule, params, [gradient])
        for k in range(2):
            interpolated = beta1 * m[k] + (1 - beta1) * gradient[k]
            decay = 0.1 * theta[k] if k == 0 else 0  # matrices only
            theta[k] = theta[k] - lr * (np.sign(interpolated) + decay)
            m[k] = beta2 * m[k] + (1 - beta2) * gradient[k]
        for got, want in zip(host(params), theta, strict=True):
            assert_close(got, want, (t + 1) * tolerance("network", dtype), "θ")


# ---------------------------------------------------------------------- common behavior


@every
def test_padding_stays_zero_and_steps_are_counted(backend, dtype, rule):
    params = parameters(backend, dtype)
    run(rule, params, gradients(3))
    outside = np.ones(params.theta.shape, bool)
    for slot in params.slots:
        outside[slot.start : slot.start + slot.size] = False
    state = rule.state(params)
    for vector in (params.theta, params.grad, *(getattr(state, name) for name in rule.moments)):
        assert vector.dtype == dtype and (backend.to_host(vector)[outside] == 0).all()
    assert int(params.step[0]) == 3 and float(state.scalars[0]) == 3


@every
def test_learning_rate_zero_changes_nothing(backend, dtype, rule):
    params = parameters(backend, dtype)
    before = host(params)
    rule = type(rule)(lr=0.0, weight_decay=0.5)
    for got, want in zip(run(rule, params, gradients(2)), before, strict=True):
        np.testing.assert_array_equal(got, want)


@every
def test_state_belongs_to_the_parameters(backend, rule):
    one, two, fresh = (parameters(backend) for _ in range(3))
    run(rule, one, gradients(4))
    got, want = run(rule, two, gradients(4)), run(rule, fresh, gradients(4))
    for here, there in zip(got, want, strict=True):
        np.testing.assert_array_equal(here, there)
    assert rule.state(one) is rule.state(one) is not rule.state(two)


@every
def test_a_new_optimizer_starts_with_new_moments(backend, rule):
    params = parameters(backend)
    run(rule, params, gradients(3))
    again = type(rule)()
    assert not any(backend.to_host(getattr(again.state(params), name)).any() for name in again.moments)
    assert float(again.state(params).scalars[0]) == 0


def test_set_lr_changes_the_next_step(backend, dtype):
    params, rule = parameters(backend, dtype, np.zeros((3, 2)), np.zeros(2)), SGD(lr=0.5)
    ones = [(np.ones((3, 2)), np.ones(2))]
    assert (run(rule, params, ones)[0] == -0.5).all()
    rule.set_lr(params, 0.25)
    assert (run(rule, params, ones)[0] == -0.75).all() and rule.lr == 0.5


@pytest.mark.parametrize("limit", [0.1, 1.0, 100.0])
def test_clip_norm_bounds_the_norm_of_the_whole_gradient(backend, dtype, limit):
    params, (gradient,) = parameters(backend, dtype), gradients(1)
    before = host(params)
    norm = np.sqrt(sum((part**2).sum() for part in gradient))
    after = run(SGD(lr=1.0, clip_norm=limit), params, [gradient])
    for got, start, part in zip(after, before, gradient, strict=True):
        want = start - part * min(1, limit / norm)
        assert_close(got, want, tolerance("network", dtype), "θ")


def test_clip_value_bounds_every_element_before_the_norm(backend, dtype):
    params, (gradient,) = parameters(backend, dtype), gradients(1)
    before, clipped = host(params), [np.clip(part, -0.5, 0.5) for part in gradient]
    norm = np.sqrt(sum((part**2).sum() for part in clipped))
    after = run(SGD(lr=1.0, clip_value=0.5, clip_norm=0.7), params, [gradient])
    for got, start, part in zip(after, before, clipped, strict=True):
        assert_close(got, start - part * min(1, 0.7 / norm), tolerance("network", dtype), "θ")


def test_penalties_touch_matrices_only_and_come_after_clipping(backend, dtype):
    params, (gradient,) = parameters(backend, dtype), gradients(1)
    (W, b), (dW, db) = host(params), [np.clip(part, -0.1, 0.1) for part in gradient]
    got_W, got_b = run(SGD(lr=1.0, l2=0.5, l1=0.25, clip_value=0.1), params, [gradient])
    assert_close(got_W, W - (dW + 0.5 * W + 0.25 * np.sign(W)), tolerance("network", dtype), "W")
    assert_close(got_b, b - db, tolerance("network", dtype), "b")


def assert_penalties_reach_every_matrix_and_no_bias(backend):
    params, rng = (
        Parameters(backend, [{"W": (3, 2), "b": (2,)}] * 2, [{}, {}], "float64"),
        np.random.default_rng(0),
    )
    before = {name: rng.normal(size=view.shape) for name, view in params.named()}
    params.assign(before)
    SGD(lr=1.0, l2=0.5).step(params)  # the gradient is 0
    for name, got in params.to_host().items():
        assert_close(got, before[name] * (0.5 if name.endswith("W") else 1), 1e-15, name)


PENALTY_BUGS = {
    "L2 doubled": lambda update: update._replace(l2=2 * update.l2),
    "L2 missing on one layer": lambda update: update._replace(n_decayed=update.n_decayed // 2),
    "L2 on biases": lambda update: update._replace(n_decayed=len(update.theta)),
}


def test_penalties_reach_every_matrix_and_no_bias(backend):
    assert_penalties_reach_every_matrix_and_no_bias(backend)


@pytest.mark.parametrize("bug", PENALTY_BUGS)
def test_law_of_penalties_detects_the_planted_bug(bug):
    class Planted(NumpyBackend):
        def sgd(self, update, *args):
            super().sgd(PENALTY_BUGS[bug](update), *args)

    with pytest.raises(AssertionError, match="differs most"):
        assert_penalties_reach_every_matrix_and_no_bias(Planted())


@every
def test_weight_decay_shrinks_matrices_by_lr_times_rate(backend, dtype, rule):
    plain, decayed = parameters(backend, dtype), parameters(backend, dtype)
    W, _ = host(plain)
    (gradient,) = gradients(1)
    without = run(replace(rule, lr=0.125, weight_decay=0.0), plain, [gradient])
    with_decay = run(replace(rule, lr=0.125, weight_decay=0.5), decayed, [gradient])
    assert_close(
        without[0] - with_decay[0], W * 0.0625, tolerance("network", dtype), "W", scale=np.abs(W).max()
    )
    np.testing.assert_array_equal(without[1], with_decay[1])


def test_two_steps_of_adamw_by_hand(backend, dtype):
    """W and b start at 1, their gradients are 0.5, then −0.5; η = 0.1, λ = 0.5; ε is negligible."""
    params = parameters(backend, dtype, np.ones((3, 2)), np.ones(2))
    rule, halves = AdamW(lr=0.1, weight_decay=0.5, eps=1e-20), (np.full((3, 2), 0.5), np.full(2, 0.5))
    W, b = run(rule, params, [halves])
    # m̂ = 0.5, v̂ = 0.25: W = 1 · (1 − 0.1 · 0.5) − 0.1 · 0.5/0.5, b = 1 − 0.1
    assert_close(W, np.full((3, 2), 0.85), tolerance("network", dtype), "W")
    assert_close(b, np.full(2, 0.9), tolerance("network", dtype), "b")
    W, b = run(rule, params, [[-half for half in halves]])
    # m = 0.9 · 0.05 − 0.1 · 0.5 = −0.005, m̂ = −0.005/0.19, v̂ = 0.25: a step of 0.001/0.19, from W = 0.85 ·
    # 0.95
    assert_close(W, np.full((3, 2), 0.8075 + 0.001 / 0.19), 2 * tolerance("network", dtype), "W")
    assert_close(b, np.full(2, 0.9 + 0.001 / 0.19), 2 * tolerance("network", dtype), "b")


def test_learning_rate_may_come_from_the_device(backend, dtype):
    params, rule = parameters(backend, dtype, np.zeros((3, 2)), np.zeros(2)), SGD(lr=0.5)
    rates = backend.asarray(np.array([0.25, 0.125]))
    for k, want in enumerate((-0.25, -0.375)):
        set_gradient(params, np.ones((3, 2)), np.ones(2))
        rule.step(params, rates[k : k + 1])
        assert (host(params)[0] == want).all()
    assert float(rule.state(params).scalars[1]) == 0.125


# ---------------------------------------------------------------------- loss scale


SCALED = [
    *EVERY,
    SGD(clip_value=0.1),
    AdamW(clip_norm=0.5, clip_value=0.3, l2=0.1, l1=0.1),
    Nadam(clip_norm=0.5),
]
scaled = pytest.mark.parametrize("rule", SCALED, ids=lambda rule: type(rule).__name__)


def with_scale(params, S=1024.0, good=0.0):
    params.loss_scale = params.backend.asarray(np.array([S, good]))
    return params


def snapshot(rule, params):
    state, to_host = rule.state(params), params.backend.to_host
    vectors = {**vars(state), "theta": params.theta, "step": params.step}
    return {name: np.array(to_host(vector)).tobytes() for name, vector in vectors.items()}


@scaled
def test_loss_scale_that_is_a_power_of_two_changes_no_bit(backend, dtype, rule):
    plain, other = parameters(backend, dtype), with_scale(parameters(backend, dtype))
    run(rule, plain, gradients())
    run(rule, other, [(1024 * dW, 1024 * db) for dW, db in gradients()])
    assert snapshot(rule, plain) == snapshot(rule, other)
    assert backend.to_host(other.loss_scale).tolist() == [1024, STEPS]


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@scaled
def test_overflow_changes_nothing_halves_the_scale_and_training_continues(backend, dtype, rule, bad):
    params, other = (with_scale(parameters(backend, dtype), good=7.0) for _ in range(2))
    overflow = np.full((3, 2), bad), np.ones(2)
    with np.errstate(all="raise"):
        run(rule, params, [overflow])  # also before the first step
        before = snapshot(rule, other)
        assert snapshot(rule, params) == before
        assert backend.to_host(params.loss_scale).tolist() == [512, 0]
        good = gradients(4)
        run(rule, params, [(512 * dW, 512 * db) for dW, db in good[:2]] + [overflow])
        run(rule, params, [(256 * dW, 256 * db) for dW, db in good[2:]])
        run(rule, other, [(1024 * dW, 1024 * db) for dW, db in good])
    assert snapshot(rule, params) == snapshot(rule, other)
    assert backend.to_host(params.loss_scale).tolist() == [256, 2]


def test_without_a_loss_scale_an_overflow_is_not_hidden(backend, dtype):
    params = parameters(backend, dtype)
    W, _ = run(SGD(clip_norm=1.0), params, [(np.full((3, 2), np.nan), np.ones(2))])
    assert np.isnan(W).all() and int(params.step[0]) == 1


def test_state_in_a_checkpoint_does_not_contain_control(backend):
    params, rule = parameters(backend), AdamW(clip_norm=1.0)
    assert set(vars(rule.state(params))) == {"m", "v", "scalars"}


def test_training_continues_from_a_deep_copy_of_the_state():
    rule, steps, ends = Adam(clip_norm=0.5), gradients(), []
    for change in (lambda state: state, copy.deepcopy):
        params = parameters(NumpyBackend())
        run(rule, params, steps[:2])
        kept = params.optimizer_states[rule]
        params.optimizer_states[rule] = change(kept)
        ends.append(run(rule, params, steps[2:]))
        assert (params.optimizer_states[rule].control is kept.control) == (change is not copy.deepcopy)
    for mine, theirs in zip(*ends, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_moving_average_equals_its_formula_and_swaps(backend, dtype):
    params, rule = parameters(backend, dtype), SGD(lr=0.1, ema=0.75)
    mean = [np.array(value, np.float64) for value in host(params)]
    for gradient in gradients(5):
        theta = run(rule, params, [gradient])
        mean = [0.75 * m + 0.25 * value for m, value in zip(mean, theta, strict=True)]
    rule.swap_average(params)
    for got, want in zip(host(params), mean, strict=True):
        assert_close(got, want, 5 * tolerance("network", dtype), "mean of θ")
    rule.swap_average(params)
    for got, want in zip(host(params), theta, strict=True):
        np.testing.assert_array_equal(got, want)


def test_load_average_sets_numbers_and_running_statistics_and_keeps_the_averages(backend, dtype):
    """After it, θ and the statistics equal their averages. A swap would exchange them."""
    layers = [ffnn_gpu.Dense(3), ffnn_gpu.BatchNorm(), ffnn_gpu.Dense(2)]
    network, rule = ffnn_gpu.Network(4, layers, backend, dtype), SGD(lr=0.1, ema=0.5)
    x, y = np.random.default_rng(0).normal(size=(2, 8, 4))
    ws, params = network.workspace(8), network.params
    averages = None
    for _ in range(3):
        x_there, y_there = (backend.asarray(array.astype(dtype)) for array in (x, y[:, :2]))
        averages = averages or [np.array(backend.to_host(v), float) for v in (params.theta, params.state)]
        ffnn_gpu.train_step(network, ffnn_gpu.mean_squared_error, rule, x_there, y_there, ws)
        now = [np.array(backend.to_host(v), float) for v in (params.theta, params.state)]
        averages = [0.5 * mean + 0.5 * value for mean, value in zip(averages, now, strict=True)]
    rule.load_average(params)
    state = rule.state(params)
    pairs = (params.theta, state.mean), (params.state, state.mean_state)
    for (vector, mean), average, before in zip(pairs, averages, now, strict=True):
        vector, mean = backend.to_host(vector), backend.to_host(mean)
        np.testing.assert_array_equal(vector, mean)
        assert_close(vector, average, 8 * tolerance("network", dtype), "the average")
        assert np.abs(vector - before).max() > 1e-3  # the test can tell them apart


def test_swap_average_without_ema_raises(backend):
    with pytest.raises(ConfigurationError, match=r"create it with ema=0\.999"):
        SGD().swap_average(parameters(backend))


@every
def test_steps_with_vanishing_and_large_gradients_give_no_warning(backend, rule):
    params = parameters(backend, "float32")
    with np.errstate(all="raise"):
        for size in (0.0, 1e-30, 1e10):
            run(rule, params, [(np.full((3, 2), size), np.full(2, -size))])
    assert all(np.isfinite(value).all() for value in host(params))


# ---------------------------------------------------------------------- settings

BAD = {
    "lr must be finite and at least 0, not -1": lambda: SGD(lr=-1),
    "lr must be finite and at least 0, not nan": lambda: Adam(lr=float("nan")),
    "lr must be finite and at least 0, not inf": lambda: Adam(lr=float("inf")),
    "l2 must be finite": lambda: SGD(l2=-0.1),
    "l1 must be finite": lambda: SGD(l1=-0.1),
    "weight_decay must be finite": lambda: AdamW(weight_decay=-0.1),
    "clip_norm must be positive, or None": lambda: SGD(clip_norm=0),
    "clip_value must be positive, or None": lambda: SGD(clip_value=-1),
    "ema must be at least 0 and below 1, or None": lambda: SGD(ema=1),
    "ema must be at least 0 and below 1, or None, not -0.5": lambda: SGD(ema=-0.5),
    "l2 must be finite and at least 0, not inf": lambda: SGD(l2=float("inf")),
    "lr must be finite and at least 0, not True": lambda: SGD(lr=True),
    "momentum must be at least 0 and below 1": lambda: SGD(momentum=1.0),
    "momentum must be positive with nesterov=True": lambda: SGD(nesterov=True),
    "beta1 must be at least 0 and below 1": lambda: Adam(beta1=1.0),
    "beta2 must be at least 0 and below 1": lambda: Adam(beta2=-0.1),
    "rho must be at least 0 and below 1": lambda: RMSprop(rho=1.0),
    "eps must be positive": lambda: Adam(eps=0),
    "no optimizer is called 'adma'; did you mean 'adam'. There are sgd": lambda: get_optimizer("adma"),
    "SGD has no setting 'beta1'; it has lr": lambda: get_optimizer("sgd", beta1=0.9),
    "SGD has no setting 'moments'": lambda: get_optimizer("sgd", moments=("m",)),
}


@pytest.mark.parametrize("message", BAD)
def test_bad_settings_raise(message):
    with pytest.raises(ConfigurationError, match=message):
        BAD[message]()


@pytest.mark.parametrize(("rule", "moments"), [(SGD(), 1), (RMSprop(), 2), (Adam(ema=0.5), 2), (Lion(), 1)])
def test_state_contains_moments_an_average_and_three_scalars(backend, rule, moments):
    params = parameters(backend)
    state = rule.state(params)
    shapes = [
        vector.shape for name, vector in vars(state).items() if name not in ("scalars", "mean", "mean_state")
    ]
    assert shapes == [params.theta.shape] * moments and hasattr(state, "mean") == (rule.ema is not None)
    assert backend.to_host(state.scalars).tolist() == [0, rule.lr, 1] and state.control.shape == (2,)


def test_settings_may_equal_their_bounds():
    none = dict.fromkeys(("lr", "l2", "l1", "weight_decay", "ema"), 0)
    assert (
        SGD(momentum=0, **none).ema == 0
        and Adam(beta1=0, beta2=0, **none).beta2 == 0
        and RMSprop(rho=0).rho == 0
    )


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_compares_by_identity_and_has_the_common_settings(name):
    kind = OPTIMIZERS[name]
    assert kind() != kind() and len({kind(), kind()}) == 2  # each has its own moments
    shared = {"l2", "l1", "weight_decay", "clip_norm", "clip_value", "ema", "decay_schedule"}
    assert {entry.name for entry in fields(kind) if entry.kw_only} == shared and fields(kind)[0].name == "lr"


def test_optimizers_are_found_by_name():
    rule = get_optimizer("adamw", lr=0.5, beta1=0.8)
    assert isinstance(rule, AdamW) and (rule.lr, rule.beta1, rule.weight_decay) == (0.5, 0.8, 0.01)
    assert all(type(get_optimizer(name)) is kind for name, kind in OPTIMIZERS.items())
    assert {name: get_optimizer(name).lr for name in OPTIMIZERS} == {
        "sgd": 1e-2,
        "rmsprop": 1e-3,
        "adagrad": 1e-2,
        "adam": 1e-3,
        "adamw": 1e-3,
        "nadam": 2e-3,
        "lion": 1e-4,
        "muon": 2e-2,
    }


def test_base_optimizer_raises(backend):
    with pytest.raises(NotImplementedError, match="Optimizer must define formula or update"):
        Optimizer().step(parameters(backend))


@dataclass(frozen=True, eq=False)
class Own(Optimizer):
    """SGD with momentum, defined by its formula."""

    momentum: float = 0.9
    moments = ("velocity",)

    def formula(self, xp, theta, g, lr, t, velocity):
        velocity *= self.momentum
        velocity += g
        theta -= lr * velocity


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
@pytest.mark.parametrize(
    "settings", [{}, {"clip_norm": 0.5}, {"l2": 0.1, "l1": 0.01, "weight_decay": 0.1}, {"ema": 0.9}], ids=str
)
def test_custom_optimizer_equals_its_formula_with_the_common_settings(backend, dtype, settings):
    rng = np.random.default_rng(0)
    data = rng.normal(size=(40, 4)), rng.integers(0, 3, 40)

    def trained(rule):
        network = ffnn_gpu.Network(
            4, [ffnn_gpu.Dense(8, ffnn_gpu.tanh), ffnn_gpu.Dense(3)], backend, dtype, seed=1
        )
        history = ffnn_gpu.fit(
            network,
            ffnn_gpu.softmax_cross_entropy,
            rule,
            data,
            epochs=4,
            batch_size=8,
            verbose=0,
            schedule=ffnn_gpu.Cosine(),
        )
        return network.predict(data[0]), [row["loss"] for row in history.rows]

    (own, losses), (built_in, expected) = (
        trained(Own(0.1, **settings)),
        trained(SGD(0.1, momentum=0.9, **settings)),
    )
    assert_close(own, built_in, tolerance("network", "float32" if "16" in dtype else dtype, 8))
    assert losses == pytest.approx(expected, rel=1e-5) and losses[-1] < losses[0]


def test_formula_receives_the_rate_and_the_count_of_updates(backend):
    seen = []

    class Counts(Own):
        def formula(self, xp, theta, g, lr, t, velocity):
            seen.append((float(t), float(lr), velocity.shape))

    params, rule = parameters(backend), Counts(0.25)
    for _ in range(2):
        rule.step(params)
    assert seen == [(1.0, 0.25, params.theta.shape), (2.0, 0.25, params.theta.shape)]
