"""Write predictions: CSV, Parquet, JSON lines or .npy; text is UTF-8 whatever the locale.

Numbers are written with as many digits as it takes to read back the same bits.
"""

import csv
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.tables.embedded_database import connect, literal
from ffnn_gpu.tables.frames import load
from ffnn_gpu.tables.table import CELLS, Table

ENDINGS = (".csv", ".parquet", ".jsonl", ".npy")
ROWS_PER_WRITE = 1 << 14  # this many rows are in memory as text
KEPT_AS_THEY_ARE = ("BOOLEAN", "TIMESTAMP", "FLOAT", "DOUBLE", *(
    sign + size for sign in ("", "U") for size in ("TINYINT", "SMALLINT", "INTEGER", "BIGINT")
))  # fmt: skip
"""Types of the database that columns keep in the output; the others are written as text."""


def answer_columns(
    answers: HostArray, probabilities: HostArray | None, classes: Sequence[str]
) -> dict[str, HostArray]:
    """Return the columns to write by name, each (n,).

    The names are `prediction` (with several outputs: `prediction_0`, …), then `p_CLASS` for probabilities.
    """
    columns = {"prediction": answers}
    if answers.ndim > 1:
        columns = {f"prediction_{k}": column for k, column in enumerate(answers.T)}
    if probabilities is not None:
        columns |= {f"p_{name}": probabilities[:, k] for k, name in enumerate(classes)}
    return columns


def kept_column(table: Table, place: int) -> Any:
    """Return a column of a table as it was written, (n,): a masked array if cells are missing."""
    cell = f"c{place}" if table.types[place] in KEPT_AS_THEY_ARE else table.text(place)
    return table.connection.cursor().execute(f"SELECT {cell} AS v FROM {CELLS}").fetchnumpy()["v"]


def require_writable(path: str, keep: Sequence[str] = ()) -> None:
    """Raise ConfigurationError unless `write` can write the kept columns and predictions to the path."""
    if not path.lower().endswith(ENDINGS):
        raise ConfigurationError(f"predictions are written as {', '.join(ENDINGS)}, not to {path}")
    if keep and path.lower().endswith(".npy"):
        raise ConfigurationError(
            f"--keep needs a file of named columns: .csv, .parquet or .jsonl, not {path}"
        )


def write(path: Path, columns: Mapping[str, HostArray], ending: str) -> None:
    """Write columns to a file in the format of an ending; .npy: the values as (n,) or (n, columns)."""
    if ending == ".parquet":
        _write_parquet(path, columns)
        return
    with open(path, "wb") as file:
        if ending == ".npy":
            values = [*columns.values()]
            np.save(file, values[0] if len(values) == 1 else np.stack(values, axis=1), allow_pickle=False)
        else:
            (write_csv if ending == ".csv" else write_json)(file, columns)


def write_csv(file: IO[bytes], columns: Mapping[str, HostArray]) -> None:
    """Write a header and one line per row; a missing cell is empty."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    for rows in _rows(columns):
        writer.writerows(rows)
        file.write(text.getvalue().encode("utf-8"))
        text.seek(0)
        text.truncate()
    file.write(text.getvalue().encode("utf-8"))


def write_json(file: IO[bytes], columns: Mapping[str, HostArray]) -> None:
    """Write one JSON object per row; a missing cell is null, and a number that is not finite a text."""
    for rows in _rows(columns):
        lines = (dict(zip(columns, map(_in_json, row), strict=True)) for row in rows)
        text = "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)
        file.write(text.encode("utf-8"))


def _rows(columns: Mapping[str, HostArray]) -> Iterator[Iterator[tuple[Any, ...]]]:
    """Yield blocks of rows of Python values. `repr` of a float is the shortest text with its bits."""
    for start in range(0, max(map(len, columns.values()), default=0), ROWS_PER_WRITE):
        yield zip(
            *(column[start : start + ROWS_PER_WRITE].tolist() for column in columns.values()), strict=True
        )


def _in_json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, (bool, int, float, str, type(None))) else str(value)


def _write_parquet(path: Path, columns: Mapping[str, HostArray]) -> None:
    if len({name.lower() for name in columns}) < len(columns):
        raise ConfigurationError(
            "a .parquet file cannot hold names of columns that differ only in case; write .csv or .jsonl: "
            f"{', '.join(columns)}"
        )
    connection = connect()
    load(connection, CELLS, [*columns.values()], str(path))
    names = ", ".join(f'c{k} AS "{name.replace(chr(34), chr(34) * 2)}"' for k, name in enumerate(columns))
    connection.execute(f"COPY (SELECT {names} FROM {CELLS}) TO {literal(str(path))} (FORMAT parquet)")
