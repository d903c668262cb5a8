"""Combine the settings of `ffnn-gpu train` from several places.

    defaults < the run to resume < the --config file < FFNN_GPU_DEVICE < --set < flags

`out` is not written to a run's config.toml, so `--config` with that file repeats the run in a new folder.
"""

import os
import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from ffnn_gpu.backends import from_environment
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.model_choice import AUTO
from ffnn_gpu.estimators.settings import (
    FIELDS,
    OF_COLUMNS,
    OF_SOURCES,
    OPPOSITES,
    TrainConfig,
    checked,
    choices,
    write_toml,
)

__all__ = [
    "FIELDS",
    "OF_COLUMNS",
    "OF_SOURCES",
    "OPPOSITES",
    "TrainConfig",
    "write_toml",
]  # with the functions below
BARE = r"""[^\s"'=#\[\]{}]+"""  # --set takes such a value as text if it is not TOML


def resolve(
    flags: Mapping[str, Any],
    *,
    assignments: Iterable[str] = (),
    file: str | Path | None = None,
    resumed: str | Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> TrainConfig:
    """Combine flags, assignments, files and environment into one configuration, as `given_values` does."""
    return TrainConfig(**given_values(flags, assignments, file, resumed, environment))


def given_values(
    flags: Mapping[str, Any],
    assignments: Iterable[str] = (),
    file: str | Path | None = None,
    resumed: str | Path | None = None,
    environment: Mapping[str, str] = os.environ,
) -> dict[str, Any]:
    """Return the value of each setting that flags, assignments, files or environment give.

    The config.toml of a run holds every setting, and the model that was decided. What has its default value
    there was not given.

    Args:
        flags: strings or values; None for a flag that was not given.
        assignments: "NAME=VALUE", where VALUE is TOML or a bare word.
        resumed: the config.toml of the run to resume.

    Raises:
        ConfigurationError: an unknown name, or a value that is not accepted.
    """
    values: dict[str, Any] = {}
    for path in (resumed, file):
        if path is not None:
            values |= checked(read_toml(path), str(path))
    if values.get("model", AUTO) != AUTO:
        values = {name: value for name, value in values.items() if value != FIELDS[name].default}
    device, variable = from_environment(environment)
    if device:
        values |= checked({"device": device}, variable, strict=False)
    for text in assignments:
        values |= checked(_parsed(text), "--set")
    values |= checked({name: value for name, value in flags.items() if value is not None}, "", strict=False)
    if not values.get("data") and not values.get("query"):
        raise ConfigurationError(
            "no data to train on: give DATA or --query on the command line, or `data` in the --config file"
        )
    return values


def given_settings(flags: Mapping[str, Any], assignments: Iterable[str]) -> set[str]:
    """Return the names of the settings that flags and assignments give."""
    named = {name for name, value in flags.items() if value is not None}
    return named.union(*(_parsed(text) for text in assignments))


def source_settings(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return OF_SOURCES from flags, of which None is the default. Raises ConfigurationError."""
    given = {name: value for name, value in flags.items() if value is not None}
    return {name: FIELDS[name].default for name in OF_SOURCES} | checked(given, "", strict=False)


def read_toml(path: str | Path) -> dict[str, Any]:
    """Read the settings in a TOML file, unchecked. Raises ConfigurationError."""
    try:
        content = Path(path).read_bytes()
        if b"\0" in content:
            raise ConfigurationError(f"{path} is no UTF-8 text, but perhaps UTF-16; save it as UTF-8")
        return tomllib.loads(content.decode("utf-8-sig"))  # without a byte order mark
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except ConfigurationError:
        raise
    except ValueError as error:  # not UTF-8, or not TOML
        raise ConfigurationError(f"{path} is not a TOML file: {error}") from error


def differences(a: TrainConfig, b: TrainConfig, ignored: Iterable[str] = ()) -> Iterator[str]:
    """Yield "name a → b" for each setting that differs."""
    for name in FIELDS:
        if name not in ignored and getattr(a, name) != getattr(b, name):
            yield f"{name} {getattr(a, name)!r} → {getattr(b, name)!r}"


def _parsed(text: str) -> dict[str, Any]:
    """Parse NAME=VALUE into {NAME: value}; VALUE is TOML or a bare word."""
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        name, value = (part.strip() for part in (*text.split("=", 1), "")[:2])
        if value.lower() in ("true", "false"):
            return {name: value.lower() == "true"}
        if re.fullmatch(BARE, value):
            return {name: value}
        raise ConfigurationError(
            f"--set {text}: write NAME=VALUE with a TOML value or a bare word ({error})"
        ) from error


def help_of(name: str) -> tuple[str, str]:
    """Return (help text with the default, placeholder of the value); the placeholder of a bool is ""."""
    field = FIELDS[name]
    kind, *metas = get_args(field.type)
    description = metas[-1]
    default = ",".join(map(str, field.default)) if isinstance(field.default, tuple) else field.default
    text = description if default in (None, "") else f"{description}  [{default}]"
    if kind in (bool, bool | None):
        return text.replace("[True]", "[on]").replace("[False]", "[off]"), ""
    return text, "|".join(choices(kind)) or "VALUE"
