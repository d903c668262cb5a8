"""Texts stay texts, whatever they contain."""

import pytest

from ffnn_gpu.report.markup import Html, element, escaped, isolated, joined, name_of
from tests.report.reader import read

HOSTILE = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror='alert(1)'>",
    "a & b &lt; c",
    "</title></svg></style><b>",
    "אבג",
    "\u202eright to left\u202c",
    "🎉 party",
    "]]>",
    "<!--",
    "'quoted' \"twice\" `ticks`",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_text_is_read_back_as_it_is_in_content_and_attribute(text):
    (node,) = read(element("p", text, title=text)).children
    assert node.name == "p" and node.attributes == {"title": text} and node.children == [text]


def test_html_is_not_escaped_and_html_plus_text_is():
    made = element("b", "1 < 2")
    assert made == "<b>1 &lt; 2</b>" and isinstance(made, Html)
    assert escaped(made) is made
    assert element("p", made + " < 3") == "<p>&lt;b&gt;1 &amp;lt; 2&lt;/b&gt; &lt; 3</p>"


def test_characters_that_no_page_can_hold_are_replaced():
    assert escaped("a\x00b\x1bc\udc80d\ufffee\tf\n") == "a\ufffdb\ufffdc\ufffdd\ufffde\tf\n"
    escaped("\udcff").encode("utf-8")


def test_attributes_are_named_as_in_html_and_may_be_left_out():
    assert element(
        "td", class_="number", aria_label="a", tabindex=0, title=None, hidden=False, open=True
    ) == ('<td class="number" aria-label="a" tabindex="0" open></td>')
    assert element("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_name_is_isolated_and_a_long_one_is_cut():
    assert name_of("אבג") == "<bdi>אבג</bdi>"
    cut = read(name_of("x" * 100)).children[0]
    assert cut.text == "x" * 59 + "…" and cut.attributes["title"] == "x" * 100
    assert len(read(name_of("x" * 999)).children[0].attributes["title"]) == 300
    assert isolated("אבג") == "\u2068אבג\u2069"


def test_joined_escapes_the_separator_too():
    assert joined(["a", Html("<br>")], " < ") == "a &lt; <br>"
