"""Run kernels.cu and its launchers in the CPU emulator, and compare them with the reference in float64.

These tests cannot detect a GPU's own rounding of exp, tanh and similar functions, fused multiply-adds,
and speed. tests/emulation/test_emulator.py lists further limits. test_cupy_backend.py runs the same
checks on a GPU.
"""

import gc
import itertools
import logging
import re
import threading
import weakref
import zipfile

import numpy as np
import pytest

from ffnn_gpu import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    Backend,
    BatchNorm,
    ConfigurationError,
    Dense,
    Dropout,
    LayerNorm,
    Lion,
    LogSoftmax,
    Muon,
    Nadam,
    Network,
    Residual,
    RMSprop,
    Softmax,
    fit,
    gelu,
    mean_squared_error,
    relu,
    softmax_cross_entropy,
    tanh,
    train_step,
)
from ffnn_gpu.backends.cuda import kernels, operations
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from ffnn_gpu.backends.cuda.fused import stack
from ffnn_gpu.backends.cuda.kernels import ARITHMETIC, FORMULAS, KERNELS, NoKernelError, source
from ffnn_gpu.backends.reference.updates import Update
from ffnn_gpu.nn.activations import Activation
from ffnn_gpu.nn.losses.standard import LOSSES, PointwiseLoss, SoftmaxCrossEntropy
from ffnn_gpu.nn.parameters import Parameters
from ffnn_gpu.optim.optimizers import Optimizer
from ffnn_gpu.testing import assert_close, assert_parity, tolerance
from tests.backends.cuda.emulated_cupy import EmulatedCupy, emulator
from tests.backends.cuda.fake_cupy import REPOSITORY, installed
from tests.backends.cuda.kernel_checks import (
    CHECKS,
    MATRICES,
    PHI,
    POINTWISE,
    SIZES,
    Case,
    kernels_of_formulas,
)
from tests.backends.cuda.mutants_kernels import MUTANTS
from tests.every_case import in_turn, some_of

TYPES = ["float32", "float64", "bfloat16", "float16"]


@pytest.fixture(scope="module")
def backend():
    """Return CupyBackend over the emulator, one for the module."""
    emulator.require()
    return emulated(EmulatedCupy(count=2))


def emulated(cupy, index=0):
    """Return CupyBackend on this fake CuPy, installed only meanwhile."""
    with pytest.MonkeyPatch.context() as patch, installed(patch, cupy):
        return CupyBackend(index)


@pytest.mark.parametrize(
    ("name", "size", "dtype"), in_turn(MATRICES, SIZES, ["bfloat16", "float16"]), ids=str
)
def test_operation_in_16_bits_equals_the_reference_up_to_one_rounding(backend, name, dtype, size):
    backend.xp.launched.clear()
    CHECKS[name](Case(backend, dtype, *size))
    assert all(
        kernel.endswith("f16") for kernel in backend.xp.launched if not kernel.startswith("gather_i")
    ), name


@pytest.mark.parametrize(("name", "size", "dtype"), in_turn(CHECKS, SIZES, ["float32", "float64"]), ids=str)
def test_operation_equals_the_reference(backend, name, dtype, size):
    CHECKS[name](Case(backend, dtype, *size))


@pytest.mark.parametrize("order", some_of(emulator.ORDERS[1:], 2), ids=lambda order: f"{order[0]}{order[1]}")
@pytest.mark.parametrize("name", CHECKS)
def test_operation_equals_the_reference_in_every_order_of_threads_and_blocks(
    backend, name, order, monkeypatch
):
    monkeypatch.setattr(backend.xp, "order", order)
    monkeypatch.setattr(backend.kernels, "slab_rows", 8)
    CHECKS[name](Case(backend, "float32", 35, 33))


@pytest.mark.parametrize("name", CHECKS)
def test_operation_with_a_small_grid_equals_the_reference(backend, name, monkeypatch):
    for limit, value in (("most_blocks", 2), ("most_partials", 3), ("slab_rows", 1), ("column_blocks", 100)):
        monkeypatch.setattr(backend.kernels, limit, value)
    CHECKS[name](Case(backend, "float32", 67, 37))


