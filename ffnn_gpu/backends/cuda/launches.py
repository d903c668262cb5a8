"""Launches that have not been made yet, and what the same launches of two members differ by."""

from typing import Any, NamedTuple

import numpy as np


class Launch(NamedTuple):
    """A launch of a kernel with this grid and block.

    shared: bytes of dynamic shared memory of a block.
    """

    kernel: Any  # its entry's name, or a Generated
    grid: tuple[int, ...]
    block: tuple[int, ...]
    arguments: tuple[Any, ...]
    shared: int = 0

    @property
    def name(self) -> str:
        name: str = self.kernel if isinstance(self.kernel, str) else self.kernel.name
        return name


class Collected:
    """The launches of the members of a pack, which wait until all have been collected.

    Attributes:
        launches: of each member.
    """

    def __init__(self, members: int) -> None:
        self.launches: list[list[Launch]] = [[] for _ in range(members)]
        self.member = 0

    def append(self, launch: Launch) -> None:
        self.launches[self.member].append(launch)


def differences(first: tuple[Any, ...], other: tuple[Any, ...]) -> list[int]:
    """Return what the arguments of one launch differ by from another's: bytes, or the bits of a number.

    As int64, modulo 2⁶⁴.
    """
    found = (_bits(y) - _bits(x) for x, y in zip(first, other, strict=True))
    return [(each + 2**63) % 2**64 - 2**63 for each in found]


def _bits(argument: Any) -> int:
    if isinstance(argument, np.generic):
        return int(argument.view(f"i{argument.itemsize}"))
    return 0 if argument is None else int(argument.data.ptr)
