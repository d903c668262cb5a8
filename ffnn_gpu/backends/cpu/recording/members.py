"""Record the step of a pack: the members' commands run side by side, each member's in one thread.

Each member has a recorder of its own. All that it records between two commands of the whole pack is one chunk
of a `Together`. So the threads wait for each other twice or three times in a step, not after each operation.

Why one thread for a member: a small product takes less time than its threads wait for each other.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.backends.cpu.recording.arguments import NotRecordedError
from ffnn_gpu.backends.cpu.recording.partition import Partition
from ffnn_gpu.backends.cpu.recording.recorder import Command, Recorder


class Together(NamedTuple):
    """The commands of each member of a pack, which do not depend on other members' commands."""

    members: tuple[list[Command], ...]

    @property
    def chunks(self) -> int:
        return len(self.members)


class PackRecorder(Recorder):
    """Records the step of a pack of R members.

    Attributes:
        losses_of_members: (R,), float64, what the members' losses write.
    """

    commands: list[Any]
    losses_of_members: HostArray

    def __init__(self, R: int, *args: Any) -> None:
        super().__init__(*args)
        self.losses_of_members = self._scratch(R, np.float64)
        self.members = [MemberRecorder(self, self.losses_of_members[r : r + 1]) for r in range(R)]

    def member(self, r: int) -> Recorder:
        return self.members[r]

    def gather(self) -> None:
        """Append what the members have recorded, as one command."""
        lists = tuple(member.commands for member in self.members)
        if any(lists):
            self.commands.append(Together(lists))
            self._current.clear()
        for member in self.members:
            member.commands = []
            member.forget_copies()

    def _run(self, function: Any, operands: tuple[Any, ...], chunks: int) -> None:
        self.gather()
        super()._run(function, operands, chunks)

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        self.gather()
        super().call(function, *args)


class MemberRecorder(Recorder):
    """Records the commands of one member, for a thread that runs all of them."""

    def __init__(self, whole: PackRecorder, losses: HostArray) -> None:
        vars(self).update(vars(whole))  # arguments, patches, masks and known memory are those of the pack
        self.partition, self.losses = Partition(1, self.dtype.itemsize), losses
        self.commands, self._strips = [], np.zeros(0)
        self._copies, self._current = {}, set()
        self._own_places: list[tuple[int, int]] = []

    def forget_copies(self) -> None:
        """Make new copies of 16-bit arrays, which the whole pack may write to now."""
        self._current.clear()

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        raise NotRecordedError("a pack calls no Python code for one member")

    def _require_known(self, start: int, stop: int) -> None:
        if not any(first <= start and stop <= last for first, last in self._own_places):
            super()._require_known(start, stop)

    def _keep(self, array: Array) -> Array:
        kept = super()._keep(array)
        self._own_places.append(self.places[-1])
        return kept
