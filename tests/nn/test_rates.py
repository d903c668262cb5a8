from dataclasses import dataclass

import numpy as np
import pytest

from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers import BatchNorm, Dense, Residual
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.rates import Group, Rate, groups_of, in_order


@dataclass(frozen=True, repr=False)
class Declared(Layer):
    """Three parameters with the given rates."""

    declared: tuple[tuple[str, Rate], ...] = ()

    def parameter_shapes(self, I):
        return {"s": (I,), "V": (I, 2), "t": (I,)}

    def initial_values(self, rng, I):
        return {name: np.ones(shape) for name, shape in self.parameter_shapes(I).items()}

    def rates(self):
        return dict(self.declared)


def made(*layers):
    return Network(3, list(layers), "numpy").params


def names(params):
    return [slot.name for slot in params.slots]


def test_network_without_declared_factors_has_one_group_that_decays_in_its_matrices():
    params = made(Dense(5), BatchNorm(), Residual([Dense(7), Dense(5, bias=False)]), Dense(2))
    assert params.groups == [Group(0, len(params.theta), params.n_decayed)]


def test_parameters_with_equal_factors_are_next_to_each_other_and_form_one_group():
    params = made(
        Dense(5, bias_lr_factor=0.1),
        Dense(4, lr_factor=0.1),
        Residual([Dense(4, bias_lr_factor=0.1)]),
        Declared((("s", Rate(6.0, 1.0)), ("V", Rate(1.0, 0.0)))),
    )
    assert names(params) == ["1.W", "3.s", "0.W", "2.layers.0.W", "1.b", "3.V", "3.t", "0.b", "2.layers.0.b"]
    at = {slot.name: slot.start for slot in params.slots}
    assert params.groups == [
        Group(0, at["3.s"], 64, lr=0.1),
        Group(at["3.s"], at["0.W"], 64, lr=6.0),
        Group(at["0.W"], at["0.b"], 128),  # matrices, then numbers without decay
        Group(at["0.b"], len(params.theta), 0, lr=0.1),
    ]
    assert params.n_decayed == at["1.b"]


def test_decay_factors_other_than_0_and_1_have_groups_of_their_own():
    params = made(Dense(5, decay_factor=0.5), Dense(5), Dense(5, decay_factor=0.0))
    assert names(params) == ["0.W", "1.W", "0.b", "1.b", "2.W", "2.b"]
    half, whole, *rest = params.groups
    assert (half.decay, half.n_decayed, whole.decay, rest) == (0.5, half.stop, 1.0, [])
    assert whole.start + whole.n_decayed == params.n_decayed == params.slots[2].start


@pytest.mark.parametrize("seed", range(5))
def test_groups_and_their_pieces_give_every_element_the_factors_of_its_parameter(seed):
    rng = np.random.default_rng(seed)
    rates = {str(k): Rate(*(float(f) for f in rng.choice([0, 0.5, 1], 2))) for k in range(12)}
    ordered = [name for name, _ in in_order([(name, (1,)) for name in rates], rates)]
    sizes = rng.integers(1, 9, 12)
    stops = np.cumsum(sizes).tolist()
    extents = [(n, b - s, b) for n, s, b in zip(ordered, sizes.tolist(), stops, strict=True)]
    want = np.repeat([rates[name][:2] for name in ordered], sizes, axis=0)
    for length in (5, stops[-1]):
        found = []
        for start in range(0, stops[-1], length):
            for group in groups_of(extents, rates):
                part = group.within(start, min(start + length, stops[-1]))
                for i in range(part.start, part.stop) if part else ():
                    decayed = i - part.start < part.n_decayed
                    found.append((start + i, part.lr, part.decay * decayed))
        np.testing.assert_array_equal(found, np.column_stack([np.arange(stops[-1]), want]))


WRONG = {
    "rates of a layer names 0.x; parameter_shapes has no such": lambda: made(Declared((("x", Rate()),))),
    "the factor lr of 0.s must be finite and at least 0, not -1": lambda: made(Declared((("s", Rate(-1)),))),
    "the factor decay of 0.s must be finite and at least 0, not nan": lambda: made(
        Declared((("s", Rate(1, float("nan"))),))
    ),
    "lr_factor of Dense must be finite and at least 0, not inf": lambda: Dense(2, lr_factor=float("inf")),
    "bias_lr_factor of Dense must be finite and at least 0, not True": lambda: Dense(2, bias_lr_factor=True),
    "decay_factor of Dense must be finite and at least 0, not '1'": lambda: Dense(2, decay_factor="1"),
}


@pytest.mark.parametrize("message", WRONG)
def test_wrong_factor_raises(message):
    with pytest.raises(ConfigurationError, match=message):
        WRONG[message]()
