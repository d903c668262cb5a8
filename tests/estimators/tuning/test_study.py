"""A study counts the trials that ended by themselves, and its best one is the first of equal ones."""

import pytest

from ffnn_gpu.estimators.tuning.study import CUT, REASON, Study, quiet

optuna = pytest.importorskip("optuna")

LR = {"lr": optuna.distributions.FloatDistribution(0, 1)}


def study_of(*trials, direction="maximize", seed=0):
    """Return a study with trials of (state, value, attributes)."""
    with quiet():
        study = optuna.create_study(direction=direction)
    for k, (state, value, attributes) in enumerate(trials):
        made = optuna.trial.create_trial(
            state=optuna.trial.TrialState[state],
            value=value,
            params={"lr": k / 20},
            distributions=LR,
            user_attrs=attributes,
        )
        study.add_trial(made)
    return Study(study, None, LR, {"lr": 0.5}, seed)


@pytest.mark.parametrize(("direction", "best"), [("maximize", 1), ("minimize", 2)])
def test_of_equal_trials_the_first_is_the_best_and_a_pruned_one_never(direction, best):
    complete = [("COMPLETE", value, {}) for value in (0.5, 0.7, 0.3, 0.7, 0.3)]
    study = study_of(*complete, ("PRUNED", 0.99, {}), ("PRUNED", 0.01, {}), direction=direction)
    assert study.best.number == best
    assert [row["value"] for row in study.table()] == [0.5, 0.7, 0.3, 0.7, 0.3, None, None]


def test_study_without_a_complete_trial_has_no_best():
    assert study_of(("PRUNED", 0.5, {}), ("FAIL", None, {REASON: "inf"})).best is None


def test_trials_that_were_cut_off_do_not_count():
    study = study_of(
        ("COMPLETE", 0.5, {}),
        ("FAIL", None, {CUT: "the time is up"}),
        ("FAIL", None, {REASON: "loss is inf"}),
        ("FAIL", None, {}),
        ("PRUNED", 0.1, {}),
    )
    assert [trial.number for trial in study.finished] == [0, 2, 4]
    assert study.counts() == {"complete": 1, "failed": 1, "pruned": 1}
    rows = study.table()
    assert [row["state"] for row in rows] == ["complete", "cut off", "failed", "cut off", "pruned"]
    assert [row["reason"] for row in rows] == ["", "the time is up", "loss is inf", "", ""]


def test_next_trial_depends_on_the_seed_and_the_finished_trials_alone():
    done = [("COMPLETE", 0.5 + k / 100, {}) for k in range(12)]
    cut = ("FAIL", None, {CUT: "the time is up"})
    drawn = [
        study_of(*trials, seed=seed).ask().params["lr"]
        for trials, seed in ((done, 0), ([*done, cut], 0), (done, 1), (done[:-1], 0))
    ]
    assert drawn[0] == drawn[1] and len({*drawn}) == 3


def test_first_trial_is_where_the_search_begins_until_one_has_ended():
    assert study_of().ask().params == {"lr": 0.5}
    assert study_of(("FAIL", None, {CUT: "SIGINT"})).ask().params == {"lr": 0.5}
    assert study_of(("FAIL", None, {REASON: "loss is inf"})).ask().params != {"lr": 0.5}


def test_optuna_is_as_loud_as_before():
    before = optuna.logging.get_verbosity()
    with quiet():
        assert optuna.logging.get_verbosity() == optuna.logging.ERROR
    assert optuna.logging.get_verbosity() == before
