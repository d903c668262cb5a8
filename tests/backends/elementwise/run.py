"""Run a compiled loop in this thread."""

from ffnn_gpu.backends.cpu.recording.immediate import Immediate


def run(code, rows, columns, **operands):
    """Run a loop over a matrix and return its sum. Raises NotRecordedError for arrays that it cannot read."""
    operations = Immediate(None)
    operations._use(code.dtype)
    operations._apply(code, rows, columns, operations.losses, **operands)
    return float(operations.losses.sum())


def run_rule(name, update, settings):
    """Update θ and its moments by the compiled rule of this name."""
    getattr(Immediate(None), name)(update, *settings)
