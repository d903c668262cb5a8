"""Describe R products of the same shape as one problem for cublasLt, with strides from one to the next."""

from dataclasses import replace
from typing import NamedTuple

from ffnn_gpu.arrays.array_types import Array
from ffnn_gpu.backends.cuda.cublaslt.problem import (
    ALIGNMENTS,
    Batch,
    Pointers,
    Problem,
    alignment_of,
    describe,
)
from ffnn_gpu.errors import ShapeError


class Step(NamedTuple):
    """The distance from one product's array to the next one's, and the alignment that it keeps."""

    elements: int
    alignment: int


def describe_batch(
    A: Array, B: Array, out: Array, epilogue: str | None, bias: Array, bias_gradient: Array, tf32: bool
) -> tuple[Problem, Pointers]:
    """Return out_r = A_r B_r as a problem with a Batch, and the addresses of the first product's arrays.

    out is (R, N, M), a bias (R, M). A factor that is a matrix is the same in all products: its stride is 0.
    Alignments are those that all products have. Raises what `describe` raises.
    """
    vectors, R = (bias, bias_gradient), out.shape[0]
    several = [out, *(x for x in (A, B) if len(x.shape) == 3), *(x for x in vectors if x is not None)]
    if not R or any(x.shape[0] != R for x in several):
        raise ShapeError(f"{', '.join(str(x.shape) for x in several)} are not the arrays of {R} products")
    first, second = (x[0] if len(x.shape) == 3 else x for x in (A, B))
    of_first, gradient_of_first = (None if x is None else x[0] for x in vectors)
    problem, pointers = describe(first, second, out[0], epilogue, of_first, gradient_of_first, tf32)
    steps = {"A": _step(B, 3), "B": _step(A, 3), "D": _step(out, 3)}
    of_bias = _step(bias if bias is not None else bias_gradient, 2)
    aligned = {
        name: replace(operand, alignment=min(operand.alignment, step.alignment))
        for name, step in steps.items()
        for operand in [getattr(problem, name)]
    }
    batch = Batch(R, **{name: step.elements for name, step in steps.items()}, bias=of_bias.elements)
    alignment = min(problem.bias_alignment, of_bias.alignment)
    return replace(problem, **aligned, bias_alignment=alignment, batch=batch), pointers


def _step(array: Array | None, axes: int) -> Step:
    """Return the step of an array with this number of axes; 0 for one that all products share."""
    if array is None or len(array.shape) < axes:
        return Step(0, ALIGNMENTS[0])
    elements, rest = divmod(array.strides[0], array.dtype.itemsize)
    if rest or elements < 0:
        raise ShapeError(f"the products of {array.shape} are {array.strides[0]} bytes apart")
    return Step(elements, alignment_of(array.strides[0], array.dtype.itemsize))
