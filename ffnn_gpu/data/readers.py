"""Read data sets of numbers: bundled names, .npy, .npz and folders of IDX files such as MNIST.

`array_files` reads formats; this file turns a source into x, y and their names. Tables: see `tables`.
scikit-learn takes almost a second to import, so only a bundled name imports it.
"""

import difflib
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.arrays.rows import Rows, blocks
from ffnn_gpu.checks import special_file
from ffnn_gpu.data.array_files import npy_rows, npz_names, read_idx, read_npy, read_npz
from ffnn_gpu.errors import DataError

__all__ = ["BUNDLED", "Dataset", "read", "read_idx"]

BUNDLED = ("digits", "breast_cancer", "wine", "iris", "diabetes")
NPZ_NAMES = {  # part → accepted array names; the first one found is read
    "x": ("X", "x", "X_train", "x_train"),
    "y": ("y", "y_train"),
    "x_test": ("X_test", "x_test"),
    "y_test": ("y_test",),
}

Target = str | int | None


@dataclass(frozen=True, eq=False)
class Dataset:
    """x (n, features) and y (n,) or (n, outputs); x_test and y_test if the source has its own test part."""

    x: HostArray
    y: HostArray
    feature_names: tuple[str, ...] | None
    target_name: str | None
    name: str
    x_test: HostArray | None = None
    y_test: HostArray | None = None

    def __post_init__(self) -> None:
        _check_rows(self.name, self.x, self.y)
        if self.x_test is None and self.y_test is None:
            return
        if self.x_test is None or self.y_test is None:
            there, missing = ("y_test", "x_test") if self.x_test is None else ("x_test", "y_test")
            raise DataError(f"{self.name} has {there} but no {missing}")
        _check_rows(f"{self.name}, test part", self.x_test, self.y_test)
        if self.x_test.shape[1] != self.x.shape[1]:
            columns = f"x has {self.x.shape[1]} columns; x_test has {self.x_test.shape[1]}"
            raise DataError(f"{self.name}: {columns}")
        outputs, tested = (math.prod(y.shape[1:]) for y in (self.y, self.y_test))
        if outputs != tested:
            raise DataError(f"{self.name}: y has {outputs} columns; y_test has {tested}")


def read(source: str | Path, target: Target = None) -> Dataset:
    """Read a bundled data set, a .npy or .npz file, or a folder of IDX or .npy files.

    A bundled name takes precedence over a file of that name; write "./digits" for the file.

    target: index of the target column of a .npy table; default: the last column.

    Raises DataError for an unknown source or malformed data.
    """
    path = Path(source)
    name = path.name.lower()
    reader: Callable[[Path, Target], Dataset]
    if source in BUNDLED:
        reader = _read_bundled
    elif path.is_dir():
        reader = _read_npy if _is_npy_folder(path) else _read_idx_folder
    elif not path.is_file():
        raise _unknown(source)
    elif name.endswith(".npy"):
        reader = _read_npy
    elif name.endswith(".npz"):
        reader = _read_npz
    else:
        kind = f"{path.suffix} files" if path.suffix else "files without an ending"
        accepted = "a table such as .csv, .npy, .npz or a folder of IDX or .npy files"
        raise DataError(f"{source}: {kind} are not supported; use {accepted}")
    if target is not None and not leaves_target_open(source):
        raise DataError(f"{path} has a fixed target; target={target!r} works only with tables and .npy files")
    return reader(path, target)


def leaves_target_open(source: str | Path) -> bool:
    """Return whether any column of the source may be chosen as the target."""
    path = Path(source)
    if source in BUNDLED:
        return False
    return _is_npy_folder(path) if path.is_dir() else path.name.lower().endswith(".npy")


def _is_npy_folder(path: Path) -> bool:
    """Return whether a folder holds .npy files and no IDX training images."""
    return any(path.glob("*.npy")) and not any(path.glob("train-images[-.]idx*"))


