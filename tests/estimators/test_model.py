"""A model finds the columns that it reads, encodes them, and answers in the form of the target."""

import gzip
import io

import numpy as np
import pytest

from ffnn_gpu import Dense, Network, npy_rows, save
from ffnn_gpu.cli import reading
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.errors import CheckpointError, ConfigurationError, DataError, ShapeError
from ffnn_gpu.estimators.model import Model, true_and_predicted
from ffnn_gpu.estimators.task import Task

X = np.arange(12.0).reshape(4, 3) ** 2
Y = np.array(["no", "yes", "yes", "no"])
PRICE = np.array([1.5, 2.5, 4.0, 8.0])


def model(y=Y, names=("a", "b", "c"), **settings):
    task = Task.of(y).with_units_of(y)
    return Model(
        Network(3, [Dense(task.outputs)], "numpy"), task, Standardizer.fit(X), names, "answer", **settings
    )


@pytest.fixture
def read(monkeypatch):
    """Return a function that reads the rows of a text on standard input, for a model."""

    def read(text, made=None):
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return reading.read_rows("-", model() if made is None else made)

    return read


# ---------------------------------------------------------------- models


@pytest.mark.parametrize("y", [Y, PRICE])
def test_loaded_model_answers_like_the_saved_one(tmp_path, y):
    made = model(y, target=2, data="made", metrics=())
    made.save(tmp_path / "model")
    for place in (tmp_path, tmp_path / "model"):
        again = Model.load(place, "numpy")
        assert again.extras() == made.extras()
        np.testing.assert_array_equal(again.predict(X), made.predict(X))


def test_model_without_scaling_and_names_comes_back(tmp_path):
    Model(Network(3, [Dense(1)], "numpy"), Task.of(Y)).save(tmp_path / "x")
    again = Model.load(tmp_path / "x", "numpy")
    assert again.standardizer is None and again.feature_names is None


def test_columns_are_found_by_name_and_else_taken_in_order():
    made = model()
    want = made.predict(X)
    np.testing.assert_array_equal(made.predict(X[:, [2, 0, 1]], ["c", "a", "b"]), want)
    np.testing.assert_array_equal(
        made.predict(np.hstack([X[:, ::-1], X]), ["c", "b", "a", "d", "e", "f"]), want
    )
    np.testing.assert_array_equal(made.predict(X, ["x", "y", "z"]), want)
    assert not made.matches(["a", "a", "b", "c"]) and not model(names=None).matches(["a"])


@pytest.mark.parametrize("in_files", [False, True])
def test_rows_that_are_standardized_where_they_are_read_stay_so(tmp_path, in_files):
    scaling, made = Standardizer.fit(X), model()
    np.save(tmp_path / "x.npy", X)
    rows = scaling.rows(npy_rows(tmp_path / "x.npy") if in_files else X)
    unscaled = Model(made.network, made.task)
    np.testing.assert_array_equal(unscaled.outputs(rows), made.outputs(X))
    assert unscaled.evaluate(rows, Y) == made.evaluate(X, Y)
    np.testing.assert_array_equal(made.outputs(rows), made.outputs(scaling.transform(X, np.float64)))


def test_features_are_cut_at_the_limit(tmp_path):
    made = model(limit=1.0)
    assert abs(made.features(X)).max() == 1 < abs(model().features(X)).max()
    made.save(tmp_path)
    np.testing.assert_array_equal(Model.load(tmp_path, "numpy").features(X * 9), made.features(X * 9))


def test_values_beyond_the_limit_are_counted():
    far = X.copy()
    far[0, :2] = 1e6
    assert (
        model(limit=5.0).count_cut(far) == 2 and model(limit=5.0).count_cut(X) == model().count_cut(far) == 0
    )


