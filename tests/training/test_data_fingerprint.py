"""Checksums detect that a training run is resumed with other data."""

from dataclasses import replace

import ml_dtypes
import numpy as np
import pytest

from ffnn_gpu.arrays import rows as rows_module
from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.arrays.rows import SelectedRows
from ffnn_gpu.arrays.standardized import Standardized
from ffnn_gpu.backends.choice import NumpyBackend
from ffnn_gpu.testing.strict_device import StrictBackend
from ffnn_gpu.training.data_fingerprint import INPUTS, LATER, SAMPLE, agree, fingerprints

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(2 * SAMPLE + 7, 3)), np.arange(2 * SAMPLE + 7) % 2
MEAN, SCALE = np.arange(3.0), np.arange(1.0, 4)
NUMPY = NumpyBackend()


def inputs(x, backend=NUMPY):
    return fingerprints(backend, (x, Y, None), None)[INPUTS]


def changed(x, at, value):
    x = x.copy()
    x[at] = value
    return x


@pytest.fixture
def mapped(tmp_path):
    np.save(tmp_path / "x.npy", X)
    return np.load(tmp_path / "x.npy", mmap_mode="r")


@pytest.mark.parametrize(
    "other",
    [
        100 * X + 5,
        X[::-1],
        X.astype(np.float32),
        X[:, ::-1],
        *(changed(X, (i, 1), 7.0) for i in (0, 1, 2, 1000, len(X) - 1)),
        Standardized(rows_of(X), MEAN, SCALE),
    ],
    ids=str.split("scaled reversed rounded columns first second third middle last standardized"),
)
def test_every_change_of_the_rows_changes_the_fingerprint(other):
    assert not agree(INPUTS, inputs(X), inputs(other))


@pytest.mark.parametrize(
    "other",
    [
        Standardized(rows_of(X), changed(MEAN, 2, 5), SCALE),
        Standardized(rows_of(X), MEAN, changed(SCALE, 2, 5)),
        Standardized(rows_of(X), SCALE, SCALE),
    ],
)
def test_another_mean_or_scale_changes_the_fingerprint(other):
    assert not agree(INPUTS, inputs(Standardized(rows_of(X), MEAN, SCALE)), inputs(other))


def test_limit_of_standardized_rows_changes_the_fingerprint():
    whole, cut = Standardized(rows_of(X), MEAN, SCALE), Standardized(rows_of(X), MEAN, SCALE, 5.0)
    assert not agree(INPUTS, inputs(whole), inputs(cut)) and not agree(
        INPUTS, inputs(cut), inputs(replace(cut, limit=4.0))
    )
    assert agree(INPUTS, inputs(cut), inputs(replace(whole, limit=5.0)))


def test_changed_targets_weights_and_validation_rows_are_reported_by_name():
    def differing(given, held_out):
        a, b = fingerprints(NUMPY, (X, Y, None), (X, Y, Y)), fingerprints(NUMPY, given, held_out)
        return [name for name in a if not agree(name, a[name], b[name])]

    assert differing((X, Y, None), (X, Y, Y)) == []
    assert (
        differing((X, 1 - Y, None), (X, Y, Y))
        == differing((X, Y, Y), (X, Y, Y))
        == ["targets and weights (checksum)"]
    )
    assert differing((X, Y, None), (X + 1, Y, Y)) == [LATER[1]]
    assert differing((X, Y, None), (X, Y, 1 - Y)) == differing((X, Y, None), (X, Y, None)) == [LATER[2]]
    assert differing((X, Y, None), None) == [LATER[1], LATER[2]]


@pytest.mark.parametrize(
    "store",
    [
        np.asfortranarray,
        lambda x: x.repeat(2, axis=0)[::2],
        lambda x: x.repeat(2, axis=1)[:, ::2],
        lambda x: x[::-1].copy()[::-1],
    ],
)
def test_memory_layout_does_not_change_the_fingerprint(store):
    assert inputs(store(X)) == inputs(X)


@pytest.mark.parametrize("dtype", ["uint8", "bool", "float16", "bfloat16", "int64", "float64"])
def test_numbers_read_piece_by_piece_have_the_same_checksums(monkeypatch, dtype):
    x = (10 * X).astype(getattr(ml_dtypes, dtype, dtype))
    whole = inputs(x)
    monkeypatch.setattr(rows_module, "BLOCK_ELEMENTS", 300)
    assert inputs(x) == whole and len(whole) == 3
    monkeypatch.setattr(rows_module, "BLOCK_ELEMENTS", 1)
    assert inputs(x) == whole


@pytest.mark.parametrize("standardized", [False, True])
@pytest.mark.parametrize("index", [None, np.arange(0, len(X), 2)], ids=["all", "half"])
def test_rows_in_a_file_have_the_same_fingerprint_as_in_memory(mapped, index, standardized):
    theirs, mine = (mapped, X) if index is None else (rows_of(mapped).select(index), X[index])
    if standardized:
        theirs, mine = Standardized(rows_of(theirs), MEAN, SCALE), Standardized(rows_of(mine), MEAN, SCALE)
    assert (len(inputs(theirs)), len(inputs(mine))) == (2, 3)
    assert agree(INPUTS, inputs(theirs), inputs(mine)) and agree(INPUTS, inputs(mine), inputs(theirs))


def test_rows_on_a_device_have_the_same_fingerprint_as_in_memory(backend):
    for there in (backend, StrictBackend()):
        assert inputs(X, there) == inputs(X) and agree(INPUTS, inputs(there.asarray(X), there), inputs(X))
        assert not agree(INPUTS, inputs(there.asarray(X + 1), there), inputs(X))


def test_fingerprint_reads_about_a_thousand_rows_of_a_file_with_the_first_and_last(mapped):
    read = []

    class Watched(SelectedRows):
        def __getitem__(self, rows):
            read.extend(self.index[rows])
            return super().__getitem__(rows)

    inputs(Watched(rows_of(mapped), np.arange(len(X))))
    assert (
        len(read) == len({*read}) == SAMPLE
        and (read[0], read[-1]) == (0, len(X) - 1)
        and {*np.diff(read)} == {2, 3}
    )
    for few in (1, 2, 5):
        read.clear()
        inputs(Watched(rows_of(mapped), np.arange(few)))
        assert read == [*range(few)]


@pytest.mark.parametrize("damaged", [None, 3, [], ["float64"], {}, "float64"])
def test_damaged_entry_agrees_with_no_data(damaged):
    assert not agree(INPUTS, damaged, inputs(X))
