"""Every kind of rows returns the values of the same matrix from every method."""

import numpy as np
import pytest

from ffnn_gpu import npy_rows
from ffnn_gpu.arrays import rows as rows_module
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.arrays.rows import Rows, blocks
from ffnn_gpu.backends.choice import NumpyBackend
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.testing.strict_device import StrictBackend

X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
INDEX = np.array([29, 3, 3, 0, 17])
KINDS = ["memory", "mapped", "view", "files", "selected", "standardized", "device"]


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


@pytest.fixture
def make(kind, tmp_path):
    """Return a function from a backend to (rows, the matrix they hold)."""

    def made(backend):
        np.save(tmp_path / "x.npy", np.column_stack([X, X])[:, :5])
        mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
        files, back = npy_rows(tmp_path / "x.npy").columns(0, 4), np.arange(30)[::-1]
        scaler = Standardizer(np.full(4, 0.5), np.full(4, 2.0))
        return {
            "memory": lambda: (rows_of(X), X),
            "mapped": lambda: (rows_of(mapped), mapped[:]),
            "view": lambda: (rows_of(mapped[:, :4]), X),
            "files": lambda: (files, X),
            "selected": lambda: (files.select(back).select(back[3:]), X[3:]),
            "standardized": lambda: (scaler.rows(files), scaler.transform(X, np.float64)),
            "device": lambda: (rows_of(backend.asarray(X), backend.admit), X),
        }[kind]()

    return made


@pytest.fixture(params=[NumpyBackend, StrictBackend], ids=["numpy", "strict"])
def backend(request):
    return request.param()


def test_rows_have_the_shape_and_type_of_their_matrix(make, backend):
    x, want = make(backend)
    assert isinstance(x, Rows) and rows_of(x).shape == want.shape == x.shape
    assert (x.dtype, x.ndim, len(x)) == (want.dtype, 2, len(want))
    assert not x.stays_in_files or x.in_files


def test_selected_rows_have_the_values_of_their_indices(make, backend):
    x, want = make(backend)
    some = x.select(INDEX[1:], backend)
    assert some.in_files == x.in_files and some.shape == (4, want.shape[1])
    got = some.matrix(backend, slice(None), want.dtype)
    np.testing.assert_array_equal(backend.to_host(got), want[INDEX[1:]])


def test_slice_is_returned_as_a_matrix_on_the_device(make, backend):
    x, want = make(backend)
    got = x.matrix(backend, slice(5, 9), np.float32)
    assert backend.owns(got)
    np.testing.assert_array_equal(backend.to_host(got), want[5:9].astype(np.float32))


@pytest.mark.parametrize("elements", [1, 9, 1 << 20])
def test_rows_on_the_device_are_copied_into_a_buffer(make, backend, monkeypatch, elements):
    monkeypatch.setattr(rows_module, "BLOCK_ELEMENTS", elements)
    x, want = make(backend)
    there, out = x.on(backend, np.float64), backend.empty((4, x.shape[1]), np.float64)
    index = backend.asarray(INDEX[1:])
    there.take(backend, index, out)
    np.testing.assert_array_equal(backend.to_host(out), want[INDEX[1:]].astype(np.float64))


def test_shares_of_ranks_partition_rows_in_files_and_repeat_an_array(make, backend):
    x, want = make(backend)
    for size in (1, 3, 4, 7, 40):  # 27 and 30 rows do not divide by most of them
        shares = [x.share(rank, size) for rank in range(size)]
        if not x.in_files:
            assert shares == [(x, 0)] * size
            continue
        np.testing.assert_array_equal(np.concatenate([share[:] for share, _ in shares]), want)
        assert [first for _, first in shares] == [len(want) * rank // size for rank in range(size)]


@pytest.mark.parametrize(("elements", "sizes"), [(1, [1] * 7), (8, [2, 2, 2, 1]), (13, [3, 3, 1]), (99, [7])])
def test_blocks_cover_all_rows_with_few_elements_each(monkeypatch, elements, sizes):
    monkeypatch.setattr(rows_module, "BLOCK_ELEMENTS", elements)
    x = np.zeros((7, 4))
    parts = list(blocks(x))
    assert [len(x[part]) for part in parts] == sizes and parts[-1].stop == 7
    assert [part.start for part in blocks(x, 5)] == [part.start for part in parts if part.start < 5]
    assert list(blocks(x[:0])) == []
