"""Commands that embed category codes, and of the adjoint.

The sizes n_1, d_1, …, n_K, d_K are the last operands of each command. Every command that uses a code checks
it, because another value would read or overwrite other memory.
"""

from typing import Any

import numpy as np

from ffnn_gpu.backends.cpu.loops.chunks import bounds, zeros
from ffnn_gpu.backends.cpu.loops.intrinsics import address_of, matrix, release, size_of, store, vector


def code_of(value: Any, n: int) -> Any:
    """Return the code, or −1 if `value` is no whole number in [0, n)."""
    code = np.int64(value) if 0 <= value < n else 0
    return code if code == value else -1


def embedding_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """out_b = (x_b1, …, x_bN, E_1[x_b,N+1], …, E_K[x_b,N+K]). `failed` ← 1 if a value is no code."""
    B, I, O, K, sizes = n[3], n[4], n[5], n[6], 8
    x, out, N = matrix(like, n[0], B, I), matrix(like, n[2], B, O), I - K
    first, last = bounds(B, 1, chunk, chunks)
    for b in range(first, last):
        for c in range(N):
            out[b, c] = x[b, c]
        left, table = N, n[1]
        for k in range(K):
            levels, d = n[sizes + 2 * k], n[sizes + 2 * k + 1]
            code = code_of(x[b, N + k], levels)
            if code < 0:
                store(n[7], 1)
                return
            row = vector(like, table + size_of(like) * code * d, d)
            for c in range(d):
                out[b, left + c] = row[c]
            left += d
            table += size_of(like) * levels * d


def rows_of_codes_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """heads_kj = the first row with code j in column k; links_kb = the next row with the code of row b, or B

    The chunks divide the columns. `failed` ← 1 if a value is no code.
    """
    B, I, K, heads, sizes = n[3], n[4], n[5], n[1], 7
    x = matrix(like, n[0], B, I)
    first, last = bounds(K, 1, chunk, chunks)
    for k in range(K):
        levels = n[sizes + 2 * k]
        head, link = vector(np.int64, heads, levels), vector(np.int64, n[2] + 8 * k * B, B)
        heads += 8 * levels
        if first <= k < last:
            for j in range(levels):
                head[j] = B
            for later in range(B):
                b = B - 1 - later
                code = code_of(x[b, I - K + k], levels)
                if code < 0:
                    store(n[6], 1)
                    return
                link[b] = head[code]
                head[code] = b


def embedding_backward_command(like: Any, n: Any, chunk: int, chunks: int) -> None:
    """dE_k[j] = Σ da_b over the rows b with code j, in the order of the rows and in float64

    The chunks divide the codes of all columns.
    """
    B, O, K, left, sizes = n[4], n[5], n[6], n[7], 9
    da, codes, table = matrix(like, n[0], B, O), 0, n[1]
    first, last = bounds(n[8], 1, chunk, chunks)
    sums = zeros(O)
    for k in range(K):
        levels, d = n[sizes + 2 * k], n[sizes + 2 * k + 1]
        head, link = vector(np.int64, n[2] + 8 * codes, levels), vector(np.int64, n[3] + 8 * k * B, B)
        for j in range(max(0, first - codes), min(levels, last - codes)):
            row, b = vector(like, table + size_of(like) * j * d, d), head[j]
            for c in range(d):
                sums[c] = 0
            while b < B:
                for c in range(d):
                    sums[c] += da[b, left + c]
                b = link[b]
            for c in range(d):
                row[c] = sums[c]
        left += d
        codes += levels
        table += size_of(like) * levels * d
    release(address_of(sums))
