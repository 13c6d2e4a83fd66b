"""Logarithm, exponential and normal quantile that are the same to the last bit everywhere.

NumPy's SIMD ``log`` and ``exp``, the C library's and LLVM's differ in the last bit, and NumPy's differ
between processors. One different bit in one service time can reorder two events, and then every later record.
So everything that turns uniforms into draws is made here of operations that IEEE 754 rounds in one way only:
``+ - * /``, ``sqrt``, comparisons, ``floor``, and ``frexp``/``ldexp`` on normal numbers, in a fixed order and
without fused multiply-add.

Every function takes an array (or a number) of float64 and returns a new array of the same shape; the argument
is left as it is. Outside the domain the result is NaN and at its ends ±infinity, without a warning.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

SQRT_HALF = 7.07106781186547524401e-01
# The high part of ln 2 ends in 21 zero bits, so that exponent * high part is exact.
LN2_HIGH = 6.93147180369123816490e-01
LN2_LOW = 1.90821492927058770002e-10
INVERSE_LN2 = 1.44269504088896338700e00
EXP_LOWEST = -746.0  # below: 0
EXP_HIGHEST = 710.0  # above: infinity

LOG_COEFFICIENTS = (
    6.666666666666735130e-01,
    3.999999999940941908e-01,
    2.857142874366239149e-01,
    2.222219843214978396e-01,
    1.818357216161805012e-01,
    1.531383769920937332e-01,
    1.479819860511658591e-01,
)
EXP_COEFFICIENTS = (
    1.66666666666666019037e-01,
    -2.77777777770155933842e-03,
    6.61375632143793436117e-05,
    -1.65339022054652515390e-06,
    4.13813679705723846039e-08,
)

CENTRAL_NUMERATOR = (
    3.3871328727963666080e0,
    1.3314166789178437745e2,
    1.9715909503065514427e3,
    1.3731693765509461125e4,
    4.5921953931549871457e4,
    6.7265770927008700853e4,
    3.3430575583588128105e4,
    2.5090809287301226727e3,
)
CENTRAL_DENOMINATOR = (
    1.0,
    4.2313330701600911252e1,
    6.8718700749205790830e2,
    5.3941960214247511077e3,
    2.1213794301586595867e4,
    3.9307895800092710610e4,
    2.8729085735721942674e4,
    5.2264952788528545610e3,
)
TAIL_NUMERATOR = (
    1.42343711074968357734e0,
    4.63033784615654529590e0,
    5.76949722146069140550e0,
    3.64784832476320460504e0,
    1.27045825245236838258e0,
    2.41780725177450611770e-1,
    2.27238449892691845833e-2,
    7.74545014278341407640e-4,
)
TAIL_DENOMINATOR = (
    1.0,
    2.05319162663775882187e0,
    1.67638483018380384940e0,
    6.89767334985100004550e-1,
    1.48103976427480074590e-1,
    1.51986665636164571966e-2,
    5.47593808499534494600e-4,
    1.05075007164441684324e-9,
)
FAR_TAIL_NUMERATOR = (
    6.65790464350110377720e0,
    5.46378491116411436990e0,
    1.78482653991729133580e0,
    2.96560571828504891230e-1,
    2.65321895265761230930e-2,
    1.24266094738807843860e-3,
    2.71155556874348757815e-5,
    2.01033439929228813265e-7,
)
FAR_TAIL_DENOMINATOR = (
    1.0,
    5.99832206555887937690e-1,
    1.36929880922735805310e-1,
    1.48753612908506148525e-2,
    7.86869131145613259100e-4,
    1.84631831751005468180e-5,
    1.42151175831644588870e-7,
    2.04426310338993978564e-15,
)


def log(x: npt.ArrayLike) -> FloatArray:
    """Natural logarithm, within 1 ulp.

    Subnormal arguments are taken too; 0 gives -infinity, a negative number NaN.
    Source: the method and coefficients of Sun's fdlibm, ``e_log.c``: x = 2^k (1 + f) with 1 + f in [√½, √2),
    and log(1 + f) = f - (f²/2 - s (f²/2 + R(s²))), s = f / (2 + f), R the odd series in s fitted by Remez.
    """
    values = np.asarray(x, dtype=np.float64)
    regular = (values > 0.0) & (values < np.inf)
    if regular.all():
        return _log_regular(values)
    result = _log_regular(np.where(regular, values, 1.0))
    return np.where(regular, result, np.where(values == 0.0, -np.inf, np.where(values > 0.0, values, np.nan)))


def _log_regular(values: FloatArray) -> FloatArray:
    mantissa, exponent = np.frexp(np.atleast_1d(values))
    below = mantissa < SQRT_HALF
    mantissa += mantissa * below
    k = (exponent - below).astype(np.float64)
    f = mantissa
    f -= 1.0
    s = f / (f + 2.0)
    half_square = f * f
    half_square *= 0.5
    square = s * s
    result = _polynomial(LOG_COEFFICIENTS, square)
    result *= square
    result += half_square
    result *= s
    result += k * LN2_LOW
    half_square -= result
    half_square -= f
    k *= LN2_HIGH
    k -= half_square
    return k.reshape(values.shape)


def exp(x: npt.ArrayLike) -> FloatArray:
    """Exponential, within 1 ulp where the result is a normal number; beyond the range 0 or infinity.

    Source: the method and coefficients of Sun's fdlibm, ``e_exp.c``: x = k ln 2 + r with |r| <= ln 2 / 2, and
    exp(r) = 1 + r + r c / (2 - c), c = r - R(r²), R fitted by Remez.
    """
    values = np.asarray(x, dtype=np.float64)
    number = ~np.isnan(values)
    result = _exp_regular(np.fmin(np.fmax(values, EXP_LOWEST), EXP_HIGHEST))
    return result if number.all() else np.where(number, result, np.nan)


def _exp_regular(values: FloatArray) -> FloatArray:
    flat = np.atleast_1d(values)
    k = flat * INVERSE_LN2
    k += 0.5
    np.floor(k, out=k)
    high = flat - k * LN2_HIGH
    low = k * LN2_LOW
    r = high - low
    square = r * r
    c = _polynomial(EXP_COEFFICIENTS, square)
    c *= square
    c = r - c
    r *= c
    r /= 2.0 - c
    low -= r
    low -= high
    result: FloatArray = 1.0 - low
    # In two steps, for C libraries round a subnormal ldexp differently: multiplication is rounded in one way.
    exponent = k.astype(np.int32)
    half = exponent >> 1
    with np.errstate(over="ignore", under="ignore"):
        result = np.ldexp(result, half)
        result *= np.ldexp(1.0, exponent - half)
    return result.reshape(values.shape)


def power(base: npt.ArrayLike, exponent: npt.ArrayLike) -> FloatArray:
    """``base ** exponent`` for positive bases, as exp(exponent * log(base)).

    The relative error is about |exponent * log(base)| ulp. 0 to a positive power is 0, to a negative one
    infinity.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        product = np.asarray(exponent, dtype=np.float64) * log(base)
    return exp(product)


