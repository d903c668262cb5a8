"""Collect what `ffnn-gpu info MODEL` prints: what a model predicts, reads and consists of."""

from collections import Counter
from pathlib import Path
from typing import Any

from ffnn_gpu.checks import counted
from ffnn_gpu.cli.saved_result import saved_report
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.model_choice import KINDS


def information(source: str) -> dict[str, Any]:
    """Return what a model predicts, reads and consists of, as JSON values. Raises CheckpointError.

    source: a run folder or a checkpoint.
    """
    model = Model.load(source, "numpy")
    network, names, report = model.network, model.feature_names, saved_report(Path(source))
    return {
        "model": report.get("model"),
        "model_reason": report.get("model_reason"),
        "data": model.data,
        "target": model.target_name,
        "task": str(model.task),
        "columns": len(names) if names else network.n_in,
        "numbers": network.n_in,
        "layers": [str(layer) for layer in network.layers],
        "parameters": network.params.count,
        "ensemble": report.get("ensemble"),
    }


def lines(found: dict[str, Any]) -> list[str]:
    """Format the result of `information` as lines of text."""
    target = f", target {found['target']!r}" if found["target"] else ""
    shown = {
        "data": f"{found['data']}{target}",
        "task": found["task"],
        "reads": f"{found['numbers']:,} numbers of {counted(found['columns'], 'column')}",
        "layers": ", ".join(found["layers"]),
        "numbers": f"{found['parameters']:,} parameters",
    }
    ensemble = found["ensemble"]
    if ensemble is not None:
        recipes = Counter(member["recipe"] for member in ensemble["members"])
        kinds = ", ".join(f"{n} {recipe}" for recipe, n in recipes.items())
        shown["layers"] = f"the weighted mean of members; trained: {kinds}"
    if found["model"] is not None:
        shown = {"model": f"{KINDS[found['model']]}: {found['model_reason']}", **shown}
    said = [f"{name:<9} {text}" for name, text in shown.items()]
    return said if ensemble is None else [*said, *ensemble["explanation"], *ensemble.get("details", ())]
