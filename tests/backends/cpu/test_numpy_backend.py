"""Every override of NumpyBackend and CompiledBackend is compared with the reference."""

import inspect
import sys
import tracemalloc

import numpy as np
import pytest

from ffnn_gpu import (
    SGD,
    Adagrad,
    Adam,
    AdamW,
    BatchNorm,
    Dense,
    Dropout,
    LayerNorm,
    Lion,
    Nadam,
    Network,
    Residual,
    RMSprop,
    relu,
    softmax_cross_entropy,
    tanh,
    train_step,
)
from ffnn_gpu.arrays.precision import eps, floating
from ffnn_gpu.backends.choice import Backend, CompiledBackend, NumpyBackend, get_backend
from ffnn_gpu.backends.cpu import numpy_backend
from ffnn_gpu.backends.reference.updates import Update
from ffnn_gpu.errors import DataError
from ffnn_gpu.nn.activations import ACTIVATIONS
from ffnn_gpu.nn.losses.standard import LOSSES, PointwiseLoss
from ffnn_gpu.testing import assert_close, assert_parity, tolerance
from tests.every_case import in_turn

REFERENCE = Backend()
# compared below, and with their formulas in tests/backends/reference/test_updates.py
RULES = {"sgd", "rmsprop", "adagrad", "adam", "nadam", "lion"}
NORMS = {"layer_norm", "layer_norm_backward", "batch_norm", "batch_norm_backward"}
RECORDED = {"run_step", "run_forward"}  # tests/backends/cpu/recording/test_recorded_step.py
BOTH = {"affine", "column_sum", "activation_backward", "softmax_cross_entropy"} | RULES
TESTED = BOTH | {"empty", "output", "asarray", "require_finite", "take", "gemm", "activate"}
TESTED |= {"embedding_backward"}  # tests/nn/layers/test_embedding.py
TESTED |= {"map_columns", "map_columns_backward"}  # tests/nn/layers/test_periodic_embedding.py
# tests/backends/cpu/loops/test_cross_entropy.py
SOFTMAX = {"softmax", "softmax_backward", "log_softmax", "log_softmax_backward", "cross_entropy"}
ROWS_OF_DATA = {"take", "all_finite", "require_finite"}
POINTWISE = {"pointwise_loss"}  # tests/backends/cpu/loops/test_formulas.py
# tests/nn/layers/test_embedding.py, tests/backends/cpu/recording/test_recorded_embedding.py
EMBEDDING = {"embedding", "embedding_backward"}
# tests/nn/layers/test_scale.py, test_parametric_activation.py
PER_COLUMN = {"scale_columns", "scale_columns_backward", "parametric", "parametric_backward"}
# tests/nn/layers/test_periodic_embedding.py, test_cosine_embedding.py
PERIODIC = {"periodic", "periodic_backward", "cosines", "cosines_backward"}
# tests/nn/layers/test_piecewise_linear_embedding.py
PIECEWISE = {"piecewise_linear", "piecewise_linear_backward"}
TOGETHER = {"alone"}  # tests/estimators/tabular/test_fit_ensemble.py
EXPORT = {"parts_of_sum"}  # tests/export/to_onnx/test_layers.py
MUON = {"muon", "muon_direction", "muon_step", "orthogonalized"}  # tests/backends/reference/test_muon.py
OF_TABLES = EMBEDDING | PER_COLUMN | PERIODIC | PIECEWISE
ELSEWHERE = TOGETHER | EXPORT | ROWS_OF_DATA | RECORDED | SOFTMAX | POINTWISE | OF_TABLES
COMPILED = (
    BOTH
    | NORMS
    | ELSEWHERE
    | {"activate", "average", "dropout", "dropout_mask", "gemm", "own_rule"}
    | {"squared_norm"}
    | MUON
)
SHAPES = [(1, 1), (5, 3), (64, 130), (300, 7)]


@pytest.fixture(params=[NumpyBackend, CompiledBackend], ids=lambda kind: kind.__name__)
def fast(request):
    """Return each CPU backend; without llvmlite, skip the compiled one."""
    made = request.param()
    if request.param is CompiledBackend and made.immediate is None:
        pytest.skip('no llvmlite: pip install "ffnn_gpu[fast]"')
    return made


