"""Feed-forward neural networks written once, run by NumPy on a CPU or by CuPy on a CUDA GPU.

The names here are those that most programs need. All names, sorted:

    layers  activations  initializers  losses         what a network is made of
    optim  schedules  callbacks  metrics              how it is trained and measured
    errors  testing  distributed                      exceptions, gradient checks, several processes
    export                                            ONNX, NumPy alone, PyTorch's state_dict
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ffnn_gpu import errors as errors
from ffnn_gpu import estimators as estimators
from ffnn_gpu import optim as optim
from ffnn_gpu.backends import Backend, get_backend
from ffnn_gpu.checkpoints.checkpoint import load, load_extras, save
from ffnn_gpu.data.array_files import npy_rows
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.errors import FfnnGpuError
from ffnn_gpu.evaluation import metrics as metrics
from ffnn_gpu.evaluation.evaluate import evaluate
from ffnn_gpu.nn import activations as activations
from ffnn_gpu.nn import initialize_from
from ffnn_gpu.nn import initializers as initializers
from ffnn_gpu.nn import layers as layers
from ffnn_gpu.nn import losses as losses
from ffnn_gpu.nn import schedules as schedules
from ffnn_gpu.nn.activations import gelu, relu, sigmoid, tanh
from ffnn_gpu.nn.layers import Average, BatchNorm, Dense, Dropout, Embedding, LayerNorm, Residual
from ffnn_gpu.nn.losses import binary_cross_entropy_with_logits, mean_squared_error, softmax_cross_entropy
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.pack import Member
from ffnn_gpu.nn.workspace import Workspace
from ffnn_gpu.optim import SGD, Adam, AdamW
from ffnn_gpu.training import callbacks as callbacks
from ffnn_gpu.training.callbacks import Callback, Checkpoints, EarlyStopping, ReduceOnPlateau
from ffnn_gpu.training.fit import fit
from ffnn_gpu.training.history import History
from ffnn_gpu.training.step import train_step
from ffnn_gpu.version import __version__ as __version__

if TYPE_CHECKING:
    from ffnn_gpu.export import export_numpy as export_numpy
    from ffnn_gpu.export import export_onnx as export_onnx
    from ffnn_gpu.export import export_state_dict as export_state_dict
    from ffnn_gpu.export import load_state_dict as load_state_dict

__all__ = [
    "SGD", "Adam", "AdamW", "Average", "Backend", "BatchNorm", "Callback", "Checkpoints", "Dense",
    "Dropout", "EarlyStopping", "Embedding", "FfnnGpuError", "History", "LayerNorm", "Member", "Model",
    "Network", "ReduceOnPlateau", "Residual", "Standardizer", "Workspace",
    "binary_cross_entropy_with_logits", "evaluate", "fit", "gelu", "get_backend", "initialize_from", "load",
    "load_extras", "mean_squared_error", "npy_rows", "relu", "save", "sigmoid", "softmax_cross_entropy",
    "tanh", "train_step", "train_table", "tune_table",
]  # fmt: skip

# Names of ffnn_gpu.export, which is imported when one of them is used.
EXPORTS = ("export_numpy", "export_onnx", "export_state_dict", "load_state_dict")

# Why: the modules are in folders such as `nn`, but users write `from ffnn_gpu.layers import Dense`. Their
# submodules get a second name too, so that `ffnn_gpu.layers.dense` is the module already loaded, not a
# second copy of its classes.
for _module in (activations, callbacks, initializers, layers, losses, metrics, schedules):
    _room, _alias = _module.__name__, f"{__name__}.{_module.__name__.rpartition('.')[2]}"
    for _name in [name for name in sys.modules if name == _room or name.startswith(f"{_room}.")]:
        sys.modules[_alias + _name.removeprefix(_room)] = sys.modules[_name]
del _module, _room, _alias, _name

if TYPE_CHECKING:
    from ffnn_gpu.estimators import MLPClassifier as MLPClassifier
    from ffnn_gpu.estimators import MLPRegressor as MLPRegressor
    from ffnn_gpu.estimators import TabularClassifier as TabularClassifier
    from ffnn_gpu.estimators import TabularRegressor as TabularRegressor
    from ffnn_gpu.estimators.model import Model as Model
    from ffnn_gpu.estimators.train_table import train_table as train_table
    from ffnn_gpu.estimators.tuning.tune_table import tune_table as tune_table
else:  # a type checker should not take every name for one that is here

    def __getattr__(name: str) -> Any:
        """Return a name of a submodule, such as `glorot_uniform`, or import what is not imported yet.

        That is `testing`, `distributed`, `export` with its functions, what reads tables (`Model`,
        `train_table` and `tune_table`), and what needs scikit-learn.
        """
        if name in ("distributed", "export", "testing"):
            return import_module(f"{__name__}.{name}")
        if name == "Model":
            return import_module(f"{__name__}.estimators.model").Model
        if name == "train_table":
            return import_module(f"{__name__}.estimators.train_table").train_table
        if name == "tune_table":
            return import_module(f"{__name__}.estimators.tuning.tune_table").tune_table
        if name in EXPORTS:
            return getattr(import_module(f"{__name__}.export"), name)
        if name in estimators.WITH_SCIKIT_LEARN:
            return getattr(estimators, name)
        for module in (activations, callbacks, errors, initializers, layers, losses, optim, schedules):
            if name in module.__all__:
                return getattr(module, name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
