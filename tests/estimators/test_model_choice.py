"""model = "auto" decides by one list of settings, and settings that mean nothing for a model are refused."""

import numpy as np
import pytest

from ffnn_gpu.data.readers import Dataset
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators import model_choice
from ffnn_gpu.estimators.model_choice import (
    OF_ENSEMBLES,
    OF_ONE_NETWORK,
    Choice,
    decided,
    one_network,
    require_fitting,
    split_as_decided,
    without_ensemble,
)
from ffnn_gpu.estimators.settings import FIELDS, OF_COLUMNS, OF_SOURCES, TrainConfig
from ffnn_gpu.estimators.tabular.recipes import LINEAR, MLP_PLE, PRESETS, Preset, rows_in_full
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.tables.roles import Roles

BOTH = {
    *OF_COLUMNS, *OF_SOURCES, "data", "test", "cut", "dtype", "class_weight", "metrics", "device", "seed",
    "out", "model",
}  # fmt: skip
OTHER = {
    "validation": 0.2, "standardize": False, "hidden": (8,), "activation": "tanh", "dropout": 0.1,
    "normalization": "batch", "loss": "mse", "label_smoothing": 0.1, "optimizer": "sgd", "lr": 0.1,
    "weight_decay": 0.1, "l1": 0.1, "l2": 0.1, "clip_norm": 1.0, "ema": 0.9, "schedule": "cosine",
    "epochs": 3, "batch_size": 7, "accumulate": 2, "shard_optimizer": True, "batch_statistics": "local",
    "early_stopping": 3,
}  # fmt: skip
OF_AN_ENSEMBLE = {"preset": "fast", "metric": "auc", "time_limit": "60"}


def test_every_setting_has_a_model():
    assert {*FIELDS} == BOTH | {*OF_ONE_NETWORK, *OF_ENSEMBLES}
    assert {*OTHER} == {*OF_ONE_NETWORK} and {*OF_AN_ENSEMBLE} == {*OF_ENSEMBLES}


# ---------------------------------------------------------------- what auto decides


def test_a_table_gets_an_ensemble_and_an_array_one_network():
    assert TrainConfig().model == "auto"
    assert decided(TrainConfig(), (), True) == Choice("tabular", "the data are a table")
    assert decided(TrainConfig(), (), False) == Choice("mlp", "the data are an array and no table")
    assert str(decided(TrainConfig(), (), True)) == (
        "model tabular, an ensemble of networks: the data are a table"
    )


@pytest.mark.parametrize("name", OTHER)
def test_a_setting_that_an_ensemble_refuses_decides_for_one_network(name):
    """The law for each setting: "auto" with it is one network exactly if "tabular" refuses it."""
    config = TrainConfig(**{name: OTHER[name]})
    assert decided(config, (), True) == Choice("mlp", f"{name} is a setting of one network")
    assert decided(TrainConfig(), {name, "seed"}, True) == Choice(
        "mlp", f"{name} is a setting of one network"
    )


@pytest.mark.parametrize("name", sorted(BOTH - {"model"}))
def test_a_setting_of_both_decides_nothing(name):
    assert decided(TrainConfig(), {name}, True).model == "tabular"
    assert decided(TrainConfig(), {name}, False).model == "mlp"


@pytest.mark.parametrize("name", OF_AN_ENSEMBLE)
def test_a_setting_of_an_ensemble_decides_for_one_whatever_the_data_are(name):
    said = Choice("tabular", f"{name} is a setting of an ensemble")
    assert decided(TrainConfig(**{name: OF_AN_ENSEMBLE[name]}), (), False) == said
    assert decided(TrainConfig(), {name}, True, rows=10**7) == said


def test_settings_of_both_models_are_refused_by_name():
    with pytest.raises(ConfigurationError, match=r"^hidden, lr is for one network, and preset"):
        decided(TrainConfig(lr=0.1, preset="fast"), {"hidden"}, True)
    with pytest.raises(ConfigurationError, match=r"validation, standardize, hidden, … is for one"):
        decided(TrainConfig(), {*FIELDS}, True)


def test_several_processes_and_types_of_16_bits_get_one_network():
    assert decided(TrainConfig(), (), True, processes=3) == Choice(
        "mlp", "an ensemble trains in one process, and there are 3"
    )
    assert decided(TrainConfig(dtype="float16"), (), True).reason == "an ensemble does not compute in float16"
    assert decided(TrainConfig(dtype="float64"), (), True).model == "tabular"


def test_a_table_of_more_rows_than_members_make_passes_over_gets_one_network():
    assert decided(TrainConfig(), (), True, rows=102_400).model == "tabular"
    assert decided(TrainConfig(), (), True, rows=102_401) == Choice(
        "mlp", "there are 102,401 training rows, more than 102,400"
    )


