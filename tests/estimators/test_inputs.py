"""Columns are found by name, in any order: every entrance of a model gives the same outputs."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from ffnn_gpu.arrays import rows as rows_module
from ffnn_gpu.cli import result
from ffnn_gpu.cli.commands import main
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.errors import DataError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.estimators.train_table import train_table
from ffnn_gpu.nn.layers import Dense
from ffnn_gpu.nn.network import Network
from ffnn_gpu.tables.rows import TableRows
from ffnn_gpu.tables.sources import read_table

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pytest.importorskip("duckdb")

RNG = np.random.default_rng(3)
NAMES = ("a", "b", "c", "d")
X = RNG.normal(size=(60, 4)) * [1, 10, 100, 1000] + [0, 3, 5, 7]
Y = X @ [1.0, 0.2, -0.03, 0.001] + RNG.normal(size=60)
ORDERS = [(1, 2, 0, 3), (3, 0, 1, 2), (2, 3, 1, 0)]  # none is its own inverse
FRAME = pd.DataFrame(X, columns=NAMES)


def of_array():
    """Return a model with names that was fitted to an array, so it has no encoding."""
    task = Task.of(Y).with_units_of(Y)
    network = Network(4, [Dense(5, "tanh"), Dense(1)], "numpy", "float64", seed=2)
    return Model(network, task, Standardizer.fit(X), NAMES, "y")


def of_table():
    return train_table(FRAME.assign(y=Y), "y", epochs=1, hidden=(4,), device="numpy").model


@pytest.fixture(scope="module", params=[of_array, of_table])
def saved(request, tmp_path_factory):
    """Return a model and the file that it was saved to."""
    path, model = tmp_path_factory.mktemp("model") / "model.safetensors", request.param()
    model.save(path)
    return model, path


@pytest.fixture(autouse=True)
def no_plots(monkeypatch):
    monkeypatch.setattr(result, "_draw_plots", lambda *arguments: None)


def run(*arguments):
    found = CliRunner().invoke(main, [*map(str, arguments), "--quiet", "--device", "numpy"])
    assert found.exit_code == 0, found.output
    return found.output


def test_outputs_do_not_depend_on_the_order_of_named_columns(saved, monkeypatch):
    model, _ = saved
    monkeypatch.setattr(rows_module, "BLOCK_ELEMENTS", 100)  # several blocks of rows
    want, scores = model.outputs(X), model.evaluate(X, Y)
    assert not any((model.outputs(X[:, order]) == want).all() for order in ORDERS)  # else nothing is shown
    for order in ORDERS:
        x, names = X[:, order], [NAMES[k] for k in order]
        frame = pd.DataFrame(x, columns=names).assign(other=0.5)
        for given in (frame, pl.from_pandas(frame), frame.to_dict("list"), frame.to_dict("records")):
            np.testing.assert_array_equal(model.outputs(given), want)
        np.testing.assert_array_equal(model.outputs(x, names), want)
        np.testing.assert_array_equal(model.outputs(x, pd.Index(names)), want)
        np.testing.assert_array_equal(model.outputs(np.insert(x, 2, 0.5, 1), np.insert(names, 2, "z")), want)
        assert model.evaluate(frame, Y) == model.evaluate(x, Y, names) == scores


@pytest.mark.parametrize(("order", "header"), [((1, 2, 0, 3), " {}  "), ((3, 0, 1, 2), '"{}"')])
def test_commands_find_the_columns_of_a_text_file_in_any_order(saved, tmp_path, order, header):
    model, path = saved
    columns = {NAMES[k]: X[:, k] for k in order[:2]} | {"y": Y} | {NAMES[k]: X[:, k] for k in order[2:]}
    lines = [",".join(header.format(name) for name in columns)]
    lines += [",".join(map(repr, row)) for row in np.column_stack([*columns.values()]).tolist()]
    (tmp_path / "rows.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    table = read_table(str(tmp_path / "rows.csv"), known=model.feature_names)
    assert table.names == tuple(columns)
    np.testing.assert_array_equal(model.outputs(table), model.outputs(X))
    some = np.array([59, 7, 30, 7])
    np.testing.assert_array_equal(
        model.features(TableRows(table, some, 4, skip=(2,))), model.features(X)[some]
    )
    found = json.loads(run("evaluate", path, tmp_path / "rows.csv", "--json"))
    want = model.evaluate(X, Y) | {"rows": 60}
    assert found == pytest.approx(want, rel=1e-12)
    run("predict", path, tmp_path / "rows.csv", "--output", tmp_path / "answers.npy")
    np.testing.assert_array_equal(np.load(tmp_path / "answers.npy").ravel(), model.predict(X).ravel())


def test_names_of_no_feature_leave_the_order_and_some_of_them_are_refused(saved):
    model, _ = saved
    np.testing.assert_array_equal(model.outputs(X, ["p", "q", "r", "s"]), model.outputs(X))
    for names in (["b", "a", "c", "z"], ["b", "a", "c", "c"]):
        with pytest.raises(DataError, match="'d'"):
            model.outputs(X, names)
