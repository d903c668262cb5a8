"""A class that is written almost as a frequent one is named with its line; real classes are not accused."""

import pytest

from ffnn_gpu.tables.misspelt import distance, misspelt
from ffnn_gpu.tables.spelling import Spelling
from tests.tables.test_kinds import repeated, table_of


def named(*cells):
    return [*misspelt(table_of(y=cells), 0, Spelling())]


def test_rare_class_close_to_a_frequent_one_is_named_with_its_line():
    (text,) = named(*repeated("yes", "no"), "yse")
    assert text.startswith("class 'yse' has 1 row, the first in line 62, and 'yes' has 30;")
    assert len(named(*repeated("yes", "no", times=50), "yse", "yse")) == 1
    assert len(named(*repeated("setosa", "virginica"), "virgnca", "sitosa")) == 2


def test_classes_that_differ_in_case_blanks_or_signs_are_named_however_many_they_are():
    (text,) = named(*repeated("yes", "no", "Yes"), "yes")
    assert "class 'Yes' has 30 rows, the first in line 4, and 'yes' has 31" in text
    assert len(named(*repeated("self-employed", "self employed", "Self_Employed"))) == 2


@pytest.mark.parametrize(
    "cells",
    [
        (*repeated("A", "B"), "C"), (*repeated("class1", "other"), "class2"),
        (*repeated("yes", "no"), "maybe"),
        (*repeated("1.5 kg", "x"), "15 kg"), (*repeated("cat", "dog"), "owl"),
        (*repeated("1", "2"), "3"), (*repeated("+", "-"), "*"),
        (*repeated("yes", "no"), *["yea"] * 3), (*["yes"] * 19, "yse"), (*repeated(">50K", "<=50K"),),
        (*repeated("1.5", "2.5"), "15"), (*repeated(" yes", "yes "),),
    ],
)  # fmt: skip
def test_real_classes_are_not_accused(cells):
    assert named(*cells) == []


@pytest.mark.parametrize(
    ("a", "b", "d"),
    [("yes", "yse", 1), ("yes", "yes", 0), ("ab", "ba", 1), ("kitten", "sitting", 3), ("", "ab", 2)],
)
def test_distance_counts_letters_changed_added_left_out_or_exchanged(a, b, d):
    assert distance(a, b) == distance(b, a) == d
