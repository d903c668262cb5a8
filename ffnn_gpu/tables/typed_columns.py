"""Columns that have a type: numbers, times and booleans keep it, and other single values become text."""

from typing import Any

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.table import CELLS

NUMBERS = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE", "DECIMAL", "BIGNUM")
TIMES = ("DATE", "TIMESTAMP")  # and TIMESTAMP_NS, …
ZONED = "TIMESTAMP WITH TIME ZONE"
TEXTS = ("VARCHAR", "BOOLEAN", "ENUM", "UUID", "TIME", '"NULL"')


def is_number(kind: str) -> bool:
    """Return whether a type of the database is a number."""
    return not kind.endswith("]") and kind.removeprefix("U").startswith(NUMBERS)


def load(
    connection: Any, relation: str, source: str, target: str = CELLS
) -> tuple[tuple[str, ...], frozenset[int]]:
    """Fill the database with what an SQL relation returns.

    Return the names of its columns, and the indices of those whose times have a zone.

    Raises DataError: a column holds lists, structures or bytes.
    """
    described = connection.execute(f"DESCRIBE SELECT * FROM {relation}").fetchall()
    names = tuple(name for name, *_ in described)
    columns = ", ".join(_value(k, name, kind, source) for k, (name, kind, *_) in enumerate(described))
    listed = ", ".join(f"v{k}" for k in range(len(names)))
    connection.execute(
        f"CREATE OR REPLACE TABLE {target} AS SELECT {columns} FROM (SELECT * FROM {relation}) AS t({listed})"
    )
    return names, frozenset(k for k, (_, kind, *_) in enumerate(described) if kind == ZONED)


def _value(place: int, name: str, kind: str, source: str) -> str:
    """Return the SQL expression for the column c{place} from v{place}."""
    value = f"v{place}"
    if kind == ZONED:
        value = f"make_timestamp(epoch_us({value}))"  # in UTC
    elif kind == "INTERVAL":
        value = f"epoch({value})"  # in seconds
    elif kind.endswith("]") or not (is_number(kind) or kind.startswith((*TIMES, *TEXTS))):
        raise DataError(
            f"{source}, column {name!r} holds {kind} values; a cell must be one number, text or time; select "
            "its parts first"
        )
    elif not is_number(kind) and not kind.startswith((*TIMES, "BOOLEAN")):
        value = f"{value}::VARCHAR"
    return f"{value} AS c{place}"