def test_bound_of_rows_is_where_every_recipe_is_cut_short():
    """Without one fold of this many rows one recipe makes all its passes, and with a few rows more none."""
    for preset in (*PRESETS.values(), Preset((LINEAR, MLP_PLE), 2)):
        most = rows_in_full(preset)
        inside, more = (n * (preset.folds - 1) // preset.folds for n in (most, most + 1000))
        assert any(recipe.passes(inside) >= recipe.epochs for recipe in preset.recipes)
        assert all(recipe.passes(more) < recipe.epochs for recipe in preset.recipes)


@pytest.mark.parametrize("model", ["mlp", "tabular"])
def test_a_model_that_is_set_stays(model):
    config = TrainConfig(model=model, hidden=(8,), preset="fast", dtype="float16")
    assert decided(config, {*FIELDS}, False, 4, 10**7) == Choice(model, f"model = '{model}' is set")


@pytest.mark.parametrize(("most", "model", "counts"), [(31, "mlp", (29, 3, 8)), (32, "tabular", (32, 0, 8))])
def test_rows_are_counted_after_the_test_rows_are_held_out(monkeypatch, most, model, counts):
    """The test rows are the same for both models."""
    monkeypatch.setattr(model_choice, "rows_in_full", lambda preset: most)
    config, x = TrainConfig(), np.arange(40.0)[:, None]
    data, task = Dataset(x, x[:, 0], None, None, "made"), Task.of(x[:, 0], "regression")

    def choose(rows):
        return decided(config, (), True, rows=rows)

    found, choice, split = split_as_decided(config, choose, data, task, Roles())
    assert (found.model, choice.model, tuple(split.counts().values())) == (model, model, counts)
    other = split_as_decided(config, lambda rows: Choice("mlp", ""), data, task, Roles())[2]
    np.testing.assert_array_equal(split.test.x, other.test.x)


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("name", OTHER)
def test_setting_of_one_network_is_refused_for_an_ensemble(name):
    with pytest.raises(ConfigurationError, match=f"'tabular' decide {name}; leave that out"):
        require_fitting(TrainConfig(model="tabular", **{name: OTHER[name]}))
    require_fitting(TrainConfig(model="mlp", **{name: OTHER[name]}))


def test_several_settings_are_refused_in_one_sentence():
    with pytest.raises(ConfigurationError, match="decide hidden, lr; leave"):
        require_fitting(TrainConfig(model="tabular", hidden=(8,), lr=0.1))


@pytest.mark.parametrize("name", OF_AN_ENSEMBLE)
def test_setting_of_an_ensemble_is_refused_for_one_network(name):
    given = {name: OF_AN_ENSEMBLE[name]}
    with pytest.raises(ConfigurationError, match=f"model = 'mlp' has no {name}; leave"):
        require_fitting(TrainConfig(model="mlp", **given))
    require_fitting(TrainConfig(model="tabular", **given))


def test_types_processes_and_durations_that_an_ensemble_does_not_have_are_refused():
    with pytest.raises(ConfigurationError, match="float32 or float64, not in bfloat16"):
        require_fitting(TrainConfig(model="tabular", dtype="bfloat16"))
    with pytest.raises(ConfigurationError, match="in one process, not in 3; start it without mpiexec"):
        require_fitting(TrainConfig(model="tabular"), 3)
    with pytest.raises(ConfigurationError, match="time_limit = '5 minutes' is not accepted"):
        require_fitting(TrainConfig(model="tabular", time_limit="5 minutes"))
    require_fitting(TrainConfig(model="mlp", dtype="bfloat16"), 3)


def test_settings_of_an_ensemble_are_left_out_unless_they_are_given():
    ensemble = TrainConfig(model="tabular", preset="best", metric="auc", time_limit="5m", seed=3)
    assert without_ensemble(ensemble, ()) == (
        TrainConfig(model="mlp", seed=3),
        ["preset", "metric", "time_limit", "model"],
    )
    assert without_ensemble(ensemble, ("model", "preset", "metric", "time_limit")) == (ensemble, [])
    assert without_ensemble(TrainConfig(lr=0.1), ()) == (TrainConfig(lr=0.1), [])


def test_a_search_takes_one_network_only():
    with pytest.raises(ConfigurationError, match="model = 'tabular' has none of them"):
        one_network(TrainConfig(model="tabular"))
    with pytest.raises(ConfigurationError, match="model = 'mlp' has no preset"):
        one_network(TrainConfig(preset="best"))
    assert one_network(TrainConfig()) == one_network(TrainConfig(model="mlp")) == TrainConfig(model="mlp")
