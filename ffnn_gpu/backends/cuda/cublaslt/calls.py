"""Call cublasLt through nvmath.bindings.cublasLt: descriptors, algorithms, launch.

Every attribute is written with the type that the bindings declare, because cublasLt refuses a buffer of
another size. Pointers to host numbers (alpha, beta, attributes) are read during the call, so they may be
NumPy buffers.
Reference: cuBLAS documentation, "Using the cuBLASLt API".
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ffnn_gpu.backends.cuda.cublaslt.problem import COMPUTE_TYPES, DATA_TYPES, Pointers, Problem

SUCCESS = 0  # cublasStatus_t
# cublasLtReductionScheme_t: a sum that is split is added up in the compute type. Why set: the default also
# allows partial sums in the type of the output, which often has 16 bits.
SUMS_IN_COMPUTE_TYPE = 2


@dataclass(frozen=True, eq=False)
class Plan:
    """A problem with its cublasLt handles: descriptors, and the algorithm as 64 opaque bytes."""

    problem: Problem
    descriptor: int
    layouts: tuple[int, ...]  # descriptors of A, B and D
    algorithm: np.ndarray
    pointer: np.ndarray  # (1,) int64: the address of the next call's bias

    @property
    def handles(self) -> tuple[int, ...]:
        """The descriptor and the layouts of A, B, C and D. C is D."""
        return self.descriptor, *self.layouts, self.layouts[-1]

    def by(self, algorithm: np.ndarray) -> "Plan":
        """Return the same plan with another algorithm."""
        return replace(self, algorithm=algorithm)


class Calls:
    """cublasLt on the current device, with workspaces of `workspace_bytes`."""

    def __init__(self, bindings: Any, workspace_bytes: int) -> None:
        self.lt, self.workspace_bytes = bindings, workspace_bytes
        self.version = int(bindings.get_version())
        self._handle = bindings.create()
        self._scalars = {name: np.array([1, 0], name) for name in ("float32", "float64")}  # alpha, beta

    def close(self) -> None:
        if self._handle:
            self.lt.destroy(self._handle)
            self._handle = 0

    # ------------------------------------------------------------------ descriptors

    def describe(self, problem: Problem, pointers: Pointers) -> Plan:
        """Return a plan with the descriptors of `problem`, still without an algorithm."""
        descriptor = self.lt.matmul_desc_create(COMPUTE_TYPES[problem.compute], DATA_TYPES[problem.scale])
        self._set(descriptor, "TRANSA", int(problem.A.transposed))  # cublasOperation_t: N 0, T 1
        self._set(descriptor, "TRANSB", int(problem.B.transposed))
        self._set(descriptor, "EPILOGUE", self.lt.Epilogue[problem.epilogue])
        if problem.bias_alignment:
            self._set(descriptor, "BIAS_DATA_TYPE", DATA_TYPES[problem.D.dtype])
            # The search for an algorithm reads this address's alignment. Set the one that the problem
            # promises.
            self._set(descriptor, "BIAS_POINTER", pointers.bias // 256 * 256 + problem.bias_alignment % 256)
            if problem.batch is not None:
                self._set(descriptor, "BIAS_BATCH_STRIDE", problem.batch.bias)
        layouts = tuple(self._layout(name, problem) for name in "ABD")
        algorithm, pointer = np.zeros(1, self.lt.matmul_algo_dtype), np.zeros(1, np.int64)
        return Plan(problem, descriptor, layouts, algorithm, pointer)

    def destroy(self, plan: Plan) -> None:
        self.lt.matmul_desc_destroy(plan.descriptor)
        for layout in plan.layouts:
            self.lt.matrix_layout_destroy(layout)

    def _set(self, descriptor: int, name: str, value: int) -> None:
        attribute = self.lt.MatmulDescAttribute[name]
        buffer = np.array([value], self.lt.get_matmul_desc_attribute_dtype(attribute))
        self.lt.matmul_desc_set_attribute(descriptor, attribute, buffer.ctypes.data, buffer.nbytes)

    def _layout(self, name: str, problem: Problem) -> int:
        operand, batch = getattr(problem, name), problem.batch
        kind = DATA_TYPES[operand.dtype]
        layout = int(self.lt.matrix_layout_create(kind, operand.rows, operand.columns, operand.ld))
        if batch is not None:
            self._of_batch(layout, "BATCH_COUNT", batch.products)
            self._of_batch(layout, "STRIDED_BATCH_OFFSET", getattr(batch, name))
        return layout

    def _of_batch(self, layout: int, name: str, value: int) -> None:
        attribute = self.lt.MatrixLayoutAttribute[name]
        buffer = np.array([value], self.lt.get_matrix_layout_attribute_dtype(attribute))
        self.lt.matrix_layout_set_attribute(layout, attribute, buffer.ctypes.data, buffer.nbytes)

    # ------------------------------------------------------------------ one product

    def run(self, plan: Plan, pointers: Pointers, workspace: int, stream: int) -> None:
        """D = epilogue(1 · op(A) op(B) + 0 · C), with a workspace at this address.

        C is D, which beta = 0 leaves unread. Reference: cublasLtMatmul().
        """
        if pointers.bias:
            plan.pointer[0] = pointers.bias
            attribute, address = self.lt.MatmulDescAttribute.BIAS_POINTER, plan.pointer.ctypes.data
            self.lt.matmul_desc_set_attribute(plan.descriptor, attribute, address, plan.pointer.nbytes)
        scalars = self._scalars[plan.problem.scale]
        alpha, beta = scalars.ctypes.data, scalars.ctypes.data + scalars.itemsize
        A, B, D = plan.layouts
        factors, result = (alpha, pointers.A, A, pointers.B, B, beta), (pointers.D, D)
        rest = plan.algorithm.ctypes.data, workspace, self.workspace_bytes, stream
        self.lt.matmul(self._handle, plan.descriptor, *factors, *result, *result, *rest)

    # ------------------------------------------------------------------ algorithms

    def recommended(self, plan: Plan, count: int) -> list[np.ndarray]:
        """Return up to `count` algorithms, the most promising first.

        Reference: cublasLtMatmulAlgoGetHeuristic().
        """
        found = np.zeros(count, self.lt.matmul_heuristic_result_dtype)
        returned = np.zeros(1, np.int32)
        preference = self.lt.matmul_preference_create()
        try:
            self._prefer(preference, "MAX_WORKSPACE_BYTES", self.workspace_bytes)
            self._prefer(preference, "REDUCTION_SCHEME_MASK", SUMS_IN_COMPUTE_TYPE)
            problem = plan.problem
            for name, operand in zip("ABCD", (problem.A, problem.B, problem.D, problem.D), strict=True):
                self._prefer(preference, f"MIN_ALIGNMENT_{name}_BYTES", operand.alignment)
            asked, results = (preference, count), (found.ctypes.data, returned.ctypes.data)
            self.lt.matmul_algo_get_heuristic(self._handle, *plan.handles, *asked, *results)
        finally:
            self.lt.matmul_preference_destroy(preference)
        rows = np.split(found, count)[: returned[0]]
        return [row["algo"].copy() for row in rows if row["state"][0] == SUCCESS]

    def stored(self, plan: Plan, content: bytes) -> np.ndarray | None:
        """Return the algorithm with these 64 bytes, or None if cublasLt refuses it.

        Reference: cublasLtMatmulAlgoCheck().
        """
        algorithm = np.frombuffer(content, self.lt.matmul_algo_dtype).copy()
        result = np.zeros(1, self.lt.matmul_heuristic_result_dtype)
        pointers = algorithm.ctypes.data, result.ctypes.data
        try:
            self.lt.matmul_algo_check(self._handle, *plan.handles, *pointers)
        except self.lt.cuBLASLtError:
            return None
        return algorithm if result["workspace_size"][0] <= self.workspace_bytes else None

    def _prefer(self, preference: int, name: str, value: int) -> None:
        attribute = self.lt.MatmulPreferenceAttribute[name]
        buffer = np.array([value], self.lt.get_matmul_preference_attribute_dtype(attribute))
        self.lt.matmul_preference_set_attribute(preference, attribute, buffer.ctypes.data, buffer.nbytes)
