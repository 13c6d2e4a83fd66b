"""The compiled engine, on Numba: the SimPy engine's trajectories, faster; the only importer of numba."""

from simulator.engines.compiled.engine import TooDeepError, can_run, simulate

__all__ = ["TooDeepError", "can_run", "simulate"]
