"""Faults planted in the cublasLt files, one at a time: each must fail the proof of dense_products.py."""

import importlib.util
import sys
from pathlib import Path

import pytest

from ffnn_gpu.backend import cublaslt
from ffnn_gpu.errors import BackendUnavailableError
from tests.backend import dense_products
from tests.backend.fake_cublaslt import CuBLASLtError

BACKEND = Path(cublaslt.__file__).parent
# a wrong number or a missing refusal, an address outside the arrays, or the library's own "invalid value"
NOTICED = (AssertionError, IndexError, CuBLASLtError, BackendUnavailableError)

MUTANTS = [
    ("cublaslt_calls", "pointers.A, plan.A, pointers.B, plan.B, beta", "pointers.B, plan.B, pointers.A, plan.A, beta"),
    ("cublaslt_calls", "pointers.A, plan.A, pointers.B", "pointers.B, plan.A, pointers.A"),
    ("cublaslt_calls", '"TRANSA", int(problem.A', '"TRANSB", int(problem.A'),
    ("cublaslt_calls", '"TRANSB", int(problem.B.transposed)', '"TRANSB", 0'),
    ("cublaslt_calls", "operand.columns, operand.ld", "operand.columns, operand.rows"),
    ("cublaslt_calls", "operand.rows, operand.columns", "operand.columns, operand.rows"),
    ("cublaslt_calls", "self.lt.Epilogue[problem.epilogue]", "self.lt.Epilogue.DEFAULT"),
    ("cublaslt_calls", "self.lt.Epilogue[problem.epilogue]",
     "{32: 2, 36: 6}.get(e := self.lt.Epilogue[problem.epilogue].value, e)"),
    ("cublaslt_calls", 'self._set(descriptor, "BIAS_DATA_TYPE"', 'self.lt or self._set(descriptor, "BIAS_DATA_TYPE"'),
    ("cublaslt_calls", "DATA_TYPES[problem.D.dtype]", "DATA_TYPES[problem.A.dtype]"),
    ("cublaslt_calls", "plan.pointer[0] = pointers.bias", "plan.pointer[0] = plan.pointer[0] or pointers.bias"),
    ("cublaslt_calls", "if pointers.bias:", "if False:"),
    ("cublaslt_calls", "np.array([1, 0], name)", "np.array([1, 0], 'float32')"),
    ("cublaslt_calls", "np.array([1, 0], name)", "np.array([1, 1], name)"),
    ("cublaslt_calls", "scalars.ctypes.data + scalars.itemsize", "scalars.ctypes.data"),
    ("cublaslt_calls", "buffer.ctypes.data, buffer.nbytes)\n\n    def _layout", "buffer.ctypes.data, 8)\n\n    def _layout"),
    ("cublaslt_calls", "algorithm, self.workspace,", "algorithm, self.workspace + 16,"),
    ("cublaslt_calls", "(plan.A, plan.B, plan.D):", "(plan.A, plan.B):"),
    ("cublaslt_problem", "_operand(B, \"B\"), _operand(A, \"A\")", "_operand(A, \"A\"), _operand(B, \"B\")"),
    ("cublaslt_problem", "Pointers(B.data.ptr, A.data.ptr", "Pointers(A.data.ptr, B.data.ptr"),
    ("cublaslt_problem", "return ld if ld >= columns", "return columns if ld >= columns"),
    ("cublaslt_problem", "Operand(name, rows, columns, ld, True", "Operand(name, rows, columns, ld, False"),
    ("cublaslt_problem", "Operand(name, columns, rows, ld, False", "Operand(name, rows, columns, ld, False"),
    ("cublaslt_problem", '"relu": "RELU", "gelu_tanh": "GELU"', '"relu": "GELU", "gelu_tanh": "RELU"'),
    ("cublaslt_problem", '"BIAS" if bias is not None else ""', '""'),
    ("cublaslt_problem", 'return "BGRADA"', 'return "BGRADB"'),
    ("cublaslt_problem", 'return "BGRADA"', 'return "BIAS"'),
    ("cublaslt_problem", 'if tf32 and first == "float32"', 'if first == "float32"'),
    ("cublaslt_problem", '"COMPUTE_64F": 70', '"COMPUTE_64F": 68'),
    ("cublaslt_problem", '"float16": 2, "bfloat16": 14', '"float16": 14, "bfloat16": 2'),
    ("cublaslt", "if stream.is_capturing():", "if False:"),
    ("cublaslt", "problem not in self._plans and", "stream.is_capturing() or problem not in self._plans and"),
    ("cublaslt", "workspace = -(-self._memory.data.ptr // ALIGNMENT) * ALIGNMENT", "workspace = self._memory.data.ptr + 8"),
]  # fmt: skip
MODULES = ("cublaslt_problem", "cublaslt_calls", "cublaslt")


def load_mutant(monkeypatch, folder, name, old, new):
    """The module cublaslt, with one place of one of its files changed."""
    for module in MODULES:
        source = (BACKEND / f"{module}.py").read_text(encoding="utf-8")
        if module == name:
            assert source.count(old) == 1, f"{old!r} stands {source.count(old)} times in {name}.py"
            source = source.replace(old, new)
        (folder / f"{module}.py").write_text(source, encoding="utf-8")
        full = f"ffnn_gpu.backend.{module}"
        spec = importlib.util.spec_from_file_location(full, folder / f"{module}.py")
        made = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, full, made)
        spec.loader.exec_module(made)
    return made


def test_the_proof_passes_without_a_fault(monkeypatch, tmp_path):
    dense_products.prove(load_mutant(monkeypatch, tmp_path, "none", "", ""), monkeypatch)


@pytest.mark.parametrize(("name", "old", "new"), MUTANTS)
def test_a_planted_fault_fails_the_proof(monkeypatch, tmp_path, name, old, new):
    mutant = load_mutant(monkeypatch, tmp_path, name, old, new)
    with pytest.raises(NOTICED): dense_products.prove(mutant, monkeypatch)
