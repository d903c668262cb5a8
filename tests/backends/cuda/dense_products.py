"""Compare the products of a Dense layer by CublasLt with NumPy: the proof that planted faults must fail."""

import numpy as np
import pytest

from ffnn_gpu.errors import BackendUnavailableError
from tests.backends.cuda.fake_cublaslt import FakeCublasLt
from tests.backends.cuda.host_memory import FakeCupy

SHAPES = [(128, 784, 10), (5, 3, 7), (1, 4, 6), (6, 1, 4), (4, 6, 1), (17, 31, 33)]  # B, I, O
TYPES = ["float32", "float64", "float16", "bfloat16"]
# relative to the largest value
TOLERANCE = {"float64": 1e-13, "float32": 1e-6, "float16": 1e-3, "bfloat16": 8e-3}
# What the GELU of a GPU may differ besides: 0 on the fake. test_on_gpu.py states it for the library.
GELU_ERROR = {"of the largest value": 0.0}


def make(module, monkeypatch, cupy=None, bindings=None, **options):
    """Return (CublasLt, FakeCupy, FakeCublasLt), with the fake in place of nvmath."""
    cupy = cupy or FakeCupy()
    bindings = bindings or FakeCublasLt(cupy)
    monkeypatch.setattr(module, "load_bindings", lambda: bindings)
    return module.CublasLt(cupy, 0, **options), cupy, bindings


def assert_close(got, want, besides=0.0):
    """Raise unless equal up to the rounding of got's type, and `besides`; NaN is never close."""
    worst = np.abs(got.values - want).max() / np.abs(want).max()
    assert worst <= TOLERANCE[got.dtype.name] + besides, f"off by {worst:.2g} of the largest value"


def draw(cupy, shape, dtype, seed=0):
    return cupy.array(np.random.default_rng([seed, *shape]).normal(size=shape), dtype)


def matrices(cupy, a=(3, 4), b=(4, 5), out=(3, 5), types=("float32", "float32", "float32")):
    """Return empty A, B and out."""
    return [cupy.empty(shape, dtype) for shape, dtype in zip((a, b, out), types, strict=True)]


def gelu_tanh(s):
    return s / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (s + 0.044715 * s**3)))


PHI = {None: lambda s: s, "relu": lambda s: np.maximum(s, 0), "gelu_tanh": gelu_tanh}


def forward(lt, cupy, B, I, O, dtype, phi, with_bias):
    """a = φ(x W + b)"""
    x, W, b = draw(cupy, (B, I), dtype), draw(cupy, (I, O), dtype, 1), draw(cupy, (O,), dtype, 2)
    a = cupy.empty((B, O), dtype)
    assert lt.product(x, W, out=a, epilogue=phi, bias=b if with_bias else None) is a
    besides = GELU_ERROR["of the largest value"] if phi == "gelu_tanh" else 0.0
    assert_close(a, PHI[phi](x.values @ W.values + (b.values if with_bias else 0)), besides)


def weight_gradient(lt, cupy, B, I, O, dtype, wide, with_bias):
    """dW = xᵀ δ,  db = Σ_B δ"""
    x, delta = draw(cupy, (B, I), dtype), draw(cupy, (B, O), dtype, 1)
    dW, db = cupy.empty((I, O), wide), cupy.empty((O,), wide)
    lt.product(x.T, delta, out=dW, bias_gradient=db if with_bias else None)
    assert_close(dW, x.values.T @ delta.values)
    if with_bias:
        assert_close(db, delta.values.sum(axis=0))


def input_gradient(lt, cupy, B, I, O, dtype):
    """dx = δ Wᵀ"""
    delta, W, dx = draw(cupy, (B, O), dtype), draw(cupy, (I, O), dtype, 1), cupy.empty((B, I), dtype)
    lt.product(delta, W.T, out=dx)
    assert_close(dx, delta.values @ W.values.T)


def one_layer(lt, cupy, B, I, O, dtype):
    """Test all three products with every epilogue."""
    for phi in PHI:
        for with_bias in (True, False):
            forward(lt, cupy, B, I, O, dtype, phi, with_bias)
    wide = "float32" if dtype in ("float16", "bfloat16") else dtype
    for result in {wide, dtype}:
        for with_bias in (True, False):
            weight_gradient(lt, cupy, B, I, O, dtype, result, with_bias)
    input_gradient(lt, cupy, B, I, O, dtype)


