"""What callers may pass as X and y: frames with words and missing cells, and arrays of other libraries."""

import sys
import types

import numpy as np
import pytest
from ffnn_gpu.layers import Embedding
from sklearn.model_selection import cross_val_score

from ffnn_gpu.errors import ConfigurationError, DataError
from ffnn_gpu.estimators import MLPClassifier, MLPRegressor

pd = pytest.importorskip("pandas")
pl = pytest.importorskip("polars")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
FAST = {"hidden_layer_sizes": (12,), "learning_rate_init": 0.05, "random_state": 0, "max_iter": 40}


@pytest.fixture
def people():
    """Return a frame with words, numbers, missing cells and times, and a class that they decide."""
    random, n = np.random.default_rng(0), 160
    city, age = random.choice(["rome", "oslo", "lima"], n), random.normal(40, 10, n).round(1)
    age[::9] = np.nan
    since = pd.Timestamp("2020-01-01") + pd.to_timedelta(random.integers(0, 900, n), unit="D")
    X = pd.DataFrame({"city": city, "age": age, "member": random.random(n) > 0.5, "since": since})
    return X, np.where((city == "rome") | (np.nan_to_num(age, nan=40) > 45), "yes", "no")


def test_frame_with_words_and_missing_cells_is_encoded(people):
    X, y = people
    model = MLPClassifier(**FAST).fit(X[:120], y[:120])
    assert model.score(X[120:], y[120:]) > 0.85
    assert [*model.feature_names_in_] == ["city", "age", "member", "since"] and model.n_features_in_ == 4
    assert cross_val_score(MLPClassifier(**FAST), X, y, cv=3).mean() > 0.8


def test_frames_of_both_libraries_give_the_same_predictions(people):
    X, y = people
    model = MLPClassifier(**FAST).fit(X, y)
    other = pl.from_pandas(X, nan_to_null=True)
    np.testing.assert_array_equal(model.predict_proba(other), model.predict_proba(X))


def test_unseen_level_is_predicted(people):
    X, y = people
    model = MLPClassifier(**FAST).fit(X, y)
    assert set(model.predict(X[:3].assign(city="quito"))) <= {"yes", "no"}


def test_columns_in_another_order_are_refused_as_scikit_learn_does(people):
    X, y = people
    model = MLPClassifier(**FAST).fit(X, y)
    with pytest.raises(ValueError, match="Feature names must be in the same order as they were in fit"):
        model.predict(X[["age", "city", "member", "since"]])


def test_many_levels_are_embedded():
    random = np.random.default_rng(0)
    codes = random.integers(0, 80, 800)
    X = pd.DataFrame({"code": [f"c{k}" for k in codes], "x": random.normal(size=800)})
    model = MLPRegressor(**FAST).fit(X, np.cos(codes))
    assert isinstance(model.to_model().network.layers[0], Embedding)
    assert model.score(X, np.cos(codes)) > 0.9


def test_numbers_named_as_categories_are_levels():
    random = np.random.default_rng(0)
    X = pd.DataFrame({"month": random.integers(1, 13, 300), "x": random.normal(size=300)})
    y = np.isin(X["month"], [1, 6, 7, 12]).astype(int)
    for given in (["month"], [0], [True, False]):
        model = MLPClassifier(categorical_features=given, **FAST).fit(X, y)
        assert model.score(X, y) > 0.95 and model.to_model().network.n_in > 10
    with pytest.raises(
        ConfigurationError, match=r"categorical_features names columns of a data frame, and X is a nd"
    ):
        MLPClassifier(categorical_features=["month"]).fit(X.to_numpy(), y)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([True], "has 1 truth values and X has 2 columns"),
        ([2], "has 2, which is no column of X; its 2 columns are 'month', 'x'"),
        (["day"], "has 'day', which is no column of X"),
    ],
)
def test_categorical_features_that_do_not_fit_the_frame_are_an_error(given, said):
    X = pd.DataFrame({"month": [1, 2, 3, 4], "x": [0.5, 1.5, 2.5, 3.5]})
    with pytest.raises(ConfigurationError, match=f"categorical_features {said}"):
        MLPClassifier(categorical_features=given, **FAST).fit(X, [0, 1, 0, 1])


def test_frame_of_numbers_trains_as_its_matrix():
    random = np.random.default_rng(0)
    X = pd.DataFrame(random.normal(size=(60, 3)), columns=["a", "b", "c"])
    y = X["a"] * X["b"]
    framed, plain = MLPRegressor(**FAST).fit(X, y), MLPRegressor(**FAST).fit(X.to_numpy(), y.to_numpy())
    np.testing.assert_array_equal(framed.coefs_[0], plain.coefs_[0])
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        framed.predict(X.to_numpy())


@pytest.mark.parametrize("dtype", [object, pd.SparseDtype(float, 0.0)])
def test_numbers_of_every_storage_are_used_as_they_are(dtype):
    """A frame turned by .T or joined from several holds its numbers as Python objects."""
    X = np.random.default_rng(0).normal(50, 10, (80, 2)).round(1)
    y = X[:, 0] > 50
    framed = MLPClassifier(**FAST).fit(pd.DataFrame(X, columns=["a", "b"]).astype(dtype), y)
    np.testing.assert_array_equal(framed.coefs_[0], MLPClassifier(**FAST).fit(X, y).coefs_[0])


@pytest.mark.parametrize("dtype", ["Int64", "float64", "boolean", object])
def test_numbers_with_missing_cells_are_encoded(dtype):
    values = pd.Series([0, 1, None, 1] * 20, dtype=dtype)
    X = pd.DataFrame({"a": values, "b": np.arange(80.0) % 7})
    y = values.isna().to_numpy()
    assert MLPClassifier(**FAST).fit(X, y).score(X, y) > 0.95


