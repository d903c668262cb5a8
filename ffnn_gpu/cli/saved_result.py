"""Read the result.json of a run: every entry that this package reads has its kind, or is not there.

Why the kinds are checked here: `report`, `compare`, `info` and `evaluate` read the file, and it may be
damaged or written by another program. They then need no checks of their own.
"""

import json
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict, get_type_hints

import msgspec

from ffnn_gpu.checks import shortened
from ffnn_gpu.cli import run_folder
from ffnn_gpu.errors import DataError

CONSTANT = ("predicts", "metric")  # entries of the baseline that are texts; the others are numbers
Scores = dict[str, float | None]


class Baseline(TypedDict):
    """What a constant prediction scores; besides its metrics."""

    predicts: str
    metric: str
    better: float | None


class Table(TypedDict):
    """A checksum of the cells."""

    checksum: str
    duckdb: str


class Member(TypedDict):
    """A member of an ensemble."""

    recipe: str


class Ensemble(TypedDict):
    """The members of an ensemble, and how they were chosen."""

    members: list[Member]
    members_asked: int
    stopped_early: int
    errors: Scores
    weights: dict[str, float]
    error: float | None
    explanation: list[str]
    temperatures: NotRequired[dict[str, float]]  # for each recipe; before 0.2.0 one for all
    temperature: NotRequired[float]
    metric: NotRequired[str | None]
    half_widths: NotRequired[dict[float, list[float | None]] | None]
    details: NotRequired[list[str]]


class Search(TypedDict):
    """The trials of a search."""

    trials: dict[str, int]
    best: int


class SavedResult(TypedDict, total=False):
    """The entries of result.json that are read again."""

    model: Literal["mlp", "tabular"]
    model_reason: str
    data: str
    task: str
    test: Scores | None
    baseline: Baseline | None
    ensemble: Ensemble | None
    search: Search | None
    epochs: int
    epochs_asked: int
    best_epoch: int | None
    interrupted: str | None
    rows: dict[str, int]
    table: Table | None
    seconds: float
    peak_bytes: int | None
    ranks: int
    backend: str
    reason: str
    versions: dict[str, str]
    platform: str


KINDS = get_type_hints(SavedResult)


def saved_report(folder: Path) -> dict[str, Any]:
    """Return the content of the result.json of a run, {} without one. Raises DataError if it is damaged."""
    file = folder / run_folder.RESULT
    try:
        found = json.loads(file.read_text(encoding="utf-8-sig")) if file.is_file() else {}
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file} is damaged: {error}") from error
    if not isinstance(found, dict):
        raise DataError(f"{file} is damaged: it holds {shortened(repr(found))} instead of an object")
    for name, value in found.items():
        if not _is(value, KINDS.get(name, Any)) or (name == "baseline" and not _is(_scores(value), Scores)):
            raise DataError(f"{file} is damaged: {name} is {shortened(repr(value))}")
    return found


def _is(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind, str_keys=True)
    except msgspec.ValidationError:
        return False
    return True


def _scores(baseline: dict[str, Any] | None) -> dict[str, Any]:
    """Return the numbers of a baseline."""
    return {name: value for name, value in (baseline or {}).items() if name not in CONSTANT}
