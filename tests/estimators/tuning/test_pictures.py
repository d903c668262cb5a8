"""The pictures of a study are PNG files, and drawing leaves Matplotlib as it was."""

import sys

import numpy as np
import pytest

from ffnn_gpu.estimators.tuning import pictures
from ffnn_gpu.estimators.tuning.study import Study, quiet
from tests.every_case import some_of

optuna = pytest.importorskip("optuna")
matplotlib = pytest.importorskip("matplotlib")

DISTRIBUTIONS = {
    "lr": optuna.distributions.FloatDistribution(1e-4, 1e-1, log=True),
    "activation": optuna.distributions.CategoricalDistribution(("relu", "tanh")),
}


def study_of(states):
    """Return a study with trials of these states and of four epochs."""
    trials = [
        optuna.trial.create_trial(
            state=optuna.trial.TrialState[state],
            value=0.5 + 0.01 * (k * 7 % 5) if state == "COMPLETE" else None,
            params={"lr": 1e-3 * (k + 1), "activation": ("relu", "tanh")[k % 2]},
            distributions=DISTRIBUTIONS,
            intermediate_values={}
            if state == "FAIL"
            else {e: 0.4 + 0.02 * e + 0.01 * k for e in range(1, 5)},
        )
        for k, state in enumerate(states)
    ]
    with quiet():
        study = optuna.create_study(direction="maximize")
    study.add_trials(trials)
    return Study(study, None, DISTRIBUTIONS, {}, 0)


def test_pictures_are_png_files_with_something_on_them(tmp_path):
    import matplotlib.pyplot as plt

    before = dict(matplotlib.rcParams)
    paths = pictures.draw(study_of(["COMPLETE"] * 5 + ["PRUNED", "FAIL"]), tmp_path, "accuracy")
    assert [path.name for path in paths] == list(pictures.PICTURES)
    assert {*tmp_path.iterdir()} == {*paths}
    for path in paths:
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        image = matplotlib.image.imread(path)
        assert min(image.shape[:2]) > 200 and len(np.unique(image[..., 0])) > 20
    assert dict(matplotlib.rcParams) == before and plt.get_fignums() == []


@pytest.mark.parametrize("states", some_of([["COMPLETE", "FAIL"], ["COMPLETE", "PRUNED", "COMPLETE"]], 2))
def test_small_study_has_every_picture_but_that_of_importance(states, tmp_path):
    paths = pictures.draw(study_of(states), tmp_path, "accuracy")
    assert {path.name for path in paths} == {*pictures.PICTURES} - {pictures.IMPORTANCE}


def test_missing_matplotlib_is_an_import_error(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ImportError):
        pictures.draw(study_of(["COMPLETE"]), tmp_path, "accuracy")
    assert [*tmp_path.iterdir()] == []