@pytest.mark.parametrize("names", ["abz", "axyz"])
def test_header_with_some_of_the_columns_is_refused(names):
    missing = ", ".join(repr(name) for name in "abc" if name not in names)
    with pytest.raises(
        DataError, match=f"the header lacks these columns, which the model was trained on: {missing}$"
    ):
        model().predict(np.ones((2, len(names))), names)
    with pytest.raises(
        DataError,
        match=r"the header contains these columns more than once, which the model was trained on: 'a'$",
    ):
        model().predict(np.ones((2, 4)), "aabc")


def test_constant_columns_contribute_nothing_whatever_their_values(tmp_path):
    x = np.column_stack([X[:, 0], np.full(4, 7.0), np.full(4, 5.0)])
    made = model()
    made = Model(made.network, made.task, Standardizer.fit(x))
    made.save(tmp_path / "x")
    for one in (made, Model.load(tmp_path / "x", "numpy")):
        assert one.standardizer.constant == (1, 2)
        np.testing.assert_array_equal(one.outputs(x), one.outputs(x + np.array([0, 1e6, -3])))
    older = {name: value for name, value in made.standardizer.to_json().items() if name != "constant"}
    assert Standardizer.from_json(older).constant == ()


@pytest.mark.parametrize("limit", [None, 0.9])
def test_rows_in_files_have_the_outputs_of_the_same_rows_in_memory(tmp_path, limit):
    x = np.column_stack([X[:, 0], np.full(4, 7.0), X[:, 2]])
    made = model()
    made = Model(made.network, made.task, Standardizer.fit(x), limit=limit)
    other = 3 * x + [1.0, 1e6, -1.0]  # also where the column was constant
    np.save(tmp_path / "x.npy", other)
    rows = npy_rows(tmp_path / "x.npy")
    np.testing.assert_array_equal(made.outputs(rows), made.outputs(other))
    assert made.evaluate(rows, Y) == made.evaluate(other, Y)
    for given in (other, -other):
        varying, fitted = given[:, [0, 2]], x[:, [0, 2]]
        scaled = (varying - fitted.mean(axis=0)) / fitted.std(axis=0)
        beyond = 0 if limit is None else (abs(scaled) > limit).sum()
        assert made.count_cut(given) == beyond and (limit is None or (scaled < -limit).any())
    assert made.count_cut(rows) == made.count_cut(other)


def test_lists_are_rows_and_probabilities_come_alone():
    rows, made = X.tolist(), model()
    chances = made.probabilities(rows)
    assert chances.shape == (4, 2) and made.predict(rows).tolist() == [
        ["no", "yes"][k] for k in chances.argmax(axis=1)
    ]
    with pytest.raises(ConfigurationError, match="has no probabilities"):
        model(PRICE).probabilities(rows)


def test_wrong_number_of_columns_is_an_error_with_both_numbers():
    with pytest.raises(ShapeError, match="x has 2 columns; layer 0 of this network reads 3"):
        model().predict(X[:, :2])


def test_evaluation_has_the_metrics_of_the_run_or_the_requested_ones():
    assert [*model().evaluate(X, Y)] == ["accuracy", "loss"]
    assert [*model(metrics=("roc_auc", "accuracy")).evaluate(X, Y)] == ["roc_auc", "accuracy", "loss"]
    assert [*model().evaluate(X, Y, metrics=["f1_macro"])] == ["f1_macro", "loss"]
    assert [*model().evaluate(X, Y, metrics="f1_macro")] == ["f1_macro", "loss"]


def test_metrics_use_the_weights_as_they_are_and_not_as_the_networks_type_rounds_them():
    made, w = model(), np.array([0.1, 0.7, 1e-3, 0.3])
    right = made.predict(X) == Y
    found = made.evaluate(X, Y, sample_weight=w)["accuracy"]
    assert 0 < right.sum() < 4 and found == pytest.approx(np.average(right, weights=w), rel=1e-15)


def test_true_and_predicted_have_the_same_form():
    y, prediction = true_and_predicted(model(), X, Y)
    assert y.shape == prediction.shape == (4,) and set(y) == {0, 1}
    y, prediction = true_and_predicted(model(PRICE), X, PRICE)
    np.testing.assert_array_equal(y[:, 0], PRICE)
    np.testing.assert_array_equal(prediction[:, 0], model(PRICE).predict(X))


