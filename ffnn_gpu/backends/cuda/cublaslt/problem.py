"""Describe a product of row-major arrays in cublasLt's column-major terms. Pure arithmetic, without a device.

Why no copies: the buffer of a C-order (r, c) array, read column-major, is its transpose (c, r). So D = A B of
row-major arrays is Dᵀ = Bᵀ Aᵀ of the same buffers: cublasLt's first factor is the right one here, and its
second the left one. A view such as x.T or W.T has the buffer of x or W, which cublasLt then reads as
"transposed":

    product                              first factor   second factor   epilogue
    a  = φ(x W + b)                      W  (N)         x  (N)          BIAS, RELU_BIAS, GELU_BIAS
    dW = xᵀ δ,  db = Σ_B δ               δ  (N)         x  (T)          BGRADA
    dx = δ Wᵀ                            W  (T)         δ  (N)          DEFAULT

The numbers below are cudaDataType_t (library_types.h) and cublasComputeType_t (cublas_api.h). They are part
of the ABI. A test compares them with nvmath's if that is installed.
"""

from dataclasses import dataclass
from typing import NamedTuple

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.errors import ConfigurationError, ShapeError

DATA_TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}  # CUDA_R_32F, R_64F, R_16F, R_16BF
COMPUTE_TYPES = {"COMPUTE_32F": 68, "COMPUTE_64F": 70, "COMPUTE_32F_FAST_TF32": 77}
HALF = ("float16", "bfloat16")
# cublasLt's GELU is the tanh formula, not the one with erf.
ACTIVATIONS = {None: "", "relu": "RELU", "gelu_tanh": "GELU"}
# Bytes. For less aligned arrays only the element size is promised, so that few plans serve every slice.
ALIGNMENTS = (256, 16)


class Pointers(NamedTuple):
    """The device addresses of one product's arrays; bias is 0 if there is none."""

    A: int
    B: int
    D: int
    bias: int


@dataclass(frozen=True)
class Operand:
    """One buffer as a column-major matrix: element (i, j) at i + j·ld. If `transposed`, its op is T."""

    dtype: str
    rows: int
    columns: int
    ld: int
    transposed: bool
    alignment: int


class Batch(NamedTuple):
    """The number of products in one call, and the elements from one product's array to the next one's."""

    products: int
    A: int
    B: int
    D: int
    bias: int


@dataclass(frozen=True)
class Problem:
    """D = epilogue(op(A) op(B))      column-major: op(A) (m, k), op(B) (k, n), D (m, n)

    Equal problems can share a plan. m is the number of columns of the row-major result, n its number of rows.
    Reference: cuBLAS documentation, cublasLtMatmul() and cublasLtEpilogue_t.
    """

    m: int
    n: int
    k: int
    A: Operand
    B: Operand
    D: Operand
    compute: str  # a name of COMPUTE_TYPES
    epilogue: str  # a name of cublasLtEpilogue_t
    bias_alignment: int  # 0 without a bias or bias gradient
    batch: Batch | None = None

    @property
    def scale(self) -> str:
        """The dtype of alpha and beta."""
        return "float64" if self.compute == "COMPUTE_64F" else "float32"

    @property
    def sentence(self) -> str:
        """The product in row-major terms, for messages."""
        left, right = (" transposed" if operand.transposed else "" for operand in (self.B, self.A))
        types = self.A.dtype if self.D.dtype == self.A.dtype else f"{self.A.dtype} into {self.D.dtype}"
        factors = f"A ({self.n}, {self.k}){left} × B ({self.k}, {self.m}){right}"
        times = "" if self.batch is None else f"{self.batch.products} times "
        return f"{times}{factors} in {types} with epilogue {self.epilogue}"


def describe(
    A: Array, B: Array, out: Array, epilogue: str | None, bias: Array, bias_gradient: Array, tf32: bool
) -> tuple[Problem, Pointers]:
    """Return out = A B as a problem for cublasLt, and the addresses of its arrays.

    Raises:
        ShapeError: shapes disagree, or strides are neither row-major nor the strides of a transposed
            row-major array.
        ConfigurationError: dtypes or epilogues that cannot be combined.
    """
    _require_shapes(A, B, out)
    (n, k), m = A.shape, B.shape[1]
    first, second, result = _operand(B, "B"), _operand(A, "A"), _operand(out, "out")
    if result.transposed:
        raise ShapeError(f"out {out.shape} has strides of {out.strides} bytes; it must be row-major")
    compute = _compute_type(first.dtype, second.dtype, result.dtype, tf32)
    name = _epilogue(epilogue, bias, bias_gradient, first.transposed)
    vector = bias if bias is not None else bias_gradient
    alignment = 0 if vector is None else _vector_alignment(vector, m, result.dtype)
    pointers = Pointers(B.data.ptr, A.data.ptr, out.data.ptr, 0 if vector is None else vector.data.ptr)
    return Problem(m, n, k, first, second, result, compute, name, alignment), pointers


