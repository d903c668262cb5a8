"""Rows in files are read on access: their values equal the rows in memory, and no page is mapped."""

import copy
import os
import pickle

import numpy as np
import pytest

from ffnn_gpu import Adam, DataError, Dense, Network, ShapeError, fit, npy_rows, softmax_cross_entropy
from ffnn_gpu.arrays import file_rows
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.arrays.file_rows import FileRows
from ffnn_gpu.arrays.rows import SelectedRows
from ffnn_gpu.backends.choice import NumpyBackend
from ffnn_gpu.data.minibatches import Order
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.testing.strict_device import StrictBackend
from ffnn_gpu.training.data_fingerprint import INPUTS, agree, fingerprints
from tests.distributed.threads import on_ranks

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
Y = np.arange(60) % 3


def files(folder, sizes=(20, 1, 0, 39), x=X, name="x"):
    """Write the rows of x to files with these numbers of rows; return their folder."""
    for k, part in enumerate(np.split(x, np.cumsum(sizes)[:-1])):
        np.save(folder / f"{name}-{k}.npy", part)
    return folder


def mapped(folder, x=X, name="x"):
    np.save(folder / f"{name}.npy", x)
    return np.load(folder / f"{name}.npy", mmap_mode="r")


@pytest.fixture
def read_always(monkeypatch):
    """Treat files of any size as large."""
    monkeypatch.setattr(file_rows, "MAPPED", 0)


@pytest.mark.parametrize(
    "rows",
    [
        slice(None),
        slice(18, 25),
        slice(-3, None),
        slice(50, 3, -4),
        slice(5, 5),
        np.array([59, 0, 20, 21, 22, 0]),
        -1,
        7,
        np.arange(60)[::-1],
        np.array([[1, 2], [3, -4]]),
        Y == 1,
        [],
        [19, 20],
    ],
    ids=str,
)
def test_rows_of_several_files_equal_the_rows_of_the_array(tmp_path, rows):
    found = npy_rows(files(tmp_path))
    expected = X[np.asarray(rows, int) if rows == [] else rows] if isinstance(rows, list) else X[rows]
    np.testing.assert_array_equal(found[rows], expected)
    assert found[rows].dtype == X.dtype and found.shape == X.shape and len(found) == 60 and found.ndim == 2
    np.testing.assert_array_equal(np.asarray(found), X)
    np.testing.assert_array_equal(found.columns(1, 3)[rows], expected[..., 1:3])


@pytest.mark.parametrize("rows", [[60], [-61], 60, [3, 100]])
def test_row_index_out_of_range_is_refused(tmp_path, rows):
    with pytest.raises(IndexError, match="there are 60"):
        npy_rows(files(tmp_path))[rows]


def test_files_of_a_folder_are_sorted_by_number_and_a_list_is_read_in_its_order(tmp_path):
    for k in (2, 10, 1):
        np.save(tmp_path / f"x-{k}.npy", np.full((1, 2), k))
    assert npy_rows(tmp_path)[:][:, 0].tolist() == [1, 2, 10]
    assert npy_rows([tmp_path / f"x-{k}.npy" for k in (10, 1)])[:][:, 0].tolist() == [10, 1]
    assert npy_rows(tmp_path / "x-2.npy")[:].tolist() == [[2, 2]]


@pytest.mark.parametrize(
    ("other", "error", "words"),
    [
        (np.zeros((2, 5), np.float32), ShapeError, r"rows of shape \(5,\)"),
        (np.zeros((2, 4)), DataError, "holds float64"),
        (np.asfortranarray(np.zeros((2, 4), np.float32)), DataError, "not stored row by row"),
        (np.float32(1), DataError, "one number, not rows"),
    ],
    ids=["width", "type", "order", "number"],
)
def test_error_for_a_file_that_does_not_fit_the_others_names_it(tmp_path, other, error, words):
    np.save(files(tmp_path) / "x-9.npy", other)
    with pytest.raises(error, match=rf"x-9\.npy.*{words}"):
        npy_rows(tmp_path)


def test_folder_without_files_or_rows_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"holds no \.npy file"):
        npy_rows(tmp_path)
    np.save(tmp_path / "x.npy", X[:0])
    with pytest.raises(DataError, match="holds no rows"):
        npy_rows(tmp_path)


def test_truncated_file_raises_an_error_instead_of_ending_the_process(tmp_path):
    rows = npy_rows(files(tmp_path))
    os.truncate(tmp_path / "x-3.npy", 400)
    np.testing.assert_array_equal(rows[:21], X[:21])
    with pytest.raises(DataError, match=r"x-3\.npy ends before byte"):
        rows[[3, 59]]


