"""TabularClassifier and TabularRegressor on raw tables, and scikit-learn's own checks."""

import pickle
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from sklearn.base import clone
from sklearn.metrics import mean_absolute_error, roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer
from sklearn.utils.estimator_checks import estimator_checks_generator

import ffnn_gpu
from ffnn_gpu import MLPRegressor, Model, TabularClassifier, TabularRegressor
from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.estimators.tabular import members as members_module
from ffnn_gpu.estimators.tabular.criterion import Criterion
from ffnn_gpu.estimators.tabular.recipes import Plain, Preset

pytestmark = pytest.mark.filterwarnings("ignore:left out")
TINY = Preset(
    (
        Plain(name="linear", lr=3e-2, weight_decay=0.0, schedule="cosine", epochs=5, steps=60),
        Plain(name="small", hidden=(16,), lr=1e-2, weight_decay=0.01, epochs=5, steps=60),
    ),
    2,
)
LINEAR = Preset(TINY.recipes[:1], 2)
# Folds and minibatches depend on the number of rows, so a weight of 2 is not a row given twice.
CASES = [
    pytest.param(*pair, id=f"{type(estimator).__name__}-{k}")
    for estimator in (TabularClassifier(LINEAR, random_state=0), TabularRegressor(LINEAR, random_state=0))
    for k, pair in enumerate(estimator_checks_generator(estimator))
]


def test_there_are_scikit_learns_checks():
    assert len(CASES) > 2 * 50


@pytest.mark.filterwarnings("ignore:invalid value encountered in cast:RuntimeWarning")
@pytest.mark.parametrize(("estimator", "check"), CASES)
def test_estimator_passes_the_checks_of_scikit_learn(estimator, check):
    name = getattr(check, "func", check).__name__
    if name.startswith("check_sample_weight_equivalence"):
        with pytest.raises(AssertionError, match="not equivalent to fitting with removed or repeated"):
            check(estimator)
    else:
        check(estimator)


RNG = np.random.default_rng(0)
N = 300
FRAME = pd.DataFrame(
    {
        "area": np.where(RNG.random(N) < 0.1, np.nan, RNG.lognormal(3, 1, N)),
        "town": RNG.choice(["Ulm", "Bonn", "Kiel", None], N),
        "built": pd.Series(pd.date_range("1990-01-01", periods=N, freq="11D")),
        "zip": [f"0{k % 7}123" for k in range(N)],
        "id": np.arange(N),
    }
)
PRICE = np.log(FRAME.area.fillna(20)) * 10 + (FRAME.town == "Ulm") * 5 + RNG.normal(size=N)
CLASS = np.where(PRICE.median() < PRICE, "dear", "cheap")


def without_warnings(estimator, y):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the column that is left out
        return estimator.fit(FRAME, y)


@pytest.fixture(scope="module")
def regressor():
    return without_warnings(TabularRegressor(TINY, random_state=0), PRICE)


@pytest.fixture(scope="module")
def classifier():
    return without_warnings(TabularClassifier(TINY, random_state=0), CLASS)


def test_raw_frame_is_learnt(regressor, classifier):
    assert regressor.score(FRAME, PRICE) > 0.7
    assert classifier.score(FRAME, CLASS) > 0.8
    assert [*classifier.classes_] == ["cheap", "dear"]


def test_rows_and_columns_in_another_order_have_the_same_answers(regressor):
    order = RNG.permutation(N)
    got = regressor.predict(FRAME.iloc[order])
    np.testing.assert_allclose(got, regressor.predict(FRAME)[order], rtol=1e-5)


def test_new_levels_and_missing_cells_have_answers(classifier):
    new = FRAME.head(4).copy()
    new["town"], new["area"] = ["Rom", None, "Ulm", "Oslo"], [np.nan, 1e9, -1.0, 3.0]
    p = classifier.predict_proba(new)
    assert np.isfinite(p).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)


