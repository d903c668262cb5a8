"""What a page says of test rows, against sums over the rows themselves."""

import numpy as np
import pytest

from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.errors import DataError
from ffnn_gpu.estimators.model import Model
from ffnn_gpu.estimators.split import Part
from ffnn_gpu.estimators.task import Task
from ffnn_gpu.nn.network import Network
from ffnn_gpu.report import importance
from ffnn_gpu.report.confusion import confusion_of
from ffnn_gpu.report.importance import error_of, importance_of
from ffnn_gpu.report.intervals import HalfWidths, coverage_of, half_widths_of
from ffnn_gpu.report.residuals import residuals_of
from ffnn_gpu.report.tested import findings_of_rows

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 3))
PRICE = 100 + 5 * X[:, 0] + RNG.normal(size=200)


def linear(backend, y, weights, **more):
    """Return a model whose network is x W, and whose task is that of y."""
    task = Task.of(y, **more).with_units_of(y)
    network = Network(3, [*task.head], backend, "float64")
    zeros = np.zeros(task.outputs)
    network.params.assign({"0.W": np.asarray(weights, float).reshape(3, -1), "0.b": zeros})
    return Model(network, task, feature_names=("a", "b", "c"), target_name="price", data="made")


def test_regression_is_described_by_its_own_rows(backend):
    """The network says (price − mean) / scale = x₀ · 5 / scale; the oracle is the formula itself."""
    scale = PRICE.std()
    model = linear(backend, PRICE, [5 / scale, 0, 0])
    found = findings_of_rows(model, Part(X, PRICE), Part(X[:50], PRICE[:50]), {"test": {"rmse": 1.0}})
    exact = PRICE.mean() + 5 * X[:, 0]
    error = np.abs(exact - PRICE)
    (residuals,) = found.residuals
    assert residuals.bias == pytest.approx((exact - PRICE).mean(), abs=1e-9)
    assert residuals.quantiles == pytest.approx(np.quantile(error, (0.5, 0.9, 1)))
    assert sum(residuals.heights) == 200
    np.testing.assert_allclose(np.sort(residuals.true), np.sort(PRICE))
    worst = np.argsort(-error)[:20]
    assert [row.where for row in found.worst.rows] == [f"test row {k + 1}" for k in worst]
    np.testing.assert_allclose([row.error for row in found.worst.rows], error[worst] / scale)
    assert found.worst.rows[0].cells[0] == f"{X[worst[0], 0]:.6g}" and found.worst.columns == ("a", "b", "c")
    assert found.importance.columns[0].name == "a"
    assert {c.name: c.mean for c in found.importance.columns if c.name != "a"} == {"b": 0, "c": 0}
    (coverage,) = found.coverage
    half = np.sort(error[:50])[int(np.ceil(51 * 0.9)) - 1]
    assert dict(zip(coverage.asked, coverage.half_widths, strict=True))[0.9] == pytest.approx(half)
    observed = dict(zip(coverage.asked, coverage.observed, strict=True))
    assert observed[0.9] == pytest.approx(np.mean(error <= half))


@pytest.mark.parametrize("price", [np.nan, np.inf])
def test_numbers_that_are_not_finite_are_refused(price):
    y = np.where(np.arange(5) == 3, price, 1.0)
    with pytest.raises(DataError, match="predicted − true is not finite for 1 row; the first is test row 4"):
        findings_of_rows(linear("numpy", PRICE, [1, 0, 0]), Part(X[:5], y), None, {})


def test_binary_classes_are_described_by_their_own_rows(backend):
    y = np.where(X[:, 0] + 0.3 * X[:, 1] > 0, "yes", "no")
    model = linear(backend, y, [2, 0, 0])
    found = findings_of_rows(model, Part(X, y), None, {"test": {"accuracy": 1.0}})
    p = 1 / (1 + np.exp(-2 * X[:, 0]))
    is_yes, said = y == "yes", p > 0.5
    assert found.confusion.names == ("no", "yes")
    assert found.confusion.counts == tuple(
        tuple(int(np.sum((is_yes == a) & (said == b))) for b in (False, True)) for a in (False, True)
    )
    assert found.confusion.right == np.sum(is_yes == said)
    own = np.where(is_yes, p, 1 - p)
    worst = np.argsort(own)[:20]
    np.testing.assert_allclose([row.error for row in found.worst.rows], 1 - own[worst], rtol=1e-9)
    assert [row.true for row in found.worst.rows] == [*y[worst]]
    places = np.minimum((p * 10).astype(int), 9)
    bins = [(p[places == k].mean(), is_yes[places == k].mean()) for k in range(10) if (places == k).any()]
    assert [(b.predicted, b.observed) for b in found.calibration.bins] == [
        pytest.approx(each) for each in bins
    ]
    assert found.calibration.what == "the class yes"


def test_labels_are_counted(backend):
    y = (X[:, :2] > [0, 1]).astype(int)
    model = linear(backend, y, [[9, 0], [0, 9], [0, 0]])
    found = findings_of_rows(model, Part(X, y), None, {})
    for k, label in enumerate(found.labels):
        said = X[:, k] > 0
        assert (label.actual, label.predicted, label.right) == (
            y[:, k].sum(), said.sum(), (said & (y[:, k] == 1)).sum(),
        )  # fmt: skip
    assert found.confusion is None and found.calibration.what == "a label"