def several_layers(lt, cupy, R, B, I, O, dtype):
    """Test the products of R layers as one: of common and of own rows, with gaps between the layers."""
    wide = "float32" if dtype in ("float16", "bfloat16") else dtype

    def apart(vector, *shape, start=0):
        """Return a layer's part of each of R equal blocks."""
        size = int(np.prod(shape))
        blocks = vector.host.reshape(R, -1)[:, start : start + size].reshape(R, *shape)
        return type(vector)(blocks, vector.dtype.name)

    block = 2 * 128 + (8 if R % 2 else 0)  # only the first layer's arrays start at multiples of 256 bytes
    theta, grad = draw(cupy, (R * block,), dtype, 1), cupy.empty((R * block,), wide)
    W, b = apart(theta, I, O), apart(theta, O, start=128)
    dW, db = apart(grad, I, O), apart(grad, O, start=128)
    delta, a, dx = draw(cupy, (R, B, O), dtype, 2), cupy.empty((R, B, O), dtype), cupy.empty((R, B, I), dtype)
    for x in (draw(cupy, (B, I), dtype), draw(cupy, (R, B, I), dtype)):
        made = lt._calls.lt.made
        before = len(made)
        lt.product(x, W, out=a, epilogue="relu", bias=b)
        assert_close(a, np.maximum(x.values @ W.values + b.values[:, None], 0))
        lt.product(x.T if x.values.ndim == 2 else x.turned, delta, out=dW, bias_gradient=db)
        assert_close(dW, np.swapaxes(x.values, -1, -2) @ delta.values)
        assert_close(db, delta.values.sum(axis=1))
        assert len(made) == before + 2  # one call for all layers
    lt.product(delta, W.turned, out=dx)
    assert_close(dx, delta.values @ np.swapaxes(W.values, 1, 2))


def padded_views(lt, cupy):
    """Test arrays that are parts of wider ones, which determine the leading dimension."""
    wide = [draw(cupy, (9, 16), "float32", seed) for seed in range(3)]
    x, W, a = wide[0][:5, :7], wide[1][:7, :3], wide[2][2:7, 4:7]
    want = x.values @ W.values
    rest = wide[2].values.copy()
    lt.product(x, W, out=a)
    assert_close(a, want)
    rest[2:7, 4:7] = a.values
    assert np.array_equal(wide[2].values, rest)  # the rest is unchanged
    y, V = wide[1][:3, :7], wide[0][:5, :3]
    assert_close(lt.product(y.T, V.T, out=cupy.empty((7, 5), "float32")), y.values.T @ V.values.T)


def sum_without_16_bit_parts(lt, cupy):
    """Test that no partial sum is rounded to 16 bits: 256 + 1 would become 256."""
    x = cupy.array([[1, 1, 1, 1]], "bfloat16")
    W, a = cupy.array([[256], [1], [-128], [-128]], "bfloat16"), cupy.empty((1, 1), "bfloat16")
    assert lt.product(x, W, out=a).values == 1


def layers_that_share_a_plan(lt, cupy):
    """Test two layers of one shape: each call must use its own bias, although they share a plan."""
    for seed in (0, 10, 0):
        x, W = draw(cupy, (4, 6), "float32", seed), draw(cupy, (6, 3), "float32", seed + 1)
        b, a = draw(cupy, (3,), "float32", seed + 2), cupy.empty((4, 3), "float32")
        assert_close(lt.product(x, W, out=a, bias=b), x.values @ W.values + b.values)


def captured_after_one_run(lt, cupy):
    """Test that a product runs in a capture if it ran before, and else raises with a hint."""
    one_layer(lt, cupy, 5, 3, 7, "float32")
    cupy.stream.capturing = True
    try:
        one_layer(lt, cupy, 5, 3, 7, "float32")
        with pytest.raises(BackendUnavailableError, match=r"\(5, 3\).*run the step once before capturing"):
            one_layer(lt, cupy, 5, 3, 8, "float32")
    finally:
        cupy.stream.capturing = False


def prove(module, monkeypatch):
    """Run all of these tests for one module; raise if a number or an error is wrong."""
    lt, cupy, bindings = make(module, monkeypatch)
    for dtype in TYPES:
        one_layer(lt, cupy, 5, 3, 7, dtype)
    one_layer(lt, cupy, 17, 31, 33, "float32")
    for dtype in TYPES:
        several_layers(lt, cupy, 3, 5, 3, 8, dtype)
    padded_views(lt, cupy)
    sum_without_16_bit_parts(lt, cupy)
    layers_that_share_a_plan(lt, cupy)
    captured_after_one_run(lt, cupy)
    lt.close()
    assert bindings.objects == {}
