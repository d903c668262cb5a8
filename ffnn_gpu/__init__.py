"""Feed-forward neural networks written once, run by NumPy on a CPU or by CuPy on a CUDA GPU."""

from ffnn_gpu.backends.choice import Backend, get_backend
from ffnn_gpu.checkpoints.checkpoint import load, load_extras, save
from ffnn_gpu.data.array_files import npy_rows
from ffnn_gpu.errors import (
    BackendMismatchError,
    BackendUnavailableError,
    CheckpointCorruptError,
    CheckpointError,
    ConfigurationError,
    DataError,
    DeviceOutOfMemoryError,
    DivergedError,
    DivergedRanksError,
    FfnnGpuError,
    IncompatibleCheckpointError,
    ShapeError,
    WorkspaceError,
)
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.evaluation.evaluate import evaluate
from ffnn_gpu.nn.activations import (
    Activation,
    elu,
    gelu,
    gelu_tanh,
    hard_sigmoid,
    hard_tanh,
    identity,
    leaky_relu,
    mish,
    relu,
    selu,
    sigmoid,
    silu,
    softplus,
    softsign,
    tanh,
)
from ffnn_gpu.nn.initializers import (
    Constant,
    Initializer,
    Normal,
    Orthogonal,
    Uniform,
    VarianceScaling,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    orthogonal,
    uniform,
    zeros,
)
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers import (
    BatchNorm,
    Dense,
    Dropout,
    LayerNorm,
    LogSoftmax,
    Residual,
    Softmax,
    softmax_jacobian,
)
from ffnn_gpu.nn.losses.standard import (
    Loss,
    PointwiseLoss,
    SoftmaxCrossEntropy,
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    cross_entropy,
    hinge,
    huber,
    mean_absolute_error,
    mean_squared_error,
    poisson,
    softmax_cross_entropy,
)
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.workspace import Workspace
from ffnn_gpu.optim.optimizers import SGD, Adagrad, Adam, AdamW, Lion, Nadam, Optimizer, RMSprop
from ffnn_gpu.optim.schedules import (
    Cosine,
    Exponential,
    InverseScaling,
    LinearWarmup,
    OneCycle,
    Schedule,
    StepDecay,
    constant,
)
from ffnn_gpu.training.callbacks import BestWeights, Callback, Checkpoints, EarlyStopping, ReduceOnPlateau
from ffnn_gpu.training.fit import fit
from ffnn_gpu.training.history import History
from ffnn_gpu.training.step import train_step
from ffnn_gpu.version import __version__ as __version__

__all__ = [
    "SGD", "Activation", "Adagrad", "Adam", "AdamW", "Backend", "BackendMismatchError", "BackendUnavailableError",
    "BatchNorm", "BestWeights", "Callback", "CheckpointCorruptError", "CheckpointError", "Checkpoints",
    "ConfigurationError", "Constant", "Cosine", "DataError", "Dense", "DeviceOutOfMemoryError", "DivergedError",
    "DivergedRanksError", "Dropout",
    "EarlyStopping", "Exponential", "FfnnGpuError", "History", "IncompatibleCheckpointError", "Initializer",
    "InverseScaling", "Layer", "LayerNorm", "LinearWarmup", "Lion", "LogSoftmax", "Loss", "Model", "Nadam", "Network",
    "Normal", "OneCycle", "Optimizer", "Orthogonal", "PointwiseLoss", "RMSprop", "ReduceOnPlateau", "Residual", "Schedule",
    "ShapeError", "Softmax", "SoftmaxCrossEntropy", "StepDecay", "Uniform", "VarianceScaling", "Workspace",
    "WorkspaceError", "binary_cross_entropy", "binary_cross_entropy_with_logits", "constant", "cross_entropy", "elu",
    "evaluate", "fit", "gelu", "gelu_tanh", "get_backend", "glorot_normal", "glorot_uniform", "hard_sigmoid", "hard_tanh",
    "he_normal", "he_uniform", "hinge", "huber", "identity", "leaky_relu", "lecun_normal", "lecun_uniform", "load",
    "load_extras", "mean_absolute_error", "mean_squared_error", "mish", "normal", "npy_rows", "orthogonal", "poisson",
    "relu", "save", "selu", "sigmoid", "silu", "softmax_cross_entropy", "softmax_jacobian", "softplus", "softsign", "tanh",
    "train_step", "uniform", "zeros",
]  # fmt: skip
