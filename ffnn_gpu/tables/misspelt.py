"""Classes of a target that are probably another class, misspelt: `yse` beside `yes`, `Yes` beside `yes`."""

import re
from collections.abc import Iterator, Mapping

from ffnn_gpu.checks import counted
from ffnn_gpu.tables.cells import holding
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.table import Table

MOST_CLASSES = 1000
FEW = 2  # rows of a misspelt class
BETWEEN_WORDS = re.compile(r"[\s_']|(?<!\d)\.|\.(?!\d)|(?<=[^\W\d])-(?=[^\W\d])")
NUMBERS = re.compile(r"\d[\d.,]*")
OFTEN = 20  # times as many rows has the class that is meant


def misspelt(table: Table, place: int, spelling: Spelling) -> Iterator[str]:
    """Yield a sentence for each class of a target that is written almost as a more frequent one."""
    cells = table.levels(place, most=MOST_CLASSES + 1)
    counts: dict[str, int] = {}
    for cell, count in cells.items():
        if not spelling.is_missing(cell):
            counts[cell.strip()] = counts.get(cell.strip(), 0) + count
    if len(cells) > MOST_CLASSES or all(spelling.value(text) is not None for text in counts):
        return
    for text, meant in _pairs(counts):
        written = [cell for cell in cells if cell.strip() == text]
        ((where, _),) = holding(table, place, written, 1)
        yield (
            f"class {text!r} has {counted(counts[text], 'row')}, the first in {where}, and {meant!r} has "
            f"{counts[meant]:,}; correct the cells if both mean the same"
        )


def _pairs(counts: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    """Yield (class, the class that it probably means), in the order of the classes."""
    frequent = sorted(counts, key=lambda text: -counts[text])
    for text, count in counts.items():
        larger = (other for other in frequent if (counts[other], text) > (count, other))
        for other in larger:
            is_rare = count <= FEW and counts[other] >= OFTEN * count
            if _letters(text) == _letters(other) or (is_rare and _is_slip(text, other)):
                yield text, other
                break


def _letters(text: str) -> str:
    """Return a text without case, blanks, and the signs between words."""
    return BETWEEN_WORDS.sub("", text).casefold() or text


def _is_slip(a: str, b: str) -> bool:
    """Return whether one letter in three or fewer differs, at most two; numbers must agree."""
    a, b = a.casefold(), b.casefold()
    if NUMBERS.findall(a) != NUMBERS.findall(b) or abs(len(a) - len(b)) > 2:
        return False
    return distance(a, b) <= min(2, max(len(a), len(b)) // 3)


def distance(a: str, b: str) -> int:
    """Return how many letters are changed, added, left out or exchanged with their neighbour.

    Reference: R. Lowrance and R. Wagner, An Extension of the String-to-String Correction Problem, J. ACM 22,
    1975; without further changes of exchanged letters.
    """
    before: list[int] = []
    last: list[int] = [*range(len(b) + 1)]
    for i, x in enumerate(a, 1):
        row: list[int] = [i]
        for j, y in enumerate(b, 1):
            row.append(min(last[j] + 1, row[j - 1] + 1, last[j - 1] + (x != y)))
            if i > 1 and j > 1 and x == b[j - 2] and y == a[i - 2]:
                row[j] = min(row[j], before[j - 2] + 1)
        before, last = last, row
    return last[-1]
