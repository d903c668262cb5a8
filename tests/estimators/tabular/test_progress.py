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
    with progress.Progress(["linear"], 3, 1) as shown:

        def completed():
            return pytest.approx(shown.bar.tasks[0].completed)

        shown.done(member)  # was kept, so no epoch was reported
        assert completed() == 1
        epochs, _ = shown.callbacks(plan)
        for _ in range(2):
            epochs.after_epoch(SimpleNamespace(epochs=4), {})
        assert completed() == 1.5
        epochs.finish(SimpleNamespace(epochs=4))  # stopped early
        shown.done(member)
        assert completed() == 2
        assert shown.bar.tasks[0].fields["member"] == "2/3"


@pytest.mark.parametrize(
    ("verbose", "slow", "lines"), [("auto", 1, 1), (1, 1, 1), (0, 1, 0), ("auto", 0.1, 0)]
)
def test_expected_time_is_printed_once_when_each_recipe_is_known(capfd, verbose, slow, lines):
    """Four folds, two members at a time: 2 · (5 + 9 · 1 + 3 + 4 · 2) s = 50 s."""
    with progress.Progress(["linear", "MLP"], 4, verbose, at_once=2) as shown:

        def train(name, epochs, *seconds):
            for callback in shown.callbacks(Plan(Plain(name=name), 0, 0)):
                for epoch, taken in enumerate(seconds, 1):
                    run = SimpleNamespace(epoch=epoch, epochs=epochs)
                    callback.after_epoch(run, {"seconds": slow * taken})
            return capfd.readouterr().err

        assert train("linear", 10, 5, 1, 1) == "" and train("MLP", 5, 3) == ""
        found = train("MLP", 5, 3, 2, 2)
        assert found.count("\n") == lines and found.startswith("training 8 members" * lines)
        assert "about 50 s;" * lines in found and train("MLP", 5, 3, 2, 2) == ""
