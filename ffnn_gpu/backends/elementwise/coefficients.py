"""Constants and polynomials of `functions.py` for float32 and float64.

Polynomials: Remez exchange for the relative error of the whole function, in arithmetic of 50 or 60 digits on
200 to 400 Chebyshev points of the interval. From the lowest on, each coefficient is rounded to its type and
the rest are fitted again. Exceptions: erfc is fitted again by least squares, erf_far is rounded at once, and
sin_turns and cos_turns are fitted by least squares of the relative error.
"error" is the relative error of the rounded fit.

References: Cody and Waite, Software Manual for the Elementary Functions (1980): ln 2 in two parts. Shepherd
and Laframboise, Math. Comp. 36 (1981) 249: the variable (x − k)/(x + k) of erfc.
"""

from typing import NamedTuple


class Constants(NamedTuple):
    """Constants of a type of numbers. Polynomials are stored from the lowest coefficient on."""

    digits: int  # stored bits of the fraction
    bias: int  # of the exponent
    ln2: tuple[float, float]  # the sum is ln 2; n times the first is exact for every n in use
    inverse_ln2_rest: float  # 1/ln 2 minus INVERSE_LN2 rounded to this type
    root_half: int  # bits of √½
    lowest: float  # e^x rounds to 0 below
    highest: float  # e^x overflows above
    one_tanh: float  # tanh(x) rounds to 1 from here
    zero_erfc: float  # erfc(x) rounds to 0 from here
    erfc_scale: float  # k of erfc
    erfc_slope: float  # about −(x + k) erfcx′(x)/erfcx(x) for 0 ≤ x ≤ 1
    head: int  # keeps so many bits of a number that its square is exact
    exp: tuple[float, ...]  # (e^r − 1 − r)/r² on |r| ≤ ln(2)/2, for e^r − 1
    log: tuple[float, ...]  # (log(1 + f) − f + f²/2)/f³ on √½ − 1 ≤ f ≤ √2 − 1
    tanh: tuple[float, ...]  # (tanh(x)/x − 1)/x² in x² on |x| ≤ 0.55
    sinh: tuple[float, ...]  # (sinh(x)/x − 1)/x² in x² on |x| ≤ 1
    erf: tuple[float, ...]  # erf(x)/x − 1 in x² on |x| ≤ 1
    erf_far: tuple[float, ...]  # erf(x) in x − 2.5 on 1 ≤ x ≤ 4; none for float64
    turn: tuple[float, float]  # the sum is 2π
    sin_turns: tuple[float, ...]  # (sin(2πt)/t − 2π)/t² in t² on |t| ≤ 1/8
    cos_turns: tuple[float, ...]  # (cos(2πt) − 1)/t² in t² on |t| ≤ 1/8
    erfc: tuple[float, ...]  # (x + k) e^{x²} erfc(x) in (x − k)/(x + k) on 0 ≤ x ≤ zero_erfc


