import numpy as np
import pytest

from ffnn_gpu.testing import assert_close, tolerance

CASES = ("layer_norm", "batch_norm", "batch_norm constant column", "layer_norm constant row")
EPS = 1e-5


def forward_and_backward(backend, kind, x, gain, bias, da):
    """Return out, dx, dgain, dbias and rstd by name, on the host."""
    x, gain, bias = (backend.asarray(array) for array in (x, gain, bias))
    da = backend.asarray(da.copy())
    (B, I), axis = x.shape, 0 if kind == "batch_norm" else 1
    out, xhat, dx = (backend.empty((B, I), x.dtype) for _ in range(3))
    rstd, variance = (backend.empty((I if axis == 0 else B,), x.dtype) for _ in range(2))
    mean, dgain, dbias = (backend.empty((I,), x.dtype) for _ in range(3))
    if axis == 0:
        backend.batch_norm(x, gain, bias, EPS, out=out, xhat=xhat, rstd=rstd, mean=mean, variance=variance)
    else:
        backend.layer_norm(x, gain, bias, EPS, out=out, xhat=xhat, rstd=rstd)
    getattr(backend, f"{kind}_backward")(da, gain, xhat, rstd, dgain=dgain, dbias=dbias, dx=dx)
    found = {"out": out, "dx": dx, "dgain": dgain, "dbias": dbias, "rstd": rstd}
    return {name: backend.to_host(value) for name, value in found.items()}


@pytest.mark.parametrize("case", CASES)
def test_normalization_and_its_gradients_equal_autograd(backend, golden, case):
    stored = golden("normalization")[case]
    given = [np.array(stored[name]) for name in ("x", "gain", "bias", "da")]
    got = forward_and_backward(backend, case.split()[0], *given)
    relative = tolerance("network", "float64", K=7)
    # PyTorch's mean of a constant 10⁴ is off by up to 4 ulp, which 1/√(0 + ε) = 316 multiplies.
    if "constant" in case:
        relative = 4 * 316 * 1e4 * np.finfo(np.float64).eps
    for name in ("out", "dx", "dgain", "dbias"):
        want = np.array(stored[name])
        assert_close(
            got[name],
            want,
            relative,
            f"{name} of {case}",
            scale=max(np.abs(want).max(), np.abs(given[3]).max()),
        )


@pytest.mark.parametrize("kind", ["layer_norm", "batch_norm"])
@pytest.mark.parametrize("value", [1e4, 0.1, -12345.678])
def test_constant_values_normalize_to_the_bias_exactly(backend, dtype, kind, value):
    """With sums in float32, a constant column of 10⁴ would have a standard deviation of 131.7, not 0."""
    B, I = (1000, 3) if kind == "batch_norm" else (3, 1000)
    x, bias = np.full((B, I), value, dtype), np.arange(I, dtype=dtype)
    got = forward_and_backward(backend, kind, x, np.ones(I, dtype), bias, np.ones((B, I), dtype))
    np.testing.assert_allclose(got["rstd"], EPS**-0.5, rtol=tolerance("product", dtype))
    # The mean of 1000 float64 numbers errs by at most 1000 eps, which rstd = 316 multiplies.
    room = 1000 * np.finfo(np.float64).eps * abs(value) * 317 + tolerance("product", dtype) * I
    assert np.abs(got["out"] - bias).max() <= room


@pytest.mark.parametrize("kind", ["layer_norm", "batch_norm"])
def test_normalization_of_a_large_offset_keeps_float32_accuracy(backend, kind):
    rng = np.random.default_rng(0)
    B, I = (500, 4) if kind == "batch_norm" else (4, 500)
    x = (1e4 + rng.normal(size=(B, I))).astype(np.float32)
    gain, bias, da = (
        np.ones(I, np.float32),
        np.zeros(I, np.float32),
        rng.normal(size=(B, I)).astype(np.float32),
    )
    got = forward_and_backward(backend, kind, x, gain, bias, da)
    axis, wide = (0 if kind == "batch_norm" else 1), x.astype(np.float64)
    want = (wide - wide.mean(axis, keepdims=True)) / np.sqrt(wide.var(axis, keepdims=True) + EPS)
    assert_close(got["out"], want, tolerance("product", "float32"), "out", scale=np.abs(want) + 1)


