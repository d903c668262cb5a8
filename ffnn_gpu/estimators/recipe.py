"""The network that the settings describe, and its training on the parts of a split."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ffnn_gpu.backends import Backend
from ffnn_gpu.data.minibatches import Order
from ffnn_gpu.data.readers import Dataset
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.distributed import Communicator
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.settings import TrainConfig
from ffnn_gpu.estimators.split import Part, Split
from ffnn_gpu.estimators.tabular.criterion import Objective
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.evaluation import metrics
from ffnn_gpu.nn.activations import get_activation
from ffnn_gpu.nn.initializers import Normal
from ffnn_gpu.nn.layer import Layer
from ffnn_gpu.nn.layers import BatchNorm, Dense, Dropout, Embedding, LayerNorm
from ffnn_gpu.nn.network import Network
from ffnn_gpu.nn.schedules import Schedule, get_schedule
from ffnn_gpu.optim.choice import get_optimizer
from ffnn_gpu.optim.optimizers import Optimizer
from ffnn_gpu.tables.columns import Column
from ffnn_gpu.tables.encoding import Encoding, most_codes
from ffnn_gpu.tables.rows import TableRows
from ffnn_gpu.training.callbacks import Callback, Checkpoints, ReduceOnPlateau
from ffnn_gpu.training.data_parallel import DataParallel
from ffnn_gpu.training.fit import fit
from ffnn_gpu.training.history import History
from ffnn_gpu.training.step import require_rows_for_statistics

# Accuracy on digits over 30 validation sets, 1 × → 3 × the usual rate: 0.9743 → 0.9775.
ONE_CYCLE_PEAK = 3
CLASSIFICATION_DROPOUT, REGRESSION_DROPOUT = 0.4, 0.1
# Embedded levels begin small: levels that mean nothing are then no noise beside the numbers. Root mean square
# error on flights, N(0, 1) → N(0, 0.1²): 14.8 → 12.6; on adult and lending_club the same accuracy.
EMBEDDED = Normal(0.1)
# Of AdamW on tables. Ratio of the error to that of scikit-learn's MLP behind a ColumnTransformer, geometric
# mean of 26 tables of up to 8,000 rows: 0.01 (the optimizer's own) 0.97, 0.1 0.95, 1 0.92, 3 0.95. A higher
# learning rate gets a lower decay, so that no step takes more than 0.3 % of the weights.
TABLE_WEIGHT_DECAY, DECAY_OF_A_STEP = 1.0, 0.003
OPTIMIZER_SETTINGS = ("lr", "weight_decay", "l1", "l2", "clip_norm", "ema")


def prepare(
    config: TrainConfig, data: Dataset, columns: list[Column], training: Part, task: Task, backend: Backend
) -> Model:
    """Return an untrained model; its standardizer or encoding is fitted on the training set only.

    With model = 'tabular' its network is linear, until that of the ensemble takes its place.
    """
    x, y = training[:2]
    if config.class_weight and task.labels is None:
        raise ConfigurationError(f"class_weight needs one class per row; this is a {task.kind} task")
    task.metrics(config.metrics)
    encoding = None
    if isinstance(x, TableRows):
        encoding = x.fit(columns, config.missing, most_codes(config.dtype))
    n_in = x.shape[1] if encoding is None else len(encoding.outputs)
    network = network_of(config, task, n_in, encoding, backend)
    standardizer, limit = None, None
    if config.standardize and encoding is None:
        standardizer, limit = Standardizer.fit(x), config.cut or None
    task = task.with_units_of(y) if config.standardize else task
    reported = Objective.of(config.metric, task).reported(config.metrics)
    described = data.feature_names, data.target_name, config.target, data.name, reported
    weight = None
    if isinstance(x, TableRows) and config.weight is not None:
        weight = x.table.names[x.table.column(config.weight, "--weight")]
    return Model(network, task, standardizer, *described, limit, encoding, weight)


def network_of(
    config: TrainConfig, task: Task, n_in: int, encoding: Encoding | None, backend: Backend
) -> Network:
    """Return an untrained network that reads n_in columns, encoded if they are those of a table."""
    levels = () if encoding is None else encoding.code_levels
    embedding = [Embedding(levels, weights=EMBEDDED)] if levels else []
    layers = [*embedding, *_hidden(config, task), *task.head]
    return Network(n_in, layers, backend, config.dtype, config.seed)


def require_trainable(config: TrainConfig, model: Model, split: Split, ranks: Communicator) -> None:
    """Raise what training and the evaluation after it would raise for these rows."""
    for what, part in {"the validation set": split.validation, "the test set": split.test}.items():
        if part is not None:
            model.require_evaluable(part.x, part.y, what, part.weight)
    parts = ranks.size if config.batch_statistics == "local" else 1
    order = Order(config.batch_size, seed=config.seed)
    require_rows_for_statistics(model.network, len(split.train.x), order, config.accumulate, parts)


def evaluated(
    model: Model, part: Part, names: Sequence[str] | None = None, **settings: Any
) -> dict[str, float]:
    """Return the metrics and the loss of a model on some rows with their weights."""
    return model.evaluate(part.x, part.y, names, sample_weight=part.weight, **settings)


class Encoded(NamedTuple):
    """Training and validation rows as `fit` takes them: x, y and the weights, if there are some."""

    train: tuple[Any, ...]
    validation: tuple[Any, ...] | None


def encode(model: Model, split: Split) -> Encoded:
    """Encode the rows for every network that reads the columns of this model."""

    def encoded(part: Part) -> tuple[Any, ...]:
        pair = model.features(part.x), model.task.encode(part.y)
        return pair if part.weight is None else (*pair, part.weight)

    return Encoded(encoded(split.train), split.validation and encoded(split.validation))


def fit_model(
    config: TrainConfig,
    model: Model,
    rows: Encoded,
    rule: Optimizer,
    ranks: Communicator,
    verbose: int,
    checkpoint: Checkpoints | None = None,
    callbacks: Sequence[Callback] = (),
    resume: bool = False,
) -> History:
    """Train the network of a model on the training rows; the arguments are those of `fit`."""
    return fit(
        model.network,
        model.task.loss,
        rule_for(config, rule, model),
        rows.train,
        epochs=config.epochs,
        batch_size=config.batch_size,
        validation=rows.validation,
        class_weight=config.class_weight,
        metrics=model.task.metrics(config.metrics),
        schedule=schedule_of(config.schedule),
        early_stopping=config.early_stopping,
        accumulate=config.accumulate,
        seed=config.seed,
        checkpoint=checkpoint,
        resume=resume,
        callbacks=callbacks,
        verbose=verbose,
        communicator=DataParallel(ranks, config.batch_statistics),
        shard_optimizer=config.shard_optimizer,
    )


def optimizer_of(config: TrainConfig) -> Optimizer:
    """Return the optimizer. The other names are looked up too: a wrong one fails before data are read."""
    get_activation(config.activation), schedule_of(config.schedule)
    for name in config.metrics:
        metrics.get_metric(name)
    settings = {name: getattr(config, name) for name in OPTIMIZER_SETTINGS}
    rule = get_optimizer(
        config.optimizer, **{name: value for name, value in settings.items() if value is not None}
    )
    if config.lr is None and config.schedule == "one_cycle":
        return replace(rule, lr=ONE_CYCLE_PEAK * rule.lr)
    return rule


def rule_for(config: TrainConfig, rule: Optimizer, model: Model) -> Optimizer:
    """Return the optimizer with the weight decay of tables, if the settings leave it open."""
    if model.encoding is None or config.optimizer != "adamw" or config.weight_decay is not None:
        return rule
    return replace(rule, weight_decay=min(TABLE_WEIGHT_DECAY, DECAY_OF_A_STEP / rule.lr))


def schedule_of(name: str) -> Schedule | ReduceOnPlateau:
    """Return the schedule, or the callback that lowers the rate when the validation loss stops falling."""
    return ReduceOnPlateau() if name == "reduce_on_plateau" else get_schedule(name)


def dropout_of(config: TrainConfig, task: Task) -> float:
    """Return the dropout rate of the hidden layers."""
    if config.dropout is not None:
        return config.dropout
    return REGRESSION_DROPOUT if task.kind == "regression" else CLASSIFICATION_DROPOUT


def _hidden(config: TrainConfig, task: Task) -> list[Layer]:
    """Return for each width: Dense with its activation, normalization, dropout."""
    if config.model == "tabular":
        return []
    dropout = dropout_of(config, task)
    layers: list[Layer] = []
    for width in config.hidden:
        layers.append(Dense(width, get_activation(config.activation)))
        if config.normalization != "none":
            layers.append(LayerNorm() if config.normalization == "layer" else BatchNorm())
        if dropout:
            layers.append(Dropout(dropout))
    return layers
