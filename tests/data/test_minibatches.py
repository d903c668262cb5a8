"""Each epoch visits every row once, in an order that depends only on seed and epoch."""

import tracemalloc

import numpy as np
import pytest

from ffnn_gpu.arrays.boundary import rows_of
from ffnn_gpu.backends.choice import get_backend
from ffnn_gpu.data.minibatches import Minibatches, Order
from ffnn_gpu.errors import ConfigurationError

N, D = 23, 5
X = np.random.default_rng(0).integers(0, 200, (N, D)).astype(np.float32)
Y = np.arange(N, dtype=np.int32)


def batches(backend, x=X, y=Y, weight=None, dtype=np.float32, epoch=0, **order):
    """Return copies of (x, y, weight) for every minibatch of an epoch."""
    data = Minibatches(backend, x, y, weight, dtype, Order(**order))
    out = []
    for step in range(data.steps):
        _, n = data.choose(epoch, step)
        data.gather(0, n)
        out.append([np.array(backend.to_host(a[:n])) for a in (data.x, data.y, data.weight) if a is not None])
    return out


def stored(kind, tmp_path):
    """Return X in another kind of storage."""
    if kind == "fortran":
        return np.asfortranarray(X)
    if kind == "strided":
        return np.repeat(np.repeat(X, 2, axis=0), 3, axis=1)[::2, ::3]
    if kind == "negative stride":
        return np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1]
    if kind == "read-only":
        x = X.copy()
        x.flags.writeable = False
        return x
    if kind.startswith("memory-mapped"):
        path = tmp_path / "x.npy"
        np.save(path, X.astype(kind.split()[-1]))
        return np.load(path, mmap_mode="r")
    return X.astype(kind)


@pytest.mark.parametrize("batch_size", [1, 4, 7, 23, 100])
@pytest.mark.parametrize("shuffle", [True, False])
def test_every_row_occurs_once_per_epoch_with_its_target_and_weight(backend, batch_size, shuffle):
    weight = np.linspace(0, 1, N, dtype=np.float32)
    for epoch in range(3):
        parts = batches(backend, weight=weight, batch_size=batch_size, shuffle=shuffle, epoch=epoch)
        x, y, w = (np.concatenate(column) for column in zip(*parts, strict=True))
        np.testing.assert_array_equal(np.sort(y), Y)
        np.testing.assert_array_equal(x, X[y])
        np.testing.assert_array_equal(w, weight[y])
        if not shuffle:
            np.testing.assert_array_equal(y, Y)


def test_permutation_depends_only_on_seed_and_epoch():
    orders = {
        (seed, epoch): Order(4, seed=seed).permutation(50, epoch) for seed in range(3) for epoch in range(3)
    }
    for (seed, epoch), order in orders.items():
        np.testing.assert_array_equal(Order(9, drop_last=True, seed=seed).permutation(50, epoch), order)
    assert len({order.tobytes() for order in orders.values()}) == 9


def test_minibatches_do_not_depend_on_the_step_at_which_the_epoch_is_entered(backend):
    data = Minibatches(backend, X, Y, None, np.float32, Order(4, seed=7))
    whole = [y for _, y in batches(backend, batch_size=4, seed=7, epoch=5)]
    for step in (3, 0, 5):
        data.choose(1, step)
        _, n = data.choose(5, step)
        data.gather(0, n)
        np.testing.assert_array_equal(backend.to_host(data.y[:n]), whole[step])


def test_several_minibatches_of_equal_size_can_be_chosen_at_once(backend, monkeypatch):
    monkeypatch.setattr(backend, "steps_per_launch", lambda rows: 3, raising=False)
    data = Minibatches(backend, X, Y, None, np.float32, Order(4, seed=7))
    whole = [y for _, y in batches(backend, batch_size=4, seed=7, epoch=2)]
    at, chosen = 0, []
    while at < data.steps:
        k, n = data.choose(2, at, most=3)
        chosen.append((k, n))
        for j in range(k):
            data.gather(j, n)
            np.testing.assert_array_equal(backend.to_host(data.y[:n]), whole[at + j])
        at += k
    assert chosen == [(3, 4), (2, 4), (1, 3)]


def test_last_minibatch_has_the_remaining_rows_and_drop_last_skips_it(backend):
    assert [len(y) for _, y in batches(backend, batch_size=5)] == [5, 5, 5, 5, 3]
    assert [len(y) for _, y in batches(backend, batch_size=5, drop_last=True)] == [5, 5, 5, 5]
    assert [len(y) for _, y in batches(backend, batch_size=100)] == [N]


