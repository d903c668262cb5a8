"""Rank 0 reads and encodes a table for all ranks.

The others receive its targets, the kinds of its columns, the encoding and the matrix. A large matrix lies
in a file: ranks that see the file map it, and the others receive its bytes. Why one rank: n ranks that each
parse the file take n times the processor time and n times the memory.
"""

import json
from pathlib import Path
from typing import Any, cast

import numpy as np

from ffnn_gpu.arrays.array_types import HostArray
from ffnn_gpu.arrays.precision import floating
from ffnn_gpu.cli.reading import read_training, reads_table
from ffnn_gpu.data.readers import Dataset
from ffnn_gpu.distributed import Communicator
from ffnn_gpu.distributed.communicator import gather
from ffnn_gpu.distributed.rank_zero import on_rank_zero
from ffnn_gpu.distributed.sharing import shared_array
from ffnn_gpu.errors import ConfigurationError
from ffnn_gpu.estimators.settings import TrainConfig
from ffnn_gpu.estimators.training_data import Training
from ffnn_gpu.tables.borrowed import BorrowedTable, distant_table
from ffnn_gpu.tables.columns import Column
from ffnn_gpu.tables.embedded_database import Scratch
from ffnn_gpu.tables.encoded import MATRIX, mapped_from
from ffnn_gpu.tables.encoding import Encoding, most_codes
from ffnn_gpu.tables.roles import Roles
from ffnn_gpu.tables.rows import TableRows
from ffnn_gpu.tables.sources import STDIN, is_pipe

LIMIT = 24 * 3600.0  # seconds that rank 0 may take to read, or to encode
ROLES = ("weight", "group", "order")
OF_COLUMNS = ("name", "place", "kind", "reason")


def read_for_all(ranks: Communicator, config: TrainConfig) -> Training:
    """Return the data set to train on: of a table, all cells on rank 0 and none on the other ranks.

    Raises on every rank what rank 0 raises, and ConfigurationError for standard input and pipes.
    """
    if ranks.size == 1 or not reads_table(config):
        return read_training(config)
    if config.data == STDIN or is_pipe(config.data):  # MPICH 5 ends all ranks when rank 0 reads it slowly
        raise ConfigurationError(
            f"{ranks.size} ranks cannot read {config.data}, because mpiexec passes on small inputs only; "
            "write it to a file first"
        )
    found: list[Training] = []

    def work() -> str:
        found.append(read_training(config))
        return json.dumps(_described(found[0]))

    told = json.loads(on_rank_zero(ranks, work, LIMIT))
    arrays = _arrays(found[0]) if found else {}
    received = {name: shared_array(ranks, arrays.get(name)) for name in told["arrays"]}
    return found[0] if found else _restored(told, received)


def encode_for_all(
    ranks: Communicator, rows: TableRows, training: TableRows, columns: list[Column], config: TrainConfig
) -> None:
    """Encode all rows on rank 0, with the encoding fitted to the training rows, and give all the matrix.

    Raises on every rank what rank 0 raises.
    """
    lent: list[HostArray] = []
    dtype = floating(config.dtype)

    def work() -> str:
        encoding = training.fit(columns, config.missing, most_codes(config.dtype))
        matrix, folder = rows.lend(encoding, dtype)
        lent.append(matrix)
        return json.dumps({"encoding": encoding.to_json(), "folder": folder and str(folder)})

    told = json.loads(on_rank_zero(ranks, work, LIMIT))
    encoding = Encoding.from_json(told["encoding"])
    matrix = lent[0] if lent else None
    if told["folder"] and matrix is None:
        matrix = mapped_from(Path(told["folder"]), encoding, dtype)
    lacking = gather(ranks, [int(matrix is None)])
    if lacking.any():
        shape = (len(rows.table), len(encoding.outputs))
        matrix = _received(ranks, matrix, shape, dtype, bool(told["folder"]))
    if ranks.rank:
        assert matrix is not None
        rows.borrow(encoding, matrix)


def _received(
    ranks: Communicator, matrix: HostArray | None, shape: tuple[int, int], dtype: np.dtype[Any], large: bool
) -> HostArray:
    """Return the matrix of this rank, or that of rank 0: in memory, or in a temporary file if it is large."""
    given = matrix if ranks.rank == 0 else None
    kind = np.dtype(f"u{dtype.itemsize}") if dtype.kind == "V" else dtype  # bfloat16 has no name elsewhere
    out = None
    if large and matrix is None:
        scratch = Scratch()
        out = np.lib.format.open_memmap(scratch.path / MATRIX, "w+", kind, shape)
    found = shared_array(ranks, None if given is None else given.view(kind), out)
    return found.view(dtype) if matrix is None else matrix


def _described(training: Training) -> dict[str, Any]:
    data, columns, _, table = training
    assert table is not None
    x = cast(TableRows, data.x)
    return {
        "table": [table.source, table.names, table.has_names, len(table)],
        "data": [data.feature_names, data.target_name, data.name],
        "rows": [x.width, x.skip],
        "columns": [[getattr(column, name) for name in OF_COLUMNS] for column in columns],
        "arrays": [*_arrays(training)],
    }


def _arrays(training: Training) -> dict[str, HostArray]:
    data, _, roles, _ = training
    given = {name: getattr(roles, name) for name in ROLES}
    index = cast(TableRows, data.x).index
    return {"y": data.y, "index": index} | {name: a for name, a in given.items() if a is not None}


def _restored(told: dict[str, Any], arrays: dict[str, HostArray]) -> Training:
    source, names, has_names, n = told["table"]
    table = distant_table(source, tuple(names), has_names, n)
    width, skip = told["rows"]
    features, target_name, name = told["data"]
    x = TableRows(table, arrays["index"], width, tuple(skip), BorrowedTable())
    data = Dataset(x, arrays["y"], tuple(features), target_name, name)  # type: ignore[arg-type]
    roles = Roles(**{name: arrays.get(name) for name in ROLES})
    return Training(data, [Column(*fields) for fields in told["columns"]], roles, table)
