"""NumPy: each layer's forward and backward pass and each derivative written out, update rules per array."""

import numpy as np

from benchmarks.contenders import UnsupportedError
from benchmarks.contenders.steps import in_turn, rules
from benchmarks.kinds import minibatches, tables, weights

EPS = 1e-5  # of the normalizations


def step(kind, variant):
    if kind.precision in ("float16", "bfloat16"):
        raise UnsupportedError(f"NumPy multiplies matrices of {kind.precision} without a BLAS")
    layers = made(kind.layers, weights(kind))
    layers[0].first = True
    parameters = [layer for layer in flat(layers) if layer.theta]
    theta, loss = [p for layer in parameters for p in layer.theta], LOSSES[kind.loss]
    moments, mean = rules.start(kind, theta, np.zeros_like), [p.copy() for p in theta]
    decay, done = kind.options.get("ema"), 0

    def launch(x, y):
        nonlocal done, moments
        done += 1
        z = x
        for layer in layers:
            z = layer.forward(z)
        value, da = loss(z, y)
        for layer in reversed(layers):
            da = layer.backward(da)
        gradients = [g for layer in parameters for g in layer.gradients]
        found, moments = rules.changes(np, kind, theta, gradients, done, moments)
        for p, change in zip(theta, found, strict=True):
            p -= change
        if decay is not None:
            for average, p in zip(mean, theta, strict=True):
                average += (1 - decay) * (p - average)
        return value

    return in_turn(launch, minibatches(kind))


def made(layers, values):
    return [CLASSES[name](theta, *rest) for (name, *rest), theta in zip(layers, values, strict=True)]


def flat(layers):
    return [found for layer in layers for found in (layer, *flat(getattr(layer, "layers", ())))]


# --- layers: forward(x) → a keeps what backward(da) → dx needs; backward sets `gradients`


class Dense:
    first = False  # nobody reads the gradient at the network's input

    def __init__(self, theta, width, activation):
        self.theta, (self.phi, self.slope) = theta, ACTIVATIONS[activation]

    def forward(self, x):
        W, b = self.theta
        self.x, self.s = x, x @ W
        self.s += b
        self.a = self.phi(self.s)
        return self.a

    def backward(self, da):
        delta = da if self.slope is None else da * self.slope(self.s, self.a)
        self.gradients = self.x.T @ delta, delta.sum(axis=0)
        return None if self.first else delta @ self.theta[0].T


class Norm:
    """(x − μ)/√(σ² + ε) ⊙ gain + bias, with μ and σ² over the axis `over`."""

    def __init__(self, theta):
        self.theta = theta

    def forward(self, x):
        gain, bias = self.theta
        centred = x - x.mean(axis=self.over, keepdims=True)
        self.variance = np.mean(centred * centred, axis=self.over, keepdims=True)
        self.rstd = 1 / np.sqrt(self.variance + EPS)
        self.xhat = centred * self.rstd
        return self.xhat * gain + bias

    def backward(self, da):
        self.gradients = (da * self.xhat).sum(axis=0), da.sum(axis=0)
        d = da * self.theta[0]
        mean, along = (values.mean(axis=self.over, keepdims=True) for values in (d, d * self.xhat))
        return (d - mean - self.xhat * along) * self.rstd


class LayerNorm(Norm):
    over = 1


class BatchNorm(Norm):
    over = 0

    def __init__(self, theta):
        super().__init__(theta)
        self.running = np.zeros_like(theta[0]), np.ones_like(theta[0])

    def forward(self, x):
        a, (mean, variance) = super().forward(x), self.running
        mean += 0.1 * (x.mean(axis=0) - mean)
        variance += 0.1 * (self.variance[0] * len(x) / (len(x) - 1) - variance)
        return a


class Dropout:
    theta = ()

    def __init__(self, theta, rate):
        self.rate, self.rng = rate, np.random.default_rng(0)

    def forward(self, x):
        kept = self.rng.random(x.shape, np.float32) >= self.rate
        self.mask = kept * x.dtype.type(1 / (1 - self.rate))
        return x * self.mask

    def backward(self, da):
        return da * self.mask


