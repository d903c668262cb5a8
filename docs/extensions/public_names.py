"""The public names of the package, and the page of the reference that describes each of them.

A page holds blocks such as

    ```{public} ffnn_gpu.layers
    ```

which stand for every public name of a module, or `module: name, name` for some names of a module without
`__all__`. A name that several modules hand on is described once, under the first module below that has it.
"""

import inspect
import re
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

REFERENCE = Path(__file__).resolve().parents[1] / "reference"
BLOCK = re.compile(r"^```\{public\} ([\w.]+)(?:: ([\w, ]+))?\n```$", re.M)
TOP = "ffnn_gpu"


@dataclass(frozen=True)
class PublicName:
    """A name that users import, the module from which they import it, and its value."""

    module: str
    name: str
    value: Any

    @property
    def path(self) -> str:
        return f"{self.module}.{self.name}"

    @property
    def is_data(self) -> bool:
        """Return whether it is an object such as `relu`, and neither a function nor a class."""
        return not (inspect.isclass(self.value) or inspect.isroutine(self.value))


def names_of(module: ModuleType) -> list[str]:
    """Return the public names of a module, without its submodules."""
    names = [*getattr(module, "__all__", ())]
    names += getattr(module, "EXPORTS", ())
    names += getattr(module, "WITH_SCIKIT_LEARN", ())
    if module.__name__ == TOP:
        names += import_module("ffnn_gpu.estimators").WITH_SCIKIT_LEARN
    return [name for name in names if not isinstance(getattr(module, name), ModuleType)]


def blocks(text: str) -> list[tuple[str, list[str]]]:
    """Return (module, names) of each block of a page; the names of ffnn_gpu are those no other module has."""
    found = []
    for block in BLOCK.finditer(text):
        chosen = block[2].split(", ") if block[2] else names_of(import_module(block[1]))
        found.append((block[1], chosen))
    return found


def described() -> dict[str, list[PublicName]]:
    """Return {file of a page: the names it describes}, each name on one page only."""
    pages = {page.name: blocks(page.read_text(encoding="utf-8")) for page in sorted(REFERENCE.glob("*.md"))}
    seen: set[int] = set()
    result: dict[str, list[PublicName]] = {page: [] for page in pages}
    for page, rooms in sorted(pages.items(), key=lambda item: any(module == TOP for module, _ in item[1])):
        for module, names in rooms:
            for name in names:
                value = getattr(import_module(module), name)
                if id(value) not in seen:
                    seen.add(id(value))
                    result[page].append(PublicName(module, name, value))
    return result
