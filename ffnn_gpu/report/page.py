"""Findings → one HTML file, which loads nothing and runs nothing.

Its security policy forbids scripts and every address, should a mistake let one in.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ffnn_gpu.report.findings import Findings
from ffnn_gpu.report.markup import Html, element, isolated, joined, name_of
from ffnn_gpu.report.sections import Section, sections_of
from ffnn_gpu.version import __version__

STYLE = Path(__file__).with_name("page.css")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


class Page(NamedTuple):
    """What a page holds: the title of its window, its heading, what stands below that, and its sections."""

    title: str
    heading: Html
    below: Html
    sections: tuple[Section, ...]


def run_page(found: Findings) -> str:
    """Return the page about one run."""
    return whole_page(page_of(found))


def page_of(found: Findings) -> Page:
    """Return what the page about one run holds."""
    heading = joined([name_of(found.data), *([": ", name_of(found.target)] if found.target else [])])
    title = f"{isolated(found.data)}: report of a training run"
    below = joined(["Run ", name_of(found.name), ", ", found.task])
    return Page(title, heading, below, tuple(sections_of(found)))


def rendered(sections: Iterable[Section], prefix: str = "", level: int = 2) -> Html:
    """Return the sections with headings of this level."""
    return joined(_rendered(section, f"{prefix}{section.key}", level) for section in sections)


def _rendered(section: Section, address: str, level: int) -> Html:
    heading = element(f"h{level}", section.title, id=f"{address}-title")
    return element("section", heading, section.body, id=address, aria_labelledby=f"{address}-title")


def whole_page(page: Page, policy: str = POLICY, script: Html = Html("")) -> str:
    """Return a page as HTML: a link past the contents, a heading, the contents and the sections.

    script: <script>, which the policy must allow; no file has one.
    """
    links = (element("li", element("a", each.title, href=f"#{each.key}")) for each in page.sections)
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=policy),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", page.title),
        element("style", Html(STYLE.read_text(encoding="utf-8"))),
    )
    parts = element(
        "body",
        element("a", "Skip to the content", href="#content", class_="skip"),
        element("header", element("h1", page.heading), element("p", page.below)),
        element("nav", element("ul", *links), aria_label="Contents"),
        element("main", rendered(page.sections), id="content", tabindex=-1),
        element("footer", element("p", f"Written by ffnn_gpu {__version__}.")),
        script,
    )
    return f"<!doctype html>\n{element('html', head, parts, lang='en')}\n"
