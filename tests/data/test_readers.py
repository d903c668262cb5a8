"""A data source, given by name or path, becomes a Dataset; invalid sources raise an error with advice."""

import gzip
import os
import struct
import subprocess
import sys

import numpy as np
import pytest

from ffnn_gpu import load
from ffnn_gpu.data.readers import BUNDLED, Dataset, read
from ffnn_gpu.errors import CheckpointError, DataError
from ffnn_gpu.estimators.model import Model

IMAGES = np.arange(24, dtype=np.uint8).reshape(4, 2, 3)
LABELS = np.array([1, 0, 9, 1], dtype=np.uint8)


def write_idx(path, array, pack=bytes):
    path.write_bytes(
        pack(struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.tobytes())
    )


@pytest.fixture
def idx_folder(tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    write_idx(folder / "train-images-idx3-ubyte", IMAGES)
    write_idx(folder / "train-labels-idx1-ubyte", LABELS)
    return folder


@pytest.mark.parametrize(
    ("name", "shape", "n_classes"),
    [
        ("digits", (1797, 64), 10),
        ("breast_cancer", (569, 30), 2),
        ("wine", (178, 13), 3),
        ("iris", (150, 4), 3),
        ("diabetes", (442, 10), None),
    ],
)
def test_bundled_set_has_its_published_shape(name, shape, n_classes):
    pytest.importorskip("sklearn")
    data = read(name)
    assert data.x.shape == shape and data.y.shape == shape[:1] and data.name == name
    assert len(data.feature_names) == shape[1] and all(type(feature) is str for feature in data.feature_names)
    assert n_classes is None or len(np.unique(data.y)) == n_classes


def test_error_without_scikit_learn_names_the_package_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(DataError, match=r"'wine' needs scikit-learn: pip install \"ffnn_gpu\[sklearn\]\""):
        read("wine")


def test_importing_readers_does_not_import_scikit_learn():
    modules = "ffnn_gpu.data.readers, ffnn_gpu.data.standardizer, ffnn_gpu.evaluation.metrics"
    code = f"import sys, {modules}; sys.exit('sklearn' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_error_for_an_unknown_source_lists_accepted_sources_and_the_closest_name(tmp_path):
    with pytest.raises(DataError) as caught:
        read("digts")
    for accepted in (*BUNDLED, ".csv", ".npy", ".npz", "IDX"):
        assert accepted in str(caught.value)
    assert str(caught.value).endswith("did you mean 'digits'?")
    (tmp_path / "train.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match=r"tran\.csv' is not a data set: .* did you mean '.*train\.csv'\?"):
        read(tmp_path / "tran.csv")
    (tmp_path / "notes.doc").write_text("a")
    with pytest.raises(
        DataError,
        match=r"notes\.doc: \.doc files are not supported; use a table such as \.csv, \.npy, \.npz or a",
    ):
        read(tmp_path / "notes.doc")


@pytest.mark.parametrize("name", ["wine", "data.npz", "mnist"])
def test_target_is_refused_for_sources_with_a_fixed_target(name, idx_folder):
    np.savez(idx_folder.parent / "data.npz", X=IMAGES, y=LABELS)
    source = name if name == "wine" else idx_folder.parent / name
    with pytest.raises(DataError, match=f"{name} has a fixed target; target='b' works only with"):
        read(source, "b")


@pytest.mark.parametrize(
    ("target", "x", "y"),
    [(None, [[1, 2], [4, 5]], [3, 6]), (0, [[2, 3], [5, 6]], [1, 4]), ("1", [[1, 3], [4, 6]], [2, 5])],
)
def test_npy_target_is_a_column_of_the_matrix(tmp_path, target, x, y):
    np.save(tmp_path / "a.npy", np.array([[1.0, 2, 3], [4, 5, 6]]))
    data = read(tmp_path / "a.npy", target)
    assert data.x.tolist() == x and data.y.tolist() == y


def test_npy_features_stay_in_the_mapped_file(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((5, 3)))
    for target in (None, 0):
        assert isinstance(read(tmp_path / "a.npy", target).x, np.memmap)


@pytest.mark.parametrize(
    "array", [np.zeros(3), np.zeros((3, 1)), np.zeros((2, 2), complex), np.array([["a", "b"]])]
)
def test_error_for_npy_that_is_no_table_shows_dtype_and_shape(tmp_path, array):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError) as caught:
        read(tmp_path / "a.npy")
    assert f"holds {array.dtype} of shape {array.shape}; it must hold numbers (n, features + 1)" in str(
        caught.value
    )


def test_npy_column_out_of_range_shows_the_range(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((2, 3)))
    with pytest.raises(DataError, match="has no column 3; the columns are 0 … 2"):
        read(tmp_path / "a.npy", 3)
    with pytest.raises(DataError, match=r"a\.npy has no column 'y'; the columns are 0 … 2"):
        read(tmp_path / "a.npy", "y")


@pytest.mark.parametrize(
    "names",
    [
        ("X", "y", "X_test", "y_test"),
        ("x", "y", "x_test", "y_test"),
        ("x_train", "y_train", "x_test", "y_test"),
    ],
)
def test_npz_parts_are_found_by_name_and_images_flattened(tmp_path, names):
    np.savez(tmp_path / "a.npz", **dict(zip(names, (IMAGES, LABELS, IMAGES[:2], LABELS[:2]), strict=True)))
    data = read(tmp_path / "a.npz")
    assert data.x.shape == (4, 6) and data.x.dtype == np.uint8 and data.y.tolist() == LABELS.tolist()
    assert data.x_test.shape == (2, 6) and data.y_test.tolist() == [1, 0]


def test_npz_without_test_part_has_none(tmp_path):
    np.savez(tmp_path / "a.npz", X=IMAGES, y=np.eye(4))
    data = read(tmp_path / "a.npz")
    assert data.x_test is None and data.y_test is None and data.y.shape == (4, 4)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (
            {"pixels": IMAGES, "y": LABELS},
            r"arrays pixels, y; it must have X \(or x, X_train, x_train\) and y \(or",
        ),
        ({"X": IMAGES, "y": LABELS[:3]}, r"a: x has shape \(4, 6\), y \(3,\)"),
        ({"X": IMAGES, "y": LABELS, "X_test": IMAGES}, "a has x_test but no y_test"),
        (
            {"X": IMAGES, "y": LABELS, "X_test": IMAGES, "y_test": LABELS[:1]},
            r"test part: x has shape \(4, 6\), y \(1,\)",
        ),
        (
            {"X": IMAGES, "y": LABELS, "X_test": IMAGES[:, 0], "y_test": LABELS},
            "x has 6 columns; x_test has 3",
        ),
        ({"X": LABELS, "y": LABELS}, r"x is uint8 of shape \(4,\); it must hold numbers \(n, features\)"),
    ],
)
def test_error_for_npz_arrays_that_do_not_match_shows_the_numbers(tmp_path, arrays, message):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match=message):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize("separator", ["-", "."])
@pytest.mark.parametrize(("ending", "pack"), [("", bytes), (".gz", gzip.compress)])
def test_idx_folder_is_read_under_each_of_its_usual_names(tmp_path, separator, ending, pack):
    for part, count in (("train", 4), ("t10k", 2)):
        write_idx(tmp_path / f"{part}-images{separator}idx3-ubyte{ending}", IMAGES[:count], pack)
        write_idx(tmp_path / f"{part}-labels{separator}idx1-ubyte{ending}", LABELS[:count], pack)
    data = read(tmp_path)
    np.testing.assert_array_equal(data.x, IMAGES.reshape(4, 6))
    assert data.x.dtype == np.uint8 and data.y.tolist() == [1, 0, 9, 1] and data.y.dtype == np.int64
    assert data.x_test.shape == (2, 6) and data.y_test.tolist() == [1, 0] and data.name == tmp_path.name


