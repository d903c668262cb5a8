"""Read the rows to predict, with their column names; write predictions as CSV or .npy.

Why columns are selected as text, before any cell becomes a number: the file may also hold the target, perhaps
with empty cells, and columns such as names and dates that the model was not trained on.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, TextIO

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.checks import special_file
from ffnn_gpu.data.array_files import npy_rows, read_npy, reading
from ffnn_gpu.data.csv_files import first_row, read_table
from ffnn_gpu.data.readers import BUNDLED, Dataset, leaves_target_open, read
from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.estimators.model import Model, has_each_once, require_none_or_all

STDIN = "-"
ROWS_PER_WRITE = 1 << 14  # this many rows are in memory as text


class NamedRows(NamedTuple):
    """x (n, columns) and the names of the columns, None if the source has none."""

    x: HostArray
    names: tuple[str, ...] | None


class CsvText(io.StringIO):
    """CSV text with the name that messages give it."""

    name: str = "standard input"


def read_rows(
    source: str, stdin: TextIO, features: Sequence[str] | None = None, target: str | None = None
) -> NamedRows:
    """Read a CSV file, standard input ("-"), a .npy matrix, a folder of .npy matrices or a bundled data set.

    Args:
        features: if the header of a CSV has all of these names, only these columns are read.
        target: otherwise, this column is left out if the header has it.

    Raises:
        DataError: no such file, not a matrix, only some of the features are present, or a cell is no number.
    """

    def select(names: list[str]) -> list[int] | None:
        """Return the columns to read; None for all, if the first row does not name them."""
        if features is not None and any(name in features and any(map(str.isalpha, name)) for name in names):
            require_none_or_all(names, features)  # before any cell is read; "1.5" may be data
        if features is not None and has_each_once(names, features):
            place = {name: k for k, name in enumerate(names)}
            return [place[name] for name in features]
        others = [k for k, name in enumerate(names) if name != target]
        return others if 0 < len(others) < len(names) else None

    if source == STDIN:
        with reading("standard input"):
            text = CsvText(stdin.read(), newline="")
        return NamedRows(*read_table(text, select))
    if source in BUNDLED:
        data = read(source)
        return NamedRows(data.x, data.feature_names)
    if Path(source).is_dir():
        return NamedRows(_matrix(npy_rows(source), source), None)
    if kind := special_file(source):
        raise DataError(f"{source} is {kind}; give a file, or CSV on standard input: - < {source}")
    if not Path(source).is_file():
        raise DataError(
            f"there is no file {source}; give a .csv or .npy file, a folder of .npy files, - for standard "
            f"input, or a bundled set ({', '.join(BUNDLED)})"
        )
    if source.lower().endswith(".npy"):
        return NamedRows(_matrix(read_npy(source), source), None)
    suffix = Path(source).suffix.lower()
    if suffix and not source.lower().endswith((".csv", ".csv.gz")):
        raise DataError(f"predict reads .csv, .npy or standard input, not {suffix}")
    return NamedRows(*read_table(source, select))


def read_labelled(source: str, target: str | None, model: Model) -> tuple[Dataset, HostArray, HostArray]:
    """Return (data set, x, y) to evaluate a model on: the test set if the source has one, else every row.

    Args:
        target: target column of a .csv or .npy file; None for the one that the model was trained on.
    """
    chosen: str | int | None = target
    if target is None and Path(source).exists() and leaves_target_open(source):
        chosen = model.target
        if chosen is None and source.lower().endswith((".csv", ".csv.gz")):
            chosen = model.target_name if model.target_name in first_row(source) else None
    data = read(source, chosen)
    if data.x_test is not None and data.y_test is not None:
        return data, data.x_test, data.y_test
    return data, data.x, data.y


def prediction_columns(
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


def print_csv(file: IO[str], columns: Mapping[str, HostArray]) -> None:
    """Write a header and one line per row. Floats have nine digits: enough to tell any two float32 apart."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(columns)
    for start in range(0, max(map(len, columns.values()), default=0), ROWS_PER_WRITE):
        pieces = (column[start : start + ROWS_PER_WRITE] for column in columns.values())
        writer.writerows(zip(*map(_cells, pieces), strict=True))


def write_predictions(
    path: str, answers: HostArray, probabilities: HostArray | None, classes: Sequence[str]
) -> None:
    """Write a .csv of everything, or a .npy of the probabilities, or of the predictions if there are none."""
    require_writable(path)
    if path.lower().endswith(".npy"):
        np.save(path, answers if probabilities is None else probabilities, allow_pickle=False)
        return
    with open(path, "w", newline="", encoding="utf-8") as file:
        print_csv(file, prediction_columns(answers, probabilities, classes))


def require_writable(path: str) -> None:
    """Raise ConfigurationError unless the path ends in .csv or .npy."""
    if not path.lower().endswith((".csv", ".npy")):
        raise ConfigurationError(f"predictions are written as .csv or .npy, not to {path}")


def _cells(column: HostArray) -> list[str]:
    return [f"{value:.9g}" if column.dtype.kind == "f" else str(value) for value in column.tolist()]


def _matrix(x: Any, source: str) -> Any:
    if x.ndim != 2 or x.dtype.kind not in "biuf":
        raise DataError(f"{source} holds {x.dtype} of shape {x.shape}; numbers (rows, columns) are needed")
    return x
