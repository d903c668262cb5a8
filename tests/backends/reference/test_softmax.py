import numpy as np
import pytest

from ffnn_gpu import LogSoftmax, Softmax, softmax_jacobian
from ffnn_gpu.arrays.precision import eps, floating
from ffnn_gpu.errors import ShapeError
from ffnn_gpu.nn.network import Network
from ffnn_gpu.testing import assert_close, tolerance

LAYERS = {"softmax": Softmax, "log_softmax": LogSoftmax}


def forward(backend, name, z):
    z = backend.asarray(z)
    return backend.to_host(getattr(backend, name)(z, out=backend.xp.empty_like(z)))


def vector_jacobian_product(backend, name, z, da):
    z = backend.asarray(z)
    a = getattr(backend, name)(z, out=backend.xp.empty_like(z))
    return backend.to_host(getattr(backend, f"{name}_backward")(backend.asarray(da.copy()), a))


def adjoint(backend, name, da, a):
    da = backend.asarray(da.copy())
    return backend.to_host(getattr(backend, f"{name}_backward")(da, backend.asarray(a)))


def random(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    return (3 * rng.normal(size=shape)).astype(dtype), rng.normal(size=shape).astype(dtype)


def long_softmax(z):
    e = np.exp(np.asarray(z, np.longdouble))
    return (e / e.sum(axis=-1, keepdims=True)).astype(np.float64)


@pytest.mark.parametrize("name", LAYERS)
def test_softmax_and_its_product_equal_autograd(backend, golden, name):
    stored = golden("softmax")
    z, da = np.array(stored["z"]), np.array(stored["da"])
    relative = tolerance("product", "float64", K=z.shape[1])
    assert_close(forward(backend, name, z), stored[name]["value"], relative, name)
    assert_close(vector_jacobian_product(backend, name, z, da), stored[name]["dz"], relative, f"dz of {name}")


def test_jacobian_equals_autograd(backend, golden):
    stored = golden("softmax")
    got = backend.to_host(softmax_jacobian(np.array(stored["z"]), backend))
    assert_close(got, stored["jacobian"], tolerance("product", "float64", K=5), "jacobian")


def test_jacobian_is_its_formula_in_full(backend, dtype):
    z, _ = random((4, 6), dtype)
    S = long_softmax(z)
    want = np.array(
        [[[S[b, i] * ((i == k) - S[b, k]) for k in range(6)] for i in range(6)] for b in range(4)]
    )
    got = backend.to_host(softmax_jacobian(z, backend))
    assert got.shape == (4, 6, 6) and got.dtype == dtype
    assert_close(got, want, tolerance("network", dtype, K=6), "jacobian")


def test_jacobian_refuses_a_vector():
    with pytest.raises(ShapeError, match="1 dimensions"):
        softmax_jacobian(np.zeros(3))


def test_softmax_layer_product_equals_the_jacobians_product(backend, dtype):
    z, da = random((5, 7), dtype, seed=1)
    jacobian = backend.to_host(softmax_jacobian(z, backend)).astype(np.float64)
    relative = tolerance("network", dtype, K=7)
    want = np.einsum("bik,bi->bk", jacobian, da.astype(np.float64))
    assert_close(
        vector_jacobian_product(backend, "softmax", z, da), want, relative, "softmax", scale=np.abs(da).max()
    )
    # d log S_i/dz_k = J_ik / S_i
    want = np.einsum("bik,bi->bk", jacobian / long_softmax(z)[:, :, None], da.astype(np.float64))
    got = vector_jacobian_product(backend, "log_softmax", z, da)
    assert_close(got, want, relative, "log_softmax", scale=np.abs(da).sum(axis=1, keepdims=True))


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("size", [1e4, 1e30])
def test_softmax_of_huge_logits_is_exact_and_silent(backend, dtype, name, size):
    z = np.array([[size, 0, -size], [-size, -size, -size], [size, size, -size]], dtype)
    want = {
        "softmax": [[1, 0, 0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0]],
        "log_softmax": [
            [0, -size, -2 * size],
            [-np.log(3)] * 3,
            [-np.log(2), -np.log(2), -2 * size - np.log(2)],
        ],
    }
    with np.errstate(all="raise"):
        got = forward(backend, name, z)
        product = vector_jacobian_product(backend, name, z, np.ones_like(z))
    assert_close(
        got,
        np.array(want[name]),
        tolerance("product", dtype),
        name,
        scale=np.abs(np.array(want[name])) + 1e-30,
    )
    assert np.isfinite(product).all()


def test_softmax_rows_sum_to_one(backend, dtype):
    z, _ = random((50, 9), dtype)
    sums = forward(backend, "softmax", z).sum(axis=1, dtype=np.float64)
    assert_close(sums, np.ones(50), tolerance("product", dtype, K=9), "Σ softmax")


@pytest.mark.parametrize("name", LAYERS)
def test_softmax_changes_its_input_only_if_it_is_the_output(backend, dtype, name):
    z, _ = random((4, 3), dtype)
    before, on_device = z.copy(), backend.asarray(z)
    apart = backend.to_host(getattr(backend, name)(on_device, out=backend.xp.empty_like(on_device))).copy()
    np.testing.assert_array_equal(backend.to_host(on_device), before)
    np.testing.assert_array_equal(backend.to_host(getattr(backend, name)(on_device, out=on_device)), apart)


@pytest.mark.parametrize("name", LAYERS)
def test_nan_in_a_row_stays_in_that_row(backend, dtype, name):
    z = np.array([[0, np.nan, 1], [0, 1, 2]], dtype)
    got = forward(backend, name, z)
    assert np.isnan(got[0]).all() and np.isfinite(got[1]).all()


@pytest.mark.parametrize("name", LAYERS)
def test_softmax_keeps_dtype_through_a_network(backend, dtype, name):
    network = Network(4, [LAYERS[name]()], backend, dtype)
    z, da = random((3, 4), dtype)
    ws = network.workspace(3, input_gradient=True)
    assert network.forward(backend.asarray(z), ws).dtype == dtype
    assert network.backward(backend.asarray(da), ws).dtype == dtype


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("narrow", ["float16", "bfloat16"])
def test_softmax_and_its_product_in_16_bits_are_float32_rounded_once(backend, name, narrow):
    z, da = (part.astype(floating(narrow)) for part in random((3, 200), "float32"))
    a = forward(backend, name, z)
    least = 2.0**-14  # the smallest normal number of float16
    for got, want in (
        (a, forward(backend, name, z.astype("float32"))),
        (adjoint(backend, name, da, a), adjoint(backend, name, da.astype("float32"), a.astype("float32"))),
    ):
        assert_close(got, want, eps(floating(narrow)), name, scale=np.abs(want) + least)


@pytest.mark.parametrize("name", LAYERS)
def test_underflow_of_a_product_is_silent(backend, dtype, name):
    tiny = np.finfo(dtype).tiny
    a, da = np.array([[0.3, 0.7]], dtype), np.array([[1.7 * tiny, -1.3 * tiny]], dtype)
    with np.errstate(all="raise"):
        assert np.abs(adjoint(backend, name, da, a)).max() < 4 * tiny


def test_underflow_of_a_jacobian_is_silent(backend, dtype):
    z = np.array([[0, *[0.7 * np.log(np.finfo(dtype).tiny)] * 2]], dtype)  # S_2 S_3 is subnormal
    with np.errstate(all="raise"):
        assert np.isfinite(backend.to_host(softmax_jacobian(z, backend))).all()
