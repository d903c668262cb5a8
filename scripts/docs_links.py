"""Check the pages of the site: links lead somewhere, and nothing is loaded from elsewhere."""

import os
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src", "source": "src", "video": "src"}
NOT_LOADED = {"canonical", "alternate", "author", "help", "search", "index", "next", "prev"}  # rel of <link>
IN_STYLE = re.compile(r"""@import\s+["']?(?:https?:)?//|url\(\s*["']?(?:https?:)?//""")


class Page(HTMLParser):
    """What a page links to, loads, and can be linked to."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.anchors = set(), set(), set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.anchors |= {attributes[key] for key in ("id", "name") if attributes.get(key)}
        if tag == "a" and attributes.get("href"):
            self.links.add(attributes["href"])
        elif attributes.get(LOADING.get(tag)) and not NOT_LOADED & set(attributes.get("rel", "").split()):
            self.loads.add(attributes[LOADING[tag]])


def check(site):
    """Return (complaints, external links) of all pages of a folder, both sorted."""
    pages = {
        path: Page(path.read_text(encoding="utf-8"))
        for path in sorted(site.rglob("*.html"))
        if "_static" not in path.parts
    }
    complaints, external = set(), set()
    for path, page in pages.items():
        here = path.relative_to(site).as_posix()
        for link in page.links | page.loads:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    complaints.add(f"{here} loads {link} from elsewhere")
                elif parts.scheme in ("http", "https"):
                    external.add(link)
            elif wrong := broken(path, unquote(parts.path), unquote(parts.fragment), pages):
                complaints.add(f"{here}: {link}: {wrong}")
    for path in site.rglob("*.css"):
        if IN_STYLE.search(path.read_text(encoding="utf-8")):
            complaints.add(f"{path.relative_to(site).as_posix()} loads from elsewhere")
    return sorted(complaints), sorted(external)


def broken(path, place, anchor, pages):
    """Return what is wrong with a link from a page to a place of the site; None if nothing is."""
    target = Path(os.path.normpath(path.parent / place)) if place else path
    if target.is_dir():
        target = target / "index.html"
    if not target.is_file():
        return "no such file"
    if anchor and target in pages and anchor not in pages[target].anchors:
        return "no such place in that page"
    return None