def normal_quantile(probability: npt.ArrayLike) -> FloatArray:
    """Quantile of the standard normal distribution, relative error below 1e-14; at 0 and 1 ∓infinity.

    Source: M. J. Wichura, Algorithm AS 241 (PPND16), Applied Statistics 37 (1988) 477-484.
    """
    values = np.asarray(probability, dtype=np.float64)
    p = np.atleast_1d(values)
    q = p - 0.5
    inner = np.abs(q) <= 0.425
    r = np.where(inner, 0.180625 - q * q, 0.0)
    result = _ratio(CENTRAL_NUMERATOR, CENTRAL_DENOMINATOR, r)
    result *= q
    outer = ~inner
    if outer.any():
        result[outer] = _normal_tail(p[outer])
    return result.reshape(values.shape)


def _normal_tail(p: FloatArray) -> FloatArray:
    nearest_end = np.fmin(p, 1.0 - p)
    inside = nearest_end > 0.0
    r = np.sqrt(-log(np.where(inside, nearest_end, 0.5)))
    size = np.where(
        r <= 5.0,
        _ratio(TAIL_NUMERATOR, TAIL_DENOMINATOR, r - 1.6),
        _ratio(FAR_TAIL_NUMERATOR, FAR_TAIL_DENOMINATOR, r - 5.0),
    )
    size = np.where(inside, size, np.where(nearest_end == 0.0, np.inf, np.nan))
    return np.where(p < 0.5, -size, size)


def gamma_function(x: float) -> float:
    """Γ(x) of one number x > 0, relative error below 1e-13 up to x = 30; infinity where it overflows.

    Source: Stirling's series (Abramowitz and Stegun 6.1.40) above 16, and Γ(x) = Γ(x + 1) / x below.
    """
    shift = 1.0
    while x < 16.0:
        shift *= x
        x += 1.0
    y = 1.0 / (x * x)
    series = (1 / 12 - y * (1 / 360 - y * (1 / 1260 - y * (1 / 1680 - y / 1188)))) / x
    half_log_two_pi = 0.91893853320467274178
    value = float(exp((x - 0.5) * float(log(x)) - x + half_log_two_pi + series))
    return value / shift if math.isfinite(value) else math.inf


def _polynomial(coefficients: Sequence[float], x: FloatArray) -> FloatArray:
    """Horner's rule; the first coefficient is the constant."""
    result = x * coefficients[-1]
    for coefficient in coefficients[-2:0:-1]:
        result += coefficient
        result *= x
    result += coefficients[0]
    return result


def _ratio(numerator: Sequence[float], denominator: Sequence[float], x: FloatArray) -> FloatArray:
    result = _polynomial(numerator, x)
    result /= _polynomial(denominator, x)
    return result
