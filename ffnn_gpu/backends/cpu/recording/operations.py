"""The operations of a backend as commands. `Recorder` keeps the commands, `Immediate` runs them at once.

Each operation has the signature and the meaning that the reference gives it. One that has no command for its
arguments raises NotRecordedError before it has changed anything that it also reads.
"""

import functools
import inspect
import math
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from itertools import chain
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.backends.cpu.loops import (
    cross_entropy,
    embedding,
    formulas,
    layers,
    losses,
    matrix_product,
    normalization,
    softmax,
    step_control,
)
from ffnn_gpu.backends.cpu.loops.chunks import UNIT, command_of
from ffnn_gpu.backends.cpu.loops.compiled_function import CompiledFunction
from ffnn_gpu.backends.cpu.loops.gather import gather_of
from ffnn_gpu.backends.cpu.loops.layers import FEW
from ffnn_gpu.backends.cpu.loops.matrix_product import size_of_strips
from ffnn_gpu.backends.cpu.loops.normalization import BLOCK
from ffnn_gpu.backends.cpu.numpy_backend import NumpyBackend
from ffnn_gpu.backends.cpu.recording.arguments import FLOAT32, NotRecordedError, checked, place_of
from ffnn_gpu.backends.cpu.recording.partition import SHARES, Partition
from ffnn_gpu.backends.elementwise.lanes import STORED
from ffnn_gpu.backends.elementwise.loop_code import MATRICES
from ffnn_gpu.backends.elementwise.trace import UntraceableError
from ffnn_gpu.backends.reference.embedding import Sizes
from ffnn_gpu.backends.reference.philox import MASK, threshold
from ffnn_gpu.backends.reference.updates import Update

NO_TAIL = (0,)  # of a product
COSTLY = 4  # products that take as long as an element of a dropout mask, or of layer normalization
FLOAT = np.dtype(np.float64)
INDICES = np.dtype(np.int64), np.dtype(np.int32)
# name → body of each function in loops/ whose name ends in _command
BODIES = {
    name.removesuffix("_command"): body
    for family in (
        layers,
        embedding,
        matrix_product,
        normalization,
        softmax,
        losses,
        cross_entropy,
        step_control,
    )
    for name, body in vars(family).items()
    if name.endswith("_command")
}


@functools.cache
def command(name: str, dtype: np.dtype) -> CompiledFunction:
    """Return the compiled command for arrays of `dtype`."""
    return command_of(BODIES[name], dtype)


