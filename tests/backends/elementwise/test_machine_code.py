"""The processor that code is made for, and what compiled code imports."""

import subprocess
import sys

import pytest

pytest.importorskip("llvmlite")

from ffnn_gpu.backends.elementwise import machine_code


@pytest.fixture(autouse=True)
def settings(monkeypatch):
    """Remove the settings, and what was read of them, before and after each test."""
    monkeypatch.delenv("NUMBA_CPU_NAME", raising=False)
    monkeypatch.delenv("NUMBA_CPU_FEATURES", raising=False)
    machine_code.processor.cache_clear()
    yield
    machine_code.processor.cache_clear()


def test_processor_is_this_one_or_the_chosen_one(monkeypatch):
    assert machine_code.processor()[0]
    assert not machine_code.X86 or machine_code.has("sse2")
    machine_code.processor.cache_clear()
    monkeypatch.setenv("NUMBA_CPU_NAME", "generic")
    assert machine_code.processor() == ("generic", "")
    machine_code.processor.cache_clear()
    monkeypatch.setenv("NUMBA_CPU_FEATURES", "+avx,-avx2")
    assert machine_code.processor() == ("generic", "+avx,-avx2")
    assert machine_code.has("avx") and not machine_code.has("avx2") and not machine_code.has("sse2")


def test_file_that_is_no_object_file_is_refused():
    with pytest.raises(RuntimeError, match="LLVM cannot read the object file of code_1"):
        machine_code.load("code_1", b"no machine code")


def test_compiled_operation_does_not_import_numba():
    """Numba would take a process longer to import than to load the code of a training step."""
    code = (
        "import sys, numpy as np; from ffnn_gpu import get_backend; z = np.ones((2, 3), 'f4')\n"
        "backend = get_backend('cpu'); backend.softmax(z, z)\n"
        "print(type(backend).__name__, backend.immediate is None, 'numba' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == ["CompiledBackend", "False", "False"]
