"""MLflow finds in its store what the history holds."""

import sys

import numpy as np
import pytest
from ffnn_gpu.callbacks import Callback, MLflow

from ffnn_gpu import Dense, Network, fit
from ffnn_gpu.errors import ConfigurationError

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
Y = X[:, :1] ** 2


def mean_error_(y, prediction):
    return float(np.abs(y - prediction).mean())


mean_error_.__name__ = "mean error (%)"


class Broken(Callback):
    def after_epoch(self, run, row):
        raise RuntimeError("broken")


def trained(*callbacks, epochs=3, **settings):
    network = Network(3, [Dense(4, "tanh"), Dense(1)], "numpy")
    return fit(
        network, "mean_squared_error", "adam", (X, Y), epochs=epochs, metrics=mean_error_,
        callbacks=callbacks, verbose=0, seed=7, batch_size=10, **settings,
    )  # fmt: skip


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """Return the path of one database: to make one takes MLflow some seconds."""
    pytest.importorskip("mlflow", reason="MLflow is not installed: no run is logged")
    pytest.importorskip("sqlalchemy", reason="SQLAlchemy is not installed: no run is logged")
    return tmp_path_factory.mktemp("mlflow") / "deep" / "mlflow.db"


def client(database):
    from mlflow.tracking import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{database}")


def runs(database, experiment):
    found = client(database).get_experiment_by_name(experiment)
    return client(database).search_runs([found.experiment_id])


def assert_logged(database, run_id, history):
    for name in set(history.columns) - {"epoch"}:
        key = name.replace("(", "_").replace(")", "_").replace("%", "_")
        points = client(database).get_metric_history(run_id, key)
        points.sort(key=lambda point: point.step)
        assert [point.step for point in points] == [int(epoch) for epoch in history["epoch"]], name
        np.testing.assert_array_equal([point.value for point in points], history[name])


def test_settings_and_every_column_are_logged(database):
    history = trained(MLflow(database, "plain", "first"))
    (run,) = runs(database, "plain")
    assert_logged(database, run.info.run_id, history)
    assert run.info.run_name == "first" and run.info.status == "FINISHED"
    said = run.data.params
    assert said.pop("network").startswith("Network(3, [Dense(4, tanh), Dense(1)], device='numpy'")
    assert "mean_squared_error" in said.pop("loss") and said.pop("optimizer").startswith("Adam(lr=0.001")
    assert said == {"epochs": "3", "batch_size": "10", "seed": "7", "device": "numpy", "rows": "40"}


def test_resumed_run_continues_the_run_of_mlflow(database, tmp_path):
    trained(MLflow(database, "resumed"), checkpoint=tmp_path)
    history = trained(MLflow(database, "resumed"), epochs=5, checkpoint=tmp_path, resume=True)
    (run,) = runs(database, "resumed")
    assert_logged(database, run.info.run_id, history)
    assert run.info.status == "FINISHED"


def test_resumed_run_begins_another_if_its_run_is_gone(database, tmp_path):
    trained(MLflow(database, "deleted"), checkpoint=tmp_path)
    (first,) = runs(database, "deleted")
    client(database).delete_run(first.info.run_id)
    trained(MLflow(database, "deleted"), epochs=5, checkpoint=tmp_path, resume=True)
    (second,) = runs(database, "deleted")
    points = client(database).get_metric_history(second.info.run_id, "loss")
    assert sorted(point.step for point in points) == [4, 5]
    callback = MLflow(database)
    callback.start(None)
    callback.restore({"run_id": "0" * 32}, {})
    assert callback.run_id is None


def test_run_that_fails_is_marked(database):
    with pytest.raises(RuntimeError, match="broken"):
        trained(MLflow(database, "failed"), Broken())
    (run,) = runs(database, "failed")
    assert run.info.status == "FAILED"


def test_missing_package_is_named_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow.tracking", None)
    with pytest.raises(ConfigurationError, match=r'pip install "ffnn_gpu\[mlflow\]"'):
        trained(MLflow(tmp_path / "mlflow.db"))
