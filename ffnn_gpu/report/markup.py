"""HTML elements. Every text of a page is escaped here, and nowhere else.

`Html` is text that is HTML already. Whatever else becomes a child or an attribute of an element is escaped,
so a name such as <script> stays a text. Html + str is a str, which is escaped again: a mistake shows, it
does not run.
"""

import html
import re
from collections.abc import Iterable

from ffnn_gpu.checks import shortened

VOID = ("meta", "br", "col")
# what neither HTML nor UTF-8 can hold: control characters and halves of surrogate pairs
UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
LONGEST_NAME, LONGEST_TITLE = 60, 300


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def escaped(text: object) -> Html:
    """Return a text as HTML, with ' and " escaped too; Html is returned as it is."""
    if isinstance(text, Html):
        return text
    return Html(html.escape(UNPRINTABLE.sub("\ufffd", str(text)), quote=True))


def joined(parts: Iterable[object], separator: str = "") -> Html:
    """Return the parts, escaped, one after the other."""
    return Html(escaped(separator).join(map(escaped, parts)))


def element(name: str, /, *children: object, **attributes: object) -> Html:
    """Return <name attributes>children</name>.

    attributes: `class_` is class, `aria_label` is aria-label. None and False leave one out; True gives it no
    value.
    """
    given = joined(_attribute(key, value) for key, value in attributes.items())
    if name in VOID:
        return Html(f"<{name}{given}>")
    return Html(f"<{name}{given}>{joined(children)}</{name}>")


def name_of(text: object) -> Html:
    """Return a name from the data in <bdi>, so that right-to-left letters do not turn what is beside it.

    A long name is cut, and its title holds more of it.
    """
    whole = str(text)
    title = shortened(whole, LONGEST_TITLE) if len(whole) > LONGEST_NAME else None
    return element("bdi", shortened(whole, LONGEST_NAME), title=title)


def isolated(text: object) -> str:
    """Return a name from the data for a place that holds text alone, such as a <title>: in isolates."""
    return f"\u2068{shortened(str(text), LONGEST_NAME)}\u2069"


def _attribute(key: str, value: object) -> Html:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return Html("")
    return Html(f" {name}") if value is True else Html(f' {name}="{escaped(value)}"')
