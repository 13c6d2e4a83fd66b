"""Logarithm, exponential and normal quantile in compiled code: the operations of `simulator.elementary`, in its order.

For one number inside the domain, where the logarithm's argument is a normal number.
"""

from __future__ import annotations

import math

import numpy as np

from simulator import elementary
from simulator.elementary import (
    CENTRAL_DENOMINATOR,
    CENTRAL_NUMERATOR,
    EXP_COEFFICIENTS,
    EXP_HIGHEST,
    EXP_LOWEST,
    FAR_TAIL_DENOMINATOR,
    FAR_TAIL_NUMERATOR,
    INVERSE_LN2,
    LN2_HIGH,
    LN2_LOW,
    LOG_COEFFICIENTS,
    TAIL_DENOMINATOR,
    TAIL_NUMERATOR,
)
from simulator.engines.compiled.pointers import bits_of, float_of, inlined

SQRT_HALF = elementary.SQRT_HALF
FRACTION, HALF_EXPONENT, MOST_EXPONENT, BIAS = (1 << 52) - 1, 1022 << 52, 2047, 1023


@inlined
def _polynomial(coefficients: tuple[float, ...], x: float) -> float:
    result = x * coefficients[-1]
    for i in range(len(coefficients) - 2, 0, -1):
        result += coefficients[i]
        result *= x
    return result + coefficients[0]


@inlined
def log(x: float) -> float:
    """Natural logarithm."""
    bits = bits_of(x)
    mantissa = float_of((bits & FRACTION) | HALF_EXPONENT)
    exponent = ((bits >> 52) & MOST_EXPONENT) - (BIAS - 1)
    if mantissa < SQRT_HALF:
        mantissa += mantissa
        exponent -= 1
    k = float(exponent)
    f = mantissa - 1.0
    s = f / (f + 2.0)
    half_square = f * f * 0.5
    square = s * s
    result = _polynomial(LOG_COEFFICIENTS, square) * square
    result += half_square
    result *= s
    result += k * LN2_LOW
    return k * LN2_HIGH - (half_square - result - f)


@inlined
def _power_of_two(exponent: int) -> float:
    return float_of((exponent + BIAS) << 52)


@inlined
def exp(x: float) -> float:
    """Exponential."""
    x = min(max(x, EXP_LOWEST), EXP_HIGHEST)
    k = np.floor(x * INVERSE_LN2 + 0.5)
    high = x - k * LN2_HIGH
    low = k * LN2_LOW
    r = high - low
    square = r * r
    c = _polynomial(EXP_COEFFICIENTS, square) * square
    c = r - c
    r *= c
    r /= 2.0 - c
    low -= r
    low -= high
    exponent = int(k)
    half = exponent >> 1
    return (1.0 - low) * _power_of_two(half) * _power_of_two(exponent - half)


@inlined
def normal_quantile(p: float) -> float:
    """Quantile of the standard normal distribution."""
    q = p - 0.5
    if abs(q) <= 0.425:
        r = 0.180625 - q * q
        return _polynomial(CENTRAL_NUMERATOR, r) / _polynomial(CENTRAL_DENOMINATOR, r) * q
    r = math.sqrt(-log(min(p, 1.0 - p)))
    if r <= 5.0:
        r -= 1.6
        size = _polynomial(TAIL_NUMERATOR, r) / _polynomial(TAIL_DENOMINATOR, r)
    else:
        r -= 5.0
        size = _polynomial(FAR_TAIL_NUMERATOR, r) / _polynomial(FAR_TAIL_DENOMINATOR, r)
    return -size if p < 0.5 else size
