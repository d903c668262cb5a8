"""Muon for the matrices of products, AdamW for everything else."""

from dataclasses import dataclass
from typing import ClassVar

from ffnn_gpu.backends.reference.backend import Array
from ffnn_gpu.nn.parameters import Parameters
from ffnn_gpu.nn.rates import Group, groups_of, joined
from ffnn_gpu.optim.optimizers import AdamW, OptimizerState, require

RATIO = 1 / 20  # of AdamW's learning rate to Muon's
Stack = tuple[Group, tuple[int, int, int]]  # matrices of one shape without gaps between them, and (n, I, O)


@dataclass(frozen=True, eq=False)
class Muon(AdamW):
    """M ← μ M + (1 − μ) G        W ← W (1 − η λ) − η √max(1, O/I) X        X ≈ U Vᵀ of M's U S Vᵀ

    This updates the matrices W (I, O) of products, such as those of Dense. All other parameters are updated
    by AdamW: biases, embeddings, parameters of normalizations, and the matrix of the last layer, of an
    `Average` that of each member.

    Args:
        lr: η of the matrices.
        adam_lr: learning rate of AdamW; lr/20 if None. A schedule changes both rates by the same factor.
        momentum, nesterov: μ; with nesterov, X comes from μ M + (1 − μ) G.
        beta1, beta2, eps: of AdamW.
        output_layer: whether the matrix of the last layer that has one is updated like the others.

    A layer of your own declares its matrix by `rates`: `Rate(matrix=True)`. On a GPU, a float32 network's
    products of X are in bfloat16, as in the reference.

    Reference: see backends/reference/muon.py.
    """

    lr: float = 2e-2
    adam_lr: float | None = None
    momentum: float = 0.95
    nesterov: bool = True
    output_layer: bool = False
    elementwise: ClassVar[bool] = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.adam_lr is not None:
            require(
                self, "adam_lr", lambda value: 0 <= value < float("inf"), "finite and at least 0, or None"
            )
            require(self, "lr", lambda value: value > 0, "positive with adam_lr")  # the rates have a ratio

    def apply(self, params: Parameters, state: OptimizerState, control: Array) -> None:
        stacks, others = self.parts(params)
        for group in others:
            self.update(params.operations, *self.piece(params, group, state, control))
        for group, shape in stacks:
            update, part = self.piece(params, group, state, control)
            params.operations.muon(update, part.m, shape, self.momentum, self.nesterov)

    def parts(self, params: Parameters) -> tuple[list[Stack], list[Group]]:
        """Return the stacks of matrices that Muon updates, and the groups of the rest, for AdamW."""
        rates = params.rates.items()
        chosen = {name for name, rate in rates if rate.matrix and (self.output_layer or not rate.output)}
        stacks: list[Stack] = []
        for slot in params.slots:
            if slot.name not in chosen:
                continue
            (*_, I, O), rate, stop = slot.shape, params.rates[slot.name], slot.start + slot.size
            group = Group(slot.start, stop, slot.size if rate.decay else 0, rate.lr, rate.decay or 1.0)
            count, last = slot.size // (I * O), stacks[-1] if stacks else None
            both = joined(last[0], group) if last and last[1][1:] == (I, O) else None
            if last and both:
                stacks[-1] = both, (last[1][0] + count, I, O)
            else:
                stacks.append((group, (count, I, O)))
        rest = groups_of((extent for extent in params.extents if extent[0] not in chosen), params.rates)
        ratio = RATIO if self.adam_lr is None else self.adam_lr / self.lr
        rest = [group._replace(lr=group.lr * ratio) for group in rest]
        return stacks, rest
