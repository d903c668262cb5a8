"""exp, expm1, exp2, log, log1p, log2, tanh, sinh, cosh, erf, erfc, cos 2πt and sin 2πt on vectors.

The numbers are float32 or float64.

Why: LLVM does not vectorize calls of the C library, and they dominate the element-wise loops of a training
step. These functions have no branch, no table and at most one division, and compute in the type of x.

Errors against mpmath: at most 2 ulp, and 4 ulp for erf and erfc, also on processors without fused
multiply-add. NaN gives NaN. Infinities, signed zeros and subnormal numbers are right, as x and as a result.
The polynomials are in `coefficients.py`.

References: Cody and Waite, Software Manual for the Elementary Functions (1980): reduction by n ln 2. Tang,
ACM TOMS 15 (1989) 144: exp. Muller, Elementary Functions (3rd ed., 2016). Shepherd and Laframboise, Math.
Comp. 36 (1981) 249: erfc.
"""

from collections.abc import Callable

from ffnn_gpu.backends.elementwise.coefficients import DOUBLE, SINGLE, Constants
from ffnn_gpu.backends.elementwise.lanes import Lane, Lanes

LN2, INVERSE_LN2 = 0.6931471805599453, 1.4426950408889634

# ---------------------------------------------------------------------- parts


def constants(v: Lanes) -> Constants:
    """Return the constants of the type of the numbers."""
    return SINGLE if v.size == 4 else DOUBLE


def polynomial(v: Lanes, x: Lane, c: tuple[float, ...]) -> Lane:
    """Σ_k c_k x^k, with even and odd powers summed apart if there are many

    Why: this halves the chain of dependent operations. c_0 is added last, for its rounding error.
    """
    if len(c) < 16:
        return v.polynomial(x, c)
    z = x * x
    return v.fma(x, v.fma(x, v.polynomial(z, c[2::2]), v.polynomial(z, c[1::2])), c[0])


def clamp(v: Lanes, x: Lane, low: float, high: float) -> Lane:
    """min(max(x, low), high), and NaN for NaN"""
    x = v.where(x < low, low, x)
    return v.where(x > high, high, x)


def with_sign(v: Lanes, magnitude: Lane, x: Lane) -> Lane:
    """Return the magnitude, which must not be negative, with the sign of x."""
    return v.real(v.bits(magnitude) | (v.bits(x) & -(1 << (8 * v.size - 1))))


def whole(v: Lanes, y: Lane, factor: float = 1.0) -> tuple[Lane, Lane]:
    """Return n, the whole number nearest to y · factor, and an integer whose low bits are 2 bias + n.

    Adding 1.5 · 2^digits moves the digits after the point out of the number.
    """
    c = constants(v)
    magic = 1.5 * 2.0**c.digits + 2 * c.bias
    shifted = y + magic if factor == 1 else v.fma(y, factor, magic)
    return shifted - magic, v.bits(shifted)


def reduce(v: Lanes, x: Lane) -> tuple[Lane, Lane]:
    """Return r = x − n ln 2, |r| ≤ ln(2)/2, and n as `whole` returns it."""
    c = constants(v)
    n, bits = whole(v, x, INVERSE_LN2)
    return v.fma(n, -c.ln2[1], v.fma(n, -c.ln2[0], x)), bits


def growth(v: Lanes, r: Lane) -> Lane:
    """e^r − 1 for |r| ≤ ln(2)/2"""
    return v.fma(r * r, polynomial(v, r, constants(v).exp), r)


def scale(v: Lanes, p: Lane, bits: Lane) -> Lane:
    """p 2^n for n as `whole` returns it, in two products: 2^n alone may overflow or underflow."""
    digits, half = constants(v).digits, bits >> 1
    return p * v.real(half << digits) * v.real((bits - half) << digits)


def power(v: Lanes, bits: Lane, less: int = 0) -> Lane:
    """2^{n − less}, which must be a normal number, for n as `whole` returns it"""
    c = constants(v)
    return v.real((bits - (c.bias + less)) << c.digits)


def exponent(v: Lanes, x: Lane) -> tuple[Lane, Lane, Lane]:
    """Return k, f and bits that hold k: x = 2^k (1 + f), √½ ≤ 1 + f < √2, for normal x > 0.

    The exponent field of the bits is k + bias.
    """
    c = constants(v)
    bits = v.bits(x) + ((c.bias << c.digits) - c.root_half)
    number = (bits >> c.digits) | ((c.bias + c.digits) << c.digits)  # the bits of 2^digits + bias + k
    fraction = (bits & ((1 << c.digits) - 1)) + c.root_half
    return v.real(number) - (2.0**c.digits + c.bias), v.real(fraction) - 1, bits


