"""The compiled function that fills a block of draws (see `simulator.engines.compiled.sampling`)."""

from __future__ import annotations

import math

from simulator.engines.compiled.choices import EXPONENTIAL, GAMMA, LOG_NORMAL, STEPS, UNIFORM
from simulator.engines.compiled.elementary import exp, log, normal_quantile
from simulator.engines.compiled.philox import fill_uniforms, uniform
from simulator.engines.compiled.pointers import float_at, inlined, set_float


def fill(
    values: int, kind: int, first: int, count: int, draw: int, low: int, high: int,
    a: float, b: float, c: float, table: int,
) -> None:  # fmt: skip
    """Write the draws of indices first .. first + count - 1, multiples of 4, to an address."""
    fill_uniforms(values, first, count, draw, low, high)
    if kind == EXPONENTIAL:
        for i in range(count):
            set_float(values, i, log(1.0 - float_at(values, i)) * a)
    elif kind == UNIFORM:
        for i in range(count):
            set_float(values, i, float_at(values, i) * a + b)
    elif kind == LOG_NORMAL:
        for i in range(count):
            set_float(values, i, exp(normal_quantile(float_at(values, i)) * a - b) * c)
    elif kind == STEPS:
        for i in range(count):
            set_float(values, i, float(_steps_below(table, int(a), float_at(values, i))))
    elif kind == GAMMA:
        for i in range(count):
            set_float(values, i, _gamma(a, first + i, draw, low, high, 0, float_at(values, i)) * b)
    else:
        for i in range(count):
            boost = exp((1.0 / a) * log(float_at(values, i)))
            start = uniform(first + i, draw, 1, low, high)
            set_float(values, i, boost * _gamma(a + 1.0, first + i, draw, low, high, 1, start) * b)


@inlined
def _gamma(shape: float, index: int, draw: int, low: int, high: int, k: int, first_uniform: float) -> float:
    """Gamma of scale 1 by rejection: `distributions._gamma_of_attempts` for one element."""
    d = shape - 1.0 / 3.0
    c = 1.0 / math.sqrt(9.0 * d)
    u = first_uniform
    while True:
        normal = normal_quantile(u)
        root = 1.0 + c * normal
        if root > 0.0:
            v = root * root * root
            bound = 0.5 * (normal * normal) + d * (1.0 - v + log(v))
            if log(uniform(index, draw, k + 1, low, high)) < bound:
                return d * v
        k += 2
        u = uniform(index, draw, k, low, high)


@inlined
def _steps_below(table: int, size: int, u: float) -> int:
    """How many entries of an ascending table are at most u: `searchsorted(table, u, side="right")`."""
    start = 0
    while size > 1:
        half = size >> 1
        start += half if float_at(table, start + half - 1) <= u else 0
        size -= half
    return start + (1 if float_at(table, start) <= u else 0)
