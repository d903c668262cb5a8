"""However many columns one query counts, the counts are the same."""

import pytest

from ffnn_gpu.tables import scan
from ffnn_gpu.tables.spelling import Spelling
from tests.tables.test_kinds import table_of

COLUMNS = {
    "numbers": ["1", "2.5", " 3", None, "-4e1"] * 6,
    "mixed": ["7", "NA", "1,234.5", "", "007"] * 6,
    "words": ["b", "a", None, "B", "a "] * 6,
    "empty": [None] * 30,
}


@pytest.mark.parametrize("most_listed", [3, 10_000])
def test_levels_counted_together_equal_levels_of_each_column(monkeypatch, most_listed):
    monkeypatch.setattr(scan, "MOST_LISTED", most_listed)
    found = []
    for short in (0, 1000):
        monkeypatch.setattr(scan, "SHORT", short)
        found.append(scan.scan(table_of(**COLUMNS), range(4), Spelling()))
    assert found[0] == found[1]
    assert (found[1][1].levels is None) == (most_listed == 3)


def test_levels_are_split_into_numbers_and_others():
    counts = scan.scan(table_of(**COLUMNS), range(4), Spelling())[1]
    assert counts.others == {"": 6, "NA": 6}
    assert (counts.present, counts.numbers, counts.low, counts.high) == (30, 18, 7.0, 1234.5)
