"""Models of tables and of matrices for the tests of exports: untrained, with weights that all differ."""

from functools import cache

import numpy as np
import pandas as pd

from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.nn.layers import BatchNorm, Dense, Dropout, Embedding, LayerNorm, Residual
from ffnn_gpu.nn.network import Network
from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.frames import table_of
from ffnn_gpu.tables.kinds import columns_of
from ffnn_gpu.tables.spelling import Spelling

RNG = np.random.default_rng(0)
N = 400
FRAME = pd.DataFrame(
    {
        "size": RNG.lognormal(3, 2, N),
        "weight": np.where(RNG.random(N) < 0.1, np.nan, RNG.normal(50, 9, N)),
        "color": RNG.choice(["red", "green", "blue", None], N),
        "shape": RNG.choice(["round", "flat"], N),
        "zip": RNG.choice(["10115", "20095", "80331"], N),
        "place": RNG.choice([f"p{k}" for k in range(40)], N),
        "fresh": RNG.choice(["yes", "no", ""], N, p=[0.5, 0.4, 0.1]),
        "seen": pd.Series(pd.date_range("1960-01-01", periods=N, freq="37h")).where(RNG.random(N) > 0.05),
        "label": RNG.integers(0, 1000, N),
    }
)
FRAME.loc[:2, "color"] = "rare"
SEVERAL = Decisions(categorical=("zip",), missing=("unknown",))
NEW = FRAME.iloc[:12].copy()
NEW.loc[0, ["color", "place", "zip", "shape", "fresh"]] = ["purple", "nowhere", "00000", "oval", "perhaps"]
NEW.loc[1, ["color", "place", "zip", "shape", "fresh"]] = None
NEW.loc[2, ["color", "place", "zip", "shape", "fresh"]] = "unknown"
NEW.loc[3, ["size", "weight", "label"]] = [1e200, -1e200, 1e9]
NEW.loc[4, "weight"] = np.nan
NEW.loc[5, "seen"] = pd.NaT
NEW.loc[6, "seen"] = pd.Timestamp("1901-02-03 04:05:06")
NEW.loc[7, ["color", "place", "zip", "shape", "fresh"]] = "NA"
NEW["fresh"] = [*NEW.fresh[:6], "YES", "No", "true", "False", "1", "n/a"]

TARGETS = {
    "texts": RNG.choice(["sour", "sweet", "bitter"], N),
    "two texts": RNG.choice(["no", "yes"], N),
    "numbers": RNG.choice([3, 7, -2], N),
    "booleans": RNG.random(N) < 0.5,
    "several": RNG.integers(0, 2, (N, 3)),
    "price": RNG.normal(100, 30, N),
    "prices": RNG.normal(100, 30, (N, 2)),
}


def scattered(network, seed=1):
    """Return the network with random values for each parameter and running statistic."""
    rng = np.random.default_rng(seed)
    arrays = {
        name: array + rng.uniform(0.1, 0.5, array.shape).astype(array.dtype)
        for name, array in network.params.to_host().items()
    }
    network.params.assign(arrays)
    return network


def layers_of(task, activation="gelu"):
    """Return every kind of layer that a model of rows may have."""
    hidden = [Dense(8, activation), BatchNorm(), Residual([Dense(8, "tanh"), Dropout(0.5)]), LayerNorm()]
    return [*hidden, *task.head]


def model_of_table(target="texts", dtype="float32", device="numpy", loss="auto"):
    """Return a model that reads FRAME."""
    y = TARGETS[target]
    task = Task.of(y, loss=loss).with_units_of(y)
    encoding = _encoding()
    layers = [Embedding(encoding.code_levels), *layers_of(task)]
    network = scattered(Network(len(encoding.outputs), layers, device, dtype))
    return Model(network, task, encoding=encoding)


ROWS = {"FRAME": FRAME, "NEW": NEW}


@cache
def _matrix(rows, dtype):
    return _encoding().encode(table_of(ROWS[rows]), dtype)


def answers_of(model, rows):
    """Return what a model of a table predicts for "FRAME" or "NEW", and its probabilities or None.

    Why not by `predict`: it would make the same table for each model.
    """
    outputs = model.network.predict(_matrix(rows, model.network.dtype))
    is_regression = model.task.kind == "regression"
    return model.task.decode(outputs), None if is_regression else model.task.probabilities(outputs)


def assert_same_bits(got, want):
    """Raise unless two arrays have one type and the same numbers."""
    assert got.dtype == want.dtype
    np.testing.assert_array_equal(got, want, strict=True)


@cache
def _encoding():
    table, spelling = table_of(FRAME), Spelling(missing=SEVERAL.missing)
    return Encoding.fit(table, columns_of(table, SEVERAL, spelling), np.arange(N), SEVERAL.missing)


def model_of_matrix(x, target="texts", dtype="float32", device="numpy", limit=None, names=None):
    """Return a model that reads the matrix x (n, columns)."""
    y = TARGETS[target]
    task = Task.of(y).with_units_of(y)
    network = scattered(Network(x.shape[1], layers_of(task), device, dtype))
    return Model(network, task, Standardizer.fit(x), feature_names=names, limit=limit)
