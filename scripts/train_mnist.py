"""Train on MNIST or Fashion-MNIST from a folder of IDX files: an example that uses the library directly.

    python3 scripts/train_mnist.py --data DIR [--device auto|cpu|cuda] [--dtype float32|bfloat16] [--epochs N]
    [--seed N]

The test images are evaluated after every epoch, only to report when the accuracy reached 98 %. Nothing is
chosen by them, and the evaluation is not part of the reported time.
"""

import argparse
import sys
import time
from typing import Any

try:
    import numpy as np

    import ffnn_gpu as nn
    from ffnn_gpu.data.readers import read
    from ffnn_gpu.data.standardizer import Standardizer
    from ffnn_gpu.training.callbacks import Run
except ImportError:  # a fresh clone: make .venv first, then start again in it
    from bootstrap import restart

    sys.exit(restart(__file__))


class Clock(nn.Callback):
    """Measure the training time, in total and until the accuracy on `data` first reaches `goal`."""

    def __init__(self, data: tuple[Any, np.ndarray], goal: float = 0.98) -> None:
        self.data, self.goal, self.reached, self.seconds = data, goal, None, 0.0

    def start(self, run: Run) -> None:
        self.began = time.perf_counter()

    def after_epoch(self, run: Run, row: dict[str, float]) -> None:
        self.seconds += time.perf_counter() - self.began
        self.accuracy = nn.evaluate(run.network, run.loss, self.data, metrics=["accuracy"])["accuracy"]
        if self.reached is None and self.accuracy >= self.goal:
            self.reached = self.seconds
        self.began = time.perf_counter()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data", required=True, help="folder with train-images…, train-labels…, t10k-images…, t10k-labels…"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1")
    parser.add_argument(
        "--dtype", default="float32", help="float32, float64; on a GPU also bfloat16, float16"
    )
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()

    # Images are rows of 784 bytes and stay bytes: each minibatch is standardized when it is gathered, with
    # the mean and standard deviation over all pixels of the training images.
    mnist = read(args.data)
    standardizer = Standardizer(np.full(784, mnist.x.mean()), np.full(784, mnist.x.std()))
    x, x_test = standardizer.rows(mnist.x), standardizer.rows(mnist.x_test)

    network = nn.Network(
        784,
        [
            nn.Dropout(0.1),
            nn.Dense(512, nn.silu),
            nn.Dropout(0.3),
            nn.Dense(512, nn.silu),
            nn.Dropout(0.3),
            nn.Dense(10),
        ],
        device=args.device,
        dtype=args.dtype,
        seed=args.seed,
    )
    print(network.summary(), f"\n\n{network.backend.name}: {network.backend.reason}", file=sys.stderr)

    clock = Clock((x_test, mnist.y_test))
    nn.fit(
        network,
        nn.softmax_cross_entropy,
        nn.AdamW(lr=2e-3, weight_decay=0.1),
        (x, mnist.y),
        epochs=args.epochs,
        batch_size=256,
        schedule=nn.OneCycle(),
        seed=args.seed,
        callbacks=[clock],
    )
    print(
        f"test accuracy {clock.accuracy:.4f} on {len(x_test)} images "
        f"after {clock.seconds:.1f} s of training, "
        f"{clock.seconds / args.epochs:.3g} s an epoch"
    )
    print("98 % not reached" if clock.reached is None else f"98 % after {clock.reached:.1f} s")


if __name__ == "__main__":
    main()
