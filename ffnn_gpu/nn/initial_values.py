"""Initial values of θ and the running statistics, as the layers draw them."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from ffnn_gpu.errors import ConfigurationError, IncompatibleCheckpointError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.parameters import Parameters, leaves


def initialize(params: Parameters, layers: Sequence[tuple[Layer, int]], seeds: Sequence[int]) -> None:
    """Assign initial values, drawn from a seed for each member, or from one for one network.

    layers: each with the width of its input.

    Raises ConfigurationError if a layer's `initial_values` do not fit its `parameter_shapes`.
    """
    each = [_drawn(layers, seed) for seed in seeds]
    values = each[0]
    if params.members is not None:
        values = {name: np.stack([own[name] for own in each]) for name in each[0]}
    try:
        params.assign({name: value.astype(params.dtype) for name, value in values.items()})
    except IncompatibleCheckpointError as error:
        raise ConfigurationError(
            f"initial_values of a layer do not match its parameter_shapes: {error}"
        ) from error


def _drawn(layers: Sequence[tuple[Layer, int]], seed: int) -> dict[str, Any]:
    # a seed for each layer: its start does not depend on the others
    seeds = np.random.SeedSequence(seed).spawn(len(layers))
    values = [
        layer.initial_values(np.random.default_rng(seed), I)
        for seed, (layer, I) in zip(seeds, layers, strict=True)
    ]
    return dict(leaves(values))
