"""Run the commands of gpu_check.py, each in its own process. Standard library only.

Why a process: a fault in a driver ends the process it happens in, and the report must survive that.
"""

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 15  # seconds from the interrupt to the kill, in which pytest writes its report


class NoGpuError(Exception):
    """No GPU can be tested; the message gives the reason."""


class StepError(Exception):
    """A step failed; the message gives the reason, and `found` holds the results up to then."""

    def __init__(self, why, **found):
        super().__init__(why)
        self.found = found


class FinalError(StepError):
    """A step failed, and no later step can pass."""


@dataclass
class Ended:
    """The end of a command; `code` is None if it was stopped because no time was left."""

    code: int | None
    seconds: float
    text: str

    @property
    def fault(self):
        """The reason of a failure as a sentence; None if the command succeeded."""
        if self.code is None:
            return f"stopped after {self.seconds:.0f} s"
        lines = self.text.strip().splitlines() or ["it printed nothing"]
        return f"exit code {self.code}: {lines[-1].strip(' =')}" if self.code else None


@dataclass
class Check:
    """The settings that all steps share.

    Attributes:
        out: the folder of the report.
        scratch: a folder that is deleted at the end.
        deadline: the end of the check, on the clock of time.monotonic().
        wheels, mnist: the folders of --wheels and --mnist.
        networks: titles of benchmarks to run, as benchmark.py reads them; None for all.
    """

    out: Path
    scratch: Path
    deadline: float = float("inf")
    wheels: Path | None = None
    mnist: Path | None = None
    networks: str | None = None

    log = property(lambda self: self.out / "gpu_check.log")
    site = property(lambda self: self.scratch / "site")  # the folder in which wheels are installed

    def environment(self):
        """Return the user's environment without settings that would change what is tested.

        Why every case: commits run a selection of the cases of kernels, and nobody runs the rest on a GPU.
        """
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FFNN_GPU_", "CUPY_TF32"))
        }
        path = os.pathsep.join(filter(None, [str(ROOT), str(self.site), kept.get("PYTHONPATH")]))
        kept |= {"PYTHONPATH": path, "FFNN_GPU_REQUIRE_GPU": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        kept["EVERY_CASE"] = "1"
        return kept | self._toolkit(kept.get("LD_LIBRARY_PATH"))

    def _toolkit(self, before):
        """Return the variables that lead to libraries and headers of NVIDIA's wheels.

        CuPy and nvmath search PYTHONPATH for neither.
        """
        libraries, found = [str(folder) for folder in sorted(self.site.glob("nvidia/*/lib"))], {}
        if libraries:
            found["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [*libraries, before]))
        for file in self.site.glob("nvidia/*/include/cuda_runtime.h"):
            found["CUDA_PATH"] = found["CUDA_HOME"] = str(file.parents[1])  # CuPy warns if the two differ
        return found

    def run(self, *command, most=float("inf")):
        """Run `command` in the repository for at most `most` seconds and append its output to gpu_check.log.

        Raises:
            StepError: no time is left, or the command cannot be started.
        """
        command, began = [str(word) for word in command], time.monotonic()
        seconds = min(most, self.deadline - began)
        if seconds <= 0:
            raise StepError("no time was left")
        with self.log.open("a+b") as log:
            log.write(f"\n$ {' '.join(command)}\n".encode())
            log.flush()
            begin = log.tell()
            code = _wait(command, min(seconds, 1e6), self.environment(), log)
            log.seek(begin)
            return Ended(code, time.monotonic() - began, log.read().decode("utf-8", "replace"))


def _wait(command, seconds, environment, log):
    """Return the exit code, or None if the time was up. No process of `command` runs on afterwards."""
    try:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            preexec_fn=_accept_interrupts if os.name == "posix" else None,
        )
    except OSError as error:
        raise StepError(f"{command[0]} cannot be started: {error}") from None
    try:
        return child.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGINT)
        with suppress(subprocess.TimeoutExpired):
            child.wait(PATIENCE)
        return None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)  # the processes it started too
        child.wait()


def _accept_interrupts():
    """End on SIGINT. A shell starts background commands with SIGINT ignored, and a child inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
