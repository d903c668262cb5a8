"""Models that were trained on real rows answer alike in every exported form."""

import numpy as np
import pytest

from ffnn_gpu.backends.cpu.numpy_backend import NumpyBackend
from ffnn_gpu.cli import result, train
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.data.readers import read
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.export.to_onnx import onnx_bytes
from tests.export.models import assert_same_bits
from tests.export.runtime import assert_answers, session

pytest.importorskip("sklearn", reason="scikit-learn is not installed: there are no bundled data sets")


@pytest.mark.parametrize("name", ["digits", "breast_cancer", "wine", "diabetes"])
def test_every_row_of_a_bundled_data_set(name, dtype, tmp_path, monkeypatch, loaded):
    monkeypatch.setattr(result, "_draw_plots", lambda *arguments: None)
    folder = tmp_path / "run"
    settings = {
        "epochs": 5,
        "normalization": "batch",
        "activation": "silu",
        "device": "numpy",
        "dtype": dtype,
    }
    train.train(TrainConfig(data=name, out=str(folder), **settings))
    models = [Model.load(folder, device) for device in ("numpy", NumpyBackend())]
    x = np.asarray(read(name).x, np.float64)
    for model in models:
        answers = model.predict(x)
        probabilities = None if model.task.kind == "regression" else model.probabilities(x)
        run = session(onnx_bytes(model))
        assert_answers(run, {"x": x}, answers, probabilities, 1e-6 if dtype == "float32" else 1e-12)
    file = loaded(model)  # of the model without compiled code
    assert_same_bits(file.predict(x), answers)
    if probabilities is not None:
        assert_same_bits(file.probabilities(x), probabilities)
