"""Cells prove which sign is the decimal one; groups of thousands are read, and never taken for decimals."""

import pytest

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.decimal_signs import decimal_sign, proven
from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.embedded_database import literal
from ffnn_gpu.tables.kinds import columns_of
from ffnn_gpu.tables.sources import read_table
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.targets import read_target
from tests.tables.test_kinds import found, kind_of, table_of
from tests.tables.test_spelling import asked


@pytest.mark.parametrize(
    ("cell", "sign"),
    [
        ("0.5", "."), ("12.25", "."), ("1234.567", "."), ("1,234.5", "."), ("1,234,567", "."), (".5", "."),
        ("0,5", ","), ("12,25", ","), ("1.234,56", ","), ("1.234.567", ","), ("0,123", ","),
        ("€ 1.234,5", ","),
        ("1.234", ""), ("1,234", ""), ("7", ""), ("1.2.3", ""), ("01.02.2024", ""), ("", ""), ("x", ""),
        ("1.5E3", "."),
    ],
)  # fmt: skip
def test_cells_prove_the_decimal_sign(cell, sign):
    assert proven(cell) == sign


@pytest.mark.parametrize(
    ("cell", "decimal", "number"),
    [
        ("1,234", ".", 1234), ("1,234,567.25", ".", 1234567.25), (" -12,345 ", ".", -12345),
        ("1,23", ".", None),
        ("1,2345", ".", None), ("0,123", ".", None), ("1234,567", ".", None), ("1.234,5", ".", None),
        ("1.234", ",", 1234), ("1.234.567,25", ",", 1234567.25), ("1.23", ",", None), ("0.123", ",", None),
        ("1.234.56", ",", None), ("1,234.5", ",", None), ("1_000", ".", None), ("1,5", ",", 1.5),
        ("1e400", ".", None), ("nan", ".", None), ("2e3", ".", 2000),
    ],
)  # fmt: skip
def test_groups_of_three_digits_are_read_and_others_are_no_numbers(cell, decimal, number):
    assert asked(Spelling(decimal).number(literal(cell))) == number
    assert Spelling(decimal).value(cell) == number


def read(tmp_path, text):
    (tmp_path / "a.csv").write_text(text)
    return read_table(str(tmp_path / "a.csv"))


def numbers(table, place=0):
    return table.numbers(Spelling(table.decimal).number(f"c{place}")).tolist()


def test_thousands_points_beside_decimal_commas_are_read(tmp_path):
    table = read(tmp_path, "price;n\n1.234,56;1.234\n2,5;2.345.678\n1.000,00;3.000\n")
    assert table.decimal == "," and numbers(table) == [1234.56, 2.5, 1000]
    assert numbers(table, 1) == [1234, 2345678, 3000]


def test_thousands_commas_in_quotes_are_read(tmp_path):
    table = read(tmp_path, 'price,n\n"1,234.50","1,234"\n2.5,12\n"1,000,000",7\n')
    assert table.decimal == "." and numbers(table) == [1234.5, 2.5, 1_000_000]
    kinds = found(table)
    assert {kinds["price"].kind, kinds["n"].kind} == {"number"} and not kinds["n"].note


def test_points_beside_short_whole_numbers_group_thousands(tmp_path):
    table = read(tmp_path, "n;word\n1.234;a\n950;b\n12.500;c\n7;d\n")
    assert table.decimal == "," and numbers(table) == [1234, 950, 12500, 7]
    assert read(tmp_path, "x;word\n1.234;a\n0.950;b\n12.500;c\n7;d\n").decimal == "."


def test_numbers_that_may_be_either_are_said(tmp_path):
    table = read(tmp_path, "n;word\n1.234;a\n2.345;b\n")
    assert numbers(table) == [1.234, 2.345]
    assert "'1.234' is read as a decimal number (--decimal ',' reads thousands)" in table.remarks
    table = read(tmp_path, "n;word\n1,234;a\n2,345;b\n")
    assert numbers(table) == [1.234, 2.345] and any("--decimal '.'" in remark for remark in table.remarks)
    column = kind_of(["1,234", "2,345"] * 9, name="n")
    assert column.kind == "number" and "'1,234' in line 2 is 1234" in column.note
    assert "--decimal ," in column.note and not kind_of(["1,234", "950", "2,345"] * 9).note
    assert not kind_of(["1,234", "2,345"] * 9, number=("a",)).note


def test_decimal_sign_of_most_proofs_is_taken():
    assert decimal_sign([["0,5"], ["1,5"], ["1.5"]], ";") == (",", "")
    assert decimal_sign([["0.5"], ["1,234"]], ";") == (".", "")
    assert decimal_sign([["1,234"], ["2,345"]], ",") == (".", "")
    assert decimal_sign([], ";") == (".", "")


def test_targets_with_groups_are_numbers():
    table = table_of(y=["1,234", "2,345.5", "7", "1,000,000"])
    assert read_target(table, [0], Spelling()).y.tolist() == [1234, 2345.5, 7, 1_000_000]
    table = table_of(y=["1,234", "2,345", "7"])
    assert read_target(table, [0], Spelling()).y.tolist() == [1234, 2345, 7]


def test_decimal_commas_among_groups_are_an_error():
    with pytest.raises(DataError, match="a decimal comma; line 3 holds '2,5'"):
        columns_of(table_of(a=["1,234", "2,5", "3,75", "12", "4,5"]), Decisions(), Spelling())


def test_sign_of_the_training_table_decides_where_the_cells_do_not():
    assert decimal_sign([["1.234"]], ";", ",") == (",", "1.234")
    assert decimal_sign([["1,234"]], ";", ".") == (".", "1,234")
    assert decimal_sign([["1.234"], ["0.5"]], ";", ",") == (".", "")
    assert decimal_sign([["1.234"]], ",", ",") == (".", "")
    assert decimal_sign([["7"]], ";", ",") == (".", "")
