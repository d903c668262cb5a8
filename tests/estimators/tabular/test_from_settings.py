"""Groups, weights and the seed of the settings reach the members of an ensemble."""

import numpy as np
import pytest

import ffnn_gpu
from ffnn_gpu.estimators.tabular import train_ensemble as train_ensemble_module
from ffnn_gpu.estimators.tabular.folds import folds_of
from ffnn_gpu.estimators.tabular.recipes import PRESETS, Plain, Preset

pytest.importorskip("duckdb")
pd = pytest.importorskip("pandas")

N = 100
RNG = np.random.default_rng(0)
FRAME = pd.DataFrame(
    {
        "x": RNG.normal(size=N).round(3),
        "g": np.arange(N) // 5,
        "w": RNG.uniform(0.5, 2, N).round(3),
        "y": np.where(np.arange(N) % 4 == 0, "rare", "often"),
    }
)
PRESET = Preset((Plain(name="linear", epochs=1, steps=1),), 4)


@pytest.fixture
def seen(monkeypatch):
    """Return what reaches `fit_ensemble`."""
    found, fit = [], train_ensemble_module.fit_ensemble

    def seeing(rows, folds, *given, **training):
        found.append((rows, folds))
        return fit(rows, folds, *given, **training)

    monkeypatch.setattr(train_ensemble_module, "fit_ensemble", seeing)
    monkeypatch.setitem(PRESETS, "good", PRESET)
    return found


def train(**settings):
    return ffnn_gpu.train_table(FRAME, "y", model="tabular", device="numpy", verbose=0, **settings)


def test_whole_groups_are_held_out(seen):
    made = train(group="g", test=0.0)
    ((rows, folds),) = seen
    assert len(rows.y) == N and made.rows == {"train": N, "validation": 0, "test": 0}
    assert {*folds} == {0, 1, 2, 3}
    for group in range(N // 5):
        assert len({*folds[FRAME["g"] == group]}) == 1


def test_folds_are_drawn_by_class_and_seed(seen):
    train(test=0.0, seed=3)
    ((rows, folds),) = seen
    np.testing.assert_array_equal(folds, folds_of(N, 4, 3, rows.y))
    assert sorted(np.bincount(folds[FRAME["y"] == "rare"])) == [6, 6, 6, 7]


def test_weights_of_rows_and_classes_are_multiplied(seen):
    train(test=0.0)
    train(test=0.0, weight="w")
    train(test=0.0, weight="w", class_weight="balanced")
    train(test=0.0, class_weight="balanced")
    weights = [rows.weight for rows, _ in seen]
    of_class = np.where(FRAME["y"] == "rare", N / (2 * 25), N / (2 * 75))
    assert weights[0] is None
    np.testing.assert_array_equal(weights[1], FRAME["w"])
    np.testing.assert_allclose(weights[2], FRAME["w"] * of_class, rtol=1e-15)
    np.testing.assert_allclose(weights[3], of_class, rtol=1e-15)


def test_fewer_groups_than_folds_are_a_fold_each(seen):
    frame = FRAME.assign(g=np.arange(N) // 50)
    made = ffnn_gpu.train_table(
        frame, "y", model="tabular", group="g", test=0.0, device="numpy", verbose=0, time_limit=600
    )
    assert len(made.history) == 2 and made.history["fold"] == [1, 2]
    with pytest.raises(ffnn_gpu.errors.DataError, match="there is 1 group to train on"):
        ffnn_gpu.train_table(frame, "y", model="tabular", group="g", test=0.5, device="numpy", verbose=0)


def test_rows_of_weight_zero_make_no_fold_and_no_limit(seen):
    frame = FRAME.assign(y=FRAME["x"] * 10, w=np.where(FRAME["x"] < 1, 1.0, 0.0))
    settings = {"model": "tabular", "test": 0.0, "device": "numpy", "verbose": 0, "weight": "w"}
    made = ffnn_gpu.train_table(frame, "y", **settings)
    weighted = frame["y"][frame["w"] > 0]
    assert made.model.task.limits == ((weighted.min(),), (weighted.max(),))
    assert weighted.max() < frame["y"].max()
    with pytest.raises(ffnn_gpu.errors.DataError, match="there is 1 group to train on"):
        ffnn_gpu.train_table(frame.assign(w=(FRAME["g"] == 0) * 1.0), "y", group="g", **settings)
