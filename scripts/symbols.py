"""Find the line on which a Python file defines a name: `file.py#NAME` → line.

Pages link to code by name, such as `../ffnn_gpu/nn/layers/dense.py#Dense.backward`, because line numbers
change with every edit. Whoever needs the line asks `line_of`.
"""

import ast
import functools
from collections.abc import Iterator
from pathlib import Path


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
