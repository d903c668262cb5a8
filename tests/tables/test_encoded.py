"""The matrix of a large table lies in a file: the same numbers, encoded once, and again only if need be."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ffnn_gpu import temporary
from ffnn_gpu.arrays import file_rows
from ffnn_gpu.arrays.rows import Rows
from ffnn_gpu.errors import DataError
from ffnn_gpu.tables import encoded
from ffnn_gpu.tables.decisions import Decisions
from ffnn_gpu.tables.encoded import MADE_OF, MATRIX, EncodedTable, mapped_from
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.kinds import columns_of
from ffnn_gpu.tables.rows import TableRows
from ffnn_gpu.tables.sources import read_table
from ffnn_gpu.tables.spelling import Spelling

pytest.importorskip("duckdb")


@pytest.fixture
def in_files(monkeypatch):
    """Regard every matrix as large, and encode few rows at once."""
    monkeypatch.setattr(encoded, "MAPPED", 0)
    monkeypatch.setattr(file_rows, "MAPPED", 0)
    monkeypatch.setattr(encoded, "WRITTEN", 600)


def made(tmp_path):
    """Return a table with numbers, levels, times and missing cells, and its encoding."""
    path = tmp_path / "a.csv"
    lines = (
        f"{'' if k % 7 == 0 else k * 0.5},{'abc'[k % 3]},2020-01-{1 + k % 28:02},{k % 2}" for k in range(50)
    )
    path.write_text("x,level,day,y\n" + "\n".join(lines) + "\n")
    table = read_table(str(path))
    columns = columns_of(table, Decisions(), Spelling(), ("y",))
    return table, Encoding.fit(table, columns, np.arange(50))


def test_a_matrix_in_a_file_equals_the_one_in_memory(tmp_path, in_files):
    table, encoding = made(tmp_path)
    store = EncodedTable(table, (3,))
    store.folder = tmp_path
    for dtype in ("float32", "float64", pytest.importorskip("ml_dtypes").bfloat16):
        matrix = store.matrix(encoding, dtype)
        assert isinstance(matrix, np.memmap)
        assert matrix.dtype == np.dtype(dtype)
        assert np.array_equal(matrix, encoding.encode(table, dtype, (3,)))


def test_unfinished_matrix_stays_while_another_process_sweeps_and_goes_at_the_end(
    tmp_path, in_files, monkeypatch
):
    table, encoding = made(tmp_path)
    store, seen = EncodedTable(table), []
    store.folder = tmp_path / "run"
    store.folder.mkdir()

    def fail(half, file):
        command = f"from ffnn_gpu.cli.run_folder import Path, sweep; sweep(Path({str(store.folder)!r}))"
        subprocess.run([sys.executable, "-c", command], check=True, timeout=60)
        seen.append(half.exists())
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(encoded.os, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            store.matrix(encoding, "float32")
    assert seen == [True] and not [*store.folder.iterdir()]


def test_signal_removes_an_unfinished_matrix_and_the_folder_of_its_run(tmp_path, in_files, monkeypatch):
    table, encoding = made(tmp_path)
    store = EncodedTable(table)
    store.folder = tmp_path / "run"
    store.folder.mkdir()
    temporary.add(store.folder, Path.rmdir)
    monkeypatch.setattr(encoded.os, "replace", lambda *paths: temporary.remove_all() or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        store.matrix(encoding, "float32")
    assert not store.folder.exists()


def test_rows_of_a_large_table_are_read_from_the_file(tmp_path, in_files):
    table, encoding = made(tmp_path)
    some = np.array([3, 4, 40])
    rows = TableRows(table, np.arange(50), 3, (3,))[some]
    matrix = rows.encoded(encoding, "float32")
    assert isinstance(matrix, Rows)
    assert np.array_equal(matrix[:], encoding.encode(table, "float32", (3,))[some])


def test_small_tables_write_no_file(tmp_path):
    table, encoding = made(tmp_path)
    rows = TableRows(table, np.arange(50), 3, (3,))
    rows.keep_in(tmp_path)
    assert not isinstance(rows.encoded(encoding, "float32"), np.memmap)
    assert not (tmp_path / MATRIX).exists()


def test_the_file_is_used_again_while_nothing_has_changed(tmp_path, in_files, monkeypatch):
    table, encoding = made(tmp_path)
    first = EncodedTable(table, (3,))
    first.folder = tmp_path
    want = np.array(first.matrix(encoding, "float32"))
    again = EncodedTable(made(tmp_path)[0], (3,))
    again.folder = tmp_path
    with monkeypatch.context() as patch:
        patch.setattr(Encoding, "encode", None)
        assert np.array_equal(again.matrix(encoding, "float32"), want)


@pytest.mark.parametrize(
    "change", ["a cell", "the order", "a byte of the matrix", "the encoding", "no checksum"]
)
def test_the_matrix_is_encoded_again_after_a_change(tmp_path, in_files, change):
    table, encoding = made(tmp_path)
    store = EncodedTable(table, (3,))
    store.folder = tmp_path
    old = np.array(store.matrix(encoding, "float32"))
    path = tmp_path / "a.csv"
    if change == "a cell":
        path.write_text(path.read_text().replace("\n24.0,", "\n-3,"))
    if change == "the order":
        header, first, second, *rest = path.read_text().splitlines()
        path.write_text("\n".join([header, second, first, *rest]) + "\n")
    if change == "a byte of the matrix":
        content = bytearray((tmp_path / MATRIX).read_bytes())
        content[-9] ^= 1
        (tmp_path / MATRIX).unlink()
        (tmp_path / MATRIX).write_bytes(content)
    if change == "the encoding":
        encoding = Encoding(encoding.encoders[:2], encoding.columns, encoding.missing)
    if change == "no checksum":
        (tmp_path / MADE_OF).write_text("{}")
    again = EncodedTable(read_table(str(path)), (3,))
    again.folder = tmp_path
    matrix = again.matrix(encoding, "float32")
    assert np.array_equal(matrix, encoding.encode(again.table, "float32", (3,)))
    assert np.array_equal(matrix, old) == (change in ("a byte of the matrix", "no checksum"))
    assert json.loads((tmp_path / MADE_OF).read_text())["bytes"] == matrix.nbytes


def test_a_cell_that_cannot_be_read_is_named_by_its_line(tmp_path, in_files):
    _, encoding = made(tmp_path)
    path = tmp_path / "a.csv"
    path.write_text(path.read_text() + "none of it,a,2020-01-01,1\n")
    table = read_table(str(path))
    with pytest.raises(DataError, match="line 52 holds 'none of it'"):
        EncodedTable(table, (3,)).matrix(encoding, "float32")


def test_a_lent_matrix_is_mapped_while_it_is_the_same(tmp_path, in_files):
    table, encoding = made(tmp_path)
    lender = TableRows(table, np.arange(50), 3, (3,))
    matrix, folder = lender.lend(encoding, "float32")
    want = encoding.encode(table, "float32", (3,))
    mapped = mapped_from(folder, encoding, "float32")
    lender.keep_in(tmp_path)  # moves the files
    assert isinstance(mapped, np.memmap) and mapped_from(folder, encoding, "float32") is None
    for each in (matrix, mapped):
        assert np.array_equal(each, want)
    assert mapped_from(tmp_path, encoding, "float64") is None
    assert mapped_from(tmp_path, Encoding(encoding.encoders[:2], encoding.columns), "float32") is None
    damaged = (tmp_path / MATRIX).read_bytes()[:-4] + b"1234"
    (tmp_path / MATRIX).unlink()  # the file that is mapped stays
    (tmp_path / MATRIX).write_bytes(damaged)
    assert mapped_from(tmp_path, encoding, "float32") is None and np.array_equal(mapped, want)


def test_a_matrix_in_memory_lies_in_no_folder(tmp_path):
    table, encoding = made(tmp_path)
    rows = TableRows(table, np.arange(50), 3, (3,))
    assert rows.lend(encoding, "float32")[1] is None
    assert rows.fit([], (), 10) is encoding