def test_words_are_an_error_without_categorical_features(people):
    X, y = people
    with pytest.raises(ValueError, match="could not convert string to float"):
        MLPClassifier(categorical_features=None).fit(X[["city"]], y)


def test_partial_fit_reads_the_columns_of_the_first_call(people):
    X, y = people
    model = MLPClassifier(**FAST)
    for start in range(0, 160, 40):
        model.partial_fit(X[start : start + 40], y[start : start + 40], classes=["no", "yes"])
    assert model.n_features_in_ == 4 and model.t_ == 160
    with pytest.raises(ValueError, match="Feature names unseen at fit time"):
        model.partial_fit(X.assign(more=1), y)


def test_fit_on_numbers_after_a_table_forgets_the_table(people):
    X, y = people
    model = MLPClassifier(**FAST).fit(X, y)
    numbers = np.random.default_rng(0).normal(size=(160, 2))
    assert model.fit(numbers, y).predict(numbers).shape == (160,)
    assert not hasattr(model, "feature_names_in_")


def test_failed_fit_leaves_the_encoding_of_the_last_one(people):
    X, y = people
    model = MLPClassifier(**FAST).fit(X, y)
    before = model.predict_proba(X)
    with pytest.raises(ValueError, match="Input X contains NaN"):
        model.fit(np.full((160, 4), np.nan), y)
    with pytest.warns(UserWarning, match="was fitted without feature names"):  # scikit-learn forgets them
        np.testing.assert_array_equal(model.predict_proba(X), before)


def test_rows_and_targets_of_a_table_must_have_one_length(people):
    X, y = people
    with pytest.raises(ValueError, match=r"inconsistent numbers of samples: \[160, 150\]"):
        MLPClassifier(**FAST).fit(X, y[:150])


def test_column_that_is_almost_numbers_is_an_error_of_the_table(people):
    X, y = people
    X = X.assign(age=[*map(str, range(159)), "unknown?"])
    with pytest.raises(DataError, match=r"'age'.* write None instead; .*categorical_features=\['age'\]$"):
        MLPClassifier(**FAST).fit(X, y)


# ---------------------------------------------------------------------- arrays of other libraries


class Foreign:
    """An array of another library: it offers DLPack, and NumPy cannot convert it by itself."""

    def __init__(self, array):
        self.array = np.ascontiguousarray(array)

    def __array__(self, *arguments, **named):
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __dlpack__(self, **named):
        return self.array.__dlpack__(**named)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class OfArrayAPI(Foreign):
    """An array of a library that follows the array API, such as JAX."""

    def __array_namespace__(self):
        return types.SimpleNamespace(asarray=OfArrayAPI)


class Tensor(Foreign):
    """A tensor as PyTorch has it: with a history, and on a device."""

    device = "cuda:7"

    def __dlpack__(self, **named):
        if not getattr(self, "on_host", False):
            raise BufferError("a tensor with a history, or on a device")
        return super().__dlpack__(**named)

    def detach(self):
        return self

    def cpu(self):
        copy = Tensor(self.array)
        copy.on_host = True
        return copy

    def to(self, device):
        assert device == self.device
        return self


@pytest.fixture
def torch(monkeypatch):
    """Stand in for PyTorch."""
    monkeypatch.setattr(Tensor, "__module__", "torch.of_a_test")
    monkeypatch.setitem(sys.modules, "torch", types.SimpleNamespace(from_numpy=Tensor))


@pytest.mark.usefixtures("torch")
@pytest.mark.parametrize("kind", [OfArrayAPI, Tensor])
def test_arrays_of_another_library_go_in_and_the_same_kind_comes_out(kind):
    random = np.random.default_rng(0)
    X, y = random.normal(size=(50, 3)), random.integers(0, 3, 50)
    weight = random.uniform(1, 2, 50)
    model = MLPClassifier(**FAST).fit(X, y, weight)
    foreign = MLPClassifier(**FAST).fit(kind(X), kind(y), kind(weight), X_val=kind(X), y_val=kind(y))
    np.testing.assert_array_equal(foreign.coefs_[0], model.coefs_[0])
    for method in ("predict", "predict_proba", "predict_log_proba"):
        found = getattr(foreign, method)(kind(X))
        assert type(found) is kind
        np.testing.assert_array_equal(found.array, getattr(model, method)(X))
    assert foreign.score(kind(X), kind(y), kind(weight)) == model.score(X, y, weight)
    assert type(MLPRegressor(**FAST).fit(kind(X), kind(X[:, 0])).predict(kind(X))) is kind


def test_labels_that_are_words_come_out_as_numpys():
    random = np.random.default_rng(0)
    X = random.normal(size=(20, 2))
    model = MLPClassifier(**FAST).fit(X, np.where(X[:, 0] > 0, "a", "b"))
    assert type(model.predict(OfArrayAPI(X))) is np.ndarray


def test_cupy_arrays_come_out_on_their_device(monkeypatch):
    cupy = types.ModuleType("cupy")

    class ndarray(Foreign):  # noqa: N801
        device = __import__("contextlib").nullcontext()

        def get(self):
            return self.array

    ndarray.__module__ = "cupy"
    cupy.ndarray, cupy.asarray = ndarray, ndarray
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    X = np.random.default_rng(0).normal(size=(20, 2))
    model = MLPRegressor(**FAST).fit(ndarray(X), ndarray(X[:, 0]))
    found = model.predict(ndarray(X))
    assert type(found) is ndarray
    np.testing.assert_array_equal(found.array, model.predict(X))