def test_polars_gives_the_answers_of_pandas(regressor):
    np.testing.assert_array_equal(regressor.predict(pl.from_pandas(FRAME)), regressor.predict(FRAME))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_matrix_of_numbers_with_missing_ones(dtype):
    X = RNG.normal(size=(200, 3)).astype(dtype)
    y = X[:, 0] * 2
    X[::9, 1] = np.nan
    assert TabularRegressor(TINY, random_state=0).fit(X, y).score(X, y) > 0.6


def test_probabilities_follow_the_classes(classifier):
    p = classifier.predict_proba(FRAME)
    np.testing.assert_array_equal(classifier.classes_[p.argmax(axis=1)], classifier.predict(FRAME))
    np.testing.assert_allclose(np.exp(classifier.predict_log_proba(FRAME)), p, rtol=1e-12)


def test_intervals_are_around_the_prediction_and_grow_with_coverage(regressor):
    narrow, wide = (regressor.predict_interval(FRAME, coverage=c) for c in (0.5, 0.95))
    assert narrow.shape == (N, 2) and (narrow[:, 0] < narrow[:, 1]).all()
    assert (wide[:, 0] < narrow[:, 0]).all() and (wide[:, 1] > narrow[:, 1]).all()


def test_interval_covers_new_rows_as_often_as_it_promises():
    """Over 16 tables of 150 rows and 150 new ones each: 0.9 ± 4 standard errors, and what folds add."""
    held = []
    for seed in range(16):
        rng = np.random.default_rng(seed)
        X = rng.normal(size=(300, 2))
        y = X[:, 0] + rng.standard_t(4, size=300)
        fitted = TabularRegressor(LINEAR, random_state=seed).fit(X[:150], y[:150])
        ends = fitted.predict_interval(X[150:], coverage=0.9)
        held.append(np.mean((ends[:, 0] <= y[150:]) & (y[150:] <= ends[:, 1])))
    assert 0.87 < np.mean(held) < 0.95


@pytest.mark.parametrize("coverage", [0, 1, 1.5, "all", True])
def test_coverage_that_is_no_probability_is_refused(regressor, coverage):
    with pytest.raises(ConfigurationError, match="coverage must be between 0 and 1"):
        regressor.predict_interval(FRAME, coverage=coverage)


def test_predictions_stay_within_the_training_targets(regressor):
    far = pd.concat([FRAME.assign(area=1e30), FRAME.assign(area=-1e30)])
    found = regressor.predict(far)
    assert PRICE.min() <= found.min() and found.max() <= PRICE.max()
    np.testing.assert_array_equal(regressor.model_.predict(far), found)


def test_prediction_is_in_the_middle_of_its_interval(regressor):
    far = FRAME.assign(area=1e30)  # beyond the training targets
    ends = regressor.predict_interval(far)
    np.testing.assert_allclose(ends.mean(axis=1), regressor.predict(far), rtol=1e-6)


def test_rows_without_weight_are_in_no_fold():
    """Two rows count; with fewer weights than folds each fold still holds a row that counts."""
    weight = np.zeros(N)
    weight[[5, 6, 7, 8]] = 1
    fitted = TabularRegressor(TINY, random_state=0).fit(FRAME, PRICE, sample_weight=weight)
    np.testing.assert_array_equal(np.flatnonzero(np.isfinite(fitted.out_of_fold_)), [5, 6, 7, 8])
    classes = TabularClassifier(TINY, random_state=0).fit(FRAME, CLASS, sample_weight=weight)
    assert np.isfinite(classes.predict_proba(FRAME)).all()


def test_rows_without_weight_do_not_widen_intervals():
    spoiled = PRICE.where(np.arange(N) % 3 > 0, 1e6)
    weight = (np.arange(N) % 3 > 0).astype(float)
    fitted = TabularRegressor(TINY, random_state=0).fit(FRAME, spoiled, sample_weight=weight)
    width = np.diff(fitted.predict_interval(FRAME, 0.9), axis=1)
    assert width.max() < 1e6 / 10


def test_too_few_rows_or_groups_are_refused():
    one = (np.arange(N) == 3).astype(float)
    with pytest.raises(ValueError, match="there is 1 row to train on"):
        TabularRegressor(TINY).fit(FRAME, PRICE, sample_weight=one)
    with pytest.raises(ValueError, match="there is 1 group to train on"):
        TabularRegressor(TINY).fit(FRAME, PRICE, groups=["a"] * N)


