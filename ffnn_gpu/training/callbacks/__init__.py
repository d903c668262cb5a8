"""Everything in a training run besides the step: each callback is one small class with the hooks it needs.

A callback receives the `Run` before the first step, after each step, after each epoch and at the end. A
checkpoint stores its `state` (JSON values) and its `arrays` (host arrays); `restore` receives both.
"""

from ffnn_gpu.training.callbacks.agreement import decisions as decisions
from ffnn_gpu.training.callbacks.agreement import require_restorable as require_restorable
from ffnn_gpu.training.callbacks.best_members import BestMembers
from ffnn_gpu.training.callbacks.best_weights import BestWeights
from ffnn_gpu.training.callbacks.callback import Callback
from ffnn_gpu.training.callbacks.callback import Run as Run
from ffnn_gpu.training.callbacks.checkpoint_files import Checkpoints
from ffnn_gpu.training.callbacks.early_stopping import EarlyStopping
from ffnn_gpu.training.callbacks.mlflow import MLflow
from ffnn_gpu.training.callbacks.monitor import Monitor as Monitor
from ffnn_gpu.training.callbacks.reduce_on_plateau import ReduceOnPlateau
from ffnn_gpu.training.callbacks.tensorboard import TensorBoard

__all__ = [
    "BestMembers", "BestWeights", "Callback", "Checkpoints", "EarlyStopping", "MLflow", "ReduceOnPlateau",
    "TensorBoard",
]  # fmt: skip