def test_folder_of_a_run_that_was_killed_gives_the_network_of_its_best_epoch(tmp_path):
    for k, place in enumerate(
        ["checkpoint/last", "checkpoint/best", "model"]
    ):  # each is read before the others
        made = model()
        made.network.params.theta += k
        made.save(tmp_path / place)
        np.testing.assert_array_equal(Model.load(tmp_path, "numpy").outputs(X), made.outputs(X))


def test_folder_without_a_model_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="nothing does not exist"):
        Model.load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="holds no model; give the run folder"):
        Model.load(tmp_path)
    save(Network(3, [Dense(1)], "numpy"), tmp_path / "bare")
    with pytest.raises(CheckpointError, match="holds only a network"):
        Model.load(tmp_path / "bare", "numpy")


# ---------------------------------------------------------------- rows in


@pytest.mark.parametrize(
    "text",
    [
        "a,b,c\n1,2,3\n",
        "1,2,3\n",
        "\ufeffa,b,c\n1,2,3\n",
        "c,answer,a,b\n3,yes,1,2\n",
        "a,b,c,answer\n1,2,3,\n",
        'id,"c",a,b\n"x, y",3,1,2\n',
        "a, b, c\n\n1, 2, 3\n",
        "c;a;b\n3,0;1,0;2,0\n",
    ],
)
def test_rows_are_read_whatever_else_the_table_holds(read, text):
    rows = read(text)
    np.testing.assert_array_equal(model().features(*rows), model().features(np.array([[1.0, 2, 3]])))


def test_missing_columns_are_an_error_before_any_cell_is_converted(read):
    with pytest.raises(DataError, match=r"standard input lacks these columns, .*: 'b', 'c'"):
        model().features(*read("id,a\nx,1\n"))
    with pytest.raises(DataError, match=r"standard input lacks these columns, .*: 'c'"):
        model().features(*read("a,b,z\n1,2,3\n"))
    with pytest.raises(DataError, match=r"standard input lacks these columns, .*: 'a', 'b', 'c'"):
        model().features(*read("x,y,z\n1,2,3\n"))
    with pytest.raises(DataError, match=r"contains these columns more than once, .*: 'a'$"):
        model().features(*read("a,a,b,c\n1,2,3,4\n"))


def test_numbers_in_the_first_row_are_a_row_unless_they_are_names_of_the_model(read):
    made = model(names=("5", "7", "6"))
    np.testing.assert_array_equal(
        made.features(*read("8,9,10\n1,2,3\n", made)), made.features(np.array([[8, 9, 10], [1, 2, 3]]))
    )
    made = model(names=("0", "1", "2"))
    np.testing.assert_array_equal(
        made.features(*read("1,y,0,2\n5,x,4,6\n", made)), made.features(np.array([[4, 5, 6]]))
    )


def test_target_is_left_out_where_the_model_has_no_names(read):
    made = model(names=None)
    np.testing.assert_array_equal(
        made.features(*read("x,answer,y,z\n1,yes,2,3\n", made)), made.features(np.array([[1, 2, 3]]))
    )


def test_wrong_cell_or_ragged_row_is_named_with_its_line(read):
    with pytest.raises(DataError, match="standard input, line 3, column 'b': 'x' is not a finite number"):
        model().features(*read("id,a,b,c\nA,1,2,3\nB,1,x,3\n"))
    with pytest.raises(DataError, match="standard input, line 3, column 'b': the cell is empty"):
        model().features(*read("id,a,b,c\nA,1,2,3\nB,1,,3\n"))
    with pytest.raises(DataError, match="standard input, line 3 has 3 cells; the first row has 4"):
        model().features(*read("id,a,b,c\nA,1,2,3\nB,1,2\n"))


