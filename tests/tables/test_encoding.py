"""The columns of a table become a matrix, by encoders that the training rows alone decide."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ffnn_gpu.cli import train
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.errors import DataError, ShapeError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.nn.layers import Dense, Embedding
from ffnn_gpu.nn.network import Network
from ffnn_gpu.tables import encoding as encoding_module
from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.encoders import CodeEncoder, LevelEncoder, NumberEncoder, TimeEncoder
from ffnn_gpu.tables.encoding import Encoding, most_codes
from ffnn_gpu.tables.frames import table_of as frames_table
from ffnn_gpu.tables.kinds import columns_of
from ffnn_gpu.tables.sources import read_table
from ffnn_gpu.tables.spelling import MISSING_LEVELS, Spelling
from ffnn_gpu.tables.table import Table
from tests.tables.test_kinds import repeated, typed
from tests.tables.test_kinds import table_of as texts_table

RNG = np.random.default_rng(0)
NAN = np.nan
TASK = Task.of(np.arange(240.0) / 7, "regression")


def table_of(tmp_path, frame, name="t.csv"):
    frame.to_csv(tmp_path / name, index=False)
    return read_table(str(tmp_path / name))


def fitted(table, rows=None):
    columns = columns_of(table, Decisions(), Spelling())
    return Encoding.fit(table, columns, np.arange(len(table)) if rows is None else rows)


@pytest.fixture
def frame():
    n = 200
    return pd.DataFrame(
        {
            "x": np.where(RNG.random(n) < 0.1, NAN, RNG.normal(50, 9, n)),
            "color": RNG.choice(["red", "green", "blue"], n),
            "flag": RNG.choice(["yes", "no"], n),
            "place": RNG.choice([f"p{k}" for k in range(40)], 10 * n)[:n],
            "when": pd.date_range("2020-01-01", periods=n, freq="37h").strftime("%Y-%m-%d %H:%M:%S"),
        }
    )


# ---------------------------------------------------------------- numbers


def test_numbers_are_scaled_by_quartiles_and_softly_limited():
    x = RNG.normal(3, 20, 1000)
    u = (x - np.median(x)) / (np.percentile(x, 75) - np.percentile(x, 25))
    want = u / np.sqrt(1 + (u / 3) ** 2)
    np.testing.assert_allclose(NumberEncoder.fit("x", x).encode(x), want[:, None], rtol=1e-12, atol=1e-14)


def test_missing_number_is_the_median_with_an_indicator_if_training_rows_lack_some():
    encoder = NumberEncoder.fit("x", np.array([1.0, 2, 3, NAN]))
    assert encoder.outputs == ("x", "x is missing")
    np.testing.assert_array_equal(encoder.encode(np.array([2.0, NAN])), [[0, 0], [0, 1]])
    np.testing.assert_array_equal(
        NumberEncoder.fit("x", np.array([1.0, 2, 3])).encode(np.array([NAN])), [[0]]
    )


@pytest.mark.parametrize("x", [[0, 1e308, -1e308, 1e300], [0, 5e-324, 1e-323, 0], [1, 1, 1, 9], [7, 7, 7, 7]])
def test_encoded_numbers_are_finite_ordered_and_below_the_limit(x):
    x = np.array(x, float)
    seen = np.sort(np.concatenate([x, [-1.7e308, 1.7e308, 0.0]]))
    found = NumberEncoder.fit("x", x).encode(seen)[:, 0]
    assert np.isfinite(found).all() and (np.abs(found) <= 3).all() and (np.diff(found) >= 0).all()


def test_numbers_are_the_same_in_every_unit():
    x = RNG.normal(size=500)
    np.testing.assert_allclose(
        NumberEncoder.fit("x", x).encode(x),
        NumberEncoder.fit("x", 1e6 * x + 3).encode(1e6 * x + 3),
        atol=1e-9,
    )


# ---------------------------------------------------------------- levels


def test_levels_equal_the_dummies_of_pandas(tmp_path, frame):
    encoding = fitted(table_of(tmp_path, frame[["color"]]))
    found = encoding.encode(table_of(tmp_path, frame[["color"]]), np.float64)
    np.testing.assert_array_equal(found, pd.get_dummies(frame["color"]).to_numpy(float))
    assert encoding.outputs == ("color is blue", "color is green", "color is red")


def test_rare_unseen_and_missing_levels_have_columns_if_training_rows_have_them():
    texts = ["a", "b", "c", "z"]
    codes = np.array([0] * 9 + [1] * 9 + [3] + [-1])
    encoder = LevelEncoder.fit("x", codes, texts)
    assert encoder.outputs == ("x is a", "x is b", "x is another", "x is missing")
    np.testing.assert_array_equal(
        encoder.encode((np.array([0, 1, 2, 3, -1]), texts)),
        [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0], [0, 0, 0, 1]],
    )


def test_two_levels_are_one_column_and_anything_else_is_0():
    encoder = LevelEncoder.fit("x", np.array([0, 1, 0]), ["no", "yes"])
    found = encoder.encode((np.array([0, 1, 2, -1]), ["no", "yes", "maybe"]))
    np.testing.assert_array_equal(found, [[-1], [1], [0], [0]])


# ---------------------------------------------------------------- blocks of rows


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_matrix_does_not_depend_on_the_blocks_of_rows(tmp_path, monkeypatch, frame, kind):
    if kind == "parquet":
        frame["when"] = pd.to_datetime(frame["when"])
        pq.write_table(pa.Table.from_pandas(frame, preserve_index=False), tmp_path / "t.parquet")
        trained, new = (read_table(str(tmp_path / "t.parquet")) for _ in range(2))
    else:
        trained, new = table_of(tmp_path, frame), table_of(tmp_path, frame)
    encoding = fitted(trained)
    whole = encoding.encode(new)
    for rows in (7, 199):
        monkeypatch.setattr(encoding_module, "ROWS", rows)
        np.testing.assert_array_equal(encoding.encode(trained), whole)
        np.testing.assert_array_equal(encoding.encode(new), whole)
        np.testing.assert_array_equal(encoding.encode(new.part(3, 60)), whole[3:60])


def test_bad_cell_in_a_later_block_is_named_with_its_line(tmp_path, monkeypatch, frame):
    encoding = fitted(table_of(tmp_path, frame))
    monkeypatch.setattr(encoding_module, "ROWS", 50)
    bad = frame.astype({"x": object})
    bad.loc[170, "x"] = "12.5 kg"
    with pytest.raises(DataError, match=r"'x'.*line 172 holds '12.5 kg'"):
        encoding.encode(table_of(tmp_path, bad))


# ---------------------------------------------------------------- codes


def test_numbers_come_first_and_the_codes_of_many_levels_last(tmp_path, frame):
    frame = pd.concat([frame] * 10)[["place", "color", "x"]]
    encoding = fitted(table_of(tmp_path, frame))
    assert encoding.names == ("x", "color", "place") and encoding.code_levels == (40,)
    codes = encoding.encode(table_of(tmp_path, frame))[:, -1]
    counts = frame["place"].value_counts()
    assert {*codes} == {*range(40)} and (codes == 0).sum() == counts.min()


def test_code_of_an_unseen_level_is_one_that_is_trained():
    codes = np.repeat(np.arange(50), 6)
    texts = [f"t{k}" for k in range(50)]
    encoder = CodeEncoder.most("x", codes, texts, 10_000)
    trained = encoder.encode((codes, texts))[:, 0]
    assert encoder.codes == 50 and {*trained} == {*range(50)}
    assert encoder.encode((np.array([0, -1]), ["new"])).tolist() == [[0], [0]]


def test_missing_cells_have_a_code_of_their_own_if_training_rows_lack_some():
    codes = np.concatenate([np.repeat(np.arange(40), 6), [-1] * 7])
    encoder = CodeEncoder.most("x", codes, [f"t{k}" for k in range(40)], 10_000)
    assert encoder.encode((np.array([-1]), [])).tolist() == [[1]] and encoder.codes == 41


@pytest.mark.parametrize(("dtype", "most"), [("bfloat16", 256), ("float16", 2048), ("float32", 10_000)])
def test_codes_are_no_more_than_the_type_counts_exactly(dtype, most):
    texts = [f"{k}" for k in range(12_000)]
    encoder = CodeEncoder.most("x", np.repeat(np.arange(12_000), 5), texts, most_codes(dtype))
    assert encoder.codes == most == most_codes(dtype)


def test_column_of_many_levels_is_learnt_through_an_embedding(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    place = RNG.integers(0, 60, 1500)
    worth = RNG.normal(size=60)
    pd.DataFrame({"place": [f"p{k}" for k in place], "y": worth[place]}).to_csv("d.csv", index=False)
    done = train.train(TrainConfig(data="d.csv", out="run", epochs=30, hidden=(32,), device="numpy", lr=0.01))
    assert isinstance(done.model.network.layers[0], Embedding) and done.report["test"]["r2"] > 0.95
    rows = pd.DataFrame({"place": ["p3", "p4", None, "elsewhere"]})
    found = done.model.predict(rows)
    np.testing.assert_allclose(found[:2], worth[3:5], atol=0.4)
    np.testing.assert_array_equal(Model.load("run", "numpy").predict(rows), found)


# ---------------------------------------------------------------- times


def test_times_are_seconds_and_circles():
    t = np.arange(0, 400 * 86_400, 3600.0)
    encoder = TimeEncoder.fit("t", t, "")
    found = encoder.encode(t)
    assert encoder.periods == ("day", "week", "year")
    np.testing.assert_allclose(found[:, 1], np.sin(2 * np.pi * t / 86_400), atol=1e-9)
    np.testing.assert_allclose(found[:, 1::2] ** 2 + found[:, 2::2] ** 2, 1)
    assert TimeEncoder.fit("t", np.arange(0, 30) * 86_400.0, "").periods == ("week",)


# ---------------------------------------------------------------- all columns


def test_encoding_knows_the_training_rows_alone(tmp_path, frame):
    rows = np.arange(100)
    changed = frame.copy()
    changed.loc[100:, "x"] = 1e9
    changed.loc[100:, "color"] = "purple"
    tables = table_of(tmp_path, frame, "a.csv"), table_of(tmp_path, changed, "b.csv")
    first, second = (fitted(table, rows) for table in tables)
    assert first == second
    np.testing.assert_array_equal(first.encode(tables[0])[:100], first.encode(tables[1])[:100])


def test_columns_are_found_by_name_in_any_order(tmp_path, frame):
    encoding = fitted(table_of(tmp_path, frame))
    want = encoding.encode(table_of(tmp_path, frame))
    other = frame.assign(more=1)[["more", *reversed(frame.columns)]]
    np.testing.assert_array_equal(encoding.encode(table_of(tmp_path, other)), want)
    with pytest.raises(DataError, match="lacks these columns, which the model was trained on: 'x'"):
        encoding.encode(table_of(tmp_path, frame.drop(columns="x")))


def test_rows_of_a_matrix_are_those_of_the_table_in_every_order(tmp_path):
    place, x = np.repeat(np.arange(40), 6), RNG.normal(size=240)
    frame = pd.DataFrame({"row": np.arange(240), "place": place, "x": x})
    frame.to_csv(tmp_path / "t.csv", index=False)
    table = read_table(str(tmp_path / "t.csv"))
    encoding = Encoding.fit(
        table, columns_of(table, Decisions(categorical=("place",)), Spelling()), np.arange(240)
    )
    want = encoding.encode(table, np.float32)
    model = Model(
        Network(2, [Embedding(encoding.code_levels), Dense(1)], "numpy"),
        TASK,
        feature_names=encoding.read,
        encoding=encoding,
    )
    assert encoding.names == ("x", "place") and encoding.read == ("place", "x")
    for columns in (["place", "x"], ["x", "place"]):
        np.testing.assert_array_equal(model.features(frame[columns].to_numpy(), columns), want)
    np.testing.assert_array_equal(model.features(frame[["place", "x"]].to_numpy()), want)
    np.testing.assert_array_equal(model.features(frame[["x", "row", "place"]]), want)


def test_a_level_of_a_text_file_may_be_written_as_a_float(tmp_path):
    frame = pd.DataFrame({"c": ["0", "1", "2"] * 20, "b": ["True", "False"] * 30})
    table = table_of(tmp_path, frame)
    encoding = Encoding.fit(
        table, columns_of(table, Decisions(categorical=("c",)), Spelling()), np.arange(60)
    )
    other = pd.DataFrame({"c": ["0.0", "1.0", "2.0"], "b": ["1.0", "0.0", "1"]})
    np.testing.assert_array_equal(
        encoding.encode(table_of(tmp_path, other, "o.csv")), encoding.encode(table)[[0, 1, 2]]
    )


def test_a_text_that_ends_like_a_float_is_another_level(tmp_path):
    encoding = fitted(table_of(tmp_path, pd.DataFrame({"c": ["v1", "v2", "v3"] * 20})))
    (tmp_path / "o.csv").write_text("c\nv1.0\n1.0\nv1\n")
    found = encoding.encode(read_table(str(tmp_path / "o.csv"), known=("c",)))
    np.testing.assert_array_equal(found, [[0, 0, 0], [0, 0, 0], [1, 0, 0]])


def test_nan_of_a_typed_column_is_a_missing_cell(tmp_path):
    pq.write_table(pa.table({"a": [1.0, NAN, 2.0] * 9}), tmp_path / "t.parquet")
    table = read_table(str(tmp_path / "t.parquet"))
    columns = columns_of(table, Decisions(categorical=("a",)), Spelling())
    encoder = Encoding.fit(table, columns, np.arange(27)).encoders[0]
    assert isinstance(encoder, LevelEncoder) and encoder.levels == ("1", "2") and encoder.lacks


def test_year_of_two_digits_is_refused_where_years_have_four(tmp_path):
    days = [f"{k % 12 + 1:02}/{k % 28 + 1:02}/2010" for k in range(60)]
    encoding = fitted(table_of(tmp_path, pd.DataFrame({"day": days, "x": np.arange(60) / 2})))
    (tmp_path / "o.csv").write_text("day,x\n01/15/12,1\n")
    with pytest.raises(DataError, match=r"column 'day': the model reads times here.*line 2 holds '01/15/12'"):
        encoding.encode(read_table(str(tmp_path / "o.csv")))


def test_encoding_survives_json(tmp_path, frame):
    table = table_of(tmp_path, pd.concat([frame] * 9))
    encoding = fitted(table)
    again = Encoding.from_json(json.loads(json.dumps(encoding.to_json(), allow_nan=False)))
    assert again == encoding
    np.testing.assert_array_equal(again.encode(table), encoding.encode(table))


@pytest.mark.parametrize(
    "damage", [{}, {"encoders": [{"kind": "magic"}], "columns": [], "missing": []}, None]
)
def test_damaged_encoding_is_refused(damage):
    with pytest.raises(DataError, match="not a saved encoding"):
        Encoding.from_json(damage)


def test_bad_cell_of_a_new_table_is_named_with_its_line(tmp_path, frame):
    encoding = fitted(table_of(tmp_path, frame))
    frame = frame.astype({"x": object})
    frame.loc[7, "x"] = "12 kg"
    with pytest.raises(DataError, match=r"column 'x'.*line 9 holds '12 kg'"):
        encoding.encode(table_of(tmp_path, frame))


def test_matrix_of_another_width_is_refused(tmp_path, frame):
    encoding = fitted(table_of(tmp_path, frame[["x", "flag"]]))
    with pytest.raises(ShapeError, match=r"x has shape \(2, 3\); the model reads 2 columns: x, flag"):
        encoding.encode_numbers(np.zeros((2, 3)))


# ---------------------------------------------------------------- cells that pandas reads as missing


def test_every_text_that_pandas_reads_as_missing_is_missing_in_categories(tmp_path):
    texts = [*MISSING_LEVELS, "?", "-", "Na", "none", "nil", "missing", "N.A."]
    (tmp_path / "a.csv").write_text("a,b\n" + "".join(f"{text},1\n" for text in texts))
    lost = pd.read_csv(tmp_path / "a.csv")["a"].isna()
    spelling = Spelling()
    assert lost.sum() > 10
    assert [text for text in texts if spelling.is_missing_level(text)] == [*MISSING_LEVELS]
    assert all(spelling.is_missing_level(text) for text, is_lost in zip(texts, lost, strict=True) if is_lost)
    assert all(map(spelling.is_missing_number, MISSING_LEVELS))


@pytest.mark.parametrize("levels", [["NA", "x", "z"], ["NA", "", "x"], ["None", "NaN", "x", "z", "w"]])
def test_file_and_frame_read_from_it_are_encoded_alike(tmp_path, levels):
    cells = [levels[k % len(levels)] for k in range(60)]
    lines = "".join(f"{cell},{k % 7}.5,{'yes' if k % 2 else 'NA'}\n" for k, cell in enumerate(cells))
    (tmp_path / "a.csv").write_text("word,x,flag\n" + lines)
    table = read_table(str(tmp_path / "a.csv"))
    encoding = fitted(table)
    frames = [pd.read_csv(tmp_path / "a.csv"), pd.read_csv(tmp_path / "a.csv", keep_default_na=False)]
    for frame in frames:
        np.testing.assert_array_equal(encoding.encode(frames_table(frame)), encoding.encode(table))
    assert Encoding.from_json(json.loads(json.dumps(encoding.to_json()))) == encoding


def test_model_saved_with_a_marker_as_level_answers_as_before(tmp_path):
    saved = fitted(table_of(tmp_path, pd.DataFrame({"a": ["x", "y", "N/A level"] * 20}))).to_json()
    del saved["markers"]  # as older versions wrote it
    saved["encoders"][0]["levels"] = ["NA", "x", "y"]
    (tmp_path / "b.csv").write_text("a,b\nNA,1\nx,1\nNaN,1\n")
    found = Encoding.from_json(saved).encode(read_table(str(tmp_path / "b.csv")))
    assert found.tolist() == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


# ---------------------------------------------------------------- numbers that mean a missing cell


@pytest.mark.parametrize("source", ["texts", "typed", "matrix"])
def test_number_named_as_missing_is_missing_in_columns_of_numbers(source):
    cells = repeated("1", "2.5", "-999", "7", "-999.0")
    table = texts_table(x=cells)
    (column,) = columns_of(table, Decisions(), Spelling(missing=("-999",)))
    assert (column.kind, column.missing, column.reason) == ("number", 60, "numbers from 1 to 7")
    encoding = Encoding.fit(table, [column], np.arange(len(cells)), ("-999",))
    assert encoding.encoders[0].seen == (1.0, 7.0)
    numbers = [float(cell) for cell in cells]
    x = {
        "texts": lambda: encoding.encode(table),
        "typed": lambda: encoding.encode(frames_table({"x": np.array(numbers)})),
        "matrix": lambda: encoding.encode_numbers(np.array(numbers)[:, None]),
    }[source]()
    assert x[:, 1].tolist() == [0, 0, 1, 0, 1] * 30 and set(x[2::5, 0]) == {0.0}


@pytest.mark.parametrize("kind", ["VARCHAR", "DATE"])
def test_date_named_as_missing_is_missing_in_columns_of_times(kind):
    days = repeated("2024-05-01", "1900-01-01", "2024-06-01", "2024-07-15")
    listed = ", ".join(f"('{day}'::{kind})" for day in days)
    table = typed(f"VALUES {listed}", "t")
    (column,) = columns_of(table, Decisions(), Spelling(missing=("1900-01-01",)))
    assert (column.kind, column.missing) == ("time", 30)
    encoding = Encoding.fit(table, [column], np.arange(len(days)), ("1900-01-01",))
    assert encoding.encoders[0].seconds.seen[0] == 1714521600.0
    assert encoding.encode(table)[:, 1].tolist() == [0, 1, 0, 0] * 30


def test_columns_of_numbers_are_read_together(monkeypatch):
    """A query reads 50 of 120 columns. The numbers are those of one column at a time."""
    asked, numbers_of = [], Table.numbers_of

    def counted(self, expressions):
        asked.append(len(expressions))
        return numbers_of(self, expressions)

    monkeypatch.setattr(Table, "numbers_of", counted)
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(30, 120))).add_prefix("c")
    frame["c7"] = frame["c7"].where(frame["c7"] > 0)
    frame["word"] = ["a", "b", "c"] * 10
    table = frames_table(frame)
    x = fitted(table).encode(table, np.float64)
    assert sum(asked) == 240 and len(asked) == 6
    monkeypatch.setattr("ffnn_gpu.tables.encoder_cells.ROOM", 1)
    alone = frames_table(frame)
    np.testing.assert_array_equal(fitted(alone).encode(alone, np.float64), x)
    assert asked.count(1) == 240


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8", "uint8", "bool", ">f8", "int64"])
def test_matrix_of_numbers_is_the_table_of_its_objects(dtype):
    x = np.random.default_rng(0).integers(0, 2 if dtype == "bool" else 100, (40, 3)).astype(dtype)
    if x.dtype.kind == "f":
        x = x / x.dtype.type(7)
        x[3, 1] = np.nan
    table, same = frames_table(x), frames_table(x.astype(object))
    assert table.names == same.names and not table.has_names
    for place in range(3):
        assert table.levels(place) == same.levels(place)
    np.testing.assert_array_equal(fitted(table).encode(table), fitted(same).encode(same))


def test_values_that_were_fitted_are_not_fetched_again(monkeypatch):
    rows = [f"{k / 8}" for k in range(40)], ["ab"[k % 2] for k in range(40)]
    table = texts_table(x=rows[0], word=rows[1])
    encoding = Encoding.fit(table, columns_of(table, Decisions(), Spelling()), np.arange(40))
    assert len(table.kept) == 2
    again = encoding.encode(table)
    monkeypatch.setattr("ffnn_gpu.tables.table.KEPT", 0)
    other = texts_table(x=rows[0], word=rows[1])
    fitted = Encoding.fit(other, columns_of(other, Decisions(), Spelling()), np.arange(40))
    assert not other.kept and fitted == encoding
    np.testing.assert_array_equal(again, encoding.encode(other))
    part = table.part(10, 25)
    np.testing.assert_array_equal(encoding.encode(part), again[10:25])


def test_values_that_are_computed_for_each_level_are_those_of_each_row(monkeypatch):
    columns = {
        "n": ["-0.0", "0", " 1.5", "1,500.25", "NA", None, "0.1", "1E-320"],
        "t": [
            "2024-01-01",
            "2024-05-03 10:00",
            "?",
            None,
            "2024-05-03T10:00:00.5",
            "",
            "2024-07-09",
            "2023-01-01",
        ],
        "k": ["a", "b", "NA", None, "", "c", "a ", "b"],
    }
    found = []
    for short in (0, 50_000):
        monkeypatch.setattr(encoding_module, "SHORT", short)
        table = texts_table(**{name: cells * 30 for name, cells in columns.items()})
        encoding = Encoding.fit(table, columns_of(table, Decisions(), Spelling()), np.arange(240))
        later = texts_table(**{name: cells[::-1] for name, cells in columns.items()})
        matrices = [encoding.encode(each).tobytes() for each in (table, later)]
        found.append((encoding.to_json(), matrices))
        assert (len(table.computed) == 5) == (short == 0)  # codes of the numbers and times too
    assert found[0] == found[1]
    assert [encoder.kind for encoder in encoding.encoders] == ["number", "time", "category"]
