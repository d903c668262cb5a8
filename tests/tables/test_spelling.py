"""Cells are read as the numbers, booleans and missing values that they spell."""

import random

import numpy as np
import pyarrow as pa
import pytest

from ffnn_gpu.tables.cells import family, option_value
from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.embedded_database import connect, literal
from ffnn_gpu.tables.encoders import BooleanEncoder
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.kinds import columns_of
from ffnn_gpu.tables.spelling import Spelling, are_booleans, number_with_signs, seconds, truth
from tests.tables.test_kinds import repeated, table_of, typed


def asked(expression):
    return connect().execute(f"SELECT {expression}").fetchone()[0]


@pytest.mark.parametrize(
    ("cell", "number"),
    [
        ("1.5", 1.5), (" 7 ", 7), ("+3", 3), ("007", 7), ("1E2", 100), (".5", 0.5), ("5.", 5), ("-0", 0),
        ("1_5", None), ("0x1F", None), ("nan", None), ("inf", None), ("1e400", None), ("+-5", None),
        ("1,5", None),
        ("true", None), ("", None), ("1 000", None), ("12 kg", None), ("0.1", 0.1),
        ("18446744073709551617", 2.0**64),
    ],
)  # fmt: skip
def test_plain_decimal_numbers_count_and_are_rounded_once(cell, number):
    assert asked(Spelling().number(literal(cell))) == number


@pytest.mark.parametrize(("cell", "number"), [("1,5", 1.5), ("-2", -2), ("1.5", None), ("1.000,5", 1000.5)])
def test_a_decimal_comma_takes_the_place_of_the_point(cell, number):
    assert asked(Spelling(",").number(literal(cell))) == number


@pytest.mark.parametrize("decimal", [".", ","])
def test_python_and_the_database_read_the_same_numbers(decimal):
    parts = [
        *"0129.,+-eE_ \t\n\v",
        "123",
        "1,234",
        "1.234",
        "\u0661",
        "\u00a0",
        "\x1f",
        "\u3000",
        "x",
        "inf",
        "1e400",
    ]
    draw, spelling = random.Random(0), Spelling(decimal)
    cells = sorted({"".join(draw.choices(parts, k=draw.randint(1, 5))) for _ in range(30_000)})
    listed = connect()
    listed.register("texts", pa.table({"c": cells}))
    found = [v for (v,) in listed.execute(f"SELECT {spelling.number('c')} FROM texts").fetchall()]
    assert sum(v is not None for v in found) > 500
    assert [(c, v) for c, v in zip(cells, found, strict=True) if v != spelling.value(c)] == []


@pytest.mark.parametrize(
    ("cell", "decimal", "sign"),
    [
        ("12%", ".", "a percent sign"), ("12.5 %", ".", "a percent sign"),
        ("$1,200.50", ".", "a currency sign"),
        ("5 EUR", ".", "a currency sign"), ("1,200", ".", "a thousands separator"),
        ("3,5", ".", "a decimal comma"),
        ("1.200,5", ",", "a thousands separator"), ("1 200", ".", "a thousands separator"), ("12", ".", ""),
        ("12.5", ".", ""), ("12,5", ",", ""), ("12 kg", ".", ""), ("red", ".", ""), ("1.2.3", ".", ""),
        ("", ".", ""),
    ],
)  # fmt: skip
def test_signs_that_keep_a_number_from_being_plain_are_named(cell, decimal, sign):
    assert number_with_signs(cell, decimal) == sign


def test_truths_ignore_case_and_blanks():
    assert [truth(cell) for cell in ("TRUE", " yes ", "1", "f", "Off", "2", "")] == [
        True, True, True, False, False, None, None,
    ]  # fmt: skip
    assert are_booleans(["True", "FALSE", "1"]) and not are_booleans(["1", "0"])
    assert not are_booleans(["yes", "false"]) and not are_booleans(["true"]) and not are_booleans([])


def test_missing_cells_are_empty_or_named_and_markers_are_missing_numbers_only():
    spelling = Spelling(missing=("x",))
    assert [spelling.is_missing(cell) for cell in ("", "  ", "x", " x ", "NA", "?")] == [True] * 4 + [
        False
    ] * 2
    assert all(map(spelling.is_missing_number, ("", "x", "NA", "n/a", "?", "NaN", "-")))


def test_typed_times_are_read_from_iso_text():
    for cell in ("2024-01-02", "2024-01-02 00:00:00", "2024-01-02T00:00", "2024-01-02 00:00:00.000"):
        assert asked(seconds(literal(cell), "")) == 1704153600


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("VARCHAR", "text"), ("ENUM('DATE', 'INTEGER')", "text"), ("UBIGINT", "number"),
        ("UHUGEINT", "number"),
        ("DECIMAL(10,2)", "number"), ("INTERVAL", "number"), ("DATE", "time"),
        ("TIMESTAMP WITH TIME ZONE", "time"),
        ("TIMESTAMP_NS", "time"), ("TIME", "time"), ("BOOLEAN", "boolean"), ("INTEGER[]", "other"),
        ("STRUCT(a INTEGER)", "other"), ("BLOB", "other"), ("UUID", "other"),
        ("MAP(VARCHAR, DOUBLE)", "other"),
    ],
)  # fmt: skip
def test_families_of_types_are_told_by_their_beginning(kind, expected):
    assert family(kind) == expected


def test_option_values_survive_a_shell_and_the_commas_between_values():
    assert [option_value(text) for text in ("price", "12.5 kg", "1,200", "it's")] == [
        "price", "'12.5 kg'", "'\"1,200\"'", "'it'\"'\"'s'",
    ]  # fmt: skip


def test_booleans_are_one_column_however_a_later_table_writes_them():
    table = table_of(a=repeated("True", "False", "1"))
    columns = columns_of(table, Decisions(), Spelling())
    encoding = Encoding.fit(table, columns, np.arange(len(table)))
    assert [type(encoder) for encoder in encoding.encoders] == [BooleanEncoder]
    assert encoding.outputs == ("a is true, not false",)
    later = table_of(a=["true", "FALSE", "0", "yes", "", "maybe"])
    assert encoding.encode(later)[:, 0].tolist() == [1, -1, -1, 1, 0, 0]
    assert encoding.encode(typed("SELECT k = 1 FROM range(3) AS r(k)", "a"))[:, 0].tolist() == [-1, 1, -1]
    assert encoding.encode_numbers(np.array([[1.0], [0.0], [np.nan]]))[:, 0].tolist() == [1, -1, 0]
    again = Encoding.from_json(encoding.to_json())
    assert again == encoding
