"""A record of a run → what its page says."""

from collections.abc import Iterator
from typing import Any

from ffnn_gpu.errors import FfnnGpuError
from ffnn_gpu.estimators.recipe import evaluated
from ffnn_gpu.evaluation.metrics import LOWER_IS_BETTER
from ffnn_gpu.report.columns import columns_of
from ffnn_gpu.report.course import costs_of, ensemble_of, panels_of, status_of
from ffnn_gpu.report.findings import Findings, Omission, Score, Tested
from ffnn_gpu.report.record import Record
from ffnn_gpu.report.reproducing import commands_of, settings_of
from ffnn_gpu.report.tested import findings_of_rows

LOWER = LOWER_IS_BETTER | {"loss"}


def findings_of(record: Record) -> Findings:
    """Return what the page says about a run; what it needs and is missing is in `omitted`."""
    model, result, omitted = record.model, record.result, [*record.omitted]
    columns, panels, tested = columns_of(record), panels_of(record), _tested(record, omitted)
    if not panels:
        omitted.append(Omission("learning curves", "the run folder has no history of epochs"))
    baseline = result.get("baseline") or {}
    return Findings(
        name=record.name,
        data=(model.data if model else result.get("data", "")) or record.config.data,
        target=_target(record),
        task=str(model.task) if model else result.get("task", "not known"),
        status=status_of(record),
        is_complete=bool(result) and not result.get("interrupted"),
        rows=tuple(_rows(record).items()),
        checksum=(result.get("table") or {}).get("checksum", ""),
        scores=tuple(_scores(record)),
        baseline=baseline.get("predicts", ""),
        better=_better(baseline),
        columns=columns.columns,
        column_note=columns.note,
        remarks=columns.remarks,
        panels=panels,
        ensemble=ensemble_of(record),
        tested=tested,
        costs=costs_of(record),
        settings=settings_of(record.config),
        environment=tuple(_environment(record)),
        commands=commands_of(record),
        omitted=tuple(omitted),
    )


def _target(record: Record) -> str:
    named = record.model.target_name if record.model else None
    if named:
        return named
    target = record.config.target
    return "" if target is None else str(target)


def _rows(record: Record) -> dict[str, int]:
    """Return the number of rows of each part. An ensemble has no validation rows, because it has folds."""
    counts = dict(record.result.get("rows", {})) if record.split is None else record.split.counts()
    if "ensemble" in record.result and not counts.get("validation"):
        counts.pop("validation", None)
    return counts


def _tested(record: Record, omitted: list[Omission]) -> Tested | None:
    """Return what the test rows show; add to `omitted` why not."""
    if record.model is None or record.split is None:
        return None  # the record says why
    if record.split.test is None or not len(record.split.test.x):
        omitted.append(Omission("everything about test rows", "the run held out no test rows"))
        return None
    try:
        found = findings_of_rows(record.model, record.split.test, record.split.validation, record.result)
    except FfnnGpuError as error:
        omitted.append(Omission("everything about test rows", str(error)))
        return None
    omitted.extend(_lacking(found, record))
    return found


def _lacking(found: Tested, record: Record) -> Iterator[Omission]:
    if found.importance is None:
        columns = record.model.network.n_in if record.model else 0
        reason = f"there are too few rows ({found.rows:,}), or too many columns ({columns:,} for the network)"
        yield Omission("importance of the columns", reason)
    if found.residuals and not found.coverage:
        reason = "intervals need errors of validation rows or of rows out of fold, and the run has too few"
        yield Omission("coverage of intervals", reason)


def _scores(record: Record) -> Iterator[Score]:
    """Yield the metrics of result.json; without it, those of the model that there is."""
    scores, model, split = record.result.get("test"), record.model, record.split
    if not record.result and model is not None and split is not None and split.test is not None:
        scores = _evaluated(record)
    baseline = record.result.get("baseline") or {}
    for name, value in (scores or {}).items():
        yield Score(name, float("nan") if value is None else value, baseline.get(name), name in LOWER)


def _evaluated(record: Record) -> dict[str, float]:
    assert record.model is not None and record.split is not None and record.split.test is not None
    try:
        return evaluated(record.model, record.split.test)
    except FfnnGpuError:  # `omitted` says why
        return {}


def _better(baseline: dict[str, Any]) -> str:
    """Return how the model compares with the constant prediction, as a sentence."""
    if not baseline:
        return ""
    better, name = baseline.get("better"), baseline["metric"]
    if better is None or better <= 0:
        return "The model is no better than the constant prediction."
    if name in LOWER_IS_BETTER:
        return f"The {name} is {better:.0%} lower than that of the constant prediction."
    if name == "accuracy":
        return f"The model makes {better:.0%} fewer errors than the constant prediction."
    return f"The distance of {name} from 1 is {better:.0%} smaller than that of the constant prediction."


def _environment(record: Record) -> Iterator[tuple[str, str]]:
    result = record.result
    yield from ((name, str(version)) for name, version in result.get("versions", {}).items())
    if "backend" in result:
        yield "backend", f"{result['backend']} ({result.get('reason', 'why is not known')})"
    if result.get("platform"):
        yield "platform", str(result["platform"])
    if result.get("ranks", 1) > 1:
        yield "processes", str(result["ranks"])
    yield "seed", str(record.config.seed)
    if result.get("table"):
        table = result["table"]
        yield "checksum of the data", f"{table['checksum']} (DuckDB {table['duckdb']})"
