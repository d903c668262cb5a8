"""The 16-bit copy of θ by the update rules. kernel_checks.py tests the other kernels of 16-bit types."""

import numpy as np
import pytest

from ffnn_gpu.backends.choice import Backend
from ffnn_gpu.backends.cuda import formulas
from ffnn_gpu.backends.cuda.kernels import ARITHMETIC, FORMULAS, OPTIONS, generated, source
from ffnn_gpu.backends.reference.updates import Update
from ffnn_gpu.testing import assert_close, tolerance
from tests.backends.cuda.emulated_cupy import emulator

BLOCK, i32, i64, f32, f64 = (256,), np.int32, np.int64, np.float32, np.float64


def narrow(x, kind):
    """Round x to the type, in the emulator's representation: float16, or bfloat16 as uint16."""
    if kind == "f16":
        return x.astype(np.float16)
    bits = x.astype(f32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(np.uint16)


@pytest.fixture(scope="module")
def module():
    emulator.require()
    code = source(ARITHMETIC, FORMULAS) + generated([adam(kind) for kind in ("f16", "bf16")])
    return emulator.RawModule(code, options=(*OPTIONS, "-DWITH_16_BIT"))


def adam(kind):
    """Return the kernel of Adam that writes a copy of θ in a 16-bit type."""
    kinds = formulas.MOMENT, formulas.MOMENT, formulas.NUMBER, formulas.NUMBER, formulas.NUMBER
    return formulas.update_rule(f"f32_{kind}", "adam", kinds)


def rule(module, kind, control=0):
    """Return θ before and after an Adam update by the kernel, its 16-bit copy, and θ by the reference."""
    rng = np.random.default_rng(0)
    theta, grad, m, v = rng.normal(size=(4, 301)).astype(f32)
    v, scalars, shadow = np.abs(v), np.array([3.0, 0.05, 1.0]), narrow(np.zeros(301), kind)
    want, before = theta.copy(), theta.copy()
    update = Update(
        want, grad.copy(), scalars, 100, 0.1, 0.0, 0.2, control if isinstance(control, np.ndarray) else None
    )
    Backend().adam(update, m.copy(), v.copy(), 0.9, 0.999, 1e-3)
    shared = theta, grad, shadow, i64(301), i64(100), scalars, control, f32(0.1), f32(0), f64(0.2), f64(1), 0
    settings = f64(0.9), f64(0.999), f64(1e-3), f64(0)
    module.get_function(adam(kind).name)((1,), BLOCK, (*shared, m, v, *settings))
    return before, theta, shadow, want


@pytest.mark.parametrize("kind", ["f16", "bf16"])
@pytest.mark.parametrize("control", [0, np.array([0.25, 0])], ids=["plain", "factor"])
def test_rule_writes_theta_and_its_16_bit_copy(module, kind, control):
    _, theta, shadow, want = rule(module, kind, control)
    assert_close(theta, want, tolerance("product", f32))
    assert np.array_equal(shadow, narrow(theta, kind))


@pytest.mark.parametrize("kind", ["f16", "bf16"])
def test_skipped_update_changes_nothing(module, kind):
    before, theta, shadow, _ = rule(module, kind, np.array([0.0, 1.0]))
    assert np.array_equal(theta, before) and not shadow.any()
