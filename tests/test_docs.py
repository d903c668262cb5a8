"""Run what README.md and docs/**/*.md show, and check the names and links in them.

All blocks of a page run in their order, in one temporary folder:

    ```python     run with names of its own, where warnings are errors, in this process, because an import
                  takes a second. EVERY_CASE=1 runs the blocks that follow each other in a new process.
                  A block without `import` is an excerpt and is not run. One that imports a library that is
                  compared with, and which is not installed, must compile. A block that begins with the
                  comment `# test_NAME.py` is a file for pytest, which runs it in a new process.
    ```console    `$ ffnn-gpu …` is run in this process, which has its imports already, `train` with 2 epochs,
                  or on a text file, which an ensemble learns, with half a second for the members.
                  `$ python3 scripts/NAME.py` must exist.
    ```toml       must be a configuration of `ffnn-gpu train` if it names `data`

Other blocks (```sh, ```text, …) are not run.
"""

import io
import itertools
import json
import os
import re
import shlex
import sys
import tomllib
import traceback
from collections.abc import Iterator
from contextlib import chdir, redirect_stderr, redirect_stdout
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest

from ffnn_gpu.cli.commands import main
from ffnn_gpu.cli.settings import resolve
from tests.in_process import as_program, printed_by_process

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
PYTEST = ["-m", "pytest", "-p", "pytest_ffnn_gpu", "-p", "no:cacheprovider"]
COMPARED = "keras", "pytabkit", "skorch", "torch"  # their halves of docs/coming_from_*.md
SEVERAL = """import json, sys
for where, text in json.load(sys.stdin):
    exec(compile(text, where, "exec"), {"__name__": "__main__"})
"""
VARIABLE = re.compile(r"\bFFNN_GPU_[A-Z0-9_]+\b")


class Block(NamedTuple):
    """A fenced block: where its text begins, its language and its text."""

    where: str
    language: str
    text: str


def blocks(page: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a page, in order."""
    text = page.read_text(encoding="utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.M | re.S):
        line = text.count("\n", 0, found.start(2)) + 1
        yield Block(f"{page.name}:{line}", found[1], found[2])


def run_python(several: list[Block], folder: Path) -> None:
    """Run blocks of Python that follow each other, or give them to pytest."""
    plain = []
    for block in several:
        name = re.match(r"# (test_\w+\.py)\n", block.text)
        if name:
            (folder / name[1]).write_text(block.text, encoding="utf-8")
            assert " passed" in printed_by_process([*PYTEST, name[1]], folder, where=block.where)
        elif "import " in block.text and is_complete(block):
            plain.append((block.where, block.text))
    if plain and os.environ.get("EVERY_CASE"):
        printed_by_process(["-c", SEVERAL], folder, stdin=json.dumps(plain))
    else:
        for where, text in plain:
            run_block(where, text, folder)


def run_block(where: str, text: str, folder: Path) -> None:
    """Run a block of Python in this process, as the module `__main__`."""
    page = ModuleType("__main__")
    with as_program(folder, where), pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "__main__", page)
        try:
            exec(compile(text, where, "exec"), page.__dict__)  # noqa: S102  our own page
        except Exception as error:
            raise AssertionError(traceback.format_exc()) from error


def is_complete(block: Block) -> bool:
    """Return whether the libraries of a block are installed. Raises SyntaxError if it cannot be compiled."""
    compile(block.text, block.where, "exec")
    imported = re.findall(r"^(?:import|from) (\w+)", block.text, re.M)
    return not any(name in COMPARED and find_spec(name) is None for name in imported)


def run_commands(several: list[Block], folder: Path) -> None:
    """Run the lines that begin with `$ ffnn-gpu`; check that scripts exist."""
    lines = [(block.where, line) for block in several for line in re.findall(r"^\$ (.*)$", block.text, re.M)]
    for where, line in lines:
        program, *words = shlex.split(line, comments=True)
        if program == "ffnn-gpu":
            words += shortened(words) if "train" in words else []
            printed = io.StringIO()
            streams = redirect_stdout(printed), redirect_stderr(printed)
            with chdir(folder), streams[0], streams[1], pytest.raises(SystemExit) as end:
                main(words)
            assert not end.value.code, f"{where}: {line}\n{printed.getvalue()}"
        elif program == "python3" and words[0].startswith("scripts/"):
            assert (ROOT / words[0]).is_file(), f"{where}: {words[0]} does not exist"


def shortened(words: list[str]) -> list[str]:
    """Return what keeps a training run short, of the model that `train` chooses for these words."""
    trains_ensemble = any(word.endswith(".csv") for word in words) and "mlp" not in words
    return ["--time-limit", "0.5"] if trains_ensemble else ["--epochs", "2"]


def read_configuration(several: list[Block], folder: Path) -> None:
    """Read blocks of TOML, as --config would if they are configurations."""
    for block in several:
        if "data" in tomllib.loads(block.text):
            file = folder / "block.toml"
            file.write_text(block.text, encoding="utf-8")
            resolve({}, file=file, environment={})


RUNNERS = {"python": run_python, "console": run_commands, "toml": read_configuration}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_of_a_page_runs_as_it_stands(page: Path, tmp_path: Path) -> None:
    for language, several in itertools.groupby(blocks(page), lambda block: block.language):
        if language in RUNNERS:
            RUNNERS[language]([*several], tmp_path)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("```python\nimport nothing_of_that_name\n```\n", '(?s)"page.md:2", line 1.*nothing_of_that_name'),
        ("```python\n# test_a.py\ndef test_a():\n    assert False\n```\n", "page.md:2: .*"),
        ("```console\n$ ffnn-gpu evaluate nothing\n```\n", "error: nothing does not exist"),
        ("```console\n$ python3 scripts/nothing.py\n```\n", "page.md:2: scripts/nothing.py does not exist"),
        ('```toml\ndata = "digits"\nepohcs = 3\n```\n', "unknown setting 'epohcs'"),
    ],
    ids=["python", "pytest", "command", "script", "configuration"],
)
def test_block_that_does_not_run_is_named(text: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(text, encoding="utf-8")
    (block,) = blocks(tmp_path / "page.md")
    with pytest.raises(Exception, match=complaint):
        RUNNERS[block.language]([block], tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_to_a_file_leads_to_one(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    links = {
        link for link in re.findall(r"\]\(([^)#\s]+)", text) if "://" not in link and "mailto:" not in link
    }
    assert [link for link in sorted(links) if not (page.parent / link).exists()] == []


def test_configuration_page_names_every_environment_variable_of_the_package() -> None:
    folders = ("ffnn_gpu", "tests", "scripts", "benchmarks", "proofs")
    sources = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    sources.append(ROOT / "pytest_ffnn_gpu.py")
    used = {name for path in sources for name in VARIABLE.findall(path.read_text(encoding="utf-8"))}
    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    named = {*re.findall(r"^\| `(FFNN_GPU_[A-Z0-9_]+)`", page, re.M)}
    assert named == used
