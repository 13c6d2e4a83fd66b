"""Compiling the kernel."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numba  # type: ignore[import-untyped,unused-ignore]

from simulator.engines.compiled.kernel import advance
from simulator.engines.compiled.pointers import OPTIONS

Kernel = Callable[[int, int], int]


@lru_cache(maxsize=1)
def kernel() -> Kernel:
    """The compiled kernel."""
    function: Kernel = numba.njit("int64(int64, int64)", nogil=True, **OPTIONS)(advance)
    return function
