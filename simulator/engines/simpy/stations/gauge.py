"""Numbers that instructions read and change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.engines.simpy.stations.station import Station
from simulator.program.stations import Gauge

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine


class GaugeStation(Station):
    """`Gauge`: a level, integrated over time."""

    def __init__(self, engine: Engine, spec: Gauge) -> None:
        super().__init__(engine)
        self.level = spec.level

    def account(self) -> float:
        """Bring the integral up to now."""
        now = self.engine.environment.now
        span = now - self.last
        if span > 0.0:
            self.busy_area += span * self.level
            self.last = now
        return now

    def set(self, level: float) -> None:
        """Change the level."""
        self.account()
        self.level = level
