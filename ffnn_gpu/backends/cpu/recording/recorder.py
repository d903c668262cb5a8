"""Record a training step on a CPU as a list of commands (why: docs/cpu_kernels.md).

The step's own code runs once with a `Recorder` as its backend, which computes nothing. If a recording is
given up, nothing has changed, and the step runs unrecorded. Like a CUDA graph (see `graphs`), a recording
freezes every Python number and address. Only the addresses of the call's arguments are set at each call.
"""

import functools
import inspect
import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import cfunc, types

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.backends.cpu.loops import (
    cross_entropy,
    formulas,
    layers,
    losses,
    normalization,
    softmax,
    step_control,
)
from ffnn_gpu.backends.cpu.loops.chunks import UNIT
from ffnn_gpu.backends.cpu.loops.layers import FEW, TAIL_OF_PRODUCT
from ffnn_gpu.backends.cpu.recording.called_back import Argument, PythonCall
from ffnn_gpu.backends.cpu.recording.partition import SHARES, Partition
from ffnn_gpu.backends.elementwise.trace import UntraceableError
from ffnn_gpu.backends.reference.philox import MASK, threshold
from ffnn_gpu.backends.reference.updates import Update

NO_TAIL = (0,)  # of a product
INDICES = np.dtype(np.int64), np.dtype(np.int32)
# name → body of each function in loops/ whose name ends in _command
BODIES = {
    name.removesuffix("_command"): body
    for family in (layers, normalization, softmax, losses, cross_entropy, step_control)
    for name, body in vars(family).items()
    if name.endswith("_command")
}


@functools.cache
def command(name: str, dtype: np.dtype) -> Any:
    """Return the compiled command for arrays of `dtype`, which Numba caches on disk; use its `.address`."""
    of = types.CPointer({4: types.float32, 8: types.float64}[dtype.itemsize])
    signature = types.void(of, types.CPointer(types.int64), types.int64, types.int64)
    return cfunc(signature, cache=True, error_model="numpy")(BODIES[name])


class NotRecordedError(Exception):
    """The step calls an operation that has no command."""


class Command(NamedTuple):
    """One call of a compiled function: its operands, and the number of chunks that its work is split into."""

    function: Any
    operands: list[int]
    chunks: int