class Operations(ABC):
    """Operations on arrays of float32 or float64, or of these and a 16-bit type.

    A 16-bit array has a float32 copy, with which the commands compute. It is made when the array is first
    read, and rounded together with the array after each command that has written it.

    Attributes:
        dtype: the type in which the operations compute.
        partition: decides how many chunks a command has.
        losses: what the chunks of a loss write; their sum is the loss.
        failed: (1,), not 0 if a command has refused its arguments.
        backend: the NumbaBackend whose operations these are.
    """

    name = "numpy"
    dtype: np.dtype
    partition: Partition
    losses: HostArray
    failed: HostArray
    backend: Any
    _copies: dict[tuple[int, int], HostArray]  # place of a 16-bit array → its float32 copy
    _current: set[tuple[int, int]]  # places of the arrays that equal their copies
    _strips: HostArray = np.zeros(0)  # the copy of a product's A, whose memory the next product uses too

    # ------------------------------------------------------------------ differs between the subclasses

    @abstractmethod
    def _use(self, dtype: np.dtype) -> None:
        """Prepare for arrays of this type. Raises NotRecordedError if there are no commands for it."""

    @abstractmethod
    def _run(self, function: Any, operands: tuple[Any, ...], chunks: int) -> None:
        """Run or record a command. An operand is an array, None, an integer, or a float."""

    @abstractmethod
    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Run or record a call of Python code."""

    def _scratch(self, size: int, dtype: Any) -> HostArray:
        """Return memory that lives as long as the commands."""
        return np.zeros(size, dtype)

    def _fused_with_product(self, da: Array, loop: Any, of: Array) -> bool:
        """Make the adjoint of φ the tail of the product whose result is `da`. Return whether it is."""
        return False

    # ------------------------------------------------------------------ rows

    @checked(out="BI!")
    def take(self, rows: Array, index: Array, out: Array, mean: Array = None, scale: Array = None) -> Array:
        index = np.asarray(index)
        if not _fit(rows, index, out, mean, scale):
            raise NotRecordedError("there is no command for such rows")
        if index.dtype.kind not in "iu" or not (index.size and index.min() >= 0 and index.max() < len(rows)):
            raise NotRecordedError("an index is out of range")
        rows, index = np.asarray(rows), np.asarray(index, np.int64)  # rows may be of a mapped file
        operands = rows, index, out, mean, scale, *out.shape
        chunks = 1 if mean is None else self.partition.by_rows(out)  # a cast takes less time than a helper
        self._run(gather_of(rows.dtype, out.dtype), operands, chunks)
        return out

    # ------------------------------------------------------------------ 16-bit arrays

    def _float32(self, array: Array, read: bool) -> Array:
        """Return the float32 copy of a 16-bit array, equal to it if it is to be `read`."""
        whole = _in_memory(array)
        place = place_of(whole)
        if array.dtype.name not in STORED:
            raise NotRecordedError(f"an array is {array.dtype}")
        if place not in self._copies:
            if any(place[0] < stop and start < place[1] for start, stop in self._copies):
                raise NotRecordedError("two arrays overlap")
            self._copies[place] = self._scratch(whole.size, FLOAT32)
        copy = self._copies[place].reshape(whole.shape)
        if read and place not in self._current:
            loop = formulas.elementwise(FLOAT32, f"widen {array.dtype.name}")
            self._apply(loop, 1, copy.size, x=whole, out=copy)
            self._current.add(place)
        return copy if whole is array else copy.T

    def _round(self, copy: Array, array: Array) -> None:
        """Round the copy of a 16-bit array, and write it to the array."""
        loop = formulas.elementwise(FLOAT32, f"round {array.dtype.name}")
        self._apply(loop, 1, copy.size, x=copy, out=array)
        self._current.add(place_of(array))

    def _in_float32(self, operation: Any, given: dict[str, Any], narrow: dict[str, tuple[bool, bool]]) -> Any:
        """Return operation(self, **given) on float32 copies, of which those it writes are rounded.

        narrow: name of a 16-bit array → whether it is read, and whether it is written.
        """
        copies = {name: self._float32(given[name], read) for name, (read, _) in narrow.items()}
        result = operation(self, **(given | copies))
        for name, copy in copies.items():
            if narrow[name][1]:
                self._round(copy, given[name])
        return next((given[name] for name, copy in copies.items() if result is copy), result)

    # ------------------------------------------------------------------ layers

    @checked(apart=True, x="BI", W="IO", b="O?", out="BO!", s="BO!?")
    def affine(self, x: Array, W: Array, b: Array, phi: Any, out: Array, s: Array = None) -> Array:
        _require_numbers(x, W)
        (B, I), O, loop = x.shape, W.shape[1], self._activation(phi, b, s)
        tail = self._tail(loop, phi, b, out, s)
        if B <= FEW:
            chunks = self.partition.of_few_rows(B, W)
            sums = self._scratch(chunks * B * O, self.dtype)
            self._record("few_rows", chunks, x, W, sums, B, I, O)
            self._record("sum_of_few", 1, sums, chunks, out, B, O, *tail)
        else:
            self._product(x, W, out, *tail)
        if loop is None:
            self._fallback("activate", out, phi)
        return out

    def _product(self, A: Array, B: Array, out: Array, *tail: Any) -> None:
        """out = A B, then the tail; A and B may be transposed"""
        (M, K), N, turned = A.shape, B.shape[1], not B.flags.c_contiguous
        if self._strips.size < size_of_strips(M, K):
            self._strips = self._scratch(size_of_strips(M, K), self.dtype)
        chunks, across = self.partition.grid(M, N, K)
        of_A = _in_memory(A), *A.strides
        if across > 1:  # several chunks read the same strips
            self._record("strips", self.partition.of_strips(M, K), *of_A, self._strips, M, K)
            of_A = 0, 0, 0
        factors = self._strips, _in_memory(B), B.strides[turned], turned
        self._record("product", chunks, *factors, out, N * out.itemsize, M, N, K, across, *of_A, *tail)

    def _tail(self, loop: Any, phi: Any, b: Array, out: Array, s: Array) -> Any:
        """Return the address and the slots of the loop out ← φ(out + b); NO_TAIL if it changes nothing."""
        if phi.name == "identity" and b is None and s is None:
            return NO_TAIL
        if loop is None:  # the tail adds b, and φ is a call
            loop = formulas.activation(self.dtype, unchanged, b is not None, s is not None)
        return loop.block, *formulas.slots(loop, out=out, b=b, s=s)

    def _activation(self, phi: Any, b: Array, s: Array) -> Any:
        return _compiled(formulas.activation, self.dtype, phi.value, b is not None, s is not None)

    @checked(s="*!")
    def activate(self, s: Array, phi: Any) -> Array:
        if phi.name != "identity":
            loop = self._activation(phi, None, None)
            if loop is None:
                self._fallback("activate", s, phi)
            else:
                self._apply(loop, 1, s.size, out=s)
        return s

    @checked(da="*!", a="*", s="*?")
    def activation_backward(self, da: Array, a: Array, phi: Any, s: Array = None) -> Array:
        if phi.name == "identity":
            return da
        loop, of = _compiled(formulas.adjoint, self.dtype, phi.derivative), s if phi.needs_input else a
        if loop is None:
            self._fallback("activation_backward", da, a, phi, s)
        elif not self._fused_with_product(da, loop, of):
            self._apply(loop, 1, da.size, da=da, of=of)
        return da

    def affine_gradients(self, x: Array, delta: Array, dW: Array, db: Array) -> None:
        self.gemm(x.T, delta, out=dW)
        if db is not None:
            self.column_sum(delta, out=db)

    @checked(apart=True, A="BO", out="O!")
    def column_sum(self, A: Array, out: Array) -> Array:
        self._record("column_sum", self.partition.by_columns(A), A, out, *A.shape)
        return out

    @checked(apart=True, A="MK", B="KN", out="MN!")
    def gemm(self, A: Array, B: Array, out: Array) -> Array:
        _require_numbers(A, B)
        self._product(A, B, out, *NO_TAIL)
        return out

    @checked(x="*", y="*", out="*!")
    def add(self, x: Array, y: Array, out: Array) -> Array:
        self._apply(formulas.elementwise(self.dtype, "add"), 1, out.size, x=x, y=y, out=out)
        return out

    @checked(array="*", out="*!")
    def copy(self, array: Array, out: Array) -> Array:
        self._apply(formulas.elementwise(self.dtype, "copy"), 1, out.size, x=array, out=out)
        return out

    @checked(x="*", out="*!")
    def scaled(self, x: Array, factor: Array, out: Array) -> Array:
        if (factor.shape, factor.dtype) != ((1,), np.dtype(np.float64)):
            raise NotRecordedError("there is no command for a factor that is not float64 (1,)")
        self._apply(formulas.elementwise(self.dtype, "scale"), 1, out.size, x=x, factor=factor, out=out)
        return out

    @checked(out="BI!")
    def dropout_mask(self, rate: float, seed: int, step: Array, layer: int, row: int, out: Array) -> Array:
        if not isinstance(step, np.ndarray) or (step.dtype, step.size) != (np.dtype(np.int64), 1):
            raise NotRecordedError("the step is no int64 (1,)")
        keep, key = float(1.0 / (1.0 - rate)), (seed & MASK, (seed >> 32) & MASK)
        operands = keep, threshold(rate), *key, step, layer, row, out, *out.shape
        self._record("dropout_mask", self.partition.by_rows(out, COSTLY), *operands)
        return out

    @checked(x="*", mask="*", out="*!")
    def dropout(self, x: Array, mask: Array, out: Array) -> Array:
        self._apply(formulas.elementwise(self.dtype, "multiply"), 1, out.size, x=x, y=mask, out=out)
        return out

    # ------------------------------------------------------------------ embedding

    @checked(apart=True, x="BI", E="P", out="BO!")
    def embedding(self, x: Array, E: Array, levels: Sizes, widths: Sizes, out: Array) -> Array:
        sizes = *x.shape, out.shape[1], len(levels), self.failed, *chain(*zip(levels, widths, strict=True))
        self._record("embedding", self.partition.by_rows(out), x, E, out, *sizes)
        return out

    @checked(apart=True, da="BO", x="BI", dE="P!")
    def embedding_backward(
        self, da: Array, x: Array, levels: Sizes, widths: Sizes, dE: Array, dx: Array | None
    ) -> Array | None:
        if dx is not None:
            raise NotRecordedError("there is no command for the gradient at x")
        (B, I), K, codes = x.shape, len(levels), sum(levels)
        sizes = [*chain(*zip(levels, widths, strict=True))]
        heads, links = self._scratch(codes, np.int64), self._scratch(K * B, np.int64)
        by_column = self.partition.chunks(codes + K * B, K)
        self._record("rows_of_codes", by_column, x, heads, links, B, I, K, self.failed, *sizes)
        shape = *da.shape, K, I - K, codes
        by_code = self.partition.chunks(dE.size + da.size, codes)
        self._record("embedding_backward", by_code, da, dE, heads, links, *shape, *sizes)
        return dx

    # ------------------------------------------------------------------ normalization

    @checked(x="BI", gain="I", bias="I", out="BI!", xhat="BI!?", rstd="B!?")
    def layer_norm(self, x: Any, gain: Any, bias: Any, eps: float, out: Any, xhat: Any, rstd: Any) -> Array:
        xhat = out if xhat is None else xhat
        operands = x, gain, bias, float(eps), out, xhat, rstd, *x.shape
        self._record("layer_norm", self.partition.by_rows(x, COSTLY), *operands)
        return out

    @checked(x="BI", gain="I", bias="I", out="BI!", xhat="BI!", rstd="I!", mean="I!", variance="I!")
    def batch_norm(
        self,
        x: Array,
        gain: Array,
        bias: Array,
        eps: float,
        out: Array,
        xhat: Array,
        rstd: Array,
        mean: Array,
        variance: Array,
    ) -> Array:
        _require_numbers(x)
        sums, across, blocks = self._sums_of_blocks(x)
        self._record("moments", across * blocks, x, sums, across, *x.shape)
        self._record("merge_moments", 1, sums, float(eps), rstd, mean, variance, x, *x.shape)
        self._record("batch_norm", self.partition.by_rows(x), x, gain, bias, out, xhat, sums, *x.shape)
        return out

    def _sums_of_blocks(self, x: Array) -> tuple[Array, int, int]:
        """Return memory for two sums over the columns of each block, the parts of a block, and the blocks."""
        blocks = max(1, -(-len(x) // BLOCK))
        return (
            self._scratch(2 * blocks * x.shape[1], FLOAT),
            -(-self.partition.by_columns(x) // blocks),
            blocks,
        )

    def _sums_of_columns(self, da: Array, xhat: Array, dgain: Array, dbias: Array) -> None:
        sums, across, blocks = self._sums_of_blocks(da)
        self._record("sums_of_columns", across * blocks, da, xhat, sums, across, *da.shape)
        self._record("merge_sums", 1, sums, dgain, dbias, *da.shape)

    @checked(x="BI", gain="I", bias="I", out="BI!", mean="I", variance="I")
    def batch_norm_inference(
        self, x: Array, gain: Array, bias: Array, eps: float, out: Array, mean: Array, variance: Array
    ) -> Array:
        operands = x, gain, bias, float(eps), out, mean, variance, *x.shape
        self._record("batch_norm_inference", self.partition.by_rows(x), *operands)
        return out

    @checked(da="BI!", gain="I", xhat="BI", rstd="B", dgain="I!", dbias="I!", dx="BI!?")
    def layer_norm_backward(
        self, da: Array, gain: Array, xhat: Array, rstd: Array, dgain: Array, dbias: Array, dx: Array
    ) -> Array | None:
        self._sums_of_columns(da, xhat, dgain, dbias)
        if dx is not None:
            operands = da, gain, xhat, rstd, dx, *da.shape
            self._record("layer_norm_backward", self.partition.by_rows(da, COSTLY), *operands)
        return dx

    @checked(da="BI!", gain="I", xhat="BI", rstd="I", dgain="I!", dbias="I!", dx="BI!?")
    def batch_norm_backward(
        self, da: Array, gain: Array, xhat: Array, rstd: Array, dgain: Array, dbias: Array, dx: Array
    ) -> Array | None:
        self._sums_of_columns(da, xhat, dgain, dbias)
        if dx is not None:
            operands = da, gain, xhat, rstd, dgain, dbias, dx, *da.shape
            self._record("batch_norm_backward", self.partition.by_rows(da), *operands)
        return dx

    def running_statistics(
        self, mean: Array, variance: Array, rows: int, momentum: float, *running: Array
    ) -> None:
        unbiased = rows / (rows - 1)
        for average, of_batch, factor in zip(running, (mean, variance), (1.0, unbiased), strict=True):
            self._average(average, of_batch, 1.0 - momentum, factor)

    # ------------------------------------------------------------------ softmax

    @checked(z="BC", out="BC!")
    def softmax(self, z: Array, out: Array) -> Array:
        self._record("softmax", self._exponentials(z), z, out, *z.shape)
        return out

    @checked(da="BC!", a="BC")
    def softmax_backward(self, da: Array, a: Array) -> Array:
        self._record("softmax_backward", self.partition.by_rows(da), da, a, *da.shape)
        return da

    @checked(z="BC", out="BC!")
    def log_softmax(self, z: Array, out: Array) -> Array:
        self._record("log_softmax", self._exponentials(z), z, out, *z.shape)
        return out

    @checked(da="BC!", a="BC")
    def log_softmax_backward(self, da: Array, a: Array) -> Array:
        self._record("log_softmax_backward", self._exponentials(da), da, a, *da.shape)
        return da

    # ------------------------------------------------------------------ losses

    @checked(apart=True, z="BC", weight="B?", class_weight="C?", dz="BC!?")
    def softmax_cross_entropy(
        self, z: Array, y: Array, weight: Array, class_weight: Array, label_smoothing: float, dz: Array
    ) -> Array:
        if dz is not None and np.may_share_memory(y, dz):
            raise NotRecordedError("the gradient would overwrite the targets")
        hard = y.ndim == 1 and y.dtype.kind in "iu"
        y = self._class_indices(y) if hard else y
        if y.shape != z.shape[:1] if hard else (y.shape, y.dtype) != (z.shape, z.dtype):
            raise NotRecordedError("there is no command for targets of this type or shape")
        if hard and class_weight is not None:
            scale = self._weight_of_classes(y, class_weight, weight, bool(label_smoothing))
        else:
            scale = self._normalized(weight)
        targets = z, y, y.itemsize if hard else 0
        results = scale, self._gradient(dz, z), *z.shape, self.losses, self.failed
        if hard and not label_smoothing:
            self._record("softmax_cross_entropy", self._exponentials(z), *targets, *results)
        else:
            factors = class_weight, float(label_smoothing)
            self._record("soft_cross_entropy", self._exponentials(z), *targets, *factors, *results)
        return self._loss()

    @checked(apart=True, p="BC", q="BC", weight="B?", dp="BC!?")
    def cross_entropy(self, p: Array, q: Array, weight: Array, dp: Array, smallest: float) -> Array:
        scale, dp = self._normalized(weight), self._gradient(dp, p)
        operands = p, q, scale, float(smallest), dp, *p.shape, self.losses
        self._record("cross_entropy", self._exponentials(p), *operands)
        return self._loss()

    @checked(z="BO", y="BO", weight="B?", dz="BO!?")
    def pointwise_loss(self, kind: Any, z: Array, y: Array, weight: Array, dz: Array) -> Array:
        _require_numbers(z)
        (B, O), axes = z.shape, None if weight is None else "rows" if z.shape[1] > 1 else "both"
        loop = _compiled(formulas.pointwise_loss, self.dtype, kind.value, kind.derivative, axes)
        if loop is None:
            self._fallback("pointwise_loss", kind, z, y, weight, dz)
            return self._loss()
        rows, columns = (B, O) if axes == "rows" else (1, B * O)
        share, w = 1 / (max(B, 1) * O if weight is None else O), self._normalized(weight)
        self._apply(loop, rows, columns, self.losses, z=z, y=y, dz=self._gradient(dz, z), share=share, w=w)
        return self._loss()

    def _class_indices(self, y: Array) -> Array:
        """Return the class indices in a type that commands read."""
        if y.dtype not in INDICES:
            raise NotRecordedError(f"there is no command for class indices in {y.dtype}")
        return y

    def _loss(self) -> Any:
        """Return what holds the loss, or the loss."""
        return self.losses

    def _gradient(self, dz: Array, z: Array) -> Array:
        return self._scratch(z.size, z.dtype).reshape(z.shape) if dz is None else dz

    def _exponentials(self, z: Array) -> int:
        """Return the chunks of a loop over rows that computes e^z."""
        _require_numbers(z)
        return self.partition.by_rows(z, 16)

    def _weight_of_classes(self, y: Array, v: Array, weight: Array, smoothed: bool) -> Array:
        out = self._scratch(len(y), self.dtype)
        sizes = len(y), len(v), self.failed
        self._record("weight_of_classes", 1, y, y.itemsize, v, weight, smoothed, out, *sizes)
        return out

    def _normalized(self, weight: Array) -> Array:
        if weight is None:
            return None
        out = self._scratch(len(weight), self.dtype)
        self._record("normalized_weight", 1, weight, out, len(weight))
        return out

    # ------------------------------------------------------------------ updates

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

    def _average(self, mean: Array, x: Array, decay: float, factor: float = 1.0) -> None:
        """mean ← decay mean + (1 − decay) factor x"""
        loop = formulas.elementwise(self.dtype, "average")
        self._apply(loop, 1, mean.size, mean=mean, x=x, share=1.0 - decay, factor=factor)

    # ------------------------------------------------------------------ inside

    def _fallback(self, name: str, *args: Any) -> None:
        """Call NumPy's operation of this name."""
        self.call(self._called, name, *map(_weak, args))

    def _called(self, name: str, *args: Any) -> None:
        strong = (each() if isinstance(each, weakref.WeakMethod) else each for each in args)
        found = getattr(NumpyBackend, name)(self.backend, *strong)
        if name == "pointwise_loss":
            self.losses[0] = found

    def _record(self, name: str, chunks: int, *operands: Any) -> None:
        self._run(command(name, self.dtype), operands, chunks)

    def _apply(self, loop: Any, rows: int, columns: int, *sums: Array, **operands: Any) -> int:
        """Run a compiled loop over a matrix. Return the number of chunks, each of which writes a sum."""
        sizes = dict.fromkeys(MATRICES, rows * columns) | {"columns": columns, "rows": rows}
        for name, axes in loop.operands.items():
            if axes not in sizes:
                continue
            array, stored = operands[name], MATRICES.get(axes)
            same = array.dtype.name == stored if stored else array.dtype == loop.dtype
            if not same or array.size != sizes[axes]:
                raise NotRecordedError(f"{name} is {array.dtype} of {array.size} elements")
        most = rows if rows > 1 else columns // UNIT
        chunks = self.partition.chunks(loop.cost * rows * columns, most)
        self._run(loop, (rows, columns, *formulas.slots(loop, **operands), *sums), chunks)
        return chunks