def test_incomplete_read_is_continued_by_another_call(tmp_path, monkeypatch):
    rows, whole = npy_rows(files(tmp_path)), file_rows.read_at
    monkeypatch.setattr(
        file_rows, "read_at", lambda file, buffers, offset: whole(file, [buffers[0][:5]], offset)
    )
    np.testing.assert_array_equal(rows[:], X)


def test_platform_without_positioned_reads_seeks_first(tmp_path, monkeypatch):
    monkeypatch.setattr(file_rows, "read_at", file_rows._seek_and_read)
    np.testing.assert_array_equal(npy_rows(files(tmp_path))[::-1], X[::-1])


def pickled(rows):
    return pickle.loads(pickle.dumps(rows))  # noqa: S301


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, pickled])
def test_copy_of_rows_has_files_of_its_own(tmp_path, again):
    other = again(npy_rows(files(tmp_path)))
    assert (np.asarray(other) == X).all()


@pytest.mark.parametrize("index", [slice(None), np.array([30, 2])])
def test_standardized_rows_in_files_convert_to_an_array(tmp_path, index):
    rows, scaler = npy_rows(files(tmp_path)), Standardizer.fit(X)
    for x in (rows, SelectedRows(rows, np.arange(60))):
        assert (np.asarray(scaler.rows(x))[index] == scaler.transform(X, np.float64)[index]).all()


def test_files_are_closed_with_the_rows(tmp_path):
    rows = npy_rows(files(tmp_path))
    first = rows.files[0]
    del rows
    with pytest.raises(OSError):
        os.fstat(first)


VIEWS = [
    lambda x: x,
    lambda x: x[:, :3],
    lambda x: x[:, 1:],
    lambda x: x[5:50],
    lambda x: x[::-2],
    lambda x: x[7:, 2:3],
]


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="only Linux says which file is mapped")
@pytest.mark.parametrize("view", range(len(VIEWS)))
@pytest.mark.parametrize("dtype", ["float32", ">f8", "uint8"])
def test_views_of_a_large_mapped_file_are_read_from_the_file(tmp_path, read_always, view, dtype):
    x = VIEWS[view](mapped(tmp_path, (10 * X).astype(dtype)))
    rows = rows_of(x).unmapped()
    assert isinstance(rows, FileRows) and rows.dtype == x.dtype
    np.testing.assert_array_equal(rows[:], x)
    np.testing.assert_array_equal(rows[[2, 0]], x[[2, 0]])


def test_mapped_file_that_cannot_be_read_stays_mapped(tmp_path, read_always):
    path = tmp_path / "x.npy"
    x = mapped(tmp_path)
    assert rows_of(X).unmapped().stored is X
    for other in (
        x[:, ::2],
        mapped(tmp_path, np.asfortranarray(X), "f"),
        mapped(tmp_path, Y, "y"),
        np.load(path, "c"),
    ):
        assert rows_of(other).unmapped().stored is other
    np.save(tmp_path / "new.npy", X + 1)
    os.replace(tmp_path / "new.npy", path)  # another file of the same name
    assert rows_of(x).unmapped().stored is x
    path.unlink()
    assert rows_of(x).unmapped().stored is x


def test_small_mapped_file_stays_mapped(tmp_path):
    x = mapped(tmp_path)
    assert rows_of(x).unmapped().stored is x


def network():
    return Network(4, [Dense(3)], "numpy", "float64", seed=1)


def trained(x, y=Y, communicator=None, **settings):
    net = network()
    fit(
        net,
        softmax_cross_entropy,
        Adam(1e-2),
        (x, y),
        epochs=2,
        batch_size=16,
        verbose=0,
        communicator=communicator,
        **{"validation": 0.2, "metrics": ["accuracy"]} | settings,
    )
    return net.params.theta


@pytest.mark.parametrize(
    "settings", [{}, {"validation": None}, {"validation": (X, Y)}], ids=["part", "none", "apart"]
)
def test_training_on_rows_in_files_equals_training_on_rows_in_memory(tmp_path, read_always, settings):
    for name in "xy":
        (tmp_path / name).mkdir()
    y = npy_rows(files(tmp_path / "y", (30, 30), Y, "y"))
    expected = trained(X, **settings)
    for x in (npy_rows(files(tmp_path / "x")), mapped(tmp_path)):
        np.testing.assert_array_equal(trained(x, y, **settings), expected)
        np.testing.assert_array_equal(network().predict(x), network().predict(X))


def test_rows_in_files_can_be_standardized(tmp_path):
    rows, mean, scale = npy_rows(files(tmp_path)), X.mean(0, np.float64), X.std(0, dtype=np.float64)
    np.testing.assert_array_equal(
        trained(Standardizer(mean, scale).rows(rows)), trained(Standardizer(mean, scale).rows(X))
    )
    assert agree(INPUTS, *(fingerprints(NumpyBackend(), (x, Y, None), None)[INPUTS] for x in (rows, X)))


