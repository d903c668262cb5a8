"""A network: its mathematics, its parameters and its scratch memory.

network, prediction                     the stack of layers, its predictions
pack                                    the members of a pack of networks, trained as one
layer, layers/                          the contract of a layer, and the layers
parameters, workspace                   θ and ∇θ as one vector each; scratch memory of one pass
needed_buffers                          which scratch arrays a pass needs
activations, initializers               φ with its derivative; initial values of a matrix
initial_values                          initial values of θ and the running statistics
summary                                 the table of layers, parameters and FLOPs
data_dependent                          initial values that suit rows of the training set
rates, schedules                        factors per parameter; numbers as functions of the step
losses/                                 losses with their gradients, and the targets they accept
"""

from ffnn_gpu.nn.data_dependent import initialize_from
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.workspace import Workspace

__all__ = ["Network", "Workspace", "initialize_from"]