def test_matrix_of_many_classes_keeps_those_with_errors_and_the_sum():
    y, decided = RNG.integers(0, 40, (2, 900))
    decided[y < 30] = y[y < 30]  # classes of which few rows are wrong
    found = confusion_of(y, decided, [str(k) for k in range(40)])
    counts = np.array(found.counts)
    assert counts.shape == (12, 12) and counts.sum() == 900 and found.merged == 29
    kept = [int(name) for name in found.names[:-1]]
    assert len({*kept} & {*range(30, 40)}) == 10 and kept == sorted(kept)
    for row, a in enumerate(kept):
        assert counts[row].sum() == np.sum(y == a) and counts[:, row].sum() == np.sum(decided == a)
        assert [counts[row, k] for k in range(11)] == [np.sum((y == a) & (decided == b)) for b in kept]
    assert found.right == np.sum(y == decided)
    pairs = {(int(a), int(b)): n for a, b, n in found.pairs}
    assert all(n == np.sum((y == a) & (decided == b)) and a != b for (a, b), n in pairs.items())


def test_residuals_of_one_value_have_a_histogram():
    (found,) = residuals_of(np.ones((5, 1)), np.ones((5, 1)), ["a"])
    assert sum(found.heights) == 5 and found.edges[0] < 0 < found.edges[-1] and found.bias == 0


def test_half_widths_of_fewer_targets_are_left_out():
    y = np.zeros((4, 2))
    widths = HalfWidths({0.5: np.array([1.0]), 0.9: np.array([2.0, 3.0])}, "errors")
    first, second = coverage_of(y, y, widths, ("a", "b"))
    assert first.asked == second.asked == (0.9,) and second.half_widths == (3.0,)


def test_half_widths_out_of_fold_are_used_as_they_are():
    saved = {"ensemble": {"half_widths": {"0.5": [1.0, 2.0], "0.95": [None, 3.0]}}}
    found = half_widths_of(saved, None, None)
    assert {*found.widths} == {0.5} and found.widths[0.5].tolist() == [1, 2] and "out of fold" in found.source
    y = np.zeros((4, 2))
    prediction = np.array([[0.5, 3], [-1, -2], [2, 2.5], [0, 0.0]])
    covered = coverage_of(y, prediction, found, ["a", "b"])
    assert [each.observed for each in covered] == [(0.75,), (0.5,)]
    assert (
        coverage_of(y, prediction, HalfWidths({}, ""), ["a", "b"])
        == ()
        == coverage_of(y, y, None, ["a", "b"])
    )


def test_importance_is_left_out_where_it_would_take_too_long(monkeypatch):
    model = linear("numpy", PRICE, [1, 0, 0])  # 4 parameters × 3 columns for each row and repeat
    for work, expected in ((12 * 3 * 200, (3, 200)), (12 * 150, (1, 150)), (12 * 99, None)):
        monkeypatch.setattr(importance, "WORK", work)
        found = importance_of(model, Part(X, PRICE), {})
        assert (found and (found.repeats, found.rows)) == expected
    one = linear("numpy", PRICE, [1, 0, 0])
    assert importance_of(one, Part(X[:1], PRICE[:1]), {}) is None


def test_importance_uses_the_weights_of_the_rows():
    model, weight = linear("numpy", PRICE, [1, 0, 0]), np.zeros(200)
    weight[:20] = 1
    weighted = importance_of(model, Part(X, PRICE, weight), {"test": {"mae": 1.0}})
    assert weighted.metric == "mae" and weighted.rows == 200
    plain = importance_of(model, Part(X, PRICE), {"test": {"mae": 1.0}})
    assert weighted.columns[0].mean != plain.columns[0].mean


def pairs_in_order(y, score):
    """Return the area under the ROC curve: the share of pairs (1, 0) whose scores are in this order."""
    above = np.sign(score[y][:, None] - score[~y])
    return (1 + above.mean()) / 2


@pytest.mark.parametrize("classes", [2, 3])
def test_importance_uses_the_metric_of_the_run_where_it_reads_probabilities(backend, classes):
    y = (X[:, 0] + RNG.normal(size=200) > 0) + (X[:, 1] > 1).astype(int) * (classes == 3)
    weights = [2, 0, 0] if classes == 2 else RNG.normal(size=(3, 3))
    model = linear(backend, y, weights, kind="binary" if classes == 2 else "multiclass")
    found = importance_of(model, Part(X, y), {"test": {"roc_auc": 0.9, "accuracy": 0.8}})
    assert found.metric == "roc_auc" and found.error == "1 \u2212 roc auc"
    z = backend.to_host(model.network.predict(X))
    scores = {1: z[:, 0]} if classes == 2 else dict(enumerate(z.T))
    if classes == 3:
        scores = {k: np.exp(each) / np.exp(z).sum(axis=1) for k, each in scores.items()}
    exact = np.mean([pairs_in_order(y == k, each) for k, each in scores.items()])
    assert error_of(model, Part(X, y), "roc_auc")(X) == pytest.approx(1 - exact, abs=1e-12)
    one = Part(X, np.zeros(200, int))
    assert importance_of(model, one, {"test": {"roc_auc": 0.9}}).metric == "accuracy"


def test_scaling_of_the_columns_is_applied():
    scaled = Standardizer.fit(X * 100)
    model = linear("numpy", PRICE, [5 / PRICE.std(), 0, 0])
    other = Model(model.network, model.task, scaled, ("a", "b", "c"))
    assert importance_of(other, Part(X * 100, PRICE), {}).columns[0].name == "a"
