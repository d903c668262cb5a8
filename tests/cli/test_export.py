"""`ffnn-gpu export` writes all files or none, and says what it wrote."""

import importlib.util
import json

import numpy as np
import pytest
from click.testing import CliRunner
from safetensors.numpy import load_file

from ffnn_gpu.cli.commands import main
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.nn.layers import Dense
from ffnn_gpu.nn.network import Network

X = np.random.default_rng(0).normal(size=(30, 3))
Y = np.where(X[:, 0] > 0, "ripe", "green")


@pytest.fixture(autouse=True)
def model(tmp_path, monkeypatch):
    """Save a model in the working folder as run/model.safetensors."""
    monkeypatch.chdir(tmp_path)
    network = Network(3, [Dense(4, "relu"), Dense(1)], "numpy", "float64")
    made = Model(network, Task.of(Y), Standardizer.fit(X), ("a", "b", "c"), "fruit")
    made.save(tmp_path / "run" / "model")
    return made


def run(*words):
    return CliRunner().invoke(main, ["export", *words])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_files_hold_the_model(model, tmp_path):
    pytest.importorskip("onnx", reason="onnx is not installed: no ONNX file is written")
    files = ["--onnx", "out/m.onnx", "--numpy", "out/m.py", "--safetensors", "out/m.safetensors"]
    done = run("run", *files)
    assert done.exit_code == 0, done.output
    kinds = [line.split()[:2] for line in done.stdout.splitlines()]
    assert kinds == [["onnx", "out/m.onnx"], ["numpy", "out/m.py"], ["safetensors", "out/m.safetensors"]]
    spec = importlib.util.spec_from_file_location("m", tmp_path / "out" / "m.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    np.testing.assert_array_equal(module.predict(X), model.predict(X))
    np.testing.assert_array_equal(
        load_file("out/m.safetensors")["0.weight"].T, model.network.params.to_host()["0.W"]
    )
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    session = onnxruntime.InferenceSession("out/m.onnx", providers=["CPUExecutionProvider"])
    np.testing.assert_array_equal(session.run(["label"], {"x": X})[0], model.predict(X))


def test_result_as_json_has_path_and_size(tmp_path):
    done = run("run/model.safetensors", "--numpy", "m.py", "--json")
    size = (tmp_path / "m.py").stat().st_size
    assert json.loads(done.stdout) == {
        "model": "run/model.safetensors",
        "files": {"numpy": {"path": "m.py", "bytes": size}},
    }


@pytest.mark.parametrize(
    ("words", "code", "complaint"),
    [
        (["run"], 2, "export writes nothing; add --onnx FILE, --numpy FILE or --safetensors FILE"),
        (["run", "--onnx", "m.py"], 2, "--onnx writes a file that ends with .onnx, not m.py"),
        (["run", "--numpy", "folder.py"], 2, "--numpy: folder.py is a folder; give the name of a file"),
        (
            ["run", "--numpy", "m.py", "--safetensors", "run/model.safetensors"],
            2,
            "--safetensors: run/model.safetensors is a checkpoint of ffnn_gpu, which would be lost",
        ),
        (["nothing", "--numpy", "m.py"], 3, "nothing does not exist; give the run folder"),
    ],
)
def test_wrong_words_are_refused_and_nothing_is_written(words, code, complaint, tmp_path):
    (tmp_path / "folder.py").mkdir()
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    done = run(*words)
    assert done.exit_code == code and done.stdout == ""
    assert complaint in done.stderr and done.stderr.count("\n") == 1
    assert names(tmp_path) == ["folder.py", "run"]
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before


def test_file_that_cannot_be_made_leaves_the_others_unwritten(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    done = run("run", "--numpy", "m.py", "--onnx", "m.onnx")
    assert done.exit_code == 2 and 'pip install "ffnn_gpu[onnx]"' in done.stderr
    assert names(tmp_path) == ["run"]
