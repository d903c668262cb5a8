"""Weights, groups and the order of rows are read for the rows that have a target, or refused with a line."""

import sys

import numpy as np
import pytest

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.kinds import columns_of
from ffnn_gpu.tables.roles import read_roles, require_apart
from ffnn_gpu.tables.spelling import Spelling
from tests.tables.test_kinds import table_of

CELLS = {
    "w": ["1", "0", "2.5", "1"],
    "g": ["a", "b", " a ", "b"],
    "day": ["2024-01-04", "2024-01-02", "2024-01-03", "2024-01-01"],
    "n": ["5", "7", "6", "8"],
    "word": ["x", "y", "x", "y"],
}


def roles(rows=range(4), cells=(), **decided):
    table, decisions = table_of(**{**CELLS, **dict(cells)}), Decisions(**decided)
    columns = columns_of(table, decisions, Spelling())
    return read_roles(table, columns, decisions, Spelling(), np.array([*rows]))


def test_roles_are_read_in_the_order_of_rows():
    found = roles([0, 2, 3], weight="w", group="g", split_by="day")
    assert found.weight.tolist() == [1, 2.5, 1]
    assert found.group[0] == found.group[1] != found.group[2]
    assert np.argsort(found.order).tolist() == [2, 1, 0]
    assert roles(split_by="n").order.tolist() == [5, 7, 6, 8]
    assert roles().weight is None and roles().group is None and roles().order is None


def test_blanks_of_every_kind_around_a_group_do_not_count():
    blanks = [chr(code) for code in range(sys.maxunicode) if chr(code).isspace()]
    cells = {"g": ["a", *(blank + "a" + blank for blank in blanks), "b", None, "\t"]}
    table, decisions = table_of(**cells), Decisions(group="g")
    group = read_roles(table, [], decisions, Spelling(), np.arange(len(cells["g"]))).group
    assert len({*group[:-3]}) == 1 and len({*group}) == 3 and group[-2] == group[-1]


@pytest.mark.parametrize(
    ("cell", "holds"), [("-1", "holds '-1'"), ("", "is empty"), ("much", "holds 'much'")]
)
def test_a_weight_is_a_number_of_at_least_0(cell, holds):
    cells = {"w": ["1", "2", cell, "1"]}
    with pytest.raises(DataError, match=f"column 'w' of --weight: line 4 {holds}; a weight is a number"):
        roles(cells=cells, weight="w")
    assert roles([0, 1, 3], cells, weight="w").weight.tolist() == [1, 2, 1]


def test_an_order_needs_a_number_or_time_in_each_row():
    with pytest.raises(DataError, match="'word' is not one: category, 2 different texts"):
        roles(split_by="word")
    with pytest.raises(
        DataError, match="column 'n' of --split-by: line 3 is empty; every row needs a number"
    ):
        roles(cells={"n": ["5", "", "6", "8"]}, split_by="n")


def test_a_target_has_no_other_role():
    table = table_of(**CELLS)
    with pytest.raises(DataError, match="'w' is the target; --weight cannot name it"):
        require_apart(table, Decisions(weight="w"), [0])
    require_apart(table, Decisions(categorical=("w",), weight="n"), [0])
