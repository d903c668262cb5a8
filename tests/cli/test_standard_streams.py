"""A command works with missing, closed and narrow standard streams, and never reports work it did not do.

llvmlite and matplotlib are hidden from most commands, because their imports take longer than the commands.
"""

import io
import os
import re
import subprocess
import sys

import pytest

from ffnn_gpu.cli.commands import main
from ffnn_gpu.cli.exit_codes import OFF, _shows_tracebacks
from ffnn_gpu.cli.settings import FIELDS
from ffnn_gpu.cli.standard_streams import PLAIN, finish
from tests.every_case import some_of

ENVIRONMENT = {**os.environ, "FFNN_GPU_DEVICE": "numpy", "OPENBLAS_NUM_THREADS": "1"}
HIDDEN = "hidden"  # the folder of modules that cannot be imported
TRAIN = ("train", "d.csv", "--hidden", "8", "--dropout", "0", "--epochs", "2")
posix = pytest.mark.skipif(sys.platform == "win32", reason="needs a POSIX shell")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Make a folder with d.csv and the trained run `run`; its classes are named outside ASCII."""
    path = tmp_path_factory.mktemp("streams")
    (path / HIDDEN).mkdir()
    for module in ("llvmlite", "matplotlib"):
        (path / HIDDEN / f"{module}.py").write_text("raise ImportError('hidden')\n", encoding="utf-8")
    rows = [f"{k % 2 + 0.01 * k},{k % 5},{('été', '→')[k % 2]}" for k in range(40)]
    (path / "d.csv").write_text("\n".join(["größe,b,klasse", *rows]) + "\n", encoding="utf-8")
    assert command(path, *TRAIN, "--out", "run").returncode == 0
    return path


def without_imports(folder):
    """Return the environment of a command that finds neither llvmlite nor matplotlib."""
    paths = [str(folder / HIDDEN), *filter(None, [os.environ.get("PYTHONPATH")])]
    return ENVIRONMENT | {"PYTHONPATH": os.pathsep.join(paths)}


def command(folder, *arguments, env=None, **settings):
    settings = {"capture_output": True} | settings
    return subprocess.run(
        [sys.executable, "-m", "ffnn_gpu", *arguments],
        env=without_imports(folder) | (env or {}), cwd=folder, check=False, timeout=120, **settings,
    )  # fmt: skip


def shell(folder, arguments, redirection, environment=None):
    """Run the command by a shell; the redirection may close a stream."""
    script = f'"$0" -m ffnn_gpu {arguments} {redirection}'
    return subprocess.run(
        ["sh", "-c", script, sys.executable], env=environment or without_imports(folder), cwd=folder,
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip


def broken_pipe():
    reader, writer = os.pipe()
    os.close(reader)
    return writer


# ---------------------------------------------------------------- missing and closed streams


@posix
@pytest.mark.parametrize("closed", some_of(["<&- >&- 2>&-", "2>&-"], 2))
def test_training_run_without_standard_streams_writes_everything(folder, closed):
    out, draws = f"run-{closed.count('-')}{closed[0] == '2'}", closed[0] == "<"
    done = shell(folder, f"{' '.join(TRAIN)} --out {out}", closed, ENVIRONMENT if draws else None)
    assert done.returncode == 0, done.stderr
    assert (folder / out / "result.json").is_file() and (folder / out / "model.safetensors").is_file()
    assert (folder / out / "learning_curve.png").is_file() == draws
    assert shell(folder, f"predict {out} d.csv --output p.csv", closed).returncode == 0
    assert len((folder / "p.csv").read_text("utf-8").splitlines()) == 41


@posix
@pytest.mark.parametrize("arguments", some_of(["predict run d.csv", "evaluate run", "info --json"], 2))
def test_result_that_has_nowhere_to_go_is_an_error(folder, arguments):
    done = shell(folder, arguments, ">&-")
    assert done.returncode == 2 and done.stderr.splitlines()[-1] == (
        b"error: standard output is closed, and the result is printed there; redirect it"
    )


@posix
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", some_of(["predict run d.csv", "evaluate run"], 2))
def test_standard_output_on_a_full_disk_is_an_error(folder, arguments):
    assert shell(folder, arguments, "> /dev/full").returncode not in (0, 120)


@posix
def test_missing_standard_input_is_named(folder):
    done = shell(folder, "predict run -", "<&-")
    assert done.returncode == 2 and b"standard input is closed; give INPUT" in done.stderr


# ---------------------------------------------------------------- readers that leave


@posix
def test_training_run_goes_on_if_the_reader_of_its_messages_leaves(folder):
    writer = broken_pipe()
    done = command(
        folder, *TRAIN, "--out", "left", capture_output=False, stderr=writer, stdout=subprocess.PIPE
    )
    os.close(writer)
    assert done.returncode == 0 and b"2 of 2 epochs" in done.stdout
    assert (folder / "left/model.safetensors").is_file() and (folder / "left/result.json").is_file()


@posix
def test_training_run_goes_on_if_all_its_readers_leave(folder):
    writer = broken_pipe()
    done = command(folder, *TRAIN, "--out", "alone", capture_output=False, stderr=writer, stdout=writer)
    os.close(writer)
    assert done.returncode == 0 and (folder / "alone/result.json").is_file()


@posix
def test_error_keeps_its_exit_code_if_the_reader_of_its_message_has_left(folder):
    writer = broken_pipe()
    done = command(folder, "train", "nothing.csv", capture_output=False, stderr=writer, stdout=writer)
    os.close(writer)
    assert done.returncode == 3


@posix
def test_broken_output_file_is_an_error(folder):
    os.mkfifo(folder / "fifo.csv")
    reader = os.open(folder / "fifo.csv", os.O_RDONLY | os.O_NONBLOCK)
    process = subprocess.Popen(
        [sys.executable, "-c", CLOSED_LATE, str(reader)], env=without_imports(folder), cwd=folder,
        stderr=subprocess.PIPE, pass_fds=[reader],
    )  # fmt: skip
    os.close(reader)
    assert b"Broken pipe" in process.communicate(timeout=120)[1] and process.returncode == 1


# Opens the pipe while it has a reader, and writes after the reader has left.
CLOSED_LATE = """
import os, sys
from ffnn_gpu.cli.commands import main
from ffnn_gpu.tables import answers
write_csv = answers.write_csv
def late(file, columns):
    os.close(int(sys.argv[1]))
    write_csv(file, columns)
