"""Initial values of dense layers that depend on rows of the training set.

Each column of W is divided by the standard deviation of its outputs x W, so that they have variance 1 on real
rows. Each bias is −Σ_i λ_i (x_i W) over RANDOM_ROWS rows with random weights λ that add up to 1, so that the
kinks of the activations lie where the rows are.

Why on the host in float64: one seed gives the same start on every device.

Reference: the initializations "std" and "he+5" of Holzmüller, Grinsztajn, Steinwart: Better by Default
(2024), section 3; Steinwart: A Sober Look at Neural Network Initializations (2019).
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.backends import Backend
from ffnn_gpu.checks import counted, seed_number
from ffnn_gpu.errors import ShapeError
from ffnn_gpu.nn.activations import identity
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers import Average, Dense, Residual, Stack
from ffnn_gpu.nn.network import Network

RANDOM_ROWS = 5  # per neuron


def initialize_from(network: Network, x: Any, seed: int = 0) -> None:
    """Overwrite W and b of every dense layer by values that suit the rows x of the training set.

    The layers are set one after the other, on x as the layers before pass it on. Dropout is the identity, and
    BatchNorm uses its running statistics. W keeps its directions; a column whose outputs are all equal stays
    as it is. A few thousand rows suffice.

    Args:
        x: (n, n_in), at least 2 rows, of any kind that `predict` reads.
        seed: of the rows and weights of the biases. Member r of a pack has seed + r.

    Raises:
        ShapeError: x has fewer than 2 rows, or does not fit. DataError: x is not finite.
    """
    if network.members is not None:
        _initialize_members(network, x, seed)
        return
    rows = network.admit(x)
    n = len(rows)
    if n < 2:
        raise ShapeError(f"x has {counted(n, 'row')}; the spread of the outputs needs at least 2")
    given = network.backend.to_host(rows.matrix(network.backend, slice(0, n), np.float64))
    twin = Network(network.n_in, network.layers, Backend(), np.float64, network.seed)
    twin.params.assign({name: values.astype(np.float64) for name, values in network.params.to_host().items()})
    ws = twin.workspace(n, training=False)
    seeds = iter(np.random.SeedSequence(seed_number(seed)).spawn(sum(1 for _ in _dense(network.layers))))
    _pass_on(twin.backend, twin.layers, twin.params.views, ws.buffers, given, seeds)
    found = twin.params.to_host()
    network.params.assign({name: values.astype(network.dtype) for name, values in found.items()})


def _initialize_members(pack: Network, x: Any, seed: int) -> None:
    each = []
    for r in range(len(pack.members or ())):
        network = pack.member(r)
        initialize_from(network, x, seed + r)
        each.append(network.params.to_host())
    pack.params.assign({name: np.stack([own[name] for own in each]) for name in each[0]})


def _dense(layers: Sequence[Layer]) -> Iterator[Dense]:
    """Yield the dense layers, those inside others included."""
    for layer in layers:
        if isinstance(layer, Dense):
            yield layer
        yield from _dense(getattr(layer, "layers", ()))


def _pass_on(
    backend: Backend,
    layers: Sequence[Layer],
    views: Sequence[Any],
    buffers: Sequence[Any],
    x: HostArray,
    seeds: "Iterator[np.random.SeedSequence]",
) -> HostArray:
    """Return the outputs of layers for x, each of which is set before it passes x on."""
    for layer, p, buf in zip(layers, views, buffers, strict=True):
        if isinstance(layer, (Residual, Stack)):
            _pass_on(backend, layer.layers, p.layers, buf.layers, x, seeds)
        elif isinstance(layer, Average):
            for member, q, inner in zip(layer.layers, p.layers, buf.layers, strict=True):
                _pass_on(backend, [member], [q], [inner], x, seeds)
        elif isinstance(layer, Dense):
            _set(backend, layer, p, x, np.random.default_rng(next(seeds)))
        x = layer.forward(backend, p, x, buf)
    return x


def _set(backend: Backend, layer: Dense, p: Any, x: HostArray, rng: "np.random.Generator") -> None:
    s = np.empty((len(x), layer.width))
    backend.affine(x, p.W, None, identity, out=s, factor=layer.factor(x.shape[1]))
    deviation = s.std(axis=0)
    # constant outputs have a deviation of rounding errors
    varies = deviation > 1e-12 * abs(s).max(axis=0, initial=0)
    scale = np.where(varies, deviation, 1.0)
    p.W /= scale
    if layer.bias:
        chosen = rng.integers(0, len(x), (RANDOM_ROWS, layer.width))
        weights = rng.exponential(size=(RANDOM_ROWS, layer.width))
        s = np.take_along_axis(s / scale, chosen, axis=0)
        p.b[...] = -(weights / weights.sum(axis=0) * s).sum(axis=0)
