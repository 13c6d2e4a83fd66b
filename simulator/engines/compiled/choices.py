"""The numbers by which compiled code knows what a Program chooses among, which Python writes into its tables."""

from __future__ import annotations

from simulator.program.instructions import Arithmetic
from simulator.program.program import Policy
from simulator.program.stations import Discipline, Eviction

FIFO, LIFO, PRIORITY = range(3)
DISCIPLINES = {Discipline.FIFO: FIFO, Discipline.LIFO: LIFO, Discipline.PRIORITY: PRIORITY}

LRU, OLDEST, LFU = range(3)
EVICTIONS = {Eviction.LRU: LRU, Eviction.FIFO: OLDEST, Eviction.LFU: LFU}

ROUND_ROBIN, RANDOM, LEAST_OUTSTANDING, POWER_OF_TWO, WEIGHTED = range(5)
POLICIES = {
    Policy.ROUND_ROBIN: ROUND_ROBIN,
    Policy.RANDOM: RANDOM,
    Policy.LEAST_OUTSTANDING: LEAST_OUTSTANDING,
    Policy.POWER_OF_TWO: POWER_OF_TWO,
    Policy.WEIGHTED: WEIGHTED,
}

ADDITION, SUBTRACTION, LEAST, MOST = range(4)
ARITHMETIC = {
    Arithmetic.ADD: ADDITION,
    Arithmetic.SUBTRACT: SUBTRACTION,
    Arithmetic.LEAST: LEAST,
    Arithmetic.MOST: MOST,
}

EXPONENTIAL, UNIFORM, LOG_NORMAL, GAMMA, SMALL_GAMMA, STEPS = range(6)
"""Kinds of draws."""

OFF, JOINED = -1, 0
"""Of an instance that autoscaling may start, in place of the time when it was started."""
