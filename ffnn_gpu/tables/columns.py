"""What a column is found to be."""

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "number", "boolean", "category", "time",
    "text", "id", "constant", "empty", "dropped", "weight", "group", "unclear",
]  # fmt: skip
USED: tuple[Kind, ...] = ("number", "boolean", "category", "time")

FEW_OTHERS = 0.05  # share of other cells up to which a column of numbers is an error, above it is text
FEW_LEVELS, SEVERAL = 20, 3  # "3+" among numbers is a level if there are few levels, each in several rows


@dataclass(frozen=True)
class Column:
    """One column of a table: what it is, and why.

    Attributes:
        place: its index in the table.
        missing: the number of missing cells.
        levels: {cell: number of rows} of a boolean or a category, as the cells are written.
        written: how times are written, in strptime's language; "" for a column of times.
        note: what was decided without evidence.
    """

    name: str
    place: int
    kind: Kind
    reason: str
    missing: int = 0
    levels: dict[str, int] = field(default_factory=dict)
    written: str = ""
    note: str = ""

    @property
    def is_used(self) -> bool:
        """True if a network can learn from it."""
        return self.kind in USED
