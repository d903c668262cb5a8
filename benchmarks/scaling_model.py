"""The cost of a step of n ranks: formulas, constants fitted to measurements, predictions for larger machines.

    t_sum(n, M) = h(n) α + f(n) M / β          f(n) = 2 (n − 1) / n
    T(n, B)     = c₀ + c₁ B / n + t_sum(n, 4 P) + t_sum(n, 32)

M bytes are summed over n ranks. α is the latency of a message and β the bandwidth of a rank in each
direction. A sum by reduce-scatter and all-gather sends f(n) M bytes per rank. h(n) counts consecutive
messages: 2 ⌈log₂ n⌉ if halves are exchanged (MPI, and trees between nodes), 2 (n − 1) in a ring (NCCL within
a node). c₀ is the cost of a step without rows (Adam, calls), and c₁ the cost of a row. The 4 numbers of the
loss are summed first, then the P numbers of ∇θ, once all of them are known.

On a CPU, c₀ and c₁ of several ranks differ from those of one process, because the ranks share one memory. So
both pairs are measured. n ranks are faster than one process from the B at which T(n, B) = T(1, B).

Reference: Thakur, Rabenseifner and Gropp, Optimization of Collective Communication Operations in MPICH
(2005), section 3.5.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from benchmarks.jobs import ADAM_BYTES, Job

LOSS_BYTES = 32  # Σ N L, Σ N and two numbers of signals, float64


def halving(n):
    return 2 * math.ceil(math.log2(n))


def ring(n):
    return 2 * (n - 1)


@dataclass(frozen=True)
class Machine:
    """n ranks with one GPU each, with peak rates from data sheets.

    Attributes:
        alpha, beta: seconds of a message, bytes per second of a rank in each direction.
        messages: the function h(n).
        use: the assumed fraction of the peak that products reach.
        overhead: the assumed seconds of a step without rows.
    """

    name: str
    ranks: int
    alpha: float
    beta: float
    messages: object
    flop_per_second: float = 989e12
    bytes_per_second: float = 3.35e12
    use: float = 0.4
    overhead: float = 100e-6

    def seconds_of_sum(self, size):
        return summed(self.ranks, size, self.alpha, self.beta, self.messages)

    def constants(self, widths):
        """Return c₀ and c₁ of a step with Adam in bfloat16."""
        c0 = self.overhead + ADAM_BYTES["bfloat16"] * parameters(widths) / self.bytes_per_second
        return c0, Job("train", widths, 1).flop / (self.use * self.flop_per_second)


MACHINES = (
    Machine("8 GPUs on NVLink", 8, 1.9e-6, 450e9, ring),
    Machine("64 nodes on 400 Gb/s", 64, 8.5e-6, 50e9, halving),
)
SOURCES = (
    "NVIDIA H100 SXM data sheet: 989 TFLOP/s of bfloat16 without sparsity, 3.35 TB/s of memory, "
    "NVLink 900 GB/s, which is 450 in each direction",
    "400 Gb/s is 50 GB/s in each direction; one GPU in each node",
    "α: NCCL's own table of latencies (src/graph/tuning.cc, protocol LL128): 1.9 µs a message in a ring on "
    "NVLink, 8.5 µs in a tree over a network",
    "assumed, from no source: products reach 40 % of the peak, and a step without rows takes 100 µs",
)


def parameters(widths):
    return sum(I * O + O for I, O in pairwise(widths))


def f(n):
    return 2 * (n - 1) / n


def summed(n, size, alpha, beta, messages=halving):
    """Return t_sum in seconds."""
    return 0.0 if n == 1 else messages(n) * alpha + f(n) * size / beta


def fitted_sum(points):
    """Fit (α, β), both positive, by relative least squares to points (n, bytes, seconds)."""
    rows = np.array([[halving(n) / t, f(n) * size / t] for n, size, t in points])
    alpha, inverse = np.linalg.lstsq(rows, np.ones(len(rows)))[0]
    if alpha <= 0 or inverse <= 0:
        raise ValueError(f"no positive latency and bandwidth fit {points}")
    return float(alpha), float(1 / inverse)


def fitted_step(points):
    """Fit (c₀, c₁) with c₀ ≥ 0 by relative least squares to points (rows, seconds) of one rank."""
    rows = np.array([[1 / t, B / t] for B, t in points])
    c0, c1 = np.linalg.lstsq(rows, np.ones(len(rows)))[0]
    if c0 < 0:
        c0, c1 = 0.0, rows[:, 1].sum() / (rows[:, 1] ** 2).sum()
    return float(c0), float(c1)


def step(n, B, c0, c1, communication):
    """Return T in seconds."""
    return c0 + c1 * B / n + communication


def pays_from(n, alone, ranks, communication):
    """Return the batch from which n ranks are faster than one: B = (c₀′ − c₀ + t_sum) / (c₁ − c₁′ / n).

    Args:
        alone, ranks: (c₀, c₁) and (c₀′, c₁′).

    Returns:
        B, or None if n ranks are never faster.
    """
    gain = alone[1] - ranks[1] / n
    return max(1, math.ceil((ranks[0] - alone[0] + communication) / gain)) if gain > 0 else None


def half_efficient_from(n, c0, c1, communication):
    """Return the batch from which n ranks are n/2 times as fast as one: n T(n, B) = 2 T(1, B)."""
    return max(1, math.ceil((n * communication + (n - 2) * c0) / c1))


def prediction(machine, widths, batches):
    """Return one row: communication, the batches of the two functions above, and step times."""
    c0, c1 = machine.constants(widths)
    n, communication = (
        machine.ranks,
        machine.seconds_of_sum(4 * parameters(widths)) + machine.seconds_of_sum(LOSS_BYTES),
    )
    return {
        "machine": machine.name,
        "widths": widths,
        "parameters": parameters(widths),
        "ranks": n,
        "c0": c0,
        "c1": c1,
        "communication": communication,
        "pays_from": pays_from(n, (c0, c1), (c0, c1), communication),
        "half_efficient_from": half_efficient_from(n, c0, c1, communication),
        "steps": [
            {"B": B, "one": step(1, B, c0, c1, 0.0), "all": step(n, B, c0, c1, communication)}
            for B in batches
        ],
    }