class Embedding:
    first = False

    def __init__(self, theta, levels, widths):
        self.theta, self.levels, self.widths = theta, levels, widths

    def forward(self, x):
        self.N = x.shape[1] - len(self.levels)
        self.codes = x[:, self.N :].astype(np.intp).T
        rows = zip(tables(self.theta[0], self.levels, self.widths), self.codes, strict=True)
        return np.concatenate([x[:, : self.N], *(table[codes] for table, codes in rows)], axis=1)

    def backward(self, da):
        dE, left = np.zeros_like(self.theta[0]), self.N
        rows = zip(tables(dE, self.levels, self.widths), self.codes, self.widths, strict=True)
        for table, codes, d in rows:
            np.add.at(table, codes, da[:, left : left + d])
            left += d
        self.gradients = [dE]


class Scale:
    def __init__(self, theta):
        self.theta = theta

    def forward(self, x):
        self.x = x
        return x * self.theta[0]

    def backward(self, da):
        self.gradients = [(da * self.x).sum(axis=0)]
        return da * self.theta[0]


class NTKDense(Dense):
    def forward(self, x):
        W, b = self.theta
        self.x, self.s = x, x @ W / len(W) ** 0.5
        self.s += b
        self.a = self.phi(self.s)
        return self.a

    def backward(self, da):
        W = self.theta[0]
        delta = da if self.slope is None else da * self.slope(self.s, self.a)
        scaled = delta / len(W) ** 0.5
        self.gradients = self.x.T @ scaled, delta.sum(axis=0)
        return scaled @ W.T


class ParametricActivation:
    def __init__(self, theta, activation):
        self.theta, (self.phi, self.slope) = theta, ACTIVATIONS[activation]

    def forward(self, x):
        self.x, self.a = x, self.phi(x)
        return x + self.theta[0] * (self.a - x)

    def backward(self, da):
        self.gradients = [(da * (self.a - self.x)).sum(axis=0)]
        return da * (1 + self.theta[0] * (self.slope(self.x, self.a) - 1))


class OfColumns:
    """e (B, F, D) of the first F columns; the first layer, so nobody reads dx."""

    first = True
    passes_on_all = False

    def forward(self, x):
        self.x = x[:, : self.F, None]
        rest = x if self.passes_on_all else x[:, self.F :]
        return np.concatenate([self.embedded().reshape(len(x), -1), rest], axis=1)

    def backward(self, da):
        D = self.width
        self.gradients = self.adjoint(da[:, : self.F * D].reshape(len(da), self.F, D))


class PeriodicEmbedding(OfColumns):
    passes_on_all = True

    def __init__(self, theta, F):
        self.theta, self.F, self.width = theta, F, theta[3].shape[1]

    def embedded(self):
        w, b, A, c = self.theta
        self.angle = 2 * np.pi * w * self.x + b
        self.waves = np.cos(self.angle)
        return np.einsum("bfk,fkd->bfd", self.waves, A.reshape(*w.shape, -1)) + c

    def adjoint(self, de):
        w, _, A, _ = self.theta
        back = -np.sin(self.angle) * np.einsum("bfd,fkd->bfk", de, A.reshape(*w.shape, -1))
        dA = np.einsum("bfk,bfd->fkd", self.waves, de).reshape(A.shape)
        return (2 * np.pi * self.x * back).sum(axis=0), back.sum(axis=0), dA, de.sum(axis=0)


class CosineEmbedding(OfColumns):
    def __init__(self, theta, F):
        self.theta, self.F, self.width = theta, F, theta[2].shape[1]

    def embedded(self):
        w, b, gain, bias = self.theta
        self.angle = 2 * np.pi * (w * self.x + b.reshape(w.shape))
        self.parts = np.concatenate([self.x, np.cos(self.angle)], axis=2)
        return gain * self.parts + bias.reshape(gain.shape)

    def adjoint(self, de):
        gain = self.theta[2]
        back = -2 * np.pi * np.sin(self.angle) * (de * gain)[:, :, 1:]
        db, dbias = back.sum(axis=0).ravel(), de.sum(axis=0).ravel()
        return (self.x * back).sum(axis=0), db, (de * self.parts).sum(axis=0), dbias


