"""`python scripts/gpu_quick.py --json FILE`: check and time the main parts of the GPU path in two minutes.

    products      cublasLt computes a product of every type, compared with NumPy
    steps         training steps of networks of every kind of layer, compared with the CPU
    graphs        a training run as branches, as a chain and kernel by kernel: equal bits
    operations    every operation, replayed in a graph, beside its predicted time

FILE is written after each part. Exit code 0: all parts passed; 1: a part failed, and the last line says why;
2: no GPU. If cublasLt cannot be used, the check ends there: no graph could be captured.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.gpu_model.machine import H200  # noqa: E402
from benchmarks.gpu_model.operations import SIZES, operations, predicted  # noqa: E402
from ffnn_gpu import (  # noqa: E402
    AdamW,
    BatchNorm,
    Dense,
    Dropout,
    Embedding,
    LayerNorm,
    Network,
    Residual,
    fit,
    get_backend,
    softmax_cross_entropy,
)
from ffnn_gpu.backends.choice import probe  # noqa: E402
from ffnn_gpu.backends.cuda.cublaslt.timing import milliseconds  # noqa: E402
from ffnn_gpu.testing import assert_close, assert_parity, tolerance  # noqa: E402

TYPES = ("float32", "float64", "float16", "bfloat16")
KINDS = {
    "dense": [Dense(32, "relu"), Dense(32, "gelu"), Dense(16, "tanh"), Dense(10)],
    "normalized": [Dense(32, "relu"), BatchNorm(), Residual([LayerNorm(), Dense(32, "silu")]), Dense(10)],
    "dropout": [Dense(32, "relu"), Dropout(0.3), Dense(10)],
    "embedding": [Embedding((5, 40), (3, 8)), Dense(32, "relu"), Dense(10)],
}
ROWS, INPUTS = 96, 20


def products(backend, small):
    """Return type → the largest error in eps. Raises AssertionError, or BackendUnavailableError."""
    usable, why = backend.can_capture()
    if not usable:
        raise RuntimeError(why)
    rng, found = np.random.default_rng(1), {}
    for dtype in TYPES:
        A, B = (rng.normal(size=shape).astype(backend.dtype(dtype)) for shape in ((64, 96), (96, 48)))
        out = backend.empty((64, 48), backend.dtype(dtype))
        problem = backend.cublaslt.attempt(backend.asarray(A), backend.asarray(B), out)
        if problem:
            raise RuntimeError(problem)
        got, want = (
            np.asarray(a, np.float64) for a in (backend.to_host(out), A.astype(float) @ B.astype(float))
        )
        relative = tolerance("product", dtype, 96)
        assert_close(got, want, relative, f"a product in {dtype}")
        found[dtype] = float(abs(got - want).max() / abs(want).max() / relative)
    return {"error over tolerance": found}


def steps(backend, small):
    """Return kind → type → the largest error over its tolerance. Raises AssertionError."""
    x, y = data(np.random.default_rng(2))
    found = {}
    for kind, layers in KINDS.items():
        for dtype in ("float32", "bfloat16"):
            network = Network(INPUTS, layers, "numpy", dtype)
            report = assert_parity(network, x, y, softmax_cross_entropy, backends=("numpy", backend))
            found.setdefault(kind, {})[dtype] = report.worst.excess
    return {"error over tolerance": found}


def data(rng):
    """Return rows whose last two columns are codes, and classes."""
    x = rng.normal(size=(ROWS, INPUTS))
    x[:, -2], x[:, -1] = rng.integers(0, 5, ROWS), rng.integers(0, 40, ROWS)
    return x, rng.integers(0, 10, ROWS)


def graphs(backend, small):
    """Return how often each run launched its graphs. Raises AssertionError if their bits differ."""
    ways = {"branches": {}, "chain": {"use_branches": False}, "kernels": {"use_graphs": False}}
    for dtype in ("bfloat16",) if small else ("float32", "bfloat16"):
        bits = {}
        for way, settings in ways.items():
            vars(backend).update({"use_branches": True, "use_graphs": True} | settings)
            bits[way] = trained(backend, dtype, epochs=3 if small else 10)
        for way in ("branches", "chain"):
            assert bits[way] == bits["kernels"], (
                f"{dtype}: a graph of {way} computes other bits than its kernels"
            )
    return {"equal bits": list(ways)}


def trained(backend, dtype, epochs):
    """Return the bytes of θ after a training run."""
    network = Network(INPUTS, KINDS["normalized"], backend, dtype)
    x, y = data(np.random.default_rng(3))
    rule = AdamW(0.01, decay_schedule="coslog4")
    fit(network, softmax_cross_entropy, rule, (x, y), epochs=epochs, batch_size=8, verbose=0)
    return {name: value.tobytes() for name, value in network.params.to_host().items()}


def timed(backend, small):
    """Return a list of {"operation", "size", "dtype", "microseconds", "predicted"}."""
    found = []
    for B, I, O in [(16, 8, 8)] if small else SIZES:
        for dtype in ("bfloat16",) if small else ("bfloat16", "float32"):
            floor = predicted(H200, B, I, O, dtype)
            for name, work in operations(backend, B, I, O, backend.dtype(dtype)).items():
                taken = backend.on_device(milliseconds, backend.xp, work)
                row = {"operation": name, "size": [B, I, O], "dtype": dtype}
                found.append(row | {"microseconds": 1e3 * taken, "predicted": 1e6 * floor[name]})
    return {"operations": found}


PARTS = {"products": products, "steps": steps, "graphs": graphs, "operations": timed}


def main(arguments=None, backend=None):
    kind = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=kind)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE")
    parser.add_argument("--small", action="store_true", help="small sizes, for tests on a stand-in")
    options = parser.parse_args(arguments)
    if backend is None:
        found = probe(0)
        if not found.usable:
            print(f"{found.reason}; {found.hint}.")
            return 2
        backend = get_backend("cupy")
    return check(backend, options)


def check(backend, options):
    """Run the parts, and write the results after each one. Return the exit code."""
    report, failed = {}, []
    for name, part in PARTS.items():
        try:
            report[name] = {"passed": True} | part(backend, options.small)
        except Exception as error:  # a fault of one part is a result; the others still run
            report[name] = {"passed": False, "why": f"{type(error).__name__}: {error}"}
            failed.append(f"{name}: {report[name]['why']}")
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        if failed and name == "products":
            break
    if failed:
        print("; ".join(failed).replace("\n", " "))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
