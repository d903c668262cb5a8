"""A command line whose errors are one sentence and an exit code, said once however many ranks have them."""

import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

import click

from ffnn_gpu.distributed import Communicator, Single, communicator_for, faults
from ffnn_gpu.errors import (
    BackendUnavailableError,
    CheckpointError,
    ConfigurationError,
    DataError,
    FfnnGpuError,
    ShapeError,
)

log = logging.getLogger("ffnn_gpu")
INTERRUPTED = 130
EXIT_CODES: tuple[tuple[type[BaseException], int], ...] = (          # the first that fits
    (ConfigurationError, 2), (BackendUnavailableError, 4), (MemoryError, 5),
    (DataError, 3), (ShapeError, 3), (CheckpointError, 3), (FileNotFoundError, 3),
)  # fmt: skip
RANKS_KEY = "ffnn_gpu.ranks"  # where a command's context keeps its communicator
SINGLE_PROCESS_COMMANDS = ("evaluate", "predict")  # commands that every process runs for itself
# Seconds that a rank with an error waits to hear whether all have it: they read data, not all of them as fast. The others
# must not have given up waiting for it by then.
GRACE, PART_OF_LIMIT = 10.0, 0.5


class CommandGroup(click.Group):
    """A group whose errors are one sentence and an exit code."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.ClickException as error:  # in what stands before a command
            print_error_line(f"error: {error.format_message()}")
            code = error.exit_code
        except click.Abort:
            code = INTERRUPTED
        sys.exit(code)

    def invoke(self, ctx: click.Context) -> int:
        try:
            code = super().invoke(ctx) or 0
            sys.stdout.flush()
            ctx.meta.get(RANKS_KEY, Single()).close()
        except BrokenPipeError:  # the reader has seen enough, as `| head` does
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        except (click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            return report_error(error, _ranks_that_fail(ctx))
        return code


def ranks_of(device: str) -> Communicator:
    """The communicator of the command under way, for the device of its settings."""
    ranks = click.get_current_context().meta[RANKS_KEY] = communicator_for(device)
    return ranks


def _ranks_that_fail(ctx: click.Context) -> Communicator:
    """The command's communicator; where it failed before it had one, one that may say who has the same error."""
    if RANKS_KEY in ctx.meta:
        return ctx.meta[RANKS_KEY]
    if ctx.invoked_subcommand in SINGLE_PROCESS_COMMANDS:
        return Single()
    try:
        return communicator_for("numpy")
    except FfnnGpuError:  # which may be the error itself
        return Single()


def report_error(error: Exception, ranks: Any) -> int:
    """The exit code of an error. Said by the first of the ranks that have it; one that not all have ends them all."""
    log.info("ended by an error", exc_info=error)
    grace = 0.0
    if ranks.size > 1:
        grace = min(GRACE, PART_OF_LIMIT * faults.limit_of_environment())
        alike = faults.ranks_with_same_error(ranks, error, grace)
    if ranks.size == 1 or alike[0] == ranks.rank:
        if os.environ.get("FFNN_GPU_DEBUG") and not isinstance(error, click.ClickException):
            traceback.print_exception(error)
        print_error_line(f"error: {one_line(error)}")
    if ranks.size == 1 or ranks.gather_errors(0, grace) is not None:
        ranks.close()
    if isinstance(error, click.ClickException):
        return error.exit_code
    return next((code for kind, code in EXIT_CODES if isinstance(error, kind)), 1)


def print_error_line(line: str) -> None:
    """One line on standard error."""
    click.echo(line, err=True)


def announcer(ranks: Communicator, quiet: bool) -> Callable[[str], None]:
    """What takes a line for each thing decided: standard error, rank 0's unless quiet, and the rank's log file."""

    def announce(line: str) -> None:
        log.info("%s", line)
        if not quiet and ranks.rank == 0:
            print_error_line(line)

    return announce


def one_line(error: Exception) -> str:
    """What went wrong, on one line."""
    if isinstance(error, click.ClickException):
        return error.format_message()
    text = " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, (FfnnGpuError, MemoryError, OSError)):
        return text or type(error).__name__
    return f"{type(error).__name__}: {text} (not foreseen; FFNN_GPU_DEBUG=1 shows where)"
