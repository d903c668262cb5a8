"""What the user says about columns, and which column each decision names."""

from dataclasses import dataclass, fields

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.table import Table


@dataclass(frozen=True)
class Decisions:
    """What the user says about columns, by name.

    Args:
        categorical, number: the columns that are categories, or numbers.
        drop, id: the columns that are not used; ids name the rows.
        weight: the column with the weight of each row.
        group: the column of which rows with the same cell stay in one part of a split.
        split_by: the column by which earlier rows are for training and later ones for the test.
        missing: texts that mean a missing cell.
        day_first: whether the day comes first in dates such as 03/04/2024; None to decide by the cells.
    """

    categorical: tuple[str, ...] = ()
    number: tuple[str, ...] = ()
    drop: tuple[str, ...] = ()
    id: tuple[str, ...] = ()
    weight: str | None = None
    group: str | None = None
    split_by: str | None = None
    missing: tuple[str, ...] = ()
    day_first: bool | None = None

    def named(self) -> list[tuple[str, str]]:
        """Return (setting, name of a column) for each decision about a column."""
        found = []
        for setting in (each.name for each in fields(self) if each.name not in ("missing", "day_first")):
            value = getattr(self, setting)
            names = value if isinstance(value, tuple) else () if value is None else (value,)
            found += [(setting, name) for name in names]
        return found


def decisions_by_place(table: Table, decisions: Decisions) -> dict[int, str]:
    """Return the setting that names each column; split_by only where nothing else does.

    Raises DataError: a name is no column, or two settings contradict each other.
    """
    decided: dict[int, str] = {}
    for setting, name in decisions.named():
        option = f"--{setting.replace('_', '-')}"
        place = table.column(name, option)
        before = decided.get(place, setting)
        if setting == "split_by":
            decided.setdefault(place, setting)
        elif before != setting:
            raise DataError(
                f"column {table.names[place]!r} is named by --{before} and by {option}; choose one"
            )
        else:
            decided[place] = setting
    return decided