def random(shape, dtype, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize(("kind", "tested"), [(NumpyBackend, TESTED), (CompiledBackend, COMPILED)])
def test_every_override_is_tested_here(kind, tested):
    overridden = {
        name for name, member in vars(kind).items() if inspect.isfunction(member) and not name.startswith("_")
    }
    assert overridden == tested, (
        "an override was added or removed; compare it with the reference in this file"
    )


@pytest.mark.parametrize("shape", [(0,), (1,), (3, 5), (0, 4), (2, 3, 4), (1024,), (513, 8), (2, 100_000)])
def test_empty_is_aligned_to_256_bytes(fast, dtype, shape):
    for _ in range(20):
        array = fast.empty(shape, np.dtype(dtype))
        assert (
            array.shape == shape
            and array.dtype == dtype
            and array.flags.c_contiguous
            and array.flags.writeable
        )
        assert not array.size or array.ctypes.data % 256 == 0
        assert not array.size or fast.empty(shape, np.dtype(dtype), lane=1).ctypes.data % 256 == 0
    assert fast.empty((3,), np.int64).dtype == np.int64


def test_output_returns_a_writable_contiguous_array(fast, dtype):
    array = fast.output((3, 5), np.dtype(dtype))
    assert (
        array.shape == (3, 5) and array.dtype == dtype and array.flags.c_contiguous and array.flags.writeable
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_column_sum_agrees_with_the_reference(fast, dtype, shape):
    A = random(shape, dtype)
    got, want = (each.column_sum(A, out=np.empty(shape[1], dtype)) for each in (fast, REFERENCE))
    bound = tolerance("product", dtype, K=shape[0])
    assert_close(got, want, bound, "column sum", scale=np.abs(A).sum(axis=0) + np.finfo(dtype).tiny)


def test_column_sum_over_two_million_rows_is_as_accurate_as_a_product(backend):
    rows = 2_000_000  # np.sum(axis=0) in float32 errs by 1.5 % here
    A = np.random.default_rng(0).random((rows, 2), dtype=np.float32)
    got = backend.to_host(backend.column_sum(backend.asarray(A), out=backend.empty((2,), np.float32)))
    want = A.sum(axis=0, dtype=np.float64)
    assert_close(got, want, tolerance("product", "float32", K=rows), "column sum", scale=want)


@pytest.mark.parametrize("rows_dtype", ["float32", "float64", "uint8", "int32"])
@pytest.mark.parametrize("shape", [(9,), (9, 4)])
def test_take_gathers_rows_and_casts(backend, dtype, rows_dtype, shape):
    rows = (100 * random(shape, "float64") % 100).astype(rows_dtype)
    index = np.array([8, 0, 3, 3])
    out = backend.empty((4, *shape[1:]), np.dtype(dtype))
    got = backend.take(backend.asarray(rows), backend.asarray(index), out=out)
    assert got is out and got.dtype == dtype
    np.testing.assert_array_equal(backend.to_host(got), rows[index].astype(dtype))


ROWS = {
    **{name: lambda x, name=name: x.astype(name) for name in ("uint8", "int16", "int64", "float16")},
    **{name: lambda x, name=name: x.astype(name) for name in ("float32", "g")},
    "big-endian": lambda x: x.astype(">f8"),
    "every other column": lambda x: np.repeat(x, 2, axis=1)[:, ::2],
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
}


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("kind", ROWS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_take_equals_the_reference_bit_for_bit(fast, dtype, kind, scaled):
    rows, index = ROWS[kind](100 * np.random.default_rng(0).random((9, 5))), np.array([8, 0, 3, 3])
    scaling = (random(5, "float64"), np.linspace(0.1, 3, 5)) if scaled else ()
    outputs = np.empty((2, 4, 5), floating(dtype))
    pairs = zip((fast, REFERENCE), outputs, strict=True)
    got, want = (backend.take(rows, index, out, *scaling) for backend, out in pairs)
    assert got.tobytes() == want.tobytes()


def test_take_reads_a_memory_mapped_file(fast, dtype, tmp_path):
    np.save(tmp_path / "x.npy", random((9, 5), "float64"))
    rows, index = np.load(tmp_path / "x.npy", mmap_mode="r"), np.array([8, 0, 3])
    got = fast.take(rows, index, np.empty((3, 5), dtype), np.zeros(5), np.full(5, 2.0))
    np.testing.assert_array_equal(got, (rows[index] / 2).astype(dtype))


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 6, 20])
def test_single_non_finite_value_is_found(fast, dtype, bad, place):
    for array in (random((3, 7), dtype), np.asfortranarray(random((3, 7), dtype))):
        assert fast.all_finite(array) is True
        fast.require_finite(array, "x", np.dtype(dtype))
        array[divmod(place, 7)] = bad
        assert fast.all_finite(array) is False
        with pytest.raises(
            DataError, match=rf"1 values that are not finite; .* at index \({place // 7}, {place % 7}\)"
        ):
            fast.require_finite(array, "x", np.dtype(dtype))


def test_numbers_too_large_for_the_type_raise(fast):
    with pytest.raises(DataError, match="too large for float32"):
        fast.require_finite(np.array([[1.0, 1e300]]), "x", np.dtype(np.float32))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 3), (64, 130)])
