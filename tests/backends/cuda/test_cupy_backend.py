"""CupyBackend on a fake CuPy handles devices correctly, and on a GPU computes the numbers of the CPU."""

import inspect
from functools import partial

import numpy as np
import pytest

from ffnn_gpu import (
    SGD,
    Adam,
    AdamW,
    Backend,
    BackendMismatchError,
    BatchNorm,
    DataError,
    Dense,
    DeviceOutOfMemoryError,
    Dropout,
    LayerNorm,
    Network,
    Residual,
    Softmax,
    cross_entropy,
    evaluate,
    fit,
    gelu,
    get_backend,
    load,
    mean_squared_error,
    relu,
    softmax_cross_entropy,
    tanh,
    train_step,
)
from ffnn_gpu.backends.choice import probe
from ffnn_gpu.backends.cuda.cupy_backend import HOST_ONLY, CupyBackend
from ffnn_gpu.nn.activations import ACTIVATIONS
from ffnn_gpu.testing import assert_close, assert_parity, tolerance
from tests.backends.cuda.fake_cupy import FakeCupy, installed
from tests.backends.cuda.kernel_checks import CHECKS, SIZES, Case

OPERATIONS = [name for name, value in inspect.getmembers(Backend, callable) if not name.startswith("_")]
LAYERS = [Dense(6, gelu), BatchNorm(), Dropout(0.2), Residual([LayerNorm(), Dense(6, tanh)]), Dense(3)]
RNG = np.random.default_rng(5)
X = RNG.normal(size=(30, 5))
LABELS = RNG.integers(0, 3, 30)


@pytest.fixture
def cupy(monkeypatch):
    """Install a fake CuPy with two GPUs and clear the cache of the probe."""
    probe.cache_clear()
    with installed(monkeypatch, FakeCupy(count=2)) as module:
        yield module
    probe.cache_clear()


@pytest.fixture
def fake_gpu(cupy):
    """Return CupyBackend on the first fake GPU."""
    return CupyBackend(0)


@pytest.fixture(params=[0, 1], ids=["cupy:0", "cupy:1"])
def backend(request, cupy):
    """Return CupyBackend on each of two devices, while device 0 is current, as in a new process."""
    return CupyBackend(request.param)


def trained(backend, folder=None, **options):
    network = Network(5, LAYERS, backend, seed=2)
    history = fit(
        network,
        softmax_cross_entropy,
        AdamW(lr=0.01, ema=0.9, clip_norm=1.0),
        (X, LABELS),
        epochs=2,
        batch_size=8,
        validation=0.2,
        verbose=0,
        checkpoint=folder,
        **options,
    )
    return network, [row["loss"] for row in history.rows]


# --- devices


@pytest.mark.parametrize("name", OPERATIONS)
def test_operation_keeps_the_signature_of_the_reference_and_makes_its_device_current(name):
    operation = getattr(CupyBackend, name)
    own, reference = (
        list(inspect.signature(of).parameters.values()) for of in (operation, getattr(Backend, name))
    )
    assert own[0].name == "self" and own[1:] == reference[1:]
    assert hasattr(operation, "__wrapped__") != (name in HOST_ONLY)


def test_operation_makes_its_device_current_and_restores_the_previous_one(backend, cupy):
    x = backend.zeros((3,), "float32")
    assert x.device.id == backend.index
    assert cupy.entered[backend.index] and not cupy.entered[1 - backend.index]
    assert cupy.empty((), "float32").device.id == 0


@pytest.mark.parametrize(
    "options",
    [{}, {"accumulate": 2}, {"accumulate": 3, "class_weight": "balanced"}, {"early_stopping": 1}],
    ids=["plain", "micro-batches", "weighted micro-batches", "early stopping"],
)
def test_fit_on_each_device_equals_the_reference_bit_for_bit(backend, options):
    (network, losses), (plain, expected) = trained(backend, **options), trained(Backend(), **options)
    assert losses == expected
    assert network.params.theta.device.id == backend.index
    assert network.to("numpy").params.theta.tobytes() == plain.params.theta.tobytes()


def test_checkpoint_of_each_device_is_read_and_resumed_on_it(backend, tmp_path):
    network, losses = trained(backend, tmp_path)
    copy = load(tmp_path / "last", backend)
    assert copy.params.step.get() == network.params.step.get()
    assert trained(backend, tmp_path, resume=True)[1] == losses


def test_network_moved_between_devices_predicts_the_same(cupy):
    first, second = CupyBackend(0), CupyBackend(1)
    network = Network(5, LAYERS, first)
    assert network.to(second).params.theta.device.id == 1
    x = np.ones((2, 5), "float32")
    assert network.to(second).to("numpy").predict(x).tobytes() == network.to("numpy").predict(x).tobytes()


