"""Columns that are stored as numbers answer every question as if they were stored as text."""

import random
from dataclasses import asdict

import numpy as np
import pytest

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables import text_files
from ffnn_gpu.tables.answers import kept_column
from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.dialects import Dialect
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.inspection import inspect
from ffnn_gpu.tables.kinds import columns_of
from ffnn_gpu.tables.plain_numbers import candidates
from ffnn_gpu.tables.sources import read_table
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.targets import read_target

ROWS = 400
ODD = ["NA", "1,234.5", "007", "1_5", "+-1", "inf", "nan", " ", "?", "x", "1.5.2"]


def large(path, monkeypatch, decimal=""):
    """Return a table whose columns of plain numbers are stored as numbers, and the same one as text."""
    tables = []
    for size in (0, 1 << 40):
        monkeypatch.setattr(text_files, "LARGE", size)
        tables.append(read_table(str(path), Dialect(decimal=decimal)))
    return tables


def file_of(path, cells, separator=","):
    rng = random.Random(0)
    rows = [["x", "y", "word"]]
    for k in range(ROWS):
        cell = cells(rng) if k != ROWS - 1 else cells(None)
        quoted = f'"{cell}"' if "," in cell else cell
        rows.append([quoted, f"{rng.uniform(-5, 5):.4f}", rng.choice(["a", "b"])])
    path.write_text("".join(separator.join(row) + "\n" for row in rows))
    return path


def answers(table, decisions=Decisions()):
    spelling = Spelling(table.decimal, decisions.missing)
    columns = columns_of(table, decisions, spelling, allow_unclear=True)
    target = read_target(table, [1], spelling)
    found = asdict(inspect(table, columns, spelling, [1], target.y, target.rows))
    encoding = Encoding.fit(table, columns, np.arange(len(table)), decisions.missing)
    matrix = encoding.encode(table).tobytes()
    kept = [kept_column(table, place).tolist() for place in range(3)]
    levels = [table.levels(place) for place in range(3)]
    return found, encoding.to_json(), matrix, target.y.tobytes(), kept, levels, table.nulls(0)


def test_plain_columns_are_stored_as_numbers(tmp_path, monkeypatch):
    path = file_of(tmp_path / "a.csv", lambda rng: f"{rng.gauss(0, 9):.3f}" if rng else "-0.5e-3")
    stored, text = large(path, monkeypatch)
    assert [*stored.plain] == [0, 1] and not text.plain
    assert answers(stored) == answers(text)


def test_numbers_are_parsed_in_the_first_reading_whatever_other_columns_hold(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "LARGE", 0)
    monkeypatch.setattr(text_files, "_is_copied", lambda *arguments: pytest.fail("the file is read again"))
    lines = (f"0{k},{k / 8},{k % 5}_{k},-0{k}.5" for k in range(200))
    (tmp_path / "a.csv").write_text("code,x,key,y\n" + "\n".join(lines) + "\n")
    table = read_table(str(tmp_path / "a.csv"))
    assert [*table.plain] == [1, 3]
    assert table.numbers("n1").tolist() == [k / 8 for k in range(200)]
    assert table.numbers("n3").tolist() == [-float(f"{k}.5") for k in range(200)]


@pytest.mark.parametrize("odd", ODD)
def test_a_column_with_an_odd_cell_late_in_the_file_is_stored_as_text(tmp_path, monkeypatch, odd):
    path = tmp_path / "a.csv"
    monkeypatch.setattr(text_files, "SAMPLE", 1000)  # characters, so that the first rows do not have it
    stored, text = large(file_of(path, lambda rng: f"{rng.gauss(0, 9):.3f}" if rng else odd), monkeypatch)
    assert [*stored.plain] == [1]
    assert answers(stored) == answers(text)


@pytest.mark.parametrize(
    "decisions",
    [
        Decisions(categorical=("x",)),
        Decisions(number=("x",)),
        Decisions(missing=("1.5", "2.50")),
        Decisions(id=("x",)),
    ],
)
def test_decisions_hold_for_numbers_that_are_stored(tmp_path, monkeypatch, decisions):
    path = file_of(tmp_path / "a.csv", lambda rng: rng.choice(["1.5", "2.50", "", "-3.25"]) if rng else "2.5")
    stored, text = large(path, monkeypatch)
    assert 0 in stored.plain
    assert answers(stored, decisions) == answers(text, decisions)


def test_numbers_with_a_decimal_comma_are_stored_alike(tmp_path, monkeypatch):
    path = tmp_path / "a.csv"
    cells = lambda rng: f"{rng.gauss(0, 9):.3f}".replace(".", ",") if rng else "-1,5"  # noqa: E731
    file_of(path, cells, ";")
    stored, text = large(path, monkeypatch, ",")
    assert [*stored.plain] == [0]
    assert (stored.numbers("n0") == text.numbers(Spelling(",").number("c0"))).all()


def test_stored_numbers_have_the_bits_that_python_reads(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    values = rng.integers(0, 2**64, ROWS, np.uint64).view(np.float64)
    values = values[np.isfinite(values)]
    path = tmp_path / "a.csv"
    path.write_text("x,y\n" + "".join(f"{value!r},0.5\n" for value in [0.5] * 30 + values.tolist()))
    stored, _ = large(path, monkeypatch)
    assert (stored.numbers("n0")[30:].view(np.uint64) == values.view(np.uint64)).all()


def test_text_of_a_file_that_has_changed_is_refused(tmp_path, monkeypatch):
    path = file_of(tmp_path / "a.csv", lambda rng: "1.50")
    stored, _ = large(path, monkeypatch)
    path.write_text(path.read_text().replace("1.50", "1.5"))
    with pytest.raises(DataError, match="has changed since it was read"):
        stored.levels(0)


def test_files_of_a_folder_are_stored_alike(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "LARGE", 0)
    (tmp_path / "d").mkdir()
    file_of(tmp_path / "d" / "a.csv", lambda rng: "1.50")
    file_of(tmp_path / "d" / "b.csv", lambda rng: "1.50" if rng else "x")
    table = read_table(str(tmp_path / "d"))
    assert len(table) == 2 * ROWS and not table.plain


def test_whole_numbers_and_short_columns_are_no_candidates():
    rows = [["1", "0.5", "007.5", "1,5", "", "0.5"]] * 30 + [["2", "7", "1.5", "2", "1.5", "05"]]
    assert candidates(rows, ".", 6) == [1, 2]
