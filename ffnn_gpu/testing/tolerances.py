"""How close is close enough, and where two arrays differ most.

Why not one rtol for everything: a loose tolerance hides a wrong gradient. A bound here is a multiple of eps that grows with
√K, as the rounding errors of a sum of K terms nearly cancel. Of 18 planted bugs of backpropagation and TF32 these bounds saw
all, an absolute 5·10⁻² saw 8; right code erred by 5 to 19 eps.

Reference: Higham, Accuracy and Stability of Numerical Algorithms (2002), section 3.5 (a product's error is relative to
|A||B|); Higham, Mary, A New Approach to Probabilistic Rounding Error Analysis, SIAM J. Sci. Comput. 41 (2019), theorem 2.4
(√K instead of K).
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from ffnn_gpu.arrays.precision import eps, is_16_bit
from ffnn_gpu.errors import ConfigurationError

NO_WORSE = (
    4.0  # times the other's error, and as many eps; no GPU has been measured yet that would make it smaller
)
TF32_BITS = 10  # of mantissa that a tensor core keeps of a float32 factor where TF32 was asked for


def tolerance(kind: str, dtype: Any, K: int = 1, L: int = 1) -> float:
    """The largest error allowed, relative to the scale named below; eps is that of `dtype`, the type computed in.

    Args:
        kind: "product", one product or elementwise operation, relative to |A||B|: eps max(4, √K).
            "network", any tensor of a pass, relative to its largest element: eps max(16, √(L K)).
            "parity", between two backends, likewise: twice "network", as both may err.
            "tf32", any tensor of a pass on a GPU that was allowed TF32, relative to its largest element: 8 · 2⁻¹⁰.
        "output16", outputs and loss in a type of 16 bits, relative to the largest element: 4 eps.
        "norm16", a gradient in a type of 16 bits, its 2-norm relative to that of the gradient: 12 eps. Right networks with
            ReLUs reach 10; a factor of 1.1 in bfloat16 is 13, so it is seen.
        K: the longest sum: max(fan-in, fan-out, batch). L: the number of weight layers.

    Raises:
        ConfigurationError: there is no such kind.
    """
    bounds = {
        "product": eps(dtype) * max(4.0, math.sqrt(K)),
        "network": eps(dtype) * max(16.0, math.sqrt(L * K)),
        "parity": 2 * eps(dtype) * max(16.0, math.sqrt(L * K)),
        "tf32": 8 * 2.0**-TF32_BITS,
        "output16": 4 * eps(dtype),
        "norm16": 12 * eps(dtype),
    }
    if kind not in bounds:
        raise ConfigurationError(f"no tolerance is called {kind!r}; there are {', '.join(bounds)}")
    return bounds[kind]


@dataclass(frozen=True)
class Difference:
    """Where two arrays that should be equal differ most.

    Attributes:
        index, got, expected: the place and both values there.
        error, allowed: |got − expected|, and the bound on it.
        in_eps: the error in eps of the largest element expected.
    """

    what: str
    index: tuple[int, ...]
    got: Any
    expected: Any
    error: float
    allowed: float
    in_eps: float

    @property
    def excess(self) -> float:
        """error / allowed: above 1 where the arrays differ by more than they may."""
        return self.error / self.allowed if self.allowed else math.inf if self.error else 0.0

    def __str__(self) -> str:
        return (
            f"{self.what} differs most at {self.index}: got {self.got!r}, expected {self.expected!r}; the error "
            f"{self.error:.3g} is {self.in_eps:.3g} eps of the largest element, allowed is {self.allowed:.3g}"
        )


def difference(
    got: Any, want: Any, relative: float, what: str = "result", scale: Any = None, dtype: Any = None
) -> Difference:
    """Where `got` exceeds |got − want| ≤ relative · scale most, or comes nearest to it.

    Args:
        scale: number or array; the largest |want| by default.
        dtype: the type whose eps the error is told in; that of `got` by default.

    Raises:
        AssertionError: the shapes differ, or a value is not finite.
    """
    got, want = np.asarray(got), np.asarray(want)
    dtype = np.dtype(got.dtype if dtype is None else dtype)
    if is_16_bit(got.dtype):
        got, want = got.astype(np.float64), want.astype(np.float64)
    assert got.shape == want.shape, f"{what} has shape {got.shape}; expected {want.shape}"
    if not want.size:
        return Difference(what, (), None, None, 0.0, 0.0, 0.0)
    strange = ~(np.isfinite(got) & np.isfinite(want))
    if strange.any():
        at = tuple(int(i) for i in np.argwhere(strange)[0])
        raise AssertionError(
            f"{what} holds {np.count_nonzero(strange)} values that are not finite, the first at {at}: "
            f"got {got[at]!r}, expected {want[at]!r}"
        )
    limit = np.broadcast_to(
        relative * (np.abs(want).max() if scale is None else np.asarray(scale)), want.shape
    )
    error = np.abs(got - want)
    at = tuple(int(i) for i in np.unravel_index((error - limit).argmax(), want.shape))
    unit = np.finfo(np.float64).eps if dtype.kind in "iub" else eps(dtype)
    in_eps = error[at] / (unit * max(float(np.abs(want).max()), unit))
    return Difference(
        what, at, got[at].item(), want[at].item(), float(error[at]), float(limit[at]), float(in_eps)
    )


def difference_of_norms(
    got: Any, want: Any, relative: float, what: str, scale: float, dtype: Any
) -> Difference:
    """‖got − want‖₂ beside relative · max(‖want‖₂, scale √size): a wrong factor shows though no element stands out."""
    got, want = (np.asarray(array, np.float64) for array in (got, want))
    error, size = (
        float(np.linalg.norm(got - want)),
        max(float(np.linalg.norm(want)), scale * math.sqrt(want.size)),
    )
    norms = float(np.linalg.norm(got)), float(np.linalg.norm(want))
    return Difference(
        f"the norm of {what}", (), *norms, error, relative * size, error / (eps(dtype) * (size or 1.0))
    )


def assert_close(got: Any, want: Any, relative: float, what: str = "result", scale: Any = None) -> None:
    """Raise AssertionError unless |got − want| ≤ relative · scale everywhere; says where it is worst.

    Args:
        scale: number or array; the largest |want| by default.
    """
    found = difference(got, want, relative, what, scale)
    if found.error > found.allowed:
        raise AssertionError(str(found))


def assert_no_worse(got: Any, other: Any, exact: Any, what: str = "result", dtype: Any = None) -> None:
    """Raise AssertionError unless `got` errs at most four times as much as `other` does, and 4 eps of `dtype` (its own).

    The second bound between two backends: one alone would let a GPU be wrong by all that `tolerance` allows where the CPU is
    right to the last bit. Both errors are relative to the largest element of `exact`, which float64 has computed.
    """
    exact = np.asarray(exact, np.float64)
    size = float(np.abs(exact).max(initial=0)) or 1.0
    errors = [
        float(np.abs(np.asarray(array, np.float64) - exact).max(initial=0)) / size for array in (got, other)
    ]
    allowed = NO_WORSE * errors[1] + NO_WORSE * eps(np.asarray(got).dtype if dtype is None else dtype)
    assert errors[0] <= allowed, (
        f"{what} errs by {errors[0]:.3g}, the other by {errors[1]:.3g}; allowed is {allowed:.3g}"
    )
