"""What the README shows is run as it stands."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, re.S)
COMMANDS = re.findall(r"^\$ (.*)$", README, re.M)


def test_readme_has_examples_and_commands() -> None:
    assert len(PYTHON) >= 3 and FOR_PYTEST
    assert {"python3 scripts/demo.py", "python3 scripts/test.py"} <= set(COMMANDS)


AFTER_COMMANDS = [code for code in PYTHON if "runs/first" in code]
FOR_PYTEST = [code for code in PYTHON if code.startswith("# test_")]
ALONE = [code for code in PYTHON if "import" in code and code not in AFTER_COMMANDS + FOR_PYTEST]


@pytest.mark.parametrize("example", ALONE, ids=lambda code: code.split("\n")[0][:40])
def test_readme_example_runs_as_written(example: str, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", example],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize("example", FOR_PYTEST, ids=lambda code: code.split("\n")[0])
def test_readme_test_file_passes_as_written(example: str, tmp_path: Path) -> None:
    (tmp_path / example.split("\n")[0].removeprefix("# ")).write_text(example, encoding="utf-8")
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "pytest",
        "-p",
        "pytest_ffnn_gpu",
        "-p",
        "no:cacheprovider",
    ]
    run = subprocess.run(
        command,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == 0 and " passed" in run.stdout, run.stdout


def test_readme_shows_train_step_as_it_is() -> None:
    import inspect

    from ffnn_gpu import train_step

    shown = next(code for code in PYTHON if code.startswith("def train_step"))
    lines = [line.split("#")[0].strip() for line in shown.splitlines()[1:]]
    source = inspect.getsource(train_step)
    for line in filter(None, lines):
        assert line.removesuffix(")") in source, f"{line!r} is not in train_step"


def test_readme_commands_of_ffnn_gpu_run_in_order(tmp_path: Path) -> None:
    shown = [shlex.split(command) for command in COMMANDS if command.startswith("ffnn-gpu ")]
    assert shown
    for words in shown:
        words = [sys.executable, "-m", "ffnn_gpu", *words[1:]]
        if "train" in words:
            words += ["--epochs", "2"]
        run = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, timeout=120)
        assert run.returncode == 0, f"{words}: {run.stderr}"
    for example in AFTER_COMMANDS:
        run = subprocess.run(
            [sys.executable, "-c", example], cwd=tmp_path, capture_output=True, text=True, timeout=120
        )
        assert run.returncode == 0 and run.stdout, run.stderr


def test_readme_configuration_is_one(tmp_path: Path) -> None:
    from ffnn_gpu.cli.settings import read_toml, resolve

    (text,) = re.findall(r"```toml\n(.*?)```", README, re.S)
    (tmp_path / "run.toml").write_text(text, encoding="utf-8")
    config = resolve({}, file=tmp_path / "run.toml", environment={})
    assert config.hidden == tuple(read_toml(tmp_path / "run.toml")["hidden"])


@pytest.mark.parametrize("command", sorted({c for c in COMMANDS if c.startswith("python3 scripts/")}))
def test_readme_names_scripts_that_exist(command: str) -> None:
    assert (ROOT / command.split()[1]).is_file()