def test_out_of_fold_predictions_are_honest(regressor, classifier):
    noise = RNG.normal(size=N)
    fitted = TabularRegressor(TINY, random_state=0).fit(FRAME, noise)
    assert np.corrcoef(fitted.out_of_fold_, noise)[0, 1] < 0.25
    assert regressor.out_of_fold_.shape == (N,) and classifier.out_of_fold_.shape == (N, 2)
    assert np.corrcoef(regressor.out_of_fold_, PRICE)[0, 1] > 0.8


def test_groups_are_held_out_together():
    """The target is a number for each group, which only a member that knows the group can say."""
    groups = np.repeat(np.arange(30), 10)
    X = np.column_stack([np.eye(30)[groups], RNG.normal(size=N)])
    y = RNG.normal(size=30)[groups]
    apart = TabularRegressor(TINY, random_state=0).fit(X, y, groups=groups)
    mixed = TabularRegressor(TINY, random_state=0).fit(X, y)
    assert apart.ensemble_.error > 0.9 > mixed.ensemble_.error


def test_balanced_classes_raise_the_recall_of_the_rare_one():
    rare = np.where(np.quantile(PRICE, 0.9) < PRICE, 1, 0)
    plain, balanced = (
        TabularClassifier(TINY, class_weight=w, random_state=0).fit(FRAME, rare).predict(FRAME)
        for w in (None, "balanced")
    )
    assert balanced[rare == 1].mean() > plain[rare == 1].mean()


def test_several_targets():
    fitted = TabularRegressor(TINY, random_state=0).fit(FRAME, np.column_stack([PRICE, -PRICE]))
    assert fitted.predict(FRAME).shape == (N, 2) and fitted.predict_interval(FRAME).shape == (N, 2, 2)
    assert fitted.score(FRAME, np.column_stack([PRICE, -PRICE])) > 0.6


def test_saved_model_answers_alike(tmp_path, regressor, classifier):
    for estimator, file in ((regressor, "r.safetensors"), (classifier, "c.safetensors")):
        estimator.save(tmp_path / file)
        model = Model.load(tmp_path / file)
        np.testing.assert_array_equal(model.predict(FRAME), estimator.predict(FRAME))


def test_pickle_answers_alike(classifier):
    copy = pickle.loads(pickle.dumps(classifier))  # noqa: S301
    np.testing.assert_array_equal(copy.predict_proba(FRAME), classifier.predict_proba(FRAME))
    assert copy.explain() == classifier.explain()


def test_same_seed_same_numbers_and_clone():
    first = TabularRegressor(TINY, random_state=3).fit(FRAME, PRICE)
    again = clone(first).fit(FRAME, PRICE)
    other = TabularRegressor(TINY, random_state=4).fit(FRAME, PRICE)
    np.testing.assert_array_equal(first.predict(FRAME), again.predict(FRAME))
    assert (first.predict(FRAME) != other.predict(FRAME)).any()


def test_pipeline_grid_search_and_cross_validation():
    pipeline = make_pipeline(
        FunctionTransformer(lambda X: X.drop(columns="id")), TabularRegressor(TINY, random_state=0)
    )
    search = GridSearchCV(pipeline, {"tabularregressor__preset": [TINY, LINEAR]}, cv=2).fit(FRAME, PRICE)
    assert np.isfinite(search.best_score_)
    p = cross_val_predict(
        TabularClassifier(LINEAR, random_state=0), FRAME, CLASS, cv=2, method="predict_proba"
    )
    assert p.shape == (N, 2)


def test_explanation_names_kinds_errors_and_weights(regressor):
    text = regressor.explain()
    assert "linear" in text and "small" in text and "weight" in text
    assert f"{regressor.ensemble_.error:.4f}" in text
    assert f"of {FRAME.shape[1]} columns" in text


def test_columns_of_another_table_are_refused(regressor):
    with pytest.raises(ValueError, match="feature names"):
        regressor.predict(FRAME.rename(columns={"area": "size"}))


