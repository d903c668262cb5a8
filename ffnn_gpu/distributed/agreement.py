"""Whether all ranks are in the same training: checksums of what must be equal, compared by their smallest and largest.

Why: ranks that differ by one bit of θ, one setting or one version go on without an error, to a network that is nobody's.
"""

import hashlib
import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from ffnn_gpu.distributed.communicator import Communicator
from ffnn_gpu.distributed.faults import ranks_in_words
from ffnn_gpu.errors import DivergedRanksError

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def checksum(item: Any) -> int:
    """64 bits of an array's bytes, or of the text of anything else, in which a function's address is no difference."""
    data = (
        np.ascontiguousarray(item).data
        if isinstance(item, np.ndarray)
        else ADDRESS.sub("", repr(item)).encode()
    )
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


def require_agreement(communicator: Communicator, items: Mapping[str, Any], hint: str = "") -> None:
    """Raise DivergedRanksError, on every rank, unless every item is the same on all of them.

    items: by name; the same names in the same order on every rank. hint: how the sentence ends.
    """
    mine = np.array([checksum(item) for item in items.values()], np.int64)
    low, high = mine.copy(), mine.copy()
    communicator.all_reduce(low, "min")
    communicator.all_reduce(high, "max")
    if (low == high).all():
        return
    everyone = np.zeros((communicator.size, len(mine)), np.int64)
    everyone[communicator.rank] = mine
    communicator.all_reduce(everyone.reshape(-1))
    differing = [
        _difference(name, everyone[:, k].tolist()) for k, name in enumerate(items) if low[k] != high[k]
    ]
    raise DivergedRanksError(f"the ranks are not in the same training: {'; '.join(differing)}{hint}")


def _difference(name: str, sums: list[int]) -> str:
    """The item, and which ranks have another one than most; the lowest rank's counts where none has a majority."""
    usual = max(sums, key=sums.count)
    others = [rank for rank, value in enumerate(sums) if value != usual]
    alike = [rank for rank, value in enumerate(sums) if value == usual]
    return f"{name}: {ranks_in_words(others)} {'differs' if len(others) == 1 else 'differ'} from {ranks_in_words(alike)}"
