"""End all ranks when one of them fails.

- A rank waits for another only for a limited time, because the other may hang. Each call is started without
  blocking and polled for its end under a time limit.
- A rank that raises ends the others, because they wait for it. An uncaught exception ends all ranks.
- A rank that is killed needs nothing here: mpiexec and srun end the others.

Why polling and not a blocking call: MPI has no time limits. A blocking call also keeps a core busy, which
another rank may need if there are more ranks than cores.
"""

import faulthandler
import logging
import os
import sys
import time
import traceback
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from ffnn_gpu.distributed.communicator import Communicator
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.standard_error import write_line

log = logging.getLogger("ffnn_gpu")
LIMIT, DEFAULT_LIMIT = "FFNN_GPU_PARALLEL_LIMIT", 20.0  # environment variable; seconds
GRACE = 2.0  # seconds that a rank with an error waits to find out whether all ranks have one
POLLS_WITHOUT_NAP, NAP = 2000, 5e-5  # polls; seconds
SUSPENDED = 1.0  # seconds; if a nap lasts longer, this process was suspended
yield_core = getattr(os, "sched_yield", lambda: time.sleep(0))  # Windows has no sched_yield
START_TIME = 19  # index among the fields after the name in /proc/PID/stat: field 22 in proc(5)


class CallLimit:
    """The time limit of this rank's calls:

        seconds + time this rank spent since the end of its last call, at first since the start of its process

    All ranks do the same work between two calls, so a rank that was slow itself waits longer for the others.

    Args:
        seconds: None for FFNN_GPU_PARALLEL_LIMIT, or 20 if that is not set.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = limit_of_environment() if seconds is None else seconds
        if not 0 < self.seconds < float("inf"):
            raise ConfigurationError(f"limit must be a positive number of seconds, not {seconds!r}")
        self._since = time.monotonic() - _process_age()

    def now(self) -> float:
        """Return the limit of a call that begins now, in seconds."""
        return self.seconds + time.monotonic() - self._since

    def call_ended(self) -> None:
        """Record that a call ended successfully."""
        self._since = time.monotonic()


def limit_of_environment() -> float:
    """Return FFNN_GPU_PARALLEL_LIMIT in seconds, or 20. Raises ConfigurationError unless it is positive."""
    text = os.environ.get(LIMIT, "").strip()
    try:
        seconds = float(text) if text else DEFAULT_LIMIT
    except ValueError:
        seconds = float("nan")
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(f"{LIMIT} must be a positive number of seconds, not {text!r}")
    return seconds


def _process_age() -> float:
    """Return the seconds since this process started; without /proc, the CPU time it has used."""
    try:
        after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        started = int(after_name[START_TIME]) / os.sysconf("SC_CLK_TCK")
        return time.clock_gettime(time.CLOCK_BOOTTIME) - started
    except (OSError, AttributeError, IndexError, ValueError):
        return time.process_time()


def completes(done: Callable[[], object], limit: float) -> bool:
    """Return whether done() becomes true within `limit` seconds, not counting time while suspended."""
    begun = latest = time.monotonic()
    polls = 0
    while not done():
        polls += 1
        if polls < POLLS_WITHOUT_NAP:
            yield_core()
            latest = time.monotonic()
            continue
        time.sleep(NAP)
        now = time.monotonic()
        if now - latest > SUSPENDED:
            begun += now - latest
        if now - begun > limit:
            return bool(done())
        latest = now
    return True


@contextmanager
def ends_within(limit: float) -> Iterator[None]:
    """End this process with a traceback if the block takes more than `limit` seconds.

    Starting MPI, for example, waits for the other ranks without a time limit.

    Why faulthandler, which prints the traceback only: its timer is a C thread, and MPI holds the interpreter
    lock while it starts.
    """
    if sys.__stderr__ is None:
        yield
        return
    faulthandler.dump_traceback_later(limit, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def print_line(line: str) -> None:
    """Log one line, and print it at once, because the process may end next.

    It is written in one call, because other ranks may print at the same time.
    """
    log.info("%s", line)
    write_line(line)


def end_all(communicator: Communicator, error: BaseException) -> None:
    """End every rank because this rank raised.

    If every rank raises, as for a wrong argument, each different error is printed by the first rank that has
    it. This function then returns, and each process ends by itself. Otherwise this rank prints its traceback
    and aborts all ranks.
    """
    alike = ranks_with_same_error(communicator, error, GRACE)
    if alike[:1] == [communicator.rank]:
        print_line(f"{_traceback(error)}\nraised by {ranks_in_words(alike)} of {communicator.size}")
    # Why: `python -m mpi4py` ends all ranks as soon as one ends, so the error must be printed before.
    if alike:
        communicator.gather_errors(0, GRACE)


def ranks_with_same_error(communicator: Communicator, error: BaseException, grace: float) -> list[int]:
    """Return the ranks that raised this error, if every rank raises one within `grace` seconds.

    Otherwise print this rank's traceback and abort every rank. The first of the returned ranks should print
    the error.
    """
    checksum = zlib.crc32(f"{type(error).__name__}: {error}".encode())
    everyone = communicator.gather_errors(checksum, grace)
    if everyone is None:
        rank, size = communicator.rank, communicator.size
        print_line(f"{_traceback(error)}\nrank {rank} of {size} raised this; every rank ends")
        communicator.abort(1)
        return []
    return [rank for rank, error_there in enumerate(everyone) if error_there == everyone[communicator.rank]]


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()


def end_all_ranks_on_uncaught(communicator: Communicator) -> None:
    """Install an exception hook: from now on an uncaught exception in this process ends every rank."""
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        try:
            end_all(communicator, error)
        except Exception:  # the traceback must be printed and the other ranks must end in any case
            previous(kind, error, trace)
            communicator.abort(1)

    sys.excepthook = hook


def ranks_in_words(ranks: list[int]) -> str:
    """Return, for example, "rank 3" or "ranks 0, 2 and 5"."""
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    return f"ranks {', '.join(map(str, ranks[:-1]))} and {ranks[-1]}"
