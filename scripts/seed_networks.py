"""Compare loss and gradient norms of four classic networks with PyTorch's.

    python scripts/seed_networks.py            compare; exit 1 if a number differs by more than 1e-12 relative
    python scripts/seed_networks.py --store    write PyTorch's numbers to tests/golden/seed_networks.json

If PyTorch is installed, it computes the numbers to compare with; otherwise they come from the stored file.
All numbers are float64, in a batch of 10.
"""

import argparse
import itertools
import json
import sys
from pathlib import Path
from typing import Any

try:
    import numpy as np

    import ffnn_gpu as nn
except ImportError:  # a fresh clone: make .venv first, then start again in it
    from bootstrap import restart

    sys.exit(restart(__file__))

STORED = Path(__file__).parent.parent / "tests" / "golden" / "seed_networks.json"
AGREEMENT = 1e-12
B = 10

# name → widths, activations, loss, and how a target is drawn from (rng, outputs)
NETWORKS: dict[str, Any] = {
    "2-20-5 relu/identity, MSE": (
        (2, 20, 5), (nn.relu, nn.identity), nn.mean_squared_error, lambda rng, O: rng.normal(size=(B, O)),
    ),
    "2-20-5 sigmoid/sigmoid, BCE": (
        (2, 20, 5), (nn.sigmoid, nn.sigmoid), nn.binary_cross_entropy, lambda rng, O: rng.random((B, O)),
    ),
    "2-20-22 relu/relu, MSE": (
        (2, 20, 22), (nn.relu, nn.relu), nn.mean_squared_error, lambda rng, O: rng.normal(size=(B, O)),
    ),
    "4-16-3 tanh/softmax, CE": (
        (4, 16, 3), (nn.tanh, nn.identity), nn.softmax_cross_entropy, lambda rng, O: rng.integers(0, O, B),
    ),
}  # fmt: skip


def batch_and_parameters(name: str) -> tuple[np.ndarray, np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """Return x (B, I), y, and (W, b) of each layer, drawn with the name as seed."""
    widths, _, _, draw = NETWORKS[name]
    rng = np.random.default_rng(list(name.encode()))
    x, y = rng.normal(size=(B, widths[0])), draw(rng, widths[-1])
    pairs = itertools.pairwise(widths)
    return x, y, [(rng.normal(size=(I, O)) / np.sqrt(I), rng.normal(size=O) / 2) for I, O in pairs]


def ours(name: str) -> dict[str, float]:
    """Return loss and gradient norms computed by this package."""
    widths, activations, loss, _ = NETWORKS[name]
    x, y, parameters = batch_and_parameters(name)
    layers = [nn.Dense(O, phi) for O, phi in zip(widths[1:], activations, strict=True)]
    network = nn.Network(widths[0], layers, device="numpy", dtype="float64")
    for p, (W, b) in zip(network.params.views, parameters, strict=True):
        p.W[...], p.b[...] = W, b
    ws = network.workspace(B)
    value = loss(network.backend, network.forward(x, ws), y, dz=ws.dz)
    network.backward(ws.dz, ws)
    norms = {"loss": float(value)}
    for k, p in enumerate(network.params.views):
        norms |= {
            f"‖∂L/∂W{k + 1}‖": float(np.linalg.norm(p.dW)),
            f"‖∂L/∂b{k + 1}‖": float(np.linalg.norm(p.db)),
        }
    return norms


def pytorch(name: str) -> dict[str, float]:
    """Return loss and gradient norms computed by PyTorch. Raises ImportError without PyTorch."""
    import torch

    _, activations, loss, _ = NETWORKS[name]
    x, y, parameters = batch_and_parameters(name)
    functions = {"relu": torch.relu, "sigmoid": torch.sigmoid, "tanh": torch.tanh, "identity": lambda s: s}
    losses = {
        nn.mean_squared_error: torch.nn.functional.mse_loss,
        nn.binary_cross_entropy: torch.nn.functional.binary_cross_entropy,
        nn.softmax_cross_entropy: torch.nn.functional.cross_entropy,
    }
    a, leaves = torch.tensor(x), []
    for (W, b), phi in zip(parameters, activations, strict=True):
        leaves += [torch.tensor(W, requires_grad=True), torch.tensor(b, requires_grad=True)]
        a = functions[phi.name](a @ leaves[-2] + leaves[-1])
    value = losses[loss](a, torch.tensor(y))
    value.backward()
    norms = {"loss": value.item()}
    for k in range(len(parameters)):
        dW, db = leaves[2 * k].grad, leaves[2 * k + 1].grad
        norms |= {f"‖∂L/∂W{k + 1}‖": dW.norm().item(), f"‖∂L/∂b{k + 1}‖": db.norm().item()}
    return norms


def peer() -> tuple[str, dict[str, dict[str, float]]]:
    """Return (name of the reference, its numbers)."""
    try:
        import torch
    except ImportError:
        stored = json.loads(STORED.read_text(encoding="utf-8"))
        return f"PyTorch {stored['torch']} (stored)", stored["networks"]
    return f"PyTorch {torch.__version__}", {name: pytorch(name) for name in NETWORKS}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--store", action="store_true", help="write PyTorch's numbers to tests/golden")
    store = parser.parse_args().store
    source, yardstick = peer()
    if store:
        STORED.parent.mkdir(exist_ok=True)
        STORED.write_text(
            json.dumps({"torch": source.split()[1], "networks": yardstick}, indent=1) + "\n", encoding="utf-8"
        )
    worst = 0.0
    for name in NETWORKS:
        print(f"\n{name:32s} {'ffnn_gpu':>22s} {source:>28s}   relative")
        for quantity, value in ours(name).items():
            want = yardstick[name][quantity]
            difference = abs(value - want) / abs(want)
            worst = max(worst, difference)
            print(f"  {quantity:30s} {value:22.17g} {want:28.17g}   {difference:.1e}")
    print(f"\nlargest relative difference {worst:.1e}, allowed {AGREEMENT:.0e}")
    return 0 if worst <= AGREEMENT else 1


if __name__ == "__main__":
    sys.exit(main())
