"""Find the lines of a function, class, method or module-level name in a file, without importing it.

A link such as `../ffnn_gpu/optim/optimizers.py#Optimizer.step` then stays right when lines move.
"""

import ast
import functools
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


class UnknownSymbolError(LookupError):
    """The file does not define the symbol; the message names both."""


def locate(path: Path, symbol: str) -> tuple[Path, int, int]:
    """Return (file, first line, last line) of a symbol, such as "Dense.forward", from 1.

    If the file imports the symbol from this package, its own file is returned. In a file that is not Python,
    the symbol is the first line that contains it as a word.

    Raises:
        UnknownSymbolError: the file does not have it.
    """
    if path.suffix != ".py":
        lines = path.read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            if re.search(rf"\b{re.escape(symbol)}\b", line):
                return path, number, number
        raise UnknownSymbolError(f"{path.name} does not contain {symbol}")
    first, *inner = symbol.split(".")
    for node in statements(path):
        if isinstance(node, ast.ImportFrom):
            names = {alias.asname or alias.name: alias.name for alias in node.names}
            if first in names and (source := module_file(node.module or "")) not in (None, path):
                return locate(source, ".".join([names[first], *inner]))
        elif first in defined(node):
            return path, *lines_of(node, inner, f"{path.name} does not define {symbol}")
    raise UnknownSymbolError(f"{path.name} does not define {symbol}")


def lines_of(node: ast.AST, inner: list[str], complaint: str) -> tuple[int, int]:
    """Return the first and last line of a definition, or of a member of a class."""
    for name in inner:
        members = [found for found in getattr(node, "body", []) if name in defined(found)]
        if not members:
            raise UnknownSymbolError(complaint)
        node = members[0]
    return node.lineno, node.end_lineno  # type: ignore[attr-defined, return-value]


def defined(node: ast.AST) -> set[str]:
    """Return the names that a statement defines."""
    if isinstance(node, DEFINITIONS):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
    names = [each for target in targets if target is not None for each in ast.walk(target)]
    return {each.id for each in names if isinstance(each, ast.Name)}


@functools.cache
def statements(path: Path) -> list[ast.stmt]:
    """Return the statements of a module, those of `if` blocks included, definitions before imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = [*tree.body]
    for node in tree.body:
        if isinstance(node, ast.If):
            found += [*node.body, *node.orelse]
    return sorted(found, key=lambda node: isinstance(node, ast.ImportFrom))


def module_file(module: str) -> Path | None:
    """Return the file of a module of this repository."""
    place = ROOT.joinpath(*module.split("."))
    files = place.with_suffix(".py"), place / "__init__.py"
    return next((file for file in files if file.is_file()), None)
