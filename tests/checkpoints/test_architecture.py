"""Layers saved as JSON are read back equal; other JSON is refused."""

import json
from dataclasses import dataclass, field

import numpy as np
import pytest

from ffnn_gpu.checkpoints.architecture import decode, encode, kinds
from ffnn_gpu.errors import IncompatibleCheckpointError
from ffnn_gpu.nn import activations, initializers
from ffnn_gpu.nn.activations import ACTIVATIONS, Activation, elu, leaky_relu, relu, tanh
from ffnn_gpu.nn.initializers import INITIALIZERS, Constant, Normal, Orthogonal, Uniform, VarianceScaling
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers import (
    BatchNorm,
    CosineEmbedding,
    Dense,
    Dropout,
    Embedding,
    LayerNorm,
    LogSoftmax,
    NTKDense,
    ParametricActivation,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    Residual,
    Scale,
    Softmax,
)
from ffnn_gpu.nn.schedules import SCHEDULES, CosLog, FlatCosine, LinearWarmup

STACKS = {
    "nothing": (),
    "dense": (Dense(3), Dense(3, relu), Dense(3, bias=False),
              Dense(3, weights=Normal(2.0), biases=Constant(1.0))),
    "others": (BatchNorm(), BatchNorm(0.5, 1e-3), LayerNorm(), LayerNorm(1e-2), Dropout(0.0), Dropout(0.25),
               Softmax(), LogSoftmax(), Scale()),
    "embedding": (Embedding([3, 4]), Embedding((3, 4), 5, Uniform(-1, 1)), Embedding([3], np.int64(2))),
    "numbers": (PeriodicEmbedding(3), PeriodicEmbedding(2, 5, 3, 0.5), CosineEmbedding(3),
                CosineEmbedding(1, 8, 0.1)),
    "parametric": (ParametricActivation(relu), ParametricActivation(activations.elu.with_alpha(0.5))),
    "ntk": (NTKDense(3), NTKDense(3, relu), NTKDense(3, bias=False), NTKDense(3, weights=Normal(2.0))),
    "bins": (PiecewiseLinearEmbedding(((0.0, 1.0), (-1.5, 0.1, 2.0))), PiecewiseLinearEmbedding([[0, 1]], 3)),
    "nested": (Residual([Dense(3, tanh), Residual([LayerNorm(), Dense(3)])]), Dense(1)),
    "constants": (Dense(3, leaky_relu.with_alpha(0.3)), Dense(3, activations.elu.with_alpha(0.1 + 0.2))),
    "activations": tuple(Dense(2, phi) for phi in ACTIVATIONS.values()),
    "initializers": tuple(Dense(2, weights=start, biases=start) for start in INITIALIZERS.values()),
    "own initializers": (Dense(2, weights=VarianceScaling(0.1, "mean", "uniform")),
                         Dense(2, weights=Uniform(-1, 1)), Dense(2, weights=Orthogonal(3.0))),
    "schedules": tuple(Dropout(0.1, rule) for rule in SCHEDULES.values()),
    "own schedules": (Dropout(0.1, LinearWarmup(0.2, FlatCosine("whole"))), Dropout(0.2, CosLog(2))),
    "numpy numbers": (Dense(np.int64(3)), Dropout(np.float64(0.5)), LayerNorm(np.float64(1e-4))),
}  # fmt: skip


@dataclass(frozen=True, repr=False)
class Stretch(Layer):
    """A custom layer with fields of every type; some have names that the file format uses itself."""

    factor: float
    activation: Activation = relu
    initializer: initializers.Initializer = initializers.zeros
    layer: Layer | None = None
    alpha: float = 0.5
    layers: tuple[Layer, ...] = ()
    named: str = "x"
    on: bool = False
    sizes: tuple[int, ...] = field(default_factory=tuple)


def through_json(layers, custom=()):
    return decode(json.loads(json.dumps(encode(layers))), custom)


