"""Commands of softmax and log-softmax over each row, and of their adjoints.

Sums over a row are float64. NaN in a row makes the whole row NaN, as in the reference.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cpu.loops.chunks import rows_chunk
from ffnn_gpu.backends.cpu.loops.compiler import instruction
from ffnn_gpu.backends.cpu.loops.intrinsics import address_of
from ffnn_gpu.backends.elementwise.emission import counted, variable
from ffnn_gpu.backends.elementwise.functions import exp
from ffnn_gpu.backends.elementwise.lanes import F64, I64, REGISTER, Lane, Lanes


def over_row(builder: Any, v: Lanes, n: Any, part: Callable[[Any, Any], None]) -> None:
    """Emit part(c, mask) for each vector of n columns; the mask is None for whole vectors."""
    step = ir.Constant(I64, v.count)
    rest = builder.srem(n, step)
    whole = builder.sub(n, rest)
    with counted(builder, ir.Constant(I64, 0), whole, step) as c:
        part(c, None)
    with builder.if_then(builder.icmp_signed("<", whole, n)):
        part(whole, v.first(rest))


@instruction
def largest_of_row(builder: Any, source: Any, n: Any, like: Any) -> Any:
    """Return max_c x_c for x (n,) of the type of `like` at this address; NaN are skipped."""
    v = Lanes(builder, 8 if like.type == F64 else 4, REGISTER)
    largest = variable(builder, v.constant(-math.inf).value)

    def part(c: Any, mask: Any) -> None:
        x = v.load(builder.add(source, builder.mul(c, ir.Constant(I64, v.size))), mask)
        x = x if mask is None else v.where(mask, x, -math.inf)
        held = Lane(v, builder.load(largest), "real")
        builder.store(v.where(x > held, x, held).value, largest)

    over_row(builder, v, n, part)
    return v.largest(Lane(v, builder.load(largest), "real"))


def maximum(z: Array, b: int) -> Any:
    """Return max_c z_bc of a C-contiguous matrix; NaN are skipped."""
    return largest_of_row(address_of(z) + b * z.shape[1] * z.itemsize, z.shape[1], z.dtype.type(0))


def row_of_exponentials(kept: bool) -> Any:
    """Return the instruction that sums e^{x − shift} over a row, and writes the terms if they are `kept`."""

    @instruction
    def code(builder: Any, source: Any, target: Any, n: Any, shift: Any) -> Any:
        """Return Σ_c e^{x_c − shift} in float64, for x (n,) at `source`; write the terms to `target`."""
        v = Lanes(builder, 8 if shift.type == F64 else 4, REGISTER)
        largest = v.spread(shift)
        total = variable(builder, ir.Constant(ir.VectorType(F64, v.count), None))

        def terms(c: Any, mask: Any) -> None:
            moved = builder.mul(c, ir.Constant(I64, v.size))
            e = exp(v, v.load(builder.add(source, moved), mask) - largest)
            if kept:
                v.store(e, builder.add(target, moved), mask)
            e = e if mask is None else v.where(mask, e, 0.0)
            builder.store(builder.fadd(builder.load(total), v.wide(e)), total)

        over_row(builder, v, n, terms)
        return v.sum(builder.load(total))

    return code


kept_exponentials, summed_exponentials = row_of_exponentials(True), row_of_exponentials(False)


def exponentials(z: Array, b: int, largest: Any, out: Array) -> float:
    """out_b = e^{z_b − largest}, for C-contiguous arrays; return Σ_c out_bc"""
    row = b * z.shape[1] * z.itemsize
    norm: float = kept_exponentials(address_of(z) + row, address_of(out) + row, z.shape[1], largest)
    return norm


def softmax_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out = softmax(z); out may be z"""
    z, out = (
        rows_chunk(like, n[0], n[2], n[3], chunk, chunks),
        rows_chunk(like, n[1], n[2], n[3], chunk, chunks),
    )
    for b in range(len(z)):
        factor = z.dtype.type(1 / exponentials(z, b, maximum(z, b), out))
        for c in range(z.shape[1]):
            out[b, c] *= factor


def softmax_backward_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """da ← a ⊙ (da − Σ_k da_k a_k)"""
    da, a = (
        rows_chunk(like, n[0], n[2], n[3], chunk, chunks),
        rows_chunk(like, n[1], n[2], n[3], chunk, chunks),
    )
    for b in range(len(da)):
        total = 0.0
        for c in range(da.shape[1]):
            total += np.float64(da[b, c]) * np.float64(a[b, c])
        mean = da.dtype.type(total)
        for c in range(da.shape[1]):
            da[b, c] = a[b, c] * (da[b, c] - mean)


def log_softmax_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out = z − log Σ_k e^{z_k}; out may be z"""
    z, out = (
        rows_chunk(like, n[0], n[2], n[3], chunk, chunks),
        rows_chunk(like, n[1], n[2], n[3], chunk, chunks),
    )
    for b in range(len(z)):
        largest, row = maximum(z, b), address_of(z) + b * z.shape[1] * z.itemsize
        logarithm = math.log(summed_exponentials(row, 0, z.shape[1], largest))
        for c in range(z.shape[1]):
            out[b, c] = z.dtype.type(np.float64(z[b, c] - largest) - logarithm)


def log_softmax_backward_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """da ← da − e^a Σ_k da_k"""
    da, a = (
        rows_chunk(like, n[0], n[2], n[3], chunk, chunks),
        rows_chunk(like, n[1], n[2], n[3], chunk, chunks),
    )
    for b in range(len(da)):
        total = 0.0
        for c in range(da.shape[1]):
            total += da[b, c]
        sum_of_row = da.dtype.type(total)
        for c in range(da.shape[1]):
            da[b, c] -= np.exp(a[b, c]) * sum_of_row
