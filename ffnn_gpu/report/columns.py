"""What was decided about each column of the data, and why."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, cast

from ffnn_gpu.checks import counted
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.training_data import Training
from ffnn_gpu.report.findings import DescribedColumn
from ffnn_gpu.report.record import Record
from ffnn_gpu.tables.columns import Column, Kind
from ffnn_gpu.tables.encoders import CodeEncoder, Encoder, LevelEncoder
from ffnn_gpu.tables.encoding import Encoding
from ffnn_gpu.tables.inspection import Inspected, inspect, treatment_of, values_of
from ffnn_gpu.tables.rows import TableRows
from ffnn_gpu.tables.spelling import Spelling

MOST_COLUMNS = 200  # that are listed
MOST_REMARKS = 20


class Columns(NamedTuple):
    """The columns, a sentence about them, and what may be wrong with the data."""

    columns: tuple[DescribedColumn, ...] = ()
    note: str = ""
    remarks: tuple[str, ...] = ()


def columns_of(record: Record) -> Columns:
    """Return what was decided about the columns, as far as the data or the model tell."""
    training, model = record.training, record.model
    if training is not None and training.table is not None:
        return _of_table(record, training, model.encoding if model else None)
    if model is None:
        return Columns()
    if model.encoding is not None:
        note = "The data are not read again, so reasons and values of the columns are left out."
        return _listed([_of_encoder(each) for each in model.encoding.encoders], note)
    return _listed([*_of_matrix(model)], "The data are numbers, whose columns have no kinds.")


def _of_table(record: Record, training: Training, encoding: Encoding | None) -> Columns:
    table = training.table
    assert table is not None  # by the caller
    spelling = Spelling(table.decimal, record.config.missing, day_first=record.config.day_first)
    x = cast(TableRows, training.data.x)
    found = inspect(table, training.columns, spelling, x.skip, training.data.y, x.index, encoding)
    columns = [_inspected(each) for each in found.columns]
    used = sum(column.is_used for column in training.columns)
    note = f"The network reads {used} of {counted(len(columns), 'column')}."
    remarks = [*found.remarks, *(f"{warning.about}: {warning.text}" for warning in found.warnings)]
    listed = _listed(columns, note)
    return listed._replace(remarks=tuple(remarks[:MOST_REMARKS]))


def _inspected(found: Inspected) -> DescribedColumn:
    treatment = "left out" if found.treatment.startswith("left out") else found.treatment
    return DescribedColumn(found.name, found.kind, found.reason, treatment, found.missing, values_of(found))


def _listed(columns: Sequence[DescribedColumn], note: str) -> Columns:
    more = len(columns) - MOST_COLUMNS
    said = f"{note} Listed are the first {MOST_COLUMNS} of {len(columns):,}." if more > 0 else note
    return Columns(tuple(columns[:MOST_COLUMNS]), said)


def _of_encoder(encoder: Encoder) -> DescribedColumn:
    levels = encoder.levels if isinstance(encoder, LevelEncoder) else ()
    kind: Kind = "category" if isinstance(encoder, CodeEncoder) else encoder.kind  # type: ignore[assignment]
    column = Column(encoder.name, 0, kind, "", levels=dict.fromkeys(levels, 0))
    return DescribedColumn(encoder.name, kind, "", treatment_of(column, encoder), None, "")


def _of_matrix(model: Model) -> Iterator[DescribedColumn]:
    scaling, n_in = model.standardizer, model.network.n_in
    for k, name in enumerate(model.feature_names or [f"column {k}" for k in range(n_in)]):
        if scaling is None:
            yield DescribedColumn(name, "number", "", "as it is", None, "")
        elif k in scaling.constant:
            reason = "constant in the training rows"
            yield DescribedColumn(name, "constant", reason, "left out", None, f"{scaling.mean[k]:.4g}")
        else:
            treatment = f"(x − {scaling.mean[k]:.4g}) / {scaling.scale[k]:.4g}"
            limit = "" if model.limit is None else f", cut at ±{model.limit:g}"
            yield DescribedColumn(name, "number", "", treatment + limit, None, "")
