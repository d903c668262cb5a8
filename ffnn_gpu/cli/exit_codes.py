"""Turn exceptions into one-line messages and exit codes, printed once across all ranks."""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import NoReturn, cast

import click

from ffnn_gpu.cli import standard_streams
from ffnn_gpu.cli.ending import Signals
from ffnn_gpu.distributed import Communicator, Single, communicator_for, faults
from ffnn_gpu.errors import (
    BackendUnavailableError,
    CheckpointError,
    ConfigurationError,
    DataError,
    FfnnGpuError,
    ShapeError,
)
from ffnn_gpu.standard_error import write_line

Announce = Callable[[str], None]  # receives one line for each decision of a command

log = logging.getLogger("ffnn_gpu")
INTERRUPTED = 130
OFF = ("", "0", "false", "no", "off")  # values of FFNN_GPU_DEBUG
EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (          # the first type that matches is used
    (ConfigurationError, 2), (BackendUnavailableError, 4), (MemoryError, 5),
    (DataError, 3), (ShapeError, 3), (CheckpointError, 3), (FileNotFoundError, 3),
)  # fmt: skip
RANKS_KEY = "ffnn_gpu.ranks"  # in ctx.meta: the communicator of the running command
SINGLE_PROCESS_COMMANDS = ("evaluate", "predict", "export", "report", "compare")
# A rank with an error waits GRACE seconds to learn whether every rank has the same one: ranks do not read
# data equally fast. It waits at most SHARE_OF_LIMIT of the time limit, while the others still wait for it.
GRACE, SHARE_OF_LIMIT = 10.0, 0.5


class CommandGroup(click.Group):
    """A click group that reports every error as one line and an exit code."""

    def main(self, *args: object, **kwargs: object) -> NoReturn:
        """Run the command line and exit."""
        standard_streams.prepare()
        try:
            with Signals():
                code = super().main(*args, **{**kwargs, "standalone_mode": False})  # type: ignore[call-overload]
        except click.ClickException as error:  # wrong words before the name of a command
            print_error_line(f"error: {error.format_message()}")
            code = error.exit_code
        except click.Abort:
            code = INTERRUPTED
        sys.exit(standard_streams.finish(code))

    def invoke(self, ctx: click.Context) -> int:
        """Run one command; return its exit code."""
        try:
            code = super().invoke(ctx) or 0
            ctx.meta.get(RANKS_KEY, Single()).close()
        except (click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            return report_error(error, _ranks_of_failed_command(ctx))
        return code


def ranks_of(device: str) -> Communicator:
    """Return the communicator for this device, and register it for the running command."""
    ranks = click.get_current_context().meta[RANKS_KEY] = communicator_for(device)
    return ranks


def _ranks_of_failed_command(ctx: click.Context) -> Communicator:
    """Return the command's communicator, or a new one if the command failed before it had one."""
    if RANKS_KEY in ctx.meta:
        return cast(Communicator, ctx.meta[RANKS_KEY])
    if ctx.invoked_subcommand in SINGLE_PROCESS_COMMANDS:
        return Single()
    try:
        return communicator_for("numpy")
    except FfnnGpuError:  # perhaps the very error to report
        return Single()


def report_error(error: Exception, ranks: Communicator) -> int:
    """Print the error on one rank and return its exit code.

    If every rank has an error, each different one is printed by the first rank that has it. Otherwise this
    rank prints its traceback and ends all ranks.
    """
    log.info("ended by an error", exc_info=error)
    grace = min(GRACE, SHARE_OF_LIMIT * faults.limit_of_environment()) if ranks.size > 1 else 0.0
    if faults.ranks_with_same_error(ranks, error, grace)[0] == ranks.rank:
        if _shows_tracebacks() and not isinstance(error, click.ClickException):
            print_error_line("".join(traceback.format_exception(error)).rstrip())
        print_error_line(f"error: {one_line(error)}")
    if ranks.gather_errors(0, grace) is not None:
        ranks.close()
    if isinstance(error, click.ClickException):
        return error.exit_code
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)


def _shows_tracebacks() -> bool:
    return os.environ.get("FFNN_GPU_DEBUG", "").strip().lower() not in OFF


def print_error_line(line: str) -> None:
    """Print one line to standard error, if there is one."""
    write_line(line)


def print_result(text: str) -> None:
    """Print the result of a command to standard output, if there is one."""
    if sys.stdout is not None:
        with standard_streams.standard_output() as file:
            print(text, file=file)


def announcer(ranks: Communicator, quiet: bool) -> Announce:
    """Return a function that logs a line, and prints it to standard error on rank 0 unless quiet."""

    def announce(line: str) -> None:
        log.info("%s", line)
        if not quiet and ranks.rank == 0:
            print_error_line(line)

    return announce


def one_line(error: Exception) -> str:
    """Return the message of an error, on one line."""
    if isinstance(error, click.ClickException):
        return error.format_message()
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, (FfnnGpuError, MemoryError, OSError)):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text} (internal error; set FFNN_GPU_DEBUG=1 for a traceback)"
