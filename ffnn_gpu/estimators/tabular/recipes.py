"""How a member of an ensemble is built and trained, and the presets, which are lists of recipes."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from ffnn_gpu.nn.initializers import Normal
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers import Dense, Dropout, Embedding
from ffnn_gpu.optim.optimizers import AdamW, Optimizer

EMBEDDED = Normal(0.1)
LEAST_BATCH, BATCHES = 32, 16  # a batch of a small table: at least 32 rows, at most one 16th of the table


@dataclass(frozen=True)
class Recipe:
    """One kind of member.

    Args:
        name: for messages.
        hidden: widths of the hidden layers; () for a linear model.
        activation: of the hidden layers.
        dropout: rate after each hidden layer, for classes and for numbers.
        lr, weight_decay: of AdamW.
        schedule: of the learning rate.
        epochs: passes over the training rows, if these are `steps` updates or more.
        steps: the smallest number of updates; a small table gets more epochs.
        batch_size: rows of a minibatch, fewer on a small table.
    """

    name: str
    hidden: tuple[int, ...]
    activation: str = "relu"
    dropout: tuple[float, float] = (0.0, 0.0)
    lr: float = 3e-3
    weight_decay: float = 1.0
    schedule: str = "one_cycle"
    epochs: int = 30
    steps: int = 1500
    batch_size: int = 64

    def layers(self, levels: Sequence[int], regression: bool) -> list[Layer]:
        """Return the layers before the last one. levels: the numbers of categories of the codes in x."""
        found: list[Layer] = [Embedding(tuple(levels), weights=EMBEDDED)] if levels else []
        rate = self.dropout[regression]
        for width in self.hidden:
            found.append(Dense(width, self.activation))
            if rate:
                found.append(Dropout(rate))
        return found

    def optimizer(self) -> Optimizer:
        """Return the rule with this recipe's settings."""
        return AdamW(self.lr, weight_decay=self.weight_decay)

    def batch(self, rows: int) -> int:
        """Return the rows of a minibatch of a table with so many training rows."""
        return min(self.batch_size, max(LEAST_BATCH, rows // BATCHES), rows)

    def passes(self, rows: int) -> int:
        """Return the number of epochs on a table with so many training rows."""
        return max(self.epochs, math.ceil(self.steps * self.batch(rows) / rows))


LINEAR = Recipe("linear", (), lr=1e-2, weight_decay=0.0, schedule="cosine", epochs=40)
TWO_LAYERS = Recipe("two layers", (512, 256), "relu", (0.4, 0.1))
THREE_LAYERS = Recipe(
    "three layers", (256, 256, 256), "silu", (0.15, 0.15), weight_decay=0.3, epochs=60, batch_size=128
)


@dataclass(frozen=True)
class Preset:
    """The recipes of an ensemble, and the number of folds: each recipe is trained once without each fold."""

    recipes: tuple[Recipe, ...]
    folds: int


PRESETS = {
    "fast": Preset((LINEAR, TWO_LAYERS), 3),
    "good": Preset((LINEAR, TWO_LAYERS, THREE_LAYERS), 5),
    "best": Preset((LINEAR, TWO_LAYERS, THREE_LAYERS), 10),
}
