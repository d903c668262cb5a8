"""Compile stacks for real GPUs without one, and count registers and spills."""

import pytest

from ffnn_gpu.backends.cuda.fused import stack
from ffnn_gpu.backends.cuda.kernels import ARITHMETIC, generated, source
from ffnn_gpu.nn.activations import gelu, identity, relu
from tests.backends.cuda.test_kernels_compile import ARCHITECTURES, compiled, installed_nvrtc, supports

SHARED = 232448  # bytes of shared memory of a block of an H200
# widths, φ, most registers and bytes spilled of a training step, which has one block for each multiprocessor.
# Why some spill: 10 registers of a thread in local memory cost less than the 72 sums of a layer in memory.
STACKS = {"bf16": ((64,) * 6, relu, 232, 0), "f16": ((128, 128, 128), gelu, 255, 64)}


def shape(S, widths, phi, loss):
    each = [*(phi for _ in widths[2:]), identity]
    layers = map(stack.dense_layer, widths[:-1], widths[1:], each)
    return stack.Stack(S, tuple(layers), loss, SHARED)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_stacks_need_no_more_registers_and_spills_than_they_may(architecture, record_testsuite_property):
    if not supports(installed_nvrtc()[0], architecture):
        pytest.skip(f"this NVRTC knows no sm_{architecture}")
    steps = {S: shape(S, *of_stack[:2], stack.CROSS_ENTROPY) for S, of_stack in STACKS.items()}
    narrow = shape("bf16", *STACKS["bf16"][:2], None).prediction
    entries = [kernel for step in steps.values() for kernel in (step.gradients, step.gradient_sums)]
    found = compiled(architecture, source(ARITHMETIC, *stack.FILES) + generated([narrow, *entries]))
    record_testsuite_property(f"sm_{architecture} dense_stack", str(found))
    most = {steps[S].gradients.name: limits for S, (_, _, *limits) in STACKS.items()} | {
        narrow.name: [128, 0]
    }
    most |= {step.gradient_sums.name: [64, 0] for step in steps.values()}
    above = {name: n for name, n in found.items() if n[0] > most[name][0] or n[1] > most[name][1]}
    assert found and above == {}
