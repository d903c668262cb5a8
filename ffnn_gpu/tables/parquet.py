"""Read Parquet files."""

from pathlib import Path
from typing import Any

from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.embedded_database import Scratch, path_literal
from ffnn_gpu.tables.table import Table
from ffnn_gpu.tables.typed_columns import load


def read_parquet(path: Path, source: str, scratch: Scratch, connection: Any) -> Table:
    """Return the rows of a Parquet file with the types of its columns. Raises DataError if it is damaged."""
    import duckdb

    try:
        names, zoned = load(
            connection, f"read_parquet({path_literal(path)}, hive_partitioning=false)", source
        )
    except duckdb.OutOfMemoryException as error:
        raise MemoryError(str(error)) from error
    except duckdb.Error as error:
        raise DataError(f"{source} is not a whole Parquet file: {str(error).splitlines()[0]}") from error
    return Table(source, names, connection, keeps=scratch, zoned=zoned)
