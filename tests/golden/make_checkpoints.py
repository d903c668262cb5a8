"""Write golden/checkpoints: a training checkpoint of the current format in float32 and one in bfloat16.

Files of earlier formats stay as long as the package reads them. The files of format 1 without "inputs" in
their name were written before a checkpoint had checksums of x and of the validation rows.
"""

import shutil
import sys
from pathlib import Path

import numpy as np

import ffnn_gpu as nn
from ffnn_gpu.checkpoints.checkpoint import FORMAT
from ffnn_gpu.training.callbacks import Checkpoints

FOLDER = Path(__file__).parent / "checkpoints"
X, Y = np.arange(24).reshape(8, 3) / 8 - 1, np.array([0, 1, 2, 0, 1, 2, 0, 1])
EXTRAS = {"labels": ["a", "ü", None], "x": 0.1 + 0.2}
LAYERS = (
    nn.Dense(4, nn.leaky_relu.with_alpha(0.2)), nn.BatchNorm(),
    nn.Residual([nn.LayerNorm(), nn.Dense(4, nn.gelu, bias=False)]), nn.Dropout(0.25), nn.Dense(3),
)  # fmt: skip


def exact(network):
    """Return name → numbers that every floating type stores exactly: k/8 in the order of each array."""
    return {
        name: (np.arange(view.size).reshape(view.shape) / 8).astype(view.dtype)
        for name, view in network.params.named()
    }


def train(network, folder, epochs, *, resume=False):
    """Run the training of the golden checkpoint up to `epochs` and return its history."""
    return nn.fit(
        network,
        nn.softmax_cross_entropy,
        nn.Adam(0.01, ema=0.9),
        (X, Y),
        epochs=epochs,
        batch_size=3,
        verbose=0,
        schedule=nn.Exponential(),
        early_stopping=5,
        checkpoint=Checkpoints(folder, extras=EXTRAS),
        resume=resume,
    )


def write(folder, dtype):
    """Write last.safetensors after two epochs, and exact.safetensors, a network with known parameters."""
    train(nn.Network(3, LAYERS, "numpy", dtype, seed=7), folder, epochs=2)
    network = nn.Network(3, LAYERS, "numpy", dtype, seed=7)
    network.params.assign(exact(network))
    network.backend.write(network.params.step, 0, 12)
    nn.save(network, folder / "exact", extras=EXTRAS)
    (folder / "best.safetensors").unlink()


if __name__ == "__main__":
    for dtype in ("float32", "bfloat16"):
        shutil.rmtree(FOLDER / f"format-{FORMAT}-{dtype}", ignore_errors=True)
        write(FOLDER / f"format-{FORMAT}-{dtype}", dtype)
    sys.stdout.write(f"written to {FOLDER}\n")
