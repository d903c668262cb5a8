"""Training steps and predictions on a CPU, recorded once per kind of call, then replayed as commands.

Every step is recorded, in every type that the processor can convert. What is no command is Python code that
the replay calls (see called_back.py). As on a GPU, an overflow becomes ∞ without a warning.

Targets and weights that the caller has not checked are checked and converted by the loss in each call, before
the first command: an error changes nothing. The commands read the converted arrays. The commands themselves
check class indices, before anything that lasts is written.
"""

import copy
import operator
import weakref
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.arrays.precision import is_floating
from ffnn_gpu.backends.cpu.loops import amx_tiles
from ffnn_gpu.backends.cpu.recording.arguments import NotRecordedError, address
from ffnn_gpu.backends.cpu.recording.called_back import (
    CalledBackLayer,
    CalledBackLoss,
    CalledBackOptimizer,
    has_own_step,
    is_own,
)
from ffnn_gpu.backends.cpu.recording.command_table import CommandTable
from ffnn_gpu.backends.cpu.recording.losses import INDICES
from ffnn_gpu.backends.cpu.recording.members import PackRecorder
from ffnn_gpu.backends.cpu.recording.recorder import Recorder
from ffnn_gpu.backends.cpu.recording.threads import threads
from ffnn_gpu.backends.elementwise.lanes import REGISTER, STORED
from ffnn_gpu.backends.reference.members import stacked
from ffnn_gpu.errors import WorkspaceError

MOST_RECORDINGS = 8  # per workspace: one for each combination of loss, optimizer and kinds of arrays
LAYOUT = 0x101  # flags of a NumPy array: C-contiguous, and aligned
RECORDED = ("float32", "float64", *STORED)
Code: TypeAlias = Callable[..., Any]
# The arguments of train_step: network, loss, optimizer, x, y, ws, weight, lr, checked
Call: TypeAlias = tuple[Any, ...]


class RecordedStep:
    """One kind of call on one workspace: its table of commands, or the reason why it has none.

    Attributes:
        table: None if the step runs unrecorded, for the `reason`.
        output: of a recorded prediction.
        classes: whether unchecked y holds class indices, which the commands check and read unconverted.
    """

    def __init__(self, backend: Any, code: Code, call: Call) -> None:
        network, loss, optimizer, x, y, ws, weight, lr, self.checked_before = call
        self.code, self.params, self.loss = code, network.params, loss
        self.kinds = _kind(x), _kind(y), _kind(weight), _kind(lr)
        self.optimizer: Callable[[], Any] = (lambda: None) if optimizer is None else weakref.ref(optimizer)
        self.seed, self.vectors = ws.stream.seed, tuple[Any, ...]()
        self.table: CommandTable | None = None
        self.output: Any = None
        self.classes, self.reason = False, _obstacle(call)
        if self.reason:
            return
        targets, weight = self.checked(backend, call)
        self.classes = is_own(loss) and _holds_classes(call, targets)
        checked = self.checked_before or targets is not None
        call = network, loss, optimizer, x, y if self.classes else targets, ws, weight, lr, checked
        if optimizer is not None and has_own_step(optimizer):
            state = optimizer.state(network.params)
            self.vectors = state.control, *vars(state).values()
        try:
            recorder, self.output = _record(backend, code, call, self.vectors)
            self.table = CommandTable(recorder)
        except NotRecordedError as why:
            self.reason = str(why)

    def fits(self, code: Code, call: Call) -> bool:
        """Return whether a call with these arguments computes what was recorded."""
        _, loss, optimizer, x, y, ws, weight, lr, checked = call
        if optimizer is not self.optimizer() or code is not self.code or checked is not self.checked_before:
            return False
        if loss is not self.loss and not _same(loss, self.loss):
            return False
        if (_kind(x), _kind(y), _kind(weight), _kind(lr)) != self.kinds or ws.stream.seed != self.seed:
            return False
        if not self.vectors:
            return True
        state = self.params.optimizer_states.get(optimizer)
        if state is None or state.control is not self.vectors[0]:
            return False
        return all(map(operator.is_, vars(state).values(), self.vectors[1:]))

    def checked(self, backend: Any, call: Call) -> tuple[Any, Any]:
        """Return targets and weights as the loss reads them. Raises ShapeError or DataError like the loss."""
        _, loss, _, _, y, ws, weight, _, checked = call
        if checked or loss is None or y is None or self.classes:
            return y, weight
        checked_arguments: tuple[Any, Any] = loss.checked_arguments(backend, ws.dz, y, ws.dz, weight)
        return checked_arguments


