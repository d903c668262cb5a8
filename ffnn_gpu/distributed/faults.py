"""What becomes of all ranks when one of them fails.

A rank that waits for another must not wait for ever, because the other may hang; and a rank that raises must take the others
along, because they wait for it. So every call is begun without blocking and asked for its end under a time limit, and an
exception that nobody caught ends all ranks. A rank that is killed needs nothing here: mpiexec and srun end the others.

Why polling and not a blocking call: MPI has no time limits, and a blocking call keeps a core busy, which another rank may
need where there are more ranks than cores.
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
from typing import Any

from ffnn_gpu.errors import ConfigurationError

log = logging.getLogger("ffnn_gpu")
LIMIT, USUAL = "FFNN_GPU_PARALLEL_LIMIT", 20.0  # seconds
GRACE = 2.0  # seconds that a rank which raised waits to hear whether all did
EAGER, NAP, STOOD_STILL = (
    2000,
    5e-5,
    1.0,
)  # polls before the first nap; seconds of a nap; a longer one was no nap
STARTED = 19  # of the numbers behind the name in /proc/PID/stat: proc(5), field 22


class Patience:
    """How long this rank waits for the others in a call:

        seconds + what this rank took itself from the end of its last call, at first from the start of its process

    Ranks do the same between two calls, so one that was slow itself lets the others be slow.

    Args:
        seconds: None for what FFNN_GPU_PARALLEL_LIMIT says, else 20.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = limit_of_environment() if seconds is None else seconds
        if not 0 < self.seconds < float("inf"):
            raise ConfigurationError(
                f"the limit of ranks must be a positive number of seconds, not {seconds!r}"
            )
        self._since = time.monotonic() - _age()

    def limit(self) -> float:
        """Of the call that begins now."""
        return self.seconds + time.monotonic() - self._since

    def met(self) -> None:
        """A call has ended, as it should."""
        self._since = time.monotonic()


def limit_of_environment() -> float:
    """Seconds, FFNN_GPU_PARALLEL_LIMIT's if it says any. Raises ConfigurationError for what is not a positive number."""
    text = os.environ.get(LIMIT, "").strip()
    try:
        seconds = float(text) if text else USUAL
    except ValueError:
        seconds = float("nan")
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(f"{LIMIT} must be a positive number of seconds, not {text!r}")
    return seconds


def _age() -> float:
    """Seconds since this process began; where no /proc tells, those for which it has computed."""
    try:
        after_name = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        return time.clock_gettime(time.CLOCK_BOOTTIME) - int(after_name[STARTED]) / os.sysconf("SC_CLK_TCK")
    except (OSError, AttributeError, IndexError, ValueError):
        return time.process_time()


def completes(done: Callable[[], Any], limit: float) -> bool:
    """Whether done() became true within `limit` seconds. Time in which this process itself stood still does not count."""
    begun = latest = time.monotonic()
    polls = 0
    while not done():
        polls += 1
        if polls < EAGER:
            _yield()
            latest = time.monotonic()
            continue
        time.sleep(NAP)
        now = time.monotonic()
        if now - latest > STOOD_STILL:
            begun += now - latest
        if now - begun > limit:
            return bool(done())
        latest = now
    return True


@contextmanager
def ends_within(limit: float) -> Iterator[None]:
    """End this process, with its traceback, if what is done here takes longer, as starting MPI does without the other ranks.

    Why faulthandler, which says nothing but where: its clock is a thread of C, and MPI holds the interpreter as it starts.
    """
    if sys.__stderr__ is None:
        yield
        return
    faulthandler.dump_traceback_later(limit, exit=True, file=sys.__stderr__)
    try:
        yield
    finally:
        faulthandler.cancel_dump_traceback_later()


def _yield() -> None:
    if hasattr(os, "sched_yield"):
        os.sched_yield()
    else:
        time.sleep(0)


def say(line: str) -> None:
    """One line on standard error, at once: what comes next may end the process. In one write: other ranks may speak too."""
    log.info("%s", line)
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


def end_all(communicator: Any, error: BaseException) -> None:
    """End every rank because this one raised.

    Where every rank raises, as all do for a wrong argument, each different error is printed by the first rank that has it,
    and this returns, so that each process ends by itself. Otherwise this rank prints its traceback and aborts all.
    """
    alike = raised_alike(communicator, error, GRACE)
    if alike[:1] == [communicator.rank]:
        say(f"{_traceback(error)}\nraised by {ranks_in_words(alike)} of {communicator.size}")
    # Why: `python -m mpi4py` ends all ranks with the first that ends, which must not be before it is said.
    if alike:
        communicator.raised(0, GRACE)


def raised_alike(communicator: Any, error: BaseException, grace: float) -> list[int]:
    """The ranks that raised this error, where every rank raises one within `grace` seconds; the first of them should say it.

    Otherwise ends every rank: prints this one's traceback and aborts.
    """
    everyone = communicator.raised(zlib.crc32(f"{type(error).__name__}: {error}".encode()), grace)
    if everyone is None:
        say(
            f"{_traceback(error)}\nrank {communicator.rank} of {communicator.size} raised this; every rank ends"
        )
        communicator.abort(1)
        return []
    return [rank for rank, error_there in enumerate(everyone) if error_there == everyone[communicator.rank]]


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error)).rstrip()


def watch(communicator: Any) -> None:
    """From now on an exception that nobody catches ends every rank."""
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        try:
            end_all(communicator, error)
        except Exception:  # whatever it is, the traceback has to come out, and the others have to end
            previous(kind, error, trace)
            communicator.abort(1)

    sys.excepthook = hook


def ranks_in_words(ranks: list[int]) -> str:
    """rank 3; ranks 0, 2 and 5"""
    if len(ranks) == 1:
        return f"rank {ranks[0]}"
    return f"ranks {', '.join(map(str, ranks[:-1]))} and {ranks[-1]}"
