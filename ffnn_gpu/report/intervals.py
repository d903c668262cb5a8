"""How wide an interval around a prediction must be, and how many test rows lie within."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checks import counted
from ffnn_gpu.estimators.model import Model, true_and_predicted
from ffnn_gpu.estimators.split import Part
from ffnn_gpu.estimators.tabular.calibration import half_width
from ffnn_gpu.estimators.tabular.report import COVERAGES
from ffnn_gpu.report.findings import Coverage


class HalfWidths(NamedTuple):
    """For each share of rows that is asked for the half-width (K,) of an interval, and where it is from."""

    widths: Mapping[float, HostArray]
    source: str


def half_widths_of(result: Mapping[str, Any], model: Model, validation: Part | None) -> HalfWidths | None:
    """Return half-widths that no test row has decided: those out of fold, or of the validation rows.

    Return None if there are neither.
    """
    saved = (result.get("ensemble") or {}).get("half_widths")
    if saved is not None:
        widths = {float(level): np.array(row, float) for level, row in saved.items() if None not in row}
        return HalfWidths(widths, "errors of the training rows out of fold")
    if validation is None or not len(validation.x):
        return None
    y, prediction = true_and_predicted(model, validation.x, validation.y)
    residuals = np.sort(np.abs(y - prediction), axis=0)
    found = {level: half_width(residuals, level) for level in COVERAGES}
    widths = {level: width for level, width in found.items() if np.isfinite(width).all()}
    return HalfWidths(widths, f"errors of {counted(len(residuals), 'validation row')}")


def coverage_of(
    y: HostArray, prediction: HostArray, widths: HalfWidths | None, names: Sequence[str]
) -> tuple[Coverage, ...]:
    """Return for each target (y (n, K)) how many rows lie within prediction ± half-width."""
    whole = {} if widths is None else widths.widths
    asked = tuple(level for level, each in whole.items() if len(each) >= len(names))
    if not asked:
        return ()
    errors = np.abs(y - prediction)
    found = []
    for k, name in enumerate(names):
        half = tuple(float(whole[level][k]) for level in asked)
        observed = tuple(float(np.mean(errors[:, k] <= each)) for each in half)
        found.append(Coverage(name, asked, observed, half))
    return tuple(found)
