"""The rates of one GPU, from which steps are predicted."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Machine:
    """One GPU. Rates are what large kernels reach, not peaks.

    Attributes:
        launch: seconds from the end of a kernel in a graph to the end of a tiny one that depends on it.
        bytes_per_second: read and written by a large copy.
        flop_per_second: of large products, by the type of their sums and factors.
        instructions_per_second: warp instructions of all multiprocessors.
        shared_bytes_per_second: of the shared memory of all multiprocessors.
    """

    name: str
    launch: float
    bytes_per_second: float
    instructions_per_second: float
    flop_per_second: dict[str, float]
    shared_bytes_per_second: float = float("inf")


# Sources
#   launch: 2.1 to 2.5 µs were measured on an H100 (flashinfer issue 969); 2.0 is assumed.
#   bytes_per_second: 90 % of the 4.8 TB/s of the data sheet.
#   flop_per_second: 80 % of the data sheet's 989 and 495 TFLOP/s for dense factors; all of its 67.
#   by mma.sync: 63 % of that, as it was measured on an H800 beside wgmma, cublasLt's instruction (arXiv
#       2402.13499).
#   shared_bytes_per_second: 128 bytes per cycle of 132 multiprocessors (Hopper tuning guide).
#   instructions_per_second: 132 multiprocessors with 4 schedulers at 1.98 GHz (Hopper tuning guide).
H200 = Machine(
    "NVIDIA H200",
    launch=2.0e-6,
    bytes_per_second=4.3e12,
    instructions_per_second=132 * 4 * 1.98e9,
    flop_per_second={
        "bfloat16": 790e12,
        "float16": 790e12,
        "bfloat16 by mma.sync": 0.63 * 790e12,
        "float16 by mma.sync": 0.63 * 790e12,
        "tf32": 400e12,
        "float32": 67e12,
        "float64": 67e12,
    },
    shared_bytes_per_second=132 * 128 * 1.98e9,
)
