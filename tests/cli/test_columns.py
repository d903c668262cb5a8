"""Settings about columns reach the training run, are kept in it, and decide the split."""

import json
import tomllib
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from ffnn_gpu.cli import messages, result
from ffnn_gpu.cli.commands import main
from ffnn_gpu.cli.reading import read_training
from ffnn_gpu.cli.settings import TrainConfig, resolve
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.split import split_rows
from ffnn_gpu.estimators.task import Task

RNG = np.random.default_rng(2)
N = 240
X = RNG.normal(size=(N, 2))
FAST = ["--hidden", "4", "--epochs", "2", "--batch-size", "32", "--out", "run"]
COLUMNS = {
    "a": [f"{x:.5f}" for x in X[:, 0]],
    "b": [f"{x:.5f}" for x in X[:, 1]],
    "patient": [f"P{k // 6}" for k in range(N)],
    "day": [f"2024-{1 + k % 12:02}-{1 + k % 28:02}" for k in range(N)],
    "w": [f"{w:.3f}" for w in RNG.random(N)],
    "y": [*np.where(X[:, 0] + 0.3 * RNG.normal(size=N) > 0, "ripe", "green")],
}


def write(name="t.csv", **changed):
    columns = {**COLUMNS, **changed}
    lines = [",".join(row) for row in zip(*columns.values(), strict=True)]
    Path(name).write_text("\n".join([",".join(columns), *lines]) + "\n", encoding="utf-8")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FFNN_GPU_DEVICE", "numpy")
    monkeypatch.setattr(result, "_draw_plots", lambda *arguments: None)
    write()
    return tmp_path


def here(*arguments):
    return CliRunner().invoke(main, [*map(str, arguments)])


def split(**settings):
    """Return {set: indices of its rows} of the split of t.csv."""
    config = TrainConfig(**{"data": "t.csv", "target": "y", **settings})
    data, _, roles, _ = read_training(config)
    parts = split_rows(data, Task.of(data.y), config, roles)
    return {name: part.x.index for name, part in vars(parts).items()}


def test_no_group_is_in_two_sets():
    rows = split(group="patient")
    groups = {name: {COLUMNS["patient"][k] for k in index} for name, index in rows.items()}
    assert not groups["train"] & groups["test"] and not groups["train"] & groups["validation"]
    assert not groups["validation"] & groups["test"]
    assert sum(map(len, rows.values())) == N and abs(len(rows["test"]) - 48) <= 6


def test_later_rows_are_the_test_and_the_latest_others_the_validation():
    rows = split(split_by="day")
    days = {name: [COLUMNS["day"][k] for k in index] for name, index in rows.items()}
    assert max(days["train"]) < min(days["validation"]) <= max(days["validation"]) < min(days["test"])


def test_group_and_order_exclude_each_other():
    with pytest.raises(ConfigurationError, match="--group and --split-by each decide the split"):
        split(group="patient", split_by="day")


def test_weights_follow_their_rows():
    config = TrainConfig(data="t.csv", target="y", weight="w")
    data, columns, roles, _ = read_training(config)
    for part in vars(split_rows(data, Task.of(data.y), config, roles)).values():
        np.testing.assert_array_equal(part.weight, [float(COLUMNS["w"][k]) for k in part.x.index])
    assert "w" not in {column.name for column in columns if column.is_used}


def test_rows_of_weight_0_change_nothing():
    """Rows of weight 0 with a wild target train the same network as rows of weight 0 with another one."""
    for name, spoilt in (("one", "10.0"), ("two", "-7.0")):
        weights = ["0" if k % 5 == 0 else "1" for k in range(N)]
        y = [spoilt if k % 5 == 0 else f"{X[k, 0]:.4f}" for k in range(N)]
        write(f"{name}.csv", w=weights, y=y)
        done = here(
            "train", f"{name}.csv", *FAST[:-1], name, "--weight", "w", "--drop", "patient,day", "--test", "0",
            "--validation", "0", "--no-standardize", "--quiet",
        )  # fmt: skip
        assert done.exit_code == 0, done.output
    from safetensors.numpy import load_file

    one, two = (load_file(f"{name}/model.safetensors") for name in ("one", "two"))
    assert all(np.array_equal(one[key], two[key]) for key in one if one[key].dtype.kind == "f")