@pytest.mark.parametrize("name", STACKS)
def test_layers_read_from_json_are_equal(name):
    back = through_json(STACKS[name])
    assert back == STACKS[name]
    assert name == "numpy numbers" or repr(back) == repr(STACKS[name])


def test_json_of_a_network_is_short_and_readable():
    assert encode([Dense(128, relu), Dropout(0.1), Dense(10)]) == [
        {"class": "Dense", "width": 128, "phi": {"activation": "relu", "alpha": 0.0}},
        {"class": "Dropout", "rate": 0.1},
        {"class": "Dense", "width": 10},
    ]


def test_dense_of_an_older_version_is_read():
    assert decode({"class": "Dense", "width": 3, "phi": {"activation": "elu", "alpha": 0.5}}) == Dense(
        3, elu.with_alpha(0.5)
    )


def test_dense_with_the_name_of_an_activation_is_saved_as_with_the_object():
    assert encode(Dense(3, "tanh")) == encode(Dense(3, tanh))


@pytest.mark.parametrize(
    "layer",
    [
        Stretch(2.0),
        Stretch(1.0, tanh, Normal(3.0), Dense(4, relu), 0.25, (Dense(2), Stretch(3.0)), "y", True, (1, 2)),
    ],
)
def test_custom_layer_read_from_json_is_equal_for_any_field_names(layer):
    assert through_json([layer, Residual([layer])], [Stretch]) == (layer, Residual([layer]))


def test_error_for_a_custom_layer_that_is_not_given_says_how_to_give_it():
    with pytest.raises(
        IncompatibleCheckpointError,
        match=r"layer 'Stretch'; there are Average, BatchNorm, .*Dense.*layers=\[MyLayer\]",
    ):
        through_json([Stretch(1.0)])


def test_kinds_are_the_classes_of_layers_at_any_depth():
    assert kinds([Dense(2), Residual([Residual([Stretch(1.0)]), LayerNorm()])]) == {
        Dense,
        Residual,
        Stretch,
        LayerNorm,
    }


@pytest.mark.parametrize("value", [np.zeros(2), {"a": 1}, {1, 2}, lambda x: x, Dense, object(), b"bytes", 1j])
def test_value_without_a_json_form_is_refused_when_saved(value):
    with pytest.raises(TypeError, match="cannot be saved"):
        encode([value])


@pytest.mark.parametrize(
    "value",
    [
        {},
        {"class": "Dense"},
        {"class": "Dense", "width": -1},
        {"class": "Dense", "width": 3, "depth": 1},
        {"class": 3},
        {"class": "Dense", "width": 3, "activation": "rleu"},
        {"class": "Dense", "width": 3, "phi": 3},
        {"class": ["Dense"], "width": 3},
        {"class": "Layer"},
        {"class": "object"},
        {"activation": "relu"},
        {"activation": "swish", "alpha": 0.0},
        {"activation": "relu", "alpha": 2.0},
        {"activation": "elu", "alpha": "2"},
        {"activation": ["elu"], "alpha": 1},
        {"schedule": "Schedule"},
        {"schedule": "CosLog", "cycles": 0},
        {"initializer": "Poisson"},
        {"initializer": "Initializer"},
        {"initializer": "Normal", "mode": 1},
        {"initializer": {"a": 1}},
        {"class": "Residual", "layers": 3},
        {"class": "Residual", "layers": []},
        {"class": "Dropout", "rate": None},
        {"class": "BatchNorm", "momentum": "x"},
        {"class": "__import__", "name": "os"},
        {"class": "Network", "n_in": 3},
    ],
)
def test_json_that_describes_no_layer_is_refused(value):
    with pytest.raises(IncompatibleCheckpointError):
        decode([value])


def test_layer_with_attributes_that_are_no_fields_is_refused_when_saved():
    class Undecorated(Layer):
        def __init__(self, k):
            object.__setattr__(self, "k", k)

    with pytest.raises(
        TypeError, match=r"Undecorated has k besides the fields of a dataclass.*@dataclass\(frozen=True\)"
    ):
        encode([Undecorated(3)])
