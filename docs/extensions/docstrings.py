"""Docstrings of this package → reStructuredText.

They are plain text: `code` in backticks, formulas with two or more spaces between their parts or indented,
and sections such as "Args:". Everything else is escaped, so that |d|, x_ and * mean themselves.
"""

import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping

SECTION = re.compile(r"^(Args|Attributes|Returns|Raises):$")
NAMED = re.compile(r"^([\w*]+(?:, [\w*]+)*): (.*)$", re.S)
COLUMNS = re.compile(r"\S {3,}\S")  # parts of a formula, or columns of a table


def to_rst(docstring: str, links: Mapping[str, str]) -> list[str]:
    """Return the lines of a docstring in reStructuredText; `links` maps names in backticks to objects."""
    found: list[str] = []
    for block in blocks(inspect.cleandoc(docstring).splitlines()):
        head, *body = block
        if SECTION.match(head):
            found += section(head, textwrap.dedent("\n".join(body)).splitlines(), links)
        elif head.startswith(" ") or any(COLUMNS.search(line) for line in block):
            found += literal(block)
        elif head.startswith("- "):
            found += ["- " + inline(item, links) for item in bullets(block)]
        else:
            found.append(inline(" ".join(block), links))
        found.append("")
    return found


def blocks(lines: list[str]) -> Iterator[list[str]]:
    """Yield paragraphs, indented blocks, and sections with their indented bodies."""
    block: list[str] = []
    for line in [*lines, ""]:
        in_section = bool(block) and bool(SECTION.match(block[0]))
        ends = not line.startswith(" ") if in_section else not line
        begins = bool(block) and not in_section and line.startswith(" ") != block[0].startswith(" ")
        is_list = bool(block) and block[0].startswith("- ")
        if block and (ends or (begins and not is_list)) and not (in_section and not line):
            yield trimmed(block)
            block = []
        if line or block:
            block.append(line)
    if block:
        yield trimmed(block)


def trimmed(block: list[str]) -> list[str]:
    """Return a block without its empty last lines."""
    while block and not block[-1]:
        block = block[:-1]
    return block


def section(head: str, body: list[str], links: Mapping[str, str]) -> list[str]:
    """Return a section as a field; entries such as "name: text" become a list."""
    entries = list(items(body))
    if not all(NAMED.match(entry) for entry in entries):
        text = to_rst("\n".join(body), links)
        return [f":{head}", *(f"    {line}" if line else "" for line in text)]
    found = [f":{head}"]
    for entry in entries:
        names, text = NAMED.match(entry).groups()  # type: ignore[union-attr]
        shown = ", ".join(name_shown(name, links) for name in names.split(", "))
        found.append(f"    - {shown}: {inline(text, links)}")
    return found


def name_shown(name: str, links: Mapping[str, str]) -> str:
    """Return the name of an argument, or of an exception with a link."""
    return f":py:obj:`{name} <{links[name]}>`" if name.endswith("Error") and name in links else f"``{name}``"


def items(body: list[str]) -> Iterator[str]:
    """Yield the entries of a section: lines at its margin with their continuation lines."""
    entry: list[str] = []
    for line in body:
        if entry and line and not line.startswith(" "):
            yield " ".join(entry)
            entry = []
        if line:
            entry.append(line.strip())
    if entry:
        yield " ".join(entry)


def bullets(block: list[str]) -> Iterator[str]:
    """Yield the items of a list with their continuation lines."""
    for item in re.split(r"\n- ", "\n".join(block).removeprefix("- ")):
        yield " ".join(line.strip() for line in item.splitlines())


def literal(block: list[str]) -> list[str]:
    """Return lines that keep their spaces."""
    return ["::", "", *(f"    {line}" for line in textwrap.dedent("\n".join(block)).splitlines())]


def inline(text: str, links: Mapping[str, str]) -> str:
    """Return one line of text with its code marked and all else escaped."""
    parts = re.split(r"`([^`]+)`", re.sub(r"\s+", " ", text))
    parts[::2] = [re.sub(r"([\\*`|_])", r"\\\1", part) for part in parts[::2]]
    for k in range(1, len(parts), 2):
        code = parts[k]
        shown = f":py:obj:`{code} <{links[code]}>`" if code in links else f"``{code}``"
        before = "\\ " if parts[k - 1][-1:].isalnum() else ""
        after = "\\ " if parts[k + 1][:1].isalnum() else ""
        parts[k] = before + shown + after
    return "".join(parts).strip()


def summary(docstring: str | None) -> str:
    """Return the first sentence or formula of a docstring."""
    first = next(blocks(inspect.cleandoc(docstring or "").splitlines()), [""])
    text = re.split(r" {3,}", first[0])[0] if COLUMNS.search(first[0]) else " ".join(first)
    return re.split(r"(?<=[\w)`”])\. ", text)[0].rstrip(".:")
