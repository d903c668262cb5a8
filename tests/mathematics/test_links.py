"""Links of the pages name a definition, `file.py#NAME`, because line numbers change with every edit."""

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from ffnn_gpu import layers, schedules
from ffnn_gpu.nn.activations import ACTIVATIONS
from ffnn_gpu.nn.losses.standard import LOSSES
from ffnn_gpu.optim.choice import OPTIMIZERS
from tests.mathematics.pages import PAGES


@functools.cache
def lines_of(path: Path) -> dict[str, int]:
    """Return name → line of all that a file defines at its top level, and of `Class.name`."""
    return dict(_definitions(ast.parse(path.read_text(encoding="utf-8")), ""))


def line_of(path: Path, name: str) -> int:
    """Return the line on which `path` defines `name`. Raises LookupError if it does not."""
    found = lines_of(path).get(name)
    if found is None:
        raise LookupError(f"{path} defines no {name!r}")
    return found


def _definitions(node: ast.Module | ast.ClassDef, prefix: str) -> Iterator[tuple[str, int]]:
    for child in node.body:
        if isinstance(child, ast.FunctionDef | ast.ClassDef):
            yield prefix + child.name, child.lineno
            if isinstance(child, ast.ClassDef):
                yield from _definitions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.Assign | ast.AnnAssign):
            targets = child.targets if isinstance(child, ast.Assign) else [child.target]
            for name in (part for target in targets for part in ast.walk(target)):
                if isinstance(name, ast.Name):
                    yield prefix + name.id, child.lineno


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_to_code_leads_to_the_definition_of_its_text(page: Path) -> None:
    links = re.findall(r"\[`([^`]+)`\]\(([^)#]+\.py)(?:#([\w.]+))?\)", page.read_text(encoding="utf-8"))
    assert len(links) >= 10
    for text, path, symbol in links:
        file = (page.parent / path).resolve()
        if not symbol:
            assert file.is_file() and file.name == text, text
            continue
        line = file.read_text(encoding="utf-8").splitlines()[line_of(file, symbol) - 1]
        assert text == symbol and re.search(rf"\b{symbol.split('.')[-1]}\b", line), (text, symbol, line)


def test_every_activation_loss_layer_and_update_rule_is_on_the_pages() -> None:
    linked = {
        symbol for page in PAGES for symbol in re.findall(r"\.py#(\w+)", page.read_text(encoding="utf-8"))
    }
    rules = {name for name in OPTIMIZERS if name != "adamw"}
    kinds = {name for module in (layers, schedules) for name in module.__all__ if name[0].isupper()}
    assert ({*ACTIVATIONS, *LOSSES, *rules} | kinds) - linked == {"Layer", "Schedule"}
