"""The decisions of scripts/bootstrap.py, without a network and without pip.

Why a fake installer: the tests check when something is installed and which messages appear, not pip. Every
test loads its own module and has its own repository in a temporary folder.
"""

import ast
import errno
import importlib.util
import os
import re
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
SCRIPTS = REPOSITORY / "scripts"
SMI = "| NVIDIA-SMI 550.54.15    Driver Version: 550.54.15    CUDA Version: {}     |"


def load(name):
    """Load scripts/`name`.py as a new module."""
    spec = importlib.util.spec_from_file_location(name, SCRIPTS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Machine:
    """A fake computer with a given .venv and driver; `installed` lists the calls of pip."""

    def __init__(self, bootstrap, root, monkeypatch):
        self.bootstrap, self.root = bootstrap, root
        self.python = None  # the version that .venv's Python reports
        self.smi = None  # the output of nvidia-smi
        self.made = 0  # number of times .venv was made
        self.installed = []
        self.failing = set()  # extras that pip cannot install
        (root / "pyproject.toml").write_text("[project]\n")
        monkeypatch.setattr(bootstrap, "venv_version", lambda root: self.python)
        monkeypatch.setattr(bootstrap, "make_venv", self.make_venv)
        monkeypatch.setattr(bootstrap, "pip_install", self.pip_install)
        monkeypatch.setattr(
            bootstrap.shutil, "which", lambda name: str(root / "pyproject.toml") if self.smi else None
        )
        monkeypatch.setattr(bootstrap, "answer", lambda command: self.smi)

    def make_venv(self, root):
        self.made += 1
        self.python = "{}.{}".format(*sys.version_info)

    def pip_install(self, root, extras, effort):
        if self.failing & set(extras):
            raise self.bootstrap.SetupError("the disk is full")
        self.installed.append(extras)

    def prepare(self, extra):
        """Return the extras that one run installs."""
        self.installed = []
        self.bootstrap.ask_cuda_version.cache_clear()  # a run is a new process
        self.bootstrap.prepare(extra, self.root)
        return self.installed


@pytest.fixture
def bootstrap():
    return load("bootstrap")


@pytest.fixture
def machine(bootstrap, tmp_path, monkeypatch):
    return Machine(bootstrap, tmp_path, monkeypatch)


# --- what is installed, and when


def test_first_run_makes_the_environment_and_installs_the_extra(machine):
    assert machine.prepare("demo") == [["demo"]]
    assert machine.made == 1


def test_second_run_installs_nothing(machine):
    machine.prepare("demo")
    assert machine.prepare("demo") == []
    assert machine.made == 1


def test_extras_accumulate(machine):
    machine.prepare("demo")
    assert machine.prepare("test") == [["demo", "test"]]
    assert machine.prepare("demo") == machine.prepare("test") == []


def test_changed_pyproject_is_installed_into_the_same_environment(machine):
    machine.prepare("demo")
    (machine.root / "pyproject.toml").write_text("[project]\ndependencies = []\n")
    assert machine.prepare("demo") == [["demo"]]
    assert machine.made == 1


def test_broken_python_has_its_environment_made_anew(machine):
    machine.prepare("demo")
    machine.python = None
    assert machine.prepare("test") == [["demo", "test"]]
    assert machine.made == 2


def test_upgraded_interpreter_has_its_environment_made_anew(machine):
    machine.prepare("demo")
    machine.python = "3.99"
    assert machine.prepare("demo") == [["demo"]]
    assert machine.made == 2


def test_moved_folder_has_its_environment_made_anew(machine, tmp_path_factory):
    machine.prepare("demo")
    moved = tmp_path_factory.mktemp("elsewhere") / "clone"
    machine.root.rename(moved)
    machine.root = moved
    assert machine.prepare("demo") == [["demo"]]
    assert machine.made == 2


def test_working_environment_of_the_user_is_kept(machine):
    machine.python = "3.12"
    assert machine.prepare("test") == [["test"]]
    assert machine.made == 0


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"python": "3.11"}'])
def test_damaged_stamp_counts_as_none(machine, damage):
    machine.prepare("demo")
    (machine.root / ".venv" / machine.bootstrap.STAMP).write_text(damage)
    assert machine.prepare("demo") == [["demo"]]


