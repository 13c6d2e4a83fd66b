"""Philox4x64-10 in compiled code: the uniforms of `Streams.uniforms`.

Words are signed here, which changes no bit of sums, products and exclusive ors.
Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011).
"""

from __future__ import annotations

from simulator.engines.compiled.layout import as_signed
from simulator.engines.compiled.pointers import high_product, inlined, set_float

ROUNDS = 10
FIRST_FACTOR, SECOND_FACTOR = as_signed(0xD2E7470EE14C6C93), as_signed(0xCA5A826395121157)
FIRST_WEYL, SECOND_WEYL = as_signed(0x9E3779B97F4A7C15), as_signed(0xBB67AE8584CAA73B)
BITS_52 = (1 << 52) - 1
STEP = 2.0**-52


@inlined
def _words(index: int, draw: int, k: int, low: int, high: int) -> tuple[int, int, int, int]:
    """The four words of a counter [index, draw, k, 0]."""
    a, b, c, d = index, draw, k, 0
    for _ in range(ROUNDS):
        high_a, low_a = high_product(FIRST_FACTOR, a), FIRST_FACTOR * a
        high_c, low_c = high_product(SECOND_FACTOR, c), SECOND_FACTOR * c
        a, b, c, d = high_c ^ b ^ low, low_c, high_a ^ d ^ high, low_a
        low += FIRST_WEYL
        high += SECOND_WEYL
    return a, b, c, d


@inlined
def _uniform_of(word: int) -> float:
    return (float((word >> 12) & BITS_52) + 0.5) * STEP


@inlined
def uniform(index: int, draw: int, k: int, low: int, high: int) -> float:
    """The uniform of one index."""
    a, b, c, d = _words(index >> 2, draw, k, low, high)
    lane = index & 3
    return _uniform_of((a if lane == 0 else b) if lane < 2 else (c if lane == 2 else d))


@inlined
def fill_uniforms(values: int, first: int, count: int, draw: int, low: int, high: int) -> None:
    """Write the uniforms of indices first .. first + count - 1, multiples of 4, for k = 0, to an address."""
    for i in range(0, count, 4):
        a, b, c, d = _words((first + i) >> 2, draw, 0, low, high)
        set_float(values, i, _uniform_of(a))
        set_float(values, i + 1, _uniform_of(b))
        set_float(values, i + 2, _uniform_of(c))
        set_float(values, i + 3, _uniform_of(d))
