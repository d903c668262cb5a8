"""Predictions read back to the same bits from every format, and a failed write leaves no file behind."""

import csv
import io
import json

import numpy as np
import pytest

from ffnn_gpu.checkpoints import atomic_file
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.tables import answers
from ffnn_gpu.tables.frames import table_of

pytest.importorskip("duckdb")
pq = pytest.importorskip("pyarrow.parquet")

TEXT_FORMATS = (".csv", ".jsonl")


def extremes(dtype):
    """Return the numbers of a floating type that are hardest to write, and random bits."""
    info = np.finfo(dtype)
    hard = [
        0.0,
        -0.0,
        info.max,
        -info.max,
        info.tiny,
        info.smallest_subnormal,
        info.eps,
        1 / 3,
        0.1,
        1e16,
        123456.0,
    ]
    bits = np.random.default_rng(0).integers(0, 2 ** (8 * info.dtype.itemsize) - 1, 5000, np.uint64)
    drawn = bits.astype(f"u{info.dtype.itemsize}").view(dtype)
    return np.concatenate([np.array(hard, dtype), drawn[np.isfinite(drawn)]])


def read(path):
    """Return {name: cells} of a file that `write` wrote, without this package."""
    if path.suffix == ".csv":
        header, *rows = csv.reader(io.StringIO(path.read_text("utf-8"), newline=""))
        return {name: [row[k] for row in rows] for k, name in enumerate(header)}
    if path.suffix == ".jsonl":
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        return {name: [row[name] for row in rows] for name in rows[0]}
    return pq.read_table(path).to_pydict()


