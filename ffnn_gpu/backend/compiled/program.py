"""A recorded training step, ready to run: what `recorder` has noted, as memory that `team` reads."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numba import njit

from ffnn_gpu.backend.compiled.blas import blas
from ffnn_gpu.backend.compiled.native import as_real, get_number, load, set_number, store
from ffnn_gpu.backend.compiled.recorder import NotRecordedError, Recorder, address
from ffnn_gpu.backend.compiled.team import WORD, alone, lead, size_of_team, team

MOST_PROGRAMS = 8  # of one workspace: losses, optimizers and kinds of targets that it comes with
NONE = np.empty(0)
LOOPED = np.dtype(np.float32), np.dtype(np.float64)
TABLE, LENGTH, FAILED, PATCHES, PATCHED, LOSSES, SUMMED, THREADS, SET_THREADS = range(9)  # places in a header


@njit(cache=True, nogil=True)
def run(header: Any, shared: int, helpers: int, x: Any, y: Any, lr: Any, w: Any) -> float:
    """The loss of one step on x and y; NaN and a mark at `failed` where a command has refused its numbers.

    shared: the memory of the team that is led; 0 for this thread alone.
    """
    for k in range(header[PATCHED]):
        patch = header[PATCHES] + 2 * WORD * k
        place, which = load(patch), load(patch + WORD)
        if which == 0: store(place, x.ctypes.data)
        elif which == 1: store(place, y.ctypes.data)
        elif which == 2: store(place, lr.ctypes.data)
        else: store(place, w.ctypes.data)
    before = get_number(header[THREADS])
    if shared == 0:
        alone(header[TABLE], header[LENGTH], header[FAILED])
    else:
        set_number(header[SET_THREADS], 1)
        if before > 1: lead(shared, helpers, header[TABLE], header[LENGTH], header[FAILED])
        else: alone(header[TABLE], header[LENGTH], header[FAILED])
        set_number(header[SET_THREADS], before)
    total = 0.0
    for k in range(header[SUMMED]): total += as_real(load(header[LOSSES] + WORD * k))
    return total


class Program:
    """One kind of step of one workspace: `fits` says whether a call is of that kind, calling it makes the step.

    Attributes:
        reason: why a step of this kind runs as it is; "" where there is a recording.
    """

    def __init__(self, backend: Any, step: Callable[..., Any], args: Sequence[Any]) -> None:
        network, self.loss, self.optimizer, x, y, self.ws, weight, lr = args
        self.x, self.y, self.params = _kind(x), _kind(y), network.params
        self.state, self.reason = self.optimizer.state(self.params), ""
        self.weight, self.lr = None if weight is None else _kind(weight), lr is None
        try:
            self._prepare(_recording(backend, step, args))
        except NotRecordedError as why:
            self.reason = str(why)

    def fits(self, loss: Any, optimizer: Any, x: Any, y: Any, sample_weight: Any, lr: Any) -> bool:
        return (
            optimizer is self.optimizer and loss == self.loss and _kind(x) == self.x and _kind(y) == self.y
            and (None if sample_weight is None else _kind(sample_weight)) == self.weight and (lr is None) == self.lr
            and self.params.optimizer_states.get(optimizer) is self.state
        )

    def __call__(self, x: Any, y: Any, lr: Any, weight: Any) -> Any:
        """The loss before the update; None, with nothing changed, where a target is not among the classes."""
        self.ws.begin_forward(self.params, len(x))
        try:
            loss = self._run(x, y, NONE if lr is None else lr, NONE if weight is None else weight)
        finally:
            self.ws.forget_pass()
        if not self.failed[0]: return self.dtype.type(loss)
        self.failed[0] = 0
        return None

    def _run(self, *arguments: Any) -> float:
        if self.team is None or not self.team.lock.acquire(blocking=False): return run(self.header, 0, 0, *arguments)
        try:
            self.team.wake()
            return run(self.header, self.team.shared, self.team.helpers, *arguments)
        finally:
            self.team.lock.release()

    def _prepare(self, recorder: Recorder) -> None:
        self.dtype, self.failed, notes = recorder.dtype, recorder.failed, recorder.notes
        most = max(note.parts for note in notes)
        self.numbers = [np.array(note.numbers) for note in notes]
        self.marks = np.zeros((len(notes), 1 + most), np.int64)
        self.table = np.array([
            (note.command.address, address(numbers), note.parts, address(marks))
            for note, numbers, marks in zip(notes, self.numbers, self.marks, strict=True)
        ])
        self.patches = np.array([(address(self.numbers[k]) + WORD * place, which) for k, place, which in recorder.patches])
        self.kept = recorder                                                     # its arrays are known by address only
        self.header = np.array([
            address(self.table), len(self.table), address(self.failed), address(self.patches), len(self.patches),
            address(recorder.losses), len(recorder.losses), recorder.blas.threads, recorder.blas.set_threads,
        ])
        self.team = team(recorder.threads) if most > 1 else None


def run_step(backend: Any, step: Callable[..., Any], args: Sequence[Any]) -> Any:
    """step(*args) for args = network, loss, optimizer, x, y, workspace, sample_weight, lr; recorded where it can be."""
    _, loss, optimizer, x, y, ws, sample_weight, lr = args
    for program in ws.programs:
        if program.fits(loss, optimizer, x, y, sample_weight, lr): break
    else:
        if not _recordable(args) or len(ws.programs) == MOST_PROGRAMS: return step(*args)
        program = Program(backend, step, args)
        ws.programs.append(program)
    value = None if program.reason else program(x, y, lr, sample_weight)
    return step(*args) if value is None else value                               # which says what is wrong with the targets


def _kind(array: Any) -> tuple[Any, ...]:
    return type(array), array.shape, array.dtype, array.flags.c_contiguous, array.flags.aligned


def _recordable(args: Sequence[Any]) -> bool:
    """Whether all that takes part is this package's own: other code may compute with NumPy, which is not seen here."""
    network, loss, optimizer, x, y, ws, _, _ = args
    own = [getattr(loss, "__self__", loss), optimizer, *_layers(network.layers)]
    return (
        all(type(part).__module__.startswith("ffnn_gpu.") for part in own) and network.dtype in LOOPED
        and type(x) is type(y) is np.ndarray and x.dtype == network.dtype and ws.owner is network.params
        and blas() is not None
    )


def _layers(layers: Iterable[Any]) -> Iterator[Any]:
    for layer in layers:
        yield layer
        yield from _layers(getattr(layer, "layers", ()))


def _recording(backend: Any, step: Callable[..., Any], args: Sequence[Any]) -> Recorder:
    """What the step asks of its backend. Raises NotRecordedError."""
    network, loss, optimizer, x, y, ws, sample_weight, lr = args
    library, params = blas(), network.params
    state = optimizer.state(params)
    checked = hasattr(loss, "__self__")                                          # loss.evaluate trusts its arguments
    known = [params.theta, params.grad, params.state, params.step, state.control, *vars(state).values(), *ws.arrays()]
    recorder = Recorder(backend, library, size_of_team(library.num_threads()), known, [x, y, lr, sample_weight], checked)
    params = _twin(params, backend=recorder)
    ws = _twin(ws, owner=params)
    try:
        step(_twin(network, backend=recorder, params=params), loss, optimizer, x, y, ws, sample_weight, lr)
    finally:
        args[5].forget()
    return recorder


def _twin(thing: Any, **changes: Any) -> Any:
    twin = object.__new__(type(thing))
    twin.__dict__.update(thing.__dict__, **changes)
    return twin
