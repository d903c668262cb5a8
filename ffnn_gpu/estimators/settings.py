"""The settings of a training run: one table of names, types, bounds, defaults and help texts.

Why one table: the flags and the TOML file of the command, the arguments of `train_table` and the messages
about wrong values all come from it, so they cannot disagree. Names of losses, optimizers, … are checked where
they are looked up.
"""

import csv
import difflib
import io
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import tomli_w
from msgspec import Meta

from ffnn_gpu.checkpoints import atomic_file
from ffnn_gpu.checks import is_whole
from ffnn_gpu.errors import ConfigurationError

AtLeast1 = Annotated[int, Meta(ge=1)]
AtLeast0 = Annotated[float, Meta(ge=0)]
Positive = Annotated[float, Meta(gt=0)]
Fraction = Annotated[float, Meta(ge=0, lt=1)]
Widths = tuple[AtLeast1, ...]
Names = tuple[str, ...]
TaskKind = Literal["auto", "binary", "multiclass", "multilabel", "regression"]
Normalization = Literal["none", "layer", "batch"]
DType = Literal["float32", "float64", "bfloat16", "float16"]


class TrainConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that decides what `train` does, each with its help text."""

    data: Annotated[
        str,
        "a bundled set, a table such as .csv, a .npy or .npz file, or a folder of tables, .npy or IDX files",
    ] = ""
    target: Annotated[
        str | int | None, "target column of a table (name or index) or .npy file (index); default: the last"
    ] = None
    query: Annotated[
        str, "one SELECT in SQL whose rows are the data: over files, or over the tables of a DuckDB database"
    ] = ""
    separator: Annotated[
        str, "separator of cells in text files: one character or tab; default: found out"
    ] = ""
    decimal: Annotated[Literal["auto", ".", ","], "decimal sign in text files; auto: found out"] = "auto"
    encoding: Annotated[str, "encoding of text files, such as latin-1; default: found out"] = ""
    header: Annotated[
        bool | None, "the first row of text files holds the names of the columns; default: found out"
    ] = None
    categorical: Annotated[Names, "columns of a table that are categories although they hold numbers"] = ()
    number: Annotated[Names, "columns of a table that must be numbers"] = ()
    drop: Annotated[Names, "columns of a table that are not used"] = ()
    id: Annotated[Names, "columns of a table that name its rows and are not used"] = ()
    weight: Annotated[str | None, "column of a table with the weight of each row"] = None
    group: Annotated[
        str | None, "column of a table: rows with the same cell stay in one part of the split"
    ] = None
    split_by: Annotated[
        str | None, "column of a table: its earlier rows are for training, its later ones for the test"
    ] = None
    missing: Annotated[Names, "texts that mean a missing cell, besides empty ones"] = ()
    day_first: Annotated[
        bool | None,
        "the day comes first in dates such as 03/04/2024, or the month; default: decided by the cells",
    ] = None
    task: Annotated[TaskKind, "kind of task; auto: inferred from the target"] = "auto"
    test: Annotated[
        Fraction, "fraction of the rows for the final test, if the data has no test set of its own"
    ] = 0.2
    validation: Annotated[Fraction, "fraction of the remaining rows for validation"] = 0.1
    standardize: Annotated[
        bool,
        "scale features of arrays and regression targets to mean 0 and standard deviation 1; tables: always",
    ] = True
    # Why 5: a pixel that is almost always 0 had values of 40 deviations. Cutting halves the loss on digits.
    cut: Annotated[
        AtLeast0,
        "arrays: clip standardized features to this many deviations, 0: no limit; tables: always softly to 3",
    ] = 5.0

    model: Annotated[
        Literal["mlp", "tabular", "auto"],
        "mlp: one network; tabular: an ensemble of networks, chosen out of fold; auto: tabular for a table, "
        "unless it is large or a setting of one network is given",
    ] = "auto"
    preset: Annotated[
        Literal["fast", "good", "best"], "model=tabular: how many members, and of which kinds"
    ] = "good"
    metric: Annotated[
        str | None,
        "model=tabular: accuracy, auc, log_loss, rmse, mae, r2, … decides which epochs and kinds of members "
        "are used; default: the loss",
    ] = None
    time_limit: Annotated[
        str | float | None,
        "model=tabular: members stop after this time: 90 (seconds), 90s, 10m, 1h or 1h30m; default: no limit",
    ] = None
    hidden: Annotated[Widths, "widths of the hidden layers; empty for a linear model"] = (512, 256)
    activation: Annotated[str, "activation of the hidden layers: relu, gelu, silu, tanh, …"] = "relu"
    dropout: Annotated[
        Fraction | None, "dropout rate of the hidden layers; default: 0.4, for a regression 0.1"
    ] = None
    normalization: Annotated[Normalization, "normalization after each hidden layer"] = "none"
    dtype: Annotated[DType, "number type of the computation"] = "float32"

    loss: Annotated[str, "loss function; auto: the one that suits the task"] = "auto"
    label_smoothing: Annotated[Fraction, "label smoothing of softmax_cross_entropy"] = 0.0
    class_weight: Annotated[Literal["balanced"] | None, "balanced: every class has the same total weight"] = (
        None
    )

    optimizer: Annotated[str, "adamw, adam, nadam, sgd, rmsprop, adagrad, lion or muon"] = "adamw"
    lr: Annotated[
        Positive | None, "highest learning rate; default: the optimizer's own, times 3 for one_cycle"
    ] = None
    weight_decay: Annotated[
        AtLeast0 | None,
        "decoupled weight decay; default: the optimizer's own; for adamw on tables 0.003 / lr, at most 1",
    ] = None
    l1: Annotated[AtLeast0, "factor of the L1 penalty, the sum of |W|"] = 0.0
    l2: Annotated[AtLeast0, "factor of the L2 penalty, half the sum of W²"] = 0.0
    clip_norm: Annotated[Positive | None, "largest norm of the gradient; larger ones are scaled down"] = None
    ema: Annotated[Fraction | None, "decay of a moving average of the parameters, used instead of them"] = (
        None
    )
    schedule: Annotated[
        str, "learning rate schedule: one_cycle, cosine, coslog4, flat_cos, constant, reduce_on_plateau, …"
    ] = "one_cycle"

    epochs: Annotated[AtLeast1, "passes over the training set"] = 30
    batch_size: Annotated[AtLeast1, "rows per update, over all ranks"] = 64
    accumulate: Annotated[AtLeast1, "micro-batches per batch: the same gradient in less memory"] = 1
    shard_optimizer: Annotated[bool, "under mpiexec: split the state of the optimizer over the ranks"] = False
    batch_statistics: Annotated[
        Literal["global", "local"],
        "under mpiexec, normalization=batch: statistics over all ranks' rows or each rank's own",
    ] = "global"
    early_stopping: Annotated[
        AtLeast1 | None,
        "stop after this many epochs without a lower validation loss; keep the best parameters",
    ] = None
    metrics: Annotated[
        tuple[str, ...], "accuracy, f1_macro, roc_auc, rmse, r2, …; default: the metrics of the task"
    ] = ()

    device: Annotated[str, "auto, numpy, cupy or cupy:N"] = "auto"
    seed: Annotated[Annotated[int, Meta(ge=0)], "seed of splits, initial values, shuffling and dropout"] = 0
    out: Annotated[str | None, "run folder; default: runs/NAME-1, -2, …"] = None


# settings that say what the columns of a table are, which `inspect` has too
OF_COLUMNS = (
    "target", "categorical", "number", "drop", "id", "weight", "group", "split_by", "missing",
    "day_first", "task",
)  # fmt: skip
SURROGATE = re.compile("[\ud800-\udfff]")  # stands for a byte that is not UTF-8
OPPOSITES = {"day_first": "--month-first"}  # flags that switch a setting off, if not --no-…
# settings that say how a source is read, which `evaluate` and `predict` have too
OF_SOURCES = ("query", "separator", "decimal", "encoding", "header")
FIELDS = {field.name: field for field in msgspec.structs.fields(TrainConfig)}


def checked(settings: Mapping[str, Any], origin: str, strict: bool = True) -> dict[str, Any]:
    """Convert each setting to the type of its field; unless `strict`, also from text."""
    where = f"{origin}: " if origin else ""
    return {name: _convert(name, value, where, strict) for name, value in settings.items()}


def write_toml(config: TrainConfig, path: str | Path, note: str = "") -> None:
    """Write a file for --config, in one atomic step. Settings that are None are omitted: TOML has no null.

    note: a line of its own, as a comment.

    Raises ConfigurationError for a text with bytes that are not UTF-8, which TOML cannot hold.
    """
    settings = msgspec.to_builtins(config).items()
    saved = {name: value for name, value in settings if value is not None and name != "out"}
    if unfit := [name for name, value in saved.items() if SURROGATE.search(str(value))]:
        shown = ascii(saved[unfit[0]])
        raise ConfigurationError(
            f"{unfit[0]} = {shown} is no UTF-8 text, which {Path(path).name} needs; rename it"
        )
    text = tomli_w.dumps(saved)
    text = f"# {note}\n{text}" if note else text
    atomic_file.write(Path(path), f"# ffnn-gpu train --config THIS_FILE repeats the run\n{text}".encode())


def _convert(name: str, value: Any, where: str, strict: bool) -> Any:
    if name not in FIELDS:
        near = difflib.get_close_matches(name, FIELDS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"the settings are {', '.join(FIELDS)}"
        raise ConfigurationError(f"{where}unknown setting {name!r}; {hint}")
    kind, given = FIELDS[name].type, value
    if isinstance(value, str) and get_origin(get_args(kind)[0]) is tuple:  # "256,128" → (256, 128)
        given, strict = [part.strip() for part in parts_of(value) if part.strip()], False
    elif is_whole(value) and get_origin(get_args(kind)[0]) is tuple:  # 8 → (8,)
        given = (value,)
    try:
        converted = msgspec.convert(given, kind, strict=strict)
        if isinstance(converted, float) and not math.isfinite(converted):
            raise msgspec.ValidationError("Expected a finite number")
        return converted
    except msgspec.ValidationError as error:
        raise ConfigurationError(
            f"{where}{name} = {value!r} is not accepted: {_accepted(kind, error)}"
        ) from error


def parts_of(text: str) -> list[str]:
    """Cut a text at its commas and ends of lines, but for those in double quotes: 'a,"b,c"' → a and b,c."""
    lines = io.StringIO(text, newline="")
    return [part for parts in csv.reader(lines, skipinitialspace=True) for part in parts]


def _accepted(kind: Any, error: msgspec.ValidationError) -> str:
    if names := choices(kind):
        return f"choose {', '.join(names)}"
    expected = re.split(", got | - at ", str(error))[0].replace("`", "").replace(" | null", "")
    return expected.replace("Expected", "expected")


def choices(kind: Any) -> tuple[str, ...]:
    """Return the names that a type accepts, from each Literal in it."""
    if get_origin(kind) is Literal:
        return get_args(kind)
    return tuple(name for part in get_args(kind) for name in choices(part))
