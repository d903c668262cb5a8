"""Layers of tables for libraries that differentiate by themselves, written for their array module `xp`.

Each function takes the values in the order of `kinds.TABLE_LAYERS` and x (B, I), and returns the output.
"""

import math


def scale(xp, values, x):
    return x * values[0]


def ntk_dense(xp, values, x, width, activation):
    W, b = values
    return activation(x @ W / math.sqrt(x.shape[1]) + b)


def parametric(xp, values, x, activation):
    return x + values[0] * (activation(x) - x)


def periodic(xp, values, x, F):
    w, b, A, c = values
    waves = xp.cos(2 * math.pi * w * x[:, :F, None] + b)
    e = xp.einsum("bfk,fkd->bfd", waves, A.reshape(F, w.shape[1], -1)) + c
    return xp.concatenate([e.reshape(len(x), -1), x], 1)


def cosines(xp, values, x, F):
    w, b, gain, bias = values
    waves = xp.cos(2 * math.pi * (w * x[:, :F, None] + b.reshape(w.shape)))
    e = gain * xp.concatenate([x[:, :F, None], waves], 2) + bias.reshape(gain.shape)
    return xp.concatenate([e.reshape(len(x), -1), x[:, F:]], 1)


def piecewise_linear(xp, values, x, edges):
    """Every column has as many bins; the parts go on below the first bin and above the last one."""
    w, c, V = values
    F, T = len(edges), len(edges[0]) - 1
    ends = xp.asarray(edges, dtype=x.dtype)
    part = (x[:, :F, None] - ends[:, :-1]) / (ends[:, 1:] - ends[:, :-1])
    place = xp.arange(T)
    part = xp.where((place > 0) & (part < 0), 0 * part, part)
    part = xp.where((place < T - 1) & (part > 1), 0 * part + 1, part)
    D = V.shape[1]
    e = w.reshape(F, D) * x[:, :F, None] + c.reshape(F, D)
    e = e + xp.einsum("bft,ftd->bfd", part, V.reshape(F, T, D))
    return xp.concatenate([e.reshape(len(x), -1), x[:, F:]], 1)


FUNCTIONS = {
    "Scale": scale, "NTKDense": ntk_dense, "ParametricActivation": parametric, "PeriodicEmbedding": periodic,
    "CosineEmbedding": cosines, "PiecewiseLinearEmbedding": piecewise_linear,
}  # fmt: skip


def applied(xp, activation, name, values, x, *arguments):
    """Return the output of a layer. activation: name → function."""
    if name in ("NTKDense", "ParametricActivation"):
        *arguments, phi = arguments
        arguments = *arguments, activation(phi)
    return FUNCTIONS[name](xp, values, x, *arguments)
