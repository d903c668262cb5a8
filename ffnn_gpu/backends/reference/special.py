"""Functions for the formulas of activations and losses.

They also accept complex numbers with a tiny imaginary part.

Why not erf: gelu is s Φ(s) with Φ(s) = ½ erfc(−s/√2), and erfc keeps its relative accuracy where 1 + erf
cancels.
"""

from typing import Any

import numpy as np

# Chebyshev coefficients of ln(e^{x²} erfc(x) / t) on u = 2t − 1 ∈ (−1, 1] with t = 2/(2 + x), from 64 nodes
# in 60-digit arithmetic. The first dropped one is 5e-20. The series ends where a coefficient falls below the
# dtype's precision.
CHEBYSHEV = (
    -0.65132685989085471709, 0.6419697923564902603, 0.019476473204185836315,
    -0.0095615147868086316448, -0.00094659534448203686432, 0.00036683949785276145094,
    0.000042523324806907771461, -0.000020278578112534241867, -1.6242900046470278099e-6,
    1.3036558355805263417e-6, 1.5626441722062386582e-8, -8.5238095914922440361e-8,
    6.5290544390946996623e-9, 5.0593434955553711633e-9, -9.9136415649640463958e-10,
    -2.273651222905852497e-10, 9.646791101851670042e-11, 2.3940380836007930239e-12,
    -6.8860275259430598368e-12, 8.9448792567974095964e-13, 3.1309214251956600437e-13,
    -1.1270822696707149357e-13, 3.8109440395747767616e-16, 7.1060934908817762864e-15,
    -1.5230241325247856869e-15, -9.4578666998868527137e-17, 1.2102682418691472151e-16,
    -2.8168896605060421901e-17,
)  # fmt: skip
TERMS_FLOAT32 = 14


def magnitude(xp: Any, x: Any) -> Any:
    """|x|, elementwise and complex-differentiable"""
    return xp.maximum(x, -x)


def erfc(xp: Any, x: Any) -> Any:
    """erfc(x) = 2/√π ∫ₓ^∞ e^{−t²} dt, elementwise

    erfc(|x|) = t e^{−x² + Σ_k c_k T_k(u)}, summed by Clenshaw's recurrence; erfc(−x) = 2 − erfc(x).
    The relative error is below 40 eps, and grows as x² eps towards the underflow. If the array module has an
    erfc of its own, it is used.
    """
    own = getattr(xp, "erfc", None)
    if own is not None:
        return own(x)
    terms = TERMS_FLOAT32 if x.dtype == np.float32 else len(CHEBYSHEV)
    size = xp.where(x > 0, x, -x)
    t = 2 / (2 + size)
    u = 2 * t - 1
    later, last = 0 * u, 0 * u
    for c in CHEBYSHEV[terms - 1 : 0 : -1]:
        later, last = 2 * u * later - last + c, later
    tail = t * xp.exp(u * later - last + CHEBYSHEV[0] - size * size)
    return xp.where(x > 0, tail, 2 - tail)
