"""An ONNX file answers raw rows as the model does that it was made of."""

import json

import numpy as np
import onnx
import pytest

from ffnn_gpu import Dense, Model, Network, export_onnx
from ffnn_gpu.data.labels import LabelMap
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.export.to_onnx import graph as graphs
from ffnn_gpu.export.to_onnx import onnx_bytes
from ffnn_gpu.tables.encoders import NumberEncoder
from ffnn_gpu.tables.encoding import Encoding
from tests.export.models import FRAME, RNG, ROWS, TARGETS, N, answers_of, model_of_matrix, model_of_table
from tests.export.runtime import assert_answers, assert_close, inputs_of, session

X = np.column_stack([RNG.normal(1e3, 5, N), RNG.normal(size=(N, 2)), np.full(N, 7.0)])


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_file_of_a_table_answers_like_the_model_also_for_unseen_and_missing_cells(target, dtype):
    model = model_of_table(target, dtype)
    run = session(onnx_bytes(model))
    for rows in ("FRAME", "NEW"):
        assert_answers(run, inputs_of(ROWS[rows], run), *answers_of(model, rows))


@pytest.mark.parametrize(
    ("target", "loss"), [("texts", "cross_entropy"), ("several", "binary_cross_entropy")]
)
def test_network_that_ends_with_probabilities_gives_them_as_they_are(target, loss):
    model = model_of_table(target, loss=loss)
    run = session(onnx_bytes(model))
    assert_answers(run, inputs_of(FRAME, run), *answers_of(model, "FRAME"))


@pytest.mark.parametrize("target", ["texts", "prices"])
@pytest.mark.parametrize("limit", [None, 1.5])
def test_file_of_a_matrix_scales_and_cuts_like_the_model(target, limit):
    model = model_of_matrix(X, target, limit=limit)
    run = session(onnx_bytes(model))
    rows = X + np.array([0, 0, 0, 3])  # the last column was constant in training
    (entry,) = run.get_inputs()
    assert (entry.name, entry.type) == ("x", "tensor(double)")
    probabilities = None if target == "prices" else model.probabilities(rows)
    assert_answers(run, {"x": rows}, model.predict(rows), probabilities)


def test_file_of_a_model_without_scaling_reads_the_type_of_the_network():
    model = Model(Network(4, [Dense(1)], "numpy"), Task.of(TARGETS["booleans"]))
    rows = X.astype("float32")
    run = session(onnx_bytes(model))
    assert_answers(run, {"x": rows}, model.predict(rows), model.probabilities(rows))


@pytest.mark.parametrize("target", ["two texts", "several", "texts"])
def test_outputs_at_the_threshold_are_decided_like_by_the_model(target):
    task = Task.of(TARGETS[target])
    network = Network(4, [Dense(task.outputs)], "numpy")
    network.params.assign({name: 0 * value for name, value in network.params.to_host().items()})
    rows, model = X[:3].astype("float32"), Model(network, task)
    assert_answers(session(onnx_bytes(model)), {"x": rows}, model.predict(rows), model.probabilities(rows))


def test_file_of_a_16_bit_network_computes_in_float32():
    network = Network(4, [Dense(8, "relu"), Dense(2)], "numpy", "bfloat16")
    rows = RNG.normal(size=(50, 4)).astype("float32")
    (got,) = session(onnx_bytes(network)).run(None, {"x": rows})
    wide = Network(4, network.layers, "numpy", "float32")
    wide.params.assign(network.params.to_host())
    assert_close(got, wide.predict(rows))


def test_file_is_of_opset_17_and_ir_8_and_names_columns_and_classes(tmp_path):
    model = model_of_table("numbers")
    export_onnx(model, tmp_path / "model.onnx")
    file = onnx.load(tmp_path / "model.onnx")
    assert {each.domain: each.version for each in file.opset_import} == {"": 17, "ai.onnx.ml": 3}
    assert file.ir_version == 8 and file.producer_name == "ffnn_gpu"
    said = {each.key: json.loads(each.value) for each in file.metadata_props}
    assert said["classes"] == [-2, 3, 7] and said["task"] == "multiclass" and said["missing"] == ["unknown"]
    kinds = ("number", "number", "category", "category", "category", "category", "boolean", "time", "number")
    assert [*said["columns"].items()] == [*zip(FRAME.columns, kinds, strict=True)]
    assert [each.name for each in file.graph.output] == ["label_", "probabilities"]  # a column is `label`


def test_file_of_a_matrix_names_its_columns():
    file = onnx.load_from_string(onnx_bytes(model_of_matrix(X, names=("a", "b", "c", "d"))))
    assert ("features", '["a", "b", "c", "d"]') in [(each.key, each.value) for each in file.metadata_props]


def test_estimator_is_exported_as_the_model_in_it():
    made = model_of_matrix(X)

    class Estimator:
        def to_model(self):
            return made

    assert onnx_bytes(Estimator()) == onnx_bytes(made)


def test_column_without_a_name_is_refused():
    encoding = Encoding((NumberEncoder("", 0.0, 1.0, False),), ("",))
    model = Model(Network(1, [Dense(1)], "numpy"), Task.of(TARGETS["booleans"]), encoding=encoding)
    with pytest.raises(ConfigurationError, match="a column has an empty name, and ONNX inputs need names"):
        onnx_bytes(model)


def test_columns_with_the_names_of_nodes_do_not_collide():
    names = ["constant_1", "concat_2", "gemm_9", "label", "label_", "probabilities", "output"]
    encoding = Encoding(tuple(NumberEncoder(name, 0.0, 1.0, True) for name in names), tuple(names))
    model = Model(Network(14, [Dense(1)], "numpy"), Task.of(TARGETS["booleans"]), encoding=encoding)
    run = session(onnx_bytes(model))
    x = RNG.normal(size=(9, 7))
    got = run.run(None, {name: x[:, [k]] for k, name in enumerate(names)})
    assert [each.name for each in run.get_outputs()] == ["label__", "probabilities_"]
    assert_close(got[1], model.probabilities(x))


def test_thing_that_is_no_model_is_refused():
    with pytest.raises(ConfigurationError, match="a dict cannot be exported; pass a Network, a Model or a "):
        onnx_bytes({})


@pytest.mark.parametrize(
    ("classes", "complaint"),
    [
        ((1, "a"), "the classes 1, 'a' are not all texts"),
        (((1, 2), (3, 4)), r"the classes \(1, 2\), \(3, 4\) are not all texts"),
        ((1, 2**70), "beyond 64 bits"),
    ],
)
def test_classes_that_no_onnx_type_holds_are_refused(classes, complaint, tmp_path):
    network = Network(4, [Dense(1)], "numpy")
    task = Task("binary", 1, "binary_cross_entropy_with_logits", labels=LabelMap(classes))
    (tmp_path / "old.onnx").write_text("old")
    with pytest.raises(ConfigurationError, match=complaint):
        export_onnx(Model(network, task), tmp_path / "old.onnx")
    assert (tmp_path / "old.onnx").read_text() == "old"


def test_weights_beyond_the_largest_file_are_refused(monkeypatch):
    monkeypatch.setattr(graphs, "LARGEST", 100)
    with pytest.raises(
        ConfigurationError, match="the weights have 1,280 bytes; an ONNX file holds at most 100"
    ):
        onnx_bytes(Network(31, [Dense(10)], "numpy"))


def test_missing_package_is_named_with_its_remedy(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(ConfigurationError, match=r'pip install "ffnn_gpu\[onnx\]"'):
        onnx_bytes(Network(3, [Dense(1)], "numpy"))
