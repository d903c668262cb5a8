"""The encoding of a text file, and its text as UTF-8.

An encoding is taken from the byte order mark, from NUL bytes (UTF-16), or is UTF-8 if the whole file decodes
as that, else Windows-1252, which has Latin-1's letters, else Latin-1. A file that begins as UTF-8 with
letters beyond ASCII and has a damaged byte later is refused: as Windows-1252 its letters would be wrong.
"""

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from ffnn_gpu.errors import ConfigurationError, DataError

BLOCK = 1 << 19
START = 1 << 18  # bytes in which UTF-16 without a mark is looked for
MARKS = {
    codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF32_BE: "utf-32", codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16",
}  # fmt: skip
UNDEFINED = re.compile(rb"[\x81\x8d\x8f\x90\x9d]")  # in Windows-1252
UTF8 = ("utf-8", "utf-8-sig")
# In UTF-16, many bytes at either even or odd places are NUL: those of ASCII. Fewer are if the text is no
# UTF-8.
MANY, SOME = 0.3, 0.05


def as_utf8(path: Path, encoding: str, source: str, scratch: Path) -> tuple[Path, str]:
    """Return a file with the same text in UTF-8, in `scratch` if need be, and the encoding.

    encoding: a name that Python knows; "" to find it out.

    Raises:
        ConfigurationError: there is no such encoding.
        DataError: the file is not text in it; the message names the line.
    """
    if encoding:
        encoding = _known(encoding)
        if encoding in UTF8:
            for _ in _texts(path, encoding, source):
                pass
    else:
        encoding = _found(path, source)
    if encoding in UTF8:
        return path, encoding
    with open(scratch / "utf8", "w", encoding="utf-8", newline="") as plain:
        for text in _texts(path, encoding, source):
            plain.write(text)
    return scratch / "utf8", encoding


def _known(encoding: str) -> str:
    """Return Python's name of an encoding of text."""
    try:
        "".encode(encoding)
        return codecs.lookup(encoding).name
    except LookupError as error:
        raise ConfigurationError(
            f"--encoding {encoding}: there is no such encoding of text; use utf-8, latin-1, cp1252, utf-16, …"
        ) from error


def _texts(path: Path, encoding: str, source: str) -> Iterator[str]:
    """Yield the text of a file in pieces. Raises DataError with the line of the first byte that is none."""
    try:
        for text in _decoded(path, encoding):
            text.encode("utf-8")
            yield text
    except UnicodeError as error:
        lines = 1
        with suppress(UnicodeError):
            for text in _decoded(path, encoding):
                text.encode("utf-8")
                lines += _line_ends(text)
        raise DataError(_undecodable(error, encoding, source, lines)) from error


def _decoded(path: Path, encoding: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder(encoding)()
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK):
            yield decoder.decode(block)
    yield decoder.decode(b"", final=True)


def _undecodable(error: UnicodeError, encoding: str, source: str, lines: int) -> str:
    what = str(error)
    if isinstance(error, UnicodeDecodeError):
        lines += _line_ends(error.object[: error.start].decode(encoding, "ignore"))
        what = f"byte 0x{error.object[error.start]:02x}, {error.reason}"
    return f"{source}, line {lines} is not text in {encoding} ({what}); name its encoding by --encoding"


def _line_ends(text: str) -> int:
    return max(text.count("\n"), text.count("\r"))


def _found(path: Path, source: str) -> str:
    with open(path, "rb") as stream:
        start = stream.read(START)
    for mark, name in MARKS.items():
        if start.startswith(mark):
            if name in UTF8:
                for _ in _texts(path, name, source):
                    pass
            return name
    if 0 in start and (name := _utf16(start)):
        return name
    if _is_ascii(path):
        return "utf-8"
    beyond_ascii = False
    try:
        for text in _texts(path, "utf-8", source):
            beyond_ascii = beyond_ascii or not text.isascii()
    except DataError as error:
        if beyond_ascii or _has_letters_before(error.__cause__):
            raise DataError(f"{error}; the lines before it are UTF-8") from error
        return "cp1252" if _is_windows(path) else "latin-1"
    return "utf-8"


def _utf16(start: bytes) -> str:
    """Return the encoding of text that begins so if it is UTF-16 without a mark, else ""."""
    even, odd = start[::2].count(0), start[1::2].count(0)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)
        share = MANY
    except UnicodeDecodeError:
        share = SOME
    if max(even, odd) < share * len(start) / 2 or min(even, odd) > max(even, odd) / 10:
        return ""
    return "utf-16-le" if odd > even else "utf-16-be"


def _has_letters_before(error: BaseException | None) -> bool:
    """Return whether a piece of UTF-8 has letters beyond ASCII before the first damaged byte."""
    if not isinstance(error, UnicodeDecodeError):
        return False
    before = error.object[: error.start]
    return not before.isascii()


def _is_ascii(path: Path) -> bool:
    with open(path, "rb") as stream:
        return all(block.isascii() for block in iter(lambda: stream.read(BLOCK), b""))


def _is_windows(path: Path) -> bool:
    """Return whether no byte is undefined in Windows-1252."""
    with open(path, "rb") as stream:
        return not any(UNDEFINED.search(block) for block in iter(lambda: stream.read(BLOCK), b""))
