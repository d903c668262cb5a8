"""Targets keep what the cells say: labels their text, numbers their type; a slip is an error."""

import numpy as np
import pytest

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.targets import read_as, read_target
from tests.tables.test_kinds import repeated, table_of, typed


def target(cells, missing=(), **settings):
    return read_target(table_of(y=cells), [0], Spelling(missing=missing), **settings)


@pytest.mark.parametrize(
    ("cells", "y"),
    [
        (["1", "2", "3"], [1, 2, 3]),
        (["1.5", "2", "-3"], [1.5, 2.0, -3.0]),
        (["1.0", "2.0", "1.0"], [1.0, 2.0, 1.0]),
        (["007", "010", "007"], ["007", "010", "007"]),
        (["b", " a ", "b"], ["b", "a", "b"]),
        (["yes", "no", "yes"], ["yes", "no", "yes"]),
        (["9007199254740993", "1", "1"], [9007199254740993, 1, 1]),
    ],
)
def test_targets_have_the_type_that_writes_the_cells(cells, y):
    found = target(cells)
    assert found.y.tolist() == y and [type(v) for v in found.y.tolist()] == [type(v) for v in y]


@pytest.mark.parametrize("kind", ["TIMESTAMP", "TIMESTAMP_NS", "TIMESTAMP_S", "DATE"])
def test_typed_times_at_midnight_as_classes_are_the_texts_that_files_hold(kind):
    days = f"SELECT ('2024-03-0' || (1 + k % 2))::{kind} FROM range(8) AS r(k)"
    found = read_target(typed(days, "y"), [0], Spelling())
    assert found.y.tolist() == ["2024-03-01", "2024-03-02"] * 4
    if kind != "DATE":
        mixed = f"{days} UNION ALL SELECT '2024-03-01 10:00:00'::{kind}"
        assert "2024-03-01 00:00:00" in read_target(typed(mixed, "y"), [0], Spelling()).y.tolist()


def test_class_that_numpy_would_cut_is_refused():
    table = typed("SELECT CASE WHEN k % 2 = 0 THEN 'a' ELSE 'a' || chr(0) END FROM range(8) AS r(k)", "y")
    with pytest.raises(DataError, match="ends with a NUL character"):
        read_target(table, [0], Spelling())


def test_rows_without_a_target_are_left_out():
    found = target(["1.5", "", "2.5", None, " "])
    assert found.rows.tolist() == [0, 2] and found.y.tolist() == [1.5, 2.5]
    with pytest.raises(DataError, match="no row has a target in 'y'"):
        target(["", None])


def test_a_number_that_means_a_missing_target_is_left_out():
    for cells, y in ((["3", "-999", "4"], [3, 4]), (["3.5", "-999", "4"], [3.5, 4.0])):
        found = target(cells, ("-999",))
        assert found.y.tolist() == y and found.rows.tolist() == [0, 2]
        assert [type(v) for v in found.y.tolist()] == [type(v) for v in y]


def test_a_slip_among_numbers_names_its_line():
    cells = [f"{k}.5" for k in range(100)]
    cells[40] = "?"
    with pytest.raises(DataError, match=r"99 of 100 cells are numbers; line 42 holds '\?'"):
        target(cells)
    assert len(target(cells, missing=("?",)).y) == 99
    assert len(np.unique(target([*repeated("1", "2"), "?"], categorical=("y",)).y)) == 3


@pytest.mark.parametrize("lacking", [1, 60, 300])
@pytest.mark.parametrize(
    "numbers",
    [[f"{k}.5" for k in range(100)], [*map(str, range(100))], repeated("0", "1"), repeated("1.0", "2.0")],
)
def test_missing_numbers_of_r_are_missing_targets(numbers, lacking):
    """As pandas reads them from the same file; else they would make classes of all numbers."""
    expected = target([*numbers, *[""] * lacking])
    for kind in ("auto", "regression"):
        found = target([*numbers, *["NA"] * lacking], kind=kind)
        assert found.rows.tolist() == expected.rows.tolist() == [*range(len(numbers))]
        assert found.y.tolist() == target(numbers, kind=kind).y.tolist()


def test_missing_numbers_of_r_are_missing_for_a_model_of_numbers():
    table = table_of(y=["1", "NA", "0", ""])
    assert read_as(table, 0, Spelling(), [0, 1]).rows.tolist() == [0, 2]
    with pytest.raises(DataError, match="line 3 holds 'NA', which is not a known class"):
        read_as(table, 0, Spelling(), ["0", "1", "x"])


