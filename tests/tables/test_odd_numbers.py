"""Columns with texts that only DuckDB takes for numbers are found, wherever the blocks of a file end."""

import random
import re

import pytest

from ffnn_gpu.tables import plain_text
from ffnn_gpu.tables.dialects import Dialect
from ffnn_gpu.tables.plain_text import plain

ODD = re.compile(r'0\d|["\s](0\d|\s)|.*\d_\d|.*\+-', re.DOTALL)  # of a cell as it is written
CELLS = ["1.5", "-2", "0.5", "0", "", "10", "100.01", "1e05", "-007", "a_b", "a_1", "1_", "x 07", "+1", " 1"]
ODD_CELLS = ["007", "00.5", " 01", "1_5", "2.5_5", "+-1", "05", "  7", "\t08"]


def file_of(seed, separator):
    """Return a plain file of 4 columns and its odd columns; some cells are quoted, some hold line ends."""
    rng = random.Random(seed)
    odd = {k for k in range(4) if rng.random() < 0.3}
    rows = [[rng.choice(CELLS) for _ in range(4)] for _ in range(rng.randint(1, 40))]
    for k in odd:
        rng.choice(rows)[k] = rng.choice(ODD_CELLS)
    if rng.random() < 0.3:
        rows[0][0] += "\n0"
    quoted = [[f'"{cell}"' if rng.random() < 0.2 or "\n" in cell else cell for cell in row] for row in rows]
    odd = {k for k in range(4) if any(ODD.match(row[k]) for row in quoted)}
    return "\n".join(map(separator.join, quoted)) + "\n" * (seed % 2), odd


@pytest.mark.parametrize("block", [1, 64, 1 << 19])
def test_odd_columns_are_those_of_a_pattern(tmp_path, monkeypatch, block):
    monkeypatch.setattr(plain_text, "BLOCK", block)
    path = tmp_path / "a.csv"
    for seed in range(20):
        separator = ",;|"[seed % 3]
        content, odd = file_of(seed, separator)
        path.write_text(content)
        found = plain(path, Dialect(separator, '"', header=False), 4, range(4))
        assert found is not None and found.odd == odd, content
        assert plain(path, Dialect(separator, '"', header=False), 4, [1]).odd == odd & {1}


def test_files_with_windows_line_ends_and_a_mark(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbf007,1\r\n1,0.7\r\n2,1\r\n")
    assert plain(path, Dialect(",", '"', header=False), 2, [0, 1]).odd == {0}
