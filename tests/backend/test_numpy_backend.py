"""Every override of NumpyBackend is held to the reference's formula."""

import inspect

import numpy as np
import pytest

from ffnn_gpu.activations import ACTIVATIONS
from ffnn_gpu.backend import Backend, NumpyBackend
from ffnn_gpu.backend.updates import Update
from ffnn_gpu.testing import assert_close, tolerance

FAST, REFERENCE = NumpyBackend(), Backend()
BLOCKWISE = {"sgd", "rmsprop", "adagrad", "adam", "nadam", "lion"}  # tests/backend/test_updates.py, and exactly below
TESTED = {"empty", "take", "column_sum", "activate", "activation_backward"} | BLOCKWISE
TESTED |= {"dropout_mask", "softmax_cross_entropy"}  # test_compiled.py; below
SHAPES = [(1, 1), (5, 3), (64, 130), (300, 7)]


def random(shape, dtype, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def test_every_override_is_tested_here():
    overridden = {name for name, member in vars(NumpyBackend).items() if inspect.isfunction(member)} - {"__init__"}
    assert overridden == TESTED, "an override was added or removed; hold it to the reference in this file"


@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (3, 5), (0, 4), (2, 3, 4)])
def test_empty_is_aligned_to_256_bytes(dtype, shape):
    for _ in range(20):
        array = FAST.empty(shape, np.dtype(dtype))
        assert array.shape == shape and array.dtype == dtype and array.flags.c_contiguous and array.flags.writeable
        assert not array.size or array.ctypes.data % 256 == 0
    assert FAST.empty((3,), np.int64).dtype == np.int64


@pytest.mark.parametrize("shape", SHAPES)
def test_column_sum_agrees_with_the_reference(dtype, shape):
    A = random(shape, dtype)
    got, want = (each.column_sum(A, out=np.empty(shape[1], dtype)) for each in (FAST, REFERENCE))
    bound = tolerance("product", dtype, K=shape[0])
    assert_close(got, want, bound, "column sum", scale=np.abs(A).sum(axis=0) + np.finfo(dtype).tiny)


def test_column_sum_over_two_million_rows_is_a_product_s_accuracy(backend):
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


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 3), (64, 130)])
def test_cross_entropy_of_class_indices_agrees_with_the_reference(dtype, shape, weighted):
    rng = np.random.default_rng(0)
    z, y = 5 * random(shape, dtype), rng.integers(0, shape[1], shape[0]).astype(np.int32)
    weight = rng.random(shape[0]).astype(dtype) if weighted else None
    results = []
    for each in (FAST, REFERENCE):
        dz = np.full(shape, np.nan, dtype)
        results.append((each.softmax_cross_entropy(z, y, weight, None, 0.0, dz), dz))
        assert each.softmax_cross_entropy(z, y, weight, None, 0.0, None) == results[-1][0]
    (value, dz), (want, want_dz) = results
    assert value.dtype == dtype
    assert_close(value, want, tolerance("product", dtype, K=shape[0]), "loss")
    assert_close(dz, want_dz, tolerance("product", dtype), "dz")


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", SHAPES)
def test_activation_overrides_agree_with_the_reference(dtype, name, shape):
    phi, s, da = ACTIVATIONS[name], 3 * random(shape, dtype), random(shape, dtype, seed=1)
    s[0, 0] = 0
    got, want = (each.activate(s.copy(), phi) for each in (FAST, REFERENCE))
    assert_close(got, want, tolerance("product", dtype), f"{name}", scale=np.abs(s).max())
    got, want = (each.activation_backward(da.copy(), want, phi, s) for each in (FAST, REFERENCE))
    assert_close(got, want, tolerance("product", dtype), f"δ of {name}", scale=np.abs(da).max())


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_overrides_work_in_place(name):
    s, da = random((4, 3), "float32"), random((4, 3), "float32", seed=1)
    for each in (FAST, REFERENCE):
        assert each.activate(s, ACTIVATIONS[name]) is s
        assert each.activation_backward(da, s, ACTIVATIONS[name], s) is da


@pytest.mark.parametrize("control", [None, [1, 0], [0.25, 0], [0, 1]], ids=str)
@pytest.mark.parametrize("rule", sorted(BLOCKWISE))
def test_blockwise_rule_is_the_reference_bit_by_bit(dtype, rule, control):
    names = [name for name in inspect.signature(getattr(Backend, rule)).parameters if name not in ("self", "update")]
    constants = {"momentum": 0.9, "nesterov": True, "rho": 0.9, "eps": 1e-8, "beta1": 0.9, "beta2": 0.99, "psi": 0.004}
    found = []
    for each in (FAST, REFERENCE):
        given = {name: random(40_000, dtype, k) ** 2 for k, name in enumerate(("theta", "grad", *names))}
        shadow = given["theta"].astype(np.float16)
        update = Update(
            given["theta"], given["grad"], np.array([3.0, 0.1, 0.7]), 20_000, 0.1, 0.2, 0.3,
            None if control is None else np.array(control, np.float64), shadow,
        )  # fmt: skip
        getattr(each, rule)(update, *(constants.get(name, given[name]) for name in names))
        del given["grad"]  # either may overwrite it
        found.append(given | {"shadow": shadow})
    for name, fast in found[0].items():
        np.testing.assert_array_equal(fast, found[1][name], err_msg=name)


def test_nan_passes_through_both(dtype):
    for name in ("identity", "relu", "tanh"):
        assert all(np.isnan(each.activate(np.full((1, 1), np.nan, dtype), ACTIVATIONS[name])) for each in (FAST, REFERENCE))
