"""An inspection says what each column holds, what is read of it, and what may go wrong."""

import json
from datetime import time

import numpy as np
import pandas as pd
import polars as pl
import pytest

from ffnn_gpu.cli.inspection import lines, values_of
from ffnn_gpu.tables.concerns import warnings_of
from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.inspection import inspect
from ffnn_gpu.tables.kinds import columns_of
from ffnn_gpu.tables.leaks import removed_error
from ffnn_gpu.tables.sources import read_table
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import Table
from ffnn_gpu.tables.targets import read_target
from tests.tables.test_kinds import repeated, table_of

RNG = np.random.default_rng(5)
N = 400
NOISE = [f"{x:.6f}" for x in RNG.normal(size=N)]
CLASSES = [*RNG.choice(["cat", "dog", "owl"], N)]
PRICES = RNG.normal(size=N) * 10 + 50


def inspected(target="y", **columns):
    table = table_of(**columns)
    spelling, place = Spelling(), table.names.index(target)
    found = columns_of(table, Decisions(), spelling, [target], allow_unclear=True)
    y = read_target(table, [place], spelling)
    return inspect(table, found, spelling, [place], y.y, y.rows)


def about(inspection):
    return {(warning.about, warning.columns) for warning in inspection.warnings}


def test_quantiles_and_levels_are_those_of_pandas():
    numbers = [f"{x:.3f}" if k % 7 else "" for k, x in enumerate(PRICES)]
    words = [*RNG.choice(["red", "green", "blue"], N, p=[0.6, 0.3, 0.1])]
    found = {column.name: column for column in inspected(x=numbers, word=words, y=CLASSES).columns}
    series = pd.Series(pd.to_numeric(numbers))
    expected = np.quantile(series.dropna(), [0, 0.25, 0.5, 0.75, 1], method="inverted_cdf")
    assert found["x"].quantiles == tuple(expected) and found["x"].missing == series.isna().sum()
    assert found["word"].levels == pd.Series(words).value_counts().to_dict()
    assert [*found["word"].levels] == ["red", "green", "blue"]


def test_treatments_say_what_the_encoding_does():
    days = [f"2024-{1 + k % 12:02}-{1 + k % 28:02}" for k in range(N)]
    found = inspected(
        n=[*NOISE[:-1], ""],
        word=[*repeated("red", "green", times=198), "a", "b", "c", ""],
        flag=["yes" if k % 3 else "no" for k in range(N)],
        two=["left" if k % 3 else "right" for k in range(N)],
        day=days,
        row=[*map(str, range(N))],
        y=CLASSES,
    )
    treatments = {column.name: column.treatment for column in found.columns}
    assert treatments.pop("n").startswith("median ") and treatments.pop("day").startswith(
        "seconds as a number, cycle"
    )
    assert treatments == {
        "word": "2 levels, 3 rare → others, + missing column",
        "flag": "false −1, true 1",
        "two": "left −1, right 1",
        "row": "left out: the cells are the row numbers 0, 1, …",
    }
    assert {column.name: column for column in found.columns}["day"].quantiles[0] == "2024-01-01"


def test_a_column_that_gives_the_target_away_is_named():
    code = [{"cat": "7", "dog": "3", "owl": "5"}[label] for label in CLASSES]
    assert about(inspected(code=code, noise=NOISE, y=CLASSES)) == {("leak", ("code",))}
    copy = [f"{2 * price + 1:.3f}" for price in PRICES]
    answers = [f"{price:.3f}" for price in PRICES]
    assert ("leak", ("copy",)) in about(inspected(copy=copy, noise=NOISE, y=answers))
    word = ["w" + label for label in CLASSES]
    assert ("leak", ("word",)) in about(inspected(word=word, noise=NOISE, y=CLASSES))


def test_a_threshold_and_a_curve_are_found_and_good_columns_are_not_accused():
    y = np.where(PRICES > 66, "dear", "cheap")  # 5 % of the rows
    assert removed_error(PRICES, y) > 0.9
    assert removed_error(PRICES, PRICES**2) > 0.98
    good = PRICES + RNG.normal(size=N) * 2  # R² = 0.96
    assert removed_error(good, PRICES) < 0.98
    assert removed_error(good, PRICES * 2.0**990) == removed_error(good, PRICES)
    assert removed_error(RNG.normal(size=N), PRICES) < 0.1
    flags = RNG.integers(0, 2, N)
    wrong_in_20 = np.where(np.arange(N) % 20 == 0, 1 - flags, flags)
    assert 0.8 < removed_error(wrong_in_20.astype(float), flags) < 0.98


def test_the_only_column_is_no_leak():
    assert about(inspected(copy=[f"{p:.9f}" for p in PRICES], y=[f"{p:.9f}" for p in PRICES])) == set()