def test_metrics_of_a_weighted_run_are_those_of_scikit_learn():
    oracle = pytest.importorskip("sklearn.metrics")
    done = here("train", "t.csv", *FAST, "--drop", "patient,day", "--weight", "w", "--json")
    report = json.loads(done.stdout)
    predicted = here("predict", "run", "t.csv", "--quiet").stdout.split()[1:]
    y, w = np.array(COLUMNS["y"]), np.array(COLUMNS["w"], float)
    weighted = oracle.accuracy_score(y, predicted, sample_weight=w)
    plain = oracle.accuracy_score(y, predicted)
    assert abs(weighted - plain) > 1e-3

    found = here("evaluate", "run", "t.csv", "--json")
    assert json.loads(found.stdout)["accuracy"] == pytest.approx(weighted, rel=1e-12)
    assert "rows are weighted by 'w', as in the training run; --unweighted leaves the" in found.stderr
    found = here("evaluate", "run", "t.csv", "--json", "--unweighted")
    assert json.loads(found.stdout)["accuracy"] == pytest.approx(plain, rel=1e-12)
    assert "every row weighs the same: --unweighted" in found.stderr

    test = split(drop=("patient", "day"), weight="w")["test"]
    expected = oracle.accuracy_score(y[test], np.array(predicted)[test], sample_weight=w[test])
    assert report["test"]["accuracy"] == pytest.approx(expected, rel=1e-12)
    labels = np.full(len(test), report["baseline"]["predicts"].split("'")[1])
    expected = oracle.accuracy_score(y[test], labels, sample_weight=w[test])
    assert report["baseline"]["accuracy"] == pytest.approx(expected, rel=1e-12)

    write(w=["x"] * N)
    assert here("evaluate", "run", "t.csv").exit_code == 3
    Path("without.csv").write_text(
        "\n".join(row.replace(",w,", ",v,") for row in Path("t.csv").read_text().split())
    )
    found = here("evaluate", "run", "without.csv", "--json")
    assert json.loads(found.stdout)["accuracy"] == pytest.approx(plain, rel=1e-12)
    assert "every row weighs the same: there is no column 'w'" in found.stderr


def test_metrics_of_a_weighted_regression_are_those_of_scikit_learn():
    oracle = pytest.importorskip("sklearn.metrics")
    y, w = 3 * X[:, 0] + 5, np.array(COLUMNS["w"], float)
    write(y=[repr(value) for value in y.tolist()])
    assert here("train", "t.csv", *FAST, "--drop", "patient,day", "--weight", "w").exit_code == 0
    predicted = np.array(here("predict", "run", "t.csv", "--quiet").stdout.split()[1:], float)
    found = json.loads(here("evaluate", "run", "t.csv", "--json", "--quiet").stdout)
    for name in ("root_mean_squared_error", "mean_absolute_error", "r2_score"):
        short = {"root_mean_squared_error": "rmse", "mean_absolute_error": "mae"}.get(name, "r2")
        expected = getattr(oracle, name)(y, predicted, sample_weight=w)
        assert found[short] == pytest.approx(expected, rel=1e-5)