def _require_shapes(A: Array, B: Array, out: Array) -> None:
    if not (len(A.shape) == len(B.shape) == len(out.shape) == 2):
        raise ShapeError(f"a product needs matrices; A is {A.shape}, B is {B.shape}, out is {out.shape}")
    if A.shape[1] != B.shape[0] or out.shape != (A.shape[0], B.shape[1]):
        raise ShapeError(f"A {A.shape} times B {B.shape} does not fit out {out.shape}")
    if 0 in (*A.shape, *B.shape):
        raise ShapeError(
            f"A {A.shape} times B {B.shape} is empty; cublasLt needs at least one row and column of each"
        )


def _leading_dimension(rows: int, columns: int, strides: tuple[int, int], itemsize: int) -> int | None:
    """Return the distance of a row-major array's rows in elements; None for another layout.

    Axes of length 1 have no stride.
    """
    if columns > 1 and strides[1] != itemsize:
        return None
    if rows == 1:
        return columns
    ld, rest = divmod(strides[0], itemsize)
    return ld if ld >= columns and not rest else None


def _operand(array: Array, what: str) -> Operand:
    """Return `array`, row-major or the transpose of a row-major array, as a column-major operand."""
    name, itemsize, (rows, columns) = array.dtype.name, array.dtype.itemsize, array.shape
    if name not in DATA_TYPES:
        raise ConfigurationError(f"{what} has dtype {name}; products are made in {', '.join(DATA_TYPES)}")
    alignment = alignment_of(array.data.ptr, itemsize)
    ld = _leading_dimension(rows, columns, array.strides, itemsize)
    if ld is not None:
        return Operand(name, columns, rows, ld, False, alignment)
    ld = _leading_dimension(columns, rows, array.strides[::-1], itemsize)
    if ld is None:
        raise ShapeError(
            f"{what} {array.shape} has strides {array.strides} bytes, elements of {itemsize}: neither a "
            "row-major array nor the transpose of one; copy it into a contiguous array first"
        )
    return Operand(name, rows, columns, ld, True, alignment)


def alignment_of(pointer: int, itemsize: int) -> int:
    return next((bytes_ for bytes_ in ALIGNMENTS if pointer % bytes_ == 0), itemsize)


def _compute_type(first: str, second: str, result: str, tf32: bool) -> str:
    """Return the type of sums: float64 for float64, else float32. `tf32` rounds float32 factors."""
    if first != second or not (result == first or (first in HALF and result == "float32")):
        raise ConfigurationError(
            f"cannot multiply {second} by {first} into {result}: both factors must have one type, and the "
            "result must have the same type, or float32 for factors of 16 bits"
        )
    if first == "float64":
        return "COMPUTE_64F"
    return "COMPUTE_32F_FAST_TF32" if tf32 and first == "float32" else "COMPUTE_32F"


def _epilogue(
    activation: str | None, bias: Array | None, bias_gradient: Array | None, transposed: bool
) -> str:
    """Return the name in cublasLtEpilogue_t.

    A bias is added before φ; BGRADA sums its first factor over k.
    """
    if activation not in ACTIVATIONS:
        raise ConfigurationError(f"no epilogue computes {activation!r}; there are relu, gelu_tanh and None")
    if bias_gradient is None:
        name = "_".join(filter(None, (ACTIVATIONS[activation], "BIAS" if bias is not None else "")))
        return name or "DEFAULT"
    if bias is not None or activation is not None:
        raise ConfigurationError("bias_gradient must be given alone, without a bias or an epilogue")
    if transposed:
        raise ConfigurationError(
            "bias_gradient is the sum of B's rows and needs a row-major B, not a transposed view"
        )
    return "BGRADA"


def _vector_alignment(vector: Array, m: int, dtype: str) -> int:
    """Return a bias's alignment. It must be contiguous, (m,), of D's dtype (cublasLt.h, BIAS_DATA_TYPE)."""
    if vector.shape != (m,):
        raise ShapeError(f"the bias or its gradient has shape {vector.shape}; the product has {m} columns")
    if vector.dtype.name != dtype:
        raise ConfigurationError(
            f"the bias or its gradient is {vector.dtype.name}; it must be {dtype} like out"
        )
    if m > 1 and vector.strides != (vector.dtype.itemsize,):
        raise ShapeError(
            f"the bias or its gradient has a stride of {vector.strides[0]} bytes; it must be contiguous"
        )
    return alignment_of(vector.data.ptr, vector.dtype.itemsize)
