"""What an ensemble is made of, as rows of a table, JSON values and text."""

from typing import Any

import numpy as np

from ffnn_gpu.estimators.tabular.calibration import half_width
from ffnn_gpu.estimators.tabular.fit_ensemble import Ensemble
from ffnn_gpu.estimators.tabular.members import Member
from ffnn_gpu.training.history import History

COVERAGES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)  # of the intervals whose half-widths are in result.json


def member_row(number: int, member: Member) -> dict[str, Any]:
    """Return the row of a member in the history of an ensemble; val_loss is that of its best epoch."""
    losses = [loss for loss in member.history["val_loss"] if np.isfinite(loss)]
    return {
        "member": number,
        "recipe": member.plan.recipe.name,
        "fold": member.plan.fold + 1,
        "epochs": len(member.history),
        "val_loss": min(losses, default=None),
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
        "temperature": ensemble.temperature,
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
    what = "log loss" if found.task.kind != "regression" else "error in standard deviations"
    lines = [f"{len(found.members)} members, {what} out of fold:"]
    for name, error in found.errors.items():
        share = f"weight {found.weights[name]:.2f}" if name in found.weights else "not used"
        lines.append(f"  {name:14} {error:.4f}  {share}")
    lines.append(f"  {'all together':14} {found.error:.4f}")
    if found.temperature != 1:
        lines.append(f"logits are divided by {found.temperature:.2f}, so that probabilities are calibrated")
    return [*lines, f"the networks read {numbers} numbers of {columns} columns"]
