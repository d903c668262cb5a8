"""The bar of an ensemble counts members once, whether they are trained or were kept."""

from types import SimpleNamespace

import pytest

from ffnn_gpu.estimators.tabular import progress
from ffnn_gpu.estimators.tabular.members import Plan
from ffnn_gpu.estimators.tabular.recipes import Plain
from ffnn_gpu.training.history import History

pytest.importorskip("rich")


def test_bar_counts_trained_and_kept_members_once(monkeypatch):
    monkeypatch.setattr(progress, "is_terminal", lambda: True)
    plan = Plan(Plain(name="linear"), 0, 0)
    member = SimpleNamespace(plan=plan, history=History([{"seconds": 1.0}]), loss=0.5)
    with progress.Progress(3, 1) as shown:

        def completed():
            return pytest.approx(shown.bar.tasks[0].completed)

        shown.done(member)  # was kept, so no epoch was reported
        assert completed() == 1
        (epochs,) = shown.callbacks(plan)
        for _ in range(2):
            epochs.after_epoch(SimpleNamespace(epochs=4), {})
        assert completed() == 1.5
        epochs.finish(SimpleNamespace(epochs=4))  # stopped early
        shown.done(member)
        assert completed() == 2
        assert shown.bar.tasks[0].fields["member"] == "2/3"
