"""The tables of docs/coming_from_*.md hold; tests/test_docs.py runs their programs.

A row such as `optimizers.Adam(epsilon=1e-7)` | `optim.Adam(eps=1e-8)` names two defaults. Both are read from
the signatures: of this package always, of the other library where it is installed.
"""

import ast
import importlib
import inspect
import re
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import ffnn_gpu
from ffnn_gpu.estimators.tabular import recipes

DOCS = Path(__file__).parents[1] / "docs"
# page → the library, and where its names are looked up
THEIRS = {
    "scikit_learn": ("sklearn", "sklearn.neural_network"),
    "keras": ("keras", "keras"),
    "pytorch": ("torch", "torch"),
    "skorch": ("skorch", "skorch"),
    "pytabkit": ("pytabkit", "pytabkit"),
}


def table(name: str, heading: str) -> list[tuple[str, str]]:
    """Return the rows of the table below a heading, each of two cells."""
    text = (DOCS / f"coming_from_{name}.md").read_text(encoding="utf-8")
    section = text.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")][2:]
    return [(left, right) for left, right in (line.strip("| ").split(" | ") for line in lines)]


def calls(cell: str) -> list[ast.Call]:
    """Return the calls with settings in a cell, such as `Adam(eps=1e-8)`."""
    trees = [ast.parse(code, mode="eval").body for code in re.findall(r"`([\w.]+\([^`…]*=[^`…]*\))`", cell)]
    return [tree for tree in trees if isinstance(tree, ast.Call)]


def found(root: Any, dotted: str) -> Any:
    """Return `root.a.b` of "a.b"; a part may be a submodule that is not imported yet."""
    for part in dotted.split("."):
        if not hasattr(root, part):
            importlib.import_module(f"{root.__name__}.{part}")
        root = getattr(root, part)
    return root


def require_defaults(root: Any, cell: str) -> int:
    """Raise AssertionError unless a cell names defaults of objects in `root`; return how many it names."""
    count = 0
    for call in calls(cell):
        parameters = inspect.signature(found(root, ast.unparse(call.func))).parameters
        for setting in call.keywords:
            default, named = parameters[str(setting.arg)].default, ast.literal_eval(setting.value)
            assert default == named, f"{ast.unparse(call)}: the default is {default!r}"
            count += 1
    return count


@pytest.mark.parametrize("name", THEIRS)
def test_defaults_of_this_package_are_those_of_the_page(name: str) -> None:
    assert sum(require_defaults(ffnn_gpu, ours) for _, ours in table(name, "Defaults that differ")) >= 2


@pytest.mark.parametrize("name", THEIRS)
def test_defaults_of_the_other_library_are_those_of_the_page(name: str) -> None:
    library, module = THEIRS[name]
    if find_spec(library) is None:
        rows = table(name, "Defaults that differ")
        assert all(calls(theirs) or "`" not in theirs for theirs, _ in rows)  # they can be read, at least
        return
    root = importlib.import_module(module)
    assert sum(require_defaults(root, theirs) for theirs, _ in table(name, "Defaults that differ")) >= 1


@pytest.mark.parametrize("name", THEIRS)
def test_every_call_of_this_package_on_the_page_exists(name: str) -> None:
    code = [part for _, ours in table(name, "Names") for part in re.findall(r"`([^`]+)`", ours)]
    names = {called for part in code for called in re.findall(r"(?<![\w.])((?:\w+\.)*\w+)\(", part)}
    names -= {each for each in names if each.split(".")[0] in ("net", "print", "len")}
    for each in names:
        assert hasattr(recipes, each) or found(ffnn_gpu, each) is not None
    assert len(names) >= 2
