"""The files that shape how the project is worked on: CI, pre-commit, changelog, version.

Why text checks: a YAML parser is not among the dependencies.
"""

import re
import tomllib
from pathlib import Path

import pytest

import ffnn_gpu

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
CI = (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_by_commit_hash(path: Path) -> None:
    used = re.findall(r"uses:\s*(.*)", path.read_text(encoding="utf-8"))
    assert used
    for action in used:
        assert re.fullmatch(r"[\w./-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", action), action


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_workflow_may_only_read(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert re.search(r"^permissions:\n  contents: read\n\n", text, re.M)
    assert len(re.findall(r"permissions:", text)) == 1
    assert ": write" not in text
    assert text.count("persist-credentials: false") == text.count("actions/checkout@")


def test_ci_runs_every_supported_python_on_every_system() -> None:
    lowest = int(re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])[1])
    pythons = re.search(r"python: \[(.*)\]", CI)[1].replace('"', "").split(", ")
    assert pythons == [f"3.{minor}" for minor in range(lowest, 15)]
    assert re.search(r"os: \[(.*)\]", CI)[1] == "ubuntu-latest, macos-latest, windows-latest"


def test_ci_runs_the_scripts_of_this_repository_with_its_extras() -> None:
    for script in re.findall(r"scripts/\w+\.py", CI):
        assert (ROOT / script).is_file(), script
    assert {"scripts/test.py", "scripts/lint.py"} <= set(re.findall(r"scripts/\w+\.py", CI))
    assert set(re.findall(r'"\.\[(.*?)\]"', CI)) <= set(PROJECT["optional-dependencies"])


def test_pre_commit_hooks_take_the_versions_of_the_extra_dev() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert re.findall(r"repo: (.*)", text) == ["local"]
    assert re.findall(r"entry: python -m (\w+)", text) == ["ruff", "ruff", "mypy"]


def test_changelog_has_this_version_and_what_comes_next() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heads = re.findall(r"^## \[(.*?)\]", text, re.M)
    assert heads[0] == "Unreleased"
    assert ffnn_gpu.__version__ in heads
    allowed = {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert set(re.findall(r"^### (.*)", text, re.M)) <= allowed


def test_citation_has_this_version() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.*)$", text, re.M)[1] == ffnn_gpu.__version__


def test_contributing_names_files_that_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    named = re.findall(r"\b(?:scripts|tests|proofs|benchmarks|ffnn_gpu)/[\w/]+(?:\.py)?", text)
    assert len(named) > 5
    for name in named:
        assert (ROOT / name).exists(), name
