"""Pages of the API reference: a table of names, then each name with its signature, docstring and source."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

from docs.extensions import docstrings, public_names, symbols
from docs.extensions.public_names import BLOCK, TOP, PublicName


class Reference:
    """What the package's public names are, found once for all pages."""

    def __init__(self) -> None:
        self.pages = public_names.described()
        self.all = [name for names in self.pages.values() for name in names]
        self.links = {each.name: each.path for each in self.all}
        self.paths = {id(each.value): each.path for each in self.all}

    def fill(self, app: Any, docname: str, source: list[str]) -> None:
        """Replace the blocks of a page by a table and the descriptions of its names."""
        if docname.startswith("docs/reference/"):
            own = self.pages[f"{Path(docname).name}.md"]
            source[0] = BLOCK.sub(lambda block: self.block(block[1], block[2], own), source[0])

    def block(self, module: str, chosen: str | None, own: list[PublicName]) -> str:
        """Return the text of a block in Markdown."""
        names = chosen.split(", ") if chosen else public_names.names_of(import_module(module))
        here = [each for each in own if each.module == module and each.name in names]
        lines = [*self.table(module, names)]
        for each in here:
            lines += data(each) if each.is_data else automatic(each)
        return "\n".join(["```{eval-rst}", *lines, "```"])

    def table(self, module: str, names: list[str]) -> Iterator[str]:
        """Yield a table of names and what they are; those of other pages are links there."""
        yield from (".. list-table::", "   :widths: 30 70", "   :class: names", "")
        for name in sorted(names, key=str.lower):
            value = getattr(import_module(module), name)
            entry = PublicName(module, name, value)
            text = in_short(entry) if entry.is_data else self.sentence(value)
            yield f"   * - :py:obj:`{name} <{self.paths[id(value)]}>`"
            yield f"     - {text}"
        yield ""

    def sentence(self, value: Any) -> str:
        """Return the first sentence of a docstring."""
        return docstrings.inline(docstrings.summary(value.__doc__), self.links)

    def docstring(self, app: Any, what: str, name: str, value: Any, options: Any, lines: list[str]) -> None:
        """Translate a docstring; autodoc calls this for each."""
        lines[:] = docstrings.to_rst("\n".join(lines), self.links)


def automatic(each: PublicName) -> Iterator[str]:
    """Yield the directive that describes a class or function by its docstring."""
    kind = "class" if isinstance(each.value, type) else "function"
    yield f".. auto{kind}:: {each.path}"
    if kind == "class" and not issubclass(each.value, Exception):
        yield from ("   :members:", "   :special-members: __call__")
    yield ""


def statement(each: PublicName) -> list[str]:
    """Return the lines of the statement that makes an object, with the comment above it."""
    path, first, last = symbols.locate(Path(import_module(each.module).__file__ or ""), each.name)
    lines = path.read_text(encoding="utf-8").splitlines()
    while lines[first - 2].startswith("# ") and "---" not in lines[first - 2]:
        first -= 1
    return lines[first - 1 : last]


def in_short(each: PublicName) -> str:
    """Return the formula in the comment of the statement, else the beginning of the statement's value."""
    lines = statement(each)
    formula = re.search(r"# (\S+ = [^#]*)", "\n".join(lines))
    if formula:
        return docstrings.inline(re.split(r"[:,]? *\n|: ", formula[1])[0], {})
    node = ast.parse("\n".join(lines)).body[0]
    values, targets = node.value, node.targets[0]
    if isinstance(targets, ast.Tuple):  # normal, uniform = Normal(), Uniform()
        values = values.elts[[target.id for target in targets.elts].index(each.name)]
    text = ast.unparse(values)
    return f"``{text if len(text) < 80 else text[:78] + '…'}``"


def data(each: PublicName) -> Iterator[str]:
    """Yield the description of an object that is data: the statement that makes it."""
    yield from (f".. py:data:: {each.name}", f"   :module: {each.module}", "")
    yield from ("   .. code-block:: python", "")
    yield from (f"      {line}" for line in statement(each))
    yield ""


def is_hidden(app: Any, what: str, name: str, value: Any, skip: bool, options: Any) -> bool | None:
    """Leave out members that another library makes, such as scikit-learn's set_fit_request."""
    owner = getattr(value, "__module__", None) or getattr(getattr(value, "fget", None), "__module__", "")
    made = str(getattr(value, "__doc__", "")).startswith("Alias for field number")
    return True if made or (owner and not owner.startswith(TOP)) else None


def setup(app: Any) -> dict[str, bool]:
    """Connect the reference to Sphinx."""
    reference = Reference()
    app.connect("source-read", reference.fill)
    app.connect("autodoc-process-docstring", reference.docstring)
    app.connect("autodoc-skip-member", is_hidden)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
