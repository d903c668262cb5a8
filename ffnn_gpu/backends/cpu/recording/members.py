"""Record the step of a pack: the members' commands run side by side, each member's in one thread.

Each member has a recorder of its own. All that the members record between two commands of the whole pack is
one command, `Together`. A chunk of it is a lane: the commands of some members, one member after the other. So
the threads wait for each other twice or three times in a step, not after each operation.

Why one thread for a member: a small product takes less time than its threads wait for each other.

Why the members of a lane use the same scratch memory: it stays in the second-level cache. One thread, 32
members 20-64-64-1, batch 256: 138 µs of processor time per member and step with memory of its own, 120 so.
"""

import math
from collections.abc import Callable
from itertools import chain
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np

from ffnn_gpu.arrays.array_types import Array, HostArray
from ffnn_gpu.backends.cpu.recording.arguments import NotRecordedError, place_of
from ffnn_gpu.backends.cpu.recording.partition import SHARES, Partition
from ffnn_gpu.backends.cpu.recording.recorder import Command, Recorder
from ffnn_gpu.backends.reference.backend import ALIGNMENT
from ffnn_gpu.backends.reference.members import Members


class Together(NamedTuple):
    """The commands of each lane of a pack, which do not depend on other lanes' commands."""

    lanes: tuple[list[Command], ...]

    @property
    def chunks(self) -> int:
        return len(self.lanes)


class InLanes(Members):
    """An array that the members of a lane use one after the other: `stacked` has an axis of lanes."""

    __slots__ = ("lane_of",)

    def __init__(self, stacked: Array, lane_of: list[int]) -> None:
        super().__init__(stacked)
        self.lane_of = lane_of

    def of(self, r: int) -> Array:
        return super().of(self.lane_of[r])


class PackRecorder(Recorder):
    """Records the step of a pack of R members.

    Attributes:
        losses_of_members: (R,), float64, what the members' losses write.
        lane_of: the lane of each member.
        has_codes: whether each member reads codes of its own, whose commands may refuse them. No member then
            begins its backward pass, which changes running statistics, before all have computed their loss.
        passes: the number of Togethers whose commands use the buffers of lanes. If there are several, these
            commands are useless: in the second one, each member finds the numbers of the lane's last member.
    """

    commands: list[Any]
    losses_of_members: HostArray
    has_codes = False

    def __init__(self, R: int, *args: Any) -> None:
        super().__init__(*args)
        self.losses_of_members = self._scratch(R, np.float64)
        lanes, self.passes, self.of_lanes = min(R, SHARES * self.partition.threads), 0, (0, 0)
        self.lane_of = [r * lanes // R for r in range(R)]
        self.scratches: list[list[HostArray]] = [[] for _ in range(lanes)]
        self.members = [MemberRecorder(self, r) for r in range(R)]

    def member(self, r: int) -> Recorder:
        return self.members[r]

    def in_lanes(self, buffers: list[Any]) -> list[Any]:
        """Return a workspace's buffers in memory of lanes, apart from the output of the last layer."""
        *inner, last = buffers
        sizes = [_size(array) for array in _shared(inner, last)]
        memory = self.backend.empty((len(self.scratches) * sum(sizes),), np.uint8)
        self.of_lanes, start = place_of(self._keep(memory)), 0
        copies: dict[int, InLanes] = {}
        for array, size in zip(_shared(inner, last), sizes, strict=True):
            flat = memory[start : start + len(self.scratches) * size].reshape(len(self.scratches), size)
            count = math.prod(array.shape)
            numbers = flat.view(array.dtype)[:, :count].reshape(len(flat), *array.shape)
            copies[id(array)], start = InLanes(numbers, self.lane_of), start + len(flat) * size
        return [_replaced(each, copies) for each in buffers]

    def gather(self) -> None:
        """Append what the members have recorded, as one command."""
        lanes: list[list[Command]] = [[] for _ in self.scratches]
        for lane, member in zip(self.lane_of, self.members, strict=True):
            lanes[lane] += member.commands
        if any(lanes):
            self.commands.append(Together(tuple(lanes)))
            self._current.clear()
        self.passes += any(member.uses_lanes for member in self.members)
        for member in self.members:
            member.begin()

    def as_vector(self, values: list[Any]) -> Array:
        if self.has_codes:
            self.gather()
        return super().as_vector(values)

    def _run(self, function: Any, operands: tuple[Any, ...], chunks: int) -> None:
        self.gather()
        super()._run(function, operands, chunks)

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        self.gather()
        super().call(function, *args)


class MemberRecorder(Recorder):
    """Records the commands of one member, for a thread that runs all of them.

    Attributes:
        uses_lanes: whether they use the buffers of the member's lane.
    """

    def __init__(self, whole: PackRecorder, r: int) -> None:
        vars(self).update(vars(whole))  # arguments, patches, masks and known memory are those of the pack
        self.whole, self.losses = whole, whole.losses_of_members[r : r + 1]
        self.partition, self._strips = Partition(1, self.dtype.itemsize), np.zeros(0)
        self._lane, self._taken = whole.scratches[whole.lane_of[r]], 0
        self._own_places: list[tuple[int, int]] = []
        self._copies, self._bfloat16 = {}, set()
        self.begin()

    def begin(self) -> None:
        """Begin a new list, with new copies of 16-bit arrays: the pack may have written to these."""
        self.commands, self._current, self.uses_lanes = [], set(), False

    def call(self, function: Callable[..., Any], *args: Any) -> None:
        raise NotRecordedError("a pack calls no Python code for one member")

    def _scratch(self, size: int, dtype: Any) -> HostArray:
        """Return the lane's memory for this request: all of its members make the same ones."""
        if self._taken == len(self._lane):
            self._lane.append(super()._scratch(size, dtype))
        found, self._taken = self._lane[self._taken], self._taken + 1
        if found.shape != (size,) or found.dtype != dtype:
            raise NotRecordedError("two members need different memory")
        self._own_places.append(place_of(found))
        return found

    def _require_known(self, start: int, stop: int) -> None:
        first, last = self.whole.of_lanes
        if first <= start and stop <= last:
            self.uses_lanes = True
        elif not any(first <= start and stop <= last for first, last in self._own_places):
            super()._require_known(start, stop)


def _shared(inner: list[Any], last: Any) -> list[Members]:
    """Return the arrays of a workspace that nothing reads after a pass: all but outputs of the last layer."""
    return [*chain.from_iterable(map(_arrays, inner)), *_arrays(last, ("a",))]


def _arrays(buffers: Any, kept: tuple[str, ...] = ()) -> list[Members]:
    own = [x for name, x in vars(buffers).items() if isinstance(x, Members) and name not in kept]
    inside = (_arrays(each, kept) for each in getattr(buffers, "layers", ()))
    return [*own, *chain.from_iterable(inside)]


def _size(array: Members) -> int:
    """Return the bytes of one member's array, rounded up to the alignment."""
    itemsize: int = array.dtype.itemsize
    return -(-math.prod(array.shape) * itemsize // ALIGNMENT) * ALIGNMENT


def _replaced(buffers: Any, copies: dict[int, InLanes]) -> SimpleNamespace:
    """Return a copy of one layer's buffers with other arrays."""
    found = {name: copies.get(id(value), value) for name, value in vars(buffers).items()}
    if "layers" in found:
        found["layers"] = [_replaced(each, copies) for each in found["layers"]]
    return type(buffers)(**found)  # type: ignore[no-any-return]
