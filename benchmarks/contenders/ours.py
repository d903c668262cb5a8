"""ffnn_gpu: `train_step` in a loop, K steps in one captured graph, `fit` for an epoch.

The step is called with checked=True, as `fit` calls it: targets are not checked at every step. The
launcher sets TF32 and the timing of algorithms by FFNN_GPU_TF32 and FFNN_GPU_AUTOTUNE.
"""

import numpy as np

from benchmarks.contenders import Program
from benchmarks.jobs import batch, pictures, weights


def train(job, variant):
    from ffnn_gpu import Adam, softmax_cross_entropy, train_step

    network, x, y = made(job)
    ws, adam = network.workspace(job.B), Adam(lr=job.lr)

    def step():
        return train_step(network, softmax_cross_entropy, adam, x, y, ws, checked=True)

    def block():
        for _ in range(job.K):
            value = step()
        return value

    if variant == "graph":
        return program(network, network.backend.capture(block), job.K)
    return program(network, step)


def predict(job, variant):
    network, x, _ = made(job)
    if variant == "checked":  # looks for NaN in rows and outputs, and returns a new array
        return program(network, lambda: network.predict(x))
    ws = network.workspace(job.B, training=False)

    def forward():
        return network.forward(x, ws)

    return program(network, network.backend.capture(forward) if variant == "graph" else forward)


def epoch(job, variant):
    from ffnn_gpu import Adam, fit, softmax_cross_entropy
    from ffnn_gpu.data.standardizer import Standardizer

    network, adam, (pixels, labels) = bare(job), Adam(lr=job.lr), pictures(job)
    x = Standardizer(np.zeros(job.widths[0]), np.full(job.widths[0], 255.0)).rows(pixels)

    def launch():
        return fit(network, softmax_cross_entropy, adam, (x, labels), epochs=1, batch_size=job.B, verbose=0)

    return Program(
        launch, lambda history: network.backend.synchronize(), lambda history: history.rows[-1]["loss"]
    )


def bare(job):
    """Return the network with its own initial values."""
    from ffnn_gpu import Dense, Network, relu

    *hidden, outputs = job.widths[1:]
    layers = [*(Dense(width, relu) for width in hidden), Dense(outputs)]
    return Network(
        job.widths[0], layers, device={"cpu": "numpy", "cuda": "cupy"}[job.device], dtype=dtype(job)
    )


def dtype(job):
    """Return the dtype of the network."""
    return "bfloat16" if job.precision == "bfloat16" else "float32"


def made(job):
    """Return the network with the common initial weights, and its batch on the device."""
    network, (x, y) = bare(job), batch(job)
    start = {
        f"{k}.{name}": array
        for k, layer in enumerate(weights(job))
        for name, array in zip("Wb", layer, strict=True)
    }
    network.params.assign({name: start[name].astype(view.dtype) for name, view in network.params.named()})
    backend = network.backend
    return network, backend.asarray(x, backend.dtype(dtype(job))), backend.asarray(y, np.int32)


def program(network, launch, steps=1):
    backend = network.backend
    return Program(
        launch,
        lambda result: backend.synchronize(),
        lambda result: np.asarray(backend.to_host(result)),
        steps,
    )