def test_order_and_selected_rows_are_immutable(tmp_path):
    assert Order(4) == Order(4, shuffle=True, drop_last=False, seed=0) != Order(5) and hash(Order(4)) == hash(
        Order(4)
    )
    rows = rows_of(stored("memory-mapped float32", tmp_path)).select(Y[:3])
    assert rows != rows.whole.select(Y[:3]) and hash(rows)
    for each in (Order(4), rows):
        with pytest.raises(AttributeError):
            each.seed = each.index = 1


def test_drop_last_that_drops_all_rows_is_refused_with_both_numbers(backend):
    with pytest.raises(
        ConfigurationError,
        match=r"batch_size=24 with drop_last=True drops all 23 rows; use batch_size of at most 23",
    ):
        Minibatches(backend, X, Y, None, np.float32, Order(24, drop_last=True))


@pytest.mark.parametrize(
    "kind",
    [
        "fortran",
        "strided",
        "negative stride",
        "read-only",
        "float64",
        "float16",
        "int64",
        "int16",
        "uint8",
        ">i2",
        ">f8",
        "memory-mapped float32",
        "memory-mapped float64",
        "memory-mapped uint8",
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_minibatches_do_not_depend_on_the_storage_of_the_rows(backend, tmp_path, kind, dtype):
    x = stored(kind, tmp_path)
    before = np.array(x)
    got = batches(backend, x, dtype=dtype, batch_size=6, seed=3)
    want = batches(backend, X.astype(dtype), dtype=dtype, batch_size=6, seed=3)
    for (a, y), (b, t) in zip(got, want, strict=True):
        assert a.dtype == dtype
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(y, t)
    np.testing.assert_array_equal(x, before)


def test_targets_may_be_a_matrix(backend):
    y = np.stack([Y, -Y], axis=1)
    for x, part in batches(backend, y=y, batch_size=5):
        np.testing.assert_array_equal(x, X[part[:, 0]])
        np.testing.assert_array_equal(part[:, 1], -part[:, 0])


@pytest.mark.parametrize(
    ("kind", "kept"),
    [
        ("uint8", "uint8"),
        ("float16", "float16"),
        ("int32", "float32"),
        ("float64", "float32"),
        ("int64", "float32"),
    ],
)
def test_rows_are_stored_in_the_smaller_of_their_type_and_the_network_s(backend, kind, kept):
    data = Minibatches(backend, X.astype(kind), Y, None, np.float32, Order(4))
    assert data.whole[0].dtype == kept and data.x.dtype == np.float32


def test_buffers_of_minibatches_have_fixed_addresses(backend):
    data = Minibatches(backend, X, Y, np.ones(N, np.float32), np.float32, Order(6))
    buffers = data.x, data.y, data.weight, data._index
    for epoch in range(2):
        for step in range(data.steps):
            data.gather(0, data.choose(epoch, step)[1])
    assert all(a is b for a, b in zip(buffers, (data.x, data.y, data.weight, data._index), strict=True))


def test_selected_rows_of_a_memory_mapped_matrix_equal_its_rows(backend, tmp_path):
    index = np.array([4, 1, 9, 17, 2, 3, 8])
    np.save(tmp_path / "x.npy", X)
    x = rows_of(np.load(tmp_path / "x.npy", mmap_mode="r")).select(index, backend)
    assert (x.shape, x.dtype, len(x)) == ((7, D), X.dtype, 7)
    np.testing.assert_array_equal(x[1:3], X[index][1:3])
    got = batches(backend, x, Y[index], batch_size=3, seed=1)
    want = batches(backend, rows_of(X).select(index, backend), Y[index], batch_size=3, seed=1)
    for mine, theirs in zip(got, want, strict=True):
        np.testing.assert_array_equal(mine[0], theirs[0])
        np.testing.assert_array_equal(mine[0], X[mine[1]])


@pytest.mark.parametrize("stored_dtype", ["float32", "float64", "uint8"])
def test_memory_mapped_rows_are_never_copied_whole(tmp_path, stored_dtype):
    shape = (40_000, 100)
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", stored_dtype, shape).flush()
    x = np.load(tmp_path / "x.npy", mmap_mode="r")
    tracemalloc.start()
    try:
        batches_seen = 0
        data = Minibatches(get_backend("numpy"), x, np.zeros(len(x), np.int32), None, np.float32, Order(1000))
        for step in range(data.steps):
            data.gather(0, data.choose(0, step)[1])
            batches_seen += 1
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert batches_seen == 40 and peak < x.nbytes / 2
