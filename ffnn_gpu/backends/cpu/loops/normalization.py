"""Commands of layer and batch normalization, with statistics in float64."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from ffnn_gpu.backends.cpu.loops.chunks import UNIT, bounds, rows_chunk
from ffnn_gpu.backends.cpu.loops.compiler import instruction
from ffnn_gpu.backends.cpu.loops.intrinsics import as_real, matrix, vector
from ffnn_gpu.backends.cpu.loops.softmax import over_row
from ffnn_gpu.backends.cpu.loops.values import View
from ffnn_gpu.backends.elementwise.emission import variable
from ffnn_gpu.backends.elementwise.lanes import I64, Lane, Lanes

LANES = 16  # sums side by side, so that no addition waits for the one before


def emit_sum(builder: Any, add: Callable[..., Lane], *vectors: View) -> Any:
    """Return the last of the totals add(total, x, …) over all elements x, … of the vectors, in float64."""
    size, real = vectors[0].itemsize, Lanes(builder, 8, 8 * LANES)
    v, total = Lanes(builder, size, size * LANES), variable(builder, real.constant(0.0).value)

    def part(c: Any, mask: Any) -> None:
        places = (builder.ptrtoint(builder.gep(each.pointer, [c], True), I64) for each in vectors)
        x = [Lane(real, v.wide(v.load(place, mask)), "real") for place in places]
        before = Lane(real, builder.load(total), "real")
        after = add(before, *x)
        builder.store((after if mask is None else real.where(mask, after, before)).value, total)

    over_row(builder, v, vectors[0].shape[0].value, part)
    return real.sum(builder.load(total))


@instruction
def sum_of(builder: Any, a: View) -> Any:
    """Return Σ a in float64."""
    return emit_sum(builder, lambda total, x: total + x, a)


@instruction
def sum_of_products(builder: Any, a: View, b: View) -> Any:
    """Return Σ a b in float64."""
    return emit_sum(builder, lambda total, x, y: total.lanes.fma(x, y, total), a, b)


@instruction
def sum_of_squares(builder: Any, a: View, mean: Any) -> Any:
    """Return Σ (a − mean)² in float64, for a float64 mean."""

    def add(total: Lane, x: Lane) -> Lane:
        difference = x - total.lanes.spread(mean)
        return total.lanes.fma(difference, difference, total)

    return emit_sum(builder, add, a)


# ---------------------------------------------------------------------- over each row


def layer_norm_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """xhat = (x − μ) rstd,  out = xhat ⊙ gain + bias over each row; xhat may be out, rstd may be 0."""
    eps, rstd, B, I = as_real(n[3]), n[6], n[7], n[8]
    x, gain, bias = rows_chunk(like, n[0], B, I, chunk, chunks), vector(like, n[1], I), vector(like, n[2], I)
    out, xhat = rows_chunk(like, n[4], B, I, chunk, chunks), rows_chunk(like, n[5], B, I, chunk, chunks)
    factors, first = vector(like, rstd, B), bounds(B, 1, chunk, chunks)[0]
    for r in range(len(x)):
        mean = sum_of(x[r]) / I
        factor = 1 / math.sqrt(sum_of_squares(x[r], mean) / I + eps)
        for c in range(I):
            v = out.dtype.type((x[r, c] - mean) * factor)
            xhat[r, c] = v
            out[r, c] = v * gain[c] + bias[c]
        if rstd:
            factors[first + r] = factor


def layer_norm_backward_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """dx = (dx̂ − mean dx̂ − x̂ mean(dx̂ ⊙ x̂)) rstd over each row, with dx̂ = da ⊙ gain left in da"""
    B, I = n[5], n[6]
    da, dx = rows_chunk(like, n[0], B, I, chunk, chunks), rows_chunk(like, n[4], B, I, chunk, chunks)
    gain, xhat = vector(like, n[1], I), rows_chunk(like, n[2], B, I, chunk, chunks)
    rstd, T = vector(like, n[3], B)[bounds(B, 1, chunk, chunks)[0] :], dx.dtype.type
    for r in range(len(da)):
        for c in range(I):
            da[r, c] *= gain[c]
        mean, slope = T(sum_of(da[r]) / I), T(sum_of_products(da[r], xhat[r]) / I)
        for c in range(I):
            dx[r, c] = (da[r, c] - mean - xhat[r, c] * slope) * rstd[r]


# ---------------------------------------------------------------------- over each column

# Sums over a column are made of those of blocks of BLOCK rows. So several threads share them, and no bit
# depends on the number of threads. Each block has 2 I numbers in float64, and a chunk for each of `across`
# parts of its columns.
BLOCK = 256


def part_of_block(chunk: int, across: int, B: int, I: int) -> tuple[int, int, int, int, int]:
    """Return the block of this chunk, its rows [top, bottom) and its columns [first, last)."""
    block, (first, last) = chunk // across, bounds(I, UNIT, chunk % across, across)
    return block, block * BLOCK, min(B, (block + 1) * BLOCK), first, last


def halves(sums: int, block: int, I: int) -> tuple[Any, Any]:
    """Return the two float64 vectors (I,) of a block."""
    start = sums + 16 * I * block
    return vector(np.float64, start, I), vector(np.float64, start + 8 * I, I)


def shift(x: Any) -> Any:
    """Return x in float64, or 0 if it is not finite: a mean less ∞ would be NaN."""
    y = np.float64(x)
    return y if y - y == 0 else 0.0


def moments_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """sums[block] = [μ − x₀, Σ (x − μ)²] over the rows of the block; x₀ is the `shift` of the first row

    Why less x₀: a mean that is large beside the spread would lose digits when means are merged.
    """
    B, I = n[3], n[4]
    x, (block, top, bottom, first, last) = matrix(like, n[0], B, I), part_of_block(chunk, n[2], B, I)
    mean, squares = halves(n[1], block, I)
    for c in range(first, last):
        mean[c], squares[c] = 0, 0
    for r in range(top, bottom):
        for c in range(first, last):
            mean[c] += np.float64(x[r, c]) - shift(x[0, c])
    for c in range(first, last):
        mean[c] /= bottom - top
    for r in range(top, bottom):
        for c in range(first, last):
            squares[c] += (np.float64(x[r, c]) - shift(x[0, c]) - mean[c]) ** 2


def merge_moments_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """mean and biased variance of all blocks; rstd = 1/√(variance + ε); sums[0] ← [mean, rstd] in float64

    Reference: Chan, Golub, LeVeque, Updating Formulae and a Pairwise Algorithm for Computing Sample Variances
    (1979), equation 2.1.
    """
    sums, eps, B, I = n[0], as_real(n[1]), n[6], n[7]
    rstd, mean, variance = vector(like, n[2], I), vector(like, n[3], I), vector(like, n[4], I)
    first = vector(like, n[5], I)
    mu, total = halves(sums, 0, I)
    for block in range(1, (B + BLOCK - 1) // BLOCK):
        of_block, squares = halves(sums, block, I)
        before, rows = block * BLOCK, min(B, (block + 1) * BLOCK) - block * BLOCK
        share = rows / (before + rows)
        for c in range(I):
            difference = of_block[c] - mu[c]
            mu[c] += difference * share if mu[c] - mu[c] == 0 else of_block[c]  # ∞ stays ∞, as in a sum
            total[c] += squares[c] + difference * difference * before * share
    for c in range(I):
        mu[c] += shift(first[c])
        mean[c], variance[c] = mu[c], total[c] / B
        total[c] = 1 / math.sqrt(total[c] / B + eps)
        rstd[c] = total[c]


def batch_norm_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """xhat = (x − μ) rstd,  out = xhat ⊙ gain + bias, with μ and rstd in float64 from sums[0]"""
    B, I = n[6], n[7]
    x, gain, bias = rows_chunk(like, n[0], B, I, chunk, chunks), vector(like, n[1], I), vector(like, n[2], I)
    out, xhat = rows_chunk(like, n[3], B, I, chunk, chunks), rows_chunk(like, n[4], B, I, chunk, chunks)
    mu, rstd = halves(n[5], 0, I)
    for r in range(len(x)):
        for c in range(I):
            v = out.dtype.type((x[r, c] - mu[c]) * rstd[c])
            xhat[r, c] = v
            out[r, c] = v * gain[c] + bias[c]


def batch_norm_inference_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out = (x − mean)/√(variance + ε) ⊙ gain + bias"""
    eps, B, I = as_real(n[3]), n[7], n[8]
    x, out = rows_chunk(like, n[0], B, I, chunk, chunks), rows_chunk(like, n[4], B, I, chunk, chunks)
    gain, bias = vector(like, n[1], I), vector(like, n[2], I)
    mean, variance, T = vector(like, n[5], I), vector(like, n[6], I), out.dtype.type
    for r in range(len(x)):
        for c in range(I):
            out[r, c] = (x[r, c] - mean[c]) * (gain[c] / np.sqrt(variance[c] + T(eps))) + bias[c]


