"""Rows with named columns, in an embedded database (DuckDB) that spills to disk.

Cells of text files stay the text that the file holds, so `007`, `1E2` and integers beyond 2⁶³ arrive
unchanged; `spelling` says which of them are numbers. Other sources keep the types of their columns.

Why a database: it reads a million rows of text in a second, sorts and counts them in bounded memory, and
converts text to numbers at compiled speed. Why columns are called c0, c1, … in it: its own names ignore case
and must differ.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffnn_gpu.checks import nearest
from ffnn_gpu.errors import DataError
from ffnn_gpu.tables.dialects import Dialect
from ffnn_gpu.tables.embedded_database import literal

CELLS = "cells"  # the table in the database
MISSING = -1  # code of a missing cell
MAX_LISTED_NAMES = 10
TOGETHER = 50  # columns of one query
KEPT = 1 << 27  # bytes of values that are not fetched again

Codes = NDArray[np.signedinteger[Any]]
Floats = NDArray[np.float64]
Span = tuple[int, float, float]
"""(number of cells that are there, the least number, the largest)"""


@dataclass(frozen=True, eq=False)
class Table:
    """n rows of named columns.

    Args:
        source: what messages call it.
        names: the names of the columns; "0", "1", … if the source has none.
        connection: to the database that holds the cells in columns c0, c1, …
        place: returns how messages call a row, given its index: "line 19" in a text file.
        has_names: False if the source has no names.
        decimal: the decimal sign of numbers that are text.
        remarks: what was decided about the source, to be printed.
        keeps: what must live as long as the table, such as a temporary folder.
        declared: {column: its levels in order} of the columns that the source declares as categories.
        dialect: how the source is written, if it is a text file.
        rows: the rows that `numbers`, `integers`, `levels` and `coded` read; None for all.
        computed: {SQL expression: (relation, column) that holds its values}.
        dictionaries: {column: its cells} of the columns whose codes are computed.
        counted: {column: {cell: number of rows}} of the columns whose levels are known.
        plain: the columns of text that are stored as numbers n0, n1, … (see `plain_numbers`).
        bring_text: puts the text of such a column into the database.
        zoned: the columns of times whose source has a time zone; they are in UTC.
        days: {column of times: whether all of them are at midnight} of the columns that were checked.
        kept: {SQL expression: its values} that were asked for and fit in KEPT bytes.
    """

    source: str
    names: tuple[str, ...]
    connection: Any
    place: Callable[[int], str] = lambda row: f"row {row}"
    has_names: bool = True
    decimal: str = "."
    remarks: tuple[str, ...] = ()
    keeps: object = None
    declared: Mapping[int, tuple[str, ...]] = field(default_factory=dict)
    dialect: Dialect | None = None
    rows: range | None = None
    computed: dict[str, tuple[str, str]] = field(default_factory=dict)
    dictionaries: dict[int, list[str]] = field(default_factory=dict)
    counted: dict[int, dict[str, int]] = field(default_factory=dict)
    plain: Mapping[int, Span] = field(default_factory=dict)
    bring_text: Callable[[int], None] = lambda column: None
    zoned: frozenset[int] = frozenset()
    days: dict[int, bool] = field(default_factory=dict)
    kept: dict[str, NDArray[Any]] = field(default_factory=dict)

    def __len__(self) -> int:
        return self._rows if self.rows is None else len(self.rows)

    def part(self, start: int, stop: int) -> "Table":
        """Return the same table, of which only the rows `start` to `stop` − 1 are read."""
        rows = range(len(self)) if self.rows is None else self.rows
        return replace(self, rows=rows[start:stop])

    @property
    def _rows_read(self) -> str:
        """The SQL condition for the rows that are read."""
        return "true" if self.rows is None else f"rowid BETWEEN {self.rows.start} AND {self.rows.stop - 1}"

    @property
    def workers(self) -> int:
        """The number of threads that the database uses: the cores of the machine or the container."""
        return int(self.ask("SELECT current_setting('threads')")[0][0])

    def compute(self, expressions: Iterable[str]) -> None:
        """Compute SQL expressions for all rows; from now on `numbers` and `spans` read their values.

        The values lie in the database, which moves them to disk when memory ends.
        """
        self._compute(self.connection.cursor(), [e for e in expressions if e not in self.computed])

    def compute_codes(self, columns: Iterable[int]) -> None:
        """Compute the codes of these columns for all rows; from now on `coded` reads them."""
        cursor, whole = self.connection.cursor(), replace(self, rows=None)
        new = {column: whole._define(cursor, column) for column in columns if column not in self.dictionaries}
        self._compute(cursor, [self._code(column) for column in new])
        self.dictionaries.update(new)

    def compute_by_level(self, expressions: Mapping[str, int]) -> None:
        """Compute SQL expressions of the cells of one text column each, once for each different cell.

        From now on `numbers` and `spans` read their values.
        """
        new = {each: column for each, column in expressions.items() if each not in self.computed}
        self.compute_codes(new.values())
        for expression, column in new.items():
            found, relation = self.valued(self.dictionaries[column], expression, f"c{column}"), self._next
            values = ", ".join("NULL" if value is None else literal(repr(float(value))) for value in found)
            codes, code = self.computed[self._code(column)]
            chosen = (
                f"([{values}]::VARCHAR[]::DOUBLE[])[{code} + 1]"  # MISSING + 1 = 0, and no list has an item 0
            )
            self.connection.cursor().execute(f"CREATE TABLE {relation} AS SELECT {chosen} AS v0 FROM {codes}")
            self.computed[expression] = (relation, "v0")

    def valued(self, cells: Sequence[str], expression: str, name: str) -> list[Any]:
        """Return the value of an SQL expression for each of some texts. name: of a text in the expression."""
        listed = ", ".join(map(literal, cells))
        texts = f"SELECT unnest([{listed}]::VARCHAR[]) AS {name}, unnest(range({len(cells)})) AS k"
        return [value for (value,) in self.ask(f"SELECT {expression} FROM ({texts}) ORDER BY k")]

    @property
    def _next(self) -> str:
        """The name of the next table of computed values."""
        return f"computed{len(self.computed)}"

    def _compute(self, cursor: Any, new: Sequence[str]) -> None:
        for start in range(0, len(new), TOGETHER):
            some, relation = new[start : start + TOGETHER], self._next
            columns = ", ".join(f"{expression} AS v{k}" for k, expression in enumerate(some))
            cursor.execute(f"CREATE TABLE {relation} AS SELECT {columns} FROM {CELLS}")
            self.computed.update({expression: (relation, f"v{k}") for k, expression in enumerate(some)})

    def fingerprint(self) -> str:
        """Return a checksum of the names and of all cells in their order."""
        columns = ", ".join(["rowid", *map(self.stored, range(len(self.names)))])
        ((cells,),) = self.ask(f"SELECT coalesce(bit_xor(hash({columns})), 0) FROM {CELLS}")
        return f"{len(self)} {cells} {zlib.crc32(repr((self.names, self.types)).encode()):08x}"

    @cached_property
    def _rows(self) -> int:
        return int(self.ask(f"SELECT count(*) FROM {CELLS}")[0][0])

    @cached_property
    def types(self) -> tuple[str, ...]:
        """The database's type of each column; VARCHAR for text that is stored as numbers."""
        kinds = {column: kind for column, kind, *_ in self.ask(f"DESCRIBE {CELLS}")}
        return tuple("VARCHAR" if k in self.plain else kinds[f"c{k}"] for k in range(len(self.names)))

    def is_text(self, column: int) -> bool:
        """Return whether a column holds text, whose meaning is inferred."""
        return self.types[column] == "VARCHAR"

    def stored(self, column: int) -> str:
        """Return the database's name of a column, which differs between cells that differ in meaning."""
        return f"n{column}" if column in self.plain else f"c{column}"

    def text(self, column: int) -> str:
        """Return the SQL expression for a cell as text; NULL if the source says that it is missing."""
        if column in self.plain:
            self.bring_text(column)
        if self.is_text(column):
            return f"c{column}"
        if self._are_days(column):
            return f"CAST(CAST(c{column} AS DATE) AS VARCHAR)"
        text = f"CAST(c{column} AS VARCHAR)"
        whole = self.types[column] in ("FLOAT", "DOUBLE")  # 1.0 is the text 1, as if it were an integer
        cell = f"CASE WHEN NOT isnan(c{column}) THEN regexp_replace({text}, '\\.0$', '') END"
        return cell if whole else text

    def _are_days(self, column: int) -> bool:
        """Return whether all times of a column are at midnight: as text they are days, as in files."""
        if not self.types[column].startswith("TIMESTAMP"):
            return False
        if column not in self.days:
            self.days[column] = not self.count(f"c{column} <> CAST(CAST(c{column} AS DATE) AS TIMESTAMP)")
        return self.days[column]

    def ask(self, query: str) -> list[tuple[Any, ...]]:
        """Return the rows that a query returns."""
        rows: list[tuple[Any, ...]] = self.connection.cursor().execute(query).fetchall()
        return rows

    def numbers(self, expression: str) -> Floats:
        """Return the values of an SQL expression for each row, NaN for NULL."""
        return self.numbers_of([expression])[expression]

    def numbers_of(self, expressions: Sequence[str]) -> dict[str, Floats]:
        """Return {SQL expression: its values for each row, NaN for NULL}.

        Why several in one query: on a table of 3,000 columns, the plan of each query takes 4 ms.
        """
        found: dict[str, Floats] = {}
        for relation, some in self._relations(expressions):
            asked = {each: f"coalesce({value}, 'nan'::DOUBLE)" for each, value in some.items()}
            values = self._fetched([*asked.values()], relation)
            found |= {each: np.asarray(values[value], np.float64) for each, value in asked.items()}
        return found

    def _fetched(self, values: Sequence[str], relation: str) -> dict[str, NDArray[Any]]:
        """Return columns of a relation for the rows that are read.

        Why the values of all rows are kept: the encoders are fitted to them, and then the same are encoded.
        """
        rows = slice(None) if self.rows is None else slice(self.rows.start, self.rows.stop)
        known = {value: self.kept.get(f"{relation} {value}") for value in values}
        found = {value: kept[rows] for value, kept in known.items() if kept is not None}
        lacking = [value for value in values if value not in found]
        if lacking:
            asked = ", ".join(f"{value} AS v{k}" for k, value in enumerate(lacking))
            query = f"SELECT {asked} FROM {relation} WHERE {self._rows_read}"
            columns = self.connection.cursor().execute(query).fetchnumpy()
            found |= {
                value: self._remembered(columns[f"v{k}"], value, relation) for k, value in enumerate(lacking)
            }
        return found

    def _remembered(self, column: NDArray[Any], value: str, relation: str) -> NDArray[Any]:
        """Return a column that was fetched; keep it if it holds all rows and there is room."""
        if self.rows is None and sum(each.nbytes for each in [*self.kept.values(), column]) <= KEPT:
            self.kept[f"{relation} {value}"] = column
            column.flags.writeable = False
        return column

    def integers(self, expression: str) -> Codes:
        """Return the values of an SQL expression that is an integer for each row."""
        query = f"SELECT ({expression})::BIGINT AS v FROM {CELLS} WHERE {self._rows_read}"
        return np.asarray(self.connection.cursor().execute(query).fetchnumpy()["v"], np.int64)

    def spans(self, expressions: Sequence[str]) -> list[tuple[int, Any, Any]]:
        """Return for each SQL expression the number of its values, the least and the largest of all rows."""
        return [*zip(*(self.aggregates(expressions, name) for name in ("count", "min", "max")), strict=True)]

    def aggregates(self, expressions: Sequence[str], function: str, more: str = "") -> list[Any]:
        """Return function(expression, more) of all rows for each SQL expression."""
        found: dict[str, Any] = {}
        for relation, some in self._relations(expressions):
            asked = ", ".join(f"{function}({value}{more})" for value in some.values())
            found |= zip(some, self.ask(f"SELECT {asked} FROM {relation}")[0], strict=True)
        return [found[each] for each in expressions]

    def some_rows(self, expressions: Sequence[str], where: str) -> tuple[Codes, list[NDArray[Any]]]:
        """Return the indices of the rows in which a condition on rowid holds, and the expressions' values."""
        values: dict[str, NDArray[Any]] = {}
        rows: NDArray[Any] = np.empty(0, np.int64)
        for relation, some in self._relations(expressions):
            asked = ", ".join(f"{value} AS v{k}" for k, value in enumerate(some.values()))
            query = f"SELECT rowid AS r, {asked} FROM {relation} WHERE {where} ORDER BY r"
            found = self.connection.cursor().execute(query).fetchnumpy()
            rows = np.asarray(found["r"], np.int64)
            values |= {each: found[f"v{k}"] for k, each in enumerate(some)}
        return rows, [values[each] for each in expressions]

    def _relations(self, expressions: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
        """Yield (relation, {SQL expression: its column}) for as many as one query should ask for.

        Why not all: DuckDB plans a query of 1,500 expressions for 10 s.
        """
        relations: dict[str, dict[str, str]] = {}
        for each in expressions:
            relation, value = self.computed.get(each, (CELLS, each))
            relations.setdefault(relation, {})[each] = value
        for relation, values in relations.items():
            for start in range(0, len(values), TOGETHER):
                yield relation, dict([*values.items()][start : start + TOGETHER])

    def count(self, where: str) -> int:
        """Return the number of rows in which a condition holds."""
        return int(self.ask(f"SELECT count(*) FROM {CELLS} WHERE {where}")[0][0])

    def nulls(self, column: int) -> int:
        """Return the number of rows that are read whose cell is NULL."""
        cell = self.stored(column) if column in self.plain else self.text(column)
        query = f"SELECT count(*) FROM {CELLS} WHERE {self._rows_read} AND {cell} IS NULL"
        return int(self.ask(query)[0][0])

    def levels(self, column: int, where: str = "true", most: int | None = None) -> dict[str, int]:
        """Return {cell: number of rows} of the cells that are not NULL, in text order, at most `most`."""
        known = self.counted.get(column) if self.rows is None and where == "true" else None
        if known is not None and len(known) <= (most or len(known)):
            return dict(known)
        query = f"SELECT {self.text(column)} AS c, count(*) FROM {CELLS} WHERE {self._rows_read}"
        limit = f" LIMIT {most}" if most else ""
        return dict(self.ask(f"{query} AND c IS NOT NULL AND ({where}) GROUP BY c ORDER BY c{limit}"))

    def coded(self, column: int) -> tuple[Codes, list[str]]:
        """Return the code of the cell of each row, MISSING for NULL, and the cells by code, in text order."""
        cursor, code = self.connection.cursor(), self._code(column)
        cells = self.dictionaries.get(column)
        if cells is None:
            cells = self._define(cursor, column)
        relation, value = self.computed.get(code, (CELLS, code))
        if relation == CELLS:  # only this cursor knows the type
            query = f"SELECT {value} AS v FROM {relation} WHERE {self._rows_read}"
            return cursor.execute(query).fetchnumpy()["v"], cells
        return self._fetched([value], relation)[value], cells

    def _define(self, cursor: Any, column: int) -> list[str]:
        """Give a cursor the type that `_code` of a column uses; return the column's cells."""
        cells = [*self.levels(column)]
        listed = ", ".join(map(literal, cells or [""]))
        cursor.execute(f"CREATE OR REPLACE TEMP TYPE cells{column} AS ENUM ({listed})")
        return cells

    def _code(self, column: int) -> str:
        """Return the SQL expression for the code of a cell, in the smallest type that suits it."""
        return f"coalesce(enum_code(try_cast({self.text(column)} AS cells{column})), ({MISSING})::SMALLINT)"

    def column(self, name: str, option: str) -> int:
        """Return the index of the column called `name`, or of that number. Raises DataError.

        option: what named the column, for the message.
        """
        if self.names.count(name) == 1:
            return self.names.index(name)
        if name in self.names:
            raise DataError(
                f"{self.source}: {self.names.count(name)} columns are called {name!r}; rename them"
            )
        if name.isdecimal() and int(name) < len(self.names):
            return int(name)
        near, listed = nearest(name, self.names), ", ".join(self.names[:MAX_LISTED_NAMES])
        more = ", …" * (len(self.names) > MAX_LISTED_NAMES)
        hint = f"did you mean {near!r}?" if near else f"the columns are {listed}{more}"
        raise DataError(f"{option}: {self.source} has no column {name!r}; {hint}")
