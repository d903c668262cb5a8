"""A program that runs in the process of the tests fails as in its own process, and changes nothing in it."""

import logging
import os
import random
import signal
import sys
import warnings

import numpy as np
import pytest

from tests.in_process import printed_by

CHANGES = """
import logging, os, signal, sys, warnings
import numpy as np
import beside

sys.argv.append("more")
sys.path.append("more")
sys.excepthook = print
sys.stdout = sys.stderr = open(os.devnull, "w")
os.chdir("/")
os.environ["MORE"] = "1"
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
for name in ("", "ffnn_gpu"):
    logging.getLogger(name).addHandler(logging.StreamHandler())
    logging.getLogger(name).setLevel(logging.DEBUG)
warnings.simplefilter("ignore")
np.seterr(all="raise")
np.random.seed(3)
sys.stdout.close()
"""
FAILS = {
    "assert 1 > 2": AssertionError,
    "import sys; sys.exit(1)": SystemExit,
    "import warnings; warnings.warn('a warning')": UserWarning,
    "import threading, time; threading.Thread(target=time.sleep, args=(0.5,)).start()": AssertionError,
}


@pytest.fixture(autouse=True)
def of_a_commit(monkeypatch):
    monkeypatch.delenv("EVERY_CASE", raising=False)


def state():
    loggers = logging.getLogger(), logging.getLogger("ffnn_gpu")
    return {
        "interpreter": (
            sys.argv[:],
            sys.path[:],
            sys.excepthook,
            sys.stdout,
            sys.stderr,
            "beside" in sys.modules,
        ),
        "system": (os.getcwd(), dict(os.environ)),
        "signals": [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)],
        "logs": [(logger.handlers[:], logger.level) for logger in loggers],
        "warnings": warnings.filters[:],
        "errors": np.geterr(),
        "generators": (np.random.get_state()[1].tolist(), random.getstate()),
    }


@pytest.mark.skipif(os.name != "posix", reason="SIGHUP of POSIX")
def test_program_leaves_the_process_as_it_was(tmp_path):
    (tmp_path / "beside.py").write_text("")
    (tmp_path / "program.py").write_text(CHANGES)
    (tmp_path / "folder").mkdir()
    before = state()
    assert printed_by(tmp_path / "program.py", tmp_path / "folder") == ""
    assert state() == before


@pytest.mark.parametrize("text", FAILS)
def test_program_that_fails_raises(text, tmp_path):
    (tmp_path / "program.py").write_text(text)
    with pytest.raises(FAILS[text]):
        printed_by(tmp_path / "program.py", tmp_path)


def test_program_finds_no_modules_in_the_working_directory(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "beside.py").write_text("")
    (tmp_path / "program.py").write_text("import beside")
    with pytest.raises(ModuleNotFoundError, match="beside"):
        printed_by(tmp_path / "program.py", tmp_path / "folder")
