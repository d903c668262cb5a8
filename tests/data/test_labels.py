"""LabelMap maps labels to class indices and back; the task is inferred from the target."""

import json
from datetime import date

import numpy as np
import pytest

from ffnn_gpu.data.labels import LabelMap, _labels, infer_task
from ffnn_gpu.errors import DataError, ShapeError

KINDS = {
    "int array": np.array([7, -2, 7, 3]),
    "int8 array": np.array([7, -2, 7, 3], np.int8),
    "str array": np.array(["b", "a", "b", "c"]),
    "bool array": np.array([True, False, True]),
    "float array": np.array([0.5, 0.1, 0.5]),
    "int list": [7, -2, 7, 3],
    "str list": ["b", "a", "b"],
    "tuples": [(1, "b"), (1, "a"), (1, "b")],
    "mixed": ["b", 1, True, "b", None],
    "object array": np.array(["b", "a", "b"], dtype=object),
    "NumPy scalars": [np.int64(3), np.int64(1)],
    "huge integers": [2**80, 1, 2**80],
    "dates": [date(2024, 1, 2), date(2024, 1, 1)],
}


@pytest.mark.parametrize("y", KINDS.values(), ids=KINDS.keys())
def test_decode_inverts_encode_and_preserves_types(y):
    labels = LabelMap.fit(y)
    indices = labels.encode(y)
    assert indices.dtype == np.int64 and indices.shape == (len(y),)
    assert set(indices.tolist()) == set(range(len(labels.classes)))
    back = labels.decode(indices)
    assert list(back) == list(y)
    if isinstance(y, np.ndarray) and y.dtype.kind != "O":
        assert back.dtype.kind == y.dtype.kind


def test_classes_are_sorted_or_else_in_order_of_appearance():
    assert LabelMap.fit(np.array([3, 1, 2, 3])).classes == (1, 2, 3)
    assert LabelMap.fit(["b", "a"]).classes == ("a", "b")
    assert LabelMap.fit(["b", 1, "a"]).classes == ("b", 1, "a")
    assert all(type(k) is int for k in LabelMap.fit(np.array([3, 1], np.uint8)).classes)


def test_label_map_may_have_one_class():
    for y in ([7], np.array([7]), ["b"], [(1, 2)]):
        labels = LabelMap.fit(y)
        assert labels.encode(y).tolist() == [0] and list(labels.decode([0])) == list(y)


@pytest.mark.parametrize("y", [[7, -2], [0.5, 1.5], ["b", "a"], [True, False]])
def test_list_of_one_type_becomes_an_array(y):
    assert isinstance(_labels(y), np.ndarray)


def test_label_map_is_immutable_and_compares_by_value():
    assert LabelMap((1, 2)) == LabelMap((1, 2)) != LabelMap((2, 1)) and hash(LabelMap((1, 2))) == hash(
        LabelMap((1, 2))
    )
    with pytest.raises(AttributeError):
        LabelMap((1, 2)).classes = (2, 1)


def test_classes_in_any_order_are_encoded_by_position():
    assert LabelMap(("c", "a", "b")).encode(np.array(["a", "b", "c"])).tolist() == [1, 2, 0]


def test_equal_values_of_different_types_are_one_class():
    assert LabelMap((0, 1)).encode(np.array([True, False])).tolist() == [1, 0]
    assert LabelMap((0, 1)).encode([1.0, 0.0]).tolist() == [1, 0]
    assert LabelMap((0, "1")).encode([0, "1"]).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array([1, 2, 9, 1, 8]), "label 9 at row 2 is not a known class; the classes are 1, 2"),
        ([2, 0], "label 0 at row 1 is not a known class; the classes are 1, 2"),
        (np.array(["1"]), "label '1' at row 0 is not a known class; the classes are 1, 2"),
        ([(1,)], r"label \(1,\) at row 0 is not a known class; the classes are 1, 2"),
        ([1, [2]], r"label \[2\] at row 1 is not hashable"),
    ],
)
def test_error_for_an_unknown_label_names_it_and_the_known_classes(y, message):
    with pytest.raises(DataError, match=message):
        LabelMap((1, 2)).encode(y)


def test_error_for_an_unknown_label_shows_at_most_ten_classes():
    with pytest.raises(DataError, match=r"classes are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, … \(11 in all\)$"):
        LabelMap(tuple(range(11))).encode([12])
    with pytest.raises(DataError, match=r"classes are 0, 1, 2, 3, 4, 5, 6, 7, 8, 9$"):
        LabelMap(tuple(range(10))).encode([12])