def test_table_without_a_useful_column_is_refused():
    with pytest.raises(ValueError, match="no column that a network could learn from"):
        TabularRegressor(TINY).fit(pd.DataFrame({"same": [1.0] * 20}), np.arange(20.0))


def test_named_categories_are_categories():
    X = pd.DataFrame({"code": RNG.integers(100, 104, N) * 10, "x": RNG.normal(size=N)})
    fitted = TabularRegressor(TINY, categorical_features=["code"], random_state=0).fit(X, PRICE)
    outputs = fitted.model_.encoding.outputs
    assert any("code is" in name for name in outputs)
    with pytest.raises(ConfigurationError, match="names column 'nothing'; X has 2 columns: code, x"):
        TabularRegressor(TINY, categorical_features=["nothing"]).fit(X, PRICE)
    with pytest.raises(ConfigurationError, match="X has 2 columns"):
        TabularRegressor(TINY, categorical_features=[7]).fit(X, PRICE)
    with pytest.raises(ConfigurationError, match="mask of 3 columns; X has 2 columns"):
        TabularRegressor(TINY, categorical_features=[True, False, False]).fit(X, PRICE)


def test_progress_is_on_standard_error_and_silent_when_asked(capfd):
    TabularRegressor(TINY, random_state=0, verbose=1).fit(FRAME, PRICE)
    out, err = capfd.readouterr()
    assert not out and err.count("member ") == 4 and "linear, fold 1" in err
    TabularRegressor(TINY, random_state=0).fit(FRAME, PRICE)
    assert capfd.readouterr() == ("", "")


def test_the_names_are_public_and_imported_late():
    assert ffnn_gpu.TabularClassifier is TabularClassifier
    assert {"TabularClassifier", "TabularRegressor"} <= {*ffnn_gpu.estimators.WITH_SCIKIT_LEARN}


def test_rows_of_weight_0_change_neither_interval_nor_scale():
    X, noise = RNG.normal(size=(200, 2)), np.r_[RNG.normal(0, 500, 100), RNG.normal(0, 0.1, 100)]
    y, weight = X[:, 0] + noise, np.repeat([0.0, 1.0], 100)
    fitted = TabularRegressor(TINY, random_state=0).fit(X, y, weight)
    width = np.diff(fitted.predict_interval(X[150:151])).item()
    assert 0.1 < width < 2
    assert fitted.score(X[100:], y[100:]) > 0.9


def test_interval_contains_the_prediction_beyond_the_training_targets():
    X = RNG.normal(size=(200, 2))
    fitted = TabularRegressor(TINY, random_state=0).fit(X, X[:, 0])
    p, ends = fitted.predict(3 * X), fitted.predict_interval(3 * X)
    assert ((ends[:, 0] <= p) & (p <= ends[:, 1])).all()


def test_every_column_of_a_matrix_of_numbers_is_read():
    """In a table with names, a running number is an id."""
    X = np.column_stack([np.arange(200), RNG.normal(size=200)])
    assert TabularRegressor(TINY, random_state=0).fit(X, X[:, 0]).score(X, X[:, 0]) > 0.9


@pytest.mark.filterwarnings("ignore:.*repeat an earlier row")
def test_matrix_of_booleans_has_the_answers_of_its_numbers():
    X = np.random.default_rng(0).integers(0, 2, (60, 3)).astype(bool)
    model = TabularClassifier(TINY, random_state=0).fit(X, X[:, 0])
    assert model.score(X, X[:, 0]) == 1
    np.testing.assert_array_equal(model.predict_proba(X), model.predict_proba(X.astype(float)))


def test_columns_that_are_left_out_are_named():
    X = FRAME.assign(note=[f"row {k} of many" for k in range(N)])
    with pytest.warns(UserWarning, match="left out: .*'note'"):
        fitted = TabularRegressor(TINY, random_state=0).fit(X, PRICE)
    assert "note" in fitted.left_out_ and any("note" in text for text in fitted.warnings_)
    assert "left out: 'note'" in fitted.explain()


