"""Standardizer subtracts the mean and divides by the deviation, as scikit-learn does."""

import json

import numpy as np
import pytest

from ffnn_gpu.arrays import rows as rows_module
from ffnn_gpu.data import standardizer as preprocess
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.errors import DataError, ShapeError

X = np.random.default_rng(0).normal(3.0, 5.0, (501, 7)) * 10.0 ** np.arange(-3, 4)


def test_standardizer_example_worked_by_hand():
    standardizer = Standardizer.fit([[1, 5], [3, 5], [8, 5]])
    np.testing.assert_array_equal(standardizer.mean, [4, 5])  # (1 + 3 + 8) / 3
    # 9 + 1 + 16 = 26; the scale of a constant column is 1.
    np.testing.assert_allclose(standardizer.scale, [np.sqrt(26 / 3), 1], rtol=1e-15)
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
    monkeypatch.setattr(rows_module, "BLOCK_ELEMENTS", block_elements)
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
def test_features_whose_squares_overflow_or_underflow_are_standardized(magnitude):
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
def test_transform_returns_the_dtype_and_does_not_change_its_input(dtype):
    x = np.array([[0, 200], [255, 100]], dtype=np.uint8)  # 0 − 1 would be 255 in uint8
    before = x.copy()
    z = Standardizer.fit(x).transform(x, dtype)
    assert z.dtype == dtype and z.tolist() == [[-1, 1], [1, -1]]
    np.testing.assert_array_equal(x, before)


def test_block_of_rows_is_8_mib_or_one_row():
    for width, lengths in ((1 << 16, [16, 16, 8]), (3 << 18, [1] * 3)):
        blocks = [block for _, block in preprocess._blocks(np.zeros((sum(lengths), width), np.uint8))]
        assert [len(block) for block in blocks] == lengths and blocks[0].nbytes <= 8 << 20


def test_standardizer_is_immutable_and_compares_by_identity():
    standardizer = Standardizer.fit(X)
    assert standardizer == standardizer != Standardizer.fit(X) and hash(standardizer)
    with pytest.raises(AttributeError):
        standardizer.mean = 0


def test_memory_mapped_features_are_never_copied_whole(tmp_path, monkeypatch):
    np.save(tmp_path / "x.npy", X)
    monkeypatch.setattr(rows_module, "BLOCK_ELEMENTS", 70)
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


def test_standardizer_read_from_json_is_equal_bit_for_bit():
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


def test_standardizer_refuses_non_finite_values_and_empty_data_with_their_place(monkeypatch):
    monkeypatch.setattr(rows_module, "BLOCK_ELEMENTS", 70)
    x = X.copy()
    x[123, 4] = np.nan
    x[124, 3] = x[300, 2] = np.inf
    with pytest.raises(
        DataError, match=r"x\[123, 4\] is nan; mean and scale can only be computed from finite numbers"
    ):
        Standardizer.fit(x)
    with pytest.raises(DataError, match=r"x has shape \(0, 7\): no row"):
        Standardizer.fit(X[:0])


@pytest.mark.parametrize("column", [[1e308, -1e308, 0.0], [1.7e308, 1.6e308, 1.7e308]])
def test_column_whose_scale_float64_cannot_hold_is_refused(column):
    with pytest.raises(DataError, match=r"column 1 of x has values from .* float64 cannot hold"):
        Standardizer.fit(np.column_stack([[1.0, 2.0, 3.0], column]))
