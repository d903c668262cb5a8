"""What an estimator with scikit-learn's interface predicts, its exported files predict."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ffnn_gpu import MLPClassifier, MLPRegressor, Model, TabularClassifier, TabularRegressor, export_onnx
from ffnn_gpu.estimators.tabular.recipes import Plain, Preset, RealMLP
from tests.export.models import FRAME, TARGETS
from tests.export.runtime import inputs_of, session

X = np.random.default_rng(0).normal(size=(len(FRAME), 5))


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
@pytest.mark.parametrize("rows", [X, FRAME], ids=["matrix", "table"])
@pytest.mark.parametrize("target", ["texts", "several", "price"])
def test_exported_estimator_answers_as_its_predict(tmp_path, loaded, rows, target):
    estimator = MLPRegressor if target == "price" else MLPClassifier
    fitted = estimator(hidden_layer_sizes=(8,), max_iter=5, device="numpy").fit(rows, TARGETS[target])
    want, file = fitted.predict(rows), loaded(fitted)
    export_onnx(fitted, tmp_path / "served.onnx")
    serving = session(tmp_path / "served.onnx")
    found = serving.run(None, inputs_of(rows, serving) if rows is FRAME else {"x": rows})
    if target == "price":
        np.testing.assert_allclose(file.predict(rows), want, rtol=1e-9)
        np.testing.assert_allclose(found[0].ravel(), want, rtol=1e-9)
        return
    np.testing.assert_array_equal(file.predict(rows), want)
    np.testing.assert_array_equal(found[0], want)
    np.testing.assert_allclose(found[1], fitted.predict_proba(rows), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rows", [X, FRAME], ids=["matrix", "table"])
@pytest.mark.parametrize("target", ["texts", "two texts", "price"])
def test_exported_ensemble_answers_as_its_predict(tmp_path, loaded, rows, target):
    recipes = (
        Plain(name="plain", hidden=(4,), epochs=2, steps=1),
        RealMLP(name="waves", hidden=(8,), epochs=2, steps=1),
    )
    kind = TabularRegressor if target == "price" else TabularClassifier
    fitted = kind(Preset(recipes, 2), device="numpy", random_state=0).fit(rows, TARGETS[target])
    want, file = fitted.predict(rows), loaded(fitted)
    export_onnx(fitted, tmp_path / "served.onnx")
    serving = session(tmp_path / "served.onnx")
    frame = rows if rows is FRAME else pd.DataFrame(rows).rename(columns=str)
    found = serving.run(None, inputs_of(frame, serving))
    if target == "price":
        np.testing.assert_allclose(file.predict(rows), want, rtol=1e-5)
        np.testing.assert_allclose(found[0].ravel(), want, rtol=1e-5)
        return
    np.testing.assert_array_equal(file.predict(rows), want)
    np.testing.assert_array_equal(found[0], want)
    np.testing.assert_allclose(found[1], fitted.predict_proba(rows), atol=1e-6)


@pytest.mark.filterwarnings("ignore:.*Maximum iterations")
@pytest.mark.parametrize("target", ["price", "prices"])
def test_exported_answers_stay_within_the_limits_of_the_task(tmp_path, loaded, target):
    network = MLPRegressor(hidden_layer_sizes=(8,), max_iter=60, device="numpy", random_state=0)
    model = network.fit(X, TARGETS[target]).to_model()
    width = model.task.outputs
    narrow = replace(model, task=replace(model.task, limits=((0.5,) * width, (1.0,) * width)))
    want = narrow.predict(X)
    assert want.min() == 0.5 and want.max() == 1 and (model.predict(X) != want).any()
    export_onnx(narrow, tmp_path / "served.onnx")
    found = session(tmp_path / "served.onnx").run(None, {"x": X})[0]
    np.testing.assert_allclose(found.reshape(want.shape), want, rtol=1e-9)
    np.testing.assert_allclose(loaded(narrow).predict(X), want, rtol=1e-9)
    narrow.save(tmp_path / "narrow.safetensors")
    again = Model.load(tmp_path / "narrow.safetensors", "numpy").predict(X)
    np.testing.assert_allclose(again, want, rtol=1e-9)