@pytest.mark.parametrize("y", [PRICE.rename("price"), PRICE.to_frame("price")])
@pytest.mark.filterwarnings("ignore:A column-vector y was passed", "ignore:left out")
def test_model_knows_the_name_of_its_target(y):
    fitted = TabularRegressor(LINEAR, random_state=0).fit(FRAME, y)
    assert fitted.model_.target_name == "price"


@pytest.mark.parametrize("labels", [["a", None] * 20, ["a", np.nan, "b", "b"] * 10, [1.0, np.nan] * 20])
def test_missing_classes_are_refused(labels):
    with pytest.raises(ValueError, match="contains NaN"):
        TabularClassifier(LINEAR).fit(np.arange(2.0 * len(labels)).reshape(-1, 2), labels)


@pytest.mark.parametrize("y", [pd.date_range("2024-01-01", periods=40), np.arange(40).astype(str)])
def test_targets_of_a_regression_that_are_no_numbers_are_refused(y):
    shown = r"^y holds values such as '(2024-01-01T|0').*; a regression needs numbers$"
    with pytest.raises(ValueError, match=shown):
        TabularRegressor(LINEAR).fit(np.arange(80.0).reshape(-1, 2), y)


def test_no_rows_have_no_answers(regressor, classifier):
    assert regressor.predict(FRAME[:0]).shape == (0,) and regressor.predict_interval(FRAME[:0]).shape == (
        0,
        2,
    )
    assert classifier.predict(FRAME[:0]).shape == (0,) and classifier.predict_proba(FRAME[:0]).shape == (0, 2)


def test_probabilities_sum_to_1_in_float64():
    three = np.where(PRICE > 40, "dear", CLASS)
    p = TabularClassifier(TINY, random_state=0).fit(FRAME, three).predict_proba(FRAME)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-14)


def test_metric_is_what_is_reported_and_scored():
    y = (PRICE.median() < PRICE).astype(int)
    fitted = without_warnings(TabularClassifier(TINY, metric="auc", random_state=0), y)
    p = fitted.out_of_fold_[:, 1]
    assert fitted.ensemble_.score == pytest.approx(roc_auc_score(y, p), rel=1e-9)
    assert fitted.ensemble_.error == pytest.approx(1 - fitted.ensemble_.score)
    assert fitted.score(FRAME, y) == pytest.approx(
        roc_auc_score(y, fitted.predict_proba(FRAME)[:, 1]), rel=1e-9
    )
    assert fitted.model_.metrics == ("roc_auc", "accuracy")
    assert fitted.model_.evaluate(FRAME, y)["roc_auc"] == pytest.approx(fitted.score(FRAME, y), rel=1e-9)
    assert "members, roc_auc out of fold:" in fitted.explain()


def test_score_is_negative_for_a_metric_of_which_lower_values_are_better():
    fitted = without_warnings(TabularRegressor(LINEAR, metric="mae", random_state=0), PRICE)
    wanted = mean_absolute_error(PRICE, fitted.predict(FRAME))
    assert fitted.score(FRAME, PRICE) == pytest.approx(-wanted, rel=1e-9)
    weight = RNG.random(N)
    wanted = mean_absolute_error(PRICE, fitted.predict(FRAME), sample_weight=weight)
    assert fitted.score(FRAME, PRICE, weight) == pytest.approx(-wanted, rel=1e-9)
    assert fitted.ensemble_.score == pytest.approx(mean_absolute_error(PRICE, fitted.out_of_fold_), rel=1e-9)


def test_criterion_of_the_caller_decides_and_is_cloned():
    def worst(y, prediction):
        return np.abs(y - prediction).max()

    given = TabularRegressor(LINEAR, metric=Criterion(worst, higher_is_better=False), random_state=0)
    assert clone(given).get_params()["metric"] == given.metric
    fitted = without_warnings(clone(given), PRICE)
    assert fitted.ensemble_.score == pytest.approx(np.abs(PRICE - fitted.out_of_fold_).max(), rel=1e-9)
    assert fitted.model_.metrics == ()