def test_interrupted_installation_is_repeated_and_forgets_no_extra(machine):
    machine.prepare("demo")
    machine.failing = {"test"}
    with pytest.raises(machine.bootstrap.SetupError):
        machine.prepare("test")
    machine.failing = set()
    assert machine.prepare("demo") == [["demo"]]


def test_installation_finished_by_another_process_is_not_repeated(machine, monkeypatch):
    bootstrap, real = machine.bootstrap, machine.bootstrap.lock

    def lock_after_another_process(folder):
        monkeypatch.setattr(bootstrap, "lock", real)
        bootstrap.prepare("demo", machine.root)
        return real(folder)

    monkeypatch.setattr(bootstrap, "lock", lock_after_another_process)
    assert machine.prepare("demo") == [["demo"]]


def test_second_process_waits_for_the_lock_and_says_so(bootstrap, tmp_path, monkeypatch, capsys):
    with bootstrap.lock(tmp_path):
        other = os.open(tmp_path / bootstrap.LOCK, os.O_RDWR)
        assert not bootstrap.try_lock(other)
    assert bootstrap.try_lock(other)
    monkeypatch.setattr(bootstrap.time, "sleep", lambda seconds: os.close(other))
    with bootstrap.lock(tmp_path):
        assert "another process is installing" in capsys.readouterr().err


def test_pip_of_a_killed_process_still_holds_the_lock(bootstrap, tmp_path, monkeypatch):
    (tmp_path / ".venv").mkdir()
    pips = []

    def start(command, **options):
        pips.append(subprocess.Popen(command, **{**options, "stdin": subprocess.PIPE}))
        return 0

    monkeypatch.setattr(bootstrap.subprocess, "call", start)
    with bootstrap.lock(tmp_path / ".venv"):
        bootstrap.run_logged(tmp_path, [sys.executable, "-c", "input()"], "")
    other = os.open(tmp_path / ".venv" / bootstrap.LOCK, os.O_RDWR)
    assert not bootstrap.try_lock(other)
    pips[0].communicate(b"\n")
    assert bootstrap.try_lock(other)
    os.close(other)


# --- .venv itself


@pytest.fixture
def with_venv(bootstrap, tmp_path, monkeypatch):
    """A repository with a real .venv, made without pip."""
    (tmp_path / "pyproject.toml").write_text("[project]\n")
    monkeypatch.setattr(bootstrap, "pip_install", lambda root, extras, effort: None)
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    bootstrap.prepare("demo", tmp_path)
    return tmp_path


def test_made_environment_answers_with_this_version(bootstrap, with_venv):
    assert bootstrap.venv_version(with_venv) == "{}.{}".format(*sys.version_info)


def test_check_of_a_prepared_environment_takes_well_under_a_tenth_of_a_second(bootstrap, with_venv):
    def check():
        begin = time.perf_counter()
        bootstrap.prepare("demo", with_venv)
        return time.perf_counter() - begin

    assert min(check() for _ in range(5)) < 0.08


def test_python_outside_any_environment_does_not_count_as_one(bootstrap, with_venv):
    (with_venv / ".venv" / "pyvenv.cfg").unlink()
    assert bootstrap.venv_version(with_venv) is None


def test_new_environment_keeps_nothing_of_the_old_one_but_the_lock(bootstrap, with_venv):
    venv = with_venv / ".venv"
    (venv / "leftover").write_text("")
    bootstrap.python_of(with_venv).unlink()
    bootstrap.make_venv(with_venv)
    assert not (venv / "leftover").exists()
    assert (venv / bootstrap.LOCK).exists()


