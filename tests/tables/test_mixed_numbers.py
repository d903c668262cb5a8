"""Columns of texts that may be meant as numbers are named, with examples, their lines and the options."""

import pytest

from ffnn_gpu.errors import DataError
from tests.tables.test_kinds import kind_of, repeated

NUMBERS = [f"{k}.5" for k in range(60)]
BAD = [*NUMBERS, "zz", "$5", "12.5 kg", "1.234,5", *["n/k"] * 6]  # 10 of 70 cells are no numbers


def test_column_of_which_half_are_numbers_is_text_with_a_warning():
    column = kind_of(BAD, name="price")
    assert column.kind == "text" and not column.is_used
    assert "60 of its 70 cells are numbers" in column.note
    assert "line 62 holds 'zz', line 63 holds '$5', line 64 holds '12.5 kg', …" in column.note
    assert "--missing 'zz,$5,12.5 kg'" in column.note
    assert "--number price" in column.note and "--categorical price" in column.note
    assert kind_of(["", "NA", *BAD], name="price").note.startswith("taken as text and left out")


def test_options_of_the_warning_end_it():
    texts = ("zz", "$5", "12.5 kg", "1.234,5", "n/k")
    assert kind_of(BAD, missing=texts).kind == "number"
    column = kind_of(BAD, categorical=("a",))
    assert (column.kind, column.note) == ("category", "")
    with pytest.raises(DataError, match="60 of 70 cells are numbers; line 62 holds 'zz'"):
        kind_of(BAD, number=("a",))


def test_warning_needs_half_of_the_cells():
    words = [f"word {k}" for k in range(61)]
    assert kind_of([*NUMBERS, *words[:60]]).note and not kind_of([*NUMBERS, *words]).note


def test_few_levels_that_all_repeat_are_no_slip():
    column = kind_of(repeated(*["1"] * 4, *["2"] * 4, "3+", "many"))
    assert (column.kind, column.note) == ("category", "")
    assert "taken as category, although" in kind_of([*repeated("1", "2", "3"), *"abcdefghij"]).note


def test_more_texts_than_a_category_may_have_are_named_too():
    cells = [f"{k}.5" if k % 2 else f"{k} or so" for k in range(24_000)]
    assert "12,000 of its 14,000 cells" in kind_of([*cells[1::2], *cells[:4000:2]]).note


def test_numbers_with_units_are_named_and_words_with_digits_are_not():
    column = kind_of([f"{k}.25 cm" for k in range(50)], name="len")
    assert "its cells are numbers with units; line 2 holds '0.25 cm'" in column.note
    assert "--categorical len" in column.note and "--missing" not in column.note
    assert not kind_of([f"the {k} of us" for k in range(50)]).note
    assert not kind_of([f"{k} apples and pears" for k in range(50)]).note
