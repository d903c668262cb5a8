"""The jobs to measure, the numbers that every contender starts from, and the least time of a step.

Why equal numbers for all: every contender then computes the same function, and `--check` can compare them.

Why random data and a tiny learning rate: a GPU is faster on zeros. And a network that fits its one batch
perfectly after thousands of steps has subnormal gradients, on which a CPU is slower.
"""

import math
from dataclasses import dataclass

# Bytes per parameter: θ, m, v read and written, ∇θ read; in bfloat16 also the copy of θ.
ADAM_BYTES = {"float32": 28, "tf32": 28, "bfloat16": 30}
ITEMSIZE = {"float32": 4, "tf32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Job:
    """One thing to measure.

        train     Adam steps on one batch on the device; ReLU, softmax cross-entropy of class indices
        predict   logits of one batch on the device
        epoch     one pass over 60,000 rows of 784 bytes on the host, with shuffling and scaling
        limits    the rates of a large product and of a large copy

    Attributes:
        widths: inputs, hidden layers, outputs.
        B: rows of the batch.
        K: steps per launch, for contenders that can launch several at once.
        data: folder of IDX files for `epoch`; None for random bytes.
        rows: number of rows of random bytes.
    """

    kind: str
    widths: tuple
    B: int
    K: int = 1
    device: str = "cpu"
    precision: str = "float32"
    threads: int = 1
    lr: float = 1e-7
    data: str | None = None
    rows: int = 60_000

    @property
    def title(self):
        return f"{self.kind} {'-'.join(map(str, self.widths))} B {self.B}"

    @property
    def layer_shapes(self):
        return list(zip(self.widths[:-1], self.widths[1:], strict=True))

    @property
    def flop(self):
        """Return the FLOP of one step's products: x W and xᵀ δ, and δ Wᵀ in all layers but the first."""
        first, *rest = [2 * self.B * I * O for I, O in self.layer_shapes]
        return 2 * first + 3 * sum(rest)

    def floor(self, flop_per_second, bytes_per_second):
        """Return the least seconds of one training step at these measured rates.

        The step computes the products, or reads x and y if that takes longer. Then Adam runs, which needs all
        gradients first. Writing activations is not counted, because one fused kernel need not write them.
        """
        parameters = sum(I * O + O for I, O in self.layer_shapes)
        batch = self.B * (self.widths[0] * ITEMSIZE[self.precision] + 4)
        adam = ADAM_BYTES[self.precision] * parameters
        return max(self.flop / flop_per_second, batch / bytes_per_second) + adam / bytes_per_second


MNIST = (784, 512, 512, 10)
TRAIN = {  # widths, B, K; on a GPU, K is chosen so that a launch takes at least 200 µs
    "cpu": [
        ((8, 32, 32, 2), 32, 100),
        ((784, 128, 10), 128, 20),
        (MNIST, 128, 10),
        (MNIST, 1024, 2),
        ((1024, 2048, 2048, 2048, 10), 1024, 1),
    ],
    "cuda": [
        ((784, 128, 10), 128, 32),
        (MNIST, 128, 16),
        ((64,) * 6, 2**18, 4),
        ((256, 64, 64, 64, 64, 16), 2**18, 4),
        ((1024, 4096, 4096, 4096, 4096, 1024), 8192, 1),
        ((8192,) * 5, 16384, 1),
    ],
}
PREDICT = {"cpu": [1, 10_000], "cuda": [1, 1024, 2**17]}  # rows through MNIST


def jobs(device, quick=False, **settings):
    """Return every job for this device; with quick, the smallest of each kind on fewer rows."""
    settings |= {"device": device}
    train = [Job("train", widths, B, K, **settings) for widths, B, K in TRAIN[device]]
    predict = [Job("predict", MNIST, rows, **settings) for rows in PREDICT[device]]
    epoch = Job("epoch", MNIST, 128, lr=1e-3, rows=1280 if quick else 60_000, **settings)
    return [train[0], predict[0], epoch] if quick else [*train, *predict, epoch]


def batch(job):
    """Return x (B, n_in) float32 from N(0, 1) and y (B,) int64 class indices, equal in every process."""
    import numpy as np

    rng = np.random.default_rng(1)
    x = rng.standard_normal((job.B, job.widths[0]), np.float32)
    return x, rng.integers(0, job.widths[-1], job.B)


def weights(job):
    """Return [(W, b), …] in float32, equal in every process: W (I, O) from N(0, 2/I), b zero.

    Reference: He et al. (2015), eq. 10.
    """
    import numpy as np

    rng = np.random.default_rng(2)
    drawn = [rng.standard_normal(shape, np.float32) for shape in job.layer_shapes]
    for W in drawn:
        W *= math.sqrt(2 / len(W))
    return [(W, np.zeros(W.shape[1], np.float32)) for W in drawn]


def pictures(job):
    """Return MNIST or random bytes of its size: x (n, 784) uint8, y (n,) int64."""
    import numpy as np

    if job.data is not None:
        from ffnn_gpu.data.readers import read

        mnist = read(job.data)
        return np.asarray(mnist.x, np.uint8), np.asarray(mnist.y, np.int64)
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (job.rows, job.widths[0]), np.uint8), rng.integers(
        0, job.widths[-1], job.rows
    )
