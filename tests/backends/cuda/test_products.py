"""CupyBackend's products by cublasLt, with emulated kernels and cublasLt on a CPU, and on a GPU.

16-bit types are tested in single products only.
"""

import copy
import gc
import json
import threading

import ml_dtypes
import numpy as np
import pytest

from ffnn_gpu import (
    AdamW,
    Backend,
    BackendUnavailableError,
    BatchNorm,
    Dense,
    Dropout,
    LayerNorm,
    Network,
    Residual,
    fit,
    gelu,
    get_backend,
    identity,
    relu,
    silu,
    softmax_cross_entropy,
    tanh,
)
from ffnn_gpu.backends.choice import probe
from ffnn_gpu.backends.cuda import products as matrix_products
from ffnn_gpu.backends.cuda.cublaslt import matmul as cublaslt
from ffnn_gpu.backends.cuda.cublaslt.store import CHOICE
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from ffnn_gpu.cli.info import information, lines
from ffnn_gpu.nn.activations import Activation, gelu_tanh
from ffnn_gpu.testing import assert_close, assert_parity, tolerance
from pytest_ffnn_gpu import skip_or_fail
from tests.backends.cuda.emulated_cupy import CupyWithCublasLt, EmulatedCupy, emulator
from tests.backends.cuda.fake_cublaslt import Epilogue
from tests.backends.cuda.fake_cupy import installed
from tests.backends.cuda.kernel_checks import CHECKS, Case

LAYERS = [
    Dense(9, relu),
    LayerNorm(),
    Dropout(0.3),
    Residual([Dense(6, gelu), BatchNorm(), Dense(9, tanh)]),
    Dense(3),
]
X, LABELS = np.random.default_rng(1).normal(size=(23, 5)), np.random.default_rng(2).integers(0, 3, 23)
PHI = {phi.name: phi for phi in (identity, relu, gelu_tanh, gelu, silu, tanh)}
TYPES = ["float32", "float64", "float16", "bfloat16"]
OWN = Activation("cubic", lambda xp, s, _: s * s * s, lambda xp, s, _: 3 * s * s, needs_input=True)


def made_on(cupy, index=0, **options):
    """Return CupyBackend on this fake CuPy, installed only meanwhile."""
    with pytest.MonkeyPatch.context() as patch, installed(patch, cupy):
        return CupyBackend(index, **options)


@pytest.fixture
def stored(monkeypatch, tmp_path):
    """Return the file of timed choices, in a folder of the test."""
    path = tmp_path / "stored.json"
    monkeypatch.setattr(cublaslt, "store_path", lambda *names: path)
    return path


@pytest.fixture
def emulated(stored):
    """Return CupyBackend with a fake cublasLt."""
    emulator.require()
    return made_on(CupyWithCublasLt(count=2))


@pytest.fixture(params=["emulated", pytest.param("cupy", marks=pytest.mark.gpu)])
def backend(request):
    """Return CupyBackend with cublasLt, emulated and on a GPU that has it."""
    if request.param == "emulated":
        return request.getfixturevalue("emulated")
    gpu = get_backend("cupy")
    if gpu.cublaslt is None:
        skip_or_fail(request.config, gpu.products)
    return gpu


def type_of(name):
    return np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)


def draw(backend, shape, dtype):
    """Return normal numbers of the type on the device, and the same in float64 on the host."""
    host = np.random.default_rng(shape).normal(size=shape).astype(type_of(dtype))
    return backend.xp.asarray(host), host.astype(np.float64)


def require_close(backend, got, want, K, scale, roundings=1):
    """Require closeness up to the error of a product plus, in 16 bits, `roundings` roundings of results."""
    got, want = backend.to_host(got), np.asarray(want)
    if got.dtype.itemsize == 2:
        eps, smallest = {"float16": (2.0**-10, 2.0**-14), "bfloat16": (2.0**-7, 2.0**-126)}[got.dtype.name]
        unit = np.maximum(np.abs(want), smallest) if roundings == 1 else roundings * np.maximum(scale, 1)
        bound = 1.01 * eps / 2 * unit + tolerance("product", "float32", K) * scale
        assert_close(got.astype(np.float64), want, 1, scale=bound)
    else:
        assert_close(got, want, tolerance("product", got.dtype, K), scale=scale)


