"""Defaults equal PyTorch's documentation (2.x), except for those listed in `OURS`."""

from dataclasses import MISSING, fields

import pytest

from ffnn_gpu.nn import initializers, layers
from ffnn_gpu.nn.activations import ACTIVATIONS
from ffnn_gpu.nn.losses import standard as losses
from ffnn_gpu.optim import choice, muon, optimizers, schedules
from ffnn_gpu.training import callbacks

PYTORCH = {
    optimizers.SGD: {"lr": 1e-3, "momentum": 0, "nesterov": False, "weight_decay": 0, "l2": 0},
    optimizers.RMSprop: {"lr": 1e-2, "rho": 0.99, "eps": 1e-8, "momentum": 0, "weight_decay": 0, "l2": 0},
    optimizers.Adagrad: {"lr": 1e-2, "eps": 1e-10, "weight_decay": 0, "l2": 0},
    optimizers.Adam: {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0, "l2": 0},
    optimizers.AdamW: {"lr": 1e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 1e-2, "l2": 0},
    muon.Muon: {
        "lr": 1e-3, "adam_lr": None, "momentum": 0.95, "nesterov": True, "weight_decay": 0.1, "beta1": 0.9,
        "beta2": 0.999, "eps": 1e-8, "output_layer": False, "l2": 0,
    },
    optimizers.Nadam: {
        "lr": 2e-3, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "psi": 4e-3, "weight_decay": 0, "l2": 0,
    },
    layers.BatchNorm: {"momentum": 0.1, "eps": 1e-5},
    layers.LayerNorm: {"eps": 1e-5},
    layers.Dense: {"bias": True},
    layers.NTKDense: {"bias": True},
    losses.SoftmaxCrossEntropy: {"label_smoothing": 0, "class_weight": None},
    schedules.StepDecay: {"gamma": 0.1},
    schedules.Cosine: {"floor": 0},
    schedules.OneCycle: {"rise": 0.3, "start": 25, "end": 1e4},
    callbacks.ReduceOnPlateau: {"factor": 0.1, "patience": 10, "cooldown": 0, "factor_floor": 0},
}  # fmt: skip
FACTORS = {"lr_factor": 1, "decay_factor": None}
OURS = {
    (optimizers.SGD, "lr"): 1e-2, (optimizers.RMSprop, "lr"): 1e-3,  # Keras's
    (optimizers.Lion, "lr"): 1e-4, (optimizers.Lion, "beta1"): 0.9,  # the paper's
    (optimizers.Lion, "beta2"): 0.99,
    (optimizers.Lion, "weight_decay"): 0, (optimizers.Lion, "l2"): 0,
    (muon.Muon, "lr"): 2e-2, (muon.Muon, "weight_decay"): 1e-2,  # Jordan's, and AdamW's
    (layers.Dense, "activation"): ACTIVATIONS["identity"], (layers.Dense, "weights"): None,
    (layers.Dense, "biases"): initializers.zeros,
    (layers.NTKDense, "activation"): ACTIVATIONS["identity"], (layers.NTKDense, "weights"): None,
    (layers.NTKDense, "biases"): initializers.zeros,
    (layers.Average, "weights"): None,
    **{
        (kind, name): default
        for kind, names in {
            layers.NTKDense: {"lr_factor": 1, "bias_lr_factor": 1, "decay_factor": 1},
            layers.Scale: FACTORS, layers.PeriodicEmbedding: FACTORS, layers.ParametricActivation: FACTORS,
        }.items()
        for name, default in names.items()
    },
    (layers.Dense, "lr_factor"): 1,
    (layers.Dense, "bias_lr_factor"): 1, (layers.Dense, "decay_factor"): 1,
    (layers.Dropout, "schedule"): None,
    (layers.Embedding, "widths"): None, (layers.Embedding, "weights"): initializers.Normal(1.0),
    # RealMLP's
    (layers.PeriodicEmbedding, "frequencies"): 16, (layers.PeriodicEmbedding, "width"): 4,
    (layers.PeriodicEmbedding, "spread"): 0.1,
    (layers.PiecewiseLinearEmbedding, "width"): 16,  # TabM's
    (layers.CosineEmbedding, "width"): 16, (layers.CosineEmbedding, "spread"): 1.0,  # within TabPack's
}  # fmt: skip
OFF = {
    "l1": 0,
    "clip_norm": None,
    "clip_value": None,
    "ema": None,
    "decay_schedule": None,
}  # of every optimizer; elsewhere in PyTorch
KINDS = [
    *choice.OPTIMIZERS.values(),
    *(getattr(layers, name) for name in layers.__all__ if name[0].isupper()),
]


def defaults(kind):
    return {entry.name: entry.default for entry in fields(kind) if entry.default is not MISSING}


@pytest.mark.parametrize("kind", PYTORCH, ids=lambda kind: kind.__name__)
def test_default_equals_pytorch_except_for_ours(kind):
    want = {name: OURS.get((kind, name), value) for name, value in PYTORCH[kind].items()}
    assert {name: defaults(kind)[name] for name in want} == want


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_default_of_a_layer_or_an_optimizer_is_in_the_tables(kind):
    ours = {name: value for (owner, name), value in OURS.items() if owner is kind}
    off = OFF if kind in choice.OPTIMIZERS.values() else {}
    assert defaults(kind) == PYTORCH.get(kind, {}) | ours | off


def test_constants_of_activations_and_losses_equal_pytorch():
    constants = {name: phi.alpha for name, phi in ACTIVATIONS.items() if phi.alpha}
    assert constants == {"leaky_relu": 0.01, "elu": 1.0} and losses.huber.alpha == 1.0
