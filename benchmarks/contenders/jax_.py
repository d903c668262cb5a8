"""JAX: one jitted call with donated state; Adam is written out, and XLA fuses it into one pass.

On a CPU a call makes one step, in a Python loop as for every contender. On a GPU a call makes K steps by
lax.scan. The variant "scan" makes K steps on a CPU too: its time is that of a loop which reads nothing
between the steps.

With bfloat16, products of float32 weights are computed in bfloat16. TF32 is JAX's own option, on by default
on a GPU.
"""

import functools

import numpy as np

from benchmarks.contenders import Program
from benchmarks.jobs import batch, pictures, weights

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
PRECISIONS = {
    "float32": "float32",
    "tf32": "tensorfloat32",
    "bfloat16": "default",
}  # precision → JAX's name for products


def train(job, variant):
    jax = library(job)
    state, x, y, step = start(job), *map(jax.numpy.asarray, batch(job)), training_step(job)
    K = 1 if job.device == "cpu" and variant == "jit" else job.K

    @functools.partial(jax.jit, donate_argnums=0)
    def steps(state, x, y):
        state, losses = jax.lax.scan(lambda state, _: step(state, x, y), state, None, length=K)
        return state, losses[-1]

    def launch():
        nonlocal state
        state, value = steps(state, x, y)
        return value

    return Program(launch, jax.block_until_ready, np.asarray, K)


def predict(job, variant):
    jax = library(job)
    params, _, _, _ = start(job)
    x = jax.numpy.asarray(batch(job)[0])
    forward = jax.jit(functools.partial(logits, job))
    return Program(lambda: forward(params, x), jax.block_until_ready, np.asarray)


def epoch(job, variant):
    jax = library(job)
    state, step, (pixels, labels) = start(job), training_step(job), pictures(job)
    rng, whole = np.random.default_rng(0), len(pixels) // job.B * job.B

    @functools.partial(jax.jit, donate_argnums=0)
    def steps(state, x, y, index):
        def one(state, rows):
            return step(state, x[rows].astype(np.float32) / 255, y[rows])

        return jax.lax.scan(one, state, index)

    def launch():
        nonlocal state
        x, y, order = jax.device_put(pixels), jax.device_put(labels), rng.permutation(len(pixels))
        state, losses = steps(state, x, y, order[:whole].reshape(-1, job.B))
        if whole < len(order):
            state, losses = steps(state, x, y, order[None, whole:])
        return losses[-1]

    return Program(launch, jax.block_until_ready, np.asarray)


def library(job):
    """Return the module jax, set to the job's device and precision."""
    import jax

    jax.config.update("jax_platforms", job.device)
    jax.config.update("jax_default_matmul_precision", PRECISIONS[job.precision])
    return jax


def start(job):
    """Return (θ, m, v, t) on the device."""
    import jax.numpy as jnp

    params, m, v = (
        [(f(W), f(b)) for W, b in weights(job)] for f in (jnp.asarray, jnp.zeros_like, jnp.zeros_like)
    )
    return params, m, v, jnp.zeros((), jnp.float32)


def logits(job, params, x):
    import jax.numpy as jnp

    low = jnp.bfloat16 if job.precision == "bfloat16" else jnp.float32
    a = x.astype(low)
    for W, b in params[:-1]:
        a = jnp.maximum(a @ W.astype(low) + b.astype(low), 0)
    W, b = params[-1]
    return (a @ W.astype(low) + b.astype(low)).astype(jnp.float32)


def training_step(job):
    """Return the function ((θ, m, v, t), x, y) → ((θ, m, v, t), loss)."""
    import jax
    import jax.numpy as jnp

    def loss(params, x, y):
        logp = jax.nn.log_softmax(logits(job, params, x))
        return -jnp.take_along_axis(logp, y[:, None], axis=1).mean()

    def step(state, x, y):
        params, m, v, t = state
        value, g = jax.value_and_grad(loss)(params, x, y)
        t = t + 1
        m = jax.tree.map(lambda m, g: BETA1 * m + (1 - BETA1) * g, m, g)
        v = jax.tree.map(lambda v, g: BETA2 * v + (1 - BETA2) * g * g, v, g)
        rate, spread = job.lr / (1 - BETA1**t), jnp.sqrt(1 - BETA2**t)
        params = jax.tree.map(lambda p, m, v: p - rate * m / (jnp.sqrt(v) / spread + EPS), params, m, v)
        return (params, m, v, t), value

    return step
