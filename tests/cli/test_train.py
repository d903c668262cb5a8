"""`train` splits the data, trains, and writes a run folder that can be loaded and resumed."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np
import pytest

import ffnn_gpu
from ffnn_gpu.backends.choice import NumpyBackend
from ffnn_gpu.backends.cuda.probe import Probe
from ffnn_gpu.checkpoints import checkpoint
from ffnn_gpu.cli import messages, reading, result, train
from ffnn_gpu.cli.settings import TrainConfig, resolve
from ffnn_gpu.data.readers import Dataset
from ffnn_gpu.errors import CheckpointError, ConfigurationError, DataError, DivergedError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.nn.layers import BatchNorm, Dense, Dropout, LayerNorm, Softmax
from tests.checkpoints.old_folder import aged

RNG = np.random.default_rng(0)
X = RNG.normal(size=(120, 4)) * [1, 10, 100, 1000] + [0, 5, 50, 500]
CLASSES = np.array(["ant", "bee", "cat"])[np.digitize(X[:, 0], [-0.4, 0.4])]
PRICE = 1000 * X[:, 0] + X[:, 2] + 5000


def csv_file(folder, y, name="data.csv"):
    path = folder / name
    rows = [",".join([*(f"{v:.6f}" for v in row), str(label)]) for row, label in zip(X, y, strict=True)]
    path.write_text("\n".join(["a,b,c,d,answer", *rows]) + "\n", encoding="utf-8")
    return str(path)


def config(data, **settings):
    return TrainConfig(
        **{"data": data, "hidden": (8,), "epochs": 3, "batch_size": 16, "device": "numpy", **settings}
    )


def dataset(y, x_test=None, y_test=None):
    return Dataset(X, y, None, None, "made", x_test, y_test)


@pytest.fixture
def no_plots(monkeypatch):
    """Skip the plots: they take a second."""
    monkeypatch.setattr(result, "_draw_plots", lambda *arguments: None)


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return csv_file(tmp_path, CLASSES)


@pytest.fixture
def classes(here, no_plots):
    return here


def vary(config, **settings):
    return msgspec.structs.replace(config, **settings)


# ---------------------------------------------------------------- the split


@pytest.mark.parametrize("y", [CLASSES, PRICE])
def test_split_sets_are_disjoint_and_complete(y):
    x = np.arange(len(y))[:, None]
    split = train.split_rows(replace(dataset(y), x=x), Task.of(y), config("", test=0.25, validation=0.1))
    assert split.counts() == {"train": 81, "validation": 9, "test": 30}
    rows = np.concatenate([part[0][:, 0] for part in vars(split).values()])
    assert sorted(rows) == [*range(120)]
    for part in vars(split).values():
        np.testing.assert_array_equal(part[1], y[part[0][:, 0]])


def test_test_set_has_the_proportions_of_the_classes():
    split = train.split_rows(dataset(CLASSES), Task.of(CLASSES), config("", test=0.5))
    for of_class in ("ant", "bee", "cat"):
        assert abs(np.isin(split.test[1], of_class).mean() - np.isin(CLASSES, of_class).mean()) < 0.02


def test_test_set_of_the_source_is_used():
    split = train.split_rows(
        dataset(CLASSES, X[:7], CLASSES[:7]), Task.of(CLASSES), config("", test=0.5, validation=0)
    )
    assert split.test[0] is not None and split.counts() == {"train": 120, "validation": 0, "test": 7}


def test_standardizer_is_never_fitted_on_held_out_rows():
    """If held-out features and targets change, the statistics of the training set do not."""
    settings = config("", test=0.25, validation=0.1)
    row = np.arange(len(X))[:, None]
    for y in (CLASSES, PRICE):
        task = Task.of(y)
        held_out = ~np.isin(row[:, 0], train.split_rows(replace(dataset(y), x=row), task, settings).train[0])
        other_y = y if task.labels else np.where(held_out, 1e9, y)
        spoilt = replace(dataset(y), x=np.where(held_out[:, None], 1e6, X), y=other_y)
        models = [
            train.prepare(settings, d, [], train.split_rows(d, task, settings).train, task, "numpy")
            for d in (dataset(y), spoilt)
        ]
        assert models[0].extras() == models[1].extras()
        np.testing.assert_allclose(models[0].standardizer.mean, X[~held_out].mean(axis=0))


# ---------------------------------------------------------------- network


def test_hidden_layers_are_dense_then_norm_then_dropout():
    def kinds(**settings):
        data = dataset(CLASSES)
        task = Task.of(CLASSES, loss=settings.pop("loss", "auto"))
        model = train.prepare(config("", **settings), data, [], (X, CLASSES), task, "numpy")
        return [type(layer) for layer in model.network.layers]

    assert kinds(dropout=0) == [Dense, Dense]
    assert kinds(dropout=0.5, normalization="batch") == [Dense, BatchNorm, Dropout, Dense]
    assert kinds(dropout=0.5, normalization="layer", hidden=()) == [Dense]
    assert kinds(normalization="layer", loss="cross_entropy") == [Dense, LayerNorm, Dropout, Dense, Softmax]


@pytest.mark.parametrize(
    ("settings", "lr"),
    [
        ({}, 3e-3),
        ({"schedule": "cosine"}, 1e-3),
        ({"lr": 0.5}, 0.5),
        ({"optimizer": "sgd"}, 3e-2),
        ({"optimizer": "lion"}, 3e-4),
        ({"optimizer": "muon"}, 6e-2),
    ],
)
def test_peak_of_one_cycle_is_three_times_the_default_rate_of_the_optimizer(classes, settings, lr):
    rates = train.train(config(classes, epochs=20, batch_size=96, **settings)).history["lr"]
    assert max(rates) == pytest.approx(lr, rel=0.05)


# ---------------------------------------------------------------- the folder


def test_run_folder_contains_all_files(here):
    pytest.importorskip("matplotlib")
    lines = []
    done = train.train(config(here), announce=lines.append)
    assert done.folder.as_posix() == "runs/data-1"
    assert {path.name for path in done.folder.iterdir()} == {
        "config.toml",
        "metrics.jsonl",
        "history.csv",
        "checkpoint",
        "model.safetensors",
        "result.json",
        "learning_curve.png",
        "confusion_matrix.png",
    }
    rows = [json.loads(line) for line in (done.folder / "metrics.jsonl").read_text().splitlines()]
    assert (
        rows == done.history.rows
        and [row["epoch"] for row in rows] == [1, 2, 3]
        and "val_accuracy" in rows[0]
    )
    report = json.loads((done.folder / "result.json").read_text())
    assert report == done.report and report["rows"] == {"train": 86, "validation": 10, "test": 24}
    assert {*report["versions"]} == {"ffnn_gpu", "python", "numpy"} and report["interrupted"] is None
    assert lines[0] == (
        "120 rows × 4 features, target 'answer' (the last column; --target changes it), 3 classes → "
        "multiclass classification, softmax_cross_entropy on 3 outputs"
    )
    assert lines[-1].startswith("86 rows to train, 10 to validate, 24 to test; backend numpy")


def test_data_line_names_the_target_if_it_was_chosen(classes, tmp_path):
    def shown(data, y=PRICE, name=None, **settings):
        line = messages.data_line(replace(dataset(y), target_name=name), Task.of(y), config(data, **settings))
        return line.removeprefix("120 rows × 4 features, ").split(" → ")[0]

    assert shown("a.csv") == (
        f"target column 4 (the last column; --target changes it), "
        f"values from {PRICE.min():.6g} to {PRICE.max():.6g}"
    )
    assert shown("a.npy", CLASSES, target=2) == "target column 2, 3 classes"
    assert shown("a.csv", CLASSES, "kind", target="kind") == "target 'kind', 3 classes"
    assert shown("iris", CLASSES, "target") == shown("a.npz", CLASSES) == "3 classes"


def test_default_dropout_depends_on_the_task(classes, tmp_path):
    def rates(y, **settings):
        model = train.prepare(config("", **settings), dataset(y), [], (X, y), Task.of(y), "numpy")
        layers = model.network.layers
        return [layer.rate for layer in layers if isinstance(layer, Dropout)]

    assert (rates(CLASSES), rates(PRICE), rates(PRICE, dropout=0.5), rates(PRICE, dropout=0.0)) == (
        [0.4],
        [0.1],
        [0.5],
        [],
    )


@pytest.mark.parametrize(
    ("error", "shown"),
    [
        (
            "ModuleNotFoundError: No module named 'cupy'",
            'CuPy is not installed; on a machine with a GPU: pip install "ffnn_gpu[cuda12x]"',
        ),
        ("CUDARuntimeError: cudaErrorNoDevice: no CUDA device", "no GPU: no CUDA device; see ffnn-gpu info"),
    ],
)
def test_reason_for_a_missing_gpu_is_one_phrase(monkeypatch, error, shown):
    rows, backend = {"train": 3, "validation": 2, "test": 1}, NumpyBackend()
    monkeypatch.setattr(messages, "probe", lambda index: Probe(index, "count devices", error))
    backend.reason = "asked for"
    assert messages.split_line(rows, backend).endswith("; backend numpy (asked for)")
    backend.reason = "chosen by auto: CUDA device 0 cannot be used; it failed at the stage …"
    assert (
        messages.split_line(rows, backend)
        == f"3 rows to train, 2 to validate, 1 to test; backend numpy ({shown})"
    )


def test_early_stop_and_best_epoch_are_reported(classes):
    lines = []
    done = train.train(config(classes, epochs=400, lr=0.05, early_stopping=2), announce=lines.append)
    report = done.report
    best = int(np.argmin(done.history["val_loss"])) + 1
    assert report["best_epoch"] == best == report["epochs"] - 2 < 398
    lines = messages.result_lines(done.folder, report)
    assert f"stopped early after epoch {best + 2}, best epoch {best}, in " in "\n".join(lines)
    assert "--resume" not in "".join(lines) and "next:" in lines
    assert "next:" not in messages.result_lines(done.folder, report, brief=True)
    assert not [line for line in lines if "early stopping" in line]
    done = train.train(config(classes, epochs=1, early_stopping=2, validation=0.0), announce=lines.append)
    assert (
        "no validation set: early stopping uses the training loss" in lines and done.report["best_epoch"] == 1
    )


def test_more_epochs_are_suggested_if_the_rate_is_constant(classes):
    for schedule, proposed in (("constant", True), ("one_cycle", False), ("cosine", False)):
        done = train.train(config(classes, epochs=1, schedule=schedule))
        lines = messages.result_lines(done.folder, done.report)
        assert any("--resume" in line for line in lines) == proposed


def test_run_gets_the_first_free_number(classes):
    assert [train.train(config(classes, epochs=1)).folder.as_posix() for _ in range(2)] == [
        "runs/data-1",
        "runs/data-2",
    ]


def test_plot_of_a_regression_is_predicted_against_true(here, tmp_path):
    pytest.importorskip("matplotlib")
    done = train.train(config(csv_file(tmp_path, PRICE), epochs=1))
    assert (done.folder / "predicted_against_true.png").is_file()
    assert not (done.folder / "confusion_matrix.png").exists()


def test_saved_model_and_checkpoints_predict_like_the_trained_model(classes):
    done = train.train(config(classes, early_stopping=2, ema=0.9))
    want = done.model.predict(X)
    for place in ("", "model"):
        np.testing.assert_array_equal(Model.load(done.folder / place, "numpy").predict(X), want)
    for place in ("checkpoint/best", "checkpoint/last"):
        assert set(Model.load(done.folder / place, "numpy").predict(X)) <= {"ant", "bee", "cat"}


def test_run_folder_of_an_earlier_version_is_loaded_resumed_and_overwritten(classes):
    new, first = config(classes, out="new", epochs=2), config(classes, out="old", epochs=2)
    train.train(new)
    want = train.train(first).model.predict(X)
    folder = Path("old")
    for place in ("model", "checkpoint/last", "checkpoint/best"):
        aged(folder / f"{place}.safetensors")
    for place in ("", "model"):
        np.testing.assert_array_equal(Model.load(folder / place, "numpy").predict(X), want)
    with pytest.raises(CheckpointError, match=r"is a run folder: .* load\('old/model'\)"):
        ffnn_gpu.load(folder, "numpy")
    losses = [
        [row["loss"] for row in train.train(vary(begun, epochs=4), resume=True).history.rows]
        for begun in (first, new)
    ]
    assert losses[0] == losses[1] and len(losses[0]) == 4
    assert (folder / "model.safetensors").read_bytes() == Path("new/model.safetensors").read_bytes()
    train.train(first, overwrite=True)
    assert not (folder / "model").exists() and not (folder / "checkpoint" / "last").exists()


def test_network_of_a_run_folder_is_loaded_from_its_model(classes):
    folder = train.train(config(classes, epochs=1)).folder
    with pytest.raises(CheckpointError) as caught:
        ffnn_gpu.load("runs/data-1", "numpy")
    assert str(caught.value) == (
        "runs/data-1 is a run folder: use ffnn_gpu.Model.load, or "
        f"load('{folder / 'model.safetensors'}') for the bare network"
    )
    assert (
        ffnn_gpu.load(folder / "model", "numpy").n_in
        == ffnn_gpu.Model.load(folder, "numpy").network.n_in
        == 4
    )


def test_regression_metrics_are_in_the_unit_of_the_target(classes, tmp_path):
    done = train.train(
        config(csv_file(tmp_path, PRICE), hidden=(), epochs=20, lr=0.15, dtype="float64", test=0.3)
    )
    y, prediction = PRICE, done.model.predict(X)
    rmse = np.sqrt(np.mean((y - prediction) ** 2))
    assert rmse == pytest.approx(done.report["test"]["rmse"], rel=1) and done.report["test"]["r2"] > 0.9
    assert 0.5 * rmse < done.history["val_rmse"][-1] < 2 * rmse < 1000  # not in standard deviations


def test_features_and_target_are_not_changed_without_standardize(classes):
    model = train.train(config(classes, standardize=False)).model
    assert model.standardizer is None and model.task.units is None


def test_cut_is_a_setting_for_arrays(classes, tmp_path):
    np.savez(tmp_path / "a.npz", x=X, y=CLASSES)
    data = str(tmp_path / "a.npz")
    assert train.train(config(data, epochs=1)).model.limit == 5
    assert train.train(config(data, epochs=1, cut=2.5)).model.limit == 2.5
    assert train.train(config(data, epochs=1, cut=0.0)).model.limit is None
    of_a_table = train.train(config(classes, epochs=1, cut=2.5)).model
    assert of_a_table.limit is None and abs(of_a_table.features(1e9 * X)).max() <= 3


def test_message_names_constant_columns(classes, tmp_path):
    lines, x = [], np.column_stack([X, np.full((120, 7), 7.0)])
    for columns in (4, 5, 11):
        np.savez(tmp_path / "a.npz", x=x[:, :columns], y=CLASSES)
        train.train(config(str(tmp_path / "a.npz"), epochs=1), announce=lines.append)
    assert [line for line in lines if "constant" in line] == [
        "column 4 is constant in the training rows and is ignored",
        "columns 4, 5, 6, 7, 8, … (7 in all) are constant in the training rows and are ignored",
    ]


def test_run_without_held_out_rows_has_no_test_metrics(classes):
    done = train.train(config(classes, test=0, validation=0))
    assert done.report["test"] is None and "val_loss" not in done.history.rows[0]
    assert done.report["rows"] == {"train": 120, "validation": 0, "test": 0}


def test_run_repeats_from_its_own_configuration(classes):
    a = train.train(config(classes, seed=3))
    b = train.train(config(classes, seed=3))
    assert [row["loss"] for row in a.history.rows] == [row["loss"] for row in b.history.rows]
    assert (a.folder / "config.toml").read_bytes() == (b.folder / "config.toml").read_bytes()
    assert (a.folder / "model.safetensors").read_bytes() == (b.folder / "model.safetensors").read_bytes()


@pytest.mark.parametrize(
    "settings",
    [
        {"loss": "cross_entropy"},
        {"label_smoothing": 0.1},
        {"class_weight": "balanced"},
        {"optimizer": "sgd", "lr": 0.01},
        {"normalization": "batch", "accumulate": 2},
        {"schedule": "cosine", "clip_norm": 1.0, "l1": 1e-4, "l2": 1e-4},
        {"metrics": ("balanced_accuracy", "f1_macro")},
        {"weight_decay": 0.0, "ema": 0.9},
    ],
)
def test_every_setting_trains(classes, settings):
    done = train.train(config(classes, epochs=1, **settings))
    assert np.isfinite([*done.report["test"].values()]).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"activation": "rleu"}, "no activation is called 'rleu'"),
        ({"optimizer": "adm"}, "no optimizer is called 'adm'"),
        ({"schedule": "cosin"}, "no schedule is called 'cosin'"),
        ({"metrics": ("acuracy",)}, "no metric is called 'acuracy'"),
        ({"loss": "hinge"}, "loss 'hinge' does not fit"),
        ({"metrics": ("r2",)}, "metric 'r2' does not fit"),
        ({"device": "tpu"}, "no device is called 'tpu'"),
    ],
)
def test_wrong_name_raises_an_error_before_anything_is_written(classes, tmp_path, settings, message):
    with pytest.raises(ConfigurationError, match=message):
        train.train(config(classes, **settings))
    assert not (tmp_path / "runs").exists()


def test_class_weight_of_a_regression_is_refused(tmp_path):
    with pytest.raises(
        ConfigurationError, match="class_weight needs one class per row; this is a regression task"
    ):
        train.train(config(csv_file(tmp_path, PRICE), class_weight="balanced"))


def test_without_matplotlib_one_line_reports_that_there_are_no_plots(here, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    lines = []
    done = train.train(config(here, epochs=1), announce=lines.append)
    assert "no plots: matplotlib is not installed" in lines[-1]
    assert (done.folder / "result.json").is_file() and not [*done.folder.glob("*.png")]


def test_diverged_run_writes_its_history(classes):
    with pytest.raises(DivergedError), np.errstate(all="ignore"):
        train.train(
            config(
                classes,
                optimizer="sgd",
                lr=1e30,
                schedule="constant",
                out="runs/x",
                loss="auto",
                epochs=9,
                normalization="none",
                standardize=False,
            )
        )
    assert {path.name for path in Path("runs/x").iterdir()} >= {"config.toml", "metrics.jsonl"}


# ---------------------------------------------------------------- overwrite and resume


def test_existing_run_is_replaced_only_when_asked(classes, tmp_path):
    first = config(classes, out="runs/x")
    train.train(first)
    with pytest.raises(
        ConfigurationError, match=r"^runs/x exists; use --resume, --overwrite or another --out$"
    ):
        train.train(first)
    (tmp_path / "runs/x/notes.txt").write_text("mine")
    assert len(train.train(vary(first, epochs=2, seed=1), overwrite=True).history) == 2
    assert (tmp_path / "runs/x/notes.txt").read_text() == "mine"


def test_folder_that_is_no_run_is_never_replaced(classes, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match="home exists and is not a run folder; choose another --out"):
        train.train(config(classes, out="home"), overwrite=True)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["thesis.txt"]


def test_finished_run_can_be_resumed_with_more_epochs(classes):
    train.train(config(classes, out="runs/x", schedule="constant"))
    longer = train.train(config(classes, out="runs/x", schedule="constant", epochs=5), resume=True)
    whole = train.train(config(classes, out="runs/y", schedule="constant", epochs=5))
    assert [row["loss"] for row in longer.history.rows] == [row["loss"] for row in whole.history.rows]
    models = [checkpoint.load(f"runs/{name}/model", "numpy").params.to_host() for name in "xy"]
    for name, value in models[0].items():
        np.testing.assert_array_equal(value, models[1][name])


def test_run_resumes_from_another_folder(classes, tmp_path, monkeypatch):
    train.train(config("data.csv", out="runs/x", schedule="constant"))
    saved = resolve({}, file="runs/x/config.toml", environment={})
    assert saved.data == str(tmp_path / "data.csv")
    monkeypatch.chdir(tmp_path / "runs")
    assert len(train.train(vary(saved, out="x", epochs=4), resume=True).history) == 4
    assert train.held_out("x", Model.load("x", "numpy"))[0].x.shape == (24, 4)


def test_resuming_with_other_settings_is_refused(classes):
    first = config(classes, out="runs/x")
    train.train(first)
    with pytest.raises(
        ConfigurationError,
        match=r"runs/x cannot be resumed .*: hidden \(8,\) → \(9,\), seed 0 → 4; only epochs",
    ):
        train.train(vary(first, hidden=(9,), seed=4), resume=True)
    with pytest.raises(ConfigurationError, match="give one of them"):
        train.train(first, resume=True, overwrite=True)
    with pytest.raises(ConfigurationError, match="there is nothing to resume in runs/y"):
        train.train(vary(first, out="runs/y"), resume=True)


def test_unknown_data_creates_no_run_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError):
        train.train(config("nothing.csv"))
    assert [*tmp_path.iterdir()] == []


def test_unknown_label_in_the_test_set_is_an_error_before_training(tmp_path, no_plots):
    np.savez(tmp_path / "a.npz", x=X, y=CLASSES, x_test=X[:2], y_test=np.array(["ant", "dog"]))
    settings = config(str(tmp_path / "a.npz"), out=str(tmp_path / "r"))
    with pytest.raises(DataError, match="label 'dog' at row 1"):
        train.train(settings)
    assert not (tmp_path / "r").exists()


def test_reduce_on_plateau_is_a_schedule_by_name(tmp_path):
    config = TrainConfig(
        data="iris", hidden=(4,), epochs=2, schedule="reduce_on_plateau", out=str(tmp_path / "run")
    )
    assert len(train.train(config).history) == 2
    assert resolve({}, file=tmp_path / "run" / "config.toml", environment={}).schedule == "reduce_on_plateau"


# ---------------------------------------------------------------- refused before the first step


def with_test(**changed):
    x, y = X.copy(), PRICE.copy()
    return dataset(y, changed.get("x", x[:20]), changed.get("y", y[:20]))


def replaced(values, at, value):
    values = np.array(values)
    values[at] = value
    return values


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": replaced(X[:20], (3, 1), np.nan)}, "the test set: x holds 1 values that are not finite; the"),
        ({"x": replaced(X[:20], (3, 1), np.inf)}, "the test set: x holds 1 values that are not finite"),
        ({"y": replaced(PRICE[:20], 3, np.nan)}, "the test set: "),
        ({"y": replaced(PRICE[:20], 3, np.inf)}, "the test set: "),
        ({"y": replaced(PRICE[:20], 3, 1e300)}, "the test set: "),
    ],
)
def test_fault_of_the_test_set_is_found_before_anything_is_written(tmp_path, monkeypatch, changed, message):
    monkeypatch.setattr(reading, "read", lambda *source: with_test(**changed))
    with pytest.raises(DataError, match=message):
        train.train(config("made", out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("row", range(0, 120, 7))
def test_value_that_is_not_finite_is_found_before_the_training_run_wherever_it_is(tmp_path, monkeypatch, row):
    x = replaced(X, (row, 2), np.nan)
    monkeypatch.setattr(reading, "read", lambda *source: Dataset(x, CLASSES, None, None, "made"))
    with pytest.raises(DataError, match="nan"):
        train.train(config("made", out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_metric_that_the_test_set_does_not_define_is_refused_before_anything_is_written(
    tmp_path, monkeypatch
):
    two = np.arange(120) % 2
    made = Dataset(X, two, None, None, "made", X[:9], np.zeros(9, int))
    monkeypatch.setattr(reading, "read", lambda *source: made)
    with pytest.raises(DataError, match="the test set: roc_auc needs two classes; y has 1"):
        train.train(config("made", metrics=("roc_auc",), out=str(tmp_path / "run")))
    assert not (tmp_path / "run").exists()


def test_batch_of_one_row_is_refused_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "read", lambda *source: Dataset(X[:81], CLASSES[:81], None, None, "made"))
    settings = {"test": 0.0, "validation": 0.0, "normalization": "batch", "out": str(tmp_path / "run")}
    with pytest.raises(
        ConfigurationError, match="81 rows in batches of batch_size=16 leave a batch of 1 row"
    ):
        train.train(config("made", **settings))
    assert not (tmp_path / "run").exists()


def test_large_salaries_train_in_every_type(tmp_path, monkeypatch, no_plots):
    salaries = 3e4 * X[:, :2] + 5e4
    monkeypatch.setattr(reading, "read", lambda *source: Dataset(salaries, 1e6 * PRICE, None, None, "made"))
    done = train.train(config("made", dtype="float16", out=str(tmp_path / "run"), lr=0.001))
    assert done.model.predict(salaries).mean() == pytest.approx(1e6 * PRICE.mean(), rel=0.5)


def test_resume_with_fewer_epochs_than_are_finished_is_refused_and_changes_nothing(tmp_path, here, no_plots):
    run = str(tmp_path / "run")
    train.train(config(here, out=run, schedule="constant"))
    before = {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}
    with pytest.raises(ConfigurationError, match="has 3 finished epochs; --epochs 2 must not be fewer"):
        train.train(config(here, out=run, schedule="constant", epochs=2), resume=True)
    assert before == {path: path.read_bytes() for path in (tmp_path / "run").rglob("*") if path.is_file()}


def test_damaged_result_is_named(tmp_path, here, no_plots):
    done = train.train(config(here, out=str(tmp_path / "run"), epochs=1))
    file = tmp_path / "run/result.json"
    text = file.read_text("utf-8")
    file.write_text("\ufeff" + text, encoding="utf-8")
    assert len(train.held_out(done.folder, done.model)[0].x) == 24
    file.write_text(text[:40], encoding="utf-8")
    with pytest.raises(DataError, match=r"result\.json is damaged"):
        train.held_out(done.folder, done.model)
