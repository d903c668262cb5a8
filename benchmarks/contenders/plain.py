"""The network written out in NumPy or CuPy without a library, as somebody writes it in an afternoon.

The launcher sets CUPY_TF32.
"""

import numpy as np

from benchmarks.contenders import Program
from benchmarks.jobs import batch, weights

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def train(job, variant):
    xp, low, x, y, layers = made(job, variant)
    theta = [array for layer in layers for array in layer]
    moments = [(xp.zeros_like(array), xp.zeros_like(array)) for array in theta]
    rows, done = xp.arange(job.B), 0

    def step():
        nonlocal done
        done += 1
        value, gradients = loss_and_gradients(xp, low, layers, x, y, rows)
        for p, g, (m, v) in zip(theta, gradients, moments, strict=True):
            m += (1 - BETA1) * (g - m)
            v += (1 - BETA2) * (g * g - v)
            p -= job.lr / (1 - BETA1**done) * m / (xp.sqrt(v / (1 - BETA2**done)) + EPS)
        return value

    return program(xp, step)


def predict(job, variant):
    xp, low, x, _, layers = made(job, variant)
    return program(xp, lambda: forward(xp, low, layers, x)[-1])


def forward(xp, low, layers, x):
    """Return [x, a₁, …, z]."""
    activations = [x]
    for k, (W, b) in enumerate(layers):
        s = activations[-1] @ low(W) + low(b)
        activations.append(xp.maximum(s, 0, out=s) if k < len(layers) - 1 else s)
    return activations


def loss_and_gradients(xp, low, layers, x, y, rows):
    """Return the mean softmax cross-entropy and [dW₁, db₁, dW₂, …] in float32."""
    *activations, z = forward(xp, low, layers, x)
    z = z.astype(np.float32)
    z -= z.max(axis=1, keepdims=True)
    p = xp.exp(z)
    total = p.sum(axis=1, keepdims=True)
    value = (xp.log(total[:, 0]) - z[rows, y]).mean()
    p /= total
    p[rows, y] -= 1
    delta, gradients = low(p / len(x)), []
    for (W, _), a in zip(reversed(layers), reversed(activations), strict=True):
        gradients[:0] = [(a.T @ delta).astype(np.float32), delta.sum(axis=0, dtype=np.float32)]
        if a is not x:
            delta = (delta @ low(W).T) * (a > 0)
    return value, gradients


def made(job, variant):
    """Return (array module, cast to the precision of products, x, y, [(W, b), …]) on the device."""
    if variant == "cupy":
        import cupy as xp
    else:
        xp = np
    x, y = batch(job)
    layers = [(xp.asarray(W), xp.asarray(b)) for W, b in weights(job)]
    low = caster(job.precision)
    return xp, low, low(xp.asarray(x)), xp.asarray(y), layers


def caster(precision):
    if precision != "bfloat16":
        return lambda array: array
    from ml_dtypes import bfloat16

    return lambda array: array.astype(bfloat16)


def program(xp, launch):
    if xp is np:
        return Program(launch)
    return Program(launch, lambda result: xp.cuda.Device().synchronize(), lambda result: xp.asnumpy(result))
