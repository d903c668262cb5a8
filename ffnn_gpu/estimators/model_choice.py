"""Which settings belong to which value of `model`; the others are refused instead of ignored."""

from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.durations import seconds_of
from ffnn_gpu.estimators.settings import FIELDS, TrainConfig

OF_ENSEMBLES = ("preset", "metric", "time_limit")
# settings of one network, which the recipes of an ensemble decide
OF_ONE_NETWORK = (
    "standardize", "hidden", "activation", "dropout", "normalization", "loss", "label_smoothing", "optimizer",
    "lr", "weight_decay", "l1", "l2", "clip_norm", "ema", "schedule", "epochs", "batch_size", "accumulate",
    "shard_optimizer", "batch_statistics", "early_stopping",
)  # fmt: skip
DTYPES = ("float32", "float64")


def require_fitting(config: TrainConfig) -> None:
    """Raise ConfigurationError for a setting that has no meaning for the model.

    A setting counts as given if it differs from its default, because a config.toml holds all of them.
    """
    is_ensemble = config.model == "tabular"
    unfit = OF_ONE_NETWORK if is_ensemble else OF_ENSEMBLES
    given = ", ".join(name for name in unfit if getattr(config, name) != FIELDS[name].default)
    if given and is_ensemble:
        raise ConfigurationError(
            f"the recipes of model = 'tabular' decide {given}; leave that out, or use model = 'mlp'"
        )
    if given:
        raise ConfigurationError(f"model = 'mlp' has no {given}; leave that out, or use model = 'tabular'")
    if is_ensemble and config.dtype not in DTYPES:
        raise ConfigurationError(
            f"model = 'tabular' computes in {' or '.join(DTYPES)}, not in {config.dtype}"
        )
    if config.time_limit is not None:
        seconds_of(config.time_limit, "time_limit")


def require_one_network(config: TrainConfig) -> None:
    """Raise ConfigurationError for an ensemble where the settings of one network are searched."""
    if config.model != "mlp":
        raise ConfigurationError(
            f"a search tunes the settings of one network; model = {config.model!r} has none of them. "
            "Leave model out"
        )
    require_fitting(config)