class PiecewiseLinearEmbedding(OfColumns):
    def __init__(self, theta, edges):
        self.theta, self.F, self.width = theta, len(edges), theta[2].shape[1]
        self.edges = np.array(edges, theta[0].dtype)

    def embedded(self):
        w, c, V = (value.reshape(self.F, -1, self.width) for value in self.theta)
        part = (self.x - self.edges[:, :-1]) / np.diff(self.edges)
        part[:, :, 1:] = np.maximum(part[:, :, 1:], 0)
        part[:, :, :-1] = np.minimum(part[:, :, :-1], 1)
        self.part = part
        return w[:, 0] * self.x + c[:, 0] + np.einsum("bft,ftd->bfd", part, V)

    def adjoint(self, de):
        dV = np.einsum("bft,bfd->ftd", self.part, de).reshape(self.theta[2].shape)
        return (self.x * de).sum(axis=0).ravel(), de.sum(axis=0).ravel(), dV


class Residual:
    theta = ()

    def __init__(self, theta, layers):
        self.layers = made(layers, theta)

    def forward(self, x):
        f = x
        for layer in self.layers:
            f = layer.forward(f)
        return x + f

    def backward(self, da):
        df = da
        for layer in reversed(self.layers):
            df = layer.backward(df)
        return da + df


class Stack(Residual):
    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, da):
        for layer in reversed(self.layers):
            da = layer.backward(da)
        return da


class Average(Residual):
    def forward(self, x):
        return sum(layer.forward(x) for layer in self.layers) / len(self.layers)

    def backward(self, da):
        return sum(layer.backward(da / len(self.layers)) for layer in self.layers)


class Softmax:
    theta = ()

    def __init__(self, theta):
        pass

    def forward(self, x):
        self.a = np.exp(log_softmax(x))
        return self.a

    def backward(self, da):
        return self.a * (da - (da * self.a).sum(axis=1, keepdims=True))


class LogSoftmax(Softmax):
    def forward(self, x):
        self.a = log_softmax(x)
        return self.a

    def backward(self, da):
        return da - np.exp(self.a) * da.sum(axis=1, keepdims=True)


LAYERS = (
    Dense, NTKDense, Embedding, PeriodicEmbedding, CosineEmbedding, PiecewiseLinearEmbedding, Scale,
    ParametricActivation, LayerNorm, BatchNorm, Dropout, Residual, Stack, Average, Softmax, LogSoftmax,
)  # fmt: skip
CLASSES = {kind.__name__: kind for kind in LAYERS}


def log_softmax(x):
    x = x - x.max(axis=1, keepdims=True)
    return x - np.log(np.exp(x).sum(axis=1, keepdims=True))


# --- activations: φ(s) and φ′(s, a)


def sigmoid(s):
    return 1 / (1 + np.exp(-s))


def softplus(s):
    return np.maximum(s, 0) + np.log1p(np.exp(-np.abs(s)))


def erf(s):
    try:
        from scipy import special
    except ImportError:
        raise UnsupportedError("NumPy has no erf, and SciPy is not installed") from None
    return special.erf(s)


def normal_cdf(s):
    return 0.5 * (1 + erf(s * 0.5**0.5))


def gelu_slope(s, a):
    return normal_cdf(s) + s * np.exp(-0.5 * s * s) * (2 * np.pi) ** -0.5


def tanh_of_gelu(s):
    return np.tanh((2 / np.pi) ** 0.5 * (s + 0.044715 * s**3))


def gelu_tanh_slope(s, a):
    t = tanh_of_gelu(s)
    return 0.5 * (1 + t) + 0.5 * s * (1 - t * t) * (2 / np.pi) ** 0.5 * (1 + 3 * 0.044715 * s * s)


def silu_slope(s, a):
    p = sigmoid(s)
    return p * (1 + s * (1 - p))


