"""A model finds the columns of a frame by name, and answers as for the rows of a text file."""

import io
import re
from pathlib import Path

import numpy as np
import pytest

from ffnn_gpu.cli import result, train
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.errors import DataError, ShapeError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.train_table import train_table
from ffnn_gpu.tables.frames import table_of
from ffnn_gpu.tables.sources import read_table

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pytest.importorskip("duckdb")
sparse = pytest.importorskip("scipy.sparse")

RNG = np.random.default_rng(0)
N = 120
COLUMNS = {
    "x": RNG.normal(size=N),
    "color": np.array(["red", "blue", "green"], object)[np.arange(N) % 3],
    "member": RNG.integers(0, 2, N) == 1,
    "seen": np.datetime64("2024-01-01", "s") + RNG.integers(0, 10**7, N).astype("m8[s]"),
    "n": RNG.integers(0, 9, N),
}
FRAME = pd.DataFrame(COLUMNS)
FRAME.loc[::10, "x"] = None
FRAME.loc[5::20, "color"] = None
Y = np.array((FRAME.color == "red") | FRAME.member)
TEXT = FRAME.assign(label=np.where(Y, "yes", "no")).to_csv(index=False)


def trained(folder, text, **settings):
    (folder / "data.csv").write_text(text, encoding="utf-8")
    config = TrainConfig(
        data=str(folder / "data.csv"),
        out=str(folder / "run"),
        hidden=(8,),
        epochs=3,
        device="numpy",
        **settings,
    )
    train.train(config)
    return Model.load(folder / "run", "numpy")


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    monkeypatch.setattr(result, "_draw_plots", lambda *arguments: None)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(result, "_draw_plots", lambda *arguments: None)
        return trained(tmp_path_factory.mktemp("model"), TEXT)


@pytest.fixture(scope="module")
def wanted(model, tmp_path_factory):
    """Return the features of the rows as the text file holds them."""
    path = tmp_path_factory.mktemp("rows") / "rows.csv"
    path.write_text(FRAME.to_csv(index=False))
    return model.features(read_table(str(path), known=model.feature_names))


def as_given(frame):
    return frame.astype({"n": "Int64", "x": "Float64", "member": "boolean", "color": "string"})


FRAMES = {
    "pandas": FRAME,
    "any index": FRAME.set_axis(RNG.integers(0, 5, N)),
    "nullable": as_given(FRAME),
    "category": FRAME.astype({"color": "category"}),
    "objects": FRAME.astype(object),
    "in UTC": FRAME.assign(seen=FRAME.seen.dt.tz_localize("UTC").dt.tz_convert("Asia/Tokyo")),
    "reversed": FRAME[["n", "seen", "member", "color", "x"]],
    "with others": FRAME.assign(id=range(N), note=[object()] * N)[
        ["note", "n", "x", "color", "seen", "id", "member"]
    ],
    "polars": pl.from_pandas(FRAME),
    "lazy": pl.from_pandas(FRAME).lazy(),
    "categorical of polars": pl.from_pandas(FRAME).with_columns(pl.col("color").cast(pl.Categorical)),
    "arrow": pl.from_pandas(FRAME).to_arrow(),
    "columns": {name: FRAME[name] for name in FRAME},
    "lists": FRAME.astype(object).to_dict("list"),
    "rows": FRAME.astype(object).to_dict("records"),
    "table": table_of(FRAME),
}


@pytest.mark.parametrize("kind", FRAMES)
def test_frame_has_the_features_of_the_text_file(model, wanted, kind):
    np.testing.assert_array_equal(model.features(FRAMES[kind]), wanted)


