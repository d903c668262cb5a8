"""One file with a fitted estimator, read again here, by `Model` and by the command line."""

import numpy as np
import pytest
from sklearn.datasets import load_iris, make_multilabel_classification

from ffnn_gpu import Model, activations
from ffnn_gpu.cli.commands import main
from ffnn_gpu.errors import CheckpointError, ConfigurationError
from ffnn_gpu.estimators import MLPClassifier, MLPRegressor

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
X, Y = load_iris(return_X_y=True)
WORDS = np.array(["setosa", "versicolor", "virginica"])[Y]
MANY_X, MANY_Y = make_multilabel_classification(60, 4, random_state=0)
SMALL = {"hidden_layer_sizes": (6, 6), "max_iter": 5, "random_state": 0}
CASES = [
    (MLPClassifier, X, Y), (MLPClassifier, X, WORDS), (MLPClassifier, X, WORDS.astype(object)),
    (MLPClassifier, X, Y == 1), (MLPClassifier, MANY_X, MANY_Y), (MLPRegressor, X, X[:, 0]),
    (MLPRegressor, X, X[:, :2]),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "x", "y"), CASES)
def test_loaded_estimator_is_the_saved_one(kind, x, y, tmp_path):
    model = kind(dropout=0.1, early_stopping=True, **SMALL).fit(x, y)
    model.save(tmp_path / "model")
    loaded = kind.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(x), model.predict(x))
    assert loaded.get_params() == {**model.get_params(), "hidden_layer_sizes": [6, 6]}
    for name in ("loss_curve_", "validation_scores_", "n_iter_", "t_", "n_features_in_", "out_activation_"):
        assert getattr(loaded, name) == getattr(model, name)
    if kind is MLPClassifier:
        assert loaded.classes_.dtype == model.classes_.dtype
        np.testing.assert_array_equal(loaded.predict_proba(x), model.predict_proba(x))
    loaded.set_params(early_stopping=False).partial_fit(x, y)


@pytest.mark.parametrize(("kind", "x", "y"), CASES)
def test_model_reads_the_same_file(kind, x, y, tmp_path):
    model = kind(**SMALL).fit(x, y)
    model.save(tmp_path / "model")
    read = Model.load(tmp_path / "model")
    np.testing.assert_allclose(np.asarray(read.predict(x), y.dtype), model.predict(x), 1e-9) if (
        y.dtype.kind == "f"
    ) else np.testing.assert_array_equal(read.predict(x), model.predict(x))
    if kind is MLPClassifier:
        np.testing.assert_allclose(read.probabilities(x), model.predict_proba(x), 1e-9)


def test_command_line_predicts_with_the_file(tmp_path, capsys):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"size": [1.0, 2.0, None, 4.0] * 20, "colour": ["red", "blue"] * 40})
    y = np.array(["no", "yes"] * 40)
    model = MLPClassifier(hidden_layer_sizes=(8,), learning_rate_init=0.05, random_state=0).fit(frame, y)
    model.save(tmp_path / "model")
    frame.to_csv(tmp_path / "rows.csv", index=False)
    with pytest.raises(SystemExit) as done:
        main(["predict", str(tmp_path / "model"), str(tmp_path / "rows.csv")])
    assert not done.value.code
    printed = capsys.readouterr().out.split()
    assert [line.split(",")[0] for line in printed if line[:2] in ("no", "ye")] == [*model.predict(frame)]


def test_file_of_a_table_encodes_it_again(tmp_path):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"size": [1.0, 2.0, None, 4.0] * 20, "code": [f"c{k}" for k in range(80)]})
    frame["code"] = frame["code"].sample(80, replace=True, random_state=0).to_numpy()
    model = MLPRegressor(**SMALL).fit(frame, range(80))
    model.save(tmp_path / "model")
    loaded = MLPRegressor.load(tmp_path / "model")
    np.testing.assert_array_equal(loaded.predict(frame), model.predict(frame))
    assert [*loaded.feature_names_in_] == ["size", "code"]
    loaded.partial_fit(frame, range(80))


def test_poisson_is_saved_but_no_model_reads_it(tmp_path):
    model = MLPRegressor(loss="poisson", **SMALL).fit(X, Y)
    model.save(tmp_path / "model")
    np.testing.assert_array_equal(MLPRegressor.load(tmp_path / "model").predict(X), model.predict(X))
    with pytest.raises(ConfigurationError, match="a Model has no task with the loss 'poisson'"):
        model.to_model()
    with pytest.raises(CheckpointError, match="holds only a network"):
        Model.load(tmp_path / "model")


def test_parameter_that_is_an_object_has_its_default_after_loading(tmp_path):
    model = MLPRegressor(activation=activations.gelu, **SMALL).fit(X, Y)
    model.save(tmp_path / "model")
    loaded = MLPRegressor.load(tmp_path / "model")
    assert loaded.activation == "relu"
    np.testing.assert_array_equal(loaded.predict(X), model.predict(X))  # its network has gelu


def test_file_of_the_other_class_is_refused(tmp_path):
    MLPRegressor(**SMALL).fit(X, Y).save(tmp_path / "model")
    with pytest.raises(CheckpointError, match=r"holds MLPRegressor; MLPClassifier\.load reads what MLPC"):
        MLPClassifier.load(tmp_path / "model")