def test_cross_entropy_of_class_indices_agrees_with_the_reference(fast, dtype, shape, weighted):
    rng = np.random.default_rng(0)
    z, y = 5 * random(shape, dtype), rng.integers(0, shape[1], shape[0]).astype(np.int32)
    weight = rng.random(shape[0]).astype(dtype) if weighted else None
    results = []
    for each in (fast, REFERENCE):
        dz = np.full(shape, np.nan, dtype)
        results.append((each.softmax_cross_entropy(z, y, weight, None, 0.0, dz), dz))
        assert each.softmax_cross_entropy(z, y, weight, None, 0.0, None) == results[-1][0]
    (value, dz), (want, want_dz) = results
    assert value.dtype == dtype
    assert_close(value, want, tolerance("product", dtype, K=shape[0]), "loss")
    assert_close(dz, want_dz, tolerance("product", dtype), "dz")


@pytest.mark.parametrize(("name", "shape", "dtype"), in_turn(ACTIVATIONS, SHAPES, ["float32", "float64"]))
def test_activation_overrides_agree_with_the_reference(fast, dtype, name, shape):
    phi, s, da = ACTIVATIONS[name], 3 * random(shape, dtype), random(shape, dtype, seed=1)
    s[0, 0] = 0
    got, want = (each.activate(s.copy(), phi) for each in (fast, REFERENCE))
    assert_close(got, want, tolerance("product", dtype), f"{name}", scale=np.abs(s).max())
    got, want = (each.activation_backward(da.copy(), want, phi, s) for each in (fast, REFERENCE))
    assert_close(got, want, tolerance("product", dtype), f"δ of {name}", scale=np.abs(da).max())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_overrides_work_in_place(fast, name):
    s, da = random((4, 3), "float32"), random((4, 3), "float32", seed=1)
    for each in (fast, REFERENCE):
        assert each.activate(s, ACTIVATIONS[name]) is s
        assert each.activation_backward(da, s, ACTIVATIONS[name], s) is da


CONTROLS = [None, [1, 0], [0.25, 0], [0, 1]]
PENALTIES = [(0.0, 0.0, 0.0), (0.1, 0.2, 0.3)]  # l2, l1, weight_decay
TYPES_AND_SHADOWS = [("float32", False), ("float64", True), ("float32", True), ("float64", False)]


@pytest.mark.parametrize(
    ("rule", "control", "extras", "kind"),
    in_turn(sorted(RULES), CONTROLS, PENALTIES, TYPES_AND_SHADOWS),
    ids=str,
)
def test_rules_equal_the_reference(fast, rule, control, extras, kind, monkeypatch):
    """Equal bit for bit, except in compiled loops, which multiply by 1/√(1 − β₂ᵗ) instead of dividing."""
    dtype, mixed = kind
    monkeypatch.setattr(numpy_backend, "BLOCK", 16_384)  # several blocks, the last one shorter
    names = [
        name
        for name in inspect.signature(getattr(Backend, rule)).parameters
        if name not in ("self", "update")
    ]
    constants = {
        "momentum": 0.9,
        "nesterov": True,
        "rho": 0.9,
        "eps": 1e-8,
        "beta1": 0.9,
        "beta2": 0.99,
        "psi": 0.004,
    }
    found = []
    for each in (fast, REFERENCE):
        given = {name: random(40_000, dtype, k) ** 2 for k, name in enumerate(("theta", "grad", *names))}
        shadow = given["theta"].astype(floating("bfloat16")) if mixed else None
        update = Update(
            given["theta"],
            given["grad"],
            np.array([3.0, 0.1, 0.7]),
            20_000,
            *extras,
            None if control is None else np.array(control, np.float64),
            shadow,
        )
        getattr(each, rule)(update, *(constants.get(name, given[name]) for name in names))
        del given["grad"]  # either may overwrite it
        if mixed:
            np.testing.assert_array_equal(shadow, given["theta"].astype(shadow.dtype))
        found.append(given)
    looped = isinstance(fast, CompiledBackend)
    for name, got in found[0].items():
        if looped:
            assert_close(got, found[1][name], tolerance("product", dtype), name)
        else:
            np.testing.assert_array_equal(got, found[1][name], err_msg=name)


