"""The loops of softmax and of the cross-entropies equal the reference in float64."""

import itertools

import numpy as np
import pytest

from ffnn_gpu.backends.choice import Backend, CompiledBackend
from ffnn_gpu.testing import assert_close, tolerance

pytest.importorskip("llvmlite")
REFERENCE, COMPILED = Backend(), CompiledBackend()
SHAPES = [(0, 3), (1, 1), (5, 3), (64, 130)]
TARGETS = ("int32", "int64", "int8", "distributions")
COMBINATIONS = [*itertools.product((False, True), (False, True), (0.0, 0.1))]


def targets(kind, shape, dtype, rng):
    if kind == "distributions":
        return rng.dirichlet(np.ones(shape[1]), shape[0]).astype(dtype).reshape(shape)
    return rng.integers(0, min(shape[1], 127), shape[0]).astype(kind)


def wide(array):
    """Return floats in float64, and others as they are."""
    return array.astype(np.float64) if array is not None and array.dtype.kind == "f" else array


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize(("weighted", "classes_weighted", "smoothing"), COMBINATIONS)
def test_cross_entropy_of_logits_equals_the_reference_in_float64(
    dtype, shape, kind, weighted, classes_weighted, smoothing
):
    rng = np.random.default_rng(0)
    z, y = 5 * rng.standard_normal(shape).astype(dtype), targets(kind, shape, dtype, rng)
    weight = rng.random(shape[0]).astype(dtype) if weighted else None
    class_weight = rng.random(shape[1]).astype(dtype) if classes_weighted else None
    dz, want_dz = np.full(shape, np.nan, dtype), np.empty(shape)
    value = COMPILED.softmax_cross_entropy(z, y, weight, class_weight, smoothing, dz)
    assert COMPILED.softmax_cross_entropy(z, y, weight, class_weight, smoothing, None) == value
    operands = wide(z), wide(y), wide(weight), wide(class_weight)
    want = REFERENCE.softmax_cross_entropy(*operands, smoothing, want_dz)
    assert value.dtype == dtype and dz.dtype == dtype
    assert_close(value, want, tolerance("network", dtype), "loss")
    assert_close(dz, want_dz, tolerance("network", dtype), "dz")


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("hard", [False, True])
def test_cross_entropy_of_probabilities_equals_the_reference_in_float64(dtype, shape, weighted, hard):
    rng = np.random.default_rng(0)
    p, q = (targets("distributions", shape, dtype, rng) for _ in range(2))
    if hard:
        q = np.eye(shape[1], dtype=dtype)[q.argmax(axis=1)]
    p[1:3] = np.eye(shape[1], dtype=dtype)[0]  # probabilities that have rounded to 0
    weight = rng.random(shape[0]).astype(dtype) if weighted else None
    dp, want_dp = np.full(shape, np.nan, dtype), np.empty(shape)
    value = COMPILED.cross_entropy(p, q, weight, dp, 1e-12)
    assert COMPILED.cross_entropy(p, q, weight, None, 1e-12) == value
    want = REFERENCE.cross_entropy(wide(p), wide(q), wide(weight), want_dp, 1e-12)
    assert value.dtype == dtype
    assert_close(value, want, tolerance("product", dtype), "loss")
    np.testing.assert_allclose(dp, want_dp, tolerance("product", dtype))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_softmax_and_its_adjoint_equal_the_reference_in_float64(dtype, shape, name):
    rng = np.random.default_rng(0)
    z, da = (5 * rng.standard_normal(shape).astype(dtype) for _ in range(2))
    a = getattr(REFERENCE, name)(wide(z), np.empty(shape)) if z.size else z
    found = z.copy()
    assert getattr(COMPILED, name)(found, out=found) is found or not z.size
    assert_close(found, a, tolerance("network", dtype), name)
    found, want = da.copy(), getattr(REFERENCE, name + "_backward")(wide(da), wide(a))
    assert getattr(COMPILED, name + "_backward")(found, a.astype(dtype)) is found
    assert_close(found, want, tolerance("network", dtype), f"adjoint of {name}")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("column", [0, 2])
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_rows_that_are_not_finite_equal_the_reference(dtype, bad, column):
    z, q = np.ones((2, 3), dtype), np.array([[0.5, 0.25, 0.25]] * 2, dtype)
    z[0, column] = bad
    for name in ("softmax", "log_softmax"):
        found, want = (getattr(each, name)(z, np.empty_like(z)) for each in (COMPILED, REFERENCE))
        np.testing.assert_allclose(found, want, 1e-6, err_msg=name)
    for name, others in (("softmax_cross_entropy", (None, None, 0.1)), ("cross_entropy", (None,))):
        dz, want = np.empty((2, 2, 3), dtype)
        more = (1e-12,) if name == "cross_entropy" else ()
        values = [
            getattr(each, name)(z, q, *others, out, *more)
            for each, out in ((COMPILED, dz), (REFERENCE, want))
        ]
        np.testing.assert_allclose(*values, 1e-6, err_msg=name)
        np.testing.assert_allclose(dz, want, 1e-6, err_msg=name)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_weights_that_are_all_zero_give_loss_and_gradient_zero(dtype, smoothing):
    z, y = np.ones((2, 3), dtype), np.array([0, 2])
    for weight, class_weight in ((np.zeros(2, dtype), None), (None, np.array([0, 1, 0], dtype))):
        dz = np.full((2, 3), np.nan, dtype)
        value = COMPILED.softmax_cross_entropy(z, y, weight, class_weight, smoothing, dz)
        want = np.empty((2, 3), dtype)
        expected = REFERENCE.softmax_cross_entropy(z, y, weight, class_weight, smoothing, want)
        assert_close(value, expected, tolerance("product", dtype), "loss")
        assert_close(dz, want, tolerance("product", dtype), "dz")
        assert value == expected == 0 and not dz.any() and not want.any()


@pytest.mark.parametrize("label", [-1, 3, 2**30])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_class_out_of_range_raises(label, smoothing):
    z, y = np.ones((3, 3), "float32"), np.array([0, label, 1])
    for v in (z[0], None):
        with pytest.raises(IndexError):
            COMPILED.softmax_cross_entropy(z, y, None, v, smoothing, None)


def test_targets_of_another_shape_raise():
    z = np.ones((3, 4), "float32")
    for y, v in ((z[:2], None), (z[:, :3], None), (np.zeros(3, int), z[0, :3])):
        with pytest.raises(ValueError):
            COMPILED.softmax_cross_entropy(z, y, None, v, 0.0, None)
    with pytest.raises(ValueError):
        COMPILED.cross_entropy(z, z[:2], None, None, 1e-12)
    with pytest.raises(ValueError):
        COMPILED.softmax_cross_entropy(z, np.zeros(2, int), None, None, 0.1, None)
