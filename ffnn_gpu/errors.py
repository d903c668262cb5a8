"""The exceptions, one line each. Every one also is the built-in exception a caller would expect to catch."""

__all__ = [
    "BackendMismatchError", "BackendUnavailableError", "CheckpointCorruptError", "CheckpointError",
    "ConfigurationError", "DataError", "DeviceOutOfMemoryError", "DivergedError", "DivergedRanksError",
    "FfnnGpuError", "IncompatibleCheckpointError", "ShapeError", "WorkspaceError",
]  # fmt: skip


class FfnnGpuError(Exception):
    """Base of every exception of this package."""


class ShapeError(FfnnGpuError, ValueError):
    """An array has another shape than the network, the workspace or the loss reads; both numbers are in the message."""


class DataError(FfnnGpuError, ValueError):
    """Data cannot be used: not finite, not labels, malformed file; says which element or line."""


class ConfigurationError(FfnnGpuError, ValueError):
    """A setting is unknown or outside its range; says which values are accepted."""


class BackendUnavailableError(FfnnGpuError, RuntimeError):
    """The device that was asked for cannot be used; names the failing stage, the original error and a hint."""


class BackendMismatchError(FfnnGpuError, TypeError):
    """An array lives on another device than the network that should read it."""


class DeviceOutOfMemoryError(FfnnGpuError, MemoryError):
    """The device has no room; says needed, free and total bytes and what to change."""


class WorkspaceError(FfnnGpuError, RuntimeError):
    """A workspace cannot do what was asked: made for inference, for another network, or holding no forward pass."""


class DivergedError(FfnnGpuError, ArithmeticError):
    """The loss or the parameters stopped being finite; says at which step."""


class CheckpointError(FfnnGpuError, ValueError):
    """A checkpoint cannot be read or written."""


class CheckpointCorruptError(CheckpointError):
    """The files of a checkpoint are damaged: they are not the bytes that were written."""


class IncompatibleCheckpointError(CheckpointError):
    """A whole checkpoint belongs to another network or format version; names the first difference."""


class DivergedRanksError(FfnnGpuError, RuntimeError):
    """Ranks that train one network together are not in the same training; names what differs and on which ranks."""
