"""Settings that mean nothing for the model are refused by name."""

import pytest

from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.model_choice import (
    OF_ENSEMBLES,
    OF_ONE_NETWORK,
    require_fitting,
    require_one_network,
)
from ffnn_gpu.estimators.settings import FIELDS, OF_COLUMNS, OF_SOURCES, TrainConfig

BOTH = {
    *OF_COLUMNS, *OF_SOURCES, "data", "test", "validation", "cut", "dtype", "class_weight", "metrics",
    "device", "seed", "out", "model",
}  # fmt: skip
OTHER = {
    "standardize": False, "hidden": (8,), "activation": "tanh", "dropout": 0.1, "normalization": "batch",
    "loss": "mse", "label_smoothing": 0.1, "optimizer": "sgd", "lr": 0.1, "weight_decay": 0.1, "l1": 0.1,
    "l2": 0.1, "clip_norm": 1.0, "ema": 0.9, "schedule": "cosine", "epochs": 3, "batch_size": 7,
    "accumulate": 2, "shard_optimizer": True, "batch_statistics": "local", "early_stopping": 3,
}  # fmt: skip


def test_every_setting_has_a_model():
    assert {*FIELDS} == BOTH | {*OF_ONE_NETWORK, *OF_ENSEMBLES}
    assert {*OTHER} == {*OF_ONE_NETWORK}


@pytest.mark.parametrize("name", OTHER)
def test_setting_of_one_network_is_refused_for_an_ensemble(name):
    with pytest.raises(ConfigurationError, match=f"'tabular' decide {name}; leave that out"):
        require_fitting(TrainConfig(model="tabular", **{name: OTHER[name]}))
    require_fitting(TrainConfig(**{name: OTHER[name]}))


def test_several_settings_are_refused_in_one_sentence():
    with pytest.raises(ConfigurationError, match="decide hidden, lr; leave"):
        require_fitting(TrainConfig(model="tabular", hidden=(8,), lr=0.1))


@pytest.mark.parametrize("settings", [{"preset": "fast"}, {"time_limit": "60"}], ids=repr)
def test_setting_of_an_ensemble_is_refused_for_one_network(settings):
    with pytest.raises(ConfigurationError, match=f"model = 'mlp' has no {next(iter(settings))}; leave"):
        require_fitting(TrainConfig(**settings))
    require_fitting(TrainConfig(model="tabular", **settings))


def test_types_of_16_bits_and_a_wrong_duration_are_refused_for_an_ensemble():
    with pytest.raises(ConfigurationError, match="float32 or float64, not in bfloat16"):
        require_fitting(TrainConfig(model="tabular", dtype="bfloat16"))
    with pytest.raises(ConfigurationError, match="time_limit = '5 minutes' is not accepted"):
        require_fitting(TrainConfig(model="tabular", time_limit="5 minutes"))


def test_a_search_takes_one_network_only():
    with pytest.raises(ConfigurationError, match="model = 'tabular' has none of them"):
        require_one_network(TrainConfig(model="tabular"))
    with pytest.raises(ConfigurationError, match="model = 'mlp' has no preset"):
        require_one_network(TrainConfig(preset="best"))
    require_one_network(TrainConfig())
