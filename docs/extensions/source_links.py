"""Links to files of the repository → pages of the site that show these files.

A link to a file that is no page, such as `../ffnn_gpu/nn/layers/dense.py#Dense.forward`, becomes a link to
its source, at the line of the symbol. So the site is complete without a network, and the same link works
where the Markdown files are read. API entries get such links by sphinx.ext.linkcode.
"""

import html
import re
from importlib import import_module
from pathlib import Path
from typing import Any

from docutils import nodes
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import get_lexer_for_filename
from pygments.lexers.special import TextLexer
from pygments.util import ClassNotFound
from sphinx.util import logging

from docs.extensions.symbols import ROOT, UnknownSymbolError, locate

LOGGER = logging.getLogger(__name__)
FENCE = re.compile(r"^```.*?^```$", re.M | re.S)
LINK = re.compile(r"\]\((?![\w+.-]+:|#)([^)\s#]+)(#[^)\s]+)?\)")
SCHEME = "source:"
FOLDER = "source"  # of the site


def mark(app: Any, docname: str, source: list[str]) -> None:
    """Give links to files that are no pages the scheme `source:`, outside of code."""
    folder = (ROOT / docname).parent

    def marked(link: re.Match[str]) -> str:
        target = (folder / link[1]).resolve()
        is_page = target.suffix == ".md"
        if is_page or not target.exists() or not target.is_relative_to(ROOT):
            return link[0]
        return f"]({SCHEME}{target.relative_to(ROOT).as_posix()}{link[2] or ''})"

    text, end, parts = source[0], 0, []
    for fence in FENCE.finditer(text):
        parts += [LINK.sub(marked, text[end : fence.start()]), fence[0]]
        end = fence.end()
    source[0] = "".join([*parts, LINK.sub(marked, text[end:])])


def of_object(domain: str, info: dict[str, str]) -> str | None:
    """Return the link to the source of an API entry, for sphinx.ext.linkcode."""
    file = Path(import_module(info["module"]).__file__ or "")
    try:
        locate(file, info["fullname"])
    except UnknownSymbolError:
        return None  # made at run time
    return f"{SCHEME}{file.relative_to(ROOT).as_posix()}#{info['fullname']}"


def resolve(app: Any, doctree: nodes.document) -> None:
    """Turn `source:` links into relative ones, and remember their files."""
    docname = app.env.docname
    for node in doctree.findall(nodes.reference):
        if node.get("refuri", "").startswith(SCHEME):
            name, _, symbol = node["refuri"].removeprefix(SCHEME).partition("#")
            path, anchor = ROOT / name, ""
            if symbol:
                try:
                    path, first, _ = locate(path, symbol)
                    anchor = f"#line-{first}"
                except UnknownSymbolError as error:
                    LOGGER.warning("%s", error, location=node)
            place = path.relative_to(ROOT).as_posix()
            files(app.env).setdefault(docname, set()).add(place)
            node["refuri"] = f"{'../' * docname.count('/')}{FOLDER}/{place}.html{anchor}"


def files(env: Any) -> dict[str, set[str]]:
    """Return {page: files it links to}."""
    if not hasattr(env, "source_links"):
        env.source_links = {}
    found: dict[str, set[str]] = env.source_links
    return found


def write_pages(app: Any, exception: Exception | None) -> None:
    """Write a page for each file that is linked to; a folder is a list of its files.

    Why not by `html-collect-pages`: the theme's templates take 0.1 s for each page.
    """
    if exception:
        return
    wanted = {name for names in files(app.env).values() for name in names}
    folders = {name for name in wanted if (ROOT / name).is_dir()}
    wanted |= {
        f"{name}/{path.name}" for name in folders for path in (ROOT / name).iterdir() if path.is_file()
    }
    for name in sorted(wanted):
        body = listing(ROOT / name) if name in folders else shown(ROOT / name)
        title = f"<h1><code>{html.escape(name)}</code></h1>"
        context = {"title": name, "body": title + body, "root": "../" * (name.count("/") + 1)}
        place = Path(app.outdir, FOLDER, f"{name}.html")
        place.parent.mkdir(parents=True, exist_ok=True)
        text = app.builder.templates.render("source.html", context | {"project": app.config.project})
        place.write_text(text, encoding="utf-8")


def listing(folder: Path) -> str:
    """Return the files of a folder as links."""
    entries = (html.escape(path.name) for path in sorted(folder.iterdir()) if path.is_file())
    links = (f'<li><a href="{folder.name}/{name}.html"><code>{name}</code></a></li>' for name in entries)
    return f"<ul>{''.join(links)}</ul>"


def shown(path: Path) -> str:
    """Return a file with numbered lines."""
    try:
        lexer = get_lexer_for_filename(path.name)
    except ClassNotFound:
        lexer = TextLexer()
    form = HtmlFormatter(linenos="inline", linespans="line")
    return str(highlight(path.read_text(encoding="utf-8"), lexer, form))


def setup(app: Any) -> dict[str, bool]:
    """Connect the links to Sphinx."""
    app.connect("source-read", mark, priority=900)  # after the reference wrote its blocks
    app.connect("doctree-read", resolve, priority=900)  # after linkcode
    app.connect("build-finished", write_pages)
    return {"parallel_read_safe": False, "parallel_write_safe": True}