@pytest.mark.parametrize(
    ("name", "dtype"), [(n, d) for d in TYPES for n in (MATRICES if d in ("bfloat16", "float16") else CHECKS)]
)
def test_operation_on_arrays_off_a_16_byte_boundary_equals_the_reference(backend, name, dtype):
    CHECKS[name](Case(backend, dtype, 5, 7, offset=1))


SUMS_OVER_THE_GRID = ("gradient_factor", "cross_entropy")  # all sums are the same function


@pytest.mark.parametrize("name", SUMS_OVER_THE_GRID)
def test_sum_over_more_blocks_than_a_block_has_threads_equals_the_reference(backend, name, monkeypatch):
    """Blocks of one warp, so that 300 of them are few threads: a GPU has up to 2,048 blocks of 256."""
    monkeypatch.setattr(kernels, "THREADS", kernels.WARP)
    monkeypatch.setattr(kernels, "ROWS_PER_BLOCK", 1)
    grids, launch = [], backend.kernels._launch
    monkeypatch.setattr(
        backend.kernels,
        "_launch",
        lambda kernel, grid, *rest: (grids.append(grid), launch(kernel, grid, *rest)),
    )
    CHECKS[name](Case(backend, "float32", 301, 29))
    assert max(grids) > (kernels.WARP * 8,)


PLACES = r"""
extern "C" __global__ void places(const Index* i, int O, Index* row, Index* column) {
  row[threadIdx.x] = row_of(i[threadIdx.x], O);
  column[threadIdx.x] = column_of(i[threadIdx.x], O);
}
extern "C" __global__ void visited(Index n, Index* last) {
  FOR_EACH(i, n) if (i + (Index)gridDim.x * blockDim.x >= n) last[threadIdx.x] = sizeof(i);
  FOR_EACH_ROW(r, 1) last[threadIdx.x] = last[threadIdx.x] * 100 + sizeof(r);
}
"""