answers.write_csv = late
main(["predict", "run", "d.csv", "--output", "fifo.csv"])
"""


# ---------------------------------------------------------------- encodings


@pytest.mark.parametrize("encoding", some_of(["latin-1", "cp1250"], 2))
def test_help_and_messages_are_printed_in_every_encoding(folder, encoding):
    env = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for arguments, code in ((["train", "--help"], 0), (["train", "nothing→.csv"], 3)):
        done = command(folder, *arguments, env=env)
        text = (done.stdout + done.stderr).decode(encoding)
        assert done.returncode == code and "Traceback" not in text, text
        assert "relu, gelu" in text or "there is no file nothing->.csv" in text, text


def test_table_spells_every_character_of_the_help_outside_ascii(capsys):
    for arguments in (["train", "--help"], ["evaluate", "--help"], ["predict", "--help"], ["--help"]):
        with pytest.raises(SystemExit):
            main(arguments)
    texts = [capsys.readouterr().out, *(str(field.type) for field in FIELDS.values())]
    assert set(re.findall(r"[^\x00-\x7f]", "".join(texts))) <= {*PLAIN}


@posix
def test_help_is_printed_in_the_c_locale(folder):
    env = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = command(folder, "train", "--help", env=env)
    assert done.returncode == 0 and b"relu" in done.stdout


@pytest.mark.parametrize("encoding", some_of(["utf-16", "latin-1"], 2))
def test_predictions_are_utf_8_in_every_encoding(folder, encoding):
    env = {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    text = "größe,b\n0,1\n1,1\n".encode()
    done = command(folder, "predict", "run", "--probabilities", env=env, input=text)
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    lines = done.stdout.decode("utf-8").splitlines()
    assert lines[0] == "prediction,p_été,p_→" and len(lines) == 3


# ---------------------------------------------------------------- the last words


@pytest.mark.parametrize("text", [*OFF, "False", " NO "])
def test_debug_is_off(monkeypatch, text):
    monkeypatch.setenv("FFNN_GPU_DEBUG", text)
    assert not _shows_tracebacks()


@pytest.mark.parametrize("text", ["1", "yes", "true"])
def test_debug_is_on(monkeypatch, text):
    monkeypatch.setenv("FFNN_GPU_DEBUG", text)
    assert _shows_tracebacks()


class Full(io.StringIO):
    def flush(self):
        raise OSError(28, "No space left on device")


def test_result_that_cannot_be_written_changes_the_exit_code(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Full())
    assert (finish(0), finish(3), finish(None)) == (1, 3, 1)
    monkeypatch.setattr(sys, "stdout", None)
    assert finish(0) == 0
