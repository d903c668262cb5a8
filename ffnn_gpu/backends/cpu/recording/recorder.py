"""Record a training step on a CPU as a list of commands (why: docs/cpu_kernels.md).

The step's own code runs once with a `Recorder` as its backend, which computes nothing. If a recording is
given up, nothing has changed, and the step runs unrecorded. Like a CUDA graph (see `graphs`), a recording
freezes every Python number and address. Only the addresses of the call's arguments are set at each call.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import cfunc, types

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.backends.cpu.loops import (
    cross_entropy,
    layers,
    losses,
    normalization,
    softmax,
    step_control,
    updates,
)
from ffnn_gpu.backends.cpu.loops.chunks import UNIT
from ffnn_gpu.backends.cpu.loops.layers import FEW
from ffnn_gpu.backends.cpu.recording.partition import SHARES, Partition
from ffnn_gpu.backends.reference.philox import MASK, threshold
from ffnn_gpu.backends.reference.updates import Update

# loss → command
POINTWISE = {"mean_squared_error": "squared_error", "binary_cross_entropy_with_logits": "logistic"}
INDICES = np.dtype(np.int64), np.dtype(np.int32)
# name → body of each function in loops/ whose name ends in _command
BODIES = {
    name.removesuffix("_command"): body
    for family in (layers, normalization, softmax, losses, cross_entropy, step_control, updates)
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
        patches: (index of a command, index of an operand, index of the argument whose address it is).
        masks: indices of the commands that read the index of the batch's first row.
    """

    name = "numpy"

    def __init__(self, backend: Any, threads: int, known: list[HostArray], arguments: list[Any]) -> None:
        self.require_own, self.admit = backend.require_own, backend.admit
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
        self.patches: list[tuple[int, int, int]] = []
        self.masks: list[int] = []
        self.losses, self.failed = self._scratch(SHARES * threads, np.float64), self._scratch(1, np.int64)

    def __getattr__(self, name: str) -> Any:
        raise NotRecordedError(f"there is no command for {name}")

    # ------------------------------------------------------------------ called by a step before it computes

    def owns(self, array: Any) -> bool:
        return isinstance(array, np.ndarray)

    def require_last(self, output: Array, buffer: Array) -> None:
        """Raise NotRecordedError unless the output of a pass is this buffer."""
        if output is not buffer:
            raise NotRecordedError("the output is not the last layer's own")

    def constant(self, values: tuple[float, ...], dtype: Any) -> Array:
        return self._keep(self._constant(values, dtype))

    def run_forward(self, code: Callable[..., Any], network: Any, x: Array, ws: Any) -> Array:
        return code(network, x, ws)

    def batch_rows(self, here: int) -> int:
        return here

    # ------------------------------------------------------------------ layers

    def affine(self, x: Array, W: Array, b: Array, phi: Any, out: Array, s: Array = None) -> Array:
        if phi.name not in ("identity", "relu") or s is not None:
            raise NotRecordedError(f"there is no command for {phi.name}")
        (B, I), O, rectified = x.shape, W.shape[1], phi.name == "relu"
        if B <= FEW:
            chunks = self.partition.chunks(W.size, I // UNIT)
            sums = self._scratch(chunks * B * O, self.dtype)
            self._record("few_rows", chunks, x, W, sums, B, I, O)
            self._record("sum_of_few", 1, sums, chunks, b, out, B, O, rectified)
        else:
            chunks, across = self.partition.grid(B, O, I)
            self._record("affine", chunks, x, W, b, out, B, I, O, rectified, across)
        return out

    def activation_backward(self, da: Array, a: Array, phi: Any, s: Array = None) -> Array:
        if phi.name == "identity":
            return da
        if phi.name != "relu":
            raise NotRecordedError(f"there is no command for the adjoint of {phi.name}")
        if not self._fused_with_product(da, a):
            self._record("relu_backward", self.partition.by_rows(a), da, a, *a.shape)
        return da

    def affine_gradients(self, x: Array, delta: Array, dW: Array, db: Array) -> None:
        self.gemm(x.T, delta, out=dW)
        if db is not None:
            self._record("column_sum", self.partition.by_columns(delta), delta, db, *delta.shape)

    def gemm(self, A: Array, B: Array, out: Array) -> Array:
        (M, K), N, turned = A.shape, B.shape[1], not B.flags.c_contiguous
        chunks, across = self.partition.grid(M, N, K)
        factors = _in_memory(A), *A.strides, _in_memory(B), B.strides[turned], turned
        self._record("product", chunks, *factors, out, M, N, K, across, None)
        return out

    def _fused_with_product(self, da: Array, a: Array) -> bool:
        """Let the product that was just recorded apply ReLU's adjoint, if its result is `da`.

        Return whether it does.
        """
        last, result = self.commands[-1], [address(da), *da.shape]
        if last.function is not command("product", self.dtype) or last.operands[6:9] != result:
            return False
        if _place(a) in self._arguments:
            return False
        last.operands[-1] = self._operand(a, 0)
        return True

    def add(self, x: Array, y: Array, out: Array) -> Array:
        self._record("add", self.partition.by_elements(out), x, y, out, out.size)
        return out

    def copy(self, array: Array, out: Array) -> Array:
        self._record("copy", self.partition.by_elements(out), array, out, out.size)
        return out

    def scaled(self, x: Array, factor: Array, out: Array) -> Array:
        if out is not x or (factor.shape, factor.dtype) != ((1,), np.dtype(np.float64)):
            raise NotRecordedError("there is no command that scales into another array, or by another type")
        self._record("scale", self.partition.by_elements(out), out, out.size, factor)
        return out

    def dropout_mask(self, rate: float, seed: int, step: Array, layer: int, row: int, out: Array) -> Array:
        keep, key = 1.0 / (1.0 - rate), (seed & MASK, (seed >> 32) & MASK)
        self.masks.append(len(self.commands))
        operands = keep, threshold(rate), *key, step, layer, row, out, *out.shape
        self._record("dropout_mask", self.partition.by_rows(out), *operands)
        return out

    def dropout(self, x: Array, mask: Array, out: Array) -> Array:
        self._record("multiply", self.partition.by_elements(out), x, mask, out, out.size)
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
            self._record("average", 1, average, of_batch, 1.0 - momentum, factor, len(average))

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
        if kind.name not in POINTWISE or (y.shape, y.dtype) != (z.shape, z.dtype):
            raise NotRecordedError(f"there is no command for {kind.name}, or for targets of this type")
        if weight is not None and weight.shape != z.shape[:1]:
            raise NotRecordedError("weights and rows differ in number")
        operands = z, y, self._normalized(weight), dz, *z.shape, self.losses
        self._record(POINTWISE[kind.name], self.partition.by_rows(z), *operands)
        return self.losses

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
        self._record("clip", self.partition.by_elements(grad), grad, len(grad), float(limit))

    def gradient_factor(self, grad: Array, limit: Any, control: Array, loss_scale: Array) -> None:
        chunks = self.partition.by_elements(grad)
        sums = self._scratch(chunks, np.float64)
        self._record("squares", chunks, grad, len(grad), sums)
        self._record("factor", 1, sums, chunks, float(limit), control)

    def advance(self, scalars: Array, step: Array, control: Array, lr: Array = None) -> None:
        if lr is not None and (lr.shape, lr.dtype) != ((1,), np.dtype(np.float64)):
            raise NotRecordedError("there is no command for a learning rate that is not float64 (1,)")
        self._record("advance", 1, scalars, step, lr)

    def advance_product(self, scalars: Array, beta1: float, psi: float, control: Array) -> None:
        self._record("advance_product", 1, scalars, float(beta1), float(psi))

    def _record_rule(self, name: str, update: Update, *operands: Any) -> None:
        """Record an update rule. Its own operands are moments and numbers."""
        theta, grad, scalars, n, l2, l1, weight_decay, control, _ = update
        if l2 or l1 or weight_decay or control is not None:
            penalties = float(l2), float(l1), float(weight_decay)
            chunks = self.partition.by_elements(theta[:n])
            self._record("penalize", chunks, theta, grad, n, scalars, *penalties, control)
        if control is not None:
            rest = grad[n:]
            self._record("scale", self.partition.by_elements(rest), rest, len(rest), control)
        own = (each if isinstance(each, np.ndarray) else float(each) for each in operands)
        self._record(name, self.partition.by_elements(theta), theta, grad, len(theta), scalars, *own)

    adagrad, adam = (
        functools.partialmethod(_record_rule, "adagrad"),
        functools.partialmethod(_record_rule, "adam"),
    )
    nadam, lion = (
        functools.partialmethod(_record_rule, "nadam"),
        functools.partialmethod(_record_rule, "lion"),
    )

    def sgd(self, update: Update, velocity: Array, momentum: float, nesterov: bool) -> None:
        if velocity is None:
            self._record_rule("sgd", update)
        else:
            self._record_rule("momentum", update, velocity, momentum, nesterov)

    def rmsprop(
        self, update: Update, v: Array, velocity: Array, rho: float, eps: float, momentum: float
    ) -> None:
        if velocity is None:
            self._record_rule("rmsprop", update, v, rho, eps)
        else:
            self._record_rule("rmsprop_momentum", update, v, rho, eps, velocity, momentum)

    def average(self, mean: Array, values: Array, decay: float) -> None:
        chunks = self.partition.by_elements(mean)
        self._record("average", chunks, mean, values, float(decay), 1.0, len(mean))

    # ------------------------------------------------------------------ inside

    def _record(self, name: str, chunks: int, *operands: Any) -> None:
        numbers = [self._operand(value, place) for place, value in enumerate(operands)]
        self.commands.append(Command(command(name, self.dtype), numbers, chunks))

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


def _in_memory(matrix: Array) -> Array:
    """Return the matrix, or the row-major matrix that it is the transpose of."""
    return matrix if matrix.flags.c_contiguous else matrix.T


def _place(array: HostArray) -> tuple[int, int]:
    """Return the addresses of an array's first byte and of the byte after its last."""
    return address(array), address(array) + array.nbytes


def address(array: HostArray) -> int:
    """Return the address of an array's first byte."""
    return int(array.__array_interface__["data"][0])