def sums_of_columns_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """sums[block] = [Σ da ⊙ x̂, Σ da] over the rows of the block"""
    B, I = n[4], n[5]
    da, xhat = matrix(like, n[0], B, I), matrix(like, n[1], B, I)
    block, top, bottom, first, last = part_of_block(chunk, n[3], B, I)
    products, sums = halves(n[2], block, I)
    for c in range(first, last):
        products[c], sums[c] = 0, 0
    for r in range(top, bottom):
        for c in range(first, last):
            products[c] += np.float64(da[r, c]) * np.float64(xhat[r, c])
            sums[c] += da[r, c]


def merge_sums_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """dgain = Σ_B da ⊙ x̂,  dbias = Σ_B da, from the sums of blocks"""
    B, I = n[3], n[4]
    dgain, dbias = vector(like, n[1], I), vector(like, n[2], I)
    products, sums = halves(n[0], 0, I)
    for block in range(1, (B + BLOCK - 1) // BLOCK):
        more, further = halves(n[0], block, I)
        for c in range(I):
            products[c] += more[c]
            sums[c] += further[c]
    for c in range(I):
        dgain[c], dbias[c] = products[c], sums[c]


def batch_norm_backward_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """dx = (da − dbias/B − x̂ dgain/B) ⊙ gain ⊙ rstd, from dgain = Σ_B da ⊙ x̂ and dbias = Σ_B da"""
    B, I = n[7], n[8]
    da, xhat, dx = matrix(like, n[0], B, I), matrix(like, n[2], B, I), matrix(like, n[6], B, I)
    gain, rstd = vector(like, n[1], I), vector(like, n[3], I)
    dgain, dbias, share = vector(like, n[4], I), vector(like, n[5], I), dx.dtype.type(1 / B)
    first, last = bounds(B, 1, chunk, chunks)
    for r in range(first, last):
        for c in range(I):  # a division for each element would take most of the time
            dx[r, c] = (da[r, c] - dbias[c] * share - xhat[r, c] * (dgain[c] * share)) * (gain[c] * rstd[c])
