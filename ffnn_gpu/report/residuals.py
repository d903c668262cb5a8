"""How far predicted numbers are from true ones."""

from collections.abc import Sequence

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.report.charts import thinned
from ffnn_gpu.report.findings import Residuals

MOST_DOTS = 1000
BINS = 24
MIDDLE = (0.5, 99.5)  # percentiles between which the histogram has its bins


def residuals_of(y: HostArray, prediction: HostArray, names: Sequence[str]) -> tuple[Residuals, ...]:
    """Return for each target (y (n, K)) the residuals predicted − true."""
    return tuple(_of_target(y[:, k], prediction[:, k], name) for k, name in enumerate(names))


def _of_target(y: HostArray, prediction: HostArray, name: str) -> Residuals:
    order = np.argsort(y, kind="stable")  # so that thinned rows spread over all values
    kept = order[thinned(len(y), MOST_DOTS)]
    residual = prediction - y
    low, high = np.percentile(residual, MIDDLE).tolist()
    if not high > low:
        low, high = low - 0.5, high + 0.5
    heights, edges = np.histogram(np.clip(residual, low, high), BINS, (low, high))
    quantiles = np.quantile(np.abs(residual), (0.5, 0.9, 1.0)).tolist()
    return Residuals(
        name,
        tuple(y[kept].tolist()),
        tuple(prediction[kept].tolist()),
        tuple(edges.tolist()),
        tuple(heights.tolist()),
        float(residual.mean()),
        (quantiles[0], quantiles[1], quantiles[2]),
    )