@pytest.mark.parametrize("kind", ["layer_norm", "batch_norm"])
def test_normalized_values_have_mean_zero_and_variance_one(backend, dtype, kind):
    x = np.random.default_rng(1).uniform(size=(40, 40)).astype(dtype)
    ones, zeros = np.ones(40, dtype), np.zeros(40, dtype)
    out = forward_and_backward(backend, kind, x, ones, zeros, x)["out"].astype(np.float64)
    axis, relative = (0 if kind == "batch_norm" else 1), tolerance("network", dtype, K=40)
    variance = x.astype(np.float64).var(axis)
    assert np.abs(out.mean(axis)).max() <= relative
    assert_close(out.var(axis), variance / (variance + EPS), relative, "variance")


def test_running_statistics_and_inference_equal_autograd(backend, golden):
    stored = golden("normalization")["running"]
    mean, variance = backend.zeros((4,), np.float64), backend.zeros((4,), np.float64) + 1
    for batch in np.array(stored["batches"]):
        backend.running_statistics(
            backend.asarray(batch.mean(0)),
            backend.asarray(batch.var(0)),
            len(batch),
            stored["momentum"],
            mean,
            variance,
        )
    relative = tolerance("network", "float64", K=5)
    assert_close(backend.to_host(mean), stored["mean"], relative, "running mean")
    assert_close(backend.to_host(variance), stored["variance"], relative, "running variance")
    x, out = np.array(stored["x"]), backend.empty((len(stored["x"]), 4), np.float64)
    gain, bias = np.array([1.0, 0.5, -2.0, 3.0]), np.array([0.0, 1.0, -0.5, 2.0])
    settings = backend.asarray(gain), backend.asarray(bias), EPS
    backend.batch_norm_inference(backend.asarray(x), *settings, out=out, mean=mean, variance=variance)
    expected = np.array(stored["out"]) * gain + bias  # the stored ones are without gain and bias
    assert_close(backend.to_host(out), expected, relative, "inference")


def test_one_row_has_no_unbiased_variance(backend, dtype):
    mean, variance = backend.zeros((2,), dtype), backend.zeros((2,), dtype)
    with pytest.raises(ZeroDivisionError):
        backend.running_statistics(mean + 1, variance + 0, 1, 0.5, mean, variance)
    assert backend.to_host(variance).tolist() == [0, 0]


def test_two_rows_have_twice_the_unbiased_variance(backend, dtype):
    mean, variance = backend.zeros((2,), dtype), backend.zeros((2,), dtype)
    backend.running_statistics(mean, variance + 1, 2, 0.25, mean, variance)
    assert backend.to_host(variance).tolist() == [0.5, 0.5]  # 0.25 · 2/1 · 1


def test_layer_norm_backward_without_dx_returns_none(backend, dtype):
    x = backend.asarray(np.random.default_rng(2).normal(size=(4, 3)).astype(dtype))
    one, dgain, dbias = (backend.zeros((3,), dtype) for _ in range(3))
    one += 1
    got = backend.layer_norm_backward(
        backend.duplicate(x),
        one,
        backend.duplicate(x),
        backend.zeros((4,), dtype),
        dgain=dgain,
        dbias=dbias,
        dx=None,
    )
    assert got is None
    host = backend.to_host(x)
    assert_close(backend.to_host(dgain), (host * host).sum(0), tolerance("network", dtype), "dgain")
    assert_close(
        backend.to_host(dbias), host.sum(0), tolerance("network", dtype), "dbias", scale=np.abs(host).sum(0)
    )
