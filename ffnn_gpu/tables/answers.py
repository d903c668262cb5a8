"""Write predictions: CSV, Parquet, JSON lines or .npy.

Numbers are written with as many digits as it takes to read back the same bits.
"""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.tables.table import connect, literal

ENDINGS = (".csv", ".parquet", ".jsonl", ".npy")
ROWS_PER_WRITE = 1 << 14  # this many rows are in memory as text


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


def require_writable(path: str) -> None:
    """Raise ConfigurationError unless the path has one of the endings that `write` knows."""
    if not path.lower().endswith(ENDINGS):
        raise ConfigurationError(f"predictions are written as {', '.join(ENDINGS)}, not to {path}")


def write(path: str, columns: Mapping[str, HostArray]) -> None:
    """Write columns to a file in the format of its ending; .npy: the numbers as (n,) or (n, columns)."""
    require_writable(path)
    ending = Path(path).suffix.lower()
    if ending == ".npy":
        values = [*columns.values()]
        np.save(path, values[0] if len(values) == 1 else np.stack(values, axis=1), allow_pickle=False)
    elif ending == ".parquet":
        _write_parquet(path, columns)
    else:
        with open(path, "w", newline="", encoding="utf-8") as file:
            (write_csv if ending == ".csv" else _write_json)(file, columns)


def write_csv(file: IO[str], columns: Mapping[str, HostArray]) -> None:
    """Write a header and one line per row."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for rows in _rows(columns):
        writer.writerows(rows)


def _write_json(file: IO[str], columns: Mapping[str, HostArray]) -> None:
    for rows in _rows(columns):
        for row in rows:
            line = dict(zip(columns, row, strict=True))
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")


def _rows(columns: Mapping[str, HostArray]) -> Any:
    """Yield blocks of rows of Python values. `repr` of a float is the shortest text with its bits."""
    for start in range(0, max(map(len, columns.values()), default=0), ROWS_PER_WRITE):
        yield zip(
            *(column[start : start + ROWS_PER_WRITE].tolist() for column in columns.values()), strict=True
        )


def _write_parquet(path: str, columns: Mapping[str, HostArray]) -> None:
    connection = connect()
    connection.register("answers", {f"c{k}": column for k, column in enumerate(columns.values())})
    names = ", ".join(f'c{k} AS "{name.replace(chr(34), chr(34) * 2)}"' for k, name in enumerate(columns))
    connection.execute(f"COPY (SELECT {names} FROM answers) TO {literal(path)} (FORMAT parquet)")