def test_copies_are_counted_over_all_columns_but_ids():
    rows = {
        "x": [*NOISE[:-2], *NOISE[:2]],
        "z": [*NOISE[1:-1], *NOISE[1:3]],
        "y": [*CLASSES[:-2], *CLASSES[:2]],
    }
    found = inspected(row=[*map(str, range(N))], **rows)
    assert [w.text for w in found.warnings if w.about == "duplicates"] == [
        "2 rows repeat an earlier row; copies in both training and test make the test metrics too good"
    ]
    assert pd.DataFrame(rows).duplicated().sum() == 2


def test_rare_and_few_classes_and_missing_cells_are_named():
    y = ["often"] * 380 + ["seldom"] * 15 + ["never"] * 5
    found = inspected(x=NOISE, gap=["" if k % 4 else "1.5" for k in range(N)], y=y)
    texts = {warning.about: warning.text for warning in found.warnings}
    assert texts["classes"] == "few rows of a class: 'never' has 5"
    assert texts["missing"] == "'gap': 75% of its cells are missing"
    y = ["often"] * 385 + ["seldom"] * 15
    texts = {warning.about: warning.text for warning in inspected(x=NOISE, z=NOISE[::-1], y=y).warnings}
    assert texts["imbalance"].startswith("class 'seldom' has 15 of 400 rows; --class-weight balanced")


def test_few_numbers_that_are_not_whole_are_no_classes():
    y = ["0.25"] * 3 + ["1.0"] * 200 + ["2.5"] * 197
    found = inspected(x=NOISE, y=y)
    assert found.target["classes"] is None and found.target["quantiles"][0] == 0.25
    assert about(found) == set()
    assert inspected(x=NOISE, y=["1.0"] * 200 + ["2.0"] * 200).target["classes"] == {"1.0": 200, "2.0": 200}


def test_times_of_day_have_no_day(tmp_path):
    clocks = [time(7 + k % 5, 30) for k in range(N)]
    found = inspected(clock=[f"{clock:%H:%M}" for clock in clocks], x=NOISE, y=CLASSES)
    assert found.columns[0].quantiles == ("07:30:00", "08:30:00", "09:30:00", "10:30:00", "11:30:00")
    pl.DataFrame({"clock": clocks}).write_parquet(tmp_path / "clocks.parquet")
    table = read_table(str(tmp_path / "clocks.parquet"))
    typed = inspect(table, columns_of(table, Decisions(), Spelling()), Spelling())
    assert typed.columns[0].quantiles == found.columns[0].quantiles


def test_texts_of_paragraphs_are_cut_in_messages():
    long = "The laptop of a nurse was stolen from her car. " * 20
    found = inspected(x=NOISE, word=["a", long] * 200, y=["no"] * 395 + [long] * 5)
    assert [w.text for w in found.warnings] == [f"few rows of a class: {long[:59] + '…'!r} has 5"]
    word = next(column for column in found.columns if column.name == "word")
    assert values_of(word) == f"{long[:59]}… 50%, a 50%"
    assert long.strip() in word.levels and long.strip() in found.target["classes"]
    assert all(len(line) < 200 for line in lines(found))


def test_unclear_columns_are_warnings_and_not_read():
    found = inspected(price=[*NOISE[:-1], "12.5 kg"], x=NOISE[::-1], y=CLASSES)
    assert ("unclear", ("price",)) in about(found)
    assert next(column for column in found.columns if column.name == "price").treatment.startswith("left out")


def test_an_inspection_is_strict_json():
    found = inspected(x=[*NOISE[:-3], "1e308", "-1e308", ""], empty=[""] * N, y=[f"{p:.3f}" for p in PRICES])
    text = json.dumps(found.to_json(), allow_nan=False)
    assert json.loads(text)["target"]["quantiles"][0] == pytest.approx(PRICES.min(), abs=1e-3)


def test_leaks_are_sought_in_the_given_rows_only():
    """The last 100 rows contradict the leak; they are no training rows."""
    code = [*(label for label in CLASSES[:300]), *(["cat"] * 100)]
    table = table_of(code=code, noise=NOISE, y=CLASSES)
    columns = columns_of(table, Decisions(), Spelling(), ["y"])
    y = np.array(CLASSES)
    for rows, expected in ((np.arange(300), ["leak"]), (np.arange(N), [])):
        found = warnings_of(table, columns, Spelling(), ("y",), y[rows], rows)
        assert [warning.about for warning in found] == expected


def test_wide_table_takes_few_queries(monkeypatch):
    asked, ask = [], Table.ask
    monkeypatch.setattr(Table, "ask", lambda self, query: asked.append(query) or ask(self, query))
    cells = {f"x{k}": RNG.integers(0, 5, 60).astype(str).tolist() for k in range(400)}
    inspection = inspected(**cells, y=CLASSES[:60])
    assert {column.kind for column in inspection.columns} == {"number"}
    assert len(asked) < 60