@pytest.mark.parametrize("other", [".", "?", "n/k", "withheld"])
def test_texts_among_many_numbers_do_not_make_classes_of_them(other):
    numbers = [f"{k % 70}.5" for k in range(140)]
    with pytest.raises(DataError, match=r"140 of 160 cells are numbers; line 142 holds"):
        target([*numbers, *[other] * 20])
    assert len(target([*numbers, *[other] * 20], missing=(other,)).y) == 140
    assert target([*repeated("1", "2"), *["3+"] * 20]).y.dtype.kind == "U"


def test_markers_among_numbers_are_an_error_however_few_the_numbers_are():
    with pytest.raises(DataError, match=r"61 of 71 cells are numbers; line 63 holds '\.'"):
        target([*["1"] * 30, *["2"] * 30, "3", *["."] * 10])


@pytest.mark.parametrize("marker", ["?", "NA", "nan"])
def test_a_marker_among_classes_is_named_without_the_classes(marker):
    cells = [*repeated("cat", "dog"), marker]
    with pytest.raises(DataError) as error:
        target(cells)
    text = str(error.value)
    assert (
        f"line 62 holds {marker!r} among 2 classes" in text and "numbers" not in text and "'cat'" not in text
    )
    assert "--missing" in text and "--categorical y" in text
    assert len(target(cells, missing=(marker,)).y) == 60
    assert {*target(cells, categorical=("y",)).y} == {"cat", "dog", marker}


def test_markers_of_many_rows_are_a_class():
    assert {*target(repeated("cat", "dog", "NA")).y} == {"cat", "dog", "NA"}


def test_categorical_makes_numbers_classes():
    assert target(["1", "2", "1"], categorical=("y",)).y.tolist() == ["1", "2", "1"]


def test_texts_that_hardly_repeat_are_no_classes():
    with pytest.raises(DataError, match="50 different texts in 50 rows are no classes"):
        target([f"word{k}" for k in range(50)])


def test_a_regression_needs_numbers():
    with pytest.raises(DataError, match="0 of 3 cells are numbers; line 2 holds 'a', line 3 holds 'b'"):
        target(["a", "b", "a"], kind="regression")


def test_several_targets_are_numbers_in_the_order_asked_for():
    table = table_of(a=["1", "2", ""], b=["0.5", "1.5", "2.5"], c=["x", "y", "z"])
    found = read_target(table, [1, 0], Spelling())
    assert found.y.tolist() == [[0.5, 1], [1.5, 2]] and found.rows.tolist() == [0, 1]
    with pytest.raises(DataError, match="several targets must be numbers or booleans; 'c' is not"):
        read_target(table, [0, 2], Spelling())


def test_several_booleans_are_zeros_and_ones():
    table = table_of(a=["yes", "no", "yes"], b=["True", "False", "TRUE"], c=["1", "0", "1"])
    assert read_target(table, [0, 1, 2], Spelling()).y.tolist() == [[1, 1, 1], [0, 0, 0], [1, 1, 1]]
    table = typed("SELECT k = 1, k FROM range(2) AS r(k)", "a", "b")
    assert read_target(table, [0, 1], Spelling()).y.tolist() == [[0, 0], [1, 1]]


def test_a_model_reads_labels_as_its_classes():
    table = table_of(y=["1", "1.0", "", "2"])
    assert read_as(table, 0, Spelling(), (1, 2)).y.tolist() == [1, 1, 2]
    with pytest.raises(DataError, match="line 5 holds '2', which is not a known class"):
        read_as(table, 0, Spelling(), (1, 3))


def test_numbers_beside_many_other_cells_are_an_error_with_lines():
    cells = [*(f"{k}.5" for k in range(60)), *["NA"] * 8, "12 kg", "zz"]
    with pytest.raises(
        DataError, match="60 of 70 cells are numbers; line 70 holds '12 kg', line 71 holds 'zz'"
    ):
        read_target(table_of(y=cells), [0], Spelling())
    assert len(read_target(table_of(y=cells), [0], Spelling(missing=("NA", "12 kg", "zz"))).y) == 60
    words = [*("1" for _ in range(30)), *("2" for _ in range(30)), *["many"] * 10]
    assert read_target(table_of(y=words), [0], Spelling()).y.tolist() == words