@pytest.mark.parametrize("answer", [None, "", "garbage", "3", "3.x", "2.7", "3.10"])
def test_environment_that_cannot_serve_has_no_version(bootstrap, tmp_path, monkeypatch, answer):
    monkeypatch.setattr(bootstrap, "answer", lambda command: answer)
    assert bootstrap.venv_version(tmp_path) is None


def test_interpreter_has_its_windows_path_on_windows(bootstrap, tmp_path, monkeypatch):
    monkeypatch.setattr(bootstrap.os, "name", "nt")
    assert bootstrap.python_of(tmp_path).relative_to(tmp_path).as_posix() == ".venv/Scripts/python.exe"


# --- the GPU


@pytest.mark.parametrize(
    ("text", "version"),
    [
        (SMI.format("12.4"), (12, 4)),
        (SMI.format("13.0"), (13, 0)),
        (SMI.format("N/A"), None),
        ("| NVIDIA-SMI 610.43.02    KMD Version: 610.43.02    CUDA UMD Version: 13.3     |", (13, 3)),
        ("DRIVER version      : 550.54\nCUDA Version        : 12.4\n", (12, 4)),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.", None),
        ("", None),
        (None, None),
    ],
)
def test_cuda_version_is_read_from_what_nvidia_smi_prints(bootstrap, text, version):
    assert bootstrap.cuda_version(text) == version


@pytest.mark.parametrize(
    ("version", "extra"),
    [(None, None), ((11, 8), None), ((12, 0), "cuda12x"), ((13, 0), "cuda13x"), ((14, 1), "cuda13x")],
)
def test_extra_follows_from_the_cuda_version(bootstrap, version, extra):
    assert bootstrap.cuda_extra(version) == extra


def test_extras_and_minimum_are_those_of_pyproject(bootstrap):
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert bootstrap.CUDA_EXTRAS | {"demo", "test", "dev"} <= set(project["optional-dependencies"])
    assert project["requires-python"] == ">={}.{}".format(*bootstrap.MINIMUM)


def test_cupy_is_installed_where_a_driver_answers_and_only_once(machine):
    machine.smi = SMI.format("12.4")
    assert machine.prepare("demo") == [["demo"], ["cuda12x"]]
    assert machine.prepare("test") == [["demo", "test"]]
    assert machine.prepare("test") == []


def test_driver_that_answered_is_not_asked_again(machine, monkeypatch):
    machine.smi = SMI.format("12.4")
    machine.prepare("demo")
    monkeypatch.setattr(machine.bootstrap, "answer", lambda command: pytest.fail("asked again"))
    assert machine.prepare("demo") == []


def test_driver_that_comes_later_gets_its_cupy(machine, capsys):
    machine.smi = "NVIDIA-SMI has failed"
    machine.prepare("demo")
    assert "no NVIDIA driver answers" in capsys.readouterr().err
    machine.smi = SMI.format("13.0")
    assert machine.prepare("demo") == [["cuda13x"]]


def test_driver_that_goes_away_costs_nothing(machine):
    machine.smi = SMI.format("13.0")
    machine.prepare("demo")
    machine.smi = None
    assert machine.prepare("demo") == []
    machine.smi = SMI.format("13.0")
    assert machine.prepare("demo") == []


def test_two_cupys_never_meet_in_one_environment(machine):
    machine.smi = SMI.format("12.4")
    machine.prepare("demo")
    (machine.root / "pyproject.toml").touch()  # the driver's file changed with the driver
    os.utime(machine.root / "pyproject.toml", ns=(0, 0))
    machine.smi = SMI.format("13.0")
    assert machine.prepare("demo") == [["demo"], ["cuda13x"]]
    assert machine.made == 2


