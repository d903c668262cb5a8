"""Half-widths in result.json are those of intervals in the units of the target."""

import math
from types import SimpleNamespace

import numpy as np

from ffnn_gpu.estimators.tabular.report import half_widths
from ffnn_gpu.estimators.task import Task

Y = np.random.default_rng(0).normal(50, 7, (200, 2))


def test_half_widths_are_order_statistics_in_the_units_of_the_target():
    task = Task.of(Y, "regression").with_units_of(Y)
    residuals = np.sort(np.random.default_rng(1).exponential(size=(15, 2)), axis=0)
    found = half_widths(SimpleNamespace(residuals=residuals, task=task))
    assert [*found] == ["0.5", "0.6", "0.7", "0.8", "0.9", "0.95"]
    for level in (0.5, 0.8, 0.9):
        exact = residuals[math.ceil(16 * level) - 1] * Y.std(axis=0)
        np.testing.assert_allclose(found[str(level)], exact, rtol=1e-12)
    assert np.isinf(found["0.95"]).all()  # 16 · 0.95 > 15: too few rows


def test_classes_have_no_half_widths():
    assert half_widths(SimpleNamespace(residuals=None, task=Task.of(np.array(["a", "b"])))) is None
