"""What is read of the thing to export: a network, and of a model also its encoding and its task.

Why protocols: a scikit-learn estimator and a `Model` are both exported, and this room imports neither.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from ffnn_gpu.data.labels import LabelMap
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.losses import Loss
from ffnn_gpu.nn.network import Network
from ffnn_gpu.tables.encoding import Encoding

T = TypeVar("T")


class Task(Protocol):
    """What the outputs of the network mean, such as `ffnn_gpu.estimators.task.Task`."""

    @property
    def kind(self) -> str:
        """Return "binary", "multiclass", "multilabel" or "regression"."""

    @property
    def labels(self) -> LabelMap | None:
        """Return the classes; None for multilabel and regression."""

    @property
    def units(self) -> Standardizer | None:
        """Return the scaling of the target of a regression."""

    @property
    def limits(self) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
        """Return the lowest and the highest answers of a regression; None for no limits."""

    @property
    def loss(self) -> Loss:
        """Return the loss, whose threshold decides between 0 and 1."""

    @property
    def outputs_are_probabilities(self) -> bool:
        """Return True if the network itself ends with a softmax or a sigmoid."""


@dataclass(frozen=True, eq=False)
class Exported:
    """A network and what stands before and behind it.

    Attributes:
        task: None for a bare network.
        standardizer, limit: of a matrix of raw numbers, as in `Model`.
        feature_names: of the columns of that matrix.
        encoding: of the columns of a table; it replaces the standardizer.
    """

    network: Network
    task: Task | None = None
    standardizer: Standardizer | None = None
    limit: float | None = None
    feature_names: tuple[str, ...] | None = None
    encoding: Encoding | None = None


def exported(model: Any) -> Exported:
    """Return the parts of a `Model`, of a fitted estimator with a method `to_model`, or of a `Network`.

    Raises ConfigurationError for anything else.
    """
    if isinstance(model, Network):
        if model.members is not None:
            raise ConfigurationError(
                f"a pack of {len(model.members)} networks cannot be exported; export one of them, such as "
                "pack.member(0)"
            )
        return Exported(model)
    found = model.to_model() if hasattr(model, "to_model") else model
    if not isinstance(getattr(found, "network", None), Network):
        raise ConfigurationError(
            f"a {type(model).__name__} cannot be exported; pass a Network, a Model or a fitted estimator"
        )
    parts = ("task", "standardizer", "limit", "feature_names", "encoding")
    return Exported(found.network, *(getattr(found, name, None) for name in parts))


def writer_of(
    layer: Layer, name: str, writers: Mapping[type[Layer], Callable[..., T]], form: str
) -> Callable[..., T]:
    """Return the function that writes a layer.

    name: of the layer in the network. form: the subject and verb of the message, such as "ONNX export knows".

    Raises ConfigurationError for a kind of layer that has no writer.
    """
    write = writers.get(type(layer))
    if write is None:
        known = ", ".join(kind.__name__ for kind in writers)
        raise ConfigurationError(f"layer {name} is {layer!r}; {form} {known}")
    return write
