"""Rows standardized on access equal, bit for bit, rows standardized by `Standardizer.transform`."""

import tracemalloc
from dataclasses import replace
from functools import cache

import ml_dtypes  # noqa: F401 - registers the name bfloat16 in NumPy
import numpy as np
import pytest

from ffnn_gpu import (
    Adam,
    BatchNorm,
    DataError,
    Dense,
    Dropout,
    Network,
    ShapeError,
    evaluate,
    fit,
    mean_squared_error,
    softmax_cross_entropy,
    tanh,
)
from ffnn_gpu.arrays import rows as rows_module
from ffnn_gpu.arrays.boundary import require_finite, rows_of
from ffnn_gpu.arrays.precision import floating as network_type
from ffnn_gpu.arrays.precision import largest
from ffnn_gpu.arrays.standardized import Standardized
from ffnn_gpu.backends.choice import Backend, NumpyBackend, get_backend
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from ffnn_gpu.data.standardizer import Standardizer
from ffnn_gpu.testing.strict_device import Refusal, StrictBackend
from tests.backends.cuda.emulated_cupy import EmulatedCupy, emulator
from tests.backends.cuda.fake_cupy import installed
from tests.every_case import in_turn

N, D = 43, 8
RNG = np.random.default_rng(0)
RAW = RNG.integers(0, 256, (N, D))
Y, WEIGHT = np.arange(N) % 3, np.linspace(0.1, 1, N)
SCALER = Standardizer.fit(RAW)
TYPES = ["float32", "float64", "bfloat16"]


@cache
def emulated():
    emulator.require()
    with pytest.MonkeyPatch.context() as patch, installed(patch, EmulatedCupy()):
        return CupyBackend(0)


BACKENDS = ["numpy", "reference", "strict", "emulated", pytest.param("cupy", marks=pytest.mark.gpu)]


@pytest.fixture(params=BACKENDS)
def backend(request):
    if request.param == "cupy":
        return get_backend("cupy")
    return {"numpy": NumpyBackend, "reference": Backend, "strict": StrictBackend, "emulated": emulated}[
        request.param
    ]()


STORAGE = ["uint8", "int16", "int32", "int64", "float32", "float64"]
STORAGE += ["memory-mapped uint8", "fortran", "on the device"]


@pytest.fixture(params=STORAGE)
def raw(request, tmp_path, backend):
    """Return RAW in another kind of storage."""
    if request.param == "fortran":
        return np.asfortranarray(RAW.astype(np.float64))
    if request.param == "on the device":
        return backend.asarray(RAW.astype(np.uint8))
    rows = RAW.astype(request.param.split()[-1])
    if rows.dtype != request.param:
        np.save(tmp_path / "x.npy", rows)
        return np.load(tmp_path / "x.npy", mmap_mode="r")
    return rows


def trained(backend, dtype, x, **options):
    """Train for two epochs; return the parameters as bytes and the history without times."""
    network = Network(D, [Dropout(0.1), Dense(6, tanh), BatchNorm(), Dense(3)], backend, dtype, seed=2)
    given = {
        "epochs": 2,
        "batch_size": 10,
        "validation": 0.25,
        "metrics": ["accuracy"],
        "verbose": 0,
    } | options
    history = fit(network, softmax_cross_entropy, Adam(lr=0.01), (x, Y), **given)
    rows = [{k: v for k, v in row.items() if not k.startswith("s")} for row in history.rows]
    return {name: array.tobytes() for name, array in network.params.to_host().items()}, rows


# every backend with every storage, and each of these pairs with one type in turn
EVERY_KIND = pytest.mark.parametrize(
    ("backend", "raw", "dtype"),
    [
        pytest.param(*getattr(place, "values", [place]), *rest, marks=getattr(place, "marks", ()))
        for place, *rest in in_turn(BACKENDS, STORAGE, TYPES)
    ],
    indirect=["backend", "raw"],
)


@EVERY_KIND
def test_training_equals_training_on_transformed_rows(backend, raw, dtype):
    dense = SCALER.transform(RAW, "float64" if dtype == "float64" else "float32")
    assert trained(backend, dtype, SCALER.rows(raw)) == trained(backend, dtype, dense)


