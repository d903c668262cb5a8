import sys

import numpy as np
import pytest

pytest.importorskip("matplotlib")
from ffnn_gpu.cli import plots
from ffnn_gpu.training.history import History

PNG = b"\x89PNG\r\n\x1a\n"


def history(epochs, **columns):
    extra = {"lr": 0.1, "seconds": 1.0, "samples_per_second": 9.0}
    return History(
        [{"epoch": e, **{k: v / e for k, v in columns.items()}, **extra} for e in range(1, epochs + 1)]
    )


def texts(axes):
    return [text.get_text() for text in axes.texts]


def test_learning_curve_shows_losses_and_the_metric(tmp_path):
    figure = plots.learning_curve(history(5, loss=1, val_loss=2, val_accuracy=0.5), tmp_path / "a.png")
    losses, metrics = figure.axes
    assert [line.get_label() for line in losses.lines] == ["training", "validation"]
    assert losses.get_yscale() == "log" and metrics.get_title() == "Validation accuracy"
    np.testing.assert_allclose(metrics.lines[0].get_ydata(), 0.5 / np.arange(1, 6))
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


def test_learning_curve_has_a_panel_for_each_of_the_first_metrics():
    figure = plots.learning_curve(history(3, loss=1, val_rmse=60, val_mae=50, val_r2=0.5, val_mse=3600))
    assert [axes.get_title() for axes in figure.axes] == [
        "Loss",
        "Validation rmse",
        "Validation mae",
        "Validation r2",
    ]


def test_learning_curve_without_metrics_has_one_panel_and_negative_losses_a_linear_scale(tmp_path):
    figure = plots.learning_curve(history(1, loss=-1.0), tmp_path / "a.png")
    assert len(figure.axes) == 1 and figure.axes[0].get_yscale() == "linear"


def test_best_epoch_is_marked_where_there_is_validation():
    rows = [
        {"epoch": e, "loss": 1 / e, "val_loss": (e - 3) ** 2 + 1.0, "val_accuracy": 0.5} for e in range(1, 6)
    ]
    figure = plots.learning_curve(History(rows))
    assert figure.axes[0].collections[0].get_offsets().tolist() == [[3, 1]]
    words = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes]
    assert words == [["training", "validation", "best epoch 3"], ["validation"]]
    assert (
        plots.best_epoch(history(4, loss=1)) == 4
        and not plots.learning_curve(history(4, loss=1)).axes[0].collections
    )


@pytest.mark.parametrize("epochs", [1, 2, 3, 30])
def test_epochs_are_counted_in_whole_numbers(epochs):
    axes = plots.learning_curve(history(epochs, loss=1)).axes[0]
    axes.figure.draw_without_rendering()
    assert all(tick == round(tick) for tick in axes.get_xticks()) and len(axes.get_xticks())


def test_confusion_matrix_says_every_count_that_is_not_zero(tmp_path):
    figure = plots.confusion_matrix([[40, 3], [0, 1069]], ["malignant", "benign"], tmp_path / "a.png")
    axes = figure.axes[0]
    assert texts(axes) == ["40", "3", "1069"] and axes.get_title() == "1,109 of 1,112 right"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["malignant", "benign"]
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize(("C", "has_counts"), [(1, True), (30, True), (31, False), (150, False)])
def test_confusion_matrix_of_many_classes_stays_readable(tmp_path, C, has_counts):
    figure = plots.confusion_matrix(
        np.eye(C, dtype=int), [f"a long name with a $ number {k}" for k in range(C)]
    )
    figure.savefig(tmp_path / "a.png", dpi=40)
    assert bool(texts(figure.axes[0])) == has_counts
    assert len(figure.axes[0].get_xticks()) <= plots.MAX_CLASS_NAMES


def test_predicted_against_true_has_a_panel_per_output_with_equal_axes(tmp_path):
    y = np.random.default_rng(0).normal(size=(50, 6))
    figure = plots.predicted_against_true(y, y + 0.1, ["a"], tmp_path / "a.png")
    assert len(figure.axes) == plots.MAX_OUTPUT_PANELS and figure.axes[0].get_title() == "a"
    for axes in figure.axes:
        assert axes.get_xlim() == axes.get_ylim()
    np.testing.assert_allclose(
        figure.axes[1].collections[0].get_offsets(), np.stack([y[:, 1], y[:, 1] + 0.1], axis=1)
    )


def test_predicted_against_true_draws_a_constant(tmp_path):
    plots.predicted_against_true(np.ones(3), np.ones(3), path=tmp_path / "a.png")


def test_pictures_leave_pyplot_alone():
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()
