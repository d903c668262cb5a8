"""Run the programs of pages and examples in the process of the tests, as if each had a process of its own.

Why: each process imports the package and the libraries of the program again, in one to three seconds.
`EVERY_CASE=1`, as in `scripts/prove.py --only tests`, runs every program in a new process.
"""

import io
import logging
import os
import runpy
import signal
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from unittest import mock

import numpy as np

from ffnn_gpu.training.interrupt import SIGNALS

ROOT = Path(__file__).parents[1]


def printed_by(program: Path, folder: Path, *arguments: str) -> str:
    """Run a Python file in a folder, with warnings as errors, and return what it prints. Raise its errors."""
    if os.environ.get("EVERY_CASE"):
        return printed_by_process([str(program), *arguments], folder)
    with as_program(folder, str(program), *arguments, imports_from=program.parent) as printed:
        runpy.run_path(str(program), run_name="__main__")
    return printed.getvalue()


def printed_by_process(
    words: list[str], folder: Path, launcher: tuple[str, ...] = (), stdin: str = "", where: str = ""
) -> str:
    """Run Python with these words in a new process; raise AssertionError if its exit code is not 0."""
    done = subprocess.run(
        [*launcher, sys.executable, "-W", "error", *words], input=stdin, cwd=folder, timeout=300, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, f"{where}: {words}\n{done.stdout}{done.stderr}"
    return done.stdout


@contextmanager
def as_program(folder: Path, *words: str, imports_from: Path | None = None) -> Iterator[io.StringIO]:
    """Work in `folder` with sys.argv = words and warnings as errors; yield the stream of standard output.

    Afterwards these are as before: streams, folder, arguments, paths of imports, environment, handlers of
    signals, exceptions and logs, filters of warnings, and NumPy's errors and generator. Raises AssertionError
    if the program leaves a thread.

    imports_from: where the program finds its own modules, by default `folder`.
    """
    modules = folder if imports_from is None else imports_from
    before = {*threading.enumerate()}
    with ExitStack() as stack:
        printed = stack.enter_context(redirect_stdout(io.StringIO()))
        stack.enter_context(redirect_stderr(io.StringIO()))
        stack.enter_context(chdir(folder))
        stack.enter_context(mock.patch.object(sys, "argv", [*words]))
        stack.enter_context(mock.patch.object(sys, "path", [str(modules), *sys.path]))
        stack.callback(_forget_modules_of, modules)
        stack.enter_context(mock.patch.dict(os.environ))
        stack.enter_context(mock.patch.object(sys, "excepthook", sys.excepthook))
        for logger in (logging.getLogger(), logging.getLogger("ffnn_gpu")):
            stack.enter_context(mock.patch.object(logger, "handlers", [*logger.handlers]))
            stack.callback(logger.setLevel, logger.level)
        for number in SIGNALS:
            stack.callback(signal.signal, number, signal.getsignal(number))
        stack.enter_context(np.errstate())
        stack.callback(np.random.set_state, np.random.get_state())
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("error")
        yield printed
    left = [each for each in threading.enumerate() if each not in before and not each.daemon]
    assert left == [], "the program leaves threads"


def _forget_modules_of(folder: Path) -> None:
    """Let a later program import its own modules of the same names."""
    for name, module in [*sys.modules.items()]:
        if (getattr(module, "__file__", None) or "").startswith(f"{folder}{os.sep}"):
            del sys.modules[name]
