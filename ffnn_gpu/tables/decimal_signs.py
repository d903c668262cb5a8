"""Which sign is the decimal one, "." or ",", and which groups thousands.

Some cells prove it: 0.5, 12.25 and 1,234.50 the point, 0,5, 1.234,56 and 1.234.567 the comma. `1.234` alone
may be either. Beside whole numbers of at most three digits in its column it has groups. Where nothing
decides, a remark says how such cells are read.
"""

import re
from collections import Counter
from collections.abc import Sequence

OTHER = {".": ",", ",": "."}
SIGNS = re.compile(r"[\s$€£¥₹%]|EUR|USD|GBP|CHF")  # around a number


def grouped(decimal: str) -> str:
    """Return the pattern of numbers whose thousands are grouped by the sign that is not `decimal`."""
    return rf"[+-]?[1-9]\d{{0,2}}([{OTHER[decimal]}]\d{{3}})+([{decimal}]\d*)?"


GROUPED = {decimal: re.compile(grouped(decimal), re.ASCII) for decimal in OTHER}
ONE_GROUP = {sign: re.compile(rf"[+-]?[1-9]\d{{0,2}}[{sign}]\d{{3}}") for sign in OTHER}
DECIMAL = {sign: re.compile(rf"[+-]?(\d+[{sign}]\d*|[{sign}]\d+)([eE][+-]?\d+)?") for sign in OTHER}
NUMBER = re.compile(r"[+-]?\d[\d.,]*")
SHORT = re.compile(r"[+-]?\d{1,3}")  # a whole number without a group


def decimal_sign(rows: Sequence[Sequence[str]], separator: str, usual: str = "") -> tuple[str, str]:
    """Return the decimal sign of most numbers, and a number that may be meant otherwise, "" if none is.

    In rows separated by commas, the point is the decimal sign unless a cell proves the comma.

    usual: the sign of another table, which is taken where the cells decide nothing.
    """
    columns = [
        [row[k].strip() for row in rows if k < len(row)] for k in range(max(map(len, rows), default=0))
    ]
    proofs = Counter(sign for column in columns for cell in column if (sign := proven(cell)))
    if proofs["."] or proofs[","]:
        return ("," if proofs[","] > proofs["."] else "."), ""
    if separator == ",":
        return ".", ""
    open_cells = {sign: [cell for column in columns for cell in _alike(column, sign)] for sign in OTHER}
    groups = {sign: sum(_has_short_numbers(column, sign) for column in columns) for sign in OTHER}
    if groups["."] != groups[","]:
        return ("," if groups["."] > groups[","] else "."), ""
    decimal = "," if len(open_cells[","]) > len(open_cells["."]) else "."
    if open_cells[decimal] and usual:
        decimal = usual
    return decimal, next(iter(open_cells[decimal] or open_cells[OTHER[decimal]]), "")


def proven(cell: str) -> str:
    """Return the decimal sign that a cell proves; "" if it proves none."""
    text = SIGNS.sub("", cell)
    for sign in OTHER:
        if DECIMAL[sign].fullmatch(text) and not ONE_GROUP[sign].fullmatch(text):
            return sign
        if GROUPED[sign].fullmatch(text) and not ONE_GROUP[OTHER[sign]].fullmatch(text):
            return sign
    return ""


def _alike(column: Sequence[str], sign: str) -> list[str]:
    return [cell for cell in column if ONE_GROUP[sign].fullmatch(cell)]


def _has_short_numbers(column: Sequence[str], sign: str) -> bool:
    """Return whether all numbers of a column are written with groups, and some need none."""
    short = sum(1 for cell in column if SHORT.fullmatch(cell))
    grouped_cells = len(_alike(column, sign))
    numbers = sum(1 for cell in column if NUMBER.fullmatch(cell))
    return 0 < short < numbers == short + grouped_cells
