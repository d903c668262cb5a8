"""Clipping, update rules and averages as commands."""

import functools
import math
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops import formulas
from ffnn_gpu.backends.cpu.recording.arguments import NotRecordedError, checked
from ffnn_gpu.backends.cpu.recording.commands import Commands
from ffnn_gpu.backends.cpu.recording.partition import SHARES
from ffnn_gpu.backends.elementwise.trace import UntraceableError
from ffnn_gpu.backends.reference.updates import Update


class UpdateOperations(Commands):
    """Operations of optimizers."""

    @checked(grad="*!")
    def clip_by_value(self, grad: Array, limit: float, loss_scale: Array) -> None:
        scale = {} if loss_scale is None else {"scale": loss_scale[:1]}
        loop = formulas.elementwise(self.dtype, "clip scaled" if scale else "clip")
        self._apply(loop, 1, len(grad), x=grad, limit=float(limit), **scale)

    @checked(grad="*")
    def gradient_factor(self, grad: Array, limit: Any, control: Array, loss_scale: Array) -> None:
        sums = self._scratch(SHARES * self.partition.threads, np.float64)
        chunks = self._apply(formulas.elementwise(self.dtype, "squares"), 1, len(grad), sums, x=grad)
        limit = math.inf if limit is None else float(limit)
        self._record("factor", 1, sums, chunks, limit, control, loss_scale)

    @checked(grad="*")
    def squared_norm(self, grad: Array) -> Array:
        self._apply(formulas.elementwise(self.dtype, "squares"), 1, grad.size, self.losses, x=grad)
        return self.losses

    def advance(self, scalars: Array, step: Array, control: Array, lr: Array = None) -> None:
        if lr is not None and (lr.shape, lr.dtype) != ((1,), np.dtype(np.float64)):
            raise NotRecordedError("there is no command for a learning rate that is not float64 (1,)")
        self._record("advance", 1, scalars, step, lr, control)

    def advance_product(self, scalars: Array, beta1: float, psi: float, control: Array) -> None:
        self._record("advance_product", 1, scalars, float(beta1), float(psi), control)

    def _rule(self, name: str, update: Update, *settings: Any) -> None:
        """Update θ and its 16-bit copy: the matrices, which have penalties, then the rest."""
        self._use(update.theta.dtype)
        try:
            if not formulas.of_one_kind(update, settings):
                raise UntraceableError("a moment has another type than θ")
            parts = list(formulas.rule_parts(name, update, settings))
        except UntraceableError:
            self._fallback(name, update, *settings)
            return
        for loop, size, operands in parts:
            self._apply(loop, 1, size, **operands)
        self._current.clear()  # θ's 16-bit copy has changed

    sgd, rmsprop = functools.partialmethod(_rule, "sgd"), functools.partialmethod(_rule, "rmsprop")
    adagrad, adam = functools.partialmethod(_rule, "adagrad"), functools.partialmethod(_rule, "adam")
    nadam, lion = functools.partialmethod(_rule, "nadam"), functools.partialmethod(_rule, "lion")
    own_rule = functools.partialmethod(_rule, "own_rule")

    @checked(mean="*!", values="*")
    def average(self, mean: Array, values: Array, decay: float) -> None:
        self._average(mean, values, decay)
