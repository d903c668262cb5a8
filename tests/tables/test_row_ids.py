"""Columns that count the rows are ids; columns that count time are not."""

import numpy as np
import pytest

from tests.tables.test_kinds import found, table_of

N = 60
RUNNING = [str(1000 + k) for k in range(N)]
RNG = np.random.default_rng(3)
FILTERED = [str(k) for k in np.sort(RNG.choice(np.arange(500, 900), N, replace=False))]
NOISE = [f"{x:.3f}" for x in RNG.normal(size=N)]


def first(cells, name="a", **how):
    """Return the first column, called `name`, of a table with another one."""
    return found(table_of(**{name: cells, "noise": NOISE[: len(cells)]}, **how))[name]


def without_names(cells):
    from dataclasses import replace

    return found(replace(table_of(**{"0": cells, "1": NOISE}), has_names=False))["0"]


@pytest.mark.parametrize("name", ["code", "number", "id", "Unnamed: 0", "", "time_id"])
def test_first_column_that_counts_the_rows_from_elsewhere_is_an_id(name):
    column = first(RUNNING, name)
    assert column.kind == "id" and "1000, 1001, …" in column.reason


@pytest.mark.parametrize("name", ["PID", "caseid", "UserId", "patientid"])
def test_unique_numbers_in_any_order_are_ids_by_name_only(name):
    cells = [str(100_000 + k * 7919 % 90_001) for k in range(N)]
    assert first(cells, name).kind == "id"
    assert first([*cells[:-1], cells[0]], name).kind == first(cells, "paid").kind == "number"


def test_columns_that_count_from_elsewhere_are_ids_only_in_front_or_by_name():
    table = table_of(noise=NOISE, speed=RUNNING, row_number=RUNNING)
    kinds = {name: column.kind for name, column in found(table).items()}
    assert kinds == {"noise": "number", "speed": "number", "row_number": "id"}


@pytest.mark.parametrize("name", ["year", "time", "t", "Year built", "timeStep", "week", "day_of_study", "x"])
def test_columns_called_times_that_count_up_are_numbers(name):
    for start in (0, 1, 1000, 1950):
        assert first([str(start + k) for k in range(N)], name).kind == "number", (name, start)


def test_years_are_no_ids_whatever_their_name():
    assert first([str(1950 + k) for k in range(N)], "annus").kind == "number"
    assert without_names([str(1950 + k) for k in range(N)]).kind == "number"


def test_index_without_a_name_stays_an_id_after_a_filter():
    column = without_names(FILTERED)
    assert column.kind == "id" and "increase from row to row" in column.reason
    assert first(FILTERED, "obs").kind == "id" and first(FILTERED, "speed").kind == "number"
    shuffled = [*RNG.permutation(FILTERED)]
    assert first(shuffled, "id").kind == "id" and first(shuffled, "").kind == "id"
    assert first(shuffled, "obs").kind == "number" and without_names(shuffled).kind == "number"


def test_evenly_or_widely_spaced_numbers_without_a_name_are_times():
    assert without_names([str(10 * k) for k in range(N)]).kind == "number"
    assert without_names([str(1_700_000_000 + 997 * k + k % 7) for k in range(N)]).kind == "number"


def test_few_rows_numbers_with_gaps_and_fractions_are_no_ids():
    assert first(RUNNING[:19]).kind == "number" and first(RUNNING[:20]).kind == "id"
    assert first([*RUNNING[:-1], "2000"]).kind == "number"
    assert first([f"{cell}.5" for cell in RUNNING]).kind == "number"
    assert first([*RUNNING[:-1], ""]).kind == "number"
