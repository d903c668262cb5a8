"""JAX: one jitted call per step, whose state is donated. XLA fuses the rules, which are written out.

16-bit types: weights are stored in float32 and rounded for the products, as the other libraries do it. With
float16 the loss is multiplied by a scale that halves at an overflow, and that step changes nothing.
"""

import functools

from benchmarks.contenders.steps import columns, in_turn, rules
from benchmarks.kinds import LOSS_SCALE, minibatches, real, tables, weights

EPS = 1e-5  # of the normalizations


def step(kind, variant):
    jax, jnp = library(kind)
    state, training_step = start(kind, jnp), jax.jit(made(kind), donate_argnums=0)
    batches = [(jnp.asarray(x), jnp.asarray(y)) for x, y in minibatches(kind)]

    def launch(x, y):
        nonlocal state
        state, value = training_step(state, x, y)
        return value

    return in_turn(launch, batches, jax.block_until_ready)


def library(kind):
    import jax

    jax.config.update("jax_platforms", kind.device)
    jax.config.update("jax_enable_x64", kind.precision == "float64")
    return jax, jax.numpy


def start(kind, jnp):
    """Return the state: θ, moments, number of steps, random key, running statistics, average, loss scale."""
    import jax

    theta = jax.tree.map(jnp.asarray, weights(kind))
    leaves = jax.tree.leaves(theta)
    moments = jax.tree.map(
        lambda array: jnp.asarray(array, real(kind)), rules.start(kind, leaves, jnp.zeros_like)
    )
    statistics = [
        (jnp.zeros_like(values[0]), jnp.ones_like(values[0])) if layer[0] == "BatchNorm" else ()
        for layer, values in zip(kind.layers, theta, strict=True)
    ]
    mean = [p + 0 for p in leaves] if "ema" in kind.options else []
    scale = jnp.asarray(LOSS_SCALE if kind.precision == "float16" else 1.0, real(kind))
    return theta, moments, jnp.zeros((), real(kind)), jax.random.key(0), statistics, mean, scale


def made(kind):
    """Return the function (state, x, y) → (state, loss)."""
    import jax
    import jax.numpy as jnp

    loss_of, guarded = LOSSES[kind.loss], kind.precision == "float16"

    def scaled_loss(theta, x, y, key, statistics, scale):
        z, statistics = forward(kind, theta, x, key, statistics)
        value = loss_of(z, y)
        return value * scale, (value, statistics)

    def training_step(state, x, y):
        theta, moments, t, key, statistics, mean, scale = state
        if kind.random:
            key, used = jax.random.split(key)
        else:
            used = key
        gradient = jax.grad(scaled_loss, has_aux=True)
        gradients, (value, statistics) = gradient(theta, x, y, used, statistics, scale)
        leaves, tree = jax.tree.flatten(theta)
        gradients, t = jax.tree.leaves(gradients), t + 1
        if guarded:
            gradients = [g / scale for g in gradients]
        found, new = rules.changes(jnp, kind, leaves, gradients, t, moments)
        if guarded:
            fine = jnp.all(jnp.asarray([jnp.isfinite(g).all() for g in gradients]))
            found = [jnp.where(fine, change, 0) for change in found]
            new = jax.tree.map(functools.partial(jnp.where, fine), new, moments)
            t, scale = t - ~fine, jnp.where(fine, scale, scale / 2)
        leaves = [p - change for p, change in zip(leaves, found, strict=True)]
        if mean:
            decay = kind.options["ema"]
            mean = [a + (1 - decay) * (p - a) for a, p in zip(mean, leaves, strict=True)]
        theta = jax.tree.unflatten(tree, leaves)
        return (theta, new, t, key, statistics, mean, scale), value

    return training_step


