"""Progress is a bar on a terminal and otherwise one line per epoch, on standard error."""

import io
import sys
from types import SimpleNamespace

import pytest

from ffnn_gpu.training.progress import ProgressBar, ProgressLines, describe, progress

ROW = {
    "epoch": 1,
    "loss": 0.123456,
    "val_accuracy": 0.5,
    "lr": 0.001,
    "seconds": 1.26,
    "samples_per_second": 100.0,
}
RUN = SimpleNamespace(epoch=1, epochs=3, steps_done=4, data=SimpleNamespace(steps=4))


def test_describe_shows_every_column_except_times():
    assert describe(ROW) == "loss 0.1235  val_accuracy 0.5  lr 0.001"


def test_progress_line_shows_epoch_values_and_seconds():
    file = io.StringIO()
    ProgressLines(file).after_epoch(RUN, ROW)
    assert file.getvalue() == "epoch 1/3  loss 0.1235  val_accuracy 0.5  lr 0.001  1.3 s\n"


@pytest.mark.parametrize(
    ("verbose", "terminal", "kind"),
    [
        (0, True, None),
        (1, True, ProgressBar),
        (1, False, ProgressLines),
        (2, True, ProgressLines),
        (2, False, ProgressLines),
    ],
)
def test_progress_is_a_bar_only_on_a_terminal(monkeypatch, verbose, terminal, kind):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    assert [type(callback) for callback in progress(verbose)] == ([kind] if kind else [])


def test_progress_bar_writes_only_to_standard_error_and_ends(capsys):
    bar = ProgressBar()
    bar.start(RUN)
    bar.after_step(RUN)
    bar.after_epoch(RUN, ROW)
    bar.finish(RUN)
    assert bar.progress.finished or not bar.progress.live.is_started
    assert capsys.readouterr().out == ""
