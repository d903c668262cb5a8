"""scripts/aarch64.py changes no package of the machine, makes each part once, and returns pytest's code."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYPROJECT = """
[project]
name = "it"
dependencies = ["one>=1"]
[project.optional-dependencies]
fast = ["two"]
other = ["three"]
test = ["it[other,fast]", "four"]
"""


@pytest.fixture
def aarch64(monkeypatch):
    """The script as a module; its change of sys.path is undone afterwards."""
    monkeypatch.setattr(sys, "path", [*sys.path])
    spec = importlib.util.spec_from_file_location("aarch64", ROOT / "scripts" / "aarch64.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_options_of_pytest_are_those_the_script_has_not(aarch64):
    options, others = aarch64.parse(
        ["--mirror", "a mirror", "-k", "exp", "--folder", "f", "tests/nn", "--cpu", "apple-m1"]
    )
    assert (options.folder, options.cpu) == (Path("f"), "apple-m1")
    assert others == ["-k", "exp", "tests/nn"]


@pytest.mark.parametrize(
    ("given", "replaced"), [([], False), (["-k", "exp"], False), (["tests/a.py::test_b[c]"], True)]
)
def test_default_tests_are_replaced_by_named_ones(aarch64, tmp_path, given, replaced):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "a.py").touch()
    options = aarch64.pytest_options(given, tmp_path)
    assert options[2:] == [*given, *(() if replaced else aarch64.TESTS)]


def test_default_tests_exist(aarch64):
    for file, _, function in (each.partition("::") for each in aarch64.TESTS):
        assert (ROOT / file).exists()
        assert not function or f"def {function}(" in (ROOT / file).read_text(encoding="utf-8")


def test_apt_writes_to_its_own_folder_only(aarch64, tmp_path):
    lines = aarch64.apt_settings(tmp_path, "arm64").splitlines()
    places = [line.split('"')[1] for line in lines if line.startswith("Dir::")]
    assert places and all(place == "/dev/null" or place.startswith(str(tmp_path)) for place in places)
    assert "#clear APT::Update;" in lines  # commands of the machine's settings, such as deleting its cache


def test_requirements_are_those_of_the_package_fast_and_its_tests(aarch64):
    assert aarch64.requirements(PYPROJECT) == ["one>=1", "two", "four"]


def test_part_is_made_again_if_it_was_interrupted_or_its_recipe_changed(aarch64, tmp_path):
    target, made = tmp_path / "a" / "part", []

    def interrupted(to):
        (to / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        aarch64.once(target, "first", interrupted)
    for recipe in ("first", "first", "second"):
        aarch64.once(target, recipe, lambda to, each=recipe: made.append((each, [*to.iterdir()])))
    assert made == [("first", []), ("second", [])]


@pytest.mark.skipif(os.name == "nt", reason="Windows runs no shell scripts")
def test_wrapper_passes_every_word_and_its_own_path(aarch64, tmp_path):
    qemu, root, python = tmp_path / "the qemu", tmp_path / "root", tmp_path / "python"
    emulator = qemu / "usr" / "bin" / "qemu-aarch64-static"
    emulator.parent.mkdir(parents=True)
    emulator.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    python.write_text(aarch64.wrapper(qemu, root), encoding="utf-8")
    for each in (emulator, python):
        each.chmod(0o755)
    found = subprocess.run([python, "-c", "a b"], capture_output=True, text=True, check=True).stdout
    emulated = str(root / "usr" / "bin" / f"python{aarch64.PYTHON}")
    assert found.splitlines() == ["-L", str(root), "-0", str(python), emulated, "-c", "a b"]


def test_processor_is_the_same_for_the_emulator_and_the_compiler(aarch64, monkeypatch, tmp_path):
    monkeypatch.setenv("NUMBA_CPU_NAME", "haswell")
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "+avx2")
    found = aarch64.environment(tmp_path, "cortex-a72")
    assert found["QEMU_CPU"] == found["NUMBA_CPU_NAME"] == "cortex-a72"
    assert found["PYTHONPATH"] == str(tmp_path)
    assert os.environ.keys() - found.keys() == {"NUMBA_CPU_FEATURES"}


@pytest.mark.parametrize(
    ("machine", "said"), [("aarch64", "run scripts/test.py"), ("x86_64", "choose another")]
)
def test_machine_and_folder_are_checked_first(aarch64, monkeypatch, capsys, machine, said):
    monkeypatch.setattr(aarch64.platform, "system", lambda: "Linux")
    monkeypatch.setattr(aarch64.platform, "machine", lambda: machine)
    monkeypatch.setattr(aarch64.shutil, "which", lambda name: name)
    monkeypatch.setattr(aarch64, "KEYRING", ROOT)
    assert aarch64.main(["--mirror", "a mirror", "--folder", str(ROOT / "build")]) == 2
    assert said in capsys.readouterr().err and not (ROOT / "build").exists()


@pytest.mark.parametrize("code", [0, 1, 5])
def test_exit_code_is_pytests(aarch64, monkeypatch, tmp_path, code):
    monkeypatch.setattr(aarch64, "check_machine", lambda folder: None)
    monkeypatch.setattr(aarch64, "prepare", lambda folder, mirror: Path("python"))
    monkeypatch.setattr(aarch64, "copy_repository", lambda to: to.mkdir())
    monkeypatch.setattr(aarch64.subprocess, "call", lambda command, cwd, env: code)
    assert aarch64.main(["--mirror", "a mirror", "--folder", str(tmp_path)]) == code


def test_command_that_fails_ends_with_2(aarch64, monkeypatch, capsys, tmp_path):
    def failing(folder, mirror):
        aarch64.run([sys.executable, "-c", "raise SystemExit(3)"])

    monkeypatch.setattr(aarch64, "check_machine", lambda folder: None)
    monkeypatch.setattr(aarch64, "prepare", failing)
    assert aarch64.main(["--mirror", "a mirror", "--folder", str(tmp_path)]) == 2
    assert "returned non-zero exit status 3" in capsys.readouterr().err
