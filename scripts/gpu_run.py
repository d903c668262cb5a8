"""How a step of gpu_check.py runs a command: in a process of its own, in what is left of the time. Standard library only.

Why a process: a fault of a driver ends the process it happens in, and the report has to survive that.
"""

import os
import signal
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 15  # seconds from an interrupt to the kill: pytest writes its report in between


class NoGpuError(Exception):
    """The sentence that says why no GPU can be tested."""


class StepError(Exception):
    """The sentence that says why a step failed, with what it had found by then."""

    def __init__(self, why, **found):
        super().__init__(why)
        self.found = found


@dataclass
class Ended:
    """How a command ended. code: None if it was stopped for want of time."""

    code: int | None
    seconds: float
    text: str

    @property
    def fault(self):
        """None, or what went wrong, in a sentence."""
        if self.code is None:
            return f"stopped after {self.seconds:.0f} s"
        lines = self.text.strip().splitlines() or ["it printed nothing"]
        return f"exit code {self.code}: {lines[-1].strip(' =')}" if self.code else None


@dataclass
class Check:
    """What the steps share.

    out: where the report goes. scratch: a folder that is deleted at the end. deadline: on time.monotonic()'s clock.
    """

    out: Path
    scratch: Path
    deadline: float = float("inf")
    wheels: Path | None = None
    mnist: Path | None = None

    log = property(lambda self: self.out / "gpu_check.log")
    site = property(lambda self: self.scratch / "site")  # where wheels are installed

    def environment(self):
        """The user's, without settings of this package or of TF32 that would change what is tested."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("FFNN_GPU_", "CUPY_TF32"))
        }
        path = os.pathsep.join(filter(None, [str(ROOT), str(self.site), kept.get("PYTHONPATH")]))
        kept |= {"PYTHONPATH": path, "FFNN_GPU_REQUIRE_GPU": "1", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
        return kept | self._toolkit(kept.get("LD_LIBRARY_PATH"))

    def _toolkit(self, before):
        """Where NVIDIA's wheels have put libraries and headers: CuPy and nvmath look on PYTHONPATH for neither."""
        libraries, found = [str(folder) for folder in sorted(self.site.glob("nvidia/*/lib"))], {}
        if libraries:
            found["LD_LIBRARY_PATH"] = os.pathsep.join(filter(None, [*libraries, before]))
        for file in self.site.glob("nvidia/*/include/cuda_runtime.h"):
            found["CUDA_PATH"] = found["CUDA_HOME"] = str(
                file.parents[1]
            )  # the two must agree, else there is a warning
        return found

    def run(self, *command, most=float("inf")):
        """How `command` ended in the repository, with its output; gpu_check.log gets that too. Raises StepError."""
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
    """The exit code, or None if `command` had to be stopped; nothing of it runs on afterwards."""
    try:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
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
            os.killpg(child.pid, signal.SIGKILL)  # what it started included
        child.wait()
