"""The Python file needs NumPy alone, and in float64 returns the bits that `predict` returns."""

import re
import subprocess
import sys

import numpy as np
import pytest

from ffnn_gpu import Model, Network, export_numpy
from ffnn_gpu.backends.cpu.numpy_backend import NumpyBackend
from ffnn_gpu.data.labels import LabelMap
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.export.to_numpy import numpy_source
from ffnn_gpu.nn.layers import (
    Average,
    BatchNorm,
    CosineEmbedding,
    Dense,
    Dropout,
    Embedding,
    LayerNorm,
    LogSoftmax,
    NTKDense,
    ParametricActivation,
    PeriodicEmbedding,
    PiecewiseLinearEmbedding,
    Residual,
    Scale,
    Softmax,
)
from tests.export.models import (
    FRAME,
    RNG,
    ROWS,
    TARGETS,
    N,
    answers_of,
    assert_same_bits,
    model_of_matrix,
    model_of_table,
    scattered,
)

X = np.column_stack([RNG.normal(1e3, 5, N), RNG.normal(size=(N, 2)), np.full(N, 7.0)])
PLAIN = NumpyBackend()  # without llvmlite, whose exp differs in the last bit
STACKS = {
    "dense": [Dense(5)],
    "without bias": [Dense(5, "tanh", bias=False)],
    "dropout": [Dropout(0.5), Dense(5)],
    "layer norm": [LayerNorm(eps=1e-3)],
    "batch norm": [BatchNorm(eps=1e-3)],
    "average": [
        Average([[Dense(4, "relu"), Dense(3), Softmax()], [BatchNorm(), Dense(3), Softmax()]], (0.7, 0.3)),
        Average([Dense(2, "tanh"), [LayerNorm(), Average([Dense(2), Dense(2)])]]),
    ],
    "residual": [LayerNorm(), Residual([Dense(4, "relu"), Residual([BatchNorm()]), Dense(4)]), Dense(2)],
    "periodic": [LayerNorm(), PeriodicEmbedding(3, 5, 4, 0.3), Dense(5)],
    "cosine": [LayerNorm(), CosineEmbedding(3, 5, 0.3), Dense(5)],
    "parametric": [
        LayerNorm(),
        Dense(5),
        ParametricActivation("mish"),
        Dense(4),
        ParametricActivation("selu"),
    ],
    "ntk": [LayerNorm(), NTKDense(7, "tanh"), NTKDense(5, bias=False)],
    "bins": [
        LayerNorm(),
        PiecewiseLinearEmbedding([[-1, 0, 0.5, 1], [-1, 1], [-0.5, 0.5, 0.75]], 4),
        Dense(5),
    ],
    "scale": [Scale(), Dense(5)],
    "softmax": [LayerNorm(), Softmax()],
    "log softmax": [LayerNorm(), LogSoftmax()],
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_answers_have_the_bits_of_the_model(target, dtype, loaded):
    model = model_of_table(target, dtype, PLAIN)
    file = loaded(model)
    for rows in ("FRAME", "NEW"):
        answers, probabilities = answers_of(model, rows)
        assert_same_bits(file.predict(ROWS[rows]), answers)
        if probabilities is not None:
            assert_same_bits(file.probabilities(ROWS[rows]), probabilities)
    assert hasattr(file, "probabilities") == (model.task.kind != "regression")


@pytest.mark.parametrize(
    ("target", "loss"), [("texts", "cross_entropy"), ("several", "binary_cross_entropy")]
)
def test_network_that_ends_with_probabilities_gives_them_as_they_are(target, loss, loaded):
    model = model_of_table(target, "float64", PLAIN, loss)
    assert_same_bits(loaded(model).probabilities(FRAME), answers_of(model, "FRAME")[1])


@pytest.mark.parametrize("target", ["texts", "prices"])
@pytest.mark.parametrize("limit", [None, 1.5])
def test_matrix_is_scaled_and_cut_like_by_the_model(target, limit, loaded):
    model = model_of_matrix(X, target, "float64", PLAIN, limit)
    rows = X + np.array([0, 0, 0, 3])  # the last column was constant in training
    assert_same_bits(loaded(model).outputs(rows), model.outputs(rows))


@pytest.mark.parametrize("layers", STACKS.values(), ids=STACKS)
def test_network_has_the_bits_of_predict(layers, loaded):
    network = scattered(Network(4, layers, PLAIN, "float64"))
    x = RNG.normal(size=(1500, 4))  # more than one block of rows
    assert_same_bits(loaded(network).predict(x), network.predict(x))
    assert_same_bits(loaded(network).predict(x[:1]), network.predict(x[:1]))


def test_embedding_refuses_a_number_that_is_no_code(loaded):
    network = Network(3, [Embedding((4, 3), (2, 5)), Dense(2)], PLAIN, "float64")
    x = np.hstack([RNG.normal(size=(20, 1)), RNG.integers(0, [4, 3], (20, 2))])
    file = loaded(network)
    assert_same_bits(file.predict(x), network.predict(x))
    for wrong in (-1, 4, 0.5):
        x[3, 1] = wrong
        with pytest.raises(ValueError, match="a code is none of the whole numbers 0 to 3"):
            file.predict(x)


@pytest.mark.parametrize("classes", [(1, "a"), ((1, 2), (3, 4)), (2**70, 3), (1.5, 2.5)])
def test_classes_of_every_kind_come_back(classes, loaded):
    task = Task("binary", 1, "binary_cross_entropy_with_logits", labels=LabelMap(classes))
    model = Model(Network(4, [Dense(1)], PLAIN, "float64"), task)
    got, want = loaded(model).predict(X - X.mean(0)), model.predict(X - X.mean(0))
    assert got.tolist() == want.tolist()


def test_rows_that_do_not_fit_are_refused(loaded):
    file = loaded(model_of_matrix(X))
    with pytest.raises(ValueError, match=r"rows have shape \(2, 3\); the model reads 4 columns"):
        file.predict(X[:2, :3])
    with pytest.raises(ValueError, match="rows hold a number that is not finite"):
        file.predict(np.where(X[0, 0] == X, np.nan, X))


def test_no_rows_give_no_answers(loaded):
    assert loaded(model_of_matrix(X)).predict(X[:0]).shape == (0,)


def test_layer_of_a_user_is_refused_and_nothing_is_written(tmp_path):
    class Mine(Dense):
        pass

    (tmp_path / "model.py").write_text("old")
    with pytest.raises(ConfigurationError, match=r"layer 0 is Mine\(3\); NumPy export knows Dense"):
        export_numpy(Network(2, [Mine(3)], "numpy"), tmp_path / "model.py")
    assert (tmp_path / "model.py").read_text() == "old"


@pytest.mark.parametrize("model", [model_of_table(), model_of_matrix(X, "price", limit=3.0)])
def test_file_is_readable_and_imports_nothing_but_numpy_and_the_standard_library(model, tmp_path):
    source = numpy_source(model, "served")
    assert "    served.predict(rows)\n" in source
    lines = source.splitlines()
    assert [line for line in lines if len(line) > 110] == []
    imported = set(re.findall(r"^(?:import|from) (\w+)", source, re.M))
    assert imported <= {"base64", "io", "re", "datetime", "numpy"}
    functions = re.findall(r"^def \w+\(.*\):\n    (.*)", source, re.M)
    assert len(functions) > 4 and all(line.startswith('"""') for line in functions)
    (tmp_path / "served.py").write_text(source, encoding="utf-8")
    code = "import sys; sys.modules['ffnn_gpu'] = sys.modules['pandas'] = None; import served; print('ok')"
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert done.stdout.strip() == b"ok"
