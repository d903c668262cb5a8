"""Values for parameters that a layer sets to a constant, because 0 and 1 hide wrong derivatives.

With g = 0, the factor 1 + 2 g x of a gradient equals 1 + 3 g x.
"""

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.nn.layer import all_layers
from ffnn_gpu.nn.network import Network


def with_other_values(network: Network) -> Network | None:
    """Return a copy of a network in which every constant parameter has random values.

    Return None if no parameter is constant, or if all layers are of this package, whose own tests do this.
    """
    if all(type(layer).__module__.startswith("ffnn_gpu.") for layer in all_layers(network.layers)):
        return None
    rng, arrays = np.random.default_rng(0), network.params.to_host()
    constant = [slot.name for slot in network.params.slots if _is_constant(arrays[slot.name])]
    if not constant:
        return None
    for name in constant:
        shift = rng.uniform(0.1, 0.5, arrays[name].shape)
        arrays[name] = (arrays[name] + shift).astype(arrays[name].dtype)
    copy = network.to(network.backend)
    copy.params.assign(arrays)
    return copy


def _is_constant(values: HostArray) -> bool:
    return bool(values.size and (values == values.flat[0]).all())