def log_rest(v: Lanes, f: Lane, rest: Lane | float) -> Lane:
    """log(1 + f) − f + rest for √½ ≤ 1 + f < √2"""
    return v.fma(f * f, v.fma(f, polynomial(v, f, constants(v).log), -0.5), rest)


# ---------------------------------------------------------------------- e^x


def exp(v: Lanes, x: Lane) -> Lane:
    """e^x = 2^n e^r"""
    c = constants(v)
    r, n = reduce(v, clamp(v, x, c.lowest, c.highest))
    return scale(v, growth(v, r) + 1, n)


def exp2(v: Lanes, x: Lane) -> Lane:
    """2^x = 2^n e^{(x − n) ln 2}"""
    c = constants(v)
    x = clamp(v, x, -c.bias - c.digits - 2.0, c.bias + 2.0)
    n, bits = whole(v, x)
    r = (x - n) * LN2
    return scale(v, growth(v, r) + 1, bits)


def expm1(v: Lanes, x: Lane) -> Lane:
    """e^x − 1 = 2 (h r + (h − ½) + h (e^r − 1 − r)), h = 2^{n−1}

    Why halves: 2^n overflows before e^x does.
    """
    c = constants(v)
    r, n = reduce(v, clamp(v, x, -40.0, c.highest))
    h = power(v, n, less=1)
    half = v.fma(h, r * r * polynomial(v, r, c.exp), v.fma(h, r, h - 0.5))
    return v.where(abs(x) < 0.5 ** (c.digits + 2), x, half + half)


def half_exp(v: Lanes, x: Lane) -> Lane:
    """e^|x| / 2, which overflows only if cosh(x) does"""
    a = abs(x)
    r, n = reduce(v, v.where(a > constants(v).highest + 1, constants(v).highest + 1, a))
    return scale(v, growth(v, r) + 1, n - 1)


def cosh(v: Lanes, x: Lane) -> Lane:
    """h + 1/(4h), h = e^|x|/2"""
    h = half_exp(v, x)
    return h + 0.25 / h


def sinh(v: Lanes, x: Lane) -> Lane:
    """±(h − 1/(4h)), h = e^|x|/2; a polynomial for |x| < 1"""
    h, a = half_exp(v, x), abs(x)
    z = a * a
    near = v.fma(a * z, polynomial(v, z, constants(v).sinh), a)
    return with_sign(v, v.where(a < 1, near, h - 0.25 / h), x)


def tanh(v: Lanes, x: Lane) -> Lane:
    """±(1 − 2/(e^{2|x|} + 1)); a polynomial for |x| < 0.55"""
    c = constants(v)
    a = abs(x)
    a = v.where(a > c.one_tanh, c.one_tanh, a)
    z = a * a
    near = v.fma(a * z, polynomial(v, z, c.tanh), a)
    r, n = reduce(v, a + a)
    e = (growth(v, r) + 1) * power(v, n)
    return with_sign(v, v.where(a < 0.55, near, 1 - 2 / (e + 1)), x)


# ---------------------------------------------------------------------- log


def log_parts(v: Lanes, x: Lane) -> tuple[Lane, Lane]:
    """Return k and f: x = 2^k (1 + f), √½ ≤ 1 + f < √2, also for subnormal x > 0."""
    c = constants(v)
    small = x < 2.0 ** (1 - c.bias)
    k, f, _ = exponent(v, v.where(small, x * 2.0 ** (c.digits + 1), x))
    return k - v.where(small, c.digits + 1.0, 0.0), f


def log_domain(v: Lanes, y: Lane, x: Lane, zero: float) -> Lane:
    """Return y, but −inf at x = zero, NaN below and for NaN, and inf for inf."""
    y = v.where(x < float("inf"), y, x)
    y = v.where(x == zero, -float("inf"), y)
    return v.where(x < zero, float("nan"), y)


def log(v: Lanes, x: Lane) -> Lane:
    """log(x) = k ln 2 + log(1 + f)"""
    high, low = constants(v).ln2
    k, f = log_parts(v, x)
    return log_domain(v, v.fma(k, high, f + log_rest(v, f, k * low)), x, 0.0)


def log2(v: Lanes, x: Lane) -> Lane:
    """log₂(x) = k + log(1 + f)/ln 2"""
    k, f = log_parts(v, x)
    y = f + log_rest(v, f, 0.0)
    return log_domain(v, v.fma(y, INVERSE_LN2, v.fma(y, constants(v).inverse_ln2_rest, k)), x, 0.0)