def recorded() -> str:
    """Return a sentence for people about this machine.

    Raises ConfigurationError for an invalid FFNN_GPU_THREADS.
    """
    return f"training steps and predictions, on {threads()} threads"


def products() -> str:
    """Return a sentence for people about this processor."""
    registers = f"in registers of {8 * REGISTER} bits"
    return f"in AMX tiles, small ones {registers}" if amx_tiles.available() else registers


def threads_of(backend: Any) -> int:
    """Return the number of threads of a CompiledBackend. Raises ConfigurationError as `threads` does."""
    return threads() if backend.threads is None else int(backend.threads)


def run_step(backend: Any, code: Code, *call: Any) -> Any:
    """Return code(*call), the loss before the update, by replaying its recording if possible."""
    arrays = _with_rows(backend, _with_arrays(backend, call))
    network, _, _, x, _, ws, _, lr, _ = arrays
    recording = _recording(backend, code, arrays)
    table = recording.table
    if table is not None:
        if x is not None:
            ws.begin_forward(network.params, x.shape[-2])
        try:
            y, weight = recording.checked(backend, arrays)
            table.begin_at(ws.stream.row)
            value = table.run(x, y, weight, lr)
        finally:
            if x is not None:
                ws.forget_pass()
        if value is not None:
            return (network.dtype.type if network.members is None else table.vector)(value)
    return code(*call)  # raises if y is wrong


def run_forward(backend: Any, code: Code, network: Any, x: Array, ws: Any) -> Any:
    """Return the output for x in an inference workspace, like `code`."""
    if _needs_conversion(network, x):
        x = backend.asarray(x, network.compute_dtype)
    kind = _kind(x)
    for recording in ws.recordings:
        if recording.code is code and recording.kinds[0] == kind:  # the code has no other argument
            break
    else:
        recording = _recording(backend, code, (network, None, None, x, None, ws, None, None, False))
    table = recording.table
    if table is None:
        return code(network, x, ws)
    ws.begin_forward(network.params, x.shape[-2])
    try:
        done = table.run(x) if len(table.calls) == 1 else _with_calls(table, x, ws)
    finally:
        ws.forget_pass()
    return code(network, x, ws) if done is None else recording.output


@np.errstate(over="ignore", invalid="ignore")
def _with_calls(table: CommandTable, x: Array, ws: Any) -> float | None:
    """Return table.run(x), which calls a user's layers."""
    try:
        return table.run(x)
    finally:
        ws.forget()  # a user's layer may have stored x


def _recording(backend: Any, code: Code, call: Call) -> RecordedStep:
    """Return the recording of such a call, made now if it is the first."""
    recordings: list[RecordedStep] = call[5].recordings  # of the workspace
    for recording in recordings:
        if recording.fits(code, call):
            return recording
    if len(recordings) == MOST_RECORDINGS:
        del recordings[0]
    recordings.append(RecordedStep(backend, code, call))
    return recordings[-1]


def _with_arrays(backend: Any, call: Call) -> Call:
    """Return the call with arrays in place of lists and the like, which its loss would convert as well."""
    _, loss, _, _, y, _, weight, _, checked = call
    arrays = (y is None or type(y) is np.ndarray) and (weight is None or type(weight) is np.ndarray)
    if arrays or checked or loss is None or not is_own(loss):
        return call
    y = None if y is None else np.asarray(y)
    weight = None if weight is None else backend.admit(weight)
    return *call[:4], y, call[5], weight, *call[7:]


def _holds_classes(call: Call, targets: Any) -> bool:
    """Return whether `targets`, made from y, are class indices, and commands can read y as it is."""
    _, _, _, _, y, _, weight, _, checked = call
    if checked or y is None or weight is not None or y.dtype not in INDICES:
        return False
    whole = y.flags.num & LAYOUT == LAYOUT
    return bool(whole and targets.ndim == 1 and targets.dtype in INDICES)


def _with_rows(backend: Any, call: Call) -> Call:
    """Return the call with x in the network's type and in memory order."""
    network, _, _, x, *_ = call
    if x is None or not _needs_conversion(network, x):
        return call
    return *call[:3], backend.asarray(x, network.compute_dtype), *call[4:]


def _needs_conversion(network: Any, x: Any) -> bool:
    """Return whether x is a matrix of real numbers with the right width, but of another type or layout."""
    if type(x) is not np.ndarray or (x.dtype == network.compute_dtype and x.flags.c_contiguous):
        return False
    real = x.dtype.kind in "iub" or is_floating(x.dtype)
    fits = x.shape[-1:] == (network.n_in,) and x.ndim in (2, 2 + len(network.leading))
    return real and fits and network.compute_dtype.name in RECORDED