def test_activations_propagate_nan(fast, dtype):
    for name in ("identity", "relu", "tanh"):
        assert all(
            np.isnan(each.activate(np.full((1, 1), np.nan, dtype), ACTIVATIONS[name]))
            for each in (fast, REFERENCE)
        )


TYPES_AND_BIASES = [("float32", True), ("float64", False), ("float32", False), ("float64", True)]


@pytest.mark.parametrize(("name", "shape", "kind"), in_turn(ACTIVATIONS, SHAPES, TYPES_AND_BIASES))
def test_affine_agrees_with_the_reference(fast, name, shape, kind):
    dtype, bias = kind
    x, W, b = (
        random((shape[0], 11), dtype),
        random((11, shape[1]), dtype, 1),
        random(shape[1:], dtype, 2) if bias else None,
    )
    phi, found = ACTIVATIONS[name], []
    for each in (fast, REFERENCE):
        out, s = (
            np.full(shape, np.nan, dtype),
            np.full(shape, np.nan, dtype) if phi.needs_input or not bias else None,
        )
        assert each.affine(x, W, b, phi, out, s) is out
        found.append((out, s))
    scale = abs(x) @ abs(W) + 1
    for (got, want), what in zip(zip(*found, strict=True), ("a", "s"), strict=True):
        if want is not None:
            assert_close(got, want, tolerance("product", dtype, K=11), what, scale=scale)


@pytest.mark.parametrize("n", [0, 1, 15, 16, 17, 40_000])
def test_squared_norm_and_average_agree_with_the_reference(fast, dtype, n):
    g, values = random(n, dtype), random(n, dtype, 1)
    assert fast.squared_norm(g).dtype == np.float64
    np.testing.assert_allclose(fast.squared_norm(g), REFERENCE.squared_norm(g), rtol=1e-13)
    means = [g.copy(), g.copy()]
    for each, mean in zip((fast, REFERENCE), means, strict=True):
        each.average(mean, values, 0.9)
    assert_close(*means, tolerance("product", dtype))


@pytest.mark.parametrize("shape", [(0, 5), (1, 1), (3, 4), (7, 13), (64, 30), (3, 150)])
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.999])
@pytest.mark.parametrize("factor", [None, 0.7])
def test_dropout_equals_the_reference_bit_for_bit(fast, shape, rate, factor, dtype):
    seed, step, layer, row = 2**63 + 12345, np.array([2**31 + 3]), 5, 2**20
    x, found = random(shape, dtype), []
    factor = None if factor is None else np.array([factor])
    for each in (fast, REFERENCE):
        out = np.full(shape, np.nan, dtype)
        mask = each.dropout_mask(rate, seed, step, layer, row, out, factor)
        found.append((mask, each.dropout(x, mask, out=np.empty(shape, dtype))))
    np.testing.assert_array_equal(found[0], found[1])


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_16_bit_results_equal_the_reference_up_to_one_rounding(fast, dtype):
    kind, found = fast.dtype(dtype), []
    for each in (fast, REFERENCE):
        x, W, b, a = (
            random(shape, "float64", k).astype(kind) for k, shape in enumerate([(5, 4), (4, 3), (3,), (5, 3)])
        )
        out = each.affine(x, W, b, ACTIVATIONS["relu"], np.empty((5, 3), kind))
        da = each.activation_backward(a, out, ACTIVATIONS["relu"])
        dz = np.empty((5, 3), np.float32)
        value = each.softmax_cross_entropy(out, np.arange(5) % 3, None, None, 0.0, dz)
        found.append(
            [out, da, dz, value, each.dropout_mask(0.5, 1, np.array([1]), 0, 0, np.empty((5, 3), kind))]
        )
    for got, want in zip(*found, strict=True):
        assert got.dtype == want.dtype
        if got.itemsize == 4:  # the loss and its gradient are added in another order
            assert_close(got, want, tolerance("product", np.float32))
        elif isinstance(fast, CompiledBackend):
            assert_close(got, want, eps(kind))
        else:
            np.testing.assert_array_equal(got, want)