def test_failing_cupy_costs_a_sentence_and_is_not_tried_on_every_run(machine, capsys):
    machine.smi, machine.failing = SMI.format("12.4"), {"cuda12x"}
    assert machine.prepare("demo") == [["demo"]]
    err = capsys.readouterr().err
    assert "CuPy was not installed (the disk is full); going on with the CPU packages" in err
    assert "pip install -e" in err
    machine.failing = set()
    assert machine.prepare("demo") == []


def test_old_driver_is_named_and_leaves_the_cpu(machine, capsys):
    machine.smi = SMI.format("11.8")
    assert machine.prepare("demo") == [["demo"]]
    assert "supports CUDA 11.8" in capsys.readouterr().err


# --- what the user reads

RETRYING = (
    "WARNING: Retrying (Retry(total=4)) after connection broken by 'NewConnectionError({})': /simple/\n"
)
NO_VERSION = (
    "ERROR: Could not find a version that satisfies the requirement numpy>=2.0 (from versions: none)\n"
)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (RETRYING.format("Temporary failure in name resolution") + NO_VERSION, "no package index"),
        ("ERROR: HTTPSConnectionPool(host='index', port=443): Max retries exceeded:", "no package index"),
        ("ReadTimeoutError: Read timed out.", "no package index"),
        (NO_VERSION, "no release that fits"),
        ("Max retries exceeded (SSLError(1, '[SSL: CERTIFICATE_VERIFY_FAILED]'))", "PIP_CERT"),
        (
            "ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device",
            "disk is full",
        ),
        ("Error: [Errno 13] Permission denied: '/clone/.venv'", "not writable"),
        ("OSError: [Errno 30] Read-only file system: 'a'", "not writable"),
        ("error: metadata-generation-failed", "read the log"),
        ("", "read the log"),
    ],
)
def test_failure_of_pip_is_told_by_its_cause(bootstrap, text, words):
    assert words in bootstrap.explain(text, "read the log")


def test_sentences_are_single_and_end_in_advice(bootstrap):
    for _, sentence in bootstrap.CAUSES:
        assert ". " not in sentence
        assert "; " in sentence


def test_failing_command_raises_with_the_lines_that_name_the_error(bootstrap, tmp_path):
    (tmp_path / ".venv").mkdir()
    code = "print('Collecting numpy'); print('ERROR: no wheel'); print('note: no error'); raise SystemExit(1)"
    with pytest.raises(bootstrap.SetupError, match="pip could not") as caught:
        bootstrap.run_logged(tmp_path, [sys.executable, "-c", code], "pip could not")
    assert caught.value.details == "ERROR: no wheel"
    assert "Collecting numpy" in (tmp_path / ".venv" / bootstrap.LOG).read_text()


def failed_launch(bootstrap, root, capsys):
    """Return stderr of a launch that must return 2 and print its message on the last line."""
    assert bootstrap.launch("demo", ["-c", "raise SystemExit(0)"], root) == 2
    err = capsys.readouterr().err
    assert re.fullmatch(r"ffnn_gpu cannot start: .+\.", err.splitlines()[-1])
    return err


def test_old_python_reads_a_sentence_that_names_a_newer_one(bootstrap, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 6, 15, "final", 0))
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: name if name == "python3.12" else None)
    monkeypatch.setattr(bootstrap, "answer", lambda command: "Python 3.12.1")
    monkeypatch.setattr(bootstrap.sys, "argv", ["scripts/demo.py"])
    err = failed_launch(bootstrap, tmp_path, capsys)
    assert "needs Python 3.11 or newer" in err
    assert "is Python 3.6.15; run `python3.12 scripts/demo.py`." in err


def test_old_python_without_a_newer_one_reads_what_to_do(bootstrap, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bootstrap.sys, "version_info", (3, 10, 1, "final", 0))
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    assert "install a newer Python" in failed_launch(bootstrap, tmp_path, capsys)


