"""Every error of docs/faq.md is real.

In each entry, the first block of Python raises the error that is quoted above it, and the others, the
remedies, run. An entry without Python quotes a message that the source contains.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docs" / "faq.md").read_text(encoding="utf-8")
SHARED = re.search(r"^```python\n(.*?)^```$", TEXT, re.M | re.S)[1]


def entries() -> Iterator[tuple[str, tuple[str, str, list[str]]]]:
    """Yield the title of each entry, with the kind and the message of its error and its blocks of Python."""
    for title, text in re.findall(r"^### (.*?)\n(.*?)(?=^##|\Z)", TEXT, re.M | re.S):
        kind, message = re.search(r"```text\n(\w+): (.*?)\n```", text, re.S).groups()
        blocks = re.findall(r"```python\n(.*?)```", text, re.S)
        yield title, (kind, message.replace("\n", " "), blocks)


ENTRIES = dict(entries())


def run(code: str, names: dict[str, Any]) -> None:
    """Run a block with these names."""
    exec(compile(code, "docs/faq.md", "exec"), names)  # noqa: S102  our own page


def patterns(tree: ast.AST) -> Iterator[str]:
    """Yield a pattern for each text of a file that has at least ten characters besides its values."""
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value if isinstance(part, ast.Constant) else None for part in node.values]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            parts = [node.value]
        else:
            continue
        if sum(len(part) for part in parts if part) >= 10:
            yield "".join(".+" if part is None else re.escape(part) for part in parts)


@pytest.mark.parametrize("title", [title for title, (_, _, blocks) in ENTRIES.items() if blocks])
def test_code_raises_the_quoted_error_and_the_remedy_runs(
    title: str, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    kind, message, (cause, *remedies) = ENTRIES[title]
    names: dict[str, Any] = {}
    run(SHARED, names)
    with pytest.raises(Exception, match=f"^{re.escape(message)}$") as raised:
        run(cause, names)
    assert type(raised.value).__name__ == kind
    for remedy in remedies:
        run(remedy, names)


def is_in_source(message: str, texts: list[str]) -> bool:
    """Return whether a text in one of these files gives this message."""
    words = set(re.findall(r"\b[a-z]{4,}\b", message))
    near = (text for text in texts if 3 * sum(word in text for word in words) > len(words))  # parse few
    return any(re.fullmatch(pattern, message) for text in near for pattern in patterns(ast.parse(text)))


def test_every_other_message_is_in_the_source() -> None:
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "ffnn_gpu").rglob("*.py")]
    errors = (ROOT / "ffnn_gpu" / "errors.py").read_text(encoding="utf-8")
    others = [(kind, message) for kind, message, blocks in ENTRIES.values() if not blocks]
    assert 3 <= len(others) < len(ENTRIES) / 3
    for kind, message in others:
        assert f"class {kind}(" in errors
        assert is_in_source(message, texts), message
