"""Check what README.md shows of the package. tests/test_docs.py runs its blocks."""

import inspect

from ffnn_gpu import train_step
from tests.test_docs import ROOT, blocks

BLOCKS = [*blocks(ROOT / "README.md")]
PYTHON = [block.text for block in BLOCKS if block.language == "python"]


def test_readme_has_examples_and_commands() -> None:
    assert len(PYTHON) >= 3 and any(code.startswith("# test_") for code in PYTHON)
    commands = "".join(block.text for block in BLOCKS if block.language == "console")
    assert "$ python3 scripts/demo.py\n" in commands and "$ python3 scripts/test.py\n" in commands


def test_readme_shows_train_step_as_it_is() -> None:
    shown = next(code for code in PYTHON if code.startswith("def train_step"))
    lines = [line.split("#")[0].strip() for line in shown.splitlines()[1:]]
    source = inspect.getsource(train_step)
    for line in filter(None, lines):
        assert line.removesuffix(")") in source, f"{line!r} is not in train_step"
