"""What an estimator with scikit-learn's interface predicts, its exported files predict."""

import numpy as np
import pytest

from ffnn_gpu import MLPClassifier, MLPRegressor, export_onnx
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
