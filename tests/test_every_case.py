"""The selection of cases that every commit runs has all pairs of settings, if the lists are long enough."""

import itertools

import pytest

from tests.every_case import in_turn, some_of

LISTS = "abcde", range(4), "xyz"


@pytest.fixture(autouse=True)
def of_a_commit(monkeypatch):
    monkeypatch.delenv("EVERY_CASE", raising=False)


def test_every_pair_of_elements_of_two_lists_is_in_a_case():
    cases = in_turn(*LISTS)
    assert len(cases) == 5 * 4
    for i, j in itertools.combinations(range(3), 2):
        assert {(case[i], case[j]) for case in cases} == set(itertools.product(LISTS[i], LISTS[j]))


def test_all_cases_are_chosen_where_they_are_asked_for(monkeypatch):
    monkeypatch.setenv("EVERY_CASE", "1")
    assert sorted(in_turn(*LISTS)) == sorted(itertools.product(*LISTS))
    assert some_of("abc", 2) == [*"abc"]


def test_one_in_n_begins_with_the_first():
    assert some_of("abcdefg", 3) == [*"adg"]
