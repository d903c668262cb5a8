"""Read a table of a DuckDB database file, and the result of a query. Both only read.

A database comes from others. Its views and macros are SQL that runs here, so they may not read files. A query
is the user's own, and may.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ffnn_gpu.checks import nearest
from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.embedded_database import Scratch, connect, literal
from ffnn_gpu.tables.table import CELLS, MAX_LISTED_NAMES, Table
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
    """Return a table of a database: the one named after a colon, or the only one.

    Raises DataError: there is none, or it is a view that reads more than the tables of its database.
    """
    import duckdb

    file, name = split(source)
    with _attached(connection, file):
        forbid_files(connection)
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
        try:
            names, zoned = load(connection, relation, source)
        except duckdb.PermissionException as error:
            raise DataError(
                f"{file}: the view {place[-1]!r} reads files, and a view of a database may read its tables "
                f"only ({_first_line(error)}). If you trust it, write its SELECT as --query"
            ) from error
    return Table(source, names, connection, keeps=scratch, zoned=zoned)


def read_query(query: str, database: str, scratch: Scratch, connection: Any) -> Table:
    """Return what one SELECT returns.

    The query may read files. The views and macros of a database may not: others wrote them.

    database: a DuckDB file whose tables the query may name; "" if it names files only.

    Raises DataError: it is not one SELECT, or DuckDB refuses it.
    """
    import duckdb

    if not database:
        return _queried(query, scratch, connection)
    try:
        with _attached(connection, database):
            forbid_files(connection)
            return _queried(query, scratch, connection)
    except duckdb.PermissionException as error:
        reason = _first_line(error)
    connection = connect(scratch.path)  # the other one never reads a file again
    with _attached(connection, database):
        if named := _named_code(connection, query):
            raise DataError(
                f"--query reads files and names {', '.join(map(repr, named))} of {database}. Views and "
                f"macros of a database may read its tables only ({reason}); write their SELECT in your query"
            )
        return _queried(query, scratch, connection)


def forbid_files(connection: Any) -> None:
    """Let a connection read no file from now on but the databases that are attached."""
    connection.execute("SET enable_external_access = false")


def _queried(query: str, scratch: Scratch, connection: Any) -> Table:
    """Return the rows of a query. Raises DataError, or PermissionException if it reads forbidden files."""
    import duckdb

    if connection.execute(f"FROM duckdb_databases() WHERE database_name = '{ATTACHED}'").fetchall():
        connection.execute(f"USE {ATTACHED}")
    try:
        names, zoned = load(connection, f"query({literal(query)})", "the query", f"memory.main.{CELLS}")
    except duckdb.OutOfMemoryException as error:
        raise MemoryError(str(error)) from error
    except duckdb.PermissionException:
        raise
    except duckdb.Error as error:
        raise DataError(f"--query: {str(error).split(chr(10) * 2)[0]}") from error
    finally:
        connection.execute("USE memory")
    return Table("the query", names, connection, keeps=scratch, zoned=zoned)


def _named_code(connection: Any, query: str) -> list[str]:
    """Return the views and macros of the attached database whose names a query contains."""
    theirs = f"database_name = '{ATTACHED}' AND NOT internal"
    found = connection.execute(
        f"SELECT view_name FROM duckdb_views() WHERE {theirs}"
        f" UNION SELECT function_name FROM duckdb_functions() WHERE {theirs}"
    ).fetchall()
    names = ((name, re.escape(name.replace('"', '""'))) for (name,) in found)
    return sorted(name for name, pattern in names if re.search(rf"(?i)(?<!\w){pattern}(?!\w)", query))


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


@contextmanager
def _attached(connection: Any, file: str) -> Iterator[None]:
    """Attach a database file read-only. Raises DataError."""
    import duckdb

    try:
        connection.execute(
            f"ATTACH {literal(str(Path(file).absolute()))} AS {ATTACHED} (READ_ONLY, TYPE duckdb)"
        )
    except duckdb.Error as error:
        raise DataError(f"{file} cannot be read as a DuckDB database: {_first_line(error)}") from error
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