def test_backend_works_if_numba_cannot_be_imported(monkeypatch, dtype):
    import ffnn_gpu.backends.cpu.recording

    name = "ffnn_gpu.backends.cpu.recording.immediate"
    monkeypatch.setitem(sys.modules, name, None)  # the import raises ImportError
    monkeypatch.delattr(ffnn_gpu.backends.cpu.recording, "immediate", raising=False)
    made = CompiledBackend()
    got, want = (
        each.dropout_mask(0.5, 0, np.array([0]), 0, 0, np.empty((3, 5), dtype)) for each in (made, REFERENCE)
    )
    np.testing.assert_array_equal(got, want)
    assert made.immediate is None


def test_numpy_names_the_compiled_backend_if_numba_is_installed(monkeypatch):
    for found, kind in ((object(), CompiledBackend), (None, NumpyBackend)):
        monkeypatch.setattr("ffnn_gpu.backends.choice.find_spec", lambda name, found=found: found)
        assert type(get_backend("numpy")) is kind


@pytest.mark.parametrize("kind", ["layer_norm", "batch_norm"])
@pytest.mark.parametrize("shape", [(1, 1), (5, 3), (64, 130), (300, 7)])
def test_normalization_agrees_with_the_reference(fast, dtype, kind, shape):
    """The mean is large compared with the spread, and one column is constant."""
    x, da = 100 + random(shape, dtype), random(shape, dtype, 1)
    x[:, 0] = 10_000
    of_statistics, axis = shape[kind == "batch_norm"], 0 if kind == "batch_norm" else 1
    found = []
    for each in (fast, REFERENCE):
        out, xhat, dx = (np.full(shape, np.nan, dtype) for _ in range(3))
        gain, bias, dgain, dbias = (random(shape[1], dtype, k) for k in range(4))
        statistics = [np.full(of_statistics, np.nan, dtype) for _ in range(3 if axis == 0 else 1)]
        getattr(each, kind)(x, gain, bias, 1e-5, out, xhat, *statistics)
        backward = getattr(each, f"{kind}_backward")
        assert backward(da.copy(), gain, xhat, statistics[0], dgain, dbias, dx) is dx
        before = dgain.copy(), dbias.copy()
        assert backward(da.copy(), gain, xhat, statistics[0], dgain, dbias, None) is None
        np.testing.assert_array_equal(before, (dgain, dbias))
        found.append([out, xhat, *statistics, dgain, dbias, dx])
    K = shape[0] * shape[1]
    # In float64, x − μ keeps the rounding of a mean that is 100 times the spread. float32 has float64
    # statistics.
    condition = 100 if dtype == "float64" else 1
    for number, (got, want) in enumerate(zip(*found, strict=True)):
        floor = np.abs(found[1][-1]).max() if number == len(found[0]) - 1 else 1
        assert_close(
            got,
            want,
            tolerance("network", dtype, K),
            f"result {number}",
            scale=condition * max(np.abs(want).max(), floor),
        )
    if kind == "layer_norm":
        inferred = fast.layer_norm(x, gain, bias, 1e-5, np.empty(shape, dtype), None, None)
        np.testing.assert_array_equal(inferred, found[0][0])


INFINITE = {  # name → (B, I, O) → a call with an infinite number beside a 0
    "affine": lambda do, B, I, O: do.affine(far(B, I), nothing(I, O), np.zeros(O), relu, np.empty((B, O))),
    "gemm": lambda do, B, I, O: do.gemm(far(B, I), nothing(I, O), np.empty((B, O))),
    "gemm of the transpose": lambda do, B, I, O: do.gemm(far(B, I).T, nothing(B, O), np.empty((I, O))),
    "gemm by the transpose": lambda do, B, I, O: do.gemm(far(B, I), nothing(O, I).T, np.empty((B, O))),
    "column sum": lambda do, B, I, O: do.column_sum(np.vstack([far(B, I), -far(B, I)]), np.empty(I)),
    "add": lambda do, B, I, O: do.add(far(B, I), -far(B, I), np.empty((B, I))),
    "scaled": lambda do, B, I, O: do.scaled(far(B, I), np.zeros(1), np.empty((B, I))),
    "dropout": lambda do, B, I, O: do.dropout(far(B, I), nothing(B, I), np.empty((B, I))),
    "softmax": lambda do, B, I, O: do.softmax(-far(B, I), np.empty((B, I))),
    "log softmax": lambda do, B, I, O: do.log_softmax(-far(B, I), np.empty((B, I))),
    "scale columns": lambda do, B, I, O: do.scale_columns(far(B, I), np.zeros(I), np.empty((B, I))),
} | {
    f"slope of {name}": lambda do, B, I, O, phi=phi: do.activation_backward(
        far(B, I), phi.value(np, -far(B, I)), phi, -far(B, I)
    )
    for name, phi in ACTIVATIONS.items()
}