def affine(backend, dtype, phi, shape=(5, 3, 7), keep=False, bias=True, refused=False):
    """Compare a = φ(x W + b) with NumPy."""
    B, I, O = shape
    (x, X), (W, V), (b, c) = (draw(backend, shape, dtype) for shape in ((B, I), (I, O), (O,)))
    out, s = (backend.zeros((B, O), type_of(dtype)) for _ in range(2))
    assert backend.affine(x, W, b if bias else None, phi, out, s if keep else None) is out
    want = X @ V + c * bias
    scale = np.abs(X) @ np.abs(V) + np.abs(c) * bias
    once = bias and not refused and phi in (identity, relu, gelu_tanh)
    # cublasLt applies some epilogues of unaligned shapes in a second kernel, to a product that was rounded
    # before (github.com/karpathy/llm.c/pull/338); and its tanh of GELU may be off by 2⁻¹¹, eps/2 of float16
    least = 1 if hasattr(backend.xp, "bindings") else 2
    # |φ′| < 2, hence twice the scale
    require_close(backend, out, phi.value(np, want), I + 1, 2 * np.maximum(scale, 1), least if once else 4)
    if keep:
        require_close(backend, s, want, I + 1, scale)


def gradients(backend, dtype, shape=(5, 3, 7), wide=None):
    """Compare dW = xᵀ δ, db = Σ δ and dx = δ Wᵀ with NumPy."""
    B, I, O = shape
    (x, X), (delta, d), (W, V) = (draw(backend, shape, dtype) for shape in ((B, I), (B, O), (I, O)))
    dW, db = (backend.empty(size, wide or type_of(dtype)) for size in ((I, O), (O,)))
    dx = backend.empty((B, I), type_of(dtype))
    backend.affine_gradients(x, delta, dW, db)
    backend.gemm(delta, W.T, out=dx)
    require_close(backend, dW, X.T @ d, B, np.abs(X).T @ np.abs(d))
    require_close(backend, db, d.sum(0), B, np.abs(d).sum(0))
    require_close(backend, dx, d @ V.T, O, np.abs(d) @ np.abs(V).T)


def epilogues(backend):
    """Return the names of the requested epilogues, in order."""
    attributes = backend.xp.bindings.written
    return [
        Epilogue(int.from_bytes(value, "little")).name
        for kind, number, value in attributes
        if (kind, number) == ("descriptor", 7)
    ]


# ---------------------------------------------------------------------- numbers


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("phi", PHI)
def test_affine_equals_numpy_with_and_without_bias(backend, phi, dtype):
    for shape in ((5, 3, 7), (1, 4, 6), (6, 1, 4), (4, 6, 1), (17, 31, 33)):
        for bias in (True, False):
            affine(backend, dtype, PHI[phi], shape, bias=bias)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("phi", PHI)
def test_affine_stores_the_pre_activation(backend, phi, dtype):
    affine(backend, dtype, PHI[phi], keep=True)


