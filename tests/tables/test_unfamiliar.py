"""Cells that are unlike all cells of the training rows are counted, and no other cells are."""

import json
import re

import numpy as np
import pandas as pd
import pytest

from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.frames import table_of
from ffnn_gpu.tables.kinds import columns_of
from ffnn_gpu.tables.sources import read_table
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.unfamiliar import unfamiliar

RNG = np.random.default_rng(5)
N = 300
FRAME = pd.DataFrame(
    {
        "x": RNG.normal(size=N).round(4),
        "gaps": np.where(np.arange(N) % 7 == 0, np.nan, RNG.integers(0, 99, N)),
        "color": RNG.choice(["red", "green", "blue"], N),
        "place": [f"p{k}" for k in RNG.integers(0, 60, N)],
        "flag": RNG.choice(["yes", "no"], N),
        "size": RNG.choice(["1", "2", "3", "s"], N),
        "when": pd.date_range("2020-01-01", periods=N).strftime("%Y-%m-%d"),
    }
)
FRAME.loc[0, "color"] = "grey"  # too rare for a column of its own


@pytest.fixture(scope="module")
def encoding():
    table = table_of(FRAME)
    columns = columns_of(table, Decisions(), Spelling())
    assert {column.kind for column in columns} == {"number", "category", "boolean", "time"}
    made = Encoding.fit(table, columns, np.arange(N))
    return Encoding.from_json(json.loads(json.dumps(made.to_json())))  # as a saved model has it


def found(encoding, frame, **settings):
    return [*unfamiliar(encoding, table_of(frame), **settings)]


def test_training_rows_hold_nothing_unfamiliar_however_they_are_given(encoding, tmp_path):
    assert found(encoding, FRAME) == []
    FRAME.to_csv(tmp_path / "t.csv", index=False)
    FRAME.astype({"flag": "category", "gaps": "Int64"}).to_parquet(tmp_path / "t.parquet")
    for name in ("t.csv", "t.parquet"):
        assert [*unfamiliar(encoding, read_table(str(tmp_path / name)))] == []


CHANGES = {
    "a new level": ("color", "violet", "2 of 300 cells with a level that no training row has: 'violet'"),
    "a new level of an embedded column": ("place", "p60", "2 of 300 cells with a level that no .*: 'p60'"),
    "no boolean": ("flag", "perhaps", "2 of 300 cells with a level that no training row has$"),
    "a missing number": ("x", None, "2 of 300 cells missing, in a column without missing cells in the tr"),
    "a missing level": ("color", None, "2 of 300 cells missing, in a column without"),
    "a missing time": ("when", None, "2 of 300 cells missing, in a column without"),
    "a far number": ("x", -1e6, r"2 of 300 cells far outside the training rows' -\S+ … \S+, up to -1e\+06"),
    "a far time": ("when", "2120-05-01", "far outside the .* 2020-01-01 … 2020-10-26, up to 2120-05-01"),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_cells_that_no_training_row_has_are_counted(encoding, change):
    name, cell, message = CHANGES[change]
    frame = FRAME.astype({name: object})
    frame.loc[[3, 8], name] = cell
    (said,) = found(encoding, frame)
    assert re.match(rf"column '{name}': .*{message}", said), said
    assert found(encoding, frame, rows=np.array([3])) == [said.replace("2 of 300", "1 of 1")]
    assert found(encoding, frame, rows=np.array([0, 1, 2])) == []


def test_cells_that_training_rows_lack_are_no_news(encoding):
    frame = FRAME.copy()
    frame.loc[::2, "gaps"] = None
    frame.loc[1::2, "x"] = frame.x.max() * 1.5  # outside, and not far
    assert found(encoding, frame) == []


def test_several_faults_of_a_column_are_one_sentence(encoding):
    frame = FRAME.copy()
    frame.loc[:3, "color"] = ["a", "b", "c", "d"]
    frame.loc[4, "color"] = None
    (said,) = found(encoding, frame)
    assert said == (
        "column 'color': 4 of 300 cells with a level that no training row has: 'a', 'b', 'c', …; "
        "1 of 300 cells missing, in a column without missing cells in the training rows"
    )


def test_an_encoding_of_an_older_version_reports_what_it_knows(encoding):
    saved = encoding.to_json()
    for encoder in saved["encoders"]:
        for part in (encoder, encoder.get("seconds", {})):
            part.pop("seen", None), part.pop("rare", None)
    frame = FRAME.copy()
    frame.loc[3, ["color", "x"]] = ["violet", 1e9]
    frame.loc[4, "x"] = None
    assert len(found(Encoding.from_json(saved), frame)) == 1
