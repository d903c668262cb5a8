"""Read a page as a browser does, and complain about what is not well formed."""

from dataclasses import dataclass, field
from html.parser import HTMLParser

VOID = {"meta", "br", "col"}


@dataclass
class Node:
    """An element: its name, attributes, children (elements and texts) and parent."""

    name: str
    attributes: dict
    parent: "Node | None" = None
    children: list = field(default_factory=list)

    def all(self, *names):
        """Return all elements of these names below, in the order of the page."""
        below = [child for child in self.children if isinstance(child, Node)]
        return [
            found
            for child in below
            for found in [*([child] if child.name in names else []), *child.all(*names)]
        ]

    @property
    def text(self):
        """The text below, as a person reads it."""
        return "".join(child.text if isinstance(child, Node) else child for child in self.children)

    def within(self, name):
        """Return whether an element of this name is above."""
        return self.parent is not None and (self.parent.name == name or self.parent.within(name))


class Reader(HTMLParser):
    """Build a tree; every element must be closed by its own end tag."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.root = self.open = Node("", {})

    def handle_starttag(self, name, attributes):
        names = [key for key, _ in attributes]
        assert len(names) == len({*names}), f"<{name}> has an attribute twice: {names}"
        node = Node(name, dict(attributes), self.open)
        self.open.children.append(node)
        if name not in VOID:
            self.open = node

    def handle_endtag(self, name):
        assert self.open.name == name, f"</{name}> closes <{self.open.name}>"
        self.open = self.open.parent

    def handle_data(self, text):
        self.open.children.append(text)


def read(page):
    """Return the tree of a page."""
    reader = Reader()
    reader.feed(page)
    reader.close()
    assert reader.open is reader.root, f"<{reader.open.name}> is not closed"
    return reader.root


def exact(node):
    """Return the numbers below that carry their exact value."""
    return [float(each.attributes["value"]) for each in node.all("data")]


def section(tree, key):
    """Return the section whose address is `key`."""
    return next(each for each in tree.all("section") if each.attributes["id"] == key)


def rows(table):
    """Return the cells of each row of a table as text."""
    return [[cell.text for cell in row.all("th", "td")] for row in table.all("tr")]
