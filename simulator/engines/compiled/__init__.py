"""The compiled engine, on Numba: the SimPy engine's trajectories, faster; the only importer of numba."""

from simulator.engines.compiled.engine import simulate

__all__ = ["simulate"]
