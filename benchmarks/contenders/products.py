"""The bound: the matrix products of a training step and nothing else.

        s = x W        dW = xᵀ δ        dx = δ Wᵀ (except in the first layer)

On a CPU through NumPy, on a GPU through this package's cublasLt with timed algorithms, K steps in one graph.
On a GPU every row starts on a 16-byte boundary, as tensor cores want it, also where there are 10 outputs.
"""

import time

import numpy as np

from benchmarks.contenders import Program
from benchmarks.jobs import batch, weights

SIZE = {"cpu": 2048, "cuda": 8192}  # of the large product, rows and columns
COPIED = {"cpu": 2**28, "cuda": 2**31}  # bytes
REPEATS, ROUNDS = 10, 5


def train(job, variant):
    device = DEVICES[variant](job)
    x, _ = batch(job)
    inputs = [
        device.array(a, device.low) for a in (x, *(noise((job.B, width)) for width in job.widths[1:-1]))
    ]
    deltas = [device.array(noise((job.B, width)), device.low) for width in job.widths[1:]]
    matrices = [device.array(W, device.low) for W, _ in weights(job)]
    gradients = [device.array(np.zeros_like(W), np.float32) for W, _ in weights(job)]
    outputs = [device.array(np.zeros((job.B, width), np.float32), device.low) for width in job.widths]

    def step():
        for k, (a, W) in enumerate(zip(inputs, matrices, strict=True)):
            device.product(a, W, outputs[k + 1])
        for k in reversed(range(len(matrices))):
            device.product(inputs[k].T, deltas[k], gradients[k])
            if k > 0:
                device.product(deltas[k], matrices[k].T, outputs[k])

    return Program(device.repeated(step, job.K), lambda result: device.wait(), steps=device.steps(job))


def limits(job, variant):
    """Measure the flop_per_second of a large product and the bytes_per_second of a large copy."""
    device, n = DEVICES[variant](job), SIZE[job.device]
    A, B = (device.array(noise((n, n)), device.low) for _ in range(2))
    C, source = device.array(np.zeros((n, n), np.float32), device.low), device.bytes(COPIED[job.device])
    target = device.bytes(COPIED[job.device])
    product = device.repeated(lambda: device.product(A, B, C), 1)
    found = {
        "flop_per_second": 2 * n**3 / shortest(device, product),
        "bytes_per_second": 2 * COPIED[job.device] / shortest(device, lambda: device.copy(source, target)),
    }
    return Program(lambda: found)


def shortest(device, work):
    """Return the seconds of `work`: the best of a few rounds, each the mean of REPEATS calls."""
    times = []
    for _ in range(ROUNDS + 1):  # the first round warms up
        began = time.perf_counter()
        for _ in range(REPEATS):
            work()
        device.wait()
        times.append((time.perf_counter() - began) / REPEATS)
    return min(times[1:])


def noise(shape):
    return np.random.default_rng(4).standard_normal(shape, np.float32)


class Host:
    """Products by NumPy."""

    low = np.float32

    def __init__(self, job):
        pass

    def array(self, values, dtype):
        return values.astype(dtype)

    def bytes(self, count):
        return np.ones(count, np.uint8)

    def product(self, A, B, out):
        np.matmul(A, B, out=out)

    def copy(self, source, target):
        np.copyto(target, source)

    def wait(self):
        pass

    def steps(self, job):
        return 1

    def repeated(self, step, K):
        return step


class Gpu:
    """Products by cublasLt, captured on one stream."""

    def __init__(self, job):
        import cupy

        from ffnn_gpu.backends.cuda.cublaslt.matmul import CublasLt

        self.cupy, self.stream = cupy, cupy.cuda.Stream(non_blocking=True)
        self.lt = CublasLt(cupy, tf32=job.precision == "tf32", autotune=16)
        self.low = np.float32
        if job.precision == "bfloat16":
            from ml_dtypes import bfloat16

            self.low = np.dtype(bfloat16)

    def array(self, values, dtype):
        rows, columns = values.shape
        unit = 16 // np.dtype(dtype).itemsize
        padded = np.zeros((rows, -(-columns // unit) * unit), dtype)
        padded[:, :columns] = values
        return self.cupy.asarray(padded)[:, :columns]

    def bytes(self, count):
        return self.cupy.ones(count, self.cupy.uint8)

    def product(self, A, B, out):
        self.lt.product(A, B, out)

    def copy(self, source, target):
        target.data.copy_from_device_async(source.data, source.nbytes, self.stream)

    def wait(self):
        self.stream.synchronize()

    def steps(self, job):
        return job.K

    def repeated(self, step, K):
        """Return a launch of K steps."""
        self.cupy.cuda.Device().synchronize()  # the arrays were filled on another stream
        with self.stream:
            step()  # plans every product, which a capture does not allow
            self.stream.synchronize()
            self.stream.begin_capture()
            for _ in range(K):
                step()
            self.graph = self.stream.end_capture()
        return lambda: self.graph.launch(self.stream)


DEVICES = {"numpy": Host, "cublaslt": Gpu}
