"""Blocks of draws made in compiled code: the bits of `Distribution.sample`, several times faster.

NumPy makes a pass over memory for every operation; here every element is finished in turn, and what is rare (a
rejected gamma, the normal's tail) is only done where it is due. Every operation is one of those that IEEE 754
rounds in one way only, in the order of `simulator.elementary` and `simulator.distributions`, so that the values are
the same; a test compares them. A distribution that is not here is sampled by itself.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from simulator import distributions as kinds
from simulator.distributions import Distribution
from simulator.engines.compiled.choices import EXPONENTIAL, GAMMA, LOG_NORMAL, SMALL_GAMMA, STEPS, UNIFORM
from simulator.engines.compiled.compiling import compiled_once
from simulator.streams import LANES, Stream

Floats = NDArray[np.float64]

NO_TABLE: Floats = np.empty(1)
SIGNATURE = "void(int64, int64, int64, int64, int64, int64, int64, float64, float64, float64, int64)"


class Sampler:
    """Fills arrays with a stream's draws."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self.parameters = _parameters(stream.distribution)
        if self.parameters is not None:
            self.function = filling()
            self.key = _key(stream)
            self.kind, self.numbers, self.table = self.parameters
            self.table_address = self.table.ctypes.data

    def fill(self, values: Floats, first: int, draw: int = 0) -> None:
        """Write the draws of indices first, first + 1, ... of draw number `draw`: those of `stream.block`."""
        count = len(values)
        if self.parameters is None or first % LANES or count % LANES:
            values[:] = self.stream.block(first, count, draw)
        else:
            self.function(
                values.ctypes.data, self.kind, first, count, draw, *self.key, *self.numbers, self.table_address
            )

    def block(self, first: int, count: int, draw: int = 0) -> Floats:
        """A new array of draws."""
        values = np.empty(count)
        self.fill(values, first, draw)
        return values


def _key(stream: Stream) -> tuple[int, int]:
    """A stream's key (see `simulator.streams`) as two signed words."""
    text = f"{stream.streams.seed} {stream.streams.replication} {stream.name}".encode()
    low, high = np.frombuffer(hashlib.blake2b(text, digest_size=16).digest(), "<i8").tolist()
    return low, high


def _parameters(distribution: Distribution) -> tuple[int, tuple[float, float, float], Floats] | None:
    """Kind of a distribution with three numbers and a table, or None for one that is not here."""
    match distribution:
        case kinds.Exponential(mean):
            return EXPONENTIAL, (-mean, 0.0, 0.0), NO_TABLE
        case kinds.StandardUniform():
            return UNIFORM, (1.0, 0.0, 0.0), NO_TABLE
        case kinds.Uniform(low, high):
            return UNIFORM, (high - low, low, 0.0), NO_TABLE
        case kinds.LogNormal(mean, cv):
            square = kinds.log_of_one_plus(cv * cv)
            return LOG_NORMAL, (math.sqrt(square), 0.5 * square, mean), NO_TABLE
        case kinds.Gamma(mean, cv):
            shape = 1.0 / (cv * cv)
            return (GAMMA if shape >= 1.0 else SMALL_GAMMA), (shape, mean / shape, 0.0), NO_TABLE
        case kinds.Zipf(count, exponent):
            return STEPS, (float(count), 0.0, 0.0), kinds.zipf_table(count, exponent)
        case kinds.Discrete(weights):
            return STEPS, (float(len(weights)), 0.0, 0.0), kinds.weights_table(weights)
    return None


def filling() -> Callable[..., None]:
    """The compiled `fill`."""
    return compiled_once("simulator.engines.compiled.filling", "fill", SIGNATURE)