def test_matrix_keeps_working_in_order(model, wanted):
    seconds = FRAME.seen.to_numpy().astype("datetime64[s]")
    for x in (FRAME.assign(seen=seconds).astype(object).to_numpy(), FRAME.astype(object).to_numpy().tolist()):
        np.testing.assert_array_equal(model.features(x), wanted)
        order = [4, 2, 0, 1, 3]
        mixed = np.array(x, object)[:, order]
        names = [FRAME.columns[k] for k in order]
        np.testing.assert_array_equal(model.features(mixed, names), wanted)
    numbered = FRAME.set_axis(range(5), axis=1)
    np.testing.assert_array_equal(model.features(numbered), wanted)
    with pytest.raises(DataError, match="the frame has no header and 4 columns; the model was trained on 5"):
        model.features(numbered[[0, 1, 2, 3]])


@pytest.mark.parametrize(
    "frame", [FRAME, pl.from_pandas(FRAME), FRAME.to_dict("list")], ids=["pd", "pl", "dict"]
)
def test_missing_column_is_refused_by_name(model, frame):
    lacks = "the frame lacks these columns, which the model was trained on: "
    renamed = {"X": frame["x"], **{name: frame[name] for name in ("color", "member", "seen", "n")}}
    with pytest.raises(DataError, match=rf"{lacks}'x'; is 'X' meant for 'x'\?$"):
        model.predict(type(frame)(renamed))
    with pytest.raises(DataError, match=f"{lacks}'x', 'seen', 'n', 'color', 'member'$"):
        model.predict(type(frame)({"a": [1.0], "b": [2.0], "c": [1.0], "d": [1.0], "e": [1.0]}))


def test_column_that_the_model_reads_is_not_suggested_for_another():
    frame = pd.DataFrame({"monthly_cost": RNG.normal(size=40), "total_cost": RNG.normal(size=40)})
    y = frame["total_cost"] > 0
    model = train_table(frame.assign(y=y), "y", hidden=(2,), epochs=1, device="cpu", verbose=0).model
    with pytest.raises(DataError, match=r"trained on: 'total_cost'$"):
        model.predict(frame[["monthly_cost"]])
    with pytest.raises(DataError, match=r"is 'total' meant for 'total_cost'\?$"):
        model.predict(frame.rename(columns={"total_cost": "total"}))


def test_column_that_is_there_twice_is_refused_by_name(model):
    with pytest.raises(DataError, match=r"the frame contains these columns more than once, .*: 'n'$"):
        model.predict(pd.concat([FRAME, FRAME[["n"]]], axis=1))


@pytest.mark.parametrize(
    "y",
    [
        np.where(Y, "yes", "no"),
        np.where(Y, "yes", "no").tolist(),
        pd.Series(np.where(Y, "yes", "no"), index=np.arange(N)[::-1]),
        pd.Series(np.where(Y, "yes", "no")).astype("category"),
        pl.Series(np.where(Y, "yes", "no")),
        pd.DataFrame({"label": np.where(Y, "yes", "no")}),
    ],
    ids=lambda y: type(y).__name__,
)
def test_evaluation_of_a_frame_takes_every_kind_of_target(model, y):
    row = model.evaluate(FRAME[[*reversed(FRAME.columns)]], y)
    assert row["accuracy"] == np.mean(model.predict(FRAME) == np.where(Y, "yes", "no"))


def test_missing_target_is_refused_with_its_row(model):
    with pytest.raises(DataError, match=r"column 'label', row 3 is missing \(1 of 120 cells are\)"):
        model.evaluate(FRAME, pd.Series(np.where(Y, "yes", "no"), name="label").mask(np.arange(N) == 3))


def test_booleans_of_a_text_file_are_those_of_a_frame(tmp_path):
    text = FRAME.assign(label=Y).to_csv(index=False)
    assert "True" in text
    model = trained(tmp_path, text)
    frame = pd.read_csv(io.StringIO(text))
    assert frame.label.dtype == bool and {*model.predict(frame)} <= {"True", "False"}
    accuracy = np.mean(model.predict(frame) == frame.label.astype(str))
    for y in (frame.label, frame.label.to_numpy(), frame.label.tolist(), frame.label.astype(int)):
        assert model.evaluate(frame, y)["accuracy"] == accuracy


