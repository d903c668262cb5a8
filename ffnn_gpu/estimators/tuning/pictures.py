"""What a study shows: PNG files, drawn by Optuna."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ffnn_gpu.estimators.tuning.study import Study, quiet

HISTORY, CURVES, IMPORTANCE, SLICES = (
    "study_history.png", "study_curves.png", "study_importance.png", "study_slices.png",
)  # fmt: skip
PICTURES = (HISTORY, CURVES, IMPORTANCE, SLICES)
DPI, LEAST_FOR_IMPORTANCE, MOST_IN_LEGEND = 110, 4, 20


def draw(study: Study, folder: Path, metric: str) -> list[Path]:
    """Write the pictures of a study with a complete trial; return their paths.

    study_history.png: the value of each trial, and the best so far. study_curves.png: each trial by epoch.
    study_importance.png: the share of each parameter in how good a trial is, from four complete trials on.
    study_slices.png: the value of each trial by each parameter.

    Raises ImportError: Matplotlib is not installed.
    """
    import matplotlib.pyplot as plt

    written = []
    with quiet(), plt.rc_context(), plt.ioff():  # Optuna draws with pyplot, and sets its style
        warnings.filterwarnings("ignore", "Attempting to set identical", UserWarning)  # a single value
        for name, axes in _drawn(study, f"validation {metric}"):
            figure = (axes.flat[0] if hasattr(axes, "flat") else axes).figure
            figure.savefig(folder / name, dpi=DPI, bbox_inches="tight")
            plt.close(figure)
            written.append(folder / name)
    return written


def _drawn(study: Study, name: str) -> Iterator[tuple[str, Any]]:
    """Yield the name of each file, and its axes."""
    from optuna.importance import PedAnovaImportanceEvaluator
    from optuna.visualization import matplotlib as by_optuna

    yield HISTORY, by_optuna.plot_optimization_history(study.study, target_name=name)
    curves = by_optuna.plot_intermediate_values(study.study)
    curves.set(xlabel="epoch", ylabel=name)
    if len(study.finished) > MOST_IN_LEGEND and curves.get_legend() is not None:
        curves.get_legend().remove()
    yield CURVES, curves
    values = {trial.value for trial in study.finished if trial.state.name == "COMPLETE"}
    varied = [name for name, each in study.distributions.items() if not each.single()]
    if len(values) > 1 and study.counts()["complete"] >= LEAST_FOR_IMPORTANCE and varied:
        evaluator = PedAnovaImportanceEvaluator()
        yield IMPORTANCE, by_optuna.plot_param_importances(study.study, evaluator=evaluator, target_name=name)
    yield SLICES, by_optuna.plot_slice(study.study, target_name=name)