def _same(loss: Any, other: Any) -> bool:
    """Return whether two losses have equal settings and the same formulas, which `==` does not compare."""
    within = getattr(loss, "loss", None), getattr(other, "loss", None)  # MeanOverRows: of which it is a mean
    if hasattr(within[0], "checked_arguments") and not (within[0] is within[1] or _same(*within)):
        return False
    try:
        return bool(type(loss) is type(other) and loss == other and vars(loss) == vars(other))
    except ValueError:  # an array among the settings
        return False


def _kind(array: Any) -> Any:
    return (array.shape, array.dtype, array.flags.num & LAYOUT) if type(array) is np.ndarray else type(array)


def _obstacle(call: Call) -> str:
    """Return the reason why this call cannot be recorded; "" if none is known before recording it."""
    network, loss, _, x, y, ws, weight, lr, _ = call
    if not network.layers:
        return "there is no layer"
    if not type(network).__module__.startswith("ffnn_gpu."):
        return f"{type(network).__name__} is a subclass of Network"
    if loss is not None and not hasattr(loss, "checked_arguments"):
        return f"{type(loss).__name__} does not derive from Loss"
    if ws.owner is not network.params:
        return "the workspace is another network's"
    if network.compute_dtype.name not in RECORDED:
        return f"this processor has no instructions for {network.compute_dtype}"
    if x is not None and x.dtype != network.compute_dtype:
        return f"x is {x.dtype}"
    if any(array is not None and type(array) is not np.ndarray for array in (x, y, weight, lr)):
        return "an argument is no array"
    if x is not None and x.shape not in {(ws.B, network.n_in), (*network.leading, ws.B, network.n_in)}:
        return f"x has shape {x.shape}"
    if loss is not None and ws.dz is None:
        return "the workspace was made without training"
    return ""


def _record(backend: Any, code: Code, call: Call, vectors: tuple[Array, ...]) -> tuple[Recorder, Any]:
    """Return the commands that `code` records, and a prediction's output. Raises NotRecordedError."""
    network, loss, optimizer, x, y, ws, weight, lr, checked = call
    if x is not None and y is not None and address(x) == address(y):
        y = y.copy()  # a stand-in: each call sets the addresses of x and y anew
    call = network, loss, optimizer, x, y, ws, weight, lr, checked
    recorder = _recorder(backend, call, vectors)
    if loss is None or ws.buffers is (buffers := recorder.in_lanes(ws.buffers)):
        return recorder, _run(recorder, code, call, ws.buffers)
    output = _run(recorder, code, call, buffers)
    if recorder.passes > 1:
        recorder = _recorder(backend, call, vectors)
        output = _run(recorder, code, call, ws.buffers)
    return recorder, output


def _recorder(backend: Any, call: Call, vectors: tuple[Array, ...]) -> Recorder:
    """Return a recorder that knows the memory of a call."""
    network, _, _, x, y, ws, weight, lr, _ = call
    params = network.params
    known = [params.theta, params.grad, params.state, params.step, *map(stacked, vectors), *ws.arrays()]
    known += params.factors.values()
    known += [array for array in (params.shadow, params.loss_scale) if array is not None]
    settings = backend, params.compute_dtype, threads_of(backend), known, [x, y, weight, lr]
    R = len(network.members or ())
    if R < 2:
        return Recorder(*settings)
    recorder = PackRecorder(R, *settings)
    recorder.has_codes = bool(network.levels) and x is not None and x.ndim == 3
    return recorder


def _run(recorder: Recorder, code: Code, call: Call, buffers: list[Any]) -> Any:
    """Run the code with the recorder in place of the backend; return a prediction's output."""
    output = None
    network, loss, optimizer, x, y, ws, weight, lr, checked = call
    params, scratch = network.params.computed_by(recorder), copy.copy(ws)
    scratch.owner, scratch.buffers = params, buffers
    twin = network.computed_by(recorder, params)
    twin.layers = tuple(
        layer if is_own(layer) else CalledBackLayer(layer, recorder.backend, k == 0)
        for k, layer in enumerate(network.layers)
    )
    loss = loss if loss is None or is_own(loss) else CalledBackLoss(loss, recorder.backend)
    if optimizer is not None and not has_own_step(optimizer):
        optimizer = CalledBackOptimizer(optimizer, network.params)
    try:
        if loss is None and optimizer is None:
            output = recorder.require_kept(code(twin, x, scratch))
        else:
            code(twin, loss, optimizer, x, y, scratch, weight, lr, checked)
    except WorkspaceError:  # another thread's pass is under way
        raise
    except BaseException:
        ws.forget()
        raise
    ws.forget()
    recorder.gather()
    return output
