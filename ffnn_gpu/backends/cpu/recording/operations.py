"""The operations of a backend as commands.

Each operation has the signature and the meaning that the reference gives it. One that has no command for its
arguments raises NotRecordedError before it has changed anything that it also reads.
"""

from ffnn_gpu.backends.cpu.recording.embedding import EmbeddingOperations
from ffnn_gpu.backends.cpu.recording.losses import LossOperations
from ffnn_gpu.backends.cpu.recording.muon import MuonOperations
from ffnn_gpu.backends.cpu.recording.normalization import NormalizationOperations
from ffnn_gpu.backends.cpu.recording.per_column import PerColumnOperations
from ffnn_gpu.backends.cpu.recording.periodic import PeriodicOperations
from ffnn_gpu.backends.cpu.recording.piecewise_linear import PiecewiseLinearOperations


class Operations(
    MuonOperations,  # and those of layers and other optimizers, which it uses
    EmbeddingOperations,
    PerColumnOperations,
    PeriodicOperations,
    PiecewiseLinearOperations,
    NormalizationOperations,
    LossOperations,
):
    """Every operation that has commands. `Recorder` keeps them, `Immediate` runs them at once."""
