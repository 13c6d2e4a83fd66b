"""The reference engine, on SimPy; the only importer of simpy."""

from simulator.engines.simpy.engine import Process, simulate
from simulator.engines.simpy.stations.external import Job

__all__ = ["Job", "Process", "simulate"]
