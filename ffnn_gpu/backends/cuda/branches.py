"""A captured step as branches: an operation waits for those whose numbers it needs, not for all before it.

A training step is issued as a chain. But dW and dx need only δ, the count of updates needs nothing of the
backward pass, and the update of a layer needs only this layer's gradients. In a capture, operations are
distributed over a few streams. An operation waits for every earlier one that wrote what it reads or writes,
or reads what it writes; CUDA makes edges of the graph of these waits.

    WRITTEN    arguments that an operation overwrites; it reads its other arrays
    RULES      update rules: they overwrite θ, its 16-bit copy and the moments, in a piece for each large part
               of ∇θ that one operation wrote
    PASSED     operations without work of their own

Any other operation, and one that no kernel computes, waits for all before it, and all after it wait for it.

Why by address: views of one vector overlap or not whatever they are called. Why scratch for each stream: see
`Kernels.scratch` and `CublasLt.reserve`. The numbers are those of a chain bit for bit, because an operation
computes the same on any stream.

Reference: CUDA C++ Programming Guide, "Cross-stream Dependencies and Events" of CUDA graphs.
"""

import inspect
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import pairwise
from typing import Any

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cuda.kernels import NoKernelError
from ffnn_gpu.backends.reference.backend import Backend
from ffnn_gpu.backends.reference.members import Members
from ffnn_gpu.backends.reference.updates import Update

STREAMS = 4
LEAST_PIECE = 2**18  # elements of θ: their update takes about as long as a launch
WRITTEN = {
    "gemm": "out", "affine": "out s", "affine_gradients": "dW db", "activate": "s",
    "activation_backward": "da", "dropout_mask": "out", "dropout": "out", "dropout_forward": "mask out",
    "dropout_backward": "da", "scaled": "out", "take": "out", "column_sum": "out",
    "softmax": "out", "softmax_backward": "da", "log_softmax": "out", "log_softmax_backward": "da",
    "layer_norm": "out xhat rstd", "layer_norm_backward": "dgain dbias dx",
    "batch_norm": "out xhat rstd mean variance", "batch_norm_inference": "out",
    "batch_norm_backward": "dgain dbias dx", "running_statistics": "running",
    "pointwise_loss": "dz", "cross_entropy": "dp", "softmax_cross_entropy": "dz",
    "advance": "scalars step", "advance_product": "scalars", "clip_by_value": "grad",
    "gradient_factor": "control loss_scale", "average": "mean", "copy": "out", "write": "vector",
    "add": "out",
}  # fmt: skip
RULES = ("sgd", "rmsprop", "adagrad", "adam", "nadam", "lion")
PASSED = ("run_step", "run_forward", "empty", "output", "constant", "batch_rows")
Extents = tuple[tuple[int, int], ...]  # of memory: (first address, address after the last byte)
EVERYTHING: Extents = ((0, 2**64),)


@dataclass(frozen=True, eq=False)
class Work:
    """One operation that was issued: its stream's number, what it touches, the event after it.

    before: a bit for each operation that ends before it, by number, its own included.
    """

    stream: int
    reads: Extents
    writes: Extents
    event: Any
    before: int


