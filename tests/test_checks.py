"""Words for messages: the name that was meant, and counted things."""

import pytest

from ffnn_gpu.checks import counted, nearest, shortened, without_rounding


@pytest.mark.parametrize(
    ("key", "near"), [("PRICE", "price"), ("prise", "price"), ("siz", "size"), ("xyz", ""), ("", "")]
)
def test_name_that_differs_in_case_or_a_letter_is_found(key, near):
    assert nearest(key, ["size", "price", "weight"]) == near


def test_name_that_differs_in_case_comes_before_similar_ones():
    assert nearest("Rate", ["Rates", "rate"]) == "rate"


def test_one_thing_is_not_several():
    assert [counted(n, "row") for n in (0, 1, 2, 1000)] == ["0 rows", "1 row", "2 rows", "1,000 rows"]
    assert counted(1, "class", "classes") == "1 class" and counted(3, "class", "classes") == "3 classes"


def test_a_text_of_the_data_is_cut_only_if_it_is_long():
    assert shortened("a" * 60) == "a" * 60 and shortened("a" * 61) == "a" * 59 + "…"


def test_rounding_errors_of_a_count_are_removed_and_nothing_else():
    assert 0.14 * 50 > 7 and without_rounding(0.14 * 50) == 7 and without_rounding(2 / 3 * 9) == 6
    for count in (7.4, 7 + 1e-9, 7 - 1e-9, 0.1, 1e-9, 0.0):
        assert without_rounding(count) == count
