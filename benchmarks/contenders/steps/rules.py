"""Update rules for NumPy and JAX: (xp, g, t, lr, moments, options) → (what to subtract from θ, new moments).

t counts from 1. The constants are the defaults of ffnn_gpu and PyTorch.
"""

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8


def sgd(xp, g, t, lr, moments, options):
    if not moments:
        return lr * g, ()
    momentum = options["momentum"]
    velocity = momentum * moments[0] + g
    return lr * (g + momentum * velocity if options.get("nesterov") else velocity), (velocity,)


def rmsprop(xp, g, t, lr, moments, options):
    v = 0.99 * moments[0] + 0.01 * g * g
    return lr * g / (xp.sqrt(v) + EPS), (v,)


def adagrad(xp, g, t, lr, moments, options):
    v = moments[0] + g * g
    return lr * g / (xp.sqrt(v) + 1e-10), (v,)


def adam(xp, g, t, lr, moments, options):
    m, v = averages(g, *moments)
    return lr / (1 - BETA1**t) * m / (xp.sqrt(v) / (1 - BETA2**t) ** 0.5 + EPS), (m, v)


def nadam(xp, g, t, lr, moments, options):
    m, v = averages(g, *moments[:2])
    mu, ahead = (BETA1 * (1 - 0.5 * 0.96 ** (s * 4e-3)) for s in (t, t + 1))
    product = (1 + moments[2]) * mu  # the third moment starts at 0 and is the product of all mu, minus 1
    of_m, of_g = lr * ahead / (1 - product * ahead), lr * (1 - mu) / (1 - product)
    return (of_m * m + of_g * g) / (xp.sqrt(v) / (1 - BETA2**t) ** 0.5 + EPS), (m, v, product - 1)


def lion(xp, g, t, lr, moments, options):
    (m,) = moments
    return lr * xp.sign(BETA1 * m + (1 - BETA1) * g), (0.99 * m + 0.01 * g,)


def muon(xp, g, t, lr, moments, options):
    if g.ndim == 1:
        return adam(xp, g, t, options["adam_lr"], moments, options)
    m, v = moments
    m = 0.95 * m + 0.05 * g
    X = 0.95 * m + 0.05 * g
    X, tall = X / xp.maximum(xp.sqrt(xp.sum(X * X)), 1e-7), X.shape[0] > X.shape[1]
    for _ in range(5):
        A = X.T @ X if tall else X @ X.T
        B = 2.0315 * A @ A - 4.7750 * A
        X = 3.4445 * X + (X @ B if tall else B @ X)
    return lr * max(1.0, X.shape[1] / X.shape[0]) ** 0.5 * X, (m, v)


def averages(g, m, v):
    """Return Adam's new moments."""
    return BETA1 * m + (1 - BETA1) * g, BETA2 * v + (1 - BETA2) * g * g


RULES = {  # optimizer → rule, number of moments
    "sgd": (sgd, 0), "rmsprop": (rmsprop, 1), "adagrad": (adagrad, 1), "adam": (adam, 2), "adamw": (adam, 2),
    "nadam": (nadam, 3), "lion": (lion, 1), "muon": (muon, 2),
}  # fmt: skip
DECAY = {"adamw": 1e-2, "muon": 1e-2}  # weight decay by default


def start(kind, theta, zeros):
    """Return the moments of each parameter before the first step; Nadam's third is a number."""
    count = RULES[kind.optimizer][1] + ("momentum" in kind.options)
    return [tuple(0.0 if k == 2 else zeros(p) for k in range(count)) for p in theta]


def changes(xp, kind, theta, gradients, t, moments):
    """Return what to subtract from each parameter, and the new moments: clipping, penalties, rule, decay."""
    options, (rule, _), found = kind.options, RULES[kind.optimizer], []
    decay = options.get("weight_decay", DECAY.get(kind.optimizer, 0.0))
    for p, g, own in zip(theta, clipped(xp, gradients, options), moments, strict=True):
        if p.ndim > 1 and ("l1" in options or "l2" in options):
            g = g + options.get("l2", 0.0) * p + options.get("l1", 0.0) * xp.sign(p)
        change, new = rule(xp, g, t, kind.lr, own, options)
        found.append((change + kind.lr * decay * p if decay and p.ndim > 1 else change, new))
    return [change for change, _ in found], [new for _, new in found]


def clipped(xp, gradients, options):
    if "clip_value" in options:
        limit = options["clip_value"]
        gradients = [xp.clip(g, -limit, limit) for g in gradients]
    if "clip_norm" in options:
        norm = xp.sqrt(sum(xp.sum(g * g) for g in gradients))
        gradients = [g * xp.minimum(1, options["clip_norm"] / norm) for g in gradients]
    return gradients
