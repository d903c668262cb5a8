import numpy as np
import pytest

from ffnn_gpu.backends.choice import Backend
from ffnn_gpu.errors import BackendMismatchError, ConfigurationError, DataError
from ffnn_gpu.nn.activations import gelu, identity, relu, tanh
from ffnn_gpu.testing import assert_close, tolerance


def random(shape, dtype, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


@pytest.mark.parametrize("phi", [identity, relu, tanh, gelu], ids=repr)
@pytest.mark.parametrize("bias", [True, False])
def test_affine_is_phi_of_xw_plus_b(backend, dtype, phi, bias):
    x, W, b = random((6, 40), dtype), random((40, 5), dtype, 1), random(5, dtype, 2)
    out, s = backend.empty((6, 5), dtype), backend.empty((6, 5), dtype)
    given = [backend.asarray(array) for array in (x, W, b)]
    got = backend.affine(given[0], given[1], given[2] if bias else None, phi, out=out, s=s)
    exact = x.astype(np.float64) @ W + (b if bias else 0)
    size = np.abs(x.astype(np.float64)) @ np.abs(W) + np.abs(b)
    assert got is out or backend.xp.shares_memory(got, out)
    assert_close(backend.to_host(s), exact, tolerance("product", dtype, K=41), "s", scale=size)
    assert_close(
        backend.to_host(out), phi.value(np, exact), tolerance("network", dtype, K=41), "a", scale=size
    )


def test_affine_gradients_are_products_with_delta(backend, dtype):
    x, delta = random((50, 4), dtype), random((50, 3), dtype, 1)
    dW, db = backend.empty((4, 3), dtype), backend.empty((3,), dtype)
    backend.affine_gradients(backend.asarray(x), backend.asarray(delta), dW=dW, db=db)
    relative, wide = tolerance("product", dtype, K=50), delta.astype(np.float64)
    assert_close(
        backend.to_host(dW), x.T.astype(np.float64) @ wide, relative, "dW", scale=np.abs(x.T) @ np.abs(delta)
    )
    assert_close(backend.to_host(db), wide.sum(0), relative, "db", scale=np.abs(delta).sum(0))


def test_affine_gradients_without_a_bias_write_only_the_matrix(backend, dtype):
    x, dW = backend.asarray(random((3, 2), dtype)), backend.empty((2, 2), dtype)
    backend.affine_gradients(x, x, dW=dW, db=None)
    assert np.isfinite(backend.to_host(dW)).all()


def test_gemm_reads_transposed_views_without_tf32(backend):
    """TF32 has a significand of 11 bits and would round 1 + 2⁻¹² to 1."""
    A = np.full((64, 64), 1 + 2.0**-12, np.float32)
    A_device, out = backend.asarray(A), backend.empty((64, 64), np.float32)
    got = backend.to_host(backend.gemm(A_device, A_device.T, out=out))
    want = A.astype(np.float64) @ A.T
    assert_close(got, want, tolerance("product", "float32", K=64), "A Aᵀ")


@pytest.mark.parametrize("name", ["int16", "int32", "complex128", "float", "nonsense", None])
def test_dtype_refuses_unsupported_types(backend, name):
    with pytest.raises(ConfigurationError, match="float32, float64, float16, bfloat16"):
        backend.dtype(name)


@pytest.mark.parametrize("name", ["float32", np.float32, np.dtype("float32")])
def test_dtype_accepts_names_types_and_dtypes(backend, name):
    assert backend.dtype(name) == np.float32


def test_asarray_returns_an_array_of_the_backend_uncopied(backend, dtype):
    array = backend.zeros((3, 2), np.dtype(dtype))
    assert backend.owns(array) and backend.xp.shares_memory(backend.asarray(array), array)


def test_asarray_makes_fortran_order_contiguous_and_casts(backend):
    got = backend.asarray(np.asfortranarray(np.arange(6).reshape(2, 3)), np.float32)
    assert got.flags.c_contiguous and got.dtype == np.float32
    assert backend.to_host(got).tolist() == [[0, 1, 2], [3, 4, 5]]


def test_require_own_names_the_type_and_the_backend():
    with pytest.raises(BackendMismatchError, match=r"x is a builtins\.list.*reference"):
        Backend().require_own([1.0], "x")


def test_admit_refuses_ragged_rows(backend):
    with pytest.raises(DataError, match="list"):
        backend.admit([[1.0, 2.0], [3.0]])


def test_require_finite_counts_bad_values_and_names_the_first(backend, dtype):
    array = np.ones((70_000, 2), dtype)  # longer than one chunk
    array[69_999, 1] = array[66_000, 0] = np.inf
    array[66_001, 1] = np.nan
    with pytest.raises(
        DataError, match=r"x holds 3 values that are not finite; the first is inf at index \(66000, 0\)"
    ):
        backend.require_finite(backend.asarray(array), "x", dtype)
    backend.require_finite(backend.asarray(array[:66_000]), "x", dtype)
    backend.require_finite(backend.asarray(np.arange(3)), "integers", dtype)


def test_small_operations_compute_their_formulas(backend, dtype):
    x, y = (backend.asarray(np.array(values, dtype)) for values in ([1, 2], [10, 20]))
    total = backend.zeros((2,), np.float64)
    backend.add_scaled(total, y, 0.5)
    backend.scale(x, 2)
    backend.write(y, 1, 7.0)
    copy = backend.duplicate(x)
    backend.add(x, y, out=x)
    found = [backend.to_host(array).tolist() for array in (total, x, y, copy)]
    assert found == [[5, 10], [12, 11], [10, 7], [2, 4]]
    assert not backend.xp.shares_memory(copy, x)


def test_capture_calls_the_step(backend):
    calls = []
    backend.capture(calls.append)(3)
    assert calls == [3]


def test_dropout_multiplies_by_the_mask(backend, dtype):
    x, mask = backend.asarray(random((4, 3), dtype)), backend.asarray(np.array([[0, 2, 0]] * 4, dtype))
    got = backend.to_host(backend.dropout(x, mask, out=backend.empty((4, 3), dtype)))
    np.testing.assert_array_equal(got, backend.to_host(x) * backend.to_host(mask))
