"""scripts/docs_links.py: broken links, and what is loaded from elsewhere, in pages made for this test."""

import importlib.util
from pathlib import Path

import pytest

PLACE = Path(__file__).resolve().parents[2] / "scripts" / "docs_links.py"
SPEC = importlib.util.spec_from_file_location("docs_links", PLACE)
docs_links = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(docs_links)


@pytest.mark.parametrize(
    ("element", "complaint"),
    [
        ('<a href="sub/b.html#here">', None),
        ('<a href="#top">', None),
        ('<a href="sub/">', None),
        ('<img src="data:image/png;base64,AA">', None),
        ('<link rel="canonical" href="https://example.org/a.html">', None),
        ('<a href="c.html">', "a.html: c.html: no such file"),
        ('<a href="sub/b.html#there">', "a.html: sub/b.html#there: no such place in that page"),
        ('<img src="c.png">', "a.html: c.png: no such file"),
        ('<script src="https://example.org/x.js">', "a.html loads https://example.org/x.js from elsewhere"),
        (
            '<link rel="stylesheet" href="//example.org/x.css">',
            "a.html loads //example.org/x.css from elsewhere",
        ),
    ],
)
def test_broken_links_and_loads_are_named(element: str, complaint: str | None, tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.html").write_text(f'<p id="top">{element}', encoding="utf-8")
    (tmp_path / "sub" / "b.html").write_text('<p id="here"><a href="../a.html">', encoding="utf-8")
    (tmp_path / "sub" / "index.html").write_text("", encoding="utf-8")
    assert docs_links.check(tmp_path)[0] == ([complaint] if complaint else [])


def test_links_to_elsewhere_are_listed_and_style_may_load_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text('<a href="https://example.org/">', encoding="utf-8")
    (tmp_path / "a.css").write_text("p { background: url(https://example.org/x.png) }", encoding="utf-8")
    assert docs_links.check(tmp_path) == (["a.css loads from elsewhere"], ["https://example.org/"])