def log1p(v: Lanes, x: Lane) -> Lane:
    """log(1 + x) = k ln 2 + log(1 + f + 2^{−k} e), where e is the rounding error of 1 + x = 2^k (1 + f)"""
    c = constants(v)
    u = 1 + x
    back = u - 1
    e = (x - back) + (1 - (u - back))
    k, f, bits = exponent(v, u)
    field = bits & ~((1 << c.digits) - 1)
    f = v.fma(e * 0.5, v.real((2 * c.bias + 1 << c.digits) - field), f)  # 2^{1−k}: 2^{−k} may be subnormal
    y = v.fma(k, c.ln2[0], f + log_rest(v, f, k * c.ln2[1]))
    y = v.where(abs(x) < 0.5 ** (c.digits + 2), x, y)
    return log_domain(v, y, x, -1.0)


# ---------------------------------------------------------------------- erf


def erfc_tail(v: Lanes, a: Lane, relative: bool) -> Lane:
    """erfc(a) = e^{−a²} erfcx(a) for a ≥ 0, erfcx(a) = t P(1 − 2 k t), t = 1/(a + k)

    Args:
        relative: correct two rounding errors in the exponent. The error of a² is avoided by
            a² = h² + (a + h)(a − h), where h has half the digits of a and h² is exact. The error of a + k is
            weighted with erfcx′/erfcx ≈ −slope · t. Without it, the absolute error is small.
    """
    c = constants(v)
    a = v.where(a > c.zero_erfc, c.zero_erfc, a)
    d = a + c.erfc_scale
    t = 1 / d
    erfcx = t * polynomial(v, v.fma(t, -2 * c.erfc_scale, 1.0), c.erfc)
    square = a * a
    n, bits = whole(v, square, -INVERSE_LN2)
    rest = n * c.ln2[1]
    if relative:
        h = v.real(v.bits(a) & c.head)
        lost = (a - (d - c.erfc_scale)) * (c.erfc_slope * t)
        square, rest = h * h, v.fma(n, c.ln2[1], v.fma(a + h, a - h, lost))
    r = v.fma(n, -c.ln2[0], -square) - rest
    return scale(v, v.fma(growth(v, r), erfcx, erfcx), bits)


def erfc(v: Lanes, x: Lane) -> Lane:
    """erfc(x) = 2 − erfc(−x) for x < 0"""
    tail = erfc_tail(v, abs(x), relative=True)
    return v.where(x < 0, 2 - tail, tail)


def erf(v: Lanes, x: Lane) -> Lane:
    """±(1 − erfc(|x|)); a polynomial for |x| < 1, and in float32, where 13 terms suffice, also above"""
    c, a = constants(v), abs(x)
    near = v.fma(a, polynomial(v, a * a, c.erf), a)
    if c.erf_far:
        far = polynomial(v, v.where(a > 4, 4, a) - 2.5, c.erf_far)
    else:
        far = 1 - erfc_tail(v, a, relative=False)
    return with_sign(v, v.where(a < 1, near, far), x)


# ---------------------------------------------------------------------- waves


def waves(v: Lanes, t: Lane) -> tuple[Lane, Lane]:
    """Return cos(2πt) and sin(2πt).

    t is reduced to u = t − n, |u| ≤ ½, and |u| to m, |m| ≤ 1/8, from the nearest of 0, ¼ and ½. Each
    difference is exact, so the error does not grow with t.
    """
    c = constants(v)
    u = t - v.rint(t)
    a = abs(u)
    is_far, is_middle = a > 0.375, abs(a - 0.25) <= 0.125
    m = v.where(is_middle, 0.25 - a, v.where(is_far, 0.5 - a, a))
    z = m * m
    sine = v.fma(m, c.turn[0], m * v.fma(z, polynomial(v, z, c.sin_turns), c.turn[1]))
    cosine = v.fma(z, polynomial(v, z, c.cos_turns), 1.0)
    of_u = v.where(is_middle, cosine, sine)
    return v.where(is_middle, sine, v.where(is_far, -cosine, cosine)), v.where(u < 0, -of_u, of_u)


def cos_turns(v: Lanes, t: Lane) -> Lane:
    """cos(2πt)"""
    return waves(v, t)[0]


def sin_turns(v: Lanes, t: Lane) -> Lane:
    """sin(2πt)"""
    return waves(v, t)[1]


FUNCTIONS: dict[str, Callable[[Lanes, Lane], Lane]] = {
    "exp": exp, "exp2": exp2, "expm1": expm1, "log": log, "log2": log2, "log1p": log1p, "tanh": tanh,
    "sinh": sinh, "cosh": cosh, "erf": erf, "erfc": erfc, "cos_turns": cos_turns, "sin_turns": sin_turns,
}  # fmt: skip