class Recorder:
    """The backend operations that can be recorded, and no others.

    Args:
        threads: the number of threads that will share the commands.
        known: arrays that keep their address as long as the recording lives.
        arguments: arrays whose address differs in each call, or None.

    Attributes:
        commands: what has been recorded.
        calls: Python code that runs between two commands.
        patches: (index of a command, index of an operand, index of the argument whose address it is).
        masks: indices of the commands that read the index of the batch's first row.
    """

    name = "numpy"

    def __init__(self, backend: Any, threads: int, known: list[HostArray], arguments: list[Any]) -> None:
        self.require_own, self.admit = backend.require_own, backend.admit
        self.backend = backend
        self._constant = backend.constant
        self.asarray = backend.asarray  # a copy is refused later, as memory that is not known
        self.dtype, self.known = known[0].dtype, known
        self.partition = Partition(threads, self.dtype.itemsize)
        self.places = [_place(array) for array in known]
        self._arguments = {_place(array): k for k, array in enumerate(arguments) if array is not None}
        pairs = ((argument, place) for argument in self._arguments for place in self.places)
        if any(start < last and first < stop for (start, stop), (first, last) in pairs):
            raise NotRecordedError("an argument lies in the network's own memory")
        if len(self._arguments) < sum(array is not None for array in arguments):
            raise NotRecordedError("two arguments are the same array")
        if arguments[0] is not None and not arguments[0].size:
            raise NotRecordedError("there is no row")
        self.commands: list[Command] = []
        self.calls: list[PythonCall] = []
        self.patches: list[tuple[int, int, int]] = []
        self.masks: list[int] = []
        self.losses, self.failed = self._scratch(SHARES * threads, np.float64), self._scratch(1, np.int64)

    def __getattr__(self, name: str) -> Any:
        raise NotRecordedError(f"there is no command for {name}")

    # ------------------------------------------------------------------ called by a step before it computes

    def owns(self, array: Any) -> bool:
        return isinstance(array, np.ndarray)

    def require_kept(self, output: Array) -> Array:
        """Return the output of a pass. Raises NotRecordedError if it may lie elsewhere in the next pass."""
        start, stop = _place(output)
        if not any(first <= start and stop <= last for first, last in self.places):
            raise NotRecordedError("the output is not the last layer's own")
        return output

    def constant(self, values: tuple[float, ...], dtype: Any) -> Array:
        return self._keep(self._constant(values, dtype))

    def run_forward(self, code: Callable[..., Any], network: Any, x: Array, ws: Any) -> Array:
        return code(network, x, ws)

    def batch_rows(self, here: int) -> int:
        return here

    # ------------------------------------------------------------------ layers

    def affine(self, x: Array, W: Array, b: Array, phi: Any, out: Array, s: Array = None) -> Array:
        (B, I), O, tail = x.shape, W.shape[1], self._tail(phi, b, out, s)
        if B <= FEW:
            chunks = self.partition.chunks(W.size, I // UNIT)
            sums = self._scratch(chunks * B * O, self.dtype)
            self._record("few_rows", chunks, x, W, sums, B, I, O)
            self._record("sum_of_few", 1, sums, chunks, out, B, O, *tail)
        else:
            chunks, across = self.partition.grid(B, O, I)
            self._record("affine", chunks, x, W, out, B, I, O, across, *tail)
        if self._activation(phi, b, s) is None:
            self.call(self.backend.activate, out, phi)
        return out

    def _tail(self, phi: Any, b: Array, out: Array, s: Array) -> Any:
        """Return the address and the slots of the loop out ← φ(out + b); NO_TAIL if it changes nothing."""
        if phi.name == "identity" and b is None and s is None:
            return NO_TAIL
        loop = self._activation(phi, b, s)
        if loop is None:  # the tail adds b, and φ is a call
            loop = formulas.activation(self.dtype, unchanged, b is not None, s is not None)
        if b is not None and b.dtype != self.dtype:
            raise NotRecordedError(f"a bias is {b.dtype}")
        return loop.block, *formulas.slots(loop, out=out, b=b, s=s)

    def _activation(self, phi: Any, b: Array, s: Array) -> Any:
        return _compiled(formulas.activation, self.dtype, phi.value, b is not None, s is not None)

    def activation_backward(self, da: Array, a: Array, phi: Any, s: Array = None) -> Array:
        if phi.name == "identity":
            return da
        loop, of = _compiled(formulas.adjoint, self.dtype, phi.derivative), s if phi.needs_input else a
        if loop is None:
            self.call(self.backend.activation_backward, da, a, phi, s)
        elif not self._fused_with_product(da, loop, of):
            self._apply(loop, 1, da.size, da=da, of=of)
        return da

    def affine_gradients(self, x: Array, delta: Array, dW: Array, db: Array) -> None:
        self.gemm(x.T, delta, out=dW)
        if db is not None:
            self.column_sum(delta, out=db)

    def column_sum(self, A: Array, out: Array) -> Array:
        self._record("column_sum", self.partition.by_columns(A), A, out, *A.shape)
        return out

    def gemm(self, A: Array, B: Array, out: Array) -> Array:
        (M, K), N, turned = A.shape, B.shape[1], not B.flags.c_contiguous
        chunks, across = self.partition.grid(M, N, K)
        factors = _in_memory(A), *A.strides, _in_memory(B), B.strides[turned], turned
        self._record("product", chunks, *factors, out, M, N, K, across, *NO_TAIL)
        return out

    def _fused_with_product(self, da: Array, loop: Any, of: Array) -> bool:
        """Make the adjoint of φ the tail of the product that was just recorded, if its result is `da`.

        Return whether it is.
        """
        if not self.commands or (self.calls and self.calls[-1].commands == len(self.commands)):
            return False
        last, result = self.commands[-1], [address(da), *da.shape]
        if last.function is not command("product", self.dtype) or last.operands[6:9] != result:
            return False
        if last.operands[TAIL_OF_PRODUCT] or _place(of) in self._arguments:
            return False
        tail = loop.block, *formulas.slots(loop, da=da, of=of)
        last.operands[TAIL_OF_PRODUCT:] = [self._operand(value, 0) for value in tail]
        return True

    def add(self, x: Array, y: Array, out: Array) -> Array:
        self._apply(formulas.elementwise(self.dtype, "add"), 1, out.size, x=x, y=y, out=out)
        return out

    def copy(self, array: Array, out: Array) -> Array:
        self._apply(formulas.elementwise(self.dtype, "copy"), 1, out.size, x=array, out=out)
        return out

    def scaled(self, x: Array, factor: Array, out: Array) -> Array:
        if out is not x or (factor.shape, factor.dtype) != ((1,), np.dtype(np.float64)):
            raise NotRecordedError("there is no command that scales into another array, or by another type")
        self._apply(formulas.elementwise(self.dtype, "scale"), 1, out.size, x=out, factor=factor)
        return out

    def dropout_mask(self, rate: float, seed: int, step: Array, layer: int, row: int, out: Array) -> Array:
        keep, key = 1.0 / (1.0 - rate), (seed & MASK, (seed >> 32) & MASK)
        self.masks.append(len(self.commands))
        operands = keep, threshold(rate), *key, step, layer, row, out, *out.shape
        self._record("dropout_mask", self.partition.by_rows(out), *operands)
        return out

    def dropout(self, x: Array, mask: Array, out: Array) -> Array:
        self._apply(formulas.elementwise(self.dtype, "multiply"), 1, out.size, x=x, y=mask, out=out)
        return out

    # ------------------------------------------------------------------ normalization

    def layer_norm(self, x: Any, gain: Any, bias: Any, eps: float, out: Any, xhat: Any, rstd: Any) -> Array:
        xhat = out if xhat is None else xhat
        self._record("layer_norm", self.partition.by_rows(x), x, gain, bias, eps, out, xhat, rstd, *x.shape)
        return out

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
        operands = x, gain, bias, eps, out, xhat, rstd, mean, variance, *x.shape
        self._record("batch_norm", self.partition.by_columns(x), *operands)
        return out

    def batch_norm_inference(
        self, x: Array, gain: Array, bias: Array, eps: float, out: Array, mean: Array, variance: Array
    ) -> Array:
        operands = x, gain, bias, eps, out, mean, variance, *x.shape
        self._record("batch_norm_inference", self.partition.by_rows(x), *operands)
        return out

    def layer_norm_backward(
        self, da: Array, gain: Array, xhat: Array, rstd: Array, dgain: Array, dbias: Array, dx: Array
    ) -> Array | None:
        self._record("sums_of_columns", self.partition.by_columns(da), da, xhat, dgain, dbias, *da.shape)
        if dx is not None:
            operands = da, gain, xhat, rstd, dx, *da.shape
            self._record("layer_norm_backward", self.partition.by_rows(da), *operands)
        return dx

    def batch_norm_backward(
        self, da: Array, gain: Array, xhat: Array, rstd: Array, dgain: Array, dbias: Array, dx: Array
    ) -> Array | None:
        self._record("sums_of_columns", self.partition.by_columns(da), da, xhat, dgain, dbias, *da.shape)
        if dx is not None:
            operands = da, gain, xhat, rstd, dgain, dbias, dx, *da.shape
            self._record("batch_norm_backward", self.partition.by_rows(da), *operands)
        return dx

    def running_statistics(
        self, mean: Array, variance: Array, rows: int, momentum: float, *running: Array
    ) -> None:
        unbiased = rows / (rows - 1) if rows > 1 else 1.0
        for average, of_batch, factor in zip(running, (mean, variance), (1.0, unbiased), strict=True):
            self._average(average, of_batch, 1.0 - momentum, factor)

    # ------------------------------------------------------------------ softmax

    def softmax(self, z: Array, out: Array) -> Array:
        self._record("softmax", self._exponentials(z), z, out, *z.shape)
        return out

    def softmax_backward(self, da: Array, a: Array) -> Array:
        self._record("softmax_backward", self.partition.by_rows(da), da, a, *da.shape)
        return da

    def log_softmax(self, z: Array, out: Array) -> Array:
        self._record("log_softmax", self._exponentials(z), z, out, *z.shape)
        return out

    def log_softmax_backward(self, da: Array, a: Array) -> Array:
        self._record("log_softmax_backward", self._exponentials(da), da, a, *da.shape)
        return da

    # ------------------------------------------------------------------ losses

    def softmax_cross_entropy(
        self, z: Array, y: Array, weight: Array, class_weight: Array, label_smoothing: float, dz: Array
    ) -> Array:
        hard = y.ndim == 1 and y.dtype in INDICES
        if dz is None or (y.shape != z.shape[:1] if hard else (y.shape, y.dtype) != (z.shape, z.dtype)):
            raise NotRecordedError("there is no command for targets of this type or shape, or without dz")
        if hard and class_weight is not None:
            scale = self._weight_of_classes(z, y, weight, class_weight, label_smoothing)
        else:
            scale = self._scale(z, weight)
        targets, results = (z, y, y.itemsize if hard else 0), (scale, dz, *z.shape, self.losses, self.failed)
        if hard and not label_smoothing:
            self._record("softmax_cross_entropy", self._exponentials(z), *targets, *results)
        else:
            factors = self._of_classes(z, class_weight), float(label_smoothing)
            self._record("soft_cross_entropy", self._exponentials(z), *targets, *factors, *results)
        return self.losses  # their sum is the loss

    def cross_entropy(self, p: Array, q: Array, weight: Array, dp: Array, smallest: float) -> Array:
        if dp is None or (q.shape, q.dtype) != (p.shape, p.dtype):
            raise NotRecordedError("there is no command for targets of this type or shape, or without dz")
        operands = p, q, self._scale(p, weight), float(smallest), dp, *p.shape, self.losses
        self._record("cross_entropy", self._exponentials(p), *operands)
        return self.losses

    def pointwise_loss(self, kind: Any, z: Array, y: Array, weight: Array, dz: Array) -> Array:
        if (y.shape, y.dtype) != (z.shape, z.dtype):
            raise NotRecordedError(f"there is no command for targets of this type for {kind.name}")
        if weight is not None and weight.shape != z.shape[:1]:
            raise NotRecordedError("weights and rows differ in number")
        (B, O), axes = z.shape, None if weight is None else "rows" if z.shape[1] > 1 else "both"
        loop = _compiled(formulas.pointwise_loss, self.dtype, kind.value, kind.derivative, axes)
        if loop is None:
            self.call(self._pointwise_loss, kind, z, y, weight, dz)
            return self.losses
        rows, columns = (B, O) if axes == "rows" else (1, B * O)
        share, w = 1 / (max(B, 1) * O if weight is None else O), self._normalized(weight)
        self._apply(loop, rows, columns, self.losses, z=z, y=y, dz=dz, share=share, w=w)
        return self.losses

    def _pointwise_loss(self, kind: Any, *args: Any) -> None:
        self.losses[0] = self.backend.pointwise_loss(kind, *args)

    def _exponentials(self, z: Array) -> int:
        """Return the chunks of a loop over rows that computes e^z, which costs as much as 16 products."""
        return self.partition.chunks(16 * z.size, len(z))

    def _of_classes(self, z: Array, class_weight: Array) -> Array:
        if class_weight is not None and (class_weight.shape, class_weight.dtype) != (z.shape[1:], z.dtype):
            raise NotRecordedError("weights and classes differ in number or type")
        return class_weight

    def _scale(self, z: Array, weight: Array) -> Array:
        if weight is not None and weight.shape != z.shape[:1]:
            raise NotRecordedError("weights and rows differ in number")
        return self._normalized(weight)

    def _weight_of_classes(self, z: Array, y: Array, weight: Array, v: Array, smoothing: float) -> Array:
        if weight is not None and (weight.shape, weight.dtype) != (y.shape, z.dtype):
            raise NotRecordedError("there is no command that converts weights")
        out = self._scratch(len(y), self.dtype)
        operands = y, y.itemsize, self._of_classes(z, v), weight, bool(smoothing), out, *z.shape, self.failed
        self._record("weight_of_classes", 1, *operands)
        return out

    def _normalized(self, weight: Array) -> Array:
        if weight is None:
            return None
        if weight.dtype != self.dtype:
            raise NotRecordedError("there is no command that converts weights")
        out = self._scratch(len(weight), self.dtype)
        self._record("normalized_weight", 1, weight, out, len(weight))
        return out

    # ------------------------------------------------------------------ updates

    def clip_by_value(self, grad: Array, limit: float, loss_scale: Array) -> None:
        self._apply(formulas.elementwise(self.dtype, "clip"), 1, len(grad), x=grad, limit=float(limit))

    def gradient_factor(self, grad: Array, limit: Any, control: Array, loss_scale: Array) -> None:
        sums = self._scratch(SHARES * self.partition.threads, np.float64)
        chunks = self._apply(formulas.elementwise(self.dtype, "squares"), 1, len(grad), sums, x=grad)
        self._record("factor", 1, sums, chunks, float(limit), control)

    def advance(self, scalars: Array, step: Array, control: Array, lr: Array = None) -> None:
        if lr is not None and (lr.shape, lr.dtype) != ((1,), np.dtype(np.float64)):
            raise NotRecordedError("there is no command for a learning rate that is not float64 (1,)")
        self._record("advance", 1, scalars, step, lr)

    def advance_product(self, scalars: Array, beta1: float, psi: float, control: Array) -> None:
        self._record("advance_product", 1, scalars, float(beta1), float(psi))

    def _rule(self, name: str, update: Update, *settings: Any) -> None:
        """Record an update rule: for the matrices, which have penalties, and for the rest of θ."""
        try:
            if not formulas.of_one_kind(update, settings):
                raise UntraceableError("a moment has another type than θ")
            parts = list(formulas.rule_parts(name, update, settings))
        except UntraceableError:
            self.call(self._called_rule, name, update, *map(_weak, settings))
            return
        for loop, size, operands in parts:
            self._apply(loop, 1, size, **operands)

    def _called_rule(self, name: str, update: Update, *settings: Any) -> None:
        strong = (each() if isinstance(each, weakref.WeakMethod) else each for each in settings)
        getattr(self.backend, name)(update, *strong)

    sgd, rmsprop = functools.partialmethod(_rule, "sgd"), functools.partialmethod(_rule, "rmsprop")
    adagrad, adam = functools.partialmethod(_rule, "adagrad"), functools.partialmethod(_rule, "adam")
    nadam, lion = functools.partialmethod(_rule, "nadam"), functools.partialmethod(_rule, "lion")
    own_rule = functools.partialmethod(_rule, "own_rule")

    def average(self, mean: Array, values: Array, decay: float) -> None:
        self._average(mean, values, decay)

    def _average(self, mean: Array, x: Array, decay: float, factor: float = 1.0) -> None:
        """mean ← decay mean + (1 − decay) factor x"""
        loop = formulas.elementwise(self.dtype, "average")
        self._apply(loop, 1, mean.size, mean=mean, x=x, share=1.0 - decay, factor=factor)

    # ------------------------------------------------------------------ inside

    def _record(self, name: str, chunks: int, *operands: Any) -> None:
        numbers = [self._operand(value, place) for place, value in enumerate(operands)]
        self.commands.append(Command(command(name, self.dtype), numbers, chunks))

    # ------------------------------------------------------------------ Python code

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        """Record a call of Python code. Its arrays are the workspace's, or arguments of the step."""
        places = ((_place(arg) if isinstance(arg, np.ndarray) else None) for arg in args)
        indices = (self._arguments.get(place) if place else None for place in places)
        given = (arg if index is None else Argument(index) for arg, index in zip(args, indices, strict=True))
        self.calls.append(PythonCall(len(self.commands), function, tuple(given)))

    def output_of_call(self, rows: int, columns: int) -> HostArray:
        """Return memory for what a call returns."""
        return self._scratch(rows * columns, self.dtype).reshape(rows, columns)

    def _apply(self, loop: Any, rows: int, columns: int, *sums: Array, **operands: Any) -> int:
        """Record a compiled loop over a matrix. Return the number of chunks, each of which writes a sum."""
        for key, axes in loop.operands.items():
            if axes in ("both", "columns", "rows") and operands[key].dtype != self.dtype:
                raise NotRecordedError(f"an array is {operands[key].dtype}")
        most = rows if rows > 1 else columns // UNIT
        chunks = self.partition.chunks(loop.cost * rows * columns, most)
        values = rows, columns, *formulas.slots(loop, **operands), *sums
        numbers = [self._operand(value, place) for place, value in enumerate(values)]
        self.commands.append(Command(loop, numbers, chunks))
        return chunks

    def _operand(self, value: Any, place: int) -> int:
        """Return the int64 that a command reads: an address, an integer, or the bits of a float64."""
        if value is None:
            return 0
        if isinstance(value, float):
            return int(np.float64(value).view(np.int64))
        if not isinstance(value, np.ndarray):
            return int(value)
        if not (value.flags.c_contiguous and value.flags.aligned):
            raise NotRecordedError("an array has gaps")
        start, stop = _place(value)
        if (start, stop) in self._arguments:
            self.patches.append((len(self.commands), place, self._arguments[start, stop]))
        elif not any(first <= start and stop <= last for first, last in self.places):
            raise NotRecordedError("an array may lie elsewhere in the next step")
        return start

    def _scratch(self, size: int, dtype: Any) -> HostArray:
        return self._keep(np.zeros(size, dtype))

    def _keep(self, array: HostArray) -> HostArray:
        self.known.append(array)
        self.places.append(_place(array))
        return array


def _weak(setting: Any) -> Any:
    """Return a reference to a method of a user's optimizer that does not keep it alive; else the setting."""
    return weakref.WeakMethod(setting) if inspect.ismethod(setting) else setting


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


def _place(array: HostArray) -> tuple[int, int]:
    """Return the addresses of an array's first byte and of the byte after its last."""
    return address(array), address(array) + array.nbytes


def address(array: HostArray) -> int:
    """Return the address of an array's first byte."""
    return int(array.__array_interface__["data"][0])
