"""What a run folder holds, as objects of this package, as far as it is there."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.settings import TrainConfig
from ffnn_gpu.estimators.split import Split
from ffnn_gpu.estimators.training_data import Training
from ffnn_gpu.report.findings import Omission
from ffnn_gpu.training.history import History


class MemberCourse(NamedTuple):
    """A finished member of an ensemble: its recipe, and a row per epoch."""

    recipe: str
    history: History


@dataclass(frozen=True, eq=False)
class Record:
    """What a run left.

    Attributes:
        name: the run folder, as the caller called it.
        result: the content of result.json; empty if the run has not finished.
        history: a row per epoch, or per member of an ensemble.
        courses: of the finished members of an ensemble.
        training, split: the data, read again as for the training run; None if that is not possible.
        model_bytes: the size of the model file.
        omitted: what is missing, and why.
    """

    name: str
    config: TrainConfig
    result: Mapping[str, Any]
    history: History
    courses: tuple[MemberCourse, ...] = ()
    model: Model | None = None
    training: Training | None = None
    split: Split | None = None
    model_bytes: int | None = None
    omitted: tuple[Omission, ...] = field(default=())