def far(*shape):
    """Return numbers with ∞ at the first place."""
    numbers = random(shape, "float64")
    numbers[0, 0] = np.inf
    return numbers


def nothing(*shape):
    """Return numbers with zeros in the first row, which multiplies ∞."""
    numbers = random(shape, "float64", 1)
    numbers[0] = 0
    return numbers


@pytest.mark.parametrize("name", INFINITE)
def test_infinity_and_zero_times_infinity_mean_what_they_mean_in_the_reference(fast, name):
    for shape in ((1, 1, 1), (1, 3, 1), (1, 1, 3), (3, 1, 1), (2, 3, 4), (5, 40, 1), (40, 17, 33)):
        with np.errstate(all="ignore"):
            got, want = (INFINITE[name](each, *shape) for each in (fast, REFERENCE))
        np.testing.assert_allclose(got, want, 1e-12, 1e-12, err_msg=f"{name} {shape}")


@pytest.mark.parametrize(
    "loss", [each for each in LOSSES.values() if isinstance(each, PointwiseLoss)], ids=repr
)
def test_infinite_outputs_and_weights_of_0_give_the_loss_of_the_reference(fast, loss):
    for B, O in ((1, 1), (1, 3), (3, 1), (7, 5)):
        for bad in (np.inf, -np.inf, np.nan):
            for weight in (None, np.r_[0.0, np.ones(B - 1)], np.r_[1.0, np.zeros(B - 1)], np.zeros(B)):
                z, y, found = random((B, O), "float64"), np.ones((B, O)), []
                z[0, 0] = bad
                with np.errstate(all="ignore"):
                    for each in (fast, REFERENCE):
                        dz = np.empty((B, O))
                        found.append((each.pointwise_loss(loss, z, y, weight, dz), dz))
                for got, want in zip(*found, strict=True):
                    np.testing.assert_allclose(got, want, 1e-12, 1e-12, err_msg=f"{B} {O} {bad} {weight}")