@pytest.mark.parametrize("dtype", [*TYPES, "float16"])
def test_clipped_rows_equal_rows_clipped_beforehand(backend, dtype):
    dense = np.clip(SCALER.transform(RAW, "float64" if dtype == "float64" else "float32"), -1.1, 1.1)
    x = replace(SCALER.rows(RAW.astype(np.uint8)), limit=1.1)
    assert trained(backend, dtype, x) == trained(backend, dtype, dense)
    network = Network(D, [Dense(3)], backend, dtype)
    assert network.predict(x, batch_size=9).tobytes() == network.predict(dense, batch_size=9).tobytes()
    np.testing.assert_allclose(np.asarray(x), dense, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    "options",
    [
        {"validation": None, "sample_weight": WEIGHT},
        {"accumulate": 3, "class_weight": "balanced"},
        {"validation": (SCALER.rows(RAW[:9].astype(np.uint8)), Y[:9]), "drop_last": True},
    ],
    ids=["metrics of the training rows, weights", "micro-batches", "validation pair"],
)
def test_training_with_every_option_equals_training_on_transformed_rows(backend, options):
    x = SCALER.rows(RAW.astype(np.uint8))
    assert trained(backend, "float32", x, **options) == trained(
        backend, "float32", SCALER.transform(RAW), **options
    )


def test_resumed_training_on_standardized_rows_equals_the_uninterrupted_one(backend, tmp_path):
    x = SCALER.rows(RAW.astype(np.uint8))
    trained(backend, "float32", x, checkpoint=tmp_path, epochs=1)
    numbers, _ = trained(backend, "float32", x, checkpoint=tmp_path, resume=True)
    assert numbers == trained(backend, "float32", SCALER.transform(RAW))[0]


@EVERY_KIND
def test_predictions_and_losses_equal_those_of_transformed_rows(backend, raw, dtype):
    network = Network(D, [Dense(6, tanh), Dense(3)], backend, dtype)
    x, dense = SCALER.rows(raw), SCALER.transform(RAW, "float64" if dtype == "float64" else "float32")
    want, got = network.predict(dense, batch_size=9), network.predict(x, batch_size=9)
    assert backend.owns(got) == backend.owns(raw) and backend.to_host(got).tobytes() == want.tobytes()
    losses = [
        evaluate(network, softmax_cross_entropy, (rows, Y), metrics=["accuracy"], batch_size=9)
        for rows in (x, dense)
    ]
    assert losses[0] == losses[1]


def test_bytes_are_stored_as_bytes_on_the_device():
    backend = StrictBackend()
    x, moved = SCALER.rows(RAW.astype(np.uint8)), []
    new, backend.xp.new = (
        backend.xp.new,
        lambda host, *rest, **how: moved.append(host) or new(host, *rest, **how),
    )
    network = Network(D, [Dense(3)], backend)
    fit(network, softmax_cross_entropy, Adam(), (x, Y), epochs=1, batch_size=5, verbose=0)
    whole = [array.dtype for array in moved if array.shape == (N, D)]
    assert whole == ["uint8"]


# ---------------------------------------------------------------------- the matrix


def test_standardized_has_the_interface_of_a_float64_matrix():
    x = SCALER.rows(RAW.astype(np.uint8))
    assert (x.shape, x.ndim, x.dtype, len(x)) == ((N, D), 2, np.float64, N)
    want = SCALER.transform(RAW, np.float64)
    np.testing.assert_array_equal(x, want)
    for rows in (slice(3, 30, 4), np.array([7, 0, 7]), np.arange(N) % 2 == 0):
        some = x.select(rows)
        assert isinstance(some, Standardized) and some.rows.dtype == np.uint8
        for found in (some, x[rows]):
            np.testing.assert_array_equal(found, want[rows])


def test_rows_are_selected_before_they_are_standardized(backend, tmp_path):
    np.save(tmp_path / "x.npy", RAW)
    index = np.array([4, 1, 1, 40])
    for rows in (RAW, np.load(tmp_path / "x.npy", mmap_mode="r"), backend.asarray(RAW)):
        some = SCALER.rows(rows).select(index, backend)
        assert backend.to_host(some.rows[:]).tobytes() == RAW[index].tobytes()
        np.testing.assert_array_equal(
            backend.to_host(some.matrix(backend, slice(1, 3), "float64")),
            SCALER.transform(RAW[index], "float64")[1:3],
        )


def test_rows_on_a_device_are_not_standardized_through_the_host():
    x = SCALER.rows(StrictBackend().asarray(RAW))
    with pytest.raises(Refusal):
        np.asarray(x)


