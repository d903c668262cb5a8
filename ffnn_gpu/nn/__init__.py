"""A network: its mathematics, its numbers, its scratch.

network, prediction, inputs, summary    the stack of layers, and what is done with it
layer, layers/                          the contract of a layer, and the layers that keep it
parameters, workspace                   θ and ∇θ as one vector each; scratch memory of one pass
activations, initializers               φ with its derivative; first values of θ
losses/                                 losses with their gradients, and the targets they accept
"""

from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.workspace import Workspace

__all__ = ["Network", "Workspace"]
