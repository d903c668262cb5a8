import json

import numpy as np
import pytest

from ffnn_gpu.data import standardizer as preprocess
from ffnn_gpu.data.standardizer import Standardizer, train_test_split
from ffnn_gpu.errors import ConfigurationError, DataError, ShapeError

X = np.random.default_rng(0).normal(3.0, 5.0, (501, 7)) * 10.0 ** np.arange(-3, 4)


def test_standardizer_example_worked_by_hand():
    standardizer = Standardizer.fit([[1, 5], [3, 5], [8, 5]])
    np.testing.assert_array_equal(standardizer.mean, [4, 5])  # (1 + 3 + 8) / 3
    np.testing.assert_allclose(
        standardizer.scale, [np.sqrt(26 / 3), 1], rtol=1e-15
    )  # 9 + 1 + 16 = 26; constant: 1
    np.testing.assert_allclose(
        standardizer.transform([[1, 5]], np.float64), [[-3 / np.sqrt(26 / 3), 0]], rtol=1e-15
    )


def test_standardizer_agrees_with_scikit_learn():
    oracle = pytest.importorskip("sklearn.preprocessing").StandardScaler().fit(X)
    ours = Standardizer.fit(X)
    np.testing.assert_allclose(ours.mean, oracle.mean_, rtol=1e-13)
    np.testing.assert_allclose(ours.scale, oracle.scale_, rtol=1e-13)
    np.testing.assert_allclose(ours.transform(X, np.float64), oracle.transform(X), rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("block_elements", [1, 7, 100, 3500, 3506])
def test_standardizer_does_not_depend_on_the_blocks(monkeypatch, block_elements):
    whole = Standardizer.fit(X)
    monkeypatch.setattr(preprocess, "BLOCK_ELEMENTS", block_elements)
    blocked = Standardizer.fit(X)
    np.testing.assert_allclose(blocked.mean, whole.mean, rtol=1e-13)
    np.testing.assert_allclose(blocked.scale, whole.scale, rtol=1e-13)
    np.testing.assert_array_equal(whole.transform(X, np.float64), (X - whole.mean) / whole.scale)


@pytest.mark.parametrize("value", [0.1, 1e4, -3e300, 5e-324, 255])
def test_constant_feature_becomes_exactly_zero(value):
    x = np.full((100_000, 1), value)
    standardizer = Standardizer.fit(x)
    assert standardizer.mean[0] == value and standardizer.scale[0] == 1
    assert not standardizer.transform(x, np.float64).any()


@pytest.mark.parametrize("magnitude", [1e-200, 1e200])
def test_features_whose_squares_leave_float64_are_standardized(magnitude):
    z = Standardizer.fit(np.array([[1.0], [3.0]]) * magnitude).transform(np.array([[1.0], [3.0]]) * magnitude)
    np.testing.assert_allclose(z, [[-1], [1]], rtol=1e-6)


def test_standardized_features_have_mean_zero_and_deviation_one():
    z = Standardizer.fit(X).transform(X, np.float64)
    np.testing.assert_allclose(z.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(z.std(axis=0), 1, rtol=1e-12)


def test_inverse_undoes_transform():
    standardizer = Standardizer.fit(X)
    np.testing.assert_allclose(
        standardizer.inverse(standardizer.transform(X, np.float64)), X, rtol=1e-12, atol=1e-12
    )


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_transform_makes_the_dtype_and_leaves_its_input(dtype):
    x = np.array([[0, 200], [255, 100]], dtype=np.uint8)  # 0 − 1 would be 255 in uint8
    before = x.copy()
    z = Standardizer.fit(x).transform(x, dtype)
    assert z.dtype == dtype and z.tolist() == [[-1, 1], [1, -1]]
    np.testing.assert_array_equal(x, before)


def test_block_of_rows_is_8_mib_or_one_row():
    for width, lengths in ((1 << 16, [16, 16, 8]), (3 << 18, [1] * 3)):
        blocks = [block for _, block in preprocess._blocks(np.zeros((sum(lengths), width), np.uint8))]
        assert [len(block) for block in blocks] == lengths and blocks[0].nbytes <= 8 << 20


def test_standardizer_does_not_change_and_is_itself_alone():
    standardizer = Standardizer.fit(X)
    assert standardizer == standardizer != Standardizer.fit(X) and hash(standardizer)
    with pytest.raises(AttributeError):
        standardizer.mean = 0


def test_memory_mapped_features_are_never_copied_whole(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", X)
    monkeypatch.setattr(preprocess, "BLOCK_ELEMENTS", 70)
    rows = []
    blocks = preprocess._blocks

    def counted(x):
        for start, block in blocks(x):
            rows.append(len(block))
            yield start, block

    monkeypatch.setattr(preprocess, "_blocks", counted)
    mapped = Standardizer.fit(np.load(tmp_path / "x.npy", mmap_mode="r"))
    assert max(rows) == 10 and sum(rows) == 2 * len(X)
    np.testing.assert_allclose(mapped.mean, X.mean(axis=0), rtol=1e-12)


def test_standardizer_survives_json_bit_for_bit():
    saved = Standardizer.fit(X)
    loaded = Standardizer.from_json(json.loads(json.dumps(saved.to_json())))
    assert loaded.mean.tobytes() == saved.mean.tobytes() and loaded.scale.tobytes() == saved.scale.tobytes()
    assert Standardizer.from_json(Standardizer.fit([[5, 1, 7], [5, 2, 7]]).to_json()).constant == (0, 2)


@pytest.mark.parametrize(
    ("saved", "message"),
    [
        ({}, "KeyError: 'mean'"),
        (None, "TypeError"),
        ({"mean": ["a"], "scale": [1]}, "ValueError"),
        ({"mean": [1, 2], "scale": [1]}, r"mean has shape \(2,\), scale \(1,\)"),
        ({"mean": [[1]], "scale": [[1]]}, r"mean has shape \(1, 1\)"),
        ({"mean": [1], "scale": [0]}, "not positive"),
        ({"mean": [float("nan")], "scale": [1]}, "not finite"),
        ({"mean": [1, 2], "scale": [1, float("inf")]}, "not finite"),
        ({"mean": [1, 2], "scale": [1, 1], "constant": [2]}, r"constant columns \(2,\) of 2"),
        ({"mean": [1, 2], "scale": [1, 1], "constant": [0, -1]}, r"constant columns \(0, -1\) of 2"),
    ],
)
def test_damaged_json_is_refused(saved, message):
    with pytest.raises(DataError, match=f"not a saved standardizer: .*{message}"):
        Standardizer.from_json(saved)


def test_standardizer_refuses_other_columns_with_both_counts():
    standardizer = Standardizer.fit(X)
    for method in (standardizer.transform, standardizer.inverse):
        with pytest.raises(ShapeError, match="x has 6 columns; the standardizer was fitted on 7"):
            method(X[:, :6])
        with pytest.raises(ShapeError, match=r"x has shape \(501,\); \(rows, features\) is needed"):
            method(X[:, 0])


def test_standardizer_refuses_unusable_numbers_with_their_place(monkeypatch):
    monkeypatch.setattr(preprocess, "BLOCK_ELEMENTS", 70)
    x = X.copy()
    x[123, 4] = np.nan
    x[124, 3] = x[300, 2] = np.inf
    with pytest.raises(DataError, match=r"x\[123, 4\] is nan; mean and scale need finite numbers"):
        Standardizer.fit(x)
    with pytest.raises(DataError, match=r"x has shape \(0, 7\): no row"):
        Standardizer.fit(X[:0])


@pytest.mark.parametrize("n", [3, 4, 10, 101])
@pytest.mark.parametrize("fraction", [0.25, 0.5, 0.74])
def test_split_parts_are_disjoint_complete_and_of_the_exact_size(n, fraction):
    train, test = train_test_split(n, fraction, seed=3)
    assert sorted([*train, *test]) == list(range(n)) and len(test) == round(fraction * n)


def test_split_follows_the_seed_alone():
    y = np.arange(100) % 3
    for stratify in (False, True):
        first, again, other = (train_test_split(y, 0.3, seed, stratify) for seed in (5, 5, 6))
        np.testing.assert_array_equal(first[0], again[0])
        np.testing.assert_array_equal(first[1], again[1])
        assert first[1].tolist() != other[1].tolist()
        assert first[0].tolist() != sorted(first[0]) and first[1].tolist() != sorted(
            first[1]
        )  # both are shuffled
    np.testing.assert_array_equal(train_test_split(100, 0.3, 5)[1], train_test_split(y, 0.3, 5)[1])
    np.testing.assert_array_equal(
        train_test_split(np.int64(100), 0.3, 5)[1], train_test_split(100, 0.3, 5)[1]
    )


@pytest.mark.parametrize(
    ("counts", "fraction", "expected"),
    [
        ([50, 30, 20], 0.1, [5, 3, 2]),
        (
            [7, 2, 1],
            0.5,
            [4, 1, 0],
        ),  # 3.5, 1, 0.5 → 3, 1, 0 and one more: remainders tie, the first class gives it
        ([6, 3, 3], 0.25, [1, 1, 1]),  # 1.5, 0.75, 0.75 → 1, 0, 0 and two more: 0.75, 0.75 come first
        (
            [2, 2, 6],
            0.7,
            [1, 1, 5],
        ),  # 1.4, 1.4, 4.2 → 1, 1, 4 and one more: small classes have no row to give
    ],
)
def test_stratified_shares_are_rounded_by_largest_remainder(counts, fraction, expected):
    y = np.repeat(["a", "b", "c"], counts)
    _, test = train_test_split(y, fraction, seed=1, stratify=True)
    assert [int(np.sum(y[test] == k)) for k in "abc"] == expected


def test_stratified_split_keeps_every_class_in_train_and_the_exact_total():
    generator = np.random.default_rng(4)
    for _ in range(200):
        y = generator.integers(0, generator.integers(1, 8), generator.integers(4, 60))
        fraction = generator.uniform(0.15, 0.7)
        classes, counts = np.unique(y, return_counts=True)
        total = round(fraction * len(y))
        if total > np.where(counts > 1, counts - 1, 1).sum():
            continue
        train, test = train_test_split(y, fraction, 0, stratify=True)
        assert len(test) == total and sorted([*train, *test]) == list(range(len(y)))
        assert set(classes[counts > 1]) <= set(y[train])
        shares = np.array([np.sum(y[test] == k) for k in classes])
        if fraction < 0.5:
            assert np.all(np.abs(shares - total * counts / len(y)) < 1)


def test_stratified_split_takes_labels_of_any_kind():
    y = [("a", 1), ("b", 2)] * 10
    _, test = train_test_split(y, 0.2, 0, stratify=True)
    assert sorted(y[i] for i in test) == [("a", 1)] * 2 + [("b", 2)] * 2


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 1.5, float("nan")])
def test_split_refuses_a_fraction_outside_zero_and_one(fraction):
    with pytest.raises(ConfigurationError, match=f"fraction is {fraction}; it must lie between 0 and 1"):
        train_test_split(10, fraction, 0)


def test_split_refuses_what_cannot_be_split():
    with pytest.raises(DataError, match=r"fraction 0.1 of 3 rows puts 3 in train, 0 in test"):
        train_test_split(3, 0.1, 0)
    with pytest.raises(DataError, match=r"fraction 0.9 of 3 rows puts 0 in train, 3 in test"):
        train_test_split(3, 0.9, 0)
    with pytest.raises(ConfigurationError, match="stratify needs the labels, not their number 10"):
        train_test_split(10, 0.5, 0, stratify=True)
    with pytest.raises(DataError, match="3 of 4 rows in test leave some of the 2 classes no row in train"):
        train_test_split([0, 0, 1, 1], 0.75, 0, stratify=True)
    with pytest.raises(DataError, match="4 of 5 rows in test leave some of the 3 classes no row in train"):
        train_test_split([0, 0, 1, 1, 2], 0.8, 0, stratify=True)
