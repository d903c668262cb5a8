"""Launch the kernel of a stack, if it is faster than its operations one by one.

Why measured: the kernel saves launches and memory, and its products are slower than cublasLt's. Both are
timed at the first use of a stack, for each power of two of rows, and the choice is stored on disk.
"""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from numpy import float32, int32, uint32

from ffnn_gpu.backends.cuda import operations
from ffnn_gpu.backends.cuda.cublaslt.store import CHOICE
from ffnn_gpu.backends.cuda.cublaslt.timing import milliseconds
from ffnn_gpu.backends.cuda.fused.recognition import Arrays
from ffnn_gpu.backends.cuda.fused.stack import Stack
from ffnn_gpu.backends.cuda.kernels import THREADS, WARP
from ffnn_gpu.backends.cuda.losses import total_weight
from ffnn_gpu.backends.reference import philox

if TYPE_CHECKING:
    from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend

MOST_PREDICTING = 2  # blocks of a multiprocessor in a prediction: 256 threads have about 100 registers each


def run_faster(self: "CupyBackend", stack: Stack, arrays: Arrays, one_by_one: Callable[[], None]) -> None:
    """Launch the stack or its operations. Both write the same arrays and read others."""
    fused = partial(_gradients if stack.loss else _prediction, self, stack, arrays)
    if len(arrays.x) == 0 or not is_faster(self, stack, arrays, fused, one_by_one):
        one_by_one()
        return
    branches = self.branches
    if branches is None:
        self.on_device(fused)
        return
    written = [arrays.z] if stack.loss is None else [arrays.value, *arrays.gradients]
    read = [arrays.x, arrays.y, arrays.weight, arrays.class_weight, arrays.share, arrays.scale]
    read += *arrays.parameters, *_random(arrays.dropouts)
    self.on_device(branches.issue, fused, read, written)


def is_faster(
    self: "CupyBackend",
    stack: Stack,
    arrays: Arrays,
    fused: Callable[[], None],
    one_by_one: Callable[[], None],
) -> bool:
    """Return whether the kernel was faster when it was timed; time it unless that is done or impossible."""
    lt = self.cublaslt
    if lt is None:
        return True
    entry = stack.gradients if stack.loss else stack.prediction
    key = f"{CHOICE}{entry.name}, {len(arrays.x).bit_length()} bits of rows"
    if lt.store.get(key) is None:
        if self.xp.cuda.get_current_stream().is_capturing():
            return True
        on_device = partial(self.on_device, fused)
        faster = milliseconds(self.xp, on_device) <= milliseconds(self.xp, one_by_one)
        lt.store.put(key, bytes([faster]))
    return lt.store.get(key) == bytes([True])


def _prediction(self: "CupyBackend", stack: Stack, arrays: Arrays) -> None:
    threads, arguments = WARP * stack.warps, (arrays.x, arrays.z, int32(len(arrays.x)), *arrays.parameters)
    at_once = max(1, min(MOST_PREDICTING, self.shared_memory // stack.shared))
    blocks = _blocks(self, stack, arrays, at_once)
    self.kernels.blocks(stack.prediction, blocks, threads, stack.shared, *arguments)


def _gradients(self: "CupyBackend", stack: Stack, arrays: Arrays) -> None:
    """Launch loss and gradients of each block's tiles, and the sums over the blocks."""
    kernels, threads, blocks = self.kernels, WARP * stack.warps, _blocks(self, stack, arrays)
    kernels.compile(stack.gradients, stack.gradient_sums)
    labels = None if arrays.class_weight is None else arrays.y
    total = total_weight(self, stack.S, arrays.weight, labels, arrays.class_weight)
    sums = kernels.scratch("gradients of blocks", self.multiprocessors * stack.sums * threads * 2)
    arguments = (
        *(arrays.x, arrays.y, arrays.weight, arrays.class_weight, float32(arrays.smoothing), total),
        *(arrays.share, arrays.scale, arrays.value, *kernels.partials(), sums, int32(len(arrays.x))),
        *(*_random(arrays.dropouts), *arrays.parameters),
    )
    kernels.blocks(stack.gradients, blocks, threads, stack.shared, *arguments)
    parts = stack.sums * threads // WARP
    kernels.blocks(stack.gradient_sums, parts, THREADS, 0, sums, int32(blocks), *arrays.gradients)


def _random(dropouts: list[dict[str, Any]]) -> list[Any]:
    """Return the arguments of the masks: those that all have in common, then those of each."""
    if not dropouts:
        return []
    seed, row = dropouts[0]["seed"], dropouts[0]["row"]
    found = [dropouts[0]["step"], *(uint32(word & philox.MASK) for word in (seed, seed >> 32, row))]
    for mask in dropouts:
        found += uint32(mask["layer"] & philox.MASK), *operations.kept_by(mask["rate"], float32)
        found.append(mask.get("factor"))
    return found


def _blocks(self: "CupyBackend", stack: Stack, arrays: Arrays, at_once: int = 1) -> int:
    """Return the blocks that run at once on all multiprocessors, or one for each tile if they are fewer."""
    return min(self.multiprocessors * at_once, -(-len(arrays.x) // stack.rows))
