"""What `ffnn-gpu inspect` prints: a table within 100 columns of a terminal."""

import io
import shutil
import textwrap
from collections.abc import Iterator
from dataclasses import replace

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from ffnn_gpu.checks import counted, shortened
from ffnn_gpu.cli import messages
from ffnn_gpu.cli.reading import reads_table
from ffnn_gpu.cli.settings import TrainConfig
from ffnn_gpu.errors import DataError
from ffnn_gpu.estimators.task import doubt
from ffnn_gpu.estimators.training_data import decisions_of, read_known, target_places
from ffnn_gpu.tables.concerns import Concern
from ffnn_gpu.tables.frames import require_distinct
from ffnn_gpu.tables.inspection import Inspected, Inspection, inspect, short, values_of
from ffnn_gpu.tables.kinds import columns_of
from ffnn_gpu.tables.roles import require_apart
from ffnn_gpu.tables.spelling import Spelling
from ffnn_gpu.tables.targets import read_target

WIDTH = 100
HEADINGS = {
    "column": 18,
    "kind": 8,
    "missing": 8,
    "values": 26,
    "why and treatment": None,
}  # and their widths


def inspection_of(config: TrainConfig) -> Inspection:
    """Inspect the data as `train` would read it; what `train` refuses is a warning. Raises DataError."""
    if not reads_table(config):
        raise DataError(f"{config.data} is no table; inspect reads tables such as .csv files")
    table = read_known(config)
    require_distinct(table.names, table.source)
    decisions = decisions_of(config)
    spelling = Spelling(table.decimal, decisions.missing, day_first=decisions.day_first)
    targets = target_places(table, config.target)
    require_apart(table, decisions, targets)
    names = tuple(table.names[place] for place in targets)
    columns = columns_of(table, decisions, spelling, names, allow_unclear=True)
    try:
        target = read_target(table, targets, spelling, config.task, decisions.categorical)
    except DataError as error:
        found = inspect(table, columns, spelling, targets)
        problem = Concern("target", names, str(error))
        return Inspection(**{**vars(found), "warnings": (problem, *found.warnings)})
    found = inspect(table, columns, spelling, targets, target.y, target.rows)
    return replace(found, target={**(found.target or {}), "decided": doubt(target.y, config.task)})


def lines(found: Inspection) -> list[str]:
    """Format an inspection as lines of text."""
    width = min(WIDTH, max(60, shutil.get_terminal_size((WIDTH, 24)).columns))
    grid = Grid(box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for heading, least in HEADINGS.items():
        right = "right" if heading == "missing" else "left"
        grid.add_column(Text(heading), justify=right, max_width=least, overflow="fold")  # type: ignore[arg-type]
    for column in found.columns:
        missing = f"{column.missing:,}" if column.missing else ""
        grid.add_row(
            *map(Text, (column.name or "(no name)", column.kind, missing, values_of(column), why(column)))
        )
    text = io.StringIO()
    Console(file=text, width=width, color_system=None, force_terminal=False).print(grid)
    table = [line.rstrip() for line in text.getvalue().splitlines()]
    return [*_first_lines(found), "", *table, "", *_warning_lines(found, width)]


def why(column: Inspected) -> str:
    """Return the reason of the kind and what the encoding does."""
    if column.treatment.startswith("left out"):
        return column.treatment
    return f"{column.reason}: {column.treatment}"


def _first_lines(found: Inspection) -> Iterator[str]:
    remarks = "".join(f"; {remark}" for remark in found.remarks)
    shape = f"{counted(found.rows, 'row')} × {counted(len(found.columns), 'column')}"
    yield f"{found.source}: {shape} besides the target{remarks}"
    if found.target is None:
        return
    names = ", ".join(map(repr, found.target["names"]))
    lacking = found.target["missing"]
    left = f"; {messages.lacking_line(lacking)}" if lacking else ""
    if classes := found.target["classes"]:
        listed = ", ".join(f"{shortened(name)} {count:,}" for name, count in [*classes.items()][:10])
        more = ", …" * (len(classes) > 10)
        yield f"target {names}: {counted(len(classes), 'class', 'classes')}: {listed}{more}{left}"
    elif quantiles := found.target["quantiles"]:
        low, _, middle, _, high = quantiles
        yield f"target {names}: from {short(low)} to {short(high)}, median {short(middle)}{left}"
    else:
        yield f"target {names}{left}"
    if decided := found.target.get("decided"):
        yield decided


def _warning_lines(found: Inspection, width: int) -> Iterator[str]:
    if not found.warnings:
        yield "no warnings"
    for warning in found.warnings:
        yield from textwrap.wrap(f"{warning.about}: {warning.text}", width, subsequent_indent="  ")