class Branches:
    """The operations of one capture, by stream.

    This object holds all streams and events, and must live until the end of the capture.

    streams: the first one captures, and each has scratch memory. Pieces of an update need none; each gets a
        stream of its own, which is added.
    """

    def __init__(self, backend: Any, streams: list[Any]) -> None:
        self.backend, self.streams, self._shared = backend, streams, range(len(streams))
        self._issued: list[Work] = []
        self._latest: dict[int, int] = {}  # stream → number of its last operation
        self._forked: set[int] = set()
        self._inside = False
        self._start = self._event(streams[0])

    def run(self, name: str, operation: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Return operation(backend, …) of this name, issued on a suitable stream."""
        call = partial(operation, self.backend, *args, **named)
        reference = partial(getattr(Backend, name), self.backend, *args, **named)
        at_once = self._inside or name in PASSED
        try:
            if at_once:
                return call()
            given, reads, writes = bound(name, self.backend, args, named), EVERYTHING, EVERYTHING
            if name in RULES:
                return self._update(operation, *given.values())
            if name in WRITTEN:
                written = [given.get(each) for each in WRITTEN[name].split()]
                reads, writes = self._extents(given.values()), self._extents(written)
            return self._issue(call, reads, writes)
        except NoKernelError:  # raised before anything is written
            return reference() if at_once else self._issue(reference, EVERYTHING, EVERYTHING)

    def run_pack(
        self, name: str, call: Callable[[], Any], apart: Callable[[], Any], *args: Any, **named: Any
    ) -> Any:
        """Return call() of an operation for all members of a pack with these arguments.

        apart: the same member by member, if no kernel computes it.
        """
        given = bound(name, self.backend, args, named)
        reads = writes = EVERYTHING
        if name in RULES:
            update, *settings = given.values()
            moments = (each for each in settings if isinstance(each, Members))
            writes = self._extents([update.theta, update.shadow, *moments])
        elif name in WRITTEN:
            writes = self._extents([given.get(each) for each in WRITTEN[name].split()])
        if writes is not EVERYTHING:
            reads = self._extents(given.values())
        try:
            return call() if self._inside else self._issue(call, reads, writes)
        except NoKernelError:  # raised before anything is written
            return apart() if self._inside else self._issue(apart, EVERYTHING, EVERYTHING)

    def issue(self, work: Callable[[], Any], read: Any, written: Any) -> None:
        """Issue launches that read and write these arrays, on a suitable stream."""
        self._issue(work, self._extents([*read, *written]), self._extents(written))

    def join(self) -> None:
        """Let the stream that captures wait for the others."""
        for number in self._forked - {0}:
            self.streams[0].wait_event(self._event(self.streams[number]))

    # ------------------------------------------------------------------ inside

    def _issue(self, call: Callable[[], Any], reads: Extents, writes: Extents, alone: bool = False) -> Any:
        needed, before = self._needed(reads, writes)
        number = self._new_stream() if alone else self._stream(needed, before)
        stream = self.streams[number]
        for each in [self._issued[n].event for n in needed if self._issued[n].stream != number]:
            stream.wait_event(each)
        if number not in self._forked:
            stream.wait_event(self._start)
            self._forked.add(number)
        if number in self._latest:
            before |= self._issued[self._latest[number]].before
        self._inside = True
        try:
            with stream, self.backend.stream_number(number):
                result = call()
        finally:
            self._inside = False
        self._latest[number] = len(self._issued)
        writes = _merged((*writes, *self._extents([result])))
        self._issued.append(Work(number, reads, writes, self._event(stream), before | 1 << len(self._issued)))
        return result

    def _needed(self, reads: Extents, writes: Extents) -> tuple[list[int], int]:
        """Return the operations to wait for, without those that others wait for, and all that end before."""
        needed, before, left = list[int](), 0, (1 << len(self._issued)) - 1
        while left:
            n = left.bit_length() - 1
            work = self._issued[n]
            if _meet(work.writes, reads) or _meet(work.writes, writes) or _meet(work.reads, writes):
                needed.append(n)
                before |= work.before
                left &= ~work.before
            else:
                left ^= 1 << n
        return needed, before

    def _stream(self, needed: list[int], before: int) -> int:
        """Return the stream of an operation that is needed, else one that adds no wait, else the idlest."""
        latest = {s: last for s, last in self._latest.items() if s in self._shared}
        ends = [s for n in needed for s, last in latest.items() if last == n]
        unused = [s for s in self._shared if s not in latest]
        ended = [s for s, last in latest.items() if before >> last & 1]
        return [*ends, *ended, *unused, *sorted(latest, key=latest.__getitem__)][0]

    def _new_stream(self) -> int:
        self.streams.append(self.backend.xp.cuda.Stream(non_blocking=True))
        return len(self.streams) - 1

    def _update(self, operation: Callable[..., Any], update: Update, *settings: Any) -> None:
        n = len(update.theta)
        bounds = [*self._cuts(update.grad), n]
        for start, stop in pairwise(bounds):
            piece = update.piece(start, stop)
            parts = [s[start:stop] if _shape(s) == update.theta.shape else s for s in settings]
            written = self._extents([piece.theta, piece.shadow, *parts])
            call, reads = partial(operation, self.backend, piece, *parts), self._extents([*piece, *parts])
            self._issue(call, reads, written, alone=len(bounds) > 2)

    def _cuts(self, grad: Array) -> list[int]:
        """Return the first elements of the pieces of ∇θ: around each large part that one operation wrote."""
        ((first, end),) = self._extents([grad])
        written = {
            extent for work in self._issued for extent in work.writes if first <= extent[0] < extent[1] <= end
        }
        starts = sorted({(extent[0] - first) // grad.itemsize for extent in written})
        large = {(a - first) // grad.itemsize for a, b in written if (b - a) // grad.itemsize >= LEAST_PIECE}
        after_large = {after for start, after in pairwise(starts) if start in large}
        return sorted({0} | large | after_large)

    def _extents(self, values: Any) -> Extents:
        """Return the memory of all arrays among these values, within tuples too."""
        return _merged(self._each_extent(values))

    def _each_extent(self, values: Any) -> Iterator[tuple[int, int]]:
        for value in values:
            if isinstance(value, (tuple, list)):
                yield from self._each_extent(value)
            elif isinstance(value, Members):
                yield from self._each_extent([value.of(r) for r in range(len(value.stacked))])
            elif isinstance(value, self.backend.xp.ndarray) and value.size:
                first, size = value.data.ptr, value.nbytes
                if not value.flags.c_contiguous:
                    steps = zip(value.shape, value.strides, strict=True)
                    size = sum((n - 1) * stride for n, stride in steps) + value.itemsize
                yield first, first + size

    def _event(self, stream: Any) -> Any:
        event = self.backend.xp.cuda.Event()
        event.record(stream)
        return event


def _merged(extents: Iterable[tuple[int, int]]) -> Extents:
    """Return these extents in order, with those that overlap as one."""
    found: list[tuple[int, int]] = []
    for first, end in sorted(extents):
        if found and first < found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((first, end))
    return tuple(found)


def _meet(some: Extents, others: Extents) -> bool:
    """Return whether two of these extents overlap. Both are in order: a pack has one for each member."""
    i = j = 0
    while i < len(some) and j < len(others):
        (a, b), (c, d) = some[i], others[j]
        if a < d and c < b:
            return True
        i, j = (i + 1, j) if b <= d else (i, j + 1)
    return False


def _shape(value: Any) -> Any:
    return getattr(value, "shape", None)


@cache
def _signature(name: str) -> inspect.Signature:
    return inspect.signature(getattr(Backend, name))


def bound(name: str, backend: Any, args: tuple[Any, ...], named: dict[str, Any]) -> dict[str, Any]:
    """Return parameter → argument, without the backend."""
    found = _signature(name).bind(backend, *args, **named).arguments
    return {key: value for key, value in found.items() if key != "self"}