def test_row_and_column_of_an_element_beyond_32_bits():
    """No test has 2³² elements; the functions that find the row of one are tested by themselves."""
    emulator.require()
    module = emulator.RawModule(source(ARITHMETIC) + PLACES, ("--std=c++17", "-DONLY_F32"))
    for O in (1, 3, 1000, 2**31 - 1):
        i = np.array([0, 5, 2**31, 2**32 - 1, 2**32, 2**32 + 7, 2**40 + 12345], np.int64)
        row, column = np.zeros((2, len(i)), np.int64)
        module.get_function("places")((1,), (len(i),), (i, np.int32(O), row, column))
        assert (row.tolist(), column.tolist()) == ((i // O).tolist(), (i % O).tolist()), O
    sizes = np.zeros(32, np.int64)
    module.get_function("visited")((1,), (32,), (np.int64(32), sizes))
    assert sizes.tolist() == [808] * 32  # both loops count in 64 bits


def test_kernels_count_elements_in_64_bits():
    """A 32-bit variable holds neither an element's index nor a product of sizes without a cast."""
    text = re.sub(r"//.*", "", source(ARITHMETIC, FORMULAS, KERNELS))
    assert (
        text.count("for (Index i = (Index)blockIdx.x")
        == text.count("for (Index row = (Index)blockIdx.x")
        == 1
    )
    narrow = re.findall(r"\b(?:int|unsigned)\s+(?:\w+\s*=[^;,]*,\s*)*\w+\s*=\s*([^;,]+)[;,]", text)
    assert len(narrow) > 20
    products = [value for value in narrow if re.search(r"row_of\(|\bB \* |\brow \* |\bn / ", value)]
    assert [value for value in products if not re.match(r"\((?:int|unsigned)\)", value)] == []
    loops = re.findall(r"FOR_EACH\(\w+, ([^)]*\*[^)]*)\)", text)
    assert [bound for bound in loops if re.match(r"[A-Z] ", bound)] == ["B * I"]  # where B is an Index


def test_every_kernel_is_launched_by_a_check(backend):
    backend.xp.launched.clear()
    for dtype in TYPES:
        for name in MATRICES if dtype in ("bfloat16", "float16") else CHECKS:
            CHECKS[name](Case(backend, dtype, 2, 3))
    unused = sorted(backend.xp.names ^ set(backend.xp.launched))
    assert [name for name in unused if not name.endswith("_f32_bf16")] == []  # see test_kernels_16_bit.py


def test_nan_is_propagated(backend):
    s = np.array([[1, np.nan, -1], [np.nan, 2, 3], [0, 1, 2]], "float32")
    at = np.isnan(s)
    for phi in PHI:
        assert np.array_equal(np.isnan(backend.to_host(backend.activate(backend.asarray(s), phi))), at), phi
    for operation in (backend.softmax, backend.log_softmax):
        out = operation(backend.asarray(s), out=backend.empty(s.shape, "float32"))
        assert np.array_equal(np.isnan(backend.to_host(out)), at.any(1, keepdims=True) | at)
    z, y = backend.asarray(s), backend.asarray(np.ones_like(s))
    for loss in POINTWISE:
        assert np.isnan(backend.pointwise_loss(loss, z, y, None, None).item()), loss
    labels = backend.asarray(np.zeros(3, np.int32))
    assert np.isnan(backend.cross_entropy(z, y, None, None, 1e-12).item())
    assert np.isnan(backend.softmax_cross_entropy(z, labels, None, None, 0.0, None).item())


# ---------------------------------------------------------------------- planted mistakes


def small_grids(backend, monkeypatch):
    for limit, value in (("most_blocks", 5), ("most_partials", 3), ("slab_rows", 8)):
        monkeypatch.setattr(backend.kernels, limit, value)
    return backend


def test_planted_mistake_changes_one_place():
    text = source(ARITHMETIC, FORMULAS, KERNELS)
    assert {mutant.name: text.count(mutant.old) for mutant in MUTANTS if text.count(mutant.old) != 1} == {}


# Each mistake is compiled for a second: all of them by EVERY_CASE=1, as in scripts/prove.py.
PLANTED = some_of(MUTANTS, 8)


@pytest.mark.parametrize("mutant", PLANTED, ids=[mutant.name.replace(" ", "_") for mutant in PLANTED])
def test_planted_mistake_fails_its_check(backend, mutant, monkeypatch):
    check, size = CHECKS[mutant.check], (mutant.dtype, 35, 37, mutant.offset)
    small_grids(backend, monkeypatch)
    backend.xp.launched.clear()
    check(Case(backend, *size))
    needed = {re.sub("(_f32)?(_b?f16)?$", "", name) for name in backend.xp.launched}
    wrong = emulated(EmulatedCupy(edit=lambda code: mutant.text(code, needed)))
    generated = [kernel for kernel in kernels_of_formulas() if kernel.name in backend.xp.launched]
    if generated:
        wrong.kernels.compile(*generated)
    with pytest.raises((AssertionError, emulator.KernelError)) as caught:
        check(Case(small_grids(wrong, monkeypatch), *size))
    assert not isinstance(caught.value, emulator.KernelCompileError)


def test_wheel_contains_the_kernels(tmp_path):
    builder = pytest.importorskip("hatchling.builders.wheel", reason="hatchling is not installed")
    (path,) = builder.WheelBuilder(str(REPOSITORY)).build(directory=str(tmp_path), versions=["standard"])
    for file in (ARITHMETIC, FORMULAS, KERNELS, *stack.FILES):
        name = file.relative_to(REPOSITORY).as_posix()
        assert zipfile.ZipFile(path).read(name) == file.read_bytes()


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("value", [3, -1, 0.5, np.nan, np.inf, -np.inf])
def test_value_that_is_no_code_makes_nan_and_has_no_gradient(backend, dtype, value):
    x, levels, widths = np.array([[0.5, 2, 1], [0.5, 0, value]]), (3, 3), (2, 1)
    x, E = (backend.asarray(each, backend.dtype(dtype)) for each in (x, np.arange(9.0)))
    a = backend.embedding(x, E, levels, widths, out=backend.empty((2, 4), x.dtype))
    found = backend.to_host(a).astype(float)
    np.testing.assert_array_equal(found, [[0.5, 4, 5, 7], [0.5, 0, 1, np.nan]])
    dE = backend.empty((9,), "float64" if dtype == "float64" else "float32")
    backend.embedding_backward(backend.asarray(np.ones((2, 4)), x.dtype), x, levels, widths, dE=dE, dx=None)
    assert backend.to_host(dE).tolist() == [1, 1, 0, 0, 1, 1, 0, 1, 0]


# ---------------------------------------------------------------------- operations without a kernel


def test_zero_rows_launch_no_empty_grid(backend):
    for name in sorted(set(CHECKS) - {"advance", "batch_norm", "gather", "cross_entropy", "pointwise_loss"}):
        CHECKS[name](Case(backend, "float32", 0, 3))
    empty = np.zeros((0, 3), "float32")
    for loss in ("pointwise_loss", "cross_entropy"):
        kind = {"kind": mean_squared_error} if loss == "pointwise_loss" else {}
        rest = (
            {"z": empty, "y": empty, "dz": empty}
            if kind
            else {"p": empty, "q": empty, "dp": empty, "smallest": 1e-12}
        )
        value = getattr(backend, loss)(
            **kind, **{k: to_device(backend, v) for k, v in rest.items()}, weight=None
        )
        assert value.item() == 0
    rows, index = backend.zeros((5, 3), "uint8"), backend.zeros((0,), np.int64)
    assert backend.take(rows, index, out=backend.empty((0, 3), "float32")).shape == (0, 3)
    assert Network(3, [BatchNorm(), Dense(2)], backend).predict(empty).shape == (0, 2)


def to_device(backend, value):
    return backend.asarray(value) if isinstance(value, np.ndarray) else value


CUBIC = Activation("cubic", lambda xp, s, _: s * s * s, lambda xp, s, _: 3 * s * s, needs_input=True)
SHIFTED = PointwiseLoss("shifted", lambda xp, z, y, _: (z - y + 1) ** 2, lambda xp, z, y, _: 2 * (z - y + 1))


def launched(backend, *starts):
    return [name for name in backend.xp.launched if name.startswith(starts)]


def require_parity(backend, phi, dtype="float32"):
    x, y = np.random.default_rng(0).normal(size=(2, 9, 3))
    backend.xp.launched.clear()
    network = Network(3, [Dense(4, phi), Dense(3)], "numpy", dtype)
    assert_parity(network, x, y, SHIFTED, backends=("numpy", backend))


@pytest.mark.parametrize("dtype", TYPES)
def test_custom_activation_and_custom_loss_are_kernels(backend, dtype):
    require_parity(backend, CUBIC, dtype)
    assert len(launched(backend, "bias_activation_cubic_")) == 1
    assert len(launched(backend, "activation_backward_cubic_")) == 1
    assert len(launched(backend, "pointwise_loss_shifted_")) == 1


def test_two_custom_activations_of_one_name_are_two_kernels(backend):
    for factor in (2.0, 3.0):
        own = Activation("own", lambda xp, s, c: c * s, lambda xp, a, c: c + 0 * a, alpha=factor)
        twin = Activation("own", lambda xp, s, c: s * s * c, lambda xp, s, c: 2 * s * c, True, factor)
        for phi in (own, twin):
            s = backend.asarray(np.array([[1.5, -2.0]]), "float32")
            got = backend.to_host(backend.activate(s, phi))
            assert np.array_equal(got, phi.value(np, np.array([[1.5, -2.0]], "f")))


def branching(xp, s, _):
    return 2 * s if float(xp.max(s)) > 1e9 else s * 0.5


def test_activation_that_is_no_elementwise_expression_is_computed_without_a_kernel(backend, caplog):
    own = Activation("own", branching, lambda xp, a, _: 0.5 + 0 * a)
    backend.xp.launched.clear()
    with caplog.at_level(logging.INFO, "ffnn_gpu"):
        for _ in range(2):
            s, da = (backend.asarray(np.array([[1.5, -2.0]]), "float32") for _ in range(2))
            assert backend.to_host(backend.activate(s, own)).tolist() == [[0.75, -1.0]]
            assert backend.to_host(backend.activation_backward(da, s, own)).tolist() == [[0.75, -1.0]]
    assert {name.partition("_own")[0] for name in backend.xp.launched} == {"activation_backward"}
    assert caplog.messages == ["own.value is not compiled: it uses xp.max, which has no compiled form"]
    with pytest.warns(UserWarning, match="forward reads 1 of its values"):
        require_parity(backend, own)


def test_loss_that_is_no_elementwise_expression_is_computed_without_a_kernel(backend, caplog):
    own = PointwiseLoss("own", lambda xp, z, y, _: (z - y) * xp.mean(z), lambda xp, z, y, _: 1 + 0 * z)
    z, y, dz = (backend.asarray(np.array([[1.0, 3.0]]), "float32") for _ in range(3))
    backend.xp.launched.clear()
    with caplog.at_level(logging.INFO, "ffnn_gpu"):
        for _ in range(2):
            assert backend.pointwise_loss(own, z, y, None, dz).item() == 0
            assert backend.to_host(dz).tolist() == [[0.5, 0.5]]
    assert not backend.xp.launched
    assert caplog.messages == ["own.value is not compiled: it uses xp.mean, which has no compiled form"]


def test_activation_without_a_kernel_changes_nothing_before_the_formula_runs(backend):
    own = Activation("own", branching, lambda xp, a, _: a)
    s = backend.asarray(np.full((2, 3), 7.0), "float32")
    backend.xp.launched.clear()
    with pytest.raises(NoKernelError, match=r"own\.value is not compiled"):
        operations.activate(backend, s, own)
    out = backend.asarray(np.full((2, 3), 7.0), "float32")
    with pytest.raises(NoKernelError):
        operations.affine(backend, s, backend.asarray(np.ones((3, 3)), "float32"), None, own, out)
    assert not backend.xp.launched
    assert backend.to_host(s).tolist() == backend.to_host(out).tolist() == [[7.0] * 3] * 2


def test_custom_loss_with_the_name_of_a_built_in_loss_raises():
    with pytest.raises(ConfigurationError, match="'poisson' is the name of a loss"):
        PointwiseLoss("poisson", lambda xp, z, y, _: z - y, lambda xp, z, y, _: 1 + 0 * z)


def test_arrays_that_are_not_contiguous_are_computed_without_a_kernel(backend):
    whole = np.random.default_rng(0).normal(size=(6, 10)).astype("float32")
    part, z = backend.asarray(whole)[:, ::2], backend.asarray(whole)
    backend.xp.launched.clear()
    want = Backend().softmax(whole[:, ::2], np.empty((6, 5), "float32"))
    assert np.allclose(
        backend.to_host(backend.softmax(part, out=backend.empty((6, 5), "float32"))), want, atol=1e-6
    )
    assert np.array_equal(backend.to_host(backend.activate(part, relu)), np.maximum(whole[:, ::2], 0))
    assert np.array_equal(backend.to_host(z)[:, 1::2], whole[:, 1::2])
    assert not backend.xp.launched


def test_mean_and_scale_of_another_type_are_computed_without_a_kernel(backend):
    rows, index = np.arange(6, dtype=np.uint8).reshape(2, 3), np.array([1, 0])
    mean, scale = np.ones(3, "f"), np.full(3, 2, "f")
    for given in ((mean, scale.astype(float)), (mean.astype(float), scale)):
        out = backend.empty((2, 3), "float64")
        got = backend.take(backend.asarray(rows), backend.asarray(index), out, *map(backend.asarray, given))
        assert backend.to_host(got).tolist() == [[1, 1.5, 2], [-0.5, 0, 0.5]]


def test_use_kernels_false_computes_with_array_functions(backend, monkeypatch):
    monkeypatch.setattr(backend, "use_kernels", False)
    backend.xp.launched.clear()
    CHECKS["adam"](Case(backend, "float32", 3, 5))
    assert not backend.xp.launched


# ---------------------------------------------------------------------- whole steps

LAYERS = {
    "every layer": [
        Dense(9, tanh),
        LayerNorm(),
        Dropout(0.3),
        Residual([Dense(6, gelu), BatchNorm(), Dense(9)]),
        Dense(3),
    ],
    "probabilities": [Dense(7, relu, bias=False), Dense(3), Softmax()],
    "log-probabilities": [Dense(3), LogSoftmax()],
}
OPTIMIZERS = [
    SGD(lr=0.1), SGD(lr=0.1, momentum=0.9, nesterov=True, l2=1e-2, l1=1e-3), RMSprop(momentum=0.5),
    Adagrad(clip_norm=0.1), Adam(l2=1e-2, ema=0.9), AdamW(clip_norm=1.0, clip_value=0.1), Nadam(), Lion(),
]  # fmt: skip
X, LABELS = np.random.default_rng(1).normal(size=(22, 5)), np.random.default_rng(2).integers(0, 3, 22)
ONE_HOT = np.eye(3)[LABELS]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_training_steps_equal_the_reference(backend, optimizer, dtype):
    network = Network(5, LAYERS["every layer"], Backend(), dtype, seed=1)
    assert_parity(
        network, X, LABELS, softmax_cross_entropy, backends=(Backend(), backend), optimizer=optimizer
    )


@pytest.mark.parametrize("optimizer", [SGD(0.1, momentum=0.9), AdamW(weight_decay=0.3), Nadam()], ids=repr)
def test_training_steps_with_factors_equal_the_reference(backend, optimizer):
    layers = [Dense(9, tanh, lr_factor=0.5, bias_lr_factor=0.1), Dense(3, decay_factor=3.0)]
    network = Network(5, layers, Backend(), "float32", seed=1)
    both = Backend(), backend
    assert_parity(network, X, LABELS, softmax_cross_entropy, backends=both, optimizer=optimizer)


def test_training_steps_with_muon_equal_the_reference(backend):
    network = Network(5, LAYERS["every layer"], Backend(), "float64", seed=1)
    both = Backend(), backend
    assert_parity(network, X, LABELS, softmax_cross_entropy, backends=both, optimizer=Muon(l2=1e-2))


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=repr)
def test_steps_through_an_overflow_equal_the_reference(backend, optimizer):
    gradients = 1024 * np.random.default_rng(4).normal(size=(4, 400)).astype("float32")
    gradients[1, 77] = np.nan
    found = []
    for each in (backend, Backend()):
        params = Parameters(each, [{"W": (15, 20), "b": (20,)}], [{}], "float32")
        params.loss_scale = each.asarray(np.array([1024.0, 1999.0]))
        for grad in gradients:
            each.copy(each.asarray(grad[: params.theta.size]), out=params.grad)
            optimizer.step(params)
        vectors = {
            **vars(optimizer.state(params)),
            "theta": params.theta,
            "scale": params.loss_scale,
            "step": params.step,
        }
        found.append({name: each.to_host(vector) for name, vector in vectors.items()})
    assert found[0]["scale"].tolist() == [1024, 2] and found[0]["step"].tolist() == [3]
    for name, vector in found[0].items():
        assert_close(vector, found[1][name], 4 * tolerance("network", "float32"), name)


def test_optimizer_step_launches_one_kernel_to_update_one_to_count_and_one_to_clip(backend):
    params = Parameters(backend, [{"W": (15, 20), "b": (20,)}], [{}], "float32")
    for optimizer, names in (
        (Adam(), ["adam", "advance"]),
        (AdamW(clip_norm=1.0, l2=0.1, l1=0.1), ["adam", "advance", "gradient_factor_f32"]),
    ):
        optimizer.state(params)
        backend.xp.launched.clear()
        with backend.xp.within_a_step():
            optimizer.step(params)
        found = (re.sub(r"^adam_\w{8}_f32$", "adam", name) for name in backend.xp.launched.elements())
        assert sorted(found) == names


class Signed(Optimizer):
    """θ ← θ − η (1 − ½ᵗ) sign(m), m ← ½ (m + g)"""

    moments = ("m",)

    def formula(self, xp, theta, g, lr, t, m):
        m += 0.5 * (g - m)
        theta -= lr * (1 - 0.5**t) * xp.sign(m)


class Normalized(Optimizer):
    """θ ← θ − η g/‖g‖, which is not elementwise"""

    moments = ()

    def formula(self, xp, theta, g, lr, t):
        theta -= lr * g / xp.sqrt(xp.sum(g * g))


class Decaying(Optimizer):
    """θ ← θ − η g/k in the k-th call, which is no function of the arguments"""

    def __init__(self, lr):
        super().__init__(lr)
        object.__setattr__(self, "calls", itertools.count(1))

    def formula(self, xp, theta, g, lr, t):
        theta -= lr * g / next(self.calls)


def updated(backend, optimizer, steps=3):
    """Return θ after some updates by random gradients."""
    params = Parameters(backend, [{"W": (15, 20), "b": (20,)}], [{}], "float32")
    for grad in np.random.default_rng(6).normal(size=(steps, params.theta.size)).astype("float32"):
        backend.copy(backend.asarray(grad), out=params.grad)
        optimizer.step(params)
    return backend.to_host(params.theta)


@pytest.mark.parametrize("options", [{}, {"l2": 0.1, "clip_norm": 0.5}], ids=["plain", "penalized"])
def test_own_optimizer_is_one_kernel(backend, options):
    backend.xp.launched.clear()
    found = updated(backend, Signed(lr=0.1, **options))
    assert [count for name, count in backend.xp.launched.items() if name.startswith("Signed_")] == [3]
    assert_close(found, updated(Backend(), Signed(lr=0.1, **options)), tolerance("network", "float32"))


def test_own_optimizer_that_is_not_elementwise_is_computed_without_a_kernel(backend, caplog):
    backend.xp.launched.clear()
    with caplog.at_level(logging.INFO, "ffnn_gpu"):
        found = updated(backend, optimizer := Normalized(lr=0.1))
        updated(backend, optimizer)
    assert {*backend.xp.launched} == {"advance"}
    (line,) = caplog.messages
    assert re.match(r"Normalized\.formula \(.*\) is not compiled: it uses xp\.sum", line)
    assert_close(found, updated(Backend(), Normalized(lr=0.1)), tolerance("network", "float32"))


def test_own_optimizer_that_is_not_its_trace_is_computed_without_a_kernel(backend, caplog):
    backend.xp.launched.clear()
    with caplog.at_level(logging.INFO, "ffnn_gpu"):
        updated(backend, Decaying(lr=0.1))
    assert {*backend.xp.launched} == {"advance"}
    assert "its values depend on more than its arguments" in caplog.text


@pytest.mark.parametrize("kind", [Signed, Normalized])
def test_kernel_of_an_own_optimizer_and_its_refusal_do_not_keep_it_alive(backend, kind):
    optimizer = kind(lr=0.1)
    updated(backend, optimizer)
    remembered = weakref.ref(optimizer)
    del optimizer
    gc.collect()
    assert remembered() is None


def test_rules_write_a_copy_of_theta_in_bfloat16(backend):
    bfloat16 = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed").bfloat16
    rng, moments = np.random.default_rng(0), {}
    theta, grad = (backend.asarray(rng.normal(size=300), "float32") for _ in range(2))
    shadow, scalars = backend.zeros((300,), bfloat16), backend.asarray(np.array([1.0, 0.1, 1.0]))
    for name in ("m", "v"):
        moments[name] = backend.zeros((300,), "float32")
    backend.adam(Update(theta, grad, scalars, shadow=shadow), **moments, beta1=0.9, beta2=0.99, eps=1e-8)
    assert [name for name in backend.xp.launched if re.fullmatch(r"adam_\w{8}_f32_bf16", name)]
    np.testing.assert_array_equal(backend.to_host(shadow), backend.to_host(theta).astype(bfloat16))


@pytest.mark.parametrize("name", LOSSES)
def test_training_steps_on_each_loss_equal_the_reference(backend, name):
    y = {"hinge": 2 * ONE_HOT - 1, "softmax_cross_entropy": LABELS}.get(name, ONE_HOT)
    layers = (
        LAYERS["probabilities"]
        if name in ("cross_entropy", "binary_cross_entropy")
        else LAYERS["log-probabilities"]
    )
    assert_parity(Network(5, layers, Backend(), seed=1), X, y, LOSSES[name], backends=(Backend(), backend))


def test_fit_equals_the_reference_and_is_reproducible(backend):
    def losses(on):
        network = Network(5, LAYERS["every layer"], on, seed=2)
        history = fit(
            network,
            softmax_cross_entropy,
            AdamW(lr=0.01),
            (X, LABELS),
            epochs=2,
            batch_size=8,
            verbose=0,
            class_weight="balanced",
            accumulate=2,
        )
        return [row["loss"] for row in history.rows]

    first = losses(backend)
    assert first == losses(backend)
    assert first == pytest.approx(losses(Backend()), rel=1e-4)


def step_of(backend):
    network, optimizer = Network(5, LAYERS["every layer"], backend, seed=3), AdamW(clip_norm=1.0)
    x, y, w = (
        backend.asarray(X, "float32"),
        backend.asarray(LABELS, np.int32),
        backend.asarray(np.ones(22), "float32"),
    )
    ws = network.workspace(22)
    loss = SoftmaxCrossEntropy(class_weight=(1, 2, 3))
    return lambda: train_step(network, loss, optimizer, x, y, ws, sample_weight=w, checked=True), network


def test_step_neither_waits_nor_copies_nor_allocates_more_scratch(backend):
    step, _ = step_of(backend)
    step()
    scratch = dict(backend.kernels._own.__dict__)
    with backend.xp.within_a_step():
        step()
    assert scratch == backend.kernels._own.__dict__


def test_threads_that_share_a_backend_have_separate_scratch(backend):
    kernels, found = backend.kernels, []

    def scratch():
        return kernels.scratch("partial", 8), kernels._finished()

    thread = threading.Thread(target=lambda: found.extend(scratch()))
    thread.start()
    thread.join()
    for mine, other in zip(scratch(), found, strict=True):
        assert mine is not other
    assert all(mine is again for mine, again in zip(scratch(), scratch(), strict=True))


def test_kernels_run_on_the_device_of_their_backend(backend):
    second = emulated(backend.xp, 1)
    CHECKS["batch_norm"](Case(second, "float32", 5, 3))
    step, network = step_of(second)
    assert step().device.id == network.params.theta.device.id == 1


def test_dropout_of_a_gradient_that_no_kernel_reads_has_the_mask_of_the_forward_pass(backend):
    step, draw = backend.zeros((1,), np.int64), {"rate": 0.5, "seed": 1, "layer": 2, "row": 3}
    x, mask, out = (backend.asarray(np.full((6, 4), number, np.float32)) for number in (1, 7, 0))
    backend.dropout_forward(x, mask, out, step=step, **draw)
    da = backend.asarray(np.ones((4, 6), np.float32)).T  # as from a layer of one's own
    dx = backend.dropout_backward(da, mask, step=step, **draw)
    np.testing.assert_array_equal(backend.to_host(dx), backend.to_host(out))
