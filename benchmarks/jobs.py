"""What is measured: networks and batches as data, the numbers every contender starts from, and what a step costs at least.

Why equal numbers for all: then every contender computes the same function, and `--check` can hold them to it.

Why random data and a tiny learning rate: zeros make a GPU faster than it is; and a network that fits its one
batch perfectly after thousands of steps has gradients below the smallest normal number, which make a CPU
slower than it is.
"""

import math
from dataclasses import dataclass

ADAM_BYTES = {
    "float32": 28,
    "tf32": 28,
    "bfloat16": 30,
}  # per parameter: θ, m, v read and written, ∇θ read; bfloat16 copy
ITEMSIZE = {"float32": 4, "tf32": 4, "bfloat16": 2}


@dataclass(frozen=True)
class Job:
    """One thing to measure.

        train     Adam steps on one batch that lies on the device; ReLU, softmax cross-entropy of class indices
        predict   logits of one batch that lies on the device
        epoch     one pass over 60,000 rows of 784 bytes on the host, shuffled, scaling included
        limits    the rate of a large product and of a large copy

    Attributes:
        widths: inputs, hidden layers, outputs. B: rows in the batch.
        K: steps per launch, for contenders that can make several at once.
        data: folder of IDX files for `epoch`; None for random bytes. rows: of those random bytes.
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
        """Of the products of one training step: x W, xᵀ δ, δ Wᵀ but for the first layer."""
        first, *rest = [2 * self.B * I * O for I, O in self.layer_shapes]
        return 2 * first + 3 * sum(rest)

    def floor(self, flop_per_second, bytes_per_second):
        """Seconds that one training step takes at least, at these measured rates.

        The products, or reading x and y if that takes longer, and then Adam, which needs every gradient
        first. What a layer-by-layer schedule adds for its activations is left out: one fused kernel need not
        write them.
        """
        parameters = sum(I * O + O for I, O in self.layer_shapes)
        batch = self.B * (self.widths[0] * ITEMSIZE[self.precision] + 4)
        adam = ADAM_BYTES[self.precision] * parameters
        return max(self.flop / flop_per_second, batch / bytes_per_second) + adam / bytes_per_second


MNIST = (784, 512, 512, 10)
TRAIN = {  # widths, B, K: on a GPU such that a launch takes 200 µs or more
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
    """Every job for this device; quick: the smallest of each kind, on fewer rows."""
    settings |= {"device": device}
    train = [Job("train", widths, B, K, **settings) for widths, B, K in TRAIN[device]]
    predict = [Job("predict", MNIST, rows, **settings) for rows in PREDICT[device]]
    epoch = Job("epoch", MNIST, 128, lr=1e-3, rows=1280 if quick else 60_000, **settings)
    return [train[0], predict[0], epoch] if quick else [*train, *predict, epoch]


def batch(job):
    """x (B, n_in) float32 from N(0, 1), y (B,) int64 class indices: the same in every process."""
    import numpy as np

    rng = np.random.default_rng(1)
    x = rng.standard_normal((job.B, job.widths[0]), np.float32)
    return x, rng.integers(0, job.widths[-1], job.B)


def weights(job):
    """[(W, b), …] in float32: W (I, O) from N(0, 2/I), b zero; He et al. (2015), eq. 10.

    The same in every process.
    """
    import numpy as np

    rng = np.random.default_rng(2)
    drawn = [rng.standard_normal(shape, np.float32) for shape in job.layer_shapes]
    for W in drawn:
        W *= math.sqrt(2 / len(W))
    return [(W, np.zeros(W.shape[1], np.float32)) for W in drawn]


def pictures(job):
    """MNIST, or random bytes of its size: x (n, 784) uint8, y (n,) int64."""
    import numpy as np

    if job.data is not None:
        from ffnn_gpu.data.readers import read

        mnist = read(job.data)
        return np.asarray(mnist.x, np.uint8), np.asarray(mnist.y, np.int64)
    rng = np.random.default_rng(3)
    return rng.integers(0, 256, (job.rows, job.widths[0]), np.uint8), rng.integers(
        0, job.widths[-1], job.rows
    )