def test_cell_after_a_quoted_line_break_is_named_with_its_line(read):
    with pytest.raises(DataError, match="standard input, line 4, column 'b': 'x' is not a finite number"):
        model().features(*read('id,a,b,c\n"A\nB",1,2,3\nC,1,x,3\n'))


def test_table_with_nothing_but_the_target_is_an_error(read):
    with pytest.raises(DataError, match=r"standard input lacks these columns, .*: 'a', 'b', 'c'"):
        model().features(*read("answer\nyes\n"))


def test_rows_come_from_files_too(tmp_path):
    (tmp_path / "a.csv").write_text("c,b,a\n3,2,1\n")
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(b"a,b,c\n1,2,3\n"))
    np.save(tmp_path / "a.npy", [[1, 2, 3]])
    np.save(tmp_path / "b.npy", [1, 2, 3])
    for name in ("a.csv", "a.csv.gz", "a.npy"):
        rows = reading.read_rows(str(tmp_path / name), model())
        np.testing.assert_array_equal(model().features(*rows), model().features(np.array([[1, 2, 3]])))
    with pytest.raises(DataError, match=r"b\.npy holds int64 of shape \(3,\)"):
        reading.read_rows(str(tmp_path / "b.npy"), model())
    with pytest.raises(DataError, match=r"there is no file .*c\.csv"):
        reading.read_rows(str(tmp_path / "c.csv"), model())


def test_evaluation_finds_the_target_column_the_model_was_trained_on(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("answer,a,b,c\nyes,1,2,3\nno,4,5,6\n")
    for made in (model(), model(target=0)):
        _, x, y = reading.read_labelled(str(path), None, made)
        assert y.tolist() == ["yes", "no"]
        np.testing.assert_array_equal(made.features(x), made.features(np.array([[1.0, 2, 3], [4, 5, 6]])))
    made = model(PRICE)
    path.write_text("1,2,3,4\n5,6,7,8\n")
    _, x, y = reading.read_labelled(str(path), None, made)
    assert y.tolist() == [4, 8] and made.features(x).shape == (2, 3)
    _, x, y = reading.read_labelled(str(path), "0", model(PRICE, target=1))
    assert y.tolist() == [1, 5]
    np.testing.assert_array_equal(made.features(x), made.features(np.array([[2.0, 3, 4], [6, 7, 8]])))


# ---------------------------------------------------------------- ranges


@pytest.mark.parametrize(("dtype", "scale"), [("float16", 1e6), ("float32", 1e39), ("bfloat16", 1e100)])
@pytest.mark.parametrize("limit", [None, 5.0])
def test_values_are_checked_in_the_unit_that_the_network_reads(dtype, scale, limit):
    y, x = PRICE * scale, X * scale
    task = Task.of(y, "regression").with_units_of(y)
    made = Model(Network(3, [Dense(1)], "numpy", dtype), task, Standardizer.fit(x), limit=limit)
    plain = Model(
        Network(3, [Dense(1)], "numpy", dtype),
        Task.of(PRICE, "regression").with_units_of(PRICE),
        Standardizer.fit(X),
    )
    np.testing.assert_allclose(made.predict(x), plain.predict(X) * scale, rtol=1e-2)
    assert made.evaluate(x, y)["r2"] == pytest.approx(plain.evaluate(X, PRICE)["r2"], rel=1e-2)
    far = x.copy()
    far[0, 1] = 1e306
    if limit is None:
        with pytest.raises(DataError, match="x, standardized, holds 1 values that are"):
            made.predict(far)
    else:
        assert np.isfinite(made.predict(far)).all() and made.count_cut(far) >= 1
    far[0, 1] = np.inf
    with pytest.raises(DataError, match="x holds 1 values that are not finite"):
        made.predict(far)


def test_unscaled_values_must_fit_the_type():
    made = Model(Network(3, [Dense(1)], "numpy", "float16"), Task.of(PRICE, "regression"))
    with pytest.raises(DataError, match="too large for float16"):
        made.predict(X * 1e6)
