"""The kernel of a stack of Dense layers in the CPU emulator, against an oracle in float64."""

import pytest

from ffnn_gpu.backends import get_backend
from ffnn_gpu.backends.cuda.cupy_backend import CupyBackend
from ffnn_gpu.backends.cuda.fused import launches, stack
from ffnn_gpu.backends.cuda.kernels import ARITHMETIC, source
from tests.backends.cuda.emulated_cupy import EmulatedCupy, emulator
from tests.backends.cuda.fake_cupy import installed
from tests.backends.cuda.fused.mutants_stack import MUTANTS
from tests.backends.cuda.fused.stacks import CASES, check, kernels
from tests.every_case import some_of

BY_NAME = {case.name: case for case in CASES}
FEW_BYTES = 20_000  # of shared memory: four warps fit, and eight do not


def compiled(*cases, edit=None):
    """Return CupyBackend over the emulator with the kernels of these cases, all in one module."""
    emulator.require()
    with pytest.MonkeyPatch.context() as patch, installed(patch, EmulatedCupy(edit=edit, stacks=True)):
        backend = CupyBackend()
    backend.kernels.compile(*(kernel for case in cases for kernel in kernels(backend, case)))
    return backend


@pytest.fixture(scope="module")
def backend():
    """Return the backend with every case: sums in registers, 8 warps."""
    return compiled(*CASES)


@pytest.fixture(autouse=True)
def two_blocks(monkeypatch):
    """Let the first block have two tiles of 300 rows."""
    monkeypatch.setattr(CupyBackend, "multiprocessors", 2)


@pytest.mark.parametrize("B", [1, 17, 300])
@pytest.mark.parametrize("name", BY_NAME)
def test_step_and_prediction_equal_the_oracle(backend, name, B):
    check(backend, BY_NAME[name], B)


@pytest.mark.gpu
@pytest.mark.parametrize("name", BY_NAME)
def test_step_and_prediction_on_a_gpu_equal_the_oracle(name, monkeypatch):
    monkeypatch.setattr(launches, "is_faster", lambda *given: True)
    for B in (17, 300):
        check(get_backend("cupy"), BY_NAME[name], B)


@pytest.mark.parametrize("name", ["classes", "half"])
def test_share_of_a_micro_batch_multiplies_the_gradient(backend, name):
    check(backend, BY_NAME[name], 40, share=0.25)


def test_results_are_equal_bit_for_bit_in_every_order_of_threads_and_blocks(backend, monkeypatch):
    results = []
    for order in emulator.ORDERS[::2]:
        monkeypatch.setattr(backend.xp, "order", order)
        network = check(backend, BY_NAME["classes"], 150)
        results.append(backend.to_host(network.params.grad).tobytes())
    assert len({*results}) == 1


def test_sums_in_memory_and_four_warps_equal_the_oracle(monkeypatch):
    monkeypatch.setattr(stack, "REGISTERS_FOR_SUMS", {stack.WIDEST: 0})
    monkeypatch.setattr(CupyBackend, "shared_memory", FEW_BYTES)
    case = BY_NAME["exact"]
    backend = compiled(case)
    text = kernels(backend, case)[1].entry
    assert "Stack<__nv_bfloat16, 4, Layer" in text and text.count("false, false, false>") == 2
    for B in (3, 300):
        check(backend, case, B)


def test_planted_mistake_changes_one_place():
    text = source(ARITHMETIC, *stack.FILES)
    assert {mutant.name: text.count(mutant.old) for mutant in MUTANTS if text.count(mutant.old) != 1} == {}


# Each mistake is compiled for a second: all of them by EVERY_CASE=1, as in scripts/prove.py.
PLANTED = some_of(MUTANTS, len(MUTANTS))


@pytest.mark.parametrize("mutant", PLANTED, ids=[mutant.name.replace(" ", "_") for mutant in PLANTED])
def test_planted_mistake_is_detected(mutant, monkeypatch):
    if mutant.in_memory:
        monkeypatch.setattr(stack, "REGISTERS_FOR_SUMS", {stack.WIDEST: 0})
    case = BY_NAME[mutant.case]
    backend = compiled(case, edit=mutant.text)
    monkeypatch.setattr(backend.xp, "order", mutant.order)
    with pytest.raises((AssertionError, emulator.KernelError)) as caught:
        check(backend, case, mutant.B)
    assert not isinstance(caught.value, emulator.KernelCompileError)