@pytest.mark.parametrize("dtype", TYPES)
def test_gradients_equal_numpy(backend, dtype):
    for shape in ((5, 3, 7), (1, 4, 6), (6, 1, 4), (4, 6, 1), (33, 17, 31)):
        gradients(backend, dtype, shape, "float32" if type_of(dtype).itemsize == 2 else None)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_products_of_every_size_equal_the_reference(backend, dtype):
    for size in ((1, 1), (33, 31), (257, 3)):
        CHECKS["bias_activation"](Case(backend, dtype, *size))
        CHECKS["bias_activation"](Case(backend, dtype, *size, offset=1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_whole_steps_equal_the_reference(backend, dtype):
    network = Network(5, LAYERS, Backend(), dtype, seed=1)
    assert_parity(
        network,
        X,
        LABELS,
        softmax_cross_entropy,
        backends=(Backend(), backend),
        optimizer=AdamW(clip_norm=1.0),
    )


def test_training_computes_every_product_by_cublaslt_and_equals_the_reference_and_cupy(emulated, monkeypatch):
    def losses(on):
        history = fit(
            Network(5, LAYERS, on, seed=2),
            softmax_cross_entropy,
            AdamW(lr=0.01),
            (X, LABELS),
            epochs=2,
            batch_size=8,
            validation=0.2,
            verbose=0,
        )
        return [row["loss"] for row in history.rows]

    without = losses(made_on(EmulatedCupy()))
    monkeypatch.setattr(emulated.xp, "matmul", None)
    assert losses(emulated) == pytest.approx(without, rel=1e-4)
    assert losses(emulated) == pytest.approx(losses(Backend()), rel=1e-4)
    assert set(epilogues(emulated)) == {"DEFAULT", "BIAS"}


def test_epilogues_are_used_only_for_types_whose_accuracy_they_preserve(emulated):
    asked = {}
    for dtype in TYPES:
        for phi in (identity, relu, gelu_tanh, tanh):
            before = len(epilogues(emulated))
            affine(emulated, dtype, phi)
            asked[dtype, phi.name] = epilogues(emulated)[before:]
        before = len(epilogues(emulated))
        gradients(emulated, dtype, wide="float32" if type_of(dtype).itemsize == 2 else None)
        asked[dtype, "db"] = epilogues(emulated)[before:]
    for dtype in ("float32", "float64"):  # one plan serves every φ
        assert {phi: asked[dtype, phi] for phi in ("identity", "relu", "db")} == {
            "identity": ["BIAS"],
            "relu": [],
            "db": ["DEFAULT", "DEFAULT"],
        }, dtype
    for dtype in ("float16", "bfloat16"):
        assert [asked[dtype, phi] for phi in ("identity", "relu", "gelu_tanh")] == [
            ["BIAS"],
            ["RELU_BIAS"],
            ["GELU_BIAS"],
        ]
        assert asked[dtype, "db"] == ["BGRADA", "DEFAULT"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_every_activation_propagates_nan(backend, dtype):
    x, W, b = (backend.asarray(value, dtype) for value in ([[1, np.nan], [1, 1]], np.eye(2, 3), np.zeros(3)))
    for phi in PHI.values():
        a = backend.to_host(backend.affine(x, W, b, phi, out=backend.empty((2, 3), dtype)))
        assert np.isnan(a[0]).all() and not np.isnan(a[1]).any(), phi


def test_sum_over_many_rows_is_in_float64(backend):
    delta = backend.asarray(np.full((70_000, 2), 0.1), "float32")
    x, dW, db = (
        backend.zeros((70_000, 1), "float32"),
        backend.empty((1, 2), "float32"),
        backend.empty((2,), "float32"),
    )
    backend.affine_gradients(x, delta, dW, db)
    assert_close(
        backend.to_host(db), np.full(2, 70_000 * float(np.float32(0.1))), tolerance("product", "float32")
    )


def test_tf32_rounds_only_the_factors_of_float32_products(monkeypatch):
    emulator.require()
    for tf32 in (False, True):
        backend = made_on(CupyWithCublasLt(), tf32=tf32)
        (x, X), (W, V) = draw(backend, (64, 63), "float32"), draw(backend, (63, 64), "float32")
        error = np.abs(
            backend.to_host(backend.gemm(x, W, out=backend.empty((64, 64), "float32"))) - X @ V
        ).max()
        assert (1e-4 < error < 1e-1) == tf32 and (error < 1e-4) != tf32
        affine(backend, "float64", relu)


# ---------------------------------------------------------------------- products without cublasLt


@pytest.mark.parametrize(
    "refused",
    [{"BIAS"}, {"RELU_BIAS", "GELU_BIAS"}, {"BGRADA"}, set(Epilogue.__members__)],
    ids=["bias", "activations", "gradient", "everything"],
)
def test_refused_epilogue_is_replaced_by_a_kernel_and_a_refused_product_by_cupy(emulated, refused):
    emulated.xp.bindings.refuses = refused
    half = len(refused) < 4
    for dtype in TYPES if half else TYPES[:2]:
        for phi in (identity, relu, gelu_tanh, gelu):
            affine(emulated, dtype, phi, refused=True)
        gradients(emulated, dtype, wide="float32" if type_of(dtype).itemsize == 2 else None)
    network = Network(5, LAYERS, Backend(), seed=1)
    assert_parity(network, X, LABELS, softmax_cross_entropy, backends=(Backend(), emulated))
    assert bool(emulated.xp.bindings.used) == half


def test_zero_rows_give_empty_outputs_and_zero_gradients(backend):
    x, delta, W, b = (backend.zeros(shape, "float32") for shape in ((0, 3), (0, 4), (3, 4), (4,)))
    assert backend.affine(x, W, b, relu, out=backend.empty((0, 4), "float32")).shape == (0, 4)
    dW, db = backend.zeros((3, 4), "float32") + 1, backend.zeros((4,), "float32") + 1
    backend.affine_gradients(x, delta, dW, db)
    assert not backend.to_host(dW).any() and not backend.to_host(db).any()
    assert Network(5, LAYERS, backend).predict(X[:0]).shape == (0, 3)


def test_custom_activation_is_computed_by_its_formula(backend):
    network = Network(5, [Dense(4, OWN), Dense(3)], Backend())
    assert_parity(network, X, LABELS, softmax_cross_entropy, backends=(Backend(), backend))


# ---------------------------------------------------------------------- devices, threads, capture


def test_products_of_a_second_device_are_computed_there(emulated):
    second = made_on(emulated.xp, 1)
    network = Network(5, LAYERS, Backend(), seed=1)
    assert_parity(network, X, LABELS, softmax_cross_entropy, backends=(emulated, second))
    assert emulated.cublaslt is not second.cublaslt


def test_each_thread_has_a_handle_that_is_freed_after_the_thread(emulated):
    affine(emulated, "float32", relu)
    libraries, failures = [], []

    def work():
        try:
            affine(emulated, "float32", identity)  # no kernel: the emulator runs one at a time
            libraries.append(emulated.cublaslt)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == [] and len({id(emulated.cublaslt), *map(id, libraries)}) == 3
    bindings = emulated.xp.bindings
    handles = lambda: [made for made in bindings.objects.values() if made["kind"] == "handle"]  # noqa: E731
    assert len(handles()) == 3  # referenced handles are not freed
    libraries.clear()
    gc.collect()
    assert len(handles()) == 1


def test_product_can_be_captured_only_if_it_ran_before(emulated):
    emulated.xp.stream.capturing = True
    with pytest.raises(BackendUnavailableError, match="no product yet: run the step once before capturing"):
        affine(emulated, "float32", relu)
    emulated.xp.stream.capturing = False
    affine(emulated, "float32", relu)
    gradients(emulated, "float32")
    emulated.xp.stream.capturing = True
    affine(emulated, "float32", relu)
    gradients(emulated, "float32")
    with pytest.raises(BackendUnavailableError, match=r"\(9, 3\).*run the step once"):
        affine(emulated, "float32", relu, shape=(9, 3, 7))


def test_products_run_on_the_current_stream(emulated):
    for ptr in (7, 8):
        emulated.xp.stream.ptr = ptr
        affine(emulated, "float32", relu)
        gradients(emulated, "float16", wide="float32")


# ---------------------------------------------------------------------- epilogue or kernel, by measurement


def tuned(**changes):
    """Return a new CupyBackend with autotune; `changes` are attributes of the fakes of cublasLt and CuPy."""
    emulator.require()
    backend = made_on(CupyWithCublasLt(), autotune=3)
    backend.xp.cost = changes.pop("cost", 0.0)
    vars(backend.xp.bindings).update(changes)
    return backend


def choices(path):
    """Return the stored choices: name → whether the epilogue was faster."""
    found = json.loads(path.read_text())["algorithms"]
    return {name: value == "01" for name, value in found.items() if name.startswith(CHOICE)}


def layer(backend, dtype):
    affine(backend, dtype, relu, refused=True)


def layer_gradients(backend, dtype):
    gradients(backend, dtype, wide="float32")


@pytest.mark.parametrize(
    ("work", "dtype", "epilogue"),
    [(layer, "float16", "RELU_BIAS"), (layer, "float32", "BIAS"), (layer_gradients, "float16", "BGRADA")],
)
@pytest.mark.parametrize("fused", [True, False])
def test_faster_of_epilogue_and_kernel_is_measured_stored_and_loaded(stored, work, dtype, epilogue, fused):
    first = tuned(extra={"DEFAULT" if fused else epilogue: 0.5}, cost=0.1)
    work(first, dtype)
    ((name, choice),) = choices(stored).items()
    assert choice == fused and dtype in name
    # The second process has other costs, but uses the stored choice.
    for backend in (first, tuned(extra={epilogue: -2.0 if not fused else 9.0})):
        searches, before = backend.xp.bindings.searches, len(backend.xp.bindings.made)
        work(backend, dtype)
        product, *others = backend.xp.bindings.made[before:]
        assert product == (epilogue if fused else "DEFAULT") and others == ["DEFAULT"] * (
            work is layer_gradients
        )
        # nothing is timed again
        assert choices(stored) == {name: fused} and searches == backend.xp.bindings.searches


def test_gradients_of_many_rows_are_timed_without_autotune(emulated, stored, monkeypatch):
    monkeypatch.setattr(matrix_products, "LONG_SUM", 5)
    bindings = emulated.xp.bindings
    bindings.extra = {"BGRADA": 0.5}
    for rows, timed in ((4, {}), (5, {"gradients of (5, 3) × (5, 7) in float16 into float32": False})):
        for _ in range(2):
            gradients(emulated, "float16", shape=(rows, 3, 7), wide="float32")
        found = choices(stored) if stored.exists() else {}
        assert {name.removeprefix(CHOICE): choice for name, choice in found.items()} == timed
        assert bindings.made[-2:] == ["DEFAULT" if timed else "BGRADA", "DEFAULT"]
    searches = bindings.searches
    affine(emulated, "float16", relu)  # a forward product is not timed
    assert bindings.made[-1] == "RELU_BIAS" and bindings.searches == searches + 1


def test_first_call_with_timing_equals_later_calls(stored):
    for extra in ({}, {"BIAS": 9.0}):
        backend, results = tuned(extra=extra), []
        x, W, b = (draw(backend, shape, "float32")[0] for shape in ((9, 5), (5, 4), (4,)))
        for _ in range(2):
            out, s = backend.empty((9, 4), "float32"), backend.empty((9, 4), "float32")
            backend.affine(x, W, b, gelu, out, s)
            results.append((out.get().tobytes(), s.get().tobytes()))
        assert results[0] == results[1]
        stored.unlink()


def test_captures_and_refused_epilogues_are_not_timed(stored):
    backend = tuned(refuses={"RELU_BIAS"})
    affine(backend, "float32", relu)
    before = choices(stored)
    backend.xp.stream.capturing = True
    for phi in (relu, tanh):  # tanh shares the plan of relu, but has no stored choice
        affine(backend, "float32", phi)
    with pytest.raises(BackendUnavailableError, match="run the step once"):
        affine(backend, "float32", relu, shape=(6, 3, 7))
    backend.xp.stream.capturing = False
    layer(backend, "float16")
    assert choices(stored) == before


def test_whole_steps_with_timed_products_equal_the_reference(stored):
    network = Network(5, LAYERS, Backend(), seed=1)
    for changes in ({}, {"extra": {"BIAS": 9.0}}):
        assert_parity(network, X, LABELS, softmax_cross_entropy, backends=(Backend(), tuned(**changes)))
        stored.unlink()


def test_without_autotune_the_epilogue_is_used_and_nothing_is_stored(emulated, stored):
    emulated.xp.bindings.extra = {"BIAS": 9.0}
    affine(emulated, "float32", relu)
    assert epilogues(emulated) == ["BIAS"] and not stored.exists()


# ---------------------------------------------------------------------- reports


def test_backend_reports_the_library_of_its_products_and_whether_it_can_capture(emulated):
    assert (
        "cublasLt 131000" in emulated.products
        and "recommended algorithms, float32 unrounded" in emulated.products
    )
    assert emulated.can_capture() == (True, emulated.products)
    tuned = made_on(CupyWithCublasLt(), tf32=True, autotune=8)
    assert "fastest of 8 algorithms, float32 as TF32" in tuned.products
    without = made_on(EmulatedCupy())
    assert "cupy.matmul, which no CUDA graph can hold" in without.products and "nvmath" in without.products
    assert without.can_capture() == (False, without.products) and without.cublaslt is None


def test_info_names_the_library_of_the_products(monkeypatch):
    probe.cache_clear()
    monkeypatch.setenv("FFNN_GPU_DEVICE", "cupy")
    for cupy, library in (
        (CupyWithCublasLt(), "cublasLt, recommended"),
        (EmulatedCupy(), "cupy.matmul, which no"),
    ):
        cupy.cuda.runtime.getDeviceProperties = lambda index: {"name": b"Paper"}
        with installed(monkeypatch, cupy):
            found = information()
        assert found["products"].startswith(library)
        assert any(line.startswith(f"products  {library}") for line in lines(found))
    probe.cache_clear()


def test_copy_of_the_backend_has_the_same_product_settings(monkeypatch):
    emulator.require()
    with installed(monkeypatch, CupyWithCublasLt(count=2)):
        again = copy.copy(CupyBackend(1, tf32=True, autotune=4))
    assert (again.index, again.tf32, again.autotune) == (1, True, 4)
