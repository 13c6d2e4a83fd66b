"""Autoscalers (rule 12)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from simulator.engines.simpy.stations.gauge import GaugeStation
from simulator.program.program import Scaler

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine

OFF = -1
JOINED = 0
ROUNDING = 1e-9  # a ratio that is a whole number but for rounding asks for that many instances


class ScalerState:
    """A scaler: what it last saw, and which instances it has started.

    `starts[i]` is OFF, the number of the start that is under way, or JOINED.
    """

    def __init__(self, engine: Engine, spec: Scaler) -> None:
        self.engine = engine
        self.spec = spec
        gauge = engine.stations[spec.gauge]
        assert isinstance(gauge, GaugeStation)
        self.gauge = gauge
        self.stations = [engine.stations[number] for number in spec.stations]
        self.starts = [JOINED if i < gauge.level else OFF for i in range(spec.most)]
        self.started = 0
        self.looked = 0.0
        self.seen = 0.0
        self.lower_since = -1.0  # since when less is asked for than there is; -1: it is not
        self.highest = 0

    def look(self) -> range:
        """Look at the metric and act; returns the instances that are to be started, as start number `started`."""
        wanted = self._wanted(self.engine.environment.now)
        level = int(self.gauge.level)
        if wanted < level:
            self._shrink(level, wanted)
            return range(0)
        self.lower_since = -1.0
        if wanted > level:
            self.started += 1
            self.starts[level:wanted] = [self.started] * (wanted - level)
            self.gauge.set(float(wanted))
        return range(level, wanted)

    def _wanted(self, now: float) -> int:
        """Instances that the metric since the last look asks for."""
        spec, level = self.spec, self.gauge.level
        area = 0.0
        for station in self.stations:
            station.account()
            area += station.waiting_area if spec.waiting else station.busy_area
        ratio = (area - self.seen) / ((now - self.looked) * level * spec.target)
        self.looked, self.seen = now, area
        if abs(ratio - 1.0) <= spec.tolerance:
            return int(level)
        return min(max(math.ceil(level * ratio - ROUNDING), spec.least), spec.most)

    def _shrink(self, level: int, wanted: int) -> None:
        now = self.engine.environment.now
        if self.lower_since < 0.0:
            self.lower_since = now
            self.highest = wanted
        self.highest = max(self.highest, wanted)
        if now - self.lower_since < self.spec.cool_down:
            return
        exclude = self.engine.interpreter.balancers[self.spec.balancer].exclude
        for replica in range(self.highest, level):
            if self.starts[replica] == JOINED:
                exclude(replica)
            self.starts[replica] = OFF
        self.gauge.set(float(self.highest))
        self.lower_since = -1.0

    def join(self, replica: int, start: int) -> None:
        """An instance has started: let the balancer choose it, unless it is not wanted any more."""
        if self.starts[replica] == start:
            self.starts[replica] = JOINED
            self.engine.interpreter.balancers[self.spec.balancer].include(replica)
