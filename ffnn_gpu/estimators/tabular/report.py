"""What an ensemble is made of, as rows of a table, JSON values and text."""

from collections import Counter
from typing import Any

import numpy as np

from ffnn_gpu.checks import counted, shortened
from ffnn_gpu.estimators.tabular.calibration import half_width
from ffnn_gpu.estimators.tabular.fit_ensemble import Ensemble
from ffnn_gpu.estimators.tabular.importances import Importances
from ffnn_gpu.estimators.tabular.members import Member
from ffnn_gpu.training.history import History

COVERAGE = 0.9  # of the intervals in a report
COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # of the intervals whose half-widths are in result.json
MOST_LISTED = 30  # columns


def member_row(number: int, member: Member) -> dict[str, Any]:
    """Return the row of a member in the history of an ensemble.

    val_loss is the loss of its fold at its best epoch, without label smoothing.
    """
    return {
        "member": number,
        "recipe": member.plan.recipe.name,
        "fold": member.plan.fold + 1,
        "epochs": len(member.history),
        "val_loss": member.loss if np.isfinite(member.loss) else None,
        "seconds": round(sum(member.history["seconds"]), 3),
    }


def members_history(ensemble: Ensemble) -> History:
    """Return a row for each member, and the signal that ended the training early."""
    return History([member_row(k, m) for k, m in enumerate(ensemble.members, 1)], ensemble.signal)


def summary(ensemble: Ensemble) -> dict[str, Any]:
    """Return the members, errors and weights as JSON values."""
    return {
        "members": members_history(ensemble).rows,
        "errors": ensemble.errors,
        "weights": ensemble.weights,
        "error": ensemble.error,
        "metric": ensemble.objective.name or None,
        "scores": ensemble.scores,
        "score": ensemble.score,
        "temperatures": ensemble.temperatures,
    }


def half_widths(ensemble: Ensemble) -> dict[str, list[float]] | None:
    """Return {coverage: half-width of an interval for each target, in its units}; None for classes.

    A half-width is infinite if there were too few rows for its coverage.
    """
    residuals, units = ensemble.residuals, ensemble.task.units
    if residuals is None:
        return None
    scale = 1.0 if units is None else units.scale
    return {str(level): (half_width(residuals, level) * scale).tolist() for level in COVERAGES}


def explained(found: Ensemble, numbers: int, columns: int) -> list[str]:
    """Return lines: what each kind of member scored out of fold, which were chosen, and what is read.

    numbers: the width of the matrix that the networks read. columns: those of the raw rows.
    """
    lines = [f"{len(found.members)} members, {found.objective.measured} out of fold:"]
    for name, score in found.scores.items():
        share = f"weight {found.weights[name]:.2f}" if name in found.weights else "not used"
        lines.append(f"  {name:14} {score:.4f}  {share}")
    lines.append(f"  {'all together':14} {found.score:.4f}")
    if found.task.kind != "regression":
        divisors = ", ".join(f"{T:.2f} ({name})" for name, T in found.temperatures.items())
        lines.append(f"logits are divided by {divisors}, so that probabilities are calibrated")
    return [*lines, f"the networks read {numbers} numbers of {columns} columns"]


def details(found: Ensemble, importances: Importances | None, skipped: str = "") -> list[str]:
    """Return lines: each member, the width of the intervals, and the importance of each column.

    skipped: why there are no importances.
    """
    measured, folds = found.objective.measured, Counter(m.plan.recipe.name for m in found.members)
    lines = [f"members, {measured} of the rows of their fold:"]
    for number, member in enumerate(found.members, 1):
        name, fold = member.plan.recipe.name, member.plan.fold + 1
        share = f"weight {found.weights.get(name, 0.0) / folds[name]:.3f}"
        stopped = "" if member.is_whole else ", stopped early"
        lines.append(
            f"  {number:3} {name:14} fold {fold}  seed {member.plan.seed}  {member.score:.4f}  {share}, "
            f"{counted(len(member.history), 'epoch')}{stopped}"
        )
    if found.residuals is not None:
        lines.append(f"{COVERAGE:.0%} of the errors out of fold are below {_width(found)}")
    if importances is None:
        return [*lines, f"importances of the columns are not computed: {skipped}"]
    lines.append(
        f"importances: how much the error rises when a column is permuted, of {importances.rows} rows:"
    )
    for name, mean, deviation in importances.by_size[:MOST_LISTED]:
        lines.append(f"  {shortened(name):24} {mean:+.4f} ± {deviation:.4f}")
    rest = len(importances.names) - MOST_LISTED
    return [*lines, f"  … and {counted(rest, 'other column')}"] if rest > 0 else lines


def _width(found: Ensemble) -> str:
    """Return the half-width of an interval for each output, in the units of the target."""
    assert found.residuals is not None  # of a regression
    width, units = half_width(found.residuals, COVERAGE), found.task.units
    return ", ".join(f"{each:.6g}" for each in (width if units is None else width * units.scale))