def test_idx_folder_needs_no_test_part(idx_folder):
    data = read(idx_folder)
    assert data.x.shape == (4, 6) and data.x_test is None


def test_idx_folder_may_contain_other_files(idx_folder):
    np.save(idx_folder / "notes.npy", np.zeros((9, 5)))
    assert read(idx_folder).x.dtype == np.uint8


def test_error_for_different_counts_in_an_idx_folder_shows_both(idx_folder):
    write_idx(idx_folder / "train-labels-idx1-ubyte", LABELS[:3])
    with pytest.raises(
        DataError, match=r"train-images-idx3-ubyte has 4 images; train-labels-.* has \(3,\) labels"
    ):
        read(idx_folder)


def test_error_for_a_missing_file_of_an_idx_folder_names_it(idx_folder):
    test_labels = idx_folder / "t10k-labels.idx1-ubyte"
    write_idx(test_labels, LABELS)
    with pytest.raises(DataError, match="mnist has t10k-labels but no t10k-images"):
        read(idx_folder)
    (idx_folder / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="mnist has train-images but no train-labels"):
        read(idx_folder)
    (idx_folder / "train-images-idx3-ubyte").unlink()
    test_labels.unlink()
    with pytest.raises(DataError, match="mnist has no train-images-idx3-ubyte"):
        read(idx_folder)


def test_dataset_of_mismatched_arrays_cannot_be_made():
    with pytest.raises(DataError, match=r"mine: x has shape \(3, 2\), y \(2,\)"):
        Dataset(np.zeros((3, 2)), np.zeros(2), None, None, "mine")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such pipes")
def test_pipe_and_device_are_not_called_missing(tmp_path):
    os.mkfifo(tmp_path / "rows")
    for source, kind in ((tmp_path / "rows", "a pipe"), ("/dev/null", "a device")):
        for read_from in (read, Model.load, load):
            with pytest.raises((DataError, CheckpointError), match=f"{source} is {kind}; ") as found:
                read_from(source)
            assert "no such file" not in str(found.value) and "did you mean" not in str(found.value)


@pytest.mark.parametrize(
    ("name", "stem"),
    [(".hid.npy", "hid"), ("..npy", "npy"), (".npy", "npy"), ("a.b.npy", "a"), ("a.npy", "a")],
)
def test_data_set_of_a_hidden_file_has_a_name(tmp_path, name, stem):
    np.save(tmp_path / "x.npy", np.eye(3))
    (tmp_path / "x.npy").rename(tmp_path / name)
    assert read(tmp_path / name).name == stem


@pytest.mark.parametrize(("y", "y_test"), [((6,), (4, 2)), ((6, 2), (4,)), ((6, 2), (4, 3))])
def test_test_set_with_other_target_columns_is_refused(y, y_test):
    with pytest.raises(DataError, match=r"y has \d columns; y_test has \d"):
        Dataset(np.ones((6, 2)), np.ones(y), None, None, "made", np.ones((4, 2)), np.ones(y_test))
    assert Dataset(np.ones((6, 2)), np.ones(6), None, None, "m", np.ones((4, 2)), np.ones((4, 1))).name == "m"
