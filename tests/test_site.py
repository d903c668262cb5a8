"""What the extensions of the site read from the repository. `scripts/docs.py` builds it and checks links."""

import fnmatch
import importlib
import itertools
import re
import shutil
from pathlib import Path

import pytest

import ffnn_gpu
from docs.extensions import public_names, symbols
from docs.extensions.docstrings import summary, to_rst

ROOT = Path(__file__).parents[1]
PROSE = [*sorted(ROOT.glob("*.md")), *sorted(ROOT.glob("docs/**/*.md")), ROOT / "examples" / "README.md"]
# The modules that the package's own docstring names, and those of the estimators
MODULES = [
    "ffnn_gpu", *(f"ffnn_gpu.{name}" for name in re.findall(r"\w+", "\n".join(
        re.findall(r"^    (.*?)  {2,}", ffnn_gpu.__doc__ or "", re.M)
    ))),
    "ffnn_gpu.estimators", "ffnn_gpu.estimators.tuning",
]  # fmt: skip


def undescribed() -> list[str]:
    """Return the public names that no page of the reference describes."""
    found = {id(each.value) for names in public_names.described().values() for each in names}
    missing = []
    for name in MODULES:
        module = importlib.import_module(name)
        missing += [
            f"{name}.{key}" for key in public_names.names_of(module) if id(getattr(module, key)) not in found
        ]
    return missing


def test_every_public_name_has_an_entry_in_the_reference() -> None:
    assert len(MODULES) > 12
    assert undescribed() == []


def test_name_without_an_entry_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(public_names.REFERENCE, tmp_path / "reference")
    (tmp_path / "reference" / "testing.md").unlink()
    monkeypatch.setattr(public_names, "REFERENCE", tmp_path / "reference")
    assert undescribed() == [f"ffnn_gpu.testing.{name}" for name in ffnn_gpu.testing.__all__]


def test_every_described_name_has_a_docstring_and_a_source() -> None:
    for names in public_names.described().values():
        for each in names:
            file = Path(importlib.import_module(each.module).__file__)
            path, first, last = symbols.locate(file, each.name)
            statement = "\n".join(path.read_text(encoding="utf-8").splitlines()[first - 1 : last])
            assert re.search(rf"\b{each.name}\b", statement), each.path
            assert each.is_data or summary(each.value.__doc__), each.path


def test_every_page_is_in_the_navigation() -> None:
    entries = []
    for page in ("docs/index.md", "docs/reference/index.md"):
        for tree in re.findall(r"```\{toctree\}\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.S):
            folder = (ROOT / page).parent
            entries += [
                str((folder / line).resolve()) for line in tree.splitlines() if line and line[0] != ":"
            ]
    pages = [path for path in (ROOT / "docs").rglob("*.md") if path != ROOT / "docs" / "index.md"]
    lost = [str(p) for p in pages if not any(fnmatch.fnmatch(str(p.with_suffix("")), e) for e in entries)]
    assert lost == []


@pytest.mark.parametrize(
    ("file", "symbol", "beginning"),
    [
        ("ffnn_gpu/nn/layers/dense.py", "Dense.forward", "    def forward(self, backend: Backend"),
        ("ffnn_gpu/__init__.py", "Dense", "class Dense(Layer):"),  # imported
        ("ffnn_gpu/__init__.py", "Model", "class Model:"),  # imported for type checkers only
        ("ffnn_gpu/nn/initializers.py", "uniform", "normal, uniform = Normal(), Uniform()"),
        ("ffnn_gpu/optim/optimizers.py", "Optimizer.lr", "    lr: float = 1e-3"),
        ("ffnn_gpu/backends/cuda/formulas.cuh", "bias_activation", "__device__ void bias_activation("),
    ],
)
def test_symbol_is_found_at_its_line(file: str, symbol: str, beginning: str) -> None:
    path, first, last = symbols.locate(ROOT / file, symbol)
    assert path.read_text(encoding="utf-8").splitlines()[first - 1].startswith(beginning)
    assert last >= first


@pytest.mark.parametrize("symbol", ["Sparse", "Dense.sideways", "backend"])
def test_unknown_symbol_raises(symbol: str) -> None:
    with pytest.raises(symbols.UnknownSymbolError, match=rf"dense.py does not define {symbol}"):
        symbols.locate(ROOT / "ffnn_gpu" / "nn" / "layers" / "dense.py", symbol)


DOCSTRING = """a = φ(x W + b)      x (B, I)   W (I, O)

    Read *no* markup: |d| ≤ x_, but `code` and `Dense`s.

        y = 2 * x
        z = 3

    Args:
        lr, l2: both, over
            two lines with `code`.
        n: a number.

    Raises:
        ShapeError: x does not fit.
    """
AS_RST = r"""::

    a = φ(x W + b)      x (B, I)   W (I, O)

Read \*no\* markup: \|d\| ≤ x\_, but ``code`` and :py:obj:`Dense <ffnn_gpu.layers.Dense>`\ s.

::

    y = 2 * x
    z = 3

:Args:
    - ``lr``, ``l2``: both, over two lines with ``code``.
    - ``n``: a number.

:Raises:
    - :py:obj:`ShapeError <ffnn_gpu.errors.ShapeError>`: x does not fit."""


def test_docstring_keeps_formulas_and_lists_arguments() -> None:
    links = {"Dense": "ffnn_gpu.layers.Dense", "ShapeError": "ffnn_gpu.errors.ShapeError"}
    assert "\n".join(to_rst(DOCSTRING, links)).strip() == AS_RST
    assert summary(DOCSTRING) == "a = φ(x W + b)"


@pytest.mark.parametrize("page", PROSE, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_no_line_of_a_paragraph_begins_a_list(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    lines = ["", *text.splitlines()]
    for before, line in itertools.pairwise(lines):
        if re.match(r" {0,3}([-+*]|1[.)]) ", line):  # such as "(θ + h)", broken before "+"
            assert re.match(r"$|[ #|]|([-+*]|\d+[.)]) ", before), line
