"""Network between hosts: propagation latency. Bandwidth is a matter of the hosts' NICs."""

from __future__ import annotations

from simulator.model.distribution import DurationDistribution
from simulator.model.part import Part


class Network(Part):
    """What lies between hosts of different names."""

    latency: DurationDistribution = DurationDistribution(constant=0.0)
    """One-way latency of a call from one host to another, and again of its answer."""
