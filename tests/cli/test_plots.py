"""Plots show the confusion matrix of classes and predictions against targets of a regression."""

import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from ffnn_gpu.cli import plots

PNG = b"\x89PNG\r\n\x1a\n"


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_confusion_matrix_shows_every_count_that_is_not_zero(tmp_path):
    figure = plots.confusion_matrix([[40, 3], [0, 1069]], ["malignant", "benign"])
    figure.savefig(tmp_path / "a.png", dpi=plots.DPI)
    axes = figure.axes[0]
    assert texts(axes) == ["40", "3", "1069"] and axes.get_title() == "1,109 of 1,112 correct"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["malignant", "benign"]
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(("C", "has_counts"), [(1, True), (30, True), (31, False), (150, False)])
def test_confusion_matrix_of_many_classes_is_readable(tmp_path, C, has_counts):
    figure = plots.confusion_matrix(
        np.eye(C, dtype=int), [f"a long name with a $ number {k}" for k in range(C)]
    )
    figure.savefig(tmp_path / "a.png", dpi=40)
    assert bool(texts(figure.axes[0])) == has_counts
    assert len(figure.axes[0].get_xticks()) <= plots.MAX_CLASS_NAMES


def test_predicted_against_true_has_a_panel_per_output_with_equal_axes(tmp_path):
    y = np.random.default_rng(0).normal(size=(50, 6))
    figure = plots.predicted_against_true(y, y + 0.1, ["a"])
    figure.savefig(tmp_path / "a.png", dpi=plots.DPI)
    assert len(figure.axes) == plots.MAX_OUTPUT_PANELS and figure.axes[0].get_title() == "a"
    for axes in figure.axes:
        assert axes.get_xlim() == axes.get_ylim()
    np.testing.assert_allclose(
        figure.axes[1].collections[0].get_offsets(), np.stack([y[:, 1], y[:, 1] + 0.1], axis=1)
    )


def test_predicted_against_true_draws_a_constant(tmp_path):
    plots.predicted_against_true(np.ones(3), np.ones(3)).savefig(tmp_path / "a.png", dpi=plots.DPI)


def test_plots_create_no_pyplot_figures():
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