def _unknown(source: str | Path) -> DataError:
    if kind := special_file(source):
        return DataError(f"{source} is {kind}; copy it to a .csv, .csv.gz, .npy or .npz file first")
    folder = Path(source).parent
    beside = [str(folder / other.name) for other in folder.iterdir()] if folder.is_dir() else []
    near = difflib.get_close_matches(str(source), [*BUNDLED, *beside], n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    return DataError(
        f"{str(source)!r} is not a data set: use a bundled name ({', '.join(BUNDLED)}), an existing table "
        f"such as .csv, a .npy or .npz file, or a folder with IDX or .npy files{hint}"
    )


def _read_bundled(path: Path, target: Target) -> Dataset:
    try:
        from sklearn import datasets
    except ImportError as error:
        needed = f'{path.name!r} needs scikit-learn: pip install "ffnn_gpu[sklearn]" ({error})'
        raise DataError(needed) from error
    bunch = getattr(datasets, f"load_{path.name}")()
    return Dataset(bunch.data, bunch.target, tuple(map(str, bunch.feature_names)), "target", path.name)


def _read_npy(path: Path, target: Target) -> Dataset:
    """Split the table of a .npy file, or of all in a folder, into x and target.

    With the first or last column as target, x stays in its files; else it is copied.
    """
    table: Any = npy_rows(path) if path.is_dir() else read_npy(path)
    path = path.resolve() if path.is_dir() else path
    if table.ndim != 2 or table.shape[1] < 2 or table.dtype.kind not in "biuf":
        raise DataError(
            f"{path} holds {table.dtype} of shape {table.shape}; it must hold numbers (n, features + 1)"
        )
    last = table.shape[1] - 1
    index = _column_index(target, last, path)
    rows, first = rows_of(table), int(index == 0)
    if 0 < index < last:
        x: Any = _gathered(rows, [k for k in range(last + 1) if k != index])
    elif isinstance(table, np.ndarray):
        x = table[:, first : first + last]
    else:
        x = table.columns(first, first + last)
    return Dataset(x, _gathered(rows, index), None, None, _stem(path))


def _column_index(target: Target, last: int, path: Path) -> int:
    """Return the index of the target column: an int, its digits, or the last column."""
    if target is None:
        return last
    if (isinstance(target, int) or target.isdecimal()) and 0 <= int(target) <= last:
        return int(target)
    raise DataError(f"{path} has no column {target!r}; the columns are 0 … {last}")


def _gathered(rows: Rows, columns: int | list[int]) -> HostArray:
    """Copy some columns block by block, unmapped, because mapped pages count as memory."""
    rows = rows.unmapped()
    out = np.empty((len(rows), *np.shape(columns)), rows.dtype)
    for block in blocks(rows):
        out[block] = rows[block][:, columns]
    return out


def _read_npz(path: Path, target: Target) -> Dataset:
    found = npz_names(path)

    def part(key: str) -> HostArray | None:
        name = next((name for name in NPZ_NAMES[key] if name in found), None)
        return None if name is None else read_npz(path, name)

    x, y, x_test = part("x"), part("y"), part("x_test")
    if x is None or y is None:
        wanted = " and ".join(f"{NPZ_NAMES[key][0]} (or {', '.join(NPZ_NAMES[key][1:])})" for key in "xy")
        raise DataError(f"{path} has the arrays {', '.join(found) or '(none)'}; it must have {wanted}")
    x_test = None if x_test is None else _features(x_test, path)
    return Dataset(_features(x, path), y, None, None, _stem(path), x_test, part("y_test"))


def _read_idx_folder(folder: Path, target: Target) -> Dataset:
    """Read the train part and, if present, the t10k part; pixels stay uint8, one image per row."""
    train, test = _idx_part(folder, "train"), _idx_part(folder, "t10k")
    if train is None:
        raise DataError(f"{folder} has no train-images-idx3-ubyte and train-labels-idx1-ubyte (.gz or not)")
    x_test, y_test = test or (None, None)
    return Dataset(*train, None, None, folder.resolve().name.lstrip(".") or "data", x_test, y_test)


def _idx_part(folder: Path, part: str) -> tuple[HostArray, HostArray] | None:
    kinds = ("images", "labels")
    images_files, labels_files = (sorted(folder.glob(f"{part}-{kind}[-.]idx*")) for kind in kinds)
    if not images_files and not labels_files:
        return None
    if not images_files or not labels_files:
        there, missing = kinds if images_files else kinds[::-1]
        raise DataError(f"{folder} has {part}-{there} but no {part}-{missing}")
    images, labels = read_idx(images_files[0]), read_idx(labels_files[0])
    if labels.ndim != 1 or len(images) != len(labels):
        raise DataError(
            f"{images_files[0]} has {len(images)} images; {labels_files[0].name} has {labels.shape} labels"
        )
    return _features(images, images_files[0]), labels.astype(np.int64)


def _features(x: HostArray, source: Path) -> HostArray:
    """Return x as (n, features): images (n, rows, columns) become (n, rows · columns)."""
    if x.ndim < 2 or x.dtype.kind not in "biuf":
        raise DataError(f"{source}: x is {x.dtype} of shape {x.shape}; it must hold numbers (n, features)")
    return x.reshape(len(x), math.prod(x.shape[1:]))


def _check_rows(name: str, x: HostArray, y: HostArray) -> None:
    if x.ndim != 2 or y.ndim not in (1, 2) or len(x) != len(y):
        raise DataError(
            f"{name}: x has shape {x.shape}, y {y.shape}; they must be (n, features) and (n,) or (n, outputs)"
        )


def _stem(path: Path) -> str:
    """Return the name without its endings; of a hidden file, without the first dot."""
    return path.name.lstrip(".").split(".")[0] or "data"
