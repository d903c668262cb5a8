"""scripts/lint.py runs every check and fails if one does; the checks themselves are ruff's and mypy's."""

import importlib.util
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def lint(monkeypatch):
    monkeypatch.syspath_prepend(REPOSITORY / "scripts")
    spec = importlib.util.spec_from_file_location("lint", REPOSITORY / "scripts" / "lint.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    sys.modules.pop("bootstrap", None)


def outcome(lint, monkeypatch, failing):
    """(exit code, checks that ran) where the checks named in `failing` end with code 1."""
    ran = []

    def call(command, cwd):
        assert command[:2] == [sys.executable, "-m"]
        assert cwd == str(REPOSITORY)
        ran.append(command[2:])
        return int(command[2:] in failing)

    monkeypatch.setattr(lint.subprocess, "call", call)
    return lint.main(), ran


def test_lint_passes_if_every_check_does(lint, monkeypatch):
    assert outcome(lint, monkeypatch, []) == (0, [*lint.CHECKS])


@pytest.mark.parametrize("which", range(3))
def test_lint_runs_every_check_and_names_the_one_that_fails(lint, monkeypatch, capsys, which):
    assert outcome(lint, monkeypatch, [lint.CHECKS[which]]) == (1, [*lint.CHECKS])
    assert capsys.readouterr().out.splitlines()[-1] == "failed: " + " ".join(lint.CHECKS[which])


def test_unknown_option_of_lint_is_an_error():
    command = [sys.executable, str(REPOSITORY / "scripts" / "lint.py"), "--fix"]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.strip()) == (1, "usage: python3 scripts/lint.py [--here]")


def test_linters_are_pinned_to_one_minor_version():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins = [text for text in project["optional-dependencies"]["dev"] if text.startswith(("ruff", "mypy"))]
    assert len(pins) == 2
    assert all(">=" in pin and ",<" in pin for pin in pins)


def test_version_is_written_in_one_place():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert "version" not in project["project"]
    assert project["project"]["dynamic"] == ["version"]
    place = REPOSITORY / project["tool"]["hatch"]["version"]["path"]
    namespace: dict[str, str] = {}
    exec(compile(place.read_text(encoding="utf-8"), str(place), "exec"), namespace)  # noqa: S102
    import ffnn_gpu

    assert namespace["__version__"] == ffnn_gpu.__version__
