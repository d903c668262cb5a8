"""The networks of the page, and their training step as `fit` captures it."""

from dataclasses import dataclass

import numpy as np

from benchmarks.gpu_model import paper_cupy
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from ffnn_gpu.data.minibatches import Minibatches, Order
from ffnn_gpu.nn.layers.dense import Dense
from ffnn_gpu.nn.losses.loss import SoftmaxCrossEntropy
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.schedules import constant
from ffnn_gpu.optim.muon import Muon
from ffnn_gpu.optim.optimizers import Adam, Optimizer
from ffnn_gpu.training.data_parallel.team import DataParallel, Team
from ffnn_gpu.training.run import TrainingRun

ADAM = Adam()


@dataclass(frozen=True)
class Case:
    """A ReLU network with softmax cross-entropy: its widths, the rows of a batch, its type.

    members: of a pack, or None.
    rule: its optimizer.
    """

    widths: tuple
    B: int
    dtype: str = "bfloat16"
    members: int | None = None
    rule: Optimizer = ADAM

    @property
    def title(self):
        name = self._name
        if self.members is not None:
            name = f"{self.members} × ({name})"
        return name if type(self.rule) is Adam else f"{name}, {type(self.rule).__name__}"

    @property
    def _name(self):
        first, *rest = [(w, self.widths.count(w)) for w in dict.fromkeys(self.widths)]
        same = first[1] == len(self.widths)
        return f"{first[0]} × {first[1]}" if same and not rest else "-".join(map(str, self.widths))


CASES = (
    Case((784, 128, 10), 128),
    Case((784, 512, 512, 10), 128),
    Case((64,) * 6, 2**17),
    Case((64,) * 6, 2**18),
    Case((256, 64, 64, 64, 64, 16), 2**18),
    Case((1024, 2048, 2048, 2048, 1024), 1024),
    Case((1024, 2048, 2048, 2048, 1024), 16384),
    Case((2048,) * 11, 4096),
    Case((1024, 4096, 4096, 4096, 4096, 1024), 8192),
    Case((8192,) * 5, 16384),
    Case((256, 384, 384), 256, members=64, rule=Muon()),
)


class PaperNetwork(Network):
    """A network whose initial values nobody draws."""

    def _initialize(self):
        """Leave θ as it is."""


def record(case, layers=None, loss=None, optimizer=None, members=None, tf32=False, **settings):
    """Return (launches of one graph, steps in it) of the training run of a case."""
    with paper_cupy.installed() as cupy:
        backend = CupyBackend(tf32=tf32)
        layers = layers or [*(Dense(width, "relu") for width in case.widths[1:-1]), Dense(case.widths[-1])]
        network = PaperNetwork(case.widths[0], layers, backend, case.dtype, members=members or case.members)
        run = _run(network, loss or SoftmaxCrossEntropy(), optimizer or case.rule, case, **settings)
        for _ in range(2):  # the second call is captured
            run.position = 0
            run.step()
    return cupy.graphs[-1], backend.steps_per_launch(case.B)


def _run(network, loss, optimizer, case, accumulate=1, weighted=False):
    backend, rows = network.backend, case.B * network.backend.steps_per_launch(case.B)
    x, y = backend.empty((rows, case.widths[0]), case.dtype), backend.empty((rows,), np.int32)
    weight = backend.empty((rows,), np.float32) if weighted else None
    data = Minibatches(backend, x, y, weight, network.compute_dtype, Order(case.B, shuffle=False))
    team = Team(DataParallel.of(None), network, optimizer, False)
    given = network, loss, optimizer, data, None, team, (), constant, []
    return TrainingRun(*given, epochs=1, accumulate=accumulate)
