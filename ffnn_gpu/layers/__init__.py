"""The layers, one file each; `layer.py` states the contract they keep."""

from ffnn_gpu.layers.batch_norm import BatchNorm
from ffnn_gpu.layers.dense import Dense
from ffnn_gpu.layers.dropout import Dropout
from ffnn_gpu.layers.layer import Layer
from ffnn_gpu.layers.layer_norm import LayerNorm
from ffnn_gpu.layers.residual import Residual
from ffnn_gpu.layers.softmax import LogSoftmax, Softmax, softmax_jacobian

__all__ = ["BatchNorm", "Dense", "Dropout", "Layer", "LayerNorm", "LogSoftmax", "Residual", "Softmax", "softmax_jacobian"]