@pytest.mark.parametrize("name", ["bootstrap", "demo", "lint", "test"])
def test_script_parses_on_python_3_6(name):
    ast.parse((SCRIPTS / f"{name}.py").read_text(encoding="utf-8"), feature_version=(3, 6))


@pytest.mark.parametrize("missing", ["venv", "ensurepip"])
def test_missing_module_is_told_with_the_package_that_has_it(
    bootstrap, tmp_path, monkeypatch, capsys, missing
):
    (tmp_path / "pyproject.toml").write_text("")
    find = importlib.util.find_spec
    monkeypatch.setattr(
        bootstrap.importlib.util, "find_spec", lambda name: None if name == missing else find(name)
    )
    err = failed_launch(bootstrap, tmp_path, capsys)
    assert f"comes without the module {missing}" in err
    assert "sudo apt install python{}.{}-venv".format(*sys.version_info) in err


@pytest.mark.parametrize(
    ("number", "words"), [(errno.EACCES, "not writable"), (errno.ENOSPC, "disk is full")]
)
def test_folder_that_takes_no_file_is_told(bootstrap, machine, monkeypatch, capsys, number, words):
    def refuse(folder):
        raise OSError(number, os.strerror(number), str(folder))

    monkeypatch.setattr(bootstrap, "lock", refuse)
    assert words in failed_launch(bootstrap, machine.root, capsys)


def test_interruption_ends_without_a_traceback(machine, monkeypatch, capsys):
    def interrupt(root, extras, effort):
        raise KeyboardInterrupt

    monkeypatch.setattr(machine.bootstrap, "pip_install", interrupt)
    assert machine.bootstrap.launch("demo", [], machine.root) == 130
    assert "the next run repeats" in capsys.readouterr().err


def test_launch_ends_with_the_exit_code_of_its_command(tmp_path):
    code = "import bootstrap, pathlib, sys; "
    code += "bootstrap.prepare = lambda extra, root: pathlib.Path(sys.executable); "
    code += "sys.exit(bootstrap.launch('demo', ['-c', 'raise SystemExit(7)']))"
    assert subprocess.run([sys.executable, "-c", code], cwd=SCRIPTS, check=False).returncode == 7


# --- the commands


@pytest.mark.parametrize(("extras", "code"), [(["test"], 7), (["prove", "test"], 2)])
def test_restart_within_the_environment_installs_what_is_missing_once(
    bootstrap, tmp_path, monkeypatch, extras, code
):
    (tmp_path / ".venv").mkdir()
    bootstrap.write_stamp(tmp_path, bootstrap.NOTHING._replace(extras=extras))
    monkeypatch.setattr(sys, "prefix", str(tmp_path / ".venv"))
    monkeypatch.setattr(bootstrap, "launch", lambda extra, command, root: 7)
    assert bootstrap.restart("prove.py", "prove", tmp_path) == code


@pytest.fixture
def script(bootstrap, monkeypatch):
    """Load demo.py or test.py, which import bootstrap from their folder."""
    monkeypatch.setitem(sys.modules, "bootstrap", bootstrap)
    return load


def test_demo_lets_the_users_options_override_its_own(script):
    command = script("demo").command(["--out", "mine", "--epochs", "1"])
    assert command[1:5] == ["-m", "ffnn_gpu", "train", "digits"]
    assert command[5:] == [
        "--out",
        str(REPOSITORY / "runs" / "digits"),
        "--overwrite",
        "--out",
        "mine",
        "--epochs",
        "1",
    ]


def test_tests_of_this_repository_run_from_any_folder(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = script("test").command(["-q", "--lf"])
    assert command[-3:] == ["-q", "--lf", str(REPOSITORY / "tests")]
    assert str(REPOSITORY / "pyproject.toml") in command


def test_named_test_runs_alone(script, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "test_mine.py").write_text("")
    assert script("test").command(["test_mine.py::test_one"])[-1] == "test_mine.py::test_one"