def test_networks_on_two_devices_train_side_by_side(cupy):
    networks = [Network(5, [Dense(3)], CupyBackend(index), seed=1) for index in (0, 1)]
    spaces = [network.workspace(30) for network in networks]
    for _ in range(2):
        for network, ws in zip(networks, spaces, strict=True):
            backend = network.backend
            x, y = backend.asarray(X, "float32"), backend.asarray(LABELS)
            backend.capture(partial(train_step, checked=True))(
                network, softmax_cross_entropy, SGD(), x, y, ws
            )
    assert networks[0].params.theta.get().tobytes() == networks[1].params.theta.get().tobytes()


def test_device_owns_only_its_own_arrays(cupy):
    first, second = CupyBackend(0), CupyBackend(1)
    x = second.zeros((2, 5), "float32")
    assert second.owns(x) and not first.owns(x)
    assert not first.owns(np.zeros(2)) and not first.owns([1.0])
    network = Network(5, [Dense(1)], first)
    with pytest.raises(BackendMismatchError, match=r"cupy\.StrictArray.*cupy backend"):
        network.forward(x, network.workspace(2))


def test_host_array_in_a_pass_of_a_gpu_network_raises_a_mismatch(cupy):
    network = Network(5, [Dense(1)], CupyBackend(0))
    with pytest.raises(BackendMismatchError, match=r"numpy\.ndarray.*cupy backend"):
        network.forward(np.zeros((2, 5), "float32"), network.workspace(2))


# --- input and output arrays


@pytest.mark.parametrize(
    "array",
    [
        [[1, 2], [3, 4]],
        np.asfortranarray([[1.0, 2], [3, 4]]),
        np.array([[1, 2], [3, 4]], np.longdouble),
        np.array([[1, 2], [3, 4]], ">f4"),
        np.array([[4.0, 3], [2, 1]])[::-1, ::-1],
        np.array([[1, 2], [3, 4]], np.uint8),
    ],
    ids=["list", "Fortran order", "long double", "big-endian", "negative strides", "bytes"],
)
def test_host_data_of_any_kind_becomes_a_contiguous_device_array(backend, array):
    x = backend.asarray(array, "float32")
    assert (x.device.id, x.dtype, x.tolist()) == (backend.index, np.dtype("float32"), [[1, 2], [3, 4]])
    assert x.flags.c_contiguous


def test_host_data_is_narrowed_before_it_is_moved(cupy, monkeypatch):
    moved, asarray = [], cupy.asarray
    monkeypatch.setattr(cupy, "asarray", lambda a, *rest: moved.append(a.dtype) or asarray(a, *rest))
    CupyBackend(0).asarray(np.zeros(3), "float32")
    CupyBackend(0).asarray(np.zeros(3, np.uint8), "float32")
    assert moved == [np.dtype("float32"), np.dtype("uint8")]


def test_only_an_array_of_another_device_is_copied(cupy):
    first, second = CupyBackend(0), CupyBackend(1)
    x = first.asarray([1.0, 2.0])
    assert first.asarray(x) is x and first.admit(x) is x
    for y in (second.asarray(x), second.admit(x)):
        assert second.owns(y) and y.tolist() == [1, 2]


def test_python_objects_raise(backend):
    with pytest.raises(DataError, match="Python objects"):
        backend.asarray(np.array([None, "a"], object))


def test_predictions_have_the_kind_of_the_input_array(backend, cupy):
    network = Network(5, [Dense(2)], backend)
    assert isinstance(network.predict(X), np.ndarray)
    assert backend.owns(network.predict(backend.asarray(X)))
    on_host = Network(5, [Dense(2)], "numpy").predict(backend.asarray(X))
    assert backend.owns(on_host)


def test_evaluation_reads_host_and_device_data_alike(backend):
    network = Network(5, LAYERS, backend)
    on_device = evaluate(network, softmax_cross_entropy, (backend.asarray(X), backend.asarray(LABELS)))
    assert on_device == evaluate(network, softmax_cross_entropy, (X, LABELS))


# --- memory


def test_allocation_without_room_raises_with_the_numbers(monkeypatch):
    with installed(monkeypatch, FakeCupy(total=1000)):
        backend = CupyBackend(0)
        assert backend.memory() == (1000, 1000)
        with pytest.raises(
            DeviceOutOfMemoryError, match=r"GPU 0 has no room: .* 4,000 bytes .*; 1,000 of 1,000 bytes are"
        ):
            backend.zeros((1000,), "float32")
        with pytest.raises(MemoryError, match="batch_size"):
            backend.capture(lambda: backend.xp.empty((1000,), "float32"))()


def test_synchronize_waits_for_the_device(backend, cupy):
    before = cupy.synchronizations
    backend.synchronize()
    assert cupy.synchronizations == before + 1


# --- on a GPU


@pytest.fixture
def gpu():
    """Return the GPU's backend. Without a GPU, pytest_ffnn_gpu skips tests marked gpu, or fails them."""
    return get_backend("cupy")


def batch(rows=64, columns=32, classes=10):
    rng = np.random.default_rng(7)
    return rng.random((rows, columns)), rng.integers(0, classes, rows)


