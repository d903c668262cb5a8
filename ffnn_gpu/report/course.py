"""What happened during a training run: curves over the epochs, members, and how it ended."""

import math
from collections.abc import Iterator, Mapping
from statistics import median
from typing import Any

from ffnn_gpu.checks import counted
from ffnn_gpu.report.charts import Line, thinned
from ffnn_gpu.report.findings import Ensemble, Panel, Recipe
from ffnn_gpu.report.record import MemberCourse, Record
from ffnn_gpu.training.history import NO_METRICS, History

MOST_METRICS = 4
POINTS_OF_A_MEMBER = 80


def panels_of(record: Record) -> tuple[Panel, ...]:
    """Return the curves of a network over its epochs, or of all members of an ensemble."""
    if record.courses:
        return tuple(_member_panels(record.courses))
    if "epoch" not in record.history.columns:
        return ()
    return tuple(_panels(record.history))


def _panels(history: History) -> Iterator[Panel]:
    losses = [(name, label) for name, label in (("loss", "training"), ("val_loss", "validation"))]
    if known := [one for one in losses if one[0] in history.columns]:
        yield Panel("Loss", "loss", tuple(_line(history, *one) for one in known))
    metrics = [name for name in history.columns if name not in NO_METRICS]
    for name in metrics[:MOST_METRICS]:
        said = name.removeprefix("val_").replace("_", " ")
        yield Panel(f"Validation {said}", said, (_line(history, name, "validation"),))
    if "lr" in history.columns:
        yield Panel("Learning rate", "learning rate", (_line(history, "lr", "learning rate"),))


def _line(history: History, name: str, label: str, most: int = 400) -> Line:
    kept = thinned(len(history), most)
    epochs, values = history["epoch"], history[name]
    return Line(label, [epochs[k] for k in kept], [values[k] for k in kept])


def _member_panels(courses: tuple[MemberCourse, ...]) -> Iterator[Panel]:
    """Yield a panel for each loss with a line for each recipe, broken between its members."""
    recipes = list(dict.fromkeys(course.recipe for course in courses))
    for name, title in (
        ("val_loss", "Validation loss of each member"),
        ("loss", "Training loss of each member"),
    ):
        lines = [_together(courses, recipe, name) for recipe in recipes]
        yield Panel(title, "loss", tuple(lines))


def _together(courses: tuple[MemberCourse, ...], recipe: str, name: str) -> Line:
    x: list[float] = []
    y: list[float] = []
    for course in courses:
        if course.recipe == recipe and name in course.history.columns:
            line = _line(course.history, name, recipe, POINTS_OF_A_MEMBER)
            x, y = [*x, *line.x, math.nan], [*y, *line.y, math.nan]
    return Line(recipe, x, y)


def ensemble_of(record: Record) -> Ensemble | None:
    """Return the recipes of an ensemble and their scores, the best first; None of one network."""
    found = record.result.get("ensemble")
    if found is None:
        return None
    names = [member["recipe"] for member in found["members"]]
    metric = found.get("metric")  # the scores are values of it; the errors are lower for better recipes
    scores, score = (found["scores"], found["score"]) if metric else (found["errors"], found["error"])
    recipes = tuple(
        Recipe(name, _number(scores[name]), found["weights"].get(name), names.count(name))
        for name in sorted(found["errors"], key=lambda name: _number(found["errors"][name]))
    )
    default = "error in standard deviations" if record.result["task"] == "regression" else "log loss"
    what = metric.replace("_", " ") if metric else default
    return Ensemble(recipes, what, _number(score), tuple(_said(found)))


def _said(found: Mapping[str, Any]) -> Iterator[str]:
    temperatures = found.get("temperatures", {"all": found.get("temperature", 1)})
    if any(T != 1 for T in temperatures.values()):
        divisors = ", ".join(f"{T:.2f} ({name})" for name, T in temperatures.items())
        yield f"Logits are divided by {divisors}, so that probabilities are calibrated."


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def status_of(record: Record) -> str:
    """Return a sentence about how the run ended."""
    result = record.result
    if not result:
        done = counted(len(record.history), "row")
        return f"Not finished: there is no result.json. The history has {done}."
    if signal := result.get("interrupted"):
        return f"Interrupted by {signal} after {_extent(record)}."
    if result.get("epochs", 0) < result.get("epochs_asked", 0):
        best = f"; the best was epoch {result['best_epoch']}" if result.get("best_epoch") else ""
        return f"Stopped early after {_extent(record)}{best}."
    if search := result.get("search"):
        trials = counted(sum(search["trials"].values()), "trial")
        return f"Trial {search['best']}, the best of {trials} of a search: {_extent(record)}."
    return f"Finished: {_extent(record)}."


def _extent(record: Record) -> str:
    result = record.result
    if found := result.get("ensemble"):
        early = found["stopped_early"]
        asked = f"{len(found['members'])} of {counted(found['members_asked'], 'member')}"
        return asked + f", {early} of them stopped early" * bool(early)
    asked = result.get("epochs_asked", len(record.history))
    return f"{result.get('epochs', len(record.history))} of {counted(asked, 'epoch')}"


def costs_of(record: Record) -> tuple[tuple[str, str], ...]:
    """Return time and memory, as (name, text)."""
    return tuple(_costs(record))


def _costs(record: Record) -> Iterator[tuple[str, str]]:
    result, history, model = record.result, record.history, record.model
    if "seconds" in result:
        yield "whole run", f"{result['seconds']:,.1f} s"
    seconds = [float(row["seconds"]) for row in history.rows if row.get("seconds") is not None]
    if seconds:
        what = "epoch" if "epoch" in history.columns else "member"
        yield f"one {what}, median", f"{median(seconds):,.3g} s"
    rates = [row["samples_per_second"] for row in history.rows if row.get("samples_per_second")]
    if rates:
        yield "training rows per second, median", f"{median(rates):,.0f}"
    if result.get("peak_bytes"):
        yield "memory of the process, at most", in_bytes(result["peak_bytes"])
    if model is not None:
        yield "parameters", f"{model.network.params.count:,}"
        yield "numbers that the network reads", f"{model.network.n_in:,}"
    if record.model_bytes is not None:
        yield "model file", in_bytes(record.model_bytes)


def in_bytes(size: int) -> str:
    """1.5 MB: bytes in units of 1000."""
    for unit, name in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= unit:
            return f"{size / unit:,.3g} {name}"
    return counted(size, "byte")
