"""Check that all ranks run the same training: every rank compares the checksums of all.

Why: ranks that differ by one bit of θ, one setting or one version would continue without an error, to a
meaningless network.
"""

import hashlib
import re
from collections.abc import Mapping

import numpy as np

from ffnn_gpu.distributed.communicator import Communicator, gather
from ffnn_gpu.distributed.faults import ranks_in_words
from ffnn_gpu.errors import DivergedRanksError

ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def checksum(item: object) -> int:
    """Return a 64-bit checksum of an array's bytes, or of any other item's repr without memory addresses."""
    if isinstance(item, np.ndarray):
        data: bytes | memoryview = np.ascontiguousarray(item).data
    else:
        data = ADDRESS.sub("", repr(item)).encode()
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little", signed=True)


def require_agreement(communicator: Communicator, items: Mapping[str, object], hint: str = "") -> None:
    """Raise DivergedRanksError, on every rank, unless every item is the same on all of them.

    Args:
        items: name → item; the same names in the same order on every rank.
        hint: appended to the error message.
    """
    everyone = gather(communicator, [checksum(item) for item in items.values()])
    sums = dict(zip(items, everyone.T.tolist(), strict=True))
    differing = [_difference(name, row) for name, row in sums.items() if len({*row}) > 1]
    if differing:
        raise DivergedRanksError(f"the ranks do not run the same training: {'; '.join(differing)}{hint}")


def _difference(name: str, sums: list[int]) -> str:
    """Return which ranks differ from the most frequent checksum, in a tie from the lowest rank's."""
    usual = max(sums, key=sums.count)
    others = [rank for rank, value in enumerate(sums) if value != usual]
    alike = [rank for rank, value in enumerate(sums) if value == usual]
    differ = "differs" if len(others) == 1 else "differ"
    return f"{name}: {ranks_in_words(others)} {differ} from {ranks_in_words(alike)}"