def forward(kind, theta, x, key, statistics):
    """Return z and the new running statistics."""
    import jax
    import jax.numpy as jnp

    low, found = getattr(jnp, kind.precision), []
    x = x.astype(low)
    for k, (layer, values, running) in enumerate(zip(kind.layers, theta, statistics, strict=True)):
        if layer[0] == "Dropout":
            keep = 1 - layer[1]
            kept = jax.random.bernoulli(jax.random.fold_in(key, k), keep, x.shape)
            x = jnp.where(kept, x / keep, 0)
        elif layer[0] == "BatchNorm":
            x, running = batch_norm(x, values, running)
        else:
            x = applied(layer, values, x, low)
        found.append(running)
    return x.astype(real(kind)), found


def applied(layer, values, x, low):
    import jax
    import jax.numpy as jnp

    name, *arguments = layer
    if name == "Dense":
        W, b = values
        return activation(arguments[1])(x @ W.astype(low) + b.astype(low))
    if name == "Embedding":
        codes = x[:, -len(arguments[0]) :].astype(int).T
        rows = [table[of] for table, of in zip(tables(values[0], *arguments), codes, strict=True)]
        return jnp.concatenate([x[:, : -len(codes)], *rows], axis=1)
    if name == "Average":
        members = zip(arguments[0], values, strict=True)
        return sum(applied(member, own, x, low) for member, own in members) / len(values)
    if name in ("Residual", "Stack"):
        f = x
        for inner, own in zip(arguments[0], values, strict=True):
            f = applied(inner, own, f, low)
        return x + f if name == "Residual" else f
    if name in columns.FUNCTIONS:
        low_values = [value.astype(low) for value in values]
        return columns.applied(jnp, activation, name, low_values, x, *arguments)
    if name == "LayerNorm":
        mean, variance = x.mean(axis=1, keepdims=True), x.var(axis=1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + EPS) * values[0] + values[1]
    return {"Softmax": jax.nn.softmax, "LogSoftmax": jax.nn.log_softmax}[name](
        x.astype(jnp.promote_types(low, "float32"))
    )


def batch_norm(x, values, running):
    import jax

    mean, variance = x.mean(axis=0), x.var(axis=0)
    a = (x - mean) * jax.lax.rsqrt(variance + EPS) * values[0] + values[1]
    moved = mean, variance * (len(x) / (len(x) - 1))
    return a, tuple(old + 0.1 * (new - old) for old, new in zip(running, moved, strict=True))


def activation(name):
    from jax import nn

    own = {
        "gelu": functools.partial(nn.gelu, approximate=False),
        "gelu_tanh": functools.partial(nn.gelu, approximate=True),
        "softsign": nn.soft_sign,
    }
    return own[name] if name in own else getattr(nn, name)


# --- losses: (z, y) → the mean


def softmax_cross_entropy(z, y):
    import jax
    import jax.numpy as jnp

    return -jnp.take_along_axis(jax.nn.log_softmax(z), y[:, None], axis=1).mean()


def cross_entropy(p, y):
    import jax.numpy as jnp

    return -jnp.log(jnp.maximum(jnp.take_along_axis(p, y[:, None], axis=1), 1e-12)).mean()


def mean_squared_error(z, y):
    return ((z - y) ** 2).mean()


def mean_absolute_error(z, y):
    return abs(z - y).mean()


def huber(z, y):
    import jax.numpy as jnp

    d = abs(z - y)
    return jnp.where(d <= 1, 0.5 * d * d, d - 0.5).mean()


def poisson(z, y):
    import jax.numpy as jnp

    return (jnp.exp(z) - y * z).mean()


def binary_cross_entropy(p, y):
    import jax.numpy as jnp

    log, tiny = jnp.log, 1e-38
    return -(y * log(jnp.maximum(p, tiny)) + (1 - y) * log(jnp.maximum(1 - p, tiny))).mean()


def binary_cross_entropy_with_logits(z, y):
    import jax

    return (jax.nn.softplus(z) - y * z).mean()


def hinge(z, y):
    import jax.numpy as jnp

    return jnp.maximum(1 - y * z, 0).mean()


LOSSES = {
    loss.__name__: loss
    for loss in (
        softmax_cross_entropy, cross_entropy, mean_squared_error, mean_absolute_error, huber, poisson,
        binary_cross_entropy, binary_cross_entropy_with_logits, hinge,
    )
}  # fmt: skip
