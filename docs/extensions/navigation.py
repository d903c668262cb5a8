"""The navigation beside each page: all pages, under the captions of docs/index.md.

Why not the theme's own: it copies the table of contents of the whole site for each page. This one, and
source pages without the theme, took the build of 39 pages and 88 source pages from 17.7 to 13.7 s of
processor time (`scripts/docs.py --here`, a busy machine with 2 cores).
"""

import re
from pathlib import Path
from typing import Any

from sphinx import addnodes

PATTERN = re.compile(r"[\w/]*\*\n")
Group = tuple[str, list[str]]  # a caption and pages


def drop_empty_patterns(app: Any, docname: str, source: list[str]) -> None:
    """Leave out patterns that match no page: Sphinx warns of them, without a name to suppress."""
    if docname == app.config.root_doc:
        folder = Path(app.srcdir, docname).parent
        lines = source[0].splitlines(keepends=True)
        kept = [line for line in lines if not PATTERN.fullmatch(line) or [*folder.glob(line.strip() + ".md")]]
        source[0] = "".join(kept)


def groups(app: Any) -> list[Group]:
    """Return the captions of the first page with their pages; found once."""
    if not hasattr(app.env, "navigation"):
        first = app.env.get_doctree(app.config.root_doc)
        app.env.navigation = [
            (node["caption"], [docname for _, docname in node["entries"]])
            for node in first.findall(addnodes.toctree)
            if node["entries"]
        ]
    found: list[Group] = app.env.navigation
    return found


def show(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Give the template its groups of pages, with the pages below the one that is open."""
    env = app.env
    context["groups"] = groups(app)
    context["title_of"] = lambda docname: env.titles[docname].astext()
    context["below"] = lambda docname: (
        env.toctree_includes.get(docname, [])
        if page == docname or page in env.toctree_includes.get(docname, [])
        else []
    )


def setup(app: Any) -> dict[str, bool]:
    """Connect the navigation to Sphinx."""
    app.connect("source-read", drop_empty_patterns)
    app.connect("html-page-context", show)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