def test_metric_that_does_not_fit_is_refused_before_training(monkeypatch):
    monkeypatch.setattr(members_module, "fit", lambda *args, **named: pytest.fail("fit was called"))
    rare = np.where(np.arange(N) == 5, "rare", "often")
    for estimator, y, message in (
        (TabularRegressor(TINY, metric="auc"), PRICE, "metric 'roc_auc' does not fit a regression task"),
        (TabularClassifier(TINY, metric="rmse"), CLASS, "metric 'rmse' does not fit a binary task"),
        (TabularClassifier(TINY, metric=max), CLASS, "nothing says whether its lower or its higher values"),
        (
            TabularClassifier(TINY, metric="auc"),
            rare,
            "fold . of 2 holds 150 rows, which do not define roc_auc",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            estimator.fit(FRAME, y)


def test_explanation_has_members_interval_importances_and_columns(regressor):
    text = regressor.explain()
    for member in regressor.ensemble_.members:
        assert f"seed {member.plan.seed}  {member.score:.4f}" in text
    width = np.diff(regressor.predict_interval(FRAME[:1]))[0] / 2
    assert f"90% of the errors out of fold are below {width.item():.6g}"[:50] in text
    first, mean, _ = regressor.importances_.by_size[0]
    assert first == "area" and f"  area {mean:+30.4f}".replace(" ", "") in text.replace(" ", "")
    assert "left out: 'id'" in text


ROWS_OF_DICTS = [
    {name: None if pd.isna(cell) else cell for name, cell in row.items()} for row in FRAME.to_dict("records")
]


def test_dict_of_columns_and_dicts_of_rows_are_tables(regressor):
    columns = {name: [row[name] for row in ROWS_OF_DICTS] for name in FRAME.columns}
    wanted = regressor.predict(FRAME)
    fitted = without_warnings_of(TabularRegressor(TINY, random_state=0), ROWS_OF_DICTS)
    assert [*fitted.feature_names_in_] == [*FRAME.columns] and fitted.n_features_in_ == FRAME.shape[1]
    for rows in (columns, ROWS_OF_DICTS, FRAME):
        np.testing.assert_array_equal(fitted.predict(rows), wanted)
    mixed = dict(reversed(columns.items())) | {"more": [1] * N}
    np.testing.assert_array_equal(regressor.predict(mixed), wanted)  # by name, among others
    del mixed["area"]
    with pytest.raises(ValueError, match="X lacks these columns, which the model was trained on: 'area'"):
        regressor.predict(mixed)


def without_warnings_of(estimator, X):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        return estimator.fit(X, PRICE)


def test_records_are_a_table():
    records = np.array(
        [(k / 7, "Ulm" if k % 2 else "Bonn") for k in range(40)], [("x", float), ("town", "U4")]
    )
    fitted = TabularRegressor(LINEAR, random_state=0).fit(records, np.arange(40.0))
    assert [*fitted.feature_names_in_] == ["x", "town"] and fitted.predict(records[:3]).shape == (3,)


@pytest.mark.filterwarnings("ignore:Stochastic Optimizer")
@pytest.mark.parametrize("kind", [TabularRegressor, MLPRegressor])
def test_columns_of_one_name_are_refused(kind):
    X = pd.DataFrame(RNG.normal(size=(40, 3)), columns=["a", "b", "a"])
    given = [X, pa.table([X.iloc[:, k].to_numpy() for k in range(3)], names=["a", "b", "a"])]
    message = "X: several columns are called 'a'; each column needs a name of its own"
    for frame in given:
        with pytest.raises(DataError, match=message):
            kind().fit(frame, np.arange(40.0))
    fitted = (kind(LINEAR) if kind is TabularRegressor else kind(max_iter=2)).fit(
        X.set_axis(["a", "b", "c"], axis=1), X.iloc[:, 0]
    )
    for frame in given:
        with pytest.raises(DataError, match=message):
            fitted.predict(frame)
    if kind is TabularRegressor:
        with pytest.raises(DataError, match="several columns are called '1'"):
            kind().fit({1: [1.0] * 9, "1": [2.0] * 9}, np.arange(9.0))
