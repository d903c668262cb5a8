"""Faults planted in the cublasLt files, one at a time: each must fail the proof of dense_products.py."""

import importlib.util
import sys
from pathlib import Path

import pytest

from ffnn_gpu.backends.cuda.cublaslt import matmul as cublaslt
from ffnn_gpu.errors import BackendUnavailableError
from tests.backends.cuda import dense_products
from tests.backends.cuda.fake_cublaslt import CuBLASLtError

ROOM = Path(cublaslt.__file__).parent
# a wrong number or a missing refusal, an address outside the arrays, or the library's own "invalid value"
NOTICED = (AssertionError, IndexError, CuBLASLtError, BackendUnavailableError)

MUTANTS = [
    ("calls", "pointers.A, A, pointers.B, B,", "pointers.B, B, pointers.A, A,"),
    ("calls", "pointers.A, A, pointers.B,", "pointers.B, A, pointers.A,"),
    ("calls", '"TRANSA", int(problem.A', '"TRANSB", int(problem.A'),
    ("calls", '"TRANSB", int(problem.B.transposed)', '"TRANSB", 0'),
    ("calls", "operand.columns, operand.ld", "operand.columns, operand.rows"),
    ("calls", "operand.rows, operand.columns", "operand.columns, operand.rows"),
    ("calls", "self.lt.Epilogue[problem.epilogue]", "self.lt.Epilogue.DEFAULT"),
    ("calls", "self.lt.Epilogue[problem.epilogue]",
     "{32: 2, 36: 6}.get(e := self.lt.Epilogue[problem.epilogue].value, e)"),
    ("calls", 'self._set(descriptor, "BIAS_DATA_TYPE"', 'self.lt or self._set(descriptor, "BIAS_DATA_TYPE"'),
    ("calls", "DATA_TYPES[problem.D.dtype]", "DATA_TYPES[problem.A.dtype]"),
    ("calls", "plan.pointer[0] = pointers.bias", "plan.pointer[0] = plan.pointer[0] or pointers.bias"),
    ("calls", "if pointers.bias:", "if False:"),
    ("calls", "np.array([1, 0], name)", "np.array([1, 0], 'float32')"),
    ("calls", "np.array([1, 0], name)", "np.array([1, 1], name)"),
    ("calls", "scalars.ctypes.data + scalars.itemsize", "scalars.ctypes.data"),
    ("calls", "buffer.ctypes.data, buffer.nbytes)\n\n    def _layout",
     "buffer.ctypes.data, 8)\n\n    def _layout"),
    ("calls", "plan.algorithm.ctypes.data, workspace,", "plan.algorithm.ctypes.data, workspace + 16,"),
    ("calls", "SUMS_IN_COMPUTE_TYPE = 2", "SUMS_IN_COMPUTE_TYPE = 7"),
    ("calls", '"REDUCTION_SCHEME_MASK", SUMS', '"MIN_ALIGNMENT_C_BYTES", SUMS'),
    ("calls", "for layout in plan.layouts:", "for layout in plan.layouts[:2]:"),
    ("problem", "_operand(B, \"B\"), _operand(A, \"A\")", "_operand(A, \"A\"), _operand(B, \"B\")"),
    ("problem", "Pointers(B.data.ptr, A.data.ptr", "Pointers(A.data.ptr, B.data.ptr"),
    ("problem", "return ld if ld >= columns", "return columns if ld >= columns"),
    ("problem", "Operand(name, rows, columns, ld, True", "Operand(name, rows, columns, ld, False"),
    ("problem", "Operand(name, columns, rows, ld, False", "Operand(name, rows, columns, ld, False"),
    ("problem", '"relu": "RELU", "gelu_tanh": "GELU"', '"relu": "GELU", "gelu_tanh": "RELU"'),
    ("problem", '"BIAS" if bias is not None else ""', '""'),
    ("problem", 'return "BGRADA"', 'return "BGRADB"'),
    ("problem", 'return "BGRADA"', 'return "BIAS"'),
    ("problem", 'if tf32 and first == "float32"', 'if first == "float32"'),
    ("problem", '"COMPUTE_64F": 70', '"COMPUTE_64F": 68'),
    ("problem", '"float16": 2, "bfloat16": 14', '"float16": 14, "bfloat16": 2'),
    ("calls", '"BIAS_BATCH_STRIDE", problem.batch.bias', '"BIAS_BATCH_STRIDE", 0'),
    ("calls", '"STRIDED_BATCH_OFFSET", getattr(batch, name)', '"STRIDED_BATCH_OFFSET", batch.D'),
    ("calls", '"BATCH_COUNT", batch.products', '"BATCH_COUNT", 1'),
    ("batch", '"A": _step(B, 3), "B": _step(A, 3)', '"A": _step(A, 3), "B": _step(B, 3)'),
    ("batch", "min(operand.alignment, step.alignment)", "operand.alignment"),
    ("batch", "min(problem.bias_alignment, of_bias.alignment)", "problem.bias_alignment"),
    ("batch", "return Step(0, ALIGNMENTS[0])", "return Step(1, ALIGNMENTS[0])"),
    ("matmul", "if stream.is_capturing():", "if False:"),
    ("matmul", "problem not in self._plans and", "stream.is_capturing() or problem not in self._plans and"),
    ("matmul", "return -(-address // ALIGNMENT) * ALIGNMENT", "return address + 8"),
]  # fmt: skip
MODULES = ("problem", "batch", "calls", "matmul")


def load_mutant(monkeypatch, folder, name, old, new):
    """Return the module cublaslt/matmul.py with one place of one of its files changed."""
    for module in MODULES:
        source = (ROOM / f"{module}.py").read_text(encoding="utf-8")
        if module == name:
            assert source.count(old) == 1, f"{old!r} occurs {source.count(old)} times in {name}.py"
            source = source.replace(old, new)
        (folder / f"{module}.py").write_text(source, encoding="utf-8")
        full = f"ffnn_gpu.backends.cuda.cublaslt.{module}"
        spec = importlib.util.spec_from_file_location(full, folder / f"{module}.py")
        made = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, full, made)
        spec.loader.exec_module(made)
    return made


def test_proof_passes_without_a_fault(monkeypatch, tmp_path):
    dense_products.prove(load_mutant(monkeypatch, tmp_path, "none", "", ""), monkeypatch)


@pytest.mark.parametrize(("name", "old", "new"), MUTANTS)
def test_planted_fault_fails_the_proof(monkeypatch, tmp_path, name, old, new):
    mutant = load_mutant(monkeypatch, tmp_path, name, old, new)
    with pytest.raises(NOTICED):
        dense_products.prove(mutant, monkeypatch)
