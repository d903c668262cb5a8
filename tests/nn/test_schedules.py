import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn import schedules
from ffnn_gpu.nn.schedules import (
    SCHEDULES,
    Cosine,
    CosLog,
    Exponential,
    FlatCosine,
    InverseScaling,
    LinearWarmup,
    OneCycle,
    Schedule,
    StepDecay,
    constant,
    get_schedule,
)

ROUNDING = 1e-12  # PyTorch multiplies factors up step by step; ours are closed forms in float64
NAMES = [
    "StepDecay(every=10, gamma=0.3)", "StepDecay(every=0.25, gamma=0.5)", "Exponential(gamma=0.95, every=1)",
    "Cosine()",
    "Cosine(floor=0.1)", "Cosine(floor=0.1, cycles=3)", "OneCycle()",
    "OneCycle(rise=0.5, start=10.0, end=100.0)",
    "LinearWarmup(warmup=12)",
]  # fmt: skip


def read(text):
    name, _, settings = text.removesuffix(")").partition("(")
    pairs = (entry.split("=") for entry in settings.split(", ") if entry)
    return getattr(schedules, name)(
        **{key: float(value) if "." in value else int(value) for key, value in pairs}
    )


def path(rule, total):
    return [rule(t, total) for t in range(total)]


def falls(values):
    return all(later <= earlier for earlier, later in itertools.pairwise(values))


def test_every_golden_schedule_is_tested(golden):
    assert list(golden("schedules")["of"]) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_factors_equal_pytorch(golden, name):
    stored = golden("schedules")
    assert path(read(name), stored["total"]) == pytest.approx(stored["of"][name], rel=ROUNDING, abs=ROUNDING)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("total", [1, 2, 3, 10, 1000])
def test_factors_are_between_zero_and_one_even_after_the_end(name, total):
    assert all(0 <= SCHEDULES[name](t, total) <= 1 for t in range(total + 5))


@pytest.mark.parametrize(
    "rule", [StepDecay(), Exponential(), InverseScaling(), Cosine(), Cosine(floor=0.3)], ids=repr
)
def test_decays_start_at_one_and_never_rise(rule):
    factors = path(rule, 100)
    assert factors[0] == 1 and falls(factors) and factors[-1] < 1


def test_constant_is_one():
    assert path(constant, 5) == [1] * 5


def test_exponential_reaches_gamma_at_the_end():
    assert Exponential(gamma=0.01)(100, 100) == pytest.approx(0.01, rel=ROUNDING)


def test_inverse_scaling_is_a_power():
    assert path(InverseScaling(0.5), 4) == pytest.approx([1, 2**-0.5, 3**-0.5, 0.5], rel=ROUNDING)


def test_cosine_ends_on_its_floor_and_stays_there():
    assert Cosine(floor=0.2)(100, 100) == Cosine(floor=0.2)(150, 100) == pytest.approx(0.2, rel=ROUNDING)
    assert Cosine()(50, 100) == pytest.approx(0.5, rel=ROUNDING)


def test_cosine_restarts_at_one_in_each_cycle():
    factors = path(Cosine(cycles=4), 80)
    assert [t for t, factor in enumerate(factors) if factor == 1] == [0, 20, 40, 60]
    assert all(falls(factors[start : start + 20]) for start in range(0, 80, 20))


def test_every_cosine_restart_is_one_even_if_the_cycles_do_not_divide_the_steps():
    for total, cycles in itertools.product(range(10, 200, 10), (3, 7, 9)):
        factors = path(Cosine(cycles=cycles), total)
        rises = sum(later > earlier for earlier, later in itertools.pairwise(factors))
        assert rises == min(cycles, total) - 1, (total, cycles)


@pytest.mark.parametrize(
    "rule", [Cosine(warmup=10), Cosine(warmup=0.1), LinearWarmup(0.1, Cosine()), LinearWarmup(10)], ids=repr
)
def test_warmup_rises_in_equal_steps_to_one(rule):
    factors = path(rule, 100)
    assert factors[:10] == pytest.approx([(t + 1) / 10 for t in range(10)], rel=ROUNDING)
    assert factors[10] == pytest.approx(1, rel=ROUNDING) and falls(factors[10:])


