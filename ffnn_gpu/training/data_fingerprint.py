"""Compute checksums of the data, which a resumed run compares with the checksums in its checkpoint.

Rows in host memory are all read, once, when a checkpoint is written or read: crc32 takes a second for 1 to
3 GB. From a file or an array on a device, only SAMPLE evenly spaced rows are read, because reading ten
million rows of a file takes minutes. The sampled rows always have a checksum of their own, so a run can
resume when the same data is loaded from another place.
"""

import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.arrays.rows import Rows, blocks
from ffnn_gpu.arrays.standardized import Standardized
from ffnn_gpu.backends import Backend

SAMPLE = 1024  # rows
INPUTS = "inputs (type, checksums)"
# entries that older checkpoints lack
LATER = (INPUTS, f"validation {INPUTS}", "validation targets and weights (checksum)")
Given = tuple[Any, Any, Any | None]  # x, y, weight


def fingerprints(backend: Backend, given: Given, held_out: Given | None) -> dict[str, Any]:
    """Return the entries of a checkpoint for the training rows and the validation rows, by name."""
    inputs, targets = _fingerprint(backend, *given)
    seen, compared = (None, None) if held_out is None else _fingerprint(backend, *held_out)
    names = "targets and weights (checksum)", *LATER
    return dict(zip(names, (targets, inputs, seen, compared), strict=True))


def agree(name: str, mine: Any, theirs: Any) -> bool:
    """Return whether two entries of one name fit the same data. One may lack the checksum of all rows."""
    if name.endswith(INPUTS) and isinstance(mine, list) and isinstance(theirs, list):
        n = min(len(mine), len(theirs))
        return n > 1 and mine[:n] == theirs[:n]
    return bool(mine == theirs)


def _fingerprint(backend: Backend, x: Any, y: Any, weight: Any | None) -> tuple[list[Any], list[int]]:
    """Return [type of x, checksum of the sample, perhaps one of all rows], [checksums of y and weight]."""
    rows, scaling = rows_of(x), 0
    kind, in_memory = rows.dtype.name, not rows.in_files and isinstance(rows.stored, np.ndarray)
    if isinstance(rows, Standardized):
        limit = [] if rows.limit is None else [np.array([rows.limit])]
        scaling, rows = _checksum([rows.mean, rows.scale, *limit]), rows.rows
        kind = f"{rows.dtype.name}, standardized"
    inputs = [kind, _checksum(_some(backend, rows), scaling)]
    if in_memory:
        inputs.append(_checksum((rows[part] for part in blocks(rows)), scaling))
    return inputs, [_checksum([backend.to_host(a)]) for a in (y, weight) if a is not None]


def _checksum(arrays: Iterable[HostArray], start: int = 0) -> int:
    """Return the crc32 of the numbers in C order, in whichever order they are stored."""
    for array in arrays:
        start = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, start)
    return start


def _some(backend: Backend, x: Rows) -> Iterator[HostArray]:
    n = min(SAMPLE, len(x))
    index = np.arange(n) * (len(x) - 1) // max(n - 1, 1)  # the first and the last row among them
    for part in blocks(x, n):
        if x.in_files or isinstance(x.stored, np.ndarray):
            yield x[index[part]]
        else:
            yield backend.to_host(x.select(index[part], backend)[:])
