"""The update rules' 16-bit copy of θ; the other kernels of 16-bit types are in kernel_checks.py."""

import numpy as np
import pytest

from ffnn_gpu.backend import Backend
from ffnn_gpu.backend.kernels import OPTIONS, SOURCE
from ffnn_gpu.testing import assert_close, tolerance
from tests.backend.emulated_cupy import emulator

BLOCK, i32, i64, f32, f64 = (256,), np.int32, np.int64, np.float32, np.float64


def narrow(x, kind):
    """x rounded to the type, as the emulator takes it: float16, or the 16 bits of a bfloat16."""
    if kind == "f16": return x.astype(np.float16)
    bits = x.astype(f32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


@pytest.fixture(scope="module")
def module():
    emulator.require()
    return emulator.RawModule(SOURCE.read_text(encoding="utf-8"), options=(*OPTIONS, "-DWITH_16_BIT"))


def rule(module, kind, *, clip=0, skip=0):
    """One Adam update by the kernel and by the reference: θ before and after it, its 16-bit copy, the wanted θ."""
    rng = np.random.default_rng(0)
    theta, grad, m, v = rng.normal(size=(4, 300)).astype(f32)
    v, scalars, shadow = np.abs(v), np.array([3.0, 0.05, 1.0]), narrow(np.zeros(300), kind)
    want = theta.copy()
    factor = clip[0] if isinstance(clip, np.ndarray) else 1
    Backend().adam(want, f32(factor) * grad, m.copy(), v.copy(), scalars, 0.9, 0.999, 1e-3)
    arguments = (theta, grad, shadow, i64(300), scalars, clip, skip, m, v, f64(0.9), f64(0.999), f32(1e-3))
    before = theta.copy()
    module.get_function(f"adam_f32_{kind}")((1,), BLOCK, arguments)
    return before, theta, shadow, want


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_rule_writes_theta_and_its_16_bit_copy(module, kind):
    for clip in (0, np.array([0.25])):
        _, theta, shadow, want = rule(module, kind, clip=clip)
        assert_close(theta, want, tolerance("product", f32))
        assert np.array_equal(shadow, narrow(theta, kind))


def test_rule_changes_nothing_after_an_overflow(module):
    before, theta, shadow, _ = rule(module, "bf16", skip=np.array([1], i32))
    assert np.array_equal(theta, before) and not shadow.any()
    _, theta, _, want = rule(module, "bf16", skip=np.array([0], i32))
    assert_close(theta, want, tolerance("product", f32))