def test_label_map_fit_refuses_invalid_labels():
    with pytest.raises(DataError, match="there are no labels"):
        LabelMap.fit([])
    with pytest.raises(DataError, match="label nan at row 1 is not finite"):
        LabelMap.fit(np.array([0.5, np.nan, np.inf]))
    with pytest.raises(DataError, match="label inf at row 1 is not finite"):
        LabelMap.fit(["a", float("inf")])
    with pytest.raises(ShapeError, match=r"labels have shape \(2, 2\); \(n,\) is needed"):
        LabelMap.fit(np.eye(2, dtype=int))


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([0, 2, -1, 3], r"indices\[1\] is 2; the 2 classes are 0 … 1"),
        ([1, 0, -1, 2], r"indices\[2\] is -1"),
        ([0.0], "indices are float64"),
    ],
)
def test_decode_refuses_indices_out_of_range(indices, message):
    with pytest.raises(DataError, match=message):
        LabelMap(("a", "b")).decode(indices)
    with pytest.raises(ShapeError, match=r"shape \(1, 1\)"):
        LabelMap(("a", "b")).decode([[0]])


@pytest.mark.parametrize(
    "classes",
    [(1, 2), ("1", 1, 2.0, False), (False, True), ("ä", ""), (0.1, 1e300), ((1, ("a", 2.5)), (2,)), (2**80,)],
)
def test_json_round_trip_preserves_values_and_types(classes):
    back = LabelMap.from_json(json.loads(json.dumps(LabelMap(classes).to_json()))).classes
    assert back == classes and [type(k) for k in back] == [type(k) for k in classes]


def test_json_refuses_labels_of_other_types():
    with pytest.raises(DataError, match=r"label datetime.date\(2024, 1, 1\) is a date; only int, str"):
        LabelMap((date(2024, 1, 1),)).to_json()
    with pytest.raises(DataError, match="label None is a NoneType"):
        LabelMap(((1, None),)).to_json()


@pytest.mark.parametrize(
    "saved",
    [
        None,
        {},
        {"classes": "ab"},
        {"classes": [{"list": []}]},
        {"classes": [None]},
        {"classes": [1, 1]},
        {"classes": [{"tuple": "ab"}]},
        {"classes": [{"tuple": [1], "list": [1]}]},
        {"classes": [["tuple"]]},
    ],
)
def test_damaged_json_is_refused(saved):
    with pytest.raises(DataError, match="not a saved label"):
        LabelMap.from_json(saved)


@pytest.mark.parametrize("damaged", ["x" * 100, {"classes": [["x"] * 100]}])
def test_error_for_long_damaged_json_shows_80_characters(damaged):
    with pytest.raises(DataError) as caught:
        LabelMap.from_json(damaged)
    assert len(str(caught.value).partition(": ")[2]) == 80


@pytest.mark.parametrize(
    ("y", "task"),
    [
        ([0, 1, 1], "binary"),
        ([5, 9], "binary"),
        (["a", "b", "c"], "multiclass"),
        ([True, False], "binary"),
        ([0.0, 1.0], "binary"),
        ([0.5, 1.0], "regression"),
        ([1.0, 2.0, 3.0], "multiclass"),
        (np.array(["a", 1], dtype=object), "binary"),
        (np.arange(20), "multiclass"),
        (np.arange(21), "regression"),
        (np.arange(21.0), "regression"),
        (np.arange(900) % 30, "multiclass"),
        (np.arange(900) % 31, "regression"),  # √900 = 30
        ([str(i) for i in range(50)], "multiclass"),
        ([[0, 1], [1, 1]], "multilabel"),
        ([[True, False]], "multilabel"),
        ([[0, 2], [1, 1]], "regression"),
        ([[0.5, 1.0]], "regression"),
        ([[0], [1]], "binary"),
        ([[0.5], [1]], "regression"),
    ],
)
def test_task_follows_the_documented_rule(y, task):
    assert infer_task(y) == task


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([], r"y has shape \(0,\)"),
        (3, r"y has shape \(\)"),
        ([1j], "y is complex128"),
        ([3, 3], "all 2 values of y are 3"),
        ([3], "all 1 values of y are 3"),
        (np.array([1, True], dtype=object), "all 2 values of y are 1, so the task"),
        ([1.0, np.nan, np.inf], "2 values of y are not finite, the first in row 1"),
        ([[0, 1, 2], [0, 1, np.nan], [np.nan, 1, 2]], "2 values of y are not finite, the first in row 1"),
    ],
)
def test_inferring_the_task_of_an_unusable_target_is_refused(y, message):
    with pytest.raises(DataError, match=message):
        infer_task(y)


@pytest.mark.parametrize(
    "labels", [[2**63, -1, 2**63 + 1], ["a", "a\0", ""], [2**70, 5], [-(2**63), 2**64 - 1]], ids=str
)
def test_labels_that_numpy_would_merge_remain_distinct(labels):
    found = LabelMap.fit(labels)
    assert sorted(found.classes) == sorted(labels)
    encoded = found.encode(labels)
    assert [found.classes[k] for k in encoded] == labels == list(found.decode(encoded))
