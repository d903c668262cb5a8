"""The layers, one file each. `nn/layer.py` contains their contract."""

from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers.average import Average
from ffnn_gpu.nn.layers.batch_norm import BatchNorm
from ffnn_gpu.nn.layers.cosine_embedding import CosineEmbedding
from ffnn_gpu.nn.layers.dense import Dense
from ffnn_gpu.nn.layers.dropout import Dropout
from ffnn_gpu.nn.layers.embedding import Embedding
from ffnn_gpu.nn.layers.layer_norm import LayerNorm
from ffnn_gpu.nn.layers.ntk_dense import NTKDense
from ffnn_gpu.nn.layers.parametric_activation import ParametricActivation
from ffnn_gpu.nn.layers.periodic_embedding import PeriodicEmbedding
from ffnn_gpu.nn.layers.piecewise_linear_embedding import PiecewiseLinearEmbedding, quantile_edges
from ffnn_gpu.nn.layers.residual import Residual
from ffnn_gpu.nn.layers.scale import Scale
from ffnn_gpu.nn.layers.softmax import LogSoftmax, Softmax, softmax_jacobian
from ffnn_gpu.nn.layers.stack import Stack

__all__ = [
    "Average", "BatchNorm", "CosineEmbedding", "Dense", "Dropout", "Embedding", "Layer", "LayerNorm",
    "LogSoftmax", "NTKDense", "ParametricActivation", "PeriodicEmbedding", "PiecewiseLinearEmbedding",
    "Residual", "Scale", "Softmax", "Stack", "quantile_edges", "softmax_jacobian",
]  # fmt: skip
