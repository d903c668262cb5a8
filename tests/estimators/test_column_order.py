"""Named columns have one meaning in every order and through every entrance."""

import csv
import io
import itertools

import numpy as np
import pytest
from click.testing import CliRunner

from ffnn_gpu import Dense, Network
from ffnn_gpu.cli import reading
from ffnn_gpu.cli.commands import main
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.estimators.train_table import train_table

pd = pytest.importorskip("pandas")
pytest.importorskip("duckdb")

NAMES = ("b", "d", "a", "c")  # in no order of their own
RNG = np.random.default_rng(3)
X = RNG.normal(size=(12, 4)) * [1, 10, 100, 1000]
PRICE = X @ [1, 0.1, 0.01, 0.001]
ORDERS = [*itertools.permutations(range(4))]


@pytest.fixture(scope="module")
def model():
    """Return a regression, whose answers differ wherever its inputs do."""
    task = Task.of(PRICE).with_units_of(PRICE)
    network = Network(4, [Dense(8, "tanh"), Dense(1)], "numpy", "float64")
    return Model(network, task, Standardizer.fit(X), NAMES, "price", limit=1.5)


def reordered(order, more=0):
    """Return the columns in this order, behind `more` others, and their names."""
    others = [f"other {k}" for k in range(more)]
    return np.hstack([np.full((len(X), more), 7.0), X[:, order]]), [*others, *(NAMES[k] for k in order)]


def as_text(x, names, separator=","):
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator="\n").writerows([names, *x.tolist()])
    return text.getvalue()


@pytest.mark.parametrize("more", [0, 2])
def test_columns_of_an_array_model_have_the_same_answers_in_every_order(model, more):
    want, cut, scores = model.predict(X), model.count_cut(X), model.evaluate(X, PRICE)
    assert cut and len({*want.tolist()}) == len(want)
    for order in ORDERS:
        x, names = reordered(order, more)
        np.testing.assert_array_equal(model.predict(x, names), want)
        assert model.count_cut(x, names) == cut and model.evaluate(x, PRICE, names) == scores
        frame = pd.DataFrame(x, columns=names)
        for rows in (frame, frame.to_dict("list"), frame.to_dict("records")):
            np.testing.assert_array_equal(model.predict(rows), want)
            assert model.count_cut(rows) == cut and model.evaluate(rows, PRICE) == scores


def test_columns_of_text_have_the_same_answers_in_every_order(model, monkeypatch):
    want = model.predict(X)
    for order in ORDERS[::5]:
        x, names = reordered(order, 1)
        text = as_text(x, [f" {name} " for name in names])  # blanks do not belong to a name
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        np.testing.assert_array_equal(model.predict(*reading.read_rows("-", model)), want)


def test_commands_answer_alike_for_a_file_whose_columns_are_in_another_order(model, tmp_path):
    model.save(tmp_path / "model")
    answers, scores = set(), set()
    for number, order in enumerate(ORDERS[4::8]):
        x, names = reordered(order)
        file = tmp_path / f"{number}.csv"
        file.write_text(as_text(np.column_stack([x, PRICE]), [*names, "price"]))
        for command, found in (("predict", answers), ("evaluate", scores)):
            done = CliRunner().invoke(main, [command, str(tmp_path / "model"), str(file), "--quiet"])
            assert done.exit_code == 0, done.output
            found.add(done.stdout)
    assert len(answers) == len(scores) == 1


def test_columns_of_a_table_model_have_the_same_answers_in_every_order():
    columns = {name: X[:, k] for k, name in enumerate(NAMES)}
    columns["word"] = np.array(["red", "blue", "green"], object)[np.arange(len(X)) % 3]
    frame = pd.DataFrame(columns)
    found = train_table(
        frame.assign(price=PRICE), "price", model="mlp", epochs=1, hidden=(8,), device="numpy"
    )
    want = found.model.outputs(frame)
    assert len({*want.ravel().tolist()}) == len(want)
    for order in [*itertools.permutations(frame.columns)][::23]:
        mixed = frame[[*order]]
        np.testing.assert_array_equal(found.model.outputs(mixed), want)
        np.testing.assert_array_equal(found.model.outputs(mixed.astype(object).to_numpy(), order), want)
        numbers = frame.assign(word=1.0)
        of_numbers = found.model.outputs(numbers)
        given = numbers[[*order]].to_numpy()
        np.testing.assert_array_equal(found.model.outputs(given, order), of_numbers)
