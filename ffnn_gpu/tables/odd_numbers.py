"""Texts that DuckDB takes for numbers and that are none, or are names: 1_5, +-1, 007.

The check beside the copy of a large file finds the columns that may hold one. Where a column of numbers holds
none, DuckDB parses its cells itself, which takes less time than reading the text and casting it.
"""

from collections.abc import Collection
from typing import Any

import numpy as np

BLANK = 32  # the last byte that may stand in front of a number without being a part of it
ZERO, LINE, PLUS, MINUS, LINE_FEED = b"0_+-\n"


class OddNumbers:
    """The columns of some text that may hold such a text, found block by block."""

    def __init__(self, quote: int, among: Collection[int]) -> None:
        self.quote, self.among = quote, among
        self.columns: set[int] = set()

    def add(self, block: bytes, ends: Any, rows: tuple[Any, Any, int]) -> None:
        """Look at the next lines.

        Args:
            ends: where separators and line ends lie that are outside of quotes.
            rows: their places; which of these are line ends; and the number of separators of the first row
                that lie in front of the block.
        """
        if self.columns.issuperset(self.among):
            return
        text = np.frombuffer(b"\n%b\n\n\n" % block, np.uint8)  # so that each cell has bytes around it
        few = np.flatnonzero(ends & (text[2:-2] <= ZERO))  # blanks, quotes and signs are below 0
        found = [self._begun(text[1:], np.array([0])) - 1, self._begun(text[2:], few)]
        if b"_" in block:
            at = np.flatnonzero(text == LINE)
            found.append(at[_are_digits(text[at - 1]) & _are_digits(text[at + 1])] - 1)
        if b"+" in block and b"+-" in block:  # a single byte is found ten times as fast
            found.append(np.flatnonzero((text[1:-1] == PLUS) & (text[2:] == MINUS)))
        self.columns.update(_columns(np.concatenate(found), *rows).tolist())

    def _begun(self, ahead: Any, places: Any) -> Any:
        """Return the places whose cells begin with 0 and a digit. ahead: the bytes from the first cell on.

        A quote or a blank in front of them does not matter. Two blanks count, because a 0 may follow.
        """
        first = np.take(ahead, places)
        found = [_with_two_digits(ahead, places[first == ZERO], 0)]
        led = places[(first == self.quote) | ((first <= BLANK) & (first != LINE_FEED))]
        if len(led):
            found += [_with_two_digits(ahead, led, 1), led[ahead[led + 1] <= BLANK]]
        return np.concatenate(found)


def _with_two_digits(ahead: Any, places: Any, at: int) -> Any:
    """Return the places whose cells have 0 and a digit at an index."""
    return places[(ahead[places + at] == ZERO) & _are_digits(ahead[places + at + 1])]


def _are_digits(values: Any) -> Any:
    return values - ZERO < 10  # below "0" the difference wraps around


def _columns(found: Any, places: Any, last: Any, cut: int) -> Any:
    """Return the columns of the cells behind these places, or around these bytes, of some lines."""
    if not len(found):
        return found
    ahead = np.searchsorted(places, found, side="right")  # separators and line ends up to the byte
    rows = np.searchsorted(last, ahead)  # line ends among them
    starts = np.concatenate([[-cut], last + 1])[rows]
    return np.unique(ahead - starts)