@pytest.mark.parametrize(
    ("rule", "rest"),
    [
        (Cosine(warmup=10), Cosine()),
        (Cosine(0.2, warmup=10, cycles=3), Cosine(0.2, cycles=3)),
        (LinearWarmup(10, Cosine()), Cosine()),
        (LinearWarmup(10, OneCycle()), OneCycle()),
        (LinearWarmup(10, StepDecay(0.5)), StepDecay(0.5)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("left", [90, 2, 1])
def test_what_follows_a_warmup_has_the_steps_that_are_left(rule, rest, left):
    got, want = ([of(t, total) for t in range(total + 3)] for of, total in ((rule, 10 + left), (rest, left)))
    assert got[10:] == pytest.approx(want, rel=ROUNDING, abs=ROUNDING)


def test_warmup_longer_than_the_training_only_rises():
    factors = path(LinearWarmup(50), 10)
    assert factors == pytest.approx([(t + 1) / 50 for t in range(10)], rel=ROUNDING)


def test_what_follows_a_warmup_as_long_as_the_training_has_one_step():
    assert LinearWarmup(10, Cosine())(10, 10) == Cosine()(0, 1) == 1


def test_one_cycle_too_short_to_rise_begins_at_one():
    assert [OneCycle()(0, total) for total in (1, 2, 3)] == [1] * 3 and OneCycle()(1, 2) < 1e-5


def test_one_cycle_rises_to_one_and_falls_to_its_end():
    factors = path(OneCycle(rise=0.3, start=25, end=1e4), 100)
    top = factors.index(max(factors))
    assert factors[0] == pytest.approx(1 / 25, rel=ROUNDING) and factors[top] == pytest.approx(
        1, rel=ROUNDING
    )
    assert falls(factors[top:]) and falls(factors[top::-1]) and 28 <= top <= 30
    assert factors[-1] == pytest.approx(1 / 25 / 1e4, rel=1e-8)  # what is left of 1 − 1 + 4e-6


def test_coslog4_has_four_cycles_each_twice_as_long_and_is_zero_between_them():
    factors = path(get_schedule("coslog4"), 1500)  # cycle k ends where 1 + 15 t/1500 is 2^k
    assert [t for t, factor in enumerate(factors) if factor < 1e-12] == [0, 100, 300, 700]
    assert CosLog()(1500, 1500) == CosLog()(1501, 1500) == pytest.approx(0, abs=1e-12)
    middles = [round(1500 * (2 ** (k + 0.5) - 1) / 15) for k in range(4)]
    assert [factors[t] for t in middles] == pytest.approx([1] * 4, abs=1e-3)  # the nearest steps
    assert factors[25] == pytest.approx((1 - np.cos(2 * np.pi * np.log2(1.25))) / 2, rel=ROUNDING)


def test_coslog_of_one_cycle_rises_and_falls_once():
    factors = path(CosLog(1), 1000)
    top = factors.index(max(factors))
    assert top == round(1000 * (2**0.5 - 1)) and falls(factors[top:]) and falls(factors[top::-1])


def test_flat_cosine_is_one_for_half_the_run_then_half_a_cosine():
    factors = path(get_schedule("flat_cos"), 100)
    assert factors[:51] == [1] * 51 and falls(factors)
    want = [(1 + np.cos(np.pi * (2 * t / 100 - 1))) / 2 for t in range(50, 100)]
    assert factors[50:] == pytest.approx(want, rel=ROUNDING)
    assert FlatCosine()(100, 100) == FlatCosine()(120, 100) == FlatCosine("whole")(100, 100) == 0
    assert path(FlatCosine(90), 100) == path(FlatCosine(0.9), 100) and path(FlatCosine("whole"), 3) == [1] * 3


@pytest.mark.parametrize(
    "rule",
    [Cosine(0.2), Cosine(cycles=3), Cosine(warmup=0.1), OneCycle(), OneCycle("whole"), FlatCosine()],
    ids=repr,
)
@pytest.mark.parametrize("total", [1, 2, 100])
def test_factor_after_the_end_is_the_smallest_before(rule, total):
    after = {rule(total + k, total) for k in (0, 1, 7, 1000)}
    assert len(after) == 1 and after.pop() <= min(path(rule, total))


def test_a_float_is_a_part_and_an_int_a_number_of_steps():
    assert path(StepDecay(every=0.5), 10) == path(StepDecay(every=5), 10)
    assert path(LinearWarmup(1), 3) == [1, 1, 1] and path(LinearWarmup("whole"), 4) == [0.25, 0.5, 0.75, 1]
    rule, other = StepDecay(every=np.int64(5)), Cosine(warmup=np.float64(0.1))
    assert rule == StepDecay(every=5) and type(rule.every) is int
    assert other == Cosine(warmup=0.1) and type(other.warmup) is float


# ---------------------------------------------------------------------- durations that are parts of a run


def exact(part, total):
    """Return the part of the run that its digits say, in whole and broken steps."""
    return Fraction(str(part)) * total


PARTS = [k / 100 for k in range(1, 100)]


def test_part_of_a_run_has_the_steps_of_its_digits():
    """0.14 · 50 is 7.000000000000001, and its ceiling 8."""
    for part in PARTS:
        for total in (*range(1, 120, 7), 50, 100, 250, 1000, 10**6):
            want = exact(part, total)
            assert math.ceil(schedules.steps(part, total)) == math.ceil(want), (part, total)
            assert schedules.steps(part, total) == pytest.approx(float(want), rel=1e-15), (part, total)


def test_warmup_lasts_the_whole_steps_that_cover_its_part():
    """A warm-up of 2.5 steps has three: its last step is not cut off."""
    assert path(LinearWarmup(0.05), 50)[:4] == pytest.approx([1 / 3, 2 / 3, 1, 1], rel=ROUNDING)
    for part, total in itertools.product(PARTS, (7, 50, 100)):
        warm = math.ceil(exact(part, total))
        for rule in (LinearWarmup(part), Cosine(warmup=part)):
            below = [t for t, factor in enumerate(path(rule, total)) if t < warm]
            got = [rule(t, total) for t in below]
            assert got == pytest.approx([(t + 1) / warm for t in below], rel=ROUNDING), (rule, total)
        assert LinearWarmup(part)(warm, total) == 1


def test_step_decay_falls_at_every_multiple_of_its_part():
    for part, total in itertools.product(PARTS, (50, 100, 110, 1000)):
        every = max(exact(part, total), 1)
        rule = StepDecay(part, gamma=0.5)
        for k in range(1, 6):
            at = math.ceil(k * every)  # the first step of the interval k
            got = [rule(t, total) for t in (at - 1, at)]
            assert got == [0.5 ** math.floor((at - 1) / every), 0.5 ** math.floor(at / every)], (
                rule,
                total,
                k,
            )


def test_flat_cosine_is_flat_for_its_part():
    for part, total in itertools.product(PARTS, (50, 100)):
        flat = math.ceil(exact(part, total))
        factors = path(FlatCosine(part), total)
        assert factors[:flat] == [1] * flat and all(factor < 1 for factor in factors[flat + 1 :])


def of_pytorch(step, total, rise, start=25.0, end=1e4):
    """Return OneCycleLR's factor, with its phases: one ends at rise · total − 1, the other at total − 1."""
    first, last, low, high = 0.0, rise * total - 1, 1 / start, 1.0
    if step > last:
        first, last, low, high = last, total - 1, 1.0, 1 / start / end
    return high + (low - high) / 2 * (1 + math.cos(math.pi * (step - first) / (last - first)))


@pytest.mark.parametrize("rise", [0.3, 0.5, 0.9, 0.95, 0.99])
@pytest.mark.parametrize("total", [2, 3, 4, 5, 10, 20, 101])
def test_one_cycle_equals_pytorch_wherever_it_rises(rise, total):
    if rise * total <= 1:
        pytest.skip("PyTorch then starts within the fall; OneCycle starts at 1")
    got = path(OneCycle(rise), total)
    assert got == pytest.approx([of_pytorch(t, total, rise) for t in range(total)], rel=1e-9)


def test_one_cycle_ends_at_its_end_however_short_the_fall():
    """A fall that is shorter than one step still ends at 4e-6."""
    for rise, total in itertools.product((0.3, 0.8, 0.95, 0.999), (2, 3, 10, 100)):
        assert OneCycle(rise)(total - 1, total) == pytest.approx(4e-6, rel=1e-9), (rise, total)
    assert OneCycle()(0, 1) == 1 and path(OneCycle("whole"), 4)[-1] == 1


SHORT = {  # the factors of training runs of 1, 2 and 3 steps
    "constant": ([1], [1, 1], [1, 1, 1]),
    "step": ([1], [1, 0.1], [1, 0.1, 0.01]),
    "exponential": ([1], [1, 0.1], [1, 0.01 ** (1 / 3), 0.01 ** (2 / 3)]),
    "inverse_scaling": ([1], [1, 2**-0.5], [1, 2**-0.5, 3**-0.5]),
    "linear_warmup": ([1], [1, 1], [1, 1, 1]),
    "cosine": ([1], [1, 1], [1, 1, 0.5]),
    "one_cycle": ([1], [1, 4e-6], [1, 0.500002, 4e-6]),
    "coslog4": (
        [0],
        [0, (1 - math.cos(2 * math.pi * math.log2(8.5))) / 2],
        [0, *((1 - math.cos(2 * math.pi * math.log2(1 + 5 * k))) / 2 for k in (1, 2))],
    ),
    "flat_cos": ([1], [1, 1], [1, 1, (1 + math.cos(math.pi / 3)) / 2]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_factors_of_the_shortest_runs(name):
    for total, want in enumerate(SHORT[name], start=1):
        assert path(SCHEDULES[name], total) == pytest.approx(want, rel=1e-6, abs=1e-12), total


def test_cycles_restart_at_the_exact_steps():
    for total, cycles in itertools.product(range(1, 200, 3), (3, 6, 7)):
        for t in range(total):
            want = (1 + math.cos(math.pi * (t * cycles % total / total))) / 2
            assert Cosine(cycles=cycles)(t, total) == pytest.approx(want, abs=ROUNDING), (total, cycles, t)


def test_numbers_of_numpy_count_as_pythons_with_the_same_digits():
    for kind in (np.float16, np.float32, np.float64, np.longdouble):
        assert LinearWarmup(kind("0.1")) == LinearWarmup(0.1), kind
        assert path(LinearWarmup(kind("0.1")), 50) == path(LinearWarmup(0.1), 50)
    for kind in (np.int32, np.uint8, np.int64):
        assert LinearWarmup(kind(5)) == LinearWarmup(5) and type(LinearWarmup(kind(5)).warmup) is int


BAD = {
    "every of a schedule must be positive": lambda: StepDecay(every=0),
    "gamma of a schedule must be positive": lambda: Exponential(gamma=-1),
    "warmup of a schedule must be positive": lambda: LinearWarmup(0),
    "Cosine needs 0 <= floor <= 1": lambda: Cosine(floor=1.5),
    "Cosine needs 0 <= floor": lambda: Cosine(floor=-0.5),
    "cycles >= 1": lambda: Cosine(cycles=0),
    "cycles of CosLog must be a whole number, at least 1, not 0": lambda: CosLog(0),
    "cycles of CosLog must be a whole number, at least 1, not 1.5": lambda: CosLog(1.5),
    "warmup of a schedule must be positive: .*, not -1": lambda: Cosine(warmup=-1),
    "gamma of a schedule must be positive and finite, not inf": lambda: StepDecay(gamma=float("inf")),
    'every of a schedule must be positive: .*, or "whole", not 0': lambda: Exponential(every=0),
    "gamma of a schedule must be positive and finite, not 0": lambda: StepDecay(gamma=0),
    "end of a schedule must be positive": lambda: OneCycle(end=0),
    "rise of a schedule must be positive": lambda: OneCycle(rise=0.0),
    "start of a schedule must be positive and finite, not nan": lambda: OneCycle(start=float("nan")),
    "reduce_on_plateau is a callback: pass ffnn_gpu.callbacks.ReduceOnPlateau": lambda: get_schedule(
        "reduce_on_plateau"
    ),
    "no schedule is called 'cosin'; did you mean 'cosine'. There are constant": lambda: get_schedule("cosin"),
}


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda value: StepDecay(every=value), "every"),
        (lambda value: Exponential(every=value), "every"),
        (lambda value: LinearWarmup(value), "warmup"),
        (lambda value: Cosine(warmup=value), "warmup"),
        (lambda value: OneCycle(rise=value), "rise"),
        (lambda value: FlatCosine(value), "flat"),
    ],
)
def test_ambiguous_duration_raises(make, name):
    for one in (1.0, np.float32(1)):
        with pytest.raises(
            ConfigurationError,
            match=rf'could mean one step or the whole run; write {name}=1 or {name}="whole"',
        ):
            make(one)
    for value in (500.0, 1.5, np.float32(500), 0.1 * 500):
        with pytest.raises(ConfigurationError) as caught:
            make(value)
        text = f"{name}={float(value)!r} could mean {value:g} steps or {value:g} training runs; write {name}="
        assert str(caught.value).startswith(text + str(round(value)))
    for value in (True, False, np.True_, -0.1, float("inf"), float("nan"), "all", None):
        with pytest.raises(
            ConfigurationError, match=f"{name} of a schedule must be positive: a number of steps"
        ):
            make(value)


@pytest.mark.parametrize("message", BAD)
def test_bad_settings_raise(message):
    with pytest.raises(ConfigurationError, match=message):
        BAD[message]()


def test_standard_constants_equal_the_documented_ones():
    assert {name: repr(rule) for name, rule in SCHEDULES.items()} == {
        "constant": "Constant()",
        "step": "StepDecay(every=0.3, gamma=0.1)",
        "exponential": "Exponential(gamma=0.01, every='whole')",
        "inverse_scaling": "InverseScaling(power=0.5)",
        "linear_warmup": "LinearWarmup(warmup=0.05, then=Constant())",
        "cosine": "Cosine(floor=0.0, warmup=0.05, cycles=1)",
        "one_cycle": "OneCycle(rise=0.3, start=25.0, end=10000.0)",
        "coslog4": "CosLog(cycles=4)",
        "flat_cos": "FlatCosine(flat=0.5)",
    }
    assert Cosine() == Cosine(0, 0, 1) and Cosine(floor=1)(7, 10) == 1


def test_schedules_are_immutable_values():
    for rule in SCHEDULES.values():
        assert rule == type(rule)(**vars(rule)) and hash(rule) == hash(type(rule)(**vars(rule)))
        with pytest.raises(AttributeError):
            rule.gamma = 2


def test_custom_schedule_prints_its_name_without_an_address():
    """A resumed training run compares the repr."""

    class Mine(Schedule):
        pass

    assert repr(Mine()).endswith("Mine()") and Mine() == Mine()


def test_schedules_are_found_by_name_and_the_base_raises():
    assert all(get_schedule(name) is SCHEDULES[name] for name in SCHEDULES)
    with pytest.raises(NotImplementedError, match="Schedule must define __call__"):
        Schedule()(0, 1)


@pytest.mark.parametrize("schedule", [Exponential(0.5, every=0.01), StepDecay(every=0.01, gamma=0.5)])
def test_duration_below_one_step_is_one_step(schedule):
    assert [schedule(t, 10) for t in range(3)] == [1, 0.5, 0.25]