NETWORKS = {
    "classifier": [Dense(64, relu), Dense(64, relu), Dense(10)],
    "every layer": [
        Dense(48, tanh), LayerNorm(), Dropout(0.3), Residual([Dense(24, gelu), BatchNorm(), Dense(48)]),
        Dense(10),
    ],
    "one wide": [Dense(1, tanh), Dense(10)],
}  # fmt: skip


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("layers", NETWORKS.values(), ids=NETWORKS)
def test_gpu_and_cpu_agree_on_outputs_gradients_and_parameters(gpu, layers, dtype):
    network = Network(32, layers, "numpy", dtype, seed=1)
    assert_parity(
        network, *batch(), softmax_cross_entropy, optimizer=SGD(lr=0.1, momentum=0.9, clip_norm=1.0)
    )


@pytest.mark.gpu
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_gpu_and_cpu_agree_on_each_activation(gpu, name):
    network = Network(32, [Dense(48, ACTIVATIONS[name]), Dense(10)], "numpy", seed=1)
    assert_parity(network, *batch(), softmax_cross_entropy, optimizer=Adam())


@pytest.mark.gpu
def test_gpu_and_cpu_agree_on_probabilities_and_on_regression(gpu):
    x, y = batch()
    assert_parity(Network(32, [Dense(10), Softmax()], "numpy"), x, y, cross_entropy)
    assert_parity(Network(32, [Dense(1)], "numpy"), x, y.astype(float), mean_squared_error)


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(1, 1), (7, 13), (128, 64)])
def test_dropout_on_gpu_equals_the_cpu_bit_for_bit(gpu, shape):
    masks = []
    for backend in (Backend(), gpu):
        step = backend.asarray(np.array([41]))
        mask = backend.dropout_mask(0.3, 2**40 + 5, step, 2, 9, out=backend.empty(shape, "float32"))
        masks.append(backend.to_host(mask))
    assert np.array_equal(*masks)


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CHECKS)
def test_fused_operation_on_gpu_equals_the_reference(gpu, name, dtype):
    for size in (*SIZES, (1000, 513)):
        CHECKS[name](Case(gpu, dtype, *size))
    CHECKS[name](Case(gpu, dtype, 5, 7, offset=1))


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_product_on_gpu_is_as_accurate_as_its_dtype(gpu, dtype):
    rng = np.random.default_rng(1)
    A, B = rng.normal(size=(96, 300)).astype(dtype), rng.normal(size=(300, 80)).astype(dtype)
    got = gpu.gemm(gpu.asarray(A), gpu.asarray(B), out=gpu.empty((96, 80), dtype))
    assert got.dtype == dtype
    assert_close(gpu.to_host(got), A @ B, tolerance("product", dtype, 300), scale=abs(A) @ abs(B))


@pytest.mark.gpu
def test_step_on_gpu_never_synchronizes(gpu):
    import cupyx

    network, (x, y) = Network(32, NETWORKS["every layer"], gpu), batch()
    x, y, ws = gpu.asarray(x, "float32"), gpu.asarray(y), network.workspace(64)
    step, optimizer = gpu.capture(partial(train_step, checked=True)), AdamW(clip_norm=1.0)
    step(network, softmax_cross_entropy, optimizer, x, y, ws)
    with cupyx.allow_synchronize(False):
        value = step(network, softmax_cross_entropy, optimizer, x, y, ws)
    assert float(value) > 0


@pytest.mark.parametrize("place", ["fake", pytest.param("cupy", marks=pytest.mark.gpu)])
def test_training_on_gpu_agrees_with_the_cpu_and_resumes(request, place, tmp_path):
    device = request.getfixturevalue("gpu") if place == "cupy" else request.getfixturevalue("fake_gpu")
    (network, losses), (reference, expected) = trained(device, tmp_path), trained(Backend())
    assert losses == pytest.approx(expected, rel=1e-4)  # rounding errors of two epochs
    assert network.predict(X) == pytest.approx(reference.predict(X), rel=1e-3, abs=1e-4)
    # The checkpoint "last" holds θ itself, and the network its average.
    here, there = (load(tmp_path / "last", where) for where in ("numpy", device))
    assert here.predict(X) == pytest.approx(there.predict(X), rel=1e-3, abs=1e-4)
    again, more = trained(device, tmp_path, resume=True)
    assert more == losses and again.predict(X) == pytest.approx(network.predict(X), rel=1e-6)


@pytest.mark.gpu
def test_allocation_without_room_on_gpu_names_the_free_memory(gpu):
    with pytest.raises(DeviceOutOfMemoryError, match="bytes are free"):
        gpu.empty((1 << 46,), "float32")
    assert gpu.to_host(gpu.zeros((2,), "float32")).tolist() == [0, 0]


@pytest.mark.gpu
def test_gpu_predicts_zero_rows_and_device_arrays(gpu):
    network = Network(5, [*LAYERS, Softmax()], gpu)
    assert network.predict(X[:0]).shape == (0, 3)
    assert gpu.owns(network.predict(gpu.asarray(X)))
