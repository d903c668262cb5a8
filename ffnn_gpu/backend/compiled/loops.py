"""The loops as NumPy's backend calls them. They trust the shapes they are given.

The first call of each compiles it, half a second, and keeps the result on disk.
"""

from ffnn_gpu.backend.compiled.control import penalize
from ffnn_gpu.backend.compiled.gather import all_finite, gather, gather_standardized
from ffnn_gpu.backend.compiled.layers import (
    ADJOINTS,
    add_bias,
    bias_relu,
    column_sum,
    dropout_mask,
)
from ffnn_gpu.backend.compiled.losses import softmax_cross_entropy
from ffnn_gpu.backend.compiled.normalization import (
    batch_norm,
    batch_norm_backward,
    layer_norm,
    layer_norm_backward,
    sum_of_products,
    sums_of_columns,
)
from ffnn_gpu.backend.compiled.updates import adagrad, adam, average, lion, momentum, rmsprop, rmsprop_momentum, sgd

__all__ = [
    "ADJOINTS", "adagrad", "adam", "add_bias", "all_finite", "average", "batch_norm", "batch_norm_backward",
    "bias_relu", "column_sum", "dropout_mask", "gather", "gather_standardized", "layer_norm", "layer_norm_backward",
    "lion", "momentum", "penalize", "rmsprop", "rmsprop_momentum", "sgd", "softmax_cross_entropy", "sum_of_products",
    "sums_of_columns",
]