SINGLE = Constants(
    digits=23, bias=127, ln2=(0.693145751953125, 1.4286068e-06), inverse_ln2_rest=1.925963e-08,
    root_half=0x3F3504F3, lowest=-104.0, highest=89.0, one_tanh=10.0, zero_erfc=10.1, erfc_scale=1.09375,
    erfc_slope=1.25, head=~0xFFF,
    exp=(0.5, 0.16666666, 0.041666467, 0.008333643, 0.0013935047, 0.00019664553),  # error 5e-10
    log=(
        0.3333333, -0.25000823, 0.2000126, -0.16623342, 0.14201055, -0.13159558, 0.1276588, -0.076413594,
    ),  # error 6e-9
    tanh=(-0.33333316, 0.13332544, -0.053847548, 0.021050714, -0.006242849),  # error 2e-9
    sinh=(0.16666667, 0.0083333105, 0.00019842896, 2.7822132e-06),  # error 4e-10
    erf=(0.12837912, -0.3761232, 0.112801135, -0.026709208, 0.0049148835, -0.0005619705),  # error 5e-8
    erf_far=(
        0.9995931, 0.0021780212, -0.0054471875, 0.008353904, -0.008612041, 0.006101188, -0.00282539,
        0.00057291234, 0.00029359225, -0.0002802528, 5.871344e-05, 2.1299029e-05, -8.595745e-06,
    ),  # error 5e-8
    turn=(6.2831855, -1.7484555e-07),
    sin_turns=(-41.3417, 81.60499, -76.67613, 40.79553),  # error 1e-10
    cos_turns=(-19.739208, 64.93918, -85.4295, 58.814774),  # error 5e-10
    erfc=(
        0.8821405, -0.2961499, -0.07241242, 0.030793235, 0.02395244, 0.0034546044, -0.0043462017,
        -0.0035714875, -0.000911852, 0.00055595714, 0.0005570349, 0.00014712127,
    ),  # error 2e-8
)  # fmt: skip
DOUBLE = Constants(
    digits=52, bias=1023, ln2=(0.6931471805598903, 5.497923018708371e-14),
    inverse_ln2_rest=2.035527374093103e-17, root_half=0x3FE6A09E667F3BCD, lowest=-746.0, highest=710.0,
    one_tanh=20.0, zero_erfc=27.3, erfc_scale=2.0, erfc_slope=1.8, head=~0x7FFFFFF,
    exp=(
        0.5000000000000001, 0.1666666666666667, 0.04166666666664843, 0.008333333333327201,
        0.0013888888897397075, 0.00019841269870673328, 2.48015710701414e-05, 2.755726026421022e-06,
        2.7570850076151167e-07, 2.5103411258380815e-08, 1.679433723508531e-09,
    ),  # error 4e-18
    log=(
        0.3333333333333314, -0.24999999999987976, 0.20000000000067036, -0.16666666669826574,
        0.14285714280036918, -0.1249999969133287, 0.111111111508909, -0.10000015213662196,
        0.09090923819681619, -0.08332913245153817, 0.07691531849861792, -0.07149446277392939,
        0.06684570324151036, -0.061965940044335026, 0.05668437340942409, -0.05678310072993897,
        0.065037094607256, -0.059804476690542285, 0.02613769608483318,
    ),  # error 1e-17
    tanh=(
        -0.33333333333332316, 0.13333333333168934, -0.05396825387616513, 0.021869485976490893,
        -0.008863194523478933, 0.003591719834708103, -0.0014532173632320015, 0.0005791386472313657,
        -0.00021030484269800222, 5.102304030943799e-05,
    ),  # error 2e-17
    sinh=(
        0.16666666666666669, 0.008333333333332912, 0.00019841269841593427, 2.755731910674472e-06,
        2.505213100187316e-08, 1.6056658808849834e-10, 7.776615176489032e-13,
    ),  # error 3e-19
    erf=(
        0.12837916709551256, -0.37612638903183343, 0.11283791670936949, -0.026866170641958616,
        0.005223977596728703, -0.000854832548450088, 0.00012055280476717908, -1.4924465157753984e-05,
        1.6444143340310099e-06, -1.6183925802736952e-07, 1.3616373166552605e-08, -7.607123546515983e-10,
    ),  # error 2e-17
    erf_far=(),
    turn=(6.283185307179586, 2.4492935982947064e-16),
    sin_turns=(
        -41.34170224039976, 81.60524927607679, -76.70585975365447, 42.05869404035588, -15.094650226003163,
        3.8202222263136107, -0.7192365288805199,
    ),  # error 1e-19
    cos_turns=(
        -19.739208802178716, 64.93939402266696, -85.45681720617033, 60.244641269216075, -26.42624566441003,
        7.902860674822817, -1.6928174904600115,
    ),  # error 4e-19
    erfc=(
        1.021582705242023, -0.6871606844138106, 0.27947209255604855, -0.0364422315068742,
        -0.02151066188911065, 0.006479185067499274, 0.0030906120502863614, -0.0008372960574202441,
        -0.0006630733958259115, 3.437138016356712e-05, 0.000144469945474525, 3.4149257589623894e-05,
        -2.1692402878940622e-05, -1.612233693749566e-05, -1.137929873292476e-06, 3.64718586756526e-06,
        2.0299054547065427e-06, -2.5029309005274187e-09, -6.153611496913195e-07, -3.222974171102441e-07,
        4.4007233902123616e-08, 1.132051003490368e-07, 2.5165607284775652e-08, -1.5207048276970245e-08,
        -6.119508332389804e-09,
    ),  # error 2e-17
)  # fmt: skip
