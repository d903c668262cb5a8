"""Convert layers to JSON and back. The JSON holds names and numbers, nothing that could be executed."""

from collections.abc import Iterable
from dataclasses import MISSING, Field, fields
from typing import Any

import numpy as np

from ffnn_gpu.errors import FfnnGpuError, IncompatibleCheckpointError
from ffnn_gpu.nn import initializers, schedules
from ffnn_gpu.nn import layers as standard
from ffnn_gpu.nn.activations import ACTIVATIONS, Activation, get_activation
from ffnn_gpu.nn.initializers import Initializer
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.schedules import Schedule


def _classes(module: Any, base: type) -> dict[str, Any]:
    found = (kind for kind in vars(module).values() if isinstance(kind, type))
    return {kind.__name__: kind for kind in found if issubclass(kind, base) and kind is not base}


LAYERS, INITIALIZERS = _classes(standard, Layer), _classes(initializers, Initializer)
SCHEDULES = _classes(schedules, Schedule)


def encode(value: Any) -> Any:
    """Return a layer, a standard activation, initializer or schedule, or a sequence of them, as JSON values.

    Raises TypeError for anything else.
    """
    if isinstance(value, Activation) and value.name in ACTIVATIONS:
        return {"activation": value.name, "alpha": value.alpha}
    if isinstance(value, Layer):
        lost = vars(value).keys() - {entry.name for entry in fields(value)}
        if lost:
            raise TypeError(
                f"{type(value).__name__} has {', '.join(sorted(lost))} besides the fields of a dataclass; "
                "only fields can be saved: declare the class @dataclass(frozen=True)"
            )
        return {"class": type(value).__name__, **_changed(value)}  # no field can be called "class"
    if type(value) in INITIALIZERS.values():
        return {"initializer": type(value).__name__, **_changed(value)}
    if type(value) in SCHEDULES.values():
        return {"schedule": type(value).__name__, **_changed(value)}
    if isinstance(value, (tuple, list)):
        return [encode(entry) for entry in value]
    if isinstance(value, np.generic):
        return encode(value.item())
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(
        f"{value!r} cannot be saved; the fields of a layer must be numbers, strings, layers, activations, "
        "initializers or schedules"
    )


def decode(value: Any, custom: Iterable[type[Layer]] = ()) -> Any:
    """Return the value that `encode` converted.

    Args:
        custom: layer classes that this package does not define.

    Raises:
        IncompatibleCheckpointError: a class is unknown, or its fields are not accepted.
    """
    if isinstance(value, list):
        return tuple(decode(entry, custom) for entry in value)
    if not isinstance(value, dict):
        return value
    rest = {key: decode(entry, custom) for key, entry in value.items()}
    try:
        if "class" in rest:
            return _layer(rest, LAYERS | {kind.__name__: kind for kind in custom})
        if "initializer" in rest:
            return INITIALIZERS[rest.pop("initializer")](**rest)
        if "schedule" in rest:
            return SCHEDULES[rest.pop("schedule")](**rest)
        return get_activation(rest["activation"], rest["alpha"])
    except IncompatibleCheckpointError:
        raise
    except (FfnnGpuError, TypeError, KeyError, ValueError, AttributeError) as error:
        raise IncompatibleCheckpointError(f"{value!r} describes no part of a network: {error}") from error


def _layer(rest: dict[str, Any], known: dict[str, type[Layer]]) -> Layer:
    name = rest.pop("class")
    if not isinstance(name, str) or name not in known:
        raise IncompatibleCheckpointError(
            f"the checkpoint has a layer {name!r}; there are {', '.join(known)}. "
            "Pass classes of your own as load(path, layers=[MyLayer])"
        )
    field_names = {_in_files(entry): entry.name for entry in fields(known[name])}
    return known[name](**{field_names.get(key, key): value for key, value in rest.items()})


def kinds(layers: Iterable[Layer]) -> set[type[Layer]]:
    """Return the classes of these layers and of the layers inside them."""
    return {kind for layer in layers for kind in ({type(layer)} | kinds(getattr(layer, "layers", ())))}


def _changed(value: Any) -> dict[str, Any]:
    """Return the fields that differ from their defaults."""
    return {
        _in_files(entry): encode(getattr(value, entry.name))
        for entry in fields(value)
        if entry.default is MISSING or getattr(value, entry.name) != entry.default
    }


def _in_files(entry: Field[Any]) -> str:
    """Return the field's name in files, which keep it when the field itself is renamed."""
    return str(entry.metadata.get("in_files", entry.name))