@pytest.mark.parametrize("ending", [*TEXT_FORMATS, ".parquet"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_read_back_to_the_same_bits(tmp_path, ending, dtype):
    x = extremes(dtype)
    answers.write(tmp_path / f"a{ending}", {"prediction": x}, ending)
    found = np.array([*map(float, read(tmp_path / f"a{ending}")["prediction"])])
    for back in (found, found.astype(dtype)):  # read as float64, or as the type itself
        assert back.tobytes() == x.astype(back.dtype).tobytes()
    if ending in TEXT_FORMATS:
        texts = read(tmp_path / f"a{ending}")["prediction"]
        assert np.array([*map(dtype, texts)]).tobytes() == x.tobytes()


COLUMNS = {
    "id": np.ma.array(np.array(["007", "", 'é\n"1,5"'], object), mask=[False, True, False]),
    "n": np.ma.array([2**62 + 1, 0, -1], mask=[False, True, False]),
    "prediction": np.array(["yes", "no", "\U0001f600"]),
    "p_yes": np.array([0.1, 1 / 3, 1.0]),
}


@pytest.mark.parametrize("ending", [*TEXT_FORMATS, ".parquet"])
def test_texts_integers_and_missing_cells_come_back(tmp_path, ending):
    answers.write(tmp_path / f"a{ending}", COLUMNS, ending)
    found, nothing = read(tmp_path / f"a{ending}"), "" if ending == ".csv" else None
    plain = str if ending == ".csv" else lambda value: value
    assert [*found] == [*COLUMNS]
    assert found["id"] == ["007", nothing, 'é\n"1,5"']
    assert found["n"] == [plain(2**62 + 1), nothing, plain(-1)]
    assert found["prediction"] == ["yes", "no", "\U0001f600"]
    assert [*map(float, found["p_yes"])] == [0.1, 1 / 3, 1.0]


@pytest.mark.parametrize("dtype", [float, int, bool, "U3", object])
def test_no_rows_are_a_header_and_no_rows(tmp_path, dtype):
    columns = {"id": np.array([], object), "prediction": np.array([], dtype)}
    for ending in (*TEXT_FORMATS, ".parquet"):
        answers.write(tmp_path / f"a{ending}", columns, ending)
    assert (tmp_path / "a.csv").read_bytes() == b"id,prediction\n"
    assert (tmp_path / "a.jsonl").read_bytes() == b""
    table = pq.read_table(tmp_path / "a.parquet")
    assert table.column_names == [*columns] and len(table) == 0
    answers.write(tmp_path / "a.npy", {"prediction": np.zeros((0,))}, ".npy")
    assert np.load(tmp_path / "a.npy").shape == (0,)


@pytest.mark.parametrize("rows", [1, 3, 1000])
def test_long_output_is_written_piece_by_piece(tmp_path, monkeypatch, rows):
    monkeypatch.setattr(answers, "ROWS_PER_WRITE", rows)
    numbers = np.arange(8)
    answers.write(tmp_path / "a.csv", {"a": numbers, "b": numbers / 2}, ".csv")
    assert (tmp_path / "a.csv").read_text().splitlines() == ["a,b", *(f"{k},{k / 2!r}" for k in range(8))]
    answers.write(tmp_path / "a.jsonl", {"a": numbers}, ".jsonl")
    assert read(tmp_path / "a.jsonl")["a"] == [*range(8)]


def test_columns_of_answers_are_named():
    chances = np.array([[0.25, 1 / 3], [1, 0]])
    found = answers.answer_columns(np.array(["a", "b"]), chances, ["a", "b"])
    assert [*found] == ["prediction", "p_a", "p_b"] and found["p_b"].tolist() == [1 / 3, 0]
    assert [*answers.answer_columns(np.zeros((2, 2)), None, [])] == ["prediction_0", "prediction_1"]


def test_npy_holds_one_column_or_a_matrix(tmp_path):
    answers.write(tmp_path / "a.npy", {"prediction": np.array(["a", "b"])}, ".npy")
    assert np.load(tmp_path / "a.npy").tolist() == ["a", "b"]
    answers.write(tmp_path / "a.npy", {"p_a": np.array([0.1, 0.2]), "p_b": np.array([0.9, 0.8])}, ".npy")
    assert np.load(tmp_path / "a.npy").tolist() == [[0.1, 0.9], [0.2, 0.8]]


def test_kept_columns_are_as_they_were_written():
    table = table_of({"id": ["007", None], "n": [2**60 + 1, None], "b": [True, None], "f": [0.1, None]})
    kept = {name: answers.kept_column(table, place).tolist() for place, name in enumerate(table.names)}
    assert kept == {"id": ["007", None], "n": [2**60 + 1, None], "b": [True, None], "f": [0.1, None]}
    table.connection.execute(
        "CREATE OR REPLACE TABLE cells AS SELECT 1.10::DECIMAL(9, 2) AS c0, [1, 2] AS c1"
    )
    table = type(table)("the query", ("d", "l"), table.connection)
    assert [answers.kept_column(table, k).tolist() for k in range(2)] == [["1.10"], ["[1, 2]"]]


def test_what_cannot_be_written_is_refused(tmp_path):
    with pytest.raises(
        ConfigurationError, match=r"written as \.csv, \.parquet, \.jsonl, \.npy, not to a\.txt"
    ):
        answers.require_writable("a.txt")
    with pytest.raises(ConfigurationError, match=r"--keep needs a file of named columns: .* not a\.npy"):
        answers.require_writable("a.npy", ["id"])
    answers.require_writable("A.CSV", ["id"])
    with pytest.raises(ConfigurationError, match=r"differ only in case; write \.csv or \.jsonl: p_A, p_a"):
        answers.write(tmp_path / "a.parquet", {"p_A": np.ones(2), "p_a": np.zeros(2)}, ".parquet")


def test_file_that_is_replaced_is_whole_or_the_old_one(tmp_path):
    path = tmp_path / "folder" / "a.csv"
    with atomic_file.replacing(path) as half:
        half.write_text("old")
        assert not path.exists() and half.parent == path.parent
    for error in (ValueError, KeyboardInterrupt):
        with pytest.raises(error):
            _fail_to_replace(path, error)
    assert path.read_text() == "old" and [*path.parent.iterdir()] == [path]
    with pytest.raises(KeyboardInterrupt):
        _fail_to_replace(tmp_path / "b.csv", KeyboardInterrupt)
    assert [*tmp_path.iterdir()] == [path.parent]


def _fail_to_replace(path, error):
    with atomic_file.replacing(path) as half:
        half.write_text("new, but not the who")
        raise error


def test_file_that_is_replaced_through_a_link_keeps_the_link(tmp_path):
    (tmp_path / "real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("real.csv")
    with atomic_file.replacing(tmp_path / "link.csv") as half:
        half.write_text("new")
    assert (tmp_path / "link.csv").is_symlink() and (tmp_path / "real.csv").read_text() == "new"