@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("rows", [1, 3, 257, 600])
def test_columns_with_infinity_have_the_statistics_of_the_reference(fast, dtype, bad, rows):
    """The mean of a column with ∞ is ∞, with both ∞ and −∞ NaN; its variance is NaN."""
    for at in ((0,), (rows - 1,), (0, rows - 1), (rows // 2,)):
        x, found = random((rows, 4), dtype), []
        x[list(at), 1] = bad
        x[0, 2], x[rows - 1, 2] = np.inf, -np.inf
        with np.errstate(all="ignore"):
            for each in (fast, REFERENCE):
                out, xhat, (rstd, mean, variance) = *np.empty((2, rows, 4), dtype), np.empty((3, 4), dtype)
                each.batch_norm(
                    x, np.ones(4, dtype), np.zeros(4, dtype), 1e-5, out, xhat, rstd, mean, variance
                )
                found.append((out, xhat, rstd, mean, variance))
        for got, want in zip(*found, strict=True):
            np.testing.assert_allclose(got, want, 1e-4, 1e-4, err_msg=f"{at}")


@pytest.mark.parametrize("rows", [1, 2, 255, 256, 257, 1000])
def test_normalized_columns_are_exact_to_the_rounding_of_the_mean(fast, rows):
    """Blocks of 256 rows are summed by themselves, and their means are merged."""
    x = 100 + random((rows, 5), "float64")
    exact = x.astype(np.longdouble)
    mean, variance = exact.mean(axis=0), exact.var(axis=0)
    expected = (exact - mean) / np.sqrt(variance + np.longdouble(1e-5))
    out, xhat = np.empty_like(x), np.empty_like(x)
    rstd, mu, sigma2 = np.empty((3, 5))
    fast.batch_norm(x, np.ones(5), np.zeros(5), 1e-5, out, xhat, rstd, mu, sigma2)
    largest = 1 / np.sqrt(variance.min() + 1e-5)
    ulps = 1 if type(fast) is CompiledBackend else 12  # NumPy adds 100 again and again
    assert np.abs(xhat - expected).max() <= ulps * 100 * np.finfo(float).eps * float(largest)
    np.testing.assert_allclose(sigma2, variance.astype(float), rtol=1e-12, atol=1e-20)
    np.testing.assert_array_equal(out, xhat)


def test_asarray_returns_a_suitable_array_uncopied(fast):
    x = random((5, 3), "float32")
    assert fast.asarray(x) is x and fast.asarray(x, np.float32) is x
    for other in (
        x.T,
        x.astype(np.float64),
        x.tolist(),
        x[::2],
        x.astype("f4").view(type("Sub", (np.ndarray,), {})),
    ):
        made = fast.asarray(other, np.float32)
        assert type(made) is np.ndarray and made.flags.c_contiguous and made.dtype == np.float32
        np.testing.assert_array_equal(made, np.asarray(other, np.float32))
    assert (
        fast.asarray(np.arange(3), np.float64).dtype
        == fast.asarray(np.arange(3), np.dtype("f8")).dtype
        == np.float64
    )


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_non_finite_numbers_raise_with_the_message_of_the_reference(fast, bad):
    x = random((5, 3), "float64")
    fast.require_finite(x, "x", np.dtype(np.float32))
    x[2, 1] = bad
    messages = []
    for each in (fast, REFERENCE):
        with pytest.raises(DataError) as caught:
            each.require_finite(x, "x", np.dtype(np.float32))
        messages.append(str(caught.value))
    assert messages[0] == messages[1] and "(2, 1)" in messages[0]


LAYERS = [
    Dense(300, relu), LayerNorm(), Dropout(0.2), Dense(200, tanh), BatchNorm(), Residual([Dense(200, relu)]),
    Dense(10),
]  # fmt: skip


@pytest.mark.parametrize(
    "optimizer",
    [
        SGD(),
        SGD(momentum=0.9, l2=0.1, clip_norm=1.0),
        Adam(ema=0.9),
        AdamW(),
        RMSprop(momentum=0.5),
        Adagrad(l1=0.1),
        Nadam(),
        Lion(),
    ],
    ids=repr,
)
def test_compiled_steps_allocate_no_arrays(optimizer):
    """The products' panels take 80 kilobytes; the smallest array here has 160,000 bytes."""
    backend = CompiledBackend()
    if backend.immediate is None:
        pytest.skip('no llvmlite: pip install "ffnn_gpu[fast]"')
    network = Network(200, LAYERS, backend)
    x, y, ws = random((200, 200), "float32"), np.arange(200) % 10, network.workspace(200)

    def steps(n):
        for _ in range(n):
            train_step(network, softmax_cross_entropy, optimizer, x, y, ws, checked=True)

    steps(3)
    tracemalloc.start()
    try:
        steps(100)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100_000


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(
    "optimizer", [SGD(0.1, 0.9), Adam(clip_norm=0.1, ema=0.9), Nadam(), Lion(l1=0.1)], ids=repr
)
def test_ten_steps_of_both_cpu_backends_equal_the_reference(optimizer, dtype):
    layers = [Dense(9, relu), LayerNorm(), Dropout(0.2), Dense(8, tanh), BatchNorm(), Dense(3)]
    network = Network(6, layers, "numpy", dtype)
    x, y = random((16, 6), "float64"), np.arange(16) % 3
    both = REFERENCE, NumpyBackend(), CompiledBackend()
    assert_parity(network, x, y, softmax_cross_entropy, backends=both, optimizer=optimizer, steps=10)


@pytest.mark.parametrize("label", [-9, 3, 20, 2**30])
def test_class_index_out_of_range_overwrites_no_memory(fast, label):
    guard = np.full((9, 3), 7, np.float32)
    z, y = random((3, 3), "float32"), np.array([0, label, 1])
    with pytest.raises(IndexError):
        fast.softmax_cross_entropy(z, y, None, None, 0.0, guard[3:6])
    assert (guard[:3] == 7).all() and (guard[6:] == 7).all()


@pytest.mark.parametrize("size", [1e30, 1e-30])
def test_norm_of_float32_squares_neither_overflows_nor_vanishes(fast, size):
    g = np.full(40, size, np.float32)
    np.testing.assert_allclose(fast.squared_norm(g), 40 * float(np.float32(size)) ** 2, rtol=1e-12)


def test_fewer_class_indices_than_rows_raise():
    made = CompiledBackend()
    if made.immediate is None:
        pytest.skip('no llvmlite: pip install "ffnn_gpu[fast]"')
    with pytest.raises(IndexError):
        made.softmax_cross_entropy(random((3, 3), "float32"), np.array([0, 1]), None, None, 0.0, None)


def test_gemm_writes_into_arrays_of_any_layout_and_type(fast):
    A, B = random((4, 3), "float32"), random((3, 5), "float32")
    for out in (np.empty((4, 10), "float32")[:, ::2], np.empty((5, 4), "float32").T, np.empty((4, 5))):
        np.testing.assert_allclose(fast.gemm(A, B, out), A @ B, rtol=1e-6)


@pytest.mark.parametrize("dtype", ["complex128", "longdouble", ">f4"])
def test_types_without_a_compiled_loop_equal_the_reference(fast, dtype):
    x, found = random((4, 3), "float64").astype(dtype), []
    for each in (fast, REFERENCE):
        out = each.affine(x, x.T[:, :2].copy(), x[0, :2].copy(), relu, np.empty((4, 2), dtype))
        dz = np.empty((4, 2), dtype)
        value = each.softmax_cross_entropy(out, np.array([0, 1, 1, 0]), None, None, 0.0, dz)
        sums = each.column_sum(dz, np.empty(2, dtype))
        found.append([out, each.activation_backward(dz.copy(), out, relu), dz, value, sums])
    for got, want in zip(*found, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("error", [OSError(27, "File too large"), RuntimeError("no locator")])
def test_backend_works_if_numba_does_not(monkeypatch, error):
    immediate = pytest.importorskip("ffnn_gpu.backends.cpu.recording.immediate")

    def broken(*args):
        raise error

    monkeypatch.setattr(immediate, "try_out", broken)
    assert CompiledBackend().immediate is None


def test_underflow_of_an_average_is_silent(fast, dtype):
    tiny = np.full(3, np.finfo(dtype).tiny, dtype)
    with np.errstate(all="raise"):
        for each in (fast, REFERENCE):
            each.average(tiny.copy(), tiny / 2, 0.999)


@pytest.mark.parametrize(
    "case", ["bias of another type", "bias with gaps", "output in columns", "output with gaps"]
)
def test_affine_accepts_any_type_and_layout(fast, case):
    x, W, b = random((6, 5), "float32"), random((5, 8), "float32"), random((8,), "float32")
    out = np.empty((6, 8), np.float32)
    if case == "bias of another type":
        b = b.astype(np.float64)
    elif case == "bias with gaps":
        b = np.repeat(b, 2)[::2]
    elif case == "output in columns":
        out = np.asfortranarray(out)
    else:
        out = np.empty((6, 16), np.float32)[:, ::2]
    expected = np.tanh(x.astype(np.float64) @ W + b)
    np.testing.assert_allclose(fast.affine(x, W, b, tanh, out), expected, 1e-5, 1e-6)


def test_average_accepts_another_type(fast):
    mean, values = random((40,), "float64"), random((40,), "float32")
    expected = 0.9 * mean + 0.1 * values
    fast.average(mean, values, 0.9)
    np.testing.assert_allclose(mean, expected, 1e-6)


@pytest.mark.parametrize("turned", [False, True])
def test_large_products_and_sums_equal_numpys(fast, turned, dtype):
    A, B = random((300, 200), dtype), random((200, 100), dtype)
    A, B = (np.asfortranarray(A), np.asfortranarray(B)) if turned else (A, B)
    for _ in range(2):
        out = np.empty((300, 100), dtype)
        np.testing.assert_allclose(fast.gemm(A, B, out), A @ B, 1e-4, 1e-3 if dtype == "float32" else 1e-12)
        sums = np.empty(200, dtype)
        np.testing.assert_allclose(
            fast.column_sum(np.ascontiguousarray(A), sums),
            A.sum(0),
            1e-3,
            1e-3 if dtype == "float32" else 1e-12,
        )


@pytest.mark.parametrize("kind", ["float16", "float64"])
def test_large_product_of_another_type_is_numpys(fast, kind):
    A, B = (random((200, 200), "float32") * 4).astype(kind), (random((200, 200), "float32") * 4).astype(kind)
    out = np.full((200, 200), np.nan, np.float32)
    expected = A.astype(np.float64) @ B.astype(np.float64)
    np.testing.assert_allclose(fast.gemm(A, B, out), expected, 1e-2, 1e-2)


def test_product_into_its_own_factor_is_numpys(fast):
    A = random((300, 300), "float64")
    expected = A @ A
    np.testing.assert_allclose(fast.gemm(A, A, np.empty_like(A)), expected, 1e-12, 1e-12)
