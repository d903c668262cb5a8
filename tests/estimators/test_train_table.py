"""`train_table` does in Python what `ffnn-gpu train` does, from a frame or a file, and refuses the same."""

import os

import numpy as np
import pytest

import ffnn_gpu
from ffnn_gpu.cli import result, train
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.estimators.model import Model

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pa = pytest.importorskip("pyarrow")
pytest.importorskip("duckdb")

RNG = np.random.default_rng(4)
N = 160
FRAME = pd.DataFrame(
    {
        "id": [f"r{k}" for k in range(N)],
        "x": np.where(np.arange(N) % 9 == 0, np.nan, RNG.normal(size=N).round(3)),
        "color": RNG.choice(["red", "green", "blue"], N),
        "code": RNG.choice(["007", "7", "08"], N),
        "w": RNG.random(N).round(3),
        "label": RNG.choice(["yes", "no", "perhaps"], N),
    }
)
FRAME.loc[3:5, "label"] = None
SETTINGS = {"hidden": (8,), "epochs": 3, "device": "numpy", "weight": "w", "seed": 3}


@pytest.fixture(scope="module")
def command(tmp_path_factory):
    """Return what the command makes of the same rows in a text file."""
    folder = tmp_path_factory.mktemp("run")
    FRAME.to_csv(folder / "t.csv", index=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(result, "_draw_plots", lambda *arguments: None)
        config = TrainConfig(data=str(folder / "t.csv"), target="label", out=str(folder / "run"), **SETTINGS)
        return train.train(config)


FORMS = {
    "pandas": lambda folder: FRAME,
    "polars": lambda folder: pl.from_pandas(FRAME),
    "arrow": lambda folder: pa.Table.from_pandas(FRAME, preserve_index=False),
    "columns": lambda folder: FRAME.to_dict("list"),
    "dicts": lambda folder: FRAME.to_dict("records"),
    "a path": lambda folder: folder.parent / "t.csv",
    "a path as text": lambda folder: str(folder.parent / "t.csv"),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_table_trains_the_model_of_the_command(command, form):
    made = ffnn_gpu.train_table(FORMS[form](command.folder), "label", verbose=0, **SETTINGS)
    want = command.model.network.params.to_host()
    for name, value in made.model.network.params.to_host().items():
        np.testing.assert_array_equal(value, want[name])
    assert made.test == command.report["test"]
    assert (made.rows, made.rows_without_target) == (command.report["rows"], 3)
    assert {*made.left_out} == {"id", "w"} and len(made.history) == 3
    assert repr(made).startswith("<TrainedTable: mlp, test accuracy ") and len(repr(made)) < 200
    assert repr(made.model) in repr(made) and repr(made.model).startswith("<Model: multiclass of 'label', ")
    assert (made.model.predict(FRAME) == command.model.predict(FRAME)).all()


def test_trained_model_is_saved_and_loaded(tmp_path):
    made = ffnn_gpu.train_table(FRAME.drop(columns="label"), "x", verbose=0, hidden=4, epochs=1, device="cpu")
    made.model.save(tmp_path / "model")
    again = Model.load(tmp_path / "model", "numpy")
    np.testing.assert_array_equal(again.predict(FRAME), made.model.predict(FRAME))
    assert os.listdir(tmp_path) == ["model.safetensors"]


def test_a_query_trains_too(command):
    query = f"SELECT * FROM '{command.folder.parent / 't.csv'}' WHERE label IS NOT NULL"
    made = ffnn_gpu.train_table(None, "label", query=query, verbose=0, **SETTINGS)
    assert sum(made.rows.values()) == N - 3 and made.rows_without_target == 0


@pytest.mark.parametrize(("model", "fit"), [("tabular", "fit_tabular"), ("mlp", "fit_model")])
def test_defaults_are_those_of_the_command(monkeypatch, capfd, model, fit):
    """The model is an ensemble, and one network for a large table, with a reason on standard error."""
    module, seen = ffnn_gpu.estimators.train_table, []
    monkeypatch.setattr(module, fit, lambda config, *_: seen.append(config) or (None, None))
    monkeypatch.setattr(module, "members_history", lambda ensemble: None)
    monkeypatch.setattr(module, "evaluated", lambda *_: {})
    if model == "mlp":
        monkeypatch.setattr(ffnn_gpu.estimators.model_choice, "rows_in_full", lambda preset: 100)
    made = ffnn_gpu.train_table(FRAME)
    assert seen == [TrainConfig(model=model)] and made.choice.model == model
    assert capfd.readouterr().err == f"{made.choice}\n"
    ffnn_gpu.train_table(FRAME, verbose=0)
    assert capfd.readouterr().err == ""


REFUSED = {
    "an unknown setting": ((FRAME,), {"epoch": 3}, ConfigurationError, "did you mean 'epochs'"),
    "a wrong value": ((FRAME,), {"epochs": 0}, ConfigurationError, "epochs = 0"),
    "a setting of the command": ((FRAME,), {"out": "run"}, ConfigurationError, r"model.save\(path\)"),
    "an unknown target": ((FRAME, "lable"), {}, DataError, "^target: the frame .* did you mean 'label'"),
    "an unknown column": ((FRAME,), {"group": "colour"}, DataError, "^group: .*did you mean 'color'"),
    "a matrix": ((np.ones((9, 2)),), {}, DataError, "data is ndarray; pass a data frame"),
    "nothing": ((None,), {}, DataError, "data is NoneType; pass a data frame"),
    "no such file": (("nothing.csv",), {}, DataError, "there is no file nothing.csv"),
    "no table": (("digits",), {}, DataError, "digits is no table"),
    "two sources": ((FRAME,), {"query": "SELECT 1"}, DataError, "data and query are both given"),
    "two splits": (
        (FRAME,), {"group": "color", "split_by": "w"}, ConfigurationError, "^group and split_by each decide",
    ),
    "a bad date": (
        (FRAME.assign(t=["01/02/2024"] * (N - 2) + ["01/13/2024"] * 2), "label"), {"day_first": True},
        DataError, "with day_first=True, .* or day_first=False",
    ),
    "a bad cell": (
        (FRAME.astype({"x": object}).replace({"x": {FRAME.x[1]: "12 kg"}}), "label"), {}, DataError,
        r"row 1 holds '12 kg'. If that means a missing cell, use missing=\['12 kg'\]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_calls_are_refused_in_the_words_of_python(case):
    arguments, settings, error, message = REFUSED[case]
    with pytest.raises(error, match=message) as raised:
        ffnn_gpu.train_table(*arguments, verbose=0, **settings)
    assert "--" not in str(raised.value)


def test_decisions_without_evidence_are_warnings_in_the_words_of_python():
    dates = [f"{1 + k % 5:02d}/{1 + k % 7:02d}/2024" for k in range(N)]
    found = ffnn_gpu.train_table(FRAME.assign(t=dates), "label", epochs=1, verbose=0)
    assert any(
        "the month first" in each and "day_first=True or day_first=False" in each for each in found.warnings
    )
    assert not ffnn_gpu.train_table(FRAME, "label", epochs=1, verbose=0).warnings


def test_a_cell_like_an_option_is_quoted_as_it_stands():
    frame = FRAME.astype({"x": object}).replace({"x": {FRAME.x[1]: "--drop"}})
    with pytest.raises(DataError, match="row 1 holds '--drop'"):
        ffnn_gpu.train_table(frame, "label", verbose=0)


def test_predictions_and_errors_of_huge_targets_differ_by_their_unit_alone():
    x, y, unit = RNG.normal(size=N), RNG.normal(size=N), 2.0**996  # 10³⁰⁰
    settings = SETTINGS | {"weight": None}
    small, large = (
        ffnn_gpu.train_table(pd.DataFrame({"x": x, "y": factor * y}), "y", verbose=0, **settings)
        for factor in (1.0, unit)
    )
    rows = pd.DataFrame({"x": x})
    np.testing.assert_array_equal(large.model.predict(rows), unit * small.model.predict(rows))
    for name, factor in {"rmse": unit, "mae": unit, "r2": 1.0, "loss": 1.0}.items():
        assert large.test[name] == pytest.approx(factor * small.test[name], rel=1e-12)
