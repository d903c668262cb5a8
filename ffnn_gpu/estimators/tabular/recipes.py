"""The kinds of members of an ensemble, and the presets, which are lists of recipes."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checks import is_whole
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.tabular.bins import leading_numbers, piecewise_linear
from ffnn_gpu.estimators.tabular.recipe import MOST_UPDATES, Recipe
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.nn.data_dependent import initialize_from
from ffnn_gpu.nn.initializers import Normal
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers import (
    Dense,
    Dropout,
    Embedding,
    NTKDense,
    ParametricActivation,
    PeriodicEmbedding,
    Scale,
)
from ffnn_gpu.nn.network import Network
from ffnn_gpu.optim.optimizers import AdamW, Optimizer

EMBEDDED = Normal(0.1)


@dataclass(frozen=True, kw_only=True)
class Plain(Recipe):
    """Dense layers with dropout, trained by AdamW.

    Args:
        bins: columns of numbers are embedded by functions that are linear in bins.
        hidden: widths of the hidden layers; () for a linear model.
        activation: of the hidden layers.
        dropout: rate after each hidden layer, for classes and for numbers.
        lr, weight_decay: of AdamW.
    """

    bins: bool = False
    hidden: tuple[int, ...] = ()
    activation: str = "relu"
    dropout: tuple[float, float] = (0.0, 0.0)
    lr: float = 3e-3
    weight_decay: float = 1.0

    def layers(self, levels: Sequence[int], x: HostArray, task: Task) -> list[Layer]:
        found: list[Layer] = [Embedding(tuple(levels), weights=EMBEDDED)] if levels else []
        if self.bins and (F := leading_numbers(_without_codes(x, levels))):
            found.append(piecewise_linear(x[:, :F]))
        rate = self.dropout[task.kind == "regression"]
        for width in self.hidden:
            found.append(Dense(width, self.activation))
            if rate:
                found.append(Dropout(rate))
        return [*found, *task.head]

    def optimizer(self, regression: bool) -> Optimizer:
        return AdamW(self.lr, weight_decay=self.weight_decay)


@dataclass(frozen=True, kw_only=True)
class RealMLP(Recipe):
    """Waves of each number, a factor for each column, and dense layers in the NTK parametrization.

    Every setting is the published default for tables (RealMLP-TD), but the number of epochs (256), the size
    of batches, and the initial values of embedded categories, N(0, 1).

    Reference: Holzmüller, Grinsztajn, Steinwart: Better by Default (2024), section 3 and table A.1.
    """

    schedule: str = "coslog4"
    hidden: tuple[int, ...] = (256, 256, 256)
    dropout: float = 0.15
    weight_decay: float = 0.02
    lr: tuple[float, float] = (0.04, 0.2)  # for classes and for numbers
    smoothing: float = 0.1

    def layers(self, levels: Sequence[int], x: HostArray, task: Task) -> list[Layer]:
        found: list[Layer] = [Embedding(tuple(levels), 8, weights=EMBEDDED)] if levels else []
        # The decay of a parameter is λ η times both factors, of which the paper's code takes the squares.
        if F := leading_numbers(_without_codes(x, levels)):
            found.append(PeriodicEmbedding(F, lr_factor=0.1, decay_factor=0.1))
        found.append(Scale(lr_factor=6.0, decay_factor=6.0))
        phi = "mish" if task.kind == "regression" else "selu"
        for width in self.hidden:
            found += [NTKDense(width, bias_lr_factor=0.1), ParametricActivation(phi, 0.1, 0.1)]
            if self.dropout:
                found.append(Dropout(self.dropout, "flat_cos"))
        (head,) = task.head
        return [*found, NTKDense(head.output_width(1), bias_lr_factor=0.1)]

    def task(self, task: Task) -> Task:
        return replace(task, label_smoothing=self.smoothing) if task.kind == "multiclass" else task

    def targets(self, y: HostArray, task: Task) -> HostArray:
        """Return targets of two classes or several labels with smoothing; the loss of more classes has it."""
        if task.kind not in ("binary", "multilabel"):
            return y
        return np.asarray(y * (1 - self.smoothing) + self.smoothing / 2, np.float32)

    def initialize(self, network: Network, x: HostArray, seed: int) -> None:
        if len(x) > 1:  # one row has no spread
            initialize_from(network, x, seed)

    def optimizer(self, regression: bool) -> Optimizer:
        lr, decay = self.lr[regression], self.weight_decay
        return AdamW(lr, beta2=0.95, weight_decay=decay, decay_schedule="flat_cos")


def _without_codes(x: HostArray, levels: Sequence[int]) -> HostArray:
    return x[:, : x.shape[1] - len(levels)]


LINEAR = Plain(name="linear", lr=1e-2, weight_decay=0.0, schedule="cosine", epochs=40)
# Reference: Gorishniy, Rubachev, Babenko: On Embeddings for Numerical Features (2022), MLP-PLE; width, bins,
# dropout and learning rate: Gorishniy, Kotelnikov, Babenko: TabM (2025), section 2 and appendix.
MLP_PLE = Plain(name="MLP-PLE", bins=True, hidden=(256, 256), dropout=(0.1, 0.1), lr=2e-3, weight_decay=0.1)
REAL_MLP = RealMLP(name="RealMLP", epochs=100, steps=800, batch_size=256)


@dataclass(frozen=True)
class Preset:
    """The recipes of an ensemble, and the number of folds: each recipe is trained once without each fold."""

    recipes: tuple[Recipe, ...]
    folds: int

    def __post_init__(self) -> None:
        names = [recipe.name for recipe in self.recipes]
        if not names or len({*names}) < len(names):
            raise ConfigurationError(f"a Preset has recipes with different names, not {names}")
        if not is_whole(self.folds) or self.folds < 2:
            raise ConfigurationError(f"folds of a Preset must be at least 2, not {self.folds!r}")


PRESETS = {
    "fast": Preset((LINEAR, MLP_PLE), 3),
    "good": Preset((LINEAR, MLP_PLE, REAL_MLP), 4),
    "best": Preset((LINEAR, MLP_PLE, replace(REAL_MLP, epochs=256)), 8),
}


def rows_in_full(preset: Preset) -> int:
    """Return the most training rows of which some recipe makes all its passes, without one fold of them.

    A recipe makes them up to MOST_UPDATES; members of a larger table would all be cut short.
    """
    inside = max(MOST_UPDATES * recipe.batch_size // recipe.epochs for recipe in preset.recipes)
    return inside * preset.folds // (preset.folds - 1)
