"""Read a table of a DuckDB database file, and the result of a query. Both only read."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ffnn_gpu.checks import nearest
from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.table import CELLS, MAX_LISTED_NAMES, Scratch, Table, literal
from ffnn_gpu.tables.typed_columns import load

ENDINGS = (".duckdb", ".ddb")
ATTACHED = "data"


def split(source: str) -> tuple[str, str]:
    """Return (file, table) of "sales.duckdb:orders"; the table is "" if none is named."""
    for ending in ENDINGS:
        file, found, table = source.partition(f"{ending}:")
        if found:
            return file + ending, table
    return source, ""


def is_database(source: str) -> bool:
    """Return whether a source names a DuckDB database, by its ending."""
    return split(source)[0].lower().endswith(ENDINGS)


def read_database(source: str, scratch: Scratch, connection: Any) -> Table:
    """Return a table of a database: the one named after a colon, or the only one. Raises DataError."""
    file, name = split(source)
    with _attached(connection, file):
        tables = connection.execute(
            f"SELECT schema_name, table_name FROM duckdb_tables() WHERE database_name = '{ATTACHED}'"
            " UNION ALL"
            f" SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = '{ATTACHED}'"
            " AND NOT internal"
        ).fetchall()
        place = _chosen(
            file, name, {(table if s == "main" else f"{s}.{table}"): (s, table) for s, table in tables}
        )
        relation = ".".join(f'"{part.replace(chr(34), chr(34) * 2)}"' for part in (ATTACHED, *place))
        names = load(connection, relation, source)
    return Table(source, names, connection, keeps=scratch)


def read_query(query: str, database: str, scratch: Scratch, connection: Any) -> Table:
    """Return what one SELECT returns.

    database: a DuckDB file whose tables the query may name; "" if it names files only.

    Raises DataError: it is not one SELECT, or DuckDB refuses it.
    """
    import duckdb

    with _attached(connection, database):
        if database:
            connection.execute(f"USE {ATTACHED}")
        try:
            names = load(connection, f"query({literal(query)})", "the query", f"memory.main.{CELLS}")
        except duckdb.OutOfMemoryException as error:
            raise MemoryError(str(error)) from error
        except duckdb.Error as error:
            raise DataError(f"--query: {str(error).split(chr(10) * 2)[0]}") from error
        finally:
            connection.execute("USE memory")
    return Table("the query", names, connection, keeps=scratch)


@contextmanager
def _attached(connection: Any, file: str) -> Iterator[None]:
    """Attach a database file read-only. Raises DataError."""
    import duckdb

    if not file:
        yield
        return
    try:
        connection.execute(
            f"ATTACH {literal(str(Path(file).absolute()))} AS {ATTACHED} (READ_ONLY, TYPE duckdb)"
        )
    except duckdb.Error as error:
        raise DataError(
            f"{file} cannot be read as a DuckDB database: {str(error).splitlines()[0]}"
        ) from error
    try:
        yield
    finally:
        connection.execute(f"DETACH {ATTACHED}")


def _chosen(file: str, name: str, tables: dict[str, tuple[str, str]]) -> tuple[str, str]:
    """Return (schema, table) of the table called `name`, or of the only one."""
    if name in tables:
        return tables[name]
    if not name and len(tables) == 1:
        return next(iter(tables.values()))
    if not tables:
        raise DataError(f"{file} holds no table")
    listed = ", ".join([*tables][:MAX_LISTED_NAMES]) + ", …" * (len(tables) > MAX_LISTED_NAMES)
    if not name:
        raise DataError(
            f"{file} holds {len(tables)} tables: {listed}; name one, such as {file}:{next(iter(tables))}"
        )
    near = nearest(name, tables)
    hint = f"did you mean {near!r}?" if near else f"there are {listed}"
    raise DataError(f"{file} has no table {name!r}; {hint}")
