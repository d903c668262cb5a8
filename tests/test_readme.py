"""Check what README.md and docs/architecture.md show of the package. tests/test_docs.py runs their blocks."""

import inspect
import re

from ffnn_gpu import train_step
from tests.test_docs import ROOT, blocks

README, ARCHITECTURE = (ROOT / page for page in ("README.md", "docs/architecture.md"))


def test_readme_has_three_examples_and_the_two_commands() -> None:
    shown = [*blocks(README)]
    assert len([block for block in shown if block.language == "python"]) == 3
    commands = "".join(block.text for block in shown if block.language == "console")
    assert "$ python3 scripts/demo.py" in commands and "$ python3 scripts/test.py" in commands


def test_readme_is_short() -> None:
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 170
    assert [line for line in lines if len(line) > 100 and not line.startswith("|")] == []


def test_architecture_shows_train_step_as_it_is() -> None:
    shown = next(block.text for block in blocks(ARCHITECTURE) if block.text.startswith("def train_step"))
    lines = [line.split("#")[0].strip() for line in shown.splitlines()[1:]]
    source = inspect.getsource(train_step)
    for line in filter(None, lines):
        assert line.removesuffix(")") in source, f"{line!r} is not in train_step"


def test_every_file_that_the_architecture_page_names_exists() -> None:
    page = ARCHITECTURE.read_text(encoding="utf-8")
    names = {*re.findall(r"`([\w/]+(?:\.(?:py|cu)|/))`", page)}
    places = (ROOT, ROOT / "ffnn_gpu", ROOT / "ffnn_gpu" / "backends")
    assert [name for name in sorted(names) if not any((place / name).exists() for place in places)] == []
