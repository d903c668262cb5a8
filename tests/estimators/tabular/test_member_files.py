"""A kept member is the trained one, and is refused for other rows, folds or recipes."""

from dataclasses import replace

import numpy as np
import pytest

from ffnn_gpu import get_backend
from ffnn_gpu.data.labels import LabelMap
from ffnn_gpu.errors import IncompatibleCheckpointError
from ffnn_gpu.estimators.tabular import members as members_module
from ffnn_gpu.estimators.tabular.folds import folds_of
from ffnn_gpu.estimators.tabular.member_files import MemberFiles
from ffnn_gpu.estimators.tabular.members import Plan, Rows, train_members
from ffnn_gpu.estimators.tabular.recipes import Plain, RealMLP
from ffnn_gpu.estimators.task import Task

RNG = np.random.default_rng(1)
N = 60
ROWS = Rows(
    np.column_stack([RNG.normal(size=(N, 2)), np.arange(N) % 3]).astype(np.float32),
    RNG.integers(0, 2, N),
    RNG.random(N),
)
FOLDS = folds_of(N, 2, 0)
TASK = Task("binary", 1, "binary_cross_entropy_with_logits", labels=LabelMap((0, 1)))
PLAN = Plan(Plain(name="two layers", hidden=(4,), dropout=(0.1, 0.1), epochs=3, steps=1), 1, 5)
REAL = Plan(RealMLP(name="RealMLP", hidden=(6,), epochs=3, steps=1), 0, 6)
BACKEND = get_backend("cpu")


def trained(folder, plans=(PLAN,), **training):
    store = MemberFiles(folder, BACKEND, ROWS, FOLDS)
    return train_members(plans, ROWS, FOLDS, TASK, (3,), BACKEND, "float32", store=store, **training)[0]


def test_kept_members_are_the_trained_ones_and_are_not_trained_again(tmp_path, monkeypatch):
    first = trained(tmp_path, (PLAN, REAL))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "RealMLP-1.safetensors",
        "two_layers-2.safetensors",
    ]
    monkeypatch.setattr(members_module, "fit", lambda *args, **named: pytest.fail("trained again"))
    for a, b in zip(first, trained(tmp_path, (PLAN, REAL)), strict=True):
        assert (a.plan, a.history, a.network.layers) == (b.plan, b.history, b.network.layers)
        np.testing.assert_array_equal(a.network.params.theta, b.network.params.theta)
        np.testing.assert_array_equal(a.held_out, b.held_out)
        assert a.is_whole and b.is_whole


def test_a_member_that_was_stopped_early_is_not_kept(tmp_path):
    class Stop(members_module.Callback):
        def after_epoch(self, run, row):
            run.stop = True

    (member,) = trained(tmp_path, callback=lambda plan: [Stop()])
    assert len(member.history) == 1 and not member.is_whole and not [*tmp_path.iterdir()]


OTHERS = {
    "inputs": (ROWS._replace(x=ROWS.x + 1), FOLDS, PLAN),
    "targets and weights": (ROWS._replace(weight=None), FOLDS, PLAN),
    "folds": (ROWS, 1 - FOLDS, PLAN),
    "recipe": (ROWS, FOLDS, replace(PLAN, recipe=replace(PLAN.recipe, lr=0.5))),
    "seed": (ROWS, FOLDS, replace(PLAN, seed=9)),
}


def test_member_that_another_metric_has_chosen_is_refused(tmp_path):
    trained(tmp_path)
    with pytest.raises(
        IncompatibleCheckpointError, match=r"two_layers-2.safetensors was written with other metric;"
    ):
        MemberFiles(tmp_path, BACKEND, ROWS, FOLDS, "roc_auc").load(PLAN, BACKEND)


@pytest.mark.parametrize("what", OTHERS)
def test_a_member_of_something_else_is_refused(tmp_path, what):
    trained(tmp_path)
    rows, folds, plan = OTHERS[what]
    with pytest.raises(
        IncompatibleCheckpointError, match=f"two_layers-2.safetensors was written with other {what};"
    ):
        MemberFiles(tmp_path, BACKEND, rows, folds).load(plan, BACKEND)
