"""Read JSON lines: one object per line, whose values arrive as they are written.

Why by Python's json module: it hands over the text of each number, so 1E2 and 12345678901234567890 stay what
they are. The columns are the keys in the order in which they first occur; a key that a line lacks is a
missing cell.
"""

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.dialects import Dialect
from ffnn_gpu.tables.embedded_database import Scratch
from ffnn_gpu.tables.packed_files import unpacked
from ffnn_gpu.tables.plain_text import Plain
from ffnn_gpu.tables.table import Table
from ffnn_gpu.tables.text_encodings import as_utf8
from ffnn_gpu.tables.text_files import copy_plain

MAX_LINE = 1 << 26  # characters
WORDS = {True: "true", False: "false", None: ""}


def read_json_lines(path: Path, encoding: str, source: str, scratch: Scratch, connection: Any) -> Table:
    """Return the cells of a file of JSON lines. Raises DataError with the line of what is no flat object."""
    folder = scratch.folder()
    utf8, _ = as_utf8(unpacked(path, source, folder), encoding, source, folder)
    names = tuple(dict.fromkeys(name for _, row in _objects(utf8, source) for name in row))
    if not names:
        raise DataError(f"{source} is empty")
    rows = longest = 0
    with open(folder / "rows", "w", encoding="utf-8", newline="") as plain:
        writer = csv.writer(plain, lineterminator="\n", quoting=csv.QUOTE_ALL)
        for _, row in _objects(utf8, source):
            longest = max(longest, writer.writerow([row.get(name, "") for name in names]))
            rows += 1
    size = Plain(rows, 4 * longest)
    copy_plain(connection, folder / "rows", Dialect(",", '"', header=False), len(names), size, source)

    def place(row: int) -> str:
        return f"line {next(line for k, (line, _) in enumerate(_objects(utf8, source)) if k == row)}"

    return Table(source, names, connection, place, keeps=scratch)


def _objects(path: Path, source: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line, {key: value as it is written}) of each line that is not blank."""
    with open(path, encoding="utf-8-sig") as stream:
        number, is_first = 0, True
        while text := stream.readline(MAX_LINE):
            number += 1
            if text.isspace():
                continue
            if is_first and text.lstrip().startswith("["):
                raise DataError(
                    f"{source}, line {number}: a JSON array begins here; rows are JSON lines, one object per "
                    "line without commas between them: jq -c '.[]' ROWS.json > ROWS.jsonl"
                )
            is_first = False
            try:
                yield number, _object(text)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{source}, line {number}: {error}") from error


def _object(text: str) -> dict[str, str]:
    found = json.loads(text, parse_int=str, parse_float=str, parse_constant=str, object_pairs_hook=_row)
    if not isinstance(found, dict):
        raise ValueError(f'{text.strip()[:40]!r} is no object such as {{"a": 1}}')
    return found


def _row(pairs: list[tuple[str, Any]]) -> dict[str, str]:
    row = {}
    for name, value in pairs:
        if isinstance(value, (dict, list)):
            raise ValueError(f"the value of {name!r} is nested; a cell must be one number, text or time")
        if name in row:
            raise ValueError(f"the key {name!r} occurs twice")
        if isinstance(value, str) and any("\ud800" <= c <= "\udfff" for c in name + value):
            raise ValueError(f"the value of {name!a} holds half of a surrogate pair, which is no character")
        row[name] = value if isinstance(value, str) else WORDS[value]
    return row
