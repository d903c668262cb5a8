"""A training step on a CPU as a table of commands: recorded once for each kind of call, then run as a whole.

Why: a step of a small network takes less time than Python needs to ask for it, and in a larger one two threads then share
every product and every loop (see `team`).

How: the step's own code runs once with a `Recorder` in the backend's place, which computes nothing. So a recording that is
given up has changed nothing, and the step runs as it is. What a recording freezes is what a CUDA graph freezes (see
`graphs`), except for the arguments: their addresses are put in anew.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ffnn_gpu.backends.cpu.loops.chunks import UNIT
from ffnn_gpu.backends.cpu.loops.layers import FEW
from ffnn_gpu.backends.cpu.recording.commands import command
from ffnn_gpu.backends.cpu.recording.partition import SHARES, Cuts
from ffnn_gpu.backends.reference.philox import MASK, threshold
from ffnn_gpu.backends.reference.updates import Update

POINTWISE = {
    "mean_squared_error": "squared_error",
    "binary_cross_entropy_with_logits": "logistic",
}  # loss → command
INDICES = np.dtype(np.int64), np.dtype(np.int32)


class NotRecordedError(Exception):
    """The step does something that there is no command for."""


class Note(NamedTuple):
    """A command, what it reads, and into how many parts it is cut."""

    command: Any
    numbers: list[int]
    parts: int


class Recorder:
    """The operations of a backend that can be recorded, and no other.

    Args:
        threads: into how many parts commands are cut.
        known: what lies where it is as long as the recording lives.
        arguments: arrays that lie elsewhere in each call, None where there is none.
        checked: whether targets and weights are known to be right.
    """

    name = "numpy"

    def __init__(
        self, backend: Any, threads: int, known: list[np.ndarray], arguments: list[Any], checked: bool
    ) -> None:
        self.backend, self.checked = backend, checked
        self.dtype, self.known = known[0].dtype, known
        self.cuts = Cuts(threads, self.dtype.itemsize)
        self.places = [_place(array) for array in known]
        self._arguments = {_place(array): k for k, array in enumerate(arguments) if array is not None}
        if any(
            start < last and first < stop for start, stop in self._arguments for first, last in self.places
        ):
            raise NotRecordedError("an argument lies in the network's own memory")
        if len(self._arguments) < sum(array is not None for array in arguments):
            raise NotRecordedError("two arguments are one array")
        if arguments[0] is not None and not arguments[0].size:
            raise NotRecordedError("there is no row")
        self.notes: list[Note] = []
        self.patches: list[tuple[int, int, int]] = []  # note, place in its numbers, argument
        self.masks: list[int] = []  # notes that read the batch's first row
        self.losses, self.failed = self._scratch(SHARES * threads, np.float64), self._scratch(1, np.int64)

    def __getattr__(self, name: str) -> Any:
        raise NotRecordedError(f"there is no command for {name}")

    # ------------------------------------------------------------------ what a step asks before it computes

    def owns(self, array: Any) -> bool:
        return isinstance(array, np.ndarray)

    def require_own(self, array: Any, what: str) -> None:
        self.backend.require_own(array, what)

    def admit(self, array: Any) -> Any:
        return self.backend.admit(array)

    def asarray(self, array: Any, dtype: Any = None) -> Any:
        return self.backend.asarray(array, dtype)  # a copy is refused as unknown memory

    def require_last(self, output: Any, buffer: Any) -> None:
        """Raise NotRecordedError unless what a pass returns lies in this buffer."""
        if output is not buffer:
            raise NotRecordedError("the output is not the last layer's own")

    def run_forward(self, code: Callable[..., Any], network: Any, x: Any, ws: Any) -> Any:
        return code(network, x, ws)

    def batch_rows(self, here: int) -> int:
        return here

    # ------------------------------------------------------------------ layers

    def affine(self, x: Any, W: Any, b: Any, phi: Any, out: Any, s: Any = None) -> Any:
        if phi.name not in ("identity", "relu") or s is not None:
            raise NotRecordedError(f"there is no command for {phi.name}")
        (B, I), O = x.shape, W.shape[1]
        if B <= FEW:
            parts = self.cuts.parts(W.size, I // UNIT)
            sums = self._scratch(parts * B * O, self.dtype)
            self._note("few_rows", parts, x, W, sums, B, I, O)
            self._note("sum_of_few", 1, sums, parts, b, out, B, O, phi.name == "relu")
        else:
            parts, across = self.cuts.grid(B, O, I)
            self._note("affine", parts, x, W, b, out, B, I, O, phi.name == "relu", across)
        return out

    def activation_backward(self, da: Any, a: Any, phi: Any, s: Any = None) -> Any:
        if phi.name == "identity":
            return da
        if phi.name != "relu":
            raise NotRecordedError(f"there is no command for the adjoint of {phi.name}")
        if not self._joined(da, a):
            self._note("relu_backward", self.cuts.by_rows(a), da, a, *a.shape)
        return da

    def affine_gradients(self, x: Any, delta: Any, dW: Any, db: Any) -> None:
        self.gemm(x.T, delta, out=dW)
        if db is not None:
            self._note("column_sum", self.cuts.by_columns(delta), delta, db, *delta.shape)

    def gemm(self, A: Any, B: Any, out: Any) -> Any:
        (M, K), N = A.shape, B.shape[1]
        parts, across = self.cuts.grid(M, N, K)
        turned = not B.flags.c_contiguous
        self._note(
            "product",
            parts,
            _in_memory(A),
            *A.strides,
            _in_memory(B),
            B.strides[turned],
            turned,
            out,
            M,
            N,
            K,
            across,
            None,
        )
        return out

    def _joined(self, da: Any, a: Any) -> bool:
        """Whether the product that has just been noted is `da`, and gets its adjoint of ReLU on the way."""
        last = self.notes[-1]
        if last.command is not command("product", self.dtype) or last.numbers[6:9] != [
            address(da),
            *da.shape,
        ]:
            return False
        if _place(a) in self._arguments:
            return False
        last.numbers[-1] = self._number(a, 0)
        return True

    def add(self, x: Any, y: Any, out: Any) -> Any:
        self._note("add", self.cuts.by_elements(out), x, y, out, out.size)
        return out

    def copy(self, array: Any, out: Any) -> Any:
        self._note("copy", self.cuts.by_elements(out), array, out, out.size)
        return out

    def scaled(self, x: Any, factor: Any, out: Any) -> Any:
        if out is not x or (factor.shape, factor.dtype) != ((1,), np.dtype(np.float64)):
            raise NotRecordedError("there is no command that scales into another array, or by another type")
        self._note("scale", self.cuts.by_elements(out), out, out.size, factor)
        return out

    def dropout_mask(self, rate: float, seed: int, step: Any, layer: int, row: int, out: Any) -> Any:
        key = seed & MASK, (seed >> 32) & MASK
        kept = 1.0 / (1.0 - rate)
        self.masks.append(len(self.notes))
        self._note(
            "dropout_mask",
            self.cuts.by_rows(out),
            kept,
            threshold(rate),
            *key,
            step,
            layer,
            row,
            out,
            *out.shape,
        )
        return out

    def dropout(self, x: Any, mask: Any, out: Any) -> Any:
        self._note("multiply", self.cuts.by_elements(out), x, mask, out, out.size)
        return out

    def layer_norm(self, x: Any, gain: Any, bias: Any, eps: float, out: Any, xhat: Any, rstd: Any) -> Any:
        xhat = out if xhat is None else xhat
        self._note("layer_norm", self.cuts.by_rows(x), x, gain, bias, eps, out, xhat, rstd, *x.shape)
        return out

    def layer_norm_backward(
        self, da: Any, gain: Any, xhat: Any, rstd: Any, dgain: Any, dbias: Any, dx: Any
    ) -> Any:
        self._note("sums_of_columns", self.cuts.by_columns(da), da, xhat, dgain, dbias, *da.shape)
        if dx is not None:
            self._note("layer_norm_backward", self.cuts.by_rows(da), da, gain, xhat, rstd, dx, *da.shape)
        return dx

    def batch_norm(
        self,
        x: Any,
        gain: Any,
        bias: Any,
        eps: float,
        out: Any,
        xhat: Any,
        rstd: Any,
        mean: Any,
        variance: Any,
    ) -> Any:
        self._note(
            "batch_norm",
            self.cuts.by_columns(x),
            x,
            gain,
            bias,
            eps,
            out,
            xhat,
            rstd,
            mean,
            variance,
            *x.shape,
        )
        return out

    def batch_norm_inference(
        self, x: Any, gain: Any, bias: Any, eps: float, out: Any, mean: Any, variance: Any
    ) -> Any:
        self._note(
            "batch_norm_inference", self.cuts.by_rows(x), x, gain, bias, eps, out, mean, variance, *x.shape
        )
        return out

    def batch_norm_backward(
        self, da: Any, gain: Any, xhat: Any, rstd: Any, dgain: Any, dbias: Any, dx: Any
    ) -> Any:
        self._note("sums_of_columns", self.cuts.by_columns(da), da, xhat, dgain, dbias, *da.shape)
        if dx is not None:
            self._note(
                "batch_norm_backward",
                self.cuts.by_rows(da),
                da,
                gain,
                xhat,
                rstd,
                dgain,
                dbias,
                dx,
                *da.shape,
            )
        return dx

    def running_statistics(self, mean: Any, variance: Any, rows: int, momentum: float, *running: Any) -> None:
        unbiased = rows / (rows - 1) if rows > 1 else 1.0
        for kept, seen, factor in zip(running, (mean, variance), (1.0, unbiased), strict=True):
            self._note("average", 1, kept, seen, 1.0 - momentum, factor, len(kept))

    # ------------------------------------------------------------------ losses

    def softmax_cross_entropy(
        self, z: Any, y: Any, weight: Any, class_weight: Any, label_smoothing: float, dz: Any
    ) -> Any:
        if class_weight is not None or label_smoothing or y.shape != z.shape[:1] or y.dtype not in INDICES:
            raise NotRecordedError(
                "there is no command for targets that are not class indices, nor for their weights"
            )
        if weight is not None and weight.shape != y.shape:
            raise NotRecordedError("weights and rows differ in number")
        scale = self._normalized(weight)
        parts = self.cuts.parts(16 * z.size, len(z))  # an exponential is worth so many products
        self._note(
            "softmax_cross_entropy", parts, z, y, y.itemsize, scale, dz, *z.shape, self.losses, self.failed
        )
        return self.losses  # what stands for their sum

    def pointwise_loss(self, kind: Any, z: Any, y: Any, weight: Any, dz: Any) -> Any:
        if kind.name not in POINTWISE or not self.checked or (y.shape, y.dtype) != (z.shape, z.dtype):
            raise NotRecordedError(
                f"there is no command for {kind.name}, or its targets have not been checked"
            )
        if weight is not None and weight.shape != z.shape[:1]:
            raise NotRecordedError("weights and rows differ in number")
        self._note(
            POINTWISE[kind.name],
            self.cuts.by_rows(z),
            z,
            y,
            self._normalized(weight),
            dz,
            *z.shape,
            self.losses,
        )
        return self.losses

    def _normalized(self, weight: Any) -> Any:
        if weight is None:
            return None
        if not self.checked or weight.dtype != self.dtype:
            raise NotRecordedError("there is no command that checks or converts weights")
        out = self._scratch(len(weight), self.dtype)
        self._note("normalized_weight", 1, weight, out, len(weight))
        return out

    # ------------------------------------------------------------------ updates

    def clip_by_value(self, grad: Any, limit: float, loss_scale: Any) -> None:
        self._note("clip", self.cuts.by_elements(grad), grad, len(grad), float(limit))

    def gradient_factor(self, grad: Any, limit: Any, control: Any, loss_scale: Any) -> None:
        parts = self.cuts.by_elements(grad)
        sums = self._scratch(parts, np.float64)
        self._note("squares", parts, grad, len(grad), sums)
        self._note("factor", 1, sums, parts, float(limit), control)

    def advance(self, scalars: Any, step: Any, control: Any, lr: Any = None) -> None:
        if lr is not None and (lr.shape, lr.dtype) != ((1,), np.dtype(np.float64)):
            raise NotRecordedError("there is no command for a learning rate that is not float64 (1,)")
        self._note("advance", 1, scalars, step, lr)

    def advance_product(self, scalars: Any, beta1: float, psi: float, control: Any) -> None:
        self._note("advance_product", 1, scalars, float(beta1), float(psi))

    def sgd(self, update: Update, velocity: Any, momentum: float, nesterov: bool) -> None:
        if velocity is None:
            self._rule("sgd", update)
        else:
            self._rule("momentum", update, velocity, float(momentum), nesterov)

    def rmsprop(self, update: Update, v: Any, velocity: Any, rho: float, eps: float, momentum: float) -> None:
        if velocity is None:
            self._rule("rmsprop", update, v, float(rho), float(eps))
        else:
            self._rule("rmsprop_momentum", update, v, float(rho), float(eps), velocity, float(momentum))

    def adagrad(self, update: Update, v: Any, eps: float) -> None:
        self._rule("adagrad", update, v, float(eps))

    def adam(self, update: Update, m: Any, v: Any, beta1: float, beta2: float, eps: float) -> None:
        self._rule("adam", update, m, v, float(beta1), float(beta2), float(eps))

    def nadam(
        self, update: Update, m: Any, v: Any, beta1: float, beta2: float, eps: float, psi: float
    ) -> None:
        self._rule("nadam", update, m, v, float(beta1), float(beta2), float(eps), float(psi))

    def lion(self, update: Update, m: Any, beta1: float, beta2: float) -> None:
        self._rule("lion", update, m, float(beta1), float(beta2))

    def average(self, mean: Any, values: Any, decay: float) -> None:
        self._note("average", self.cuts.by_elements(mean), mean, values, float(decay), 1.0, len(mean))

    def _rule(self, name: str, update: Update, *numbers: Any) -> None:
        theta, grad, scalars, n, l2, l1, weight_decay, control, _ = update
        if l2 or l1 or weight_decay or control is not None:
            penalties = float(l2), float(l1), float(weight_decay)
            self._note(
                "penalize", self.cuts.parts(n, n // UNIT), theta, grad, n, scalars, *penalties, control
            )
        if control is not None:
            self._note(
                "scale",
                self.cuts.parts(len(grad) - n, (len(grad) - n) // UNIT),
                grad[n:],
                len(grad) - n,
                control,
            )
        self._note(name, self.cuts.by_elements(theta), theta, grad, len(theta), scalars, *numbers)

    # ------------------------------------------------------------------ inside

    def _note(self, name: str, parts: int, *numbers: Any) -> None:
        read = [self._number(number, place) for place, number in enumerate(numbers)]
        self.notes.append(Note(command(name, self.dtype), read, parts))

    def _number(self, value: Any, place: int) -> int:
        """What a command reads there: an address, an integer, or the bits of a real number."""
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
            self.patches.append((len(self.notes), place, self._arguments[start, stop]))
        elif not any(first <= start and stop <= last for first, last in self.places):
            raise NotRecordedError("an array may lie elsewhere in the next step")
        return start

    def _scratch(self, size: int, dtype: Any) -> np.ndarray:
        self.known.append(np.zeros(size, dtype))
        self.places.append(_place(self.known[-1]))
        return self.known[-1]


def _in_memory(matrix: np.ndarray) -> np.ndarray:
    """The matrix, or the one it is the transpose of."""
    return matrix if matrix.flags.c_contiguous else matrix.T


def _place(array: np.ndarray) -> tuple[int, int]:
    """The first byte of an array, and the one after its last."""
    return address(array), address(array) + array.nbytes


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])