def test_decisions_are_saved_and_evaluate_repeats_the_split():
    done = here("train", "t.csv", *FAST, "--group", "patient", "--weight", "w", "--id", "day", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    saved = tomllib.loads(Path("run/config.toml").read_text(encoding="utf-8"))
    assert (saved["group"], saved["weight"], saved["id"]) == ("patient", "w", ["day"])
    again = json.loads(here("evaluate", "run", "--json", "--quiet").stdout)
    assert {name: again[name] for name in report["test"]} == report["test"]
    assert again["rows"] == report["rows"]["test"]


def test_a_toml_file_decides_as_the_flags_do():
    Path("c.toml").write_text(
        'data = "t.csv"\ncategorical = ["a,b", "c"]\nsplit_by = "day"\n', encoding="utf-8"
    )
    config = resolve({}, file="c.toml", environment={})
    assert (config.categorical, config.split_by) == (("a,b", "c"), "day")
    flags = resolve({"data": "t.csv", "categorical": '"a,b",c', "split_by": "day"}, environment={})
    assert flags == config


def test_train_says_kinds_what_is_left_out_and_what_may_go_wrong():
    leak = ["1" if label == "ripe" else "0" for label in COLUMNS["y"]]
    write(n=[*map(str, range(N))], leak=leak, y=COLUMNS["y"])
    done = here("train", "t.csv", *FAST, "--drop", "w", "--target", "y")
    assert done.exit_code == 0, done.output
    lines = done.stderr.splitlines()
    assert lines[0].startswith(
        "240 rows × 5 features (3 numbers, 1 category, 1 time), target 'y', 2 classes →"
    )
    assert "left out: 'w' (--drop names it); 'n' (the cells are the row numbers 0, 1, …)" in lines
    assert (
        "warning: 'leak' alone predicts 'y' almost perfectly, a possible leak: is it known before 'y' is?"
        in lines
    )


def test_rows_without_a_target_are_said():
    write(y=["" if k < 3 else label for k, label in enumerate(COLUMNS["y"])])
    done = here("train", "t.csv", *FAST)
    assert "\n3 rows lack a target and are left out\n" in done.stderr
    assert done.stderr.startswith("237 rows")


def test_several_targets_are_trained_together():
    write(a2=[f"{2 * x:.5f}" for x in X[:, 0]], b2=[f"{x - 1:.5f}" for x in X[:, 1]])
    done = here("train", "t.csv", *FAST, "--target", "b2,a2", "--drop", "patient,day,w,y", "--json")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["task"] == "regression"
    done = here("train", "t.csv", *FAST, "--overwrite", "--target", "a2,y")
    assert done.exit_code == 3 and "several targets must be numbers or booleans; 'y' is not" in done.stderr


@pytest.mark.parametrize("flag", ["--group", "--weight", "--drop", "--missing", "--categorical"])
def test_decisions_need_a_table(flag):
    np.save("t.npy", X)
    done = here("train", "t.npy", *FAST, flag, "a")
    assert (
        done.exit_code == 2
        and f"{flag} needs a table, such as a .csv file; t.npy holds numbers only" in done.stderr
    )


def test_a_negative_weight_is_refused_with_its_line():
    write(w=["-1" if k == 7 else "1" for k in range(N)])
    done = here("train", "t.csv", *FAST, "--weight", "w")
    assert done.exit_code == 3 and "column 'w' of --weight: line 9 holds '-1'" in done.stderr


def test_rows_without_a_target_are_counted_wherever_rows_are_reported():
    write("gaps.csv", y=["" if k % 30 == 0 else COLUMNS["y"][k] for k in range(N)])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(messages, "MAX_LISTED_NAMES", 0)
        done = here("train", "gaps.csv", *FAST, "--drop", "patient,day,w", "--json")
    said = "\n8 rows lack a target and are left out\n"
    assert said in done.stderr  # however much else is said
    assert json.loads(done.stdout)["rows_without_target"] == 8
    assert json.loads(Path("run/result.json").read_text())["rows_without_target"] == 8
    assert "; 8 rows lack a target and are left out" in here("evaluate", "run", "gaps.csv").stderr
    assert "; 8 rows lack a target and are left out" in here("inspect", "gaps.csv").stdout
    assert json.loads(here("inspect", "gaps.csv", "--json").stdout)["target"]["missing"] == 8
    assert (
        json.loads(here("train", "t.csv", *FAST, "--overwrite", "--json").stdout)["rows_without_target"] == 0
    )


def test_order_of_day_and_month_is_kept_in_the_run_and_in_the_model():
    days = [f"{1 + k % 12:02}/{1 + k % 11:02}/2024" for k in range(N)]
    write(day=days)
    assert "--day-first or --month-first decides" in here("inspect", "t.csv").stdout
    assert "%d/%m/%Y" in here("inspect", "t.csv", "--day-first").stdout
    assert "%m/%d/%Y" in here("inspect", "t.csv", "--month-first").stdout
    Path("s.toml").write_text('data = "t.csv"\nday_first = true\n')
    done = here("train", "--config", "s.toml", *FAST)
    assert done.exit_code == 0 and "--day-first" not in done.stderr, done.output
    assert tomllib.loads(Path("run/config.toml").read_text(encoding="utf-8"))["day_first"] is True
    Path("one.csv").write_text("a,b,patient,day,w\n0.5,0.5,P1,25/03/2024,1\n")
    assert here("predict", "run", "one.csv").exit_code == 0
    done = here("train", "t.csv", "--month-first", *FAST[:-1], "other")
    assert done.exit_code == 0, done.output
    done = here("predict", "other", "one.csv")
    assert done.exit_code == 3 and "line 2 holds '25/03/2024'" in done.stderr


def test_train_and_inspect_warn_of_a_column_of_which_half_are_numbers():
    write(price=[f"{k}.5" if k % 3 else f"{k} kg" for k in range(N)])
    for done in (here("train", "t.csv", "--target", "y", *FAST), here("inspect", "t.csv", "--target", "y")):
        said = " ".join(done.output.split())
        assert done.exit_code == 0 and "160 of its 240 cells are numbers; line 2 holds '0 kg'" in said
        assert "--missing '0 kg,3 kg,6 kg'" in said and "--categorical price" in said


def test_misspelt_class_is_a_warning_with_its_line():
    write(y=["ripe" if k % 2 else "green" for k in range(N - 1)] + ["gren"])
    assert "class 'gren' has 1 row, the first in line 241" in here("train", "t.csv", *FAST).stderr


def test_command_and_frame_answer_alike_where_pandas_reads_missing_cells():
    pandas = pytest.importorskip("pandas")
    words = [("NA", "east", "None", "west", "null")[k % 5] for k in range(N)]
    write(word=words, y=["a" if word in ("NA", "west") else "b" for word in words])
    assert here("train", "t.csv", "--target", "y", *FAST).exit_code == 0
    assert here("predict", "run", "t.csv", "--probabilities", "--output", "p.parquet").exit_code == 0
    written = pandas.read_parquet("p.parquet")[["p_a", "p_b"]].to_numpy()
    model = Model.load("run", "numpy")
    for how in ({}, {"keep_default_na": False}):
        frame = pandas.read_csv("t.csv", **how)
        np.testing.assert_array_equal(model.probabilities(frame), written)


def test_name_that_differs_in_case_is_suggested():
    done = here("train", "t.csv", "--target", "Y", *FAST)
    assert done.exit_code == 3 and "has no column 'Y'; did you mean 'y'?" in done.stderr
    assert here("train", "t.csv", *FAST).exit_code == 0
    write(A=COLUMNS["a"])
    Path("u.csv").write_text(Path("t.csv").read_text().replace("a,b,", "AA,b,", 1))
    done = here("predict", "run", "u.csv")
    assert done.exit_code == 3 and "'a'; is 'A' meant for 'a'?" in done.stderr


def test_one_row_is_not_one_rows():
    write()
    Path("one.csv").write_text("".join(Path("t.csv").read_text().splitlines(keepends=True)[:2]))
    done = here("inspect", "one.csv", "--target", "y")
    assert "1 row × 5 columns" in done.stdout and "1 class: " in done.stdout, done.stdout