def test_rows_in_files_go_to_a_device_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr("ffnn_gpu.arrays.rows.BLOCK_ELEMENTS", 4 * 7)
    device, rows = StrictBackend(), npy_rows(files(tmp_path))
    for x in (rows, SelectedRows(rows, np.arange(59, -1, -2))):
        moved = x.on(device, np.float64)
        np.testing.assert_array_equal(device.to_host(moved.stored), x[:])
        assert moved.dtype == np.float32  # the stored type, because it is smaller


class Spy(FileRows):
    """Rows that record the indices of each read."""

    def __init__(self, rows):
        super().__init__(rows.extents, rows.shape[1:], rows.dtype)
        self.seen = []

    def read(self, index, out):
        self.seen.append(index.copy())
        super().read(index, out)


@pytest.mark.parametrize("type_", [">f4", ">i2", ">f8"])
def test_rows_of_the_other_byte_order_are_converted_on_the_device(tmp_path, type_):
    backend, x = StrictBackend(), mapped(tmp_path, (100 * X).astype(type_))
    moved = Standardizer.fit(x).rows(x).on(backend, "float32").stored
    assert moved.dtype.isnative and (backend.to_host(moved) == x).all()


@pytest.mark.parametrize("n", [1, 2, 3])
def test_each_rank_reads_its_rows_and_no_others(tmp_path, n):
    files(tmp_path)

    def work(ranks):
        x = Spy(npy_rows(tmp_path))
        trained(x, communicator=ranks, validation=None, metrics=[])
        return x.seen

    checked, gathered = [], []
    orders = [Order(16).permutation(60, epoch) for epoch in range(2)]
    for rank, seen in enumerate(on_ranks(n, work)[0]):
        start, stop = rank * 60 // n, (rank + 1) * 60 // n
        checked.append(seen[0])
        np.testing.assert_array_equal(seen[0], np.arange(start, stop))  # the check for finite values
        batches = [order[k : k + 16] for order in orders for k in range(0, 60, 16)]
        parts = [batch[rank * len(batch) // n : (rank + 1) * len(batch) // n] for batch in batches]
        if n > 1:
            np.testing.assert_array_equal(seen.pop(1), np.arange(60))  # the fingerprint, which ranks compare
        assert len(seen) == 1 + len(parts)
        for mine, part in zip(seen[1:], parts, strict=True):
            np.testing.assert_array_equal(mine, part)
        gathered += seen[1:]
    assert sorted(np.concatenate(checked)) == [*range(60)]
    assert sorted(np.concatenate(gathered)) == sorted([*range(60)] * 2)


@pytest.mark.parametrize("where", ["training", "validation"])
@pytest.mark.parametrize(
    "store", [npy_rows, lambda folder: np.load(folder / "x-0.npy", mmap_mode="r")], ids=["read", "mapped"]
)
def test_non_finite_value_is_reported_by_the_rank_of_its_row_and_ends_all_ranks(tmp_path, where, store):
    bad = X.copy()
    bad[45, 2] = np.nan
    files(tmp_path, (60,), bad)

    def work(ranks):
        x = store(tmp_path)
        data = {"x": x} if where == "training" else {"x": X, "validation": (x, Y)}
        with pytest.raises(DataError) as found:
            trained(communicator=ranks, **data)
        return str(found.value)

    first, second, third = on_ranks(3, work)[0]
    assert third == "x from row 40 on holds 1 values that are not finite; the first is nan at index (5, 2)"
    assert first == second == "rank 2 did not accept the data; the error there gives the reason"


@pytest.mark.parametrize(("row", "rank", "first"), [(0, 0, 0), (57, 6, 51), (59, 6, 51)])
def test_rows_at_both_ends_are_checked_where_the_ranks_do_not_divide_them(tmp_path, row, rank, first):
    bad = X.copy()
    bad[row, 1] = np.inf
    files(tmp_path, (60,), bad)

    def work(ranks):
        with pytest.raises(DataError) as found:
            trained(npy_rows(tmp_path), communicator=ranks)
        return str(found.value)

    said = on_ranks(7, work)[0]
    place = f"x from row {first} on" if first else "x"
    assert said[rank].startswith(f"{place} holds 1 values that are not finite")
    assert {*said[:rank], *said[rank + 1 :]} == {
        f"rank {rank} did not accept the data; the error there gives the reason"
    }


def test_check_of_finite_values_is_shared_among_ranks_only_for_rows_in_files(tmp_path):
    whole = rows_of(X)
    assert whole.share(1, 2) == (whole, 0)
    part, first = rows_of(mapped(tmp_path)).share(1, 3)
    assert first == 20 and part.index.tolist() == [*range(20, 40)]
