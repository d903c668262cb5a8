"""Train on images in IDX files, the form of MNIST, and show the images that the network gets wrong.

    python3 examples/mnist_from_idx_files.py [FOLDER]

FOLDER holds train-images…, train-labels…, t10k-images… and t10k-labels…. Without it, the 8 × 8 digits of
scikit-learn are written as IDX files first.
"""

import sys
import tempfile
from pathlib import Path

import numpy as np

import ffnn_gpu as nn
from ffnn_gpu.data.readers import read
from ffnn_gpu.data.standardizer import Standardizer

# %% Files


def write_idx(path: Path, array: np.ndarray) -> None:
    """Write bytes as an IDX file: two zeros, the type 8, the number of axes, the sizes, the bytes."""
    header = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(header + array.astype(np.uint8).tobytes())


def written_digits(folder: Path) -> Path:
    """Write scikit-learn's digits as IDX files, the last 300 of them as test images."""
    from sklearn.datasets import load_digits

    images, labels = load_digits().images * 15, load_digits().target
    for name, rows in (("train", slice(0, -300)), ("t10k", slice(-300, None))):
        write_idx(folder / f"{name}-images-idx3-ubyte", images[rows])
        write_idx(folder / f"{name}-labels-idx1-ubyte", labels[rows])
    return folder


def drawn(pixels: np.ndarray, width: int) -> str:
    """Return an image of bytes as text, one character for each pixel."""
    return "\n".join("".join(" .:oO@"[value // 43] for value in row) for row in pixels.reshape(-1, width))


# %% The data
# read() finds the four files by their names.

folder = Path(sys.argv[1]) if len(sys.argv) > 1 else written_digits(Path(tempfile.mkdtemp()))
data = read(folder)
pixels = data.x.shape[1]
# The images stay bytes. Each minibatch is standardized when it is gathered.
standardizer = Standardizer(np.full(pixels, data.x.mean()), np.full(pixels, data.x.std()))
x, x_test = standardizer.rows(data.x), standardizer.rows(data.x_test)

# %% The training

network = nn.Network(pixels, [nn.Dense(128, "silu"), nn.Dropout(0.2), nn.Dense(10)], seed=0)
nn.fit(
    network,
    "softmax_cross_entropy",
    nn.AdamW(lr=2e-3, weight_decay=0.1),
    (x, data.y),
    epochs=20,
    batch_size=128,
    schedule=nn.OneCycle(),
    verbose=0,
)
found = nn.evaluate(network, "softmax_cross_entropy", (x_test, data.y_test), metrics=["accuracy"])
print(f"{len(data.x)} images of {pixels} pixels; accuracy on {len(x_test)} others: {found['accuracy']:.4f}")

# %% What it gets wrong

answers = network.predict(standardizer.transform(data.x_test, "float32")).argmax(axis=1)
for k in np.flatnonzero(answers != data.y_test)[:2]:
    print(f"\na {data.y_test[k]}, taken for a {answers[k]}:")
    print(drawn(np.asarray(data.x_test[k]), round(pixels**0.5)))
