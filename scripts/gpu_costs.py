"""`python scripts/gpu_costs.py`: predict training steps on an H200, and write docs/gpu_costs.md.

    --check         write nothing; exit code 1 if the page differs from the prediction
    --launches N    print each launch of network N (from 1) with its microseconds, and write nothing

Needs no GPU: the CUDA backend records its graphs on a stand-in for CuPy (benchmarks/gpu_model/).
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

try:
    from benchmarks.gpu_model import timeline
    from benchmarks.gpu_model.machine import H200
    from benchmarks.gpu_model.networks import CASES, record
except ImportError:  # a fresh clone: make .venv first, then start again in it
    from bootstrap import restart

    sys.exit(restart(__file__))

PAGE = ROOT / "docs" / "gpu_costs.md"
LIMITS = [
    f"- {1e6 * H200.launch:.1f} µs for a launch that waits for another",
    f"- {H200.bytes_per_second / 1e12:.1f} TB/s",
    f"- {H200.flop_per_second['bfloat16'] / 1e12:.0f} TFLOP/s for bfloat16 products of cublasLt, "
    f"{H200.flop_per_second['bfloat16 by mma.sync'] / 1e12:.0f} in the kernel of narrow networks",
    f"- {H200.shared_bytes_per_second / 1e12:.1f} TB/s of shared memory, in the kernel of narrow networks",
    f"- {H200.instructions_per_second / 1e12:.2f} · 10¹² warp instructions per second",
]
HEAD = f"""# Predicted costs on a GPU

**These are predictions. No GPU has run this code.** `python3 scripts/gpu_costs.py` writes this page
from the launches that the CUDA backend records for a step of `fit` (bfloat16, ReLU, softmax
cross-entropy, Adam unless another optimizer is named), and a test compares the two. Several steps
of a small batch share one graph; the figures are those of one step. `64 × (…)` is a pack of 64
networks.

The model knows five limits of the {H200.name} (`benchmarks/gpu_model/machine.py`):

{chr(10).join(LIMITS)}

A launch takes as long as its slowest part. Launches that do not depend on each other overlap and
share the rates. A real step takes longer: kernels also share multiprocessors and caches, and few
kernels reach these rates.

The columns:

- launches: kernels that one step starts
- chain: the longest sequence of launches in which each waits for the one before; it is no whole
  number where several steps share a graph
- MB: bytes that the step reads and writes
- GFLOP: operations of its matrix products; for narrow networks with the zeros of padded widths
- in turn: the time if no two launches overlapped

| network | batch | launches | chain | MB | GFLOP | in turn, µs | predicted, µs |
|---|---|---|---|---|---|---|---|
"""


def main(arguments=None):
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--launches", type=int, choices=range(1, len(CASES) + 1), metavar="N")
    options = parser.parse_args(arguments)
    if options.launches:
        print("\n".join(lines_of(CASES[options.launches - 1])))
        return 0
    page = HEAD + "".join(f"| {' | '.join(row(case))} |\n" for case in CASES)
    if options.check:
        return (
            0
            if PAGE.read_text(encoding="utf-8") == page
            else f"{PAGE.name} is out of date; run this without --check"
        )
    PAGE.write_text(page, encoding="utf-8")
    return 0


def row(case):
    """Return the cells of one network."""
    graph, steps = record(case)
    seconds, one_by_one = timeline.seconds(graph, H200), sum(timeline.alone(each, H200) for each in graph)
    moved, flop = sum(each.moved for each in graph), sum(sum(each.flop.values()) for each in graph)
    counts = len(graph) / steps, timeline.longest_chain(graph) / steps
    numbers = [f"{count:.3g}" for count in counts] + [number(moved / steps / 1e6), number(flop / steps / 1e9)]
    return [
        case.title,
        f"{case.B:,}",
        *numbers,
        number(1e6 * one_by_one / steps),
        number(1e6 * seconds / steps),
    ]


def number(value):
    """Return three digits, and whole numbers from 100 on."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def lines_of(case):
    """Return a line for each launch of the first step: what it waits for, its bytes and its time."""
    graph, steps = record(case)
    return [
        f"{n:4} {each.name:24} after {','.join(map(str, sorted(each.after))):12} "
        f"{each.moved / 1e6:10.3f} MB {1e6 * timeline.alone(each, H200):8.1f} µs"
        for n, each in enumerate(graph[: -(-len(graph) // steps)])
    ]


if __name__ == "__main__":
    sys.exit(main())
