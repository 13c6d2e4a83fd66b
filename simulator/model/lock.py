"""Locks: one request at a time, in the whole model, does the steps inside."""

from __future__ import annotations

from simulator.model.part import Part, WholeNumber
from simulator.program.builder import Builder
from simulator.program.stations import Pool


class LockResource(Part):
    """A mutual exclusion, such as a hot row, a table lock or a serial section."""

    queue_limit: WholeNumber | None = None
    """Requests that may wait for it; unlimited where left out."""

    def lower(self, builder: Builder, name: str) -> int:
        """A pool of one unit."""
        return builder.station(Pool(f"locks.{name}", 1.0, self.queue_limit))
