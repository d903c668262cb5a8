"""Read the formulas of docs/mathematics.md and docs/mathematics/*.md, and evaluate them.

A box is a ```text block with equations such as `dW = xᵀ δ` or `θ ← θ − η m̂/(√v̂ + ε)`, several of them in a
line if at least three spaces separate them. A space between two operands is a product: that of matrices if
both have two axes.
"""

import re
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[2]
NETWORK = ROOT / "docs" / "mathematics.md"
ACTIVATIONS, LOSSES, LAYERS, OPTIMIZERS = (
    ROOT / "docs" / "mathematics" / f"{name}.md" for name in ("activations", "losses", "layers", "optimizers")
)
PAGES = (NETWORK, ACTIVATIONS, LOSSES, LAYERS, OPTIMIZERS)

PLAIN = {
    "−": "-", "⊙": "*", "^": "**", "²": "**2", "³": "**3", "ᵗ": "**t", "ᵀ": ".T", "½": "0.5",
    "′": "_prime", "∇": "nabla_", "₁": "_1", "₂": "_2",
}  # fmt: skip
NAME = r"[^\W\d][\w\u0302]*"
TOKEN = re.compile(rf"\s*(\d+\.?\d*|{NAME}|\*\*|<=|>=|\.T|[-+*/(),<>])")
WORDS = ("if", "else")


class Product:
    """The operator between `a *J* b`: the product of two matrices, or of elements."""

    __array_ufunc__ = None  # leave `array * J` to this class

    def __init__(self, left: Any = None) -> None:
        self.left = left

    def __rmul__(self, left: Any) -> "Product":
        return Product(left)

    def __mul__(self, right: Any) -> Any:
        return self.left @ right if np.ndim(self.left) == np.ndim(right) == 2 else self.left * right


def as_python(formula: str) -> str:
    """Return a formula as an expression of Python."""
    for sign, plain in PLAIN.items():
        formula = formula.replace(sign, plain)
    formula = re.sub(r"\|([^|]+)\|", r"abs(\1)", formula)
    formula = re.sub(rf"√({NAME})", r"sqrt(\1)", formula).replace("√(", "sqrt(")
    code, place, operand = "", 0, False
    while place < len(formula.rstrip()):
        found = TOKEN.match(formula, place)
        assert found, f"{formula!r} cannot be read from {formula[place:]!r} on"
        token, apart = found[1], found[0] != found[1]
        begins = re.match(r"[\w(]", token) and token not in WORDS
        code += (" *J* " if operand and begins and apart else " " * apart) + token
        operand = token not in WORDS and (token in (")", ".T") or re.match(r"\w", token) is not None)
        place = found.end()
    return code


def value(formula: str, names: dict[str, Any]) -> Any:
    """Return the value of a formula; `names` has its variables and functions."""
    return eval(as_python(formula), {"J": Product()}, names)  # noqa: S307  our own pages


def run(box: str, names: dict[str, Any]) -> dict[str, Any]:
    """Return `names` with what the equations of a box assign, in their order."""
    names = dict(names)
    for line in box.splitlines():
        for equation in filter(None, re.split(r"\s{3,}", line)):
            name, formula = re.split(" [=←] ", equation, maxsplit=1)
            names[as_python(name)] = value(formula, names)
    return names


def boxes(page: Path) -> list[str]:
    """Return the boxes of a page."""
    return re.findall(r"^```text\n(.*?)^```$", page.read_text(encoding="utf-8"), re.M | re.S)


def rows(page: Path, heading: str) -> dict[str, list[str]]:
    """Return name → other cells of the table whose first column has this heading."""
    table = page.read_text(encoding="utf-8").split(f"| {heading} |")[1].split("\n\n")[0]
    found = {}
    for line in table.splitlines()[2:]:
        first, *cells = re.split(r"(?<!\\)\|", line.strip()[1:-1])
        names = re.findall(r"`(\w+)`", first)
        found |= {name: [cell.strip(" `").replace("\\|", "|") for cell in cells] for name in names}
    return found
