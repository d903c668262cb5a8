"""Compiled loops over arrays, called by NumbaBackend. They assume that shapes match, and check nothing.

The first call of each loop compiles it (about 0.5 s) and caches the machine code on disk.
"""

from ffnn_gpu.backends.cpu.loops import numba_cache as numba_cache  # first: it deletes outdated machine code
from ffnn_gpu.backends.cpu.loops.gather import all_finite, gather, gather_standardized
from ffnn_gpu.backends.cpu.loops.layers import ADJOINTS, add_bias, bias_relu, column_sum, dropout_mask
from ffnn_gpu.backends.cpu.loops.losses import softmax_cross_entropy
from ffnn_gpu.backends.cpu.loops.normalization import (
    batch_norm,
    batch_norm_backward,
    layer_norm,
    layer_norm_backward,
    sum_of_products,
    sums_of_columns,
)
from ffnn_gpu.backends.cpu.loops.step_control import penalize
from ffnn_gpu.backends.cpu.loops.updates import (
    adagrad,
    adam,
    average,
    lion,
    momentum,
    rmsprop,
    rmsprop_momentum,
    sgd,
)

__all__ = [
    "ADJOINTS",
    "adagrad",
    "adam",
    "add_bias",
    "all_finite",
    "average",
    "batch_norm",
    "batch_norm_backward",
    "bias_relu",
    "column_sum",
    "dropout_mask",
    "gather",
    "gather_standardized",
    "layer_norm",
    "layer_norm_backward",
    "lion",
    "momentum",
    "penalize",
    "rmsprop",
    "rmsprop_momentum",
    "sgd",
    "softmax_cross_entropy",
    "sum_of_products",
    "sums_of_columns",
]