def _fit(rows: Any, index: Array, out: Array, *statistics: Array) -> bool:
    """Return whether the command of `take` can read these rows."""
    given = [each for each in statistics if each is not None]
    kind, size = rows.dtype.kind, rows.dtype.itemsize
    if not isinstance(rows, np.ndarray) or not rows.dtype.isnative:
        return False
    number, shape = kind in "iu" or (kind == "f" and size in (4, 8)), out.shape
    of_columns = all((each.dtype, each.shape) == (FLOAT, shape[1:]) for each in given)
    return number and of_columns and (rows.shape[1:], index.shape) == (shape[1:], shape[:1])


def _weak(setting: Any) -> Any:
    """Return a reference to a method of a user's optimizer that does not keep it alive; else the setting."""
    return weakref.WeakMethod(setting) if inspect.ismethod(setting) else setting


def _require_numbers(*arrays: Array) -> None:
    if not all(array.size for array in arrays):
        raise NotRecordedError("an array is empty")


def _compiled(build: Callable[..., Any], *key: Any) -> Any:
    """Return the compiled loop of a formula; None if it is no elementwise expression."""
    try:
        return build(*key)
    except UntraceableError:
        return None


def unchanged(xp: Any, s: Array) -> Array:
    return s


def _in_memory(matrix: Array) -> Array:
    """Return the matrix, or the row-major matrix that it is the transpose of."""
    return matrix if matrix.flags.c_contiguous else matrix.T
