"""Operations of a training step, each alone: on a GPU to be timed, on paper to be predicted."""

import numpy as np

from benchmarks.gpu_model import paper_cupy
from benchmarks.gpu_model.timeline import seconds
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from ffnn_gpu.backends.reference.updates import Update
from ffnn_gpu.nn.activations import identity, relu

SIZES = (128, 784, 128), (2**17, 64, 64), (8192, 2048, 2048)  # rows, inputs and outputs of a layer


def operations(backend, B, I, O, dtype):
    """Return name → function without arguments, for a layer a = φ(x W + b) with x (B, I) and W (I, O)."""
    master, float64 = np.float32, np.float64
    x, W, dx = (backend.zeros(shape, dtype) for shape in ((B, I), (I, O), (B, I)))
    b, gain = (backend.zeros((O,), dtype) for _ in range(2))
    a, da, mask, xhat = (backend.zeros((B, O), dtype) for _ in range(4))
    y, rows = backend.zeros((B,), np.int32), backend.asarray(np.arange(B))
    rstd, column, mean, variance, db = (backend.zeros((n,), master) for n in (B, O, O, O, O))
    dW, theta, m, v = (backend.zeros((I, O), master) for _ in range(4))
    shadow = None if dtype == "float32" else backend.zeros((I * O,), dtype)
    scalars, control = backend.zeros((3,), float64), backend.zeros((2,), float64)
    step, lr = backend.zeros((1,), np.int64), backend.zeros((1,), float64)
    moments = [each.reshape(I * O) for each in (m, v)]
    update = Update(theta.reshape(I * O), dW.reshape(I * O), scalars, I * O, shadow=shadow)
    return {
        "copy": lambda: backend.copy(a, out=da),
        "take": lambda: backend.take(x, rows, out=dx),
        "x W + b": lambda: backend.affine(x, W, b, identity, out=a),
        "relu(x W + b)": lambda: backend.affine(x, W, b, relu, out=a),
        "δ = da φ′": lambda: backend.activation_backward(da, a, relu),
        "dW, db": lambda: backend.affine_gradients(x, da, dW=dW, db=db),
        "dx = δ Wᵀ": lambda: backend.gemm(da, W.T, out=dx),
        "softmax cross-entropy": lambda: backend.softmax_cross_entropy(a, y, None, None, 0.0, da),
        "dropout": lambda: backend.dropout_forward(a, mask, da, 0.1, 1, step, 0, 0),
        "LayerNorm": lambda: backend.layer_norm(a, gain, b, 1e-5, out=da, xhat=xhat, rstd=rstd),
        "LayerNorm backward": lambda: backend.layer_norm_backward(da, gain, xhat, rstd, column, db, dx=da),
        "BatchNorm": lambda: backend.batch_norm(a, gain, b, 1e-5, da, xhat, column, mean, variance),
        "BatchNorm backward": lambda: backend.batch_norm_backward(da, gain, xhat, column, mean, db, dx=da),
        "‖∇θ‖": lambda: backend.gradient_factor(update.grad, 1.0, control, None),
        "count of updates": lambda: backend.advance(scalars, step, None, lr),
        "Adam": lambda: backend.adam(update, *moments, 0.9, 0.999, 1e-8),
    }


def predicted(machine, *size):
    """Return name → predicted seconds of `operations` of this size."""
    found = {}
    with paper_cupy.installed() as cupy:
        backend = CupyBackend()
        for name, work in operations(backend, *size).items():
            work()  # products are planned
            stream = cupy.cuda.Stream(non_blocking=True)
            with stream:
                stream.begin_capture()
                work()
                stream.end_capture()
            found[name] = seconds(cupy.graphs[-1], machine)
    return found
