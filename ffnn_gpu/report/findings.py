"""What the page says about a run: plain values, so that a page is a function of them alone.

Numbers that do not exist are NaN or None. Texts are not escaped here, but in `markup`.
"""

from dataclasses import dataclass

from ffnn_gpu.evaluation.metrics import LOWER_IS_BETTER
from ffnn_gpu.report.charts import Line


@dataclass(frozen=True)
class Score:
    """A metric of the test rows, what the constant prediction scores, and whether a lower value is better."""

    name: str
    value: float
    baseline: float | None
    lower_is_better: bool


@dataclass(frozen=True)
class Omission:
    """A part that the page leaves out, and why."""

    part: str
    reason: str


@dataclass(frozen=True)
class DescribedColumn:
    """What was decided about a column of the data, and why."""

    name: str
    kind: str
    reason: str
    treatment: str
    missing: int | None
    values: str


@dataclass(frozen=True)
class Panel:
    """Lines over the epochs that share an axis."""

    title: str
    axis: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Recipe:
    """A kind of member of an ensemble: its score out of fold, and its weight, None if it is not used."""

    name: str
    score: float
    weight: float | None
    members: int


@dataclass(frozen=True)
class Ensemble:
    """The kinds of members, what their scores measure, the score of all together, and sentences."""

    recipes: tuple[Recipe, ...]
    what: str
    score: float
    said: tuple[str, ...]


@dataclass(frozen=True)
class Confusion:
    """Counts of rows: counts[k][l] of the class k that were predicted as l.

    Attributes:
        names: of the classes; the last one stands for all others if `merged` > 0.
        merged: the number of classes that the last row and column sum up.
        right: the number of rows whose class was predicted.
        pairs: (true class, predicted class, rows) of the most frequent errors.
    """

    names: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    merged: int
    right: int
    pairs: tuple[tuple[str, str, int], ...]


@dataclass(frozen=True)
class LabelCounts:
    """Of one label of a multilabel task: rows that have it, rows predicted to have it, and right ones."""

    name: str
    actual: int
    predicted: int
    right: int


@dataclass(frozen=True)
class Residuals:
    """True and predicted numbers of one target, of evenly chosen rows, and what all rows give.

    Attributes:
        edges, heights: a histogram of predicted − true.
        bias: the mean of predicted − true.
        quantiles: of |predicted − true| at 50 %, 90 % and 100 %.
    """

    target: str
    true: tuple[float, ...]
    predicted: tuple[float, ...]
    edges: tuple[float, ...]
    heights: tuple[float, ...]
    bias: float
    quantiles: tuple[float, float, float]


@dataclass(frozen=True)
class Bin:
    """Rows whose predicted probability is alike: their mean probability, and how often it was right."""

    predicted: float
    observed: float
    rows: int


@dataclass(frozen=True)
class Calibration:
    """Predicted probabilities against frequencies; `error` is the mean distance, weighted by rows."""

    what: str
    bins: tuple[Bin, ...]
    error: float


@dataclass(frozen=True)
class Coverage:
    """Intervals of one target: the share of rows that was asked for, and the share of test rows within."""

    target: str
    asked: tuple[float, ...]
    observed: tuple[float, ...]
    half_widths: tuple[float, ...]


@dataclass(frozen=True)
class ColumnImportance:
    """How much a metric becomes worse when a column is shuffled: mean and deviation over the repeats."""

    name: str
    mean: float
    deviation: float


@dataclass(frozen=True)
class Importance:
    """The importance of columns, the largest first."""

    metric: str
    rows: int
    repeats: int
    columns: tuple[ColumnImportance, ...]

    @property
    def error(self) -> str:
        """1 − accuracy, or rmse: the number that grows."""
        name = self.metric.replace("_", " ")
        return name if self.metric in LOWER_IS_BETTER else f"1 \u2212 {name}"


@dataclass(frozen=True)
class WorstRow:
    """A test row that is predicted badly: where it is in the data, and some of its cells."""

    where: str
    true: str
    predicted: str
    error: float
    cells: tuple[str, ...]


@dataclass(frozen=True)
class Worst:
    """The rows with the largest errors; `error` says what is measured."""

    error: str
    columns: tuple[str, ...]
    rows: tuple[WorstRow, ...]


@dataclass(frozen=True)
class Tested:
    """What the test rows show."""

    rows: int
    confusion: Confusion | None
    labels: tuple[LabelCounts, ...]
    residuals: tuple[Residuals, ...]
    calibration: Calibration | None
    coverage: tuple[Coverage, ...]
    coverage_source: str
    importance: Importance | None
    worst: Worst


@dataclass(frozen=True)
class Setting:
    """A setting of the run as text, and whether it is the default."""

    name: str
    value: str
    is_default: bool


@dataclass(frozen=True)
class Findings:
    """All that the page says about one run.

    Attributes:
        name: the run folder, as the caller called it.
        status: a sentence about how the run ended.
        is_complete: False if the run was interrupted or has not finished.
        checksum: of the data, "" if it is not known.
        baseline: what the constant prediction is.
        better: how much better the model is than the constant, as a sentence; "" without a comparison.
        remarks: what may be wrong with the data, and what was decided without evidence.
        costs: time and memory, as (name, text).
        environment: versions, backend and machine, as (name, text).
        commands: (what it does, the command).
    """

    name: str
    data: str
    target: str
    task: str
    status: str
    is_complete: bool
    rows: tuple[tuple[str, int], ...]
    checksum: str
    scores: tuple[Score, ...]
    baseline: str
    better: str
    columns: tuple[DescribedColumn, ...]
    column_note: str
    remarks: tuple[str, ...]
    panels: tuple[Panel, ...]
    ensemble: Ensemble | None
    tested: Tested | None
    costs: tuple[tuple[str, str], ...]
    settings: tuple[Setting, ...]
    environment: tuple[tuple[str, str], ...]
    commands: tuple[tuple[str, str], ...]
    omitted: tuple[Omission, ...]
