"""The exceptions of this package. Each one also derives from a built-in exception."""

__all__ = [
    "BackendMismatchError", "BackendUnavailableError", "CheckpointCorruptError", "CheckpointError",
    "ConfigurationError", "DataError", "DeviceOutOfMemoryError", "DivergedError", "DivergedRanksError",
    "FfnnGpuError", "IncompatibleCheckpointError", "ShapeError", "WorkspaceError",
]  # fmt: skip


class FfnnGpuError(Exception):
    """Base of every exception of this package."""


class ShapeError(FfnnGpuError, ValueError):
    """An array has a wrong shape for the network, workspace or loss; the message has both shapes."""


class DataError(FfnnGpuError, ValueError):
    """Data is not usable: not finite, not labels, malformed file; the message names the element or line."""


class ConfigurationError(FfnnGpuError, ValueError):
    """A setting is unknown or outside its range; the message lists the accepted values."""


class BackendUnavailableError(FfnnGpuError, RuntimeError):
    """The requested device is not usable; the message has the failing stage, the cause and a hint."""


class BackendMismatchError(FfnnGpuError, TypeError):
    """An array is on another device than the network that reads it."""


class DeviceOutOfMemoryError(FfnnGpuError, MemoryError):
    """The device is out of memory; the message has needed, free and total bytes and a remedy."""


class WorkspaceError(FfnnGpuError, RuntimeError):
    """A workspace is not usable here: made for inference or another network, or without a forward pass."""


class DivergedError(FfnnGpuError, ArithmeticError):
    """The loss or the parameters are no longer finite; the message names the step."""


class CheckpointError(FfnnGpuError, ValueError):
    """A checkpoint cannot be read or written."""


class CheckpointCorruptError(CheckpointError):
    """A checkpoint is damaged: its bytes are not those that were written."""


class IncompatibleCheckpointError(CheckpointError):
    """A checkpoint belongs to another network or format version; the message names the first difference."""


class DivergedRanksError(FfnnGpuError, RuntimeError):
    """The ranks do not run the same training; the message names what differs and on which ranks."""