def mish_slope(s, a):
    t = np.tanh(softplus(s))
    return t + s * (1 - t * t) * sigmoid(s)


SCALE, ALPHA = 1.0507009873554805, 1.6732632423543772  # of selu
ACTIVATIONS = {
    "identity": (lambda s: s, None),
    "relu": (lambda s: np.maximum(s, 0), lambda s, a: s > 0),
    "leaky_relu": (lambda s: np.maximum(s, 0.01 * s), lambda s, a: np.where(s > 0, s.dtype.type(1), 0.01)),
    "elu": (
        lambda s: np.where(s > 0, s, np.expm1(np.minimum(s, 0))),
        lambda s, a: np.where(s > 0, s.dtype.type(1), a + 1),
    ),
    "selu": (
        lambda s: SCALE * np.where(s > 0, s, ALPHA * np.expm1(np.minimum(s, 0))),
        lambda s, a: np.where(s > 0, s.dtype.type(SCALE), a + SCALE * ALPHA),
    ),
    "gelu": (lambda s: s * normal_cdf(s), gelu_slope),
    "gelu_tanh": (lambda s: 0.5 * s * (1 + tanh_of_gelu(s)), gelu_tanh_slope),
    "silu": (lambda s: s * sigmoid(s), silu_slope),
    "mish": (lambda s: s * np.tanh(softplus(s)), mish_slope),
    "softplus": (softplus, lambda s, a: sigmoid(s)),
    "softsign": (lambda s: s / (1 + np.abs(s)), lambda s, a: (1 - np.abs(a)) ** 2),
    "tanh": (np.tanh, lambda s, a: 1 - a * a),
    "sigmoid": (sigmoid, lambda s, a: a * (1 - a)),
    "hard_sigmoid": (
        lambda s: np.clip(s / 6 + 0.5, 0, 1),
        lambda s, a: (np.abs(s) < 3) * s.dtype.type(1 / 6),
    ),
    "hard_tanh": (lambda s: np.clip(s, -1, 1), lambda s, a: np.abs(s) < 1),
}


# --- losses: (z, y) → the mean, and its derivative by z


def softmax_cross_entropy(z, y):
    logp, rows = log_softmax(z), np.arange(len(z))
    dz = np.exp(logp)
    dz[rows, y] -= 1
    dz /= len(z)
    return -logp[rows, y].mean(), dz


def cross_entropy(p, y):
    rows, dp = np.arange(len(p)), np.zeros_like(p)
    chosen = np.maximum(p[rows, y], 1e-12)
    dp[rows, y] = -1 / (chosen * len(p))
    return -np.log(chosen).mean(), dp


def mean_squared_error(z, y):
    d = z - y
    return np.mean(d * d), (2 / d.size) * d


def mean_absolute_error(z, y):
    d = z - y
    return np.abs(d).mean(), np.sign(d) / d.size


def huber(z, y):
    d = z - y
    far, clipped = np.abs(d), np.clip(d, -1, 1)
    return np.mean(np.where(far <= 1, 0.5 * d * d, far - 0.5)), clipped / d.size


def poisson(z, y):
    rate = np.exp(z)
    return np.mean(rate - y * z), (rate - y) / z.size


def binary_cross_entropy(p, y):
    value = -np.mean(y * np.log(np.maximum(p, 1e-38)) + (1 - y) * np.log(np.maximum(1 - p, 1e-38)))
    return value, (p - y) / (np.maximum(p * (1 - p), 1e-12) * p.size)


def binary_cross_entropy_with_logits(z, y):
    return np.mean(softplus(z) - y * z), (sigmoid(z) - y) / z.size


def hinge(z, y):
    short = 1 - y * z
    return np.maximum(short, 0).mean(), np.where(short > 0, -y, 0) / z.size


LOSSES = {
    loss.__name__: loss
    for loss in (
        softmax_cross_entropy, cross_entropy, mean_squared_error, mean_absolute_error, huber, poisson,
        binary_cross_entropy, binary_cross_entropy_with_logits, hinge,
    )
}  # fmt: skip