@pytest.mark.parametrize(
    ("mean", "scale", "error", "words"),
    [
        (np.zeros(7), np.ones(7), ShapeError, r"rows of shape \(43, 8\) .* mean \(7,\) and scale \(7,\)"),
        (np.zeros(8), np.ones(1), ShapeError, r"mean \(8,\) and scale \(1,\)"),
        (
            np.array([0, 0, np.nan, 0, 0, 0, np.inf, 0]),
            np.ones(8),
            DataError,
            "column 2 has mean nan and scale 1",
        ),
        (np.zeros(8), np.array([1, 0, 1, 1, 1, 1, 1, 1]), DataError, "column 1 has mean 0.0 and scale 0"),
        (
            np.zeros(8),
            np.full(8, -1.0),
            DataError,
            "column 0 has mean 0.0 and scale -1.0; both must be finite",
        ),
        (np.zeros(8), np.full(8, np.inf), DataError, "column 0 .* scale inf"),
    ],
)
def test_mean_and_scale_that_do_not_fit_are_refused(mean, scale, error, words):
    with pytest.raises(error, match=words):
        Standardizer(mean, scale).rows(RAW)


def test_rows_that_do_not_fit_are_refused(backend):
    network = Network(D, [Dense(3)], backend)
    with pytest.raises(ShapeError, match=r"rows of shape \(43,\)"):
        SCALER.rows(RAW[:, 0])
    with pytest.raises(ShapeError, match="x has 7 columns; layer 0 of this network reads 8"):
        network.predict(Standardizer.fit(RAW[:, :7]).rows(RAW[:, :7]))
    with pytest.raises(DataError, match=r"rows of shape \(43, 8\) are standardized already"):
        SCALER.rows(SCALER.rows(RAW))
    with pytest.raises(DataError, match="dtype complex128"):
        network.predict(SCALER.rows(RAW + 0j))


@pytest.mark.parametrize("place", [np.asarray, "device"])
def test_numbers_that_are_not_finite_or_become_too_large_are_refused(backend, place, monkeypatch):
    monkeypatch.setattr(rows_module, "BLOCK_ELEMENTS", 3 * D)
    place = backend.asarray if place == "device" else place
    network, x = Network(D, [Dense(3)], backend), RAW.astype(np.float64)
    x[[7, 40], 5] = np.inf
    with pytest.raises(
        DataError, match=r"^x holds 2 values that are not finite; the first is inf at index \(7, 5\)"
    ):
        fit(network, softmax_cross_entropy, Adam(), (SCALER.rows(place(x)), Y), verbose=0)
    near = Standardizer(RAW[0] * 1.0, np.full(D, 1e-40))
    with pytest.raises(
        DataError, match=r"^x, standardized, holds \d+ values that are too large for float32; .* \(1, 0\)"
    ):
        network.predict(near.rows(place(RAW)))


def test_check_in_blocks_raises_the_same_error_as_one_check_of_all(monkeypatch):
    x = RNG.normal(size=(20, 3, 2))
    x[[4, 9], [1, 2], [0, 1]] = np.nan
    messages = []
    for elements in (1, 6, 7, 40, 1000):
        monkeypatch.setattr(rows_module, "BLOCK_ELEMENTS", elements)
        with pytest.raises(DataError) as error:
            require_finite(np, x, "x")
        messages.append(str(error.value))
    assert set(messages) == {"x holds 2 values that are not finite; the first is nan at index (4, 1, 0)"}


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("rows", ["uint8", "int8", "int64"])
def test_check_skips_integer_rows_that_cannot_become_too_large(rows, dtype, monkeypatch):
    x = np.array([[np.iinfo(rows).min, np.iinfo(rows).max]], rows)
    dtype = network_type(dtype)
    reach = max(abs(float(np.iinfo(rows).min)), float(np.iinfo(rows).max)) + 1.0
    beyond = Standardized(rows_of(x), np.array([-1.0, -1.0]), np.full(2, reach / largest(dtype) / 2))
    with pytest.raises(DataError, match=f"too large for {dtype.name}|not finite"), np.errstate(all="ignore"):
        beyond.require_finite(Backend(), "x", dtype)
    within = Standardized(rows_of(x), np.array([1.0, -1.0]), np.full(2, 1.01 * reach / largest(dtype)))
    assert np.isfinite(within[:].astype(dtype).astype(float)).all()
    monkeypatch.setattr(Standardized, "values", None)
    within.require_finite(Backend(), "x", dtype)


def test_training_on_mapped_bytes_makes_no_copy_in_floating_point(tmp_path):
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", "uint8", (100_000, 100)).flush()
    x, y = np.load(tmp_path / "x.npy", mmap_mode="r"), np.zeros(100_000)
    network, scaler = Network(100, [Dense(1)], "numpy"), Standardizer(np.ones(100), np.ones(100))

    def train(n):
        data = scaler.rows(x[:n]), y[:n]
        fit(network, mean_squared_error, Adam(), data, epochs=1, batch_size=500, validation=0.2, verbose=0)

    train(5000)  # so that llvmlite has compiled before memory is measured
    tracemalloc.start()
    try:
        train(len(x))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * x.size / 3, f"{peak:,} bytes"