def test_frame_without_rows_has_no_answers(model):
    for frame in (FRAME.iloc[:0], pl.from_pandas(FRAME).head(0)):
        assert model.predict(frame).shape == (0,) and model.probabilities(frame).shape == (0, 2)


def test_answers_are_arrays_of_numpy(model):
    for frame in (FRAME, pl.from_pandas(FRAME)):
        assert type(model.predict(frame)) is type(model.probabilities(frame)) is np.ndarray
        assert model.outputs(frame).shape == (N, 1)


# ---------------------------------------------------------------- models of arrays


@pytest.fixture
def of_numbers(tmp_path):
    """Return a model with names that was trained on an array."""
    return trained_on_iris(tmp_path)


def trained_on_iris(folder):
    pytest.importorskip("sklearn")
    train.train(TrainConfig(data="iris", out=str(folder / "run"), hidden=(4,), epochs=1, device="numpy"))
    return Model.load(folder / "run", "numpy")


def test_model_of_an_array_finds_columns_by_name_too(of_numbers):
    x = np.random.default_rng(1).normal(size=(9, 4))
    names = of_numbers.feature_names
    frame = pd.DataFrame(x, columns=names).assign(word="red", gone=None)[["word", *reversed(names), "gone"]]
    want = of_numbers.outputs(x)
    for given in (
        frame,
        pl.from_pandas(frame.drop(columns="gone")),
        frame.to_dict("records"),
        table_of(frame),
    ):
        np.testing.assert_array_equal(of_numbers.outputs(given), want)
    np.testing.assert_array_equal(of_numbers.outputs(pd.DataFrame(x)), want)
    np.testing.assert_array_equal(of_numbers.outputs(sparse.csr_array(x)), want)
    with pytest.raises(DataError, match="the frame lacks these columns, .*: " + re.escape(repr(names[0]))):
        of_numbers.predict(frame.rename(columns={names[0]: "A"}))
    with pytest.raises(DataError, match="lacks these columns"):
        of_numbers.predict(pd.DataFrame(x, columns=list("abcd")))
    with pytest.raises(ShapeError, match="x has 3 columns; layer 0 of this network reads 4"):
        of_numbers.predict(pd.DataFrame(x[:, :3]))
    with pytest.raises(DataError, match="row 2 is missing"):
        of_numbers.predict(pd.DataFrame(x, columns=names).mask(np.arange(36).reshape(9, 4) == 8))


def test_sparse_rows_are_encoded_as_dense_ones(tmp_path):
    x = np.where(RNG.normal(size=(60, 3)) > 0, RNG.normal(size=(60, 3)), 0)
    text = pd.DataFrame(x, columns=list("abc")).assign(label=np.arange(60) % 2).to_csv(index=False)
    made = trained(tmp_path, text)
    np.testing.assert_array_equal(made.features(sparse.csr_array(x)), made.features(x))


NO_ROWS = {
    "one row as a dict": (
        {"x": 1.0, "color": "red", "member": True, "n": 1},
        "column 'x' is 1.0; pass a list",
    ),
    "columns of two lengths": ({**COLUMNS, "n": [1]}, "different numbers of rows: 'x' 120, .* 'n' 1"),
    "a path": (Path("rows.csv"), "x is the path 'rows.csv'; pass rows"),
    "nothing": (None, "x is None; pass a matrix"),
    "a number": (3, "x is 3; pass a matrix"),
    "no column": ({}, "the frame has no columns"),
}


@pytest.mark.parametrize("kind", NO_ROWS)
def test_what_are_no_rows_is_refused_with_a_sentence(model, kind):
    rows, message = NO_ROWS[kind]
    with pytest.raises((DataError, ShapeError), match=message):
        model.predict(rows)


@pytest.mark.parametrize("y", [Path("y.csv"), 1.0, None])
def test_targets_that_are_no_list_are_refused(model, y):
    with pytest.raises(DataError, match=r"y is .*; pass a target for each row"):
        model.evaluate(FRAME, y)
