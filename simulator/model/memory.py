"""Memory: bytes that requests hold; when they run out, requests wait or are turned away.

Lowers to one pool per host instance.
"""

from __future__ import annotations

from typing import ClassVar, Literal

from simulator.model.part import Part, PositiveSize
from simulator.program.builder import Builder
from simulator.program.stations import Pool


class Memory(Part):
    """The memory of one host that requests may hold."""

    bare: ClassVar[str | None] = "size"

    size: PositiveSize
    """Bytes that requests may hold."""
    when_full: Literal["wait", "reject"] = "wait"
    """What happens to a request that asks for more than is free."""

    def lower(self, builder: Builder, resource: str) -> int:
        """The station of one host instance."""
        return builder.station(Pool(resource, self.size, None if self.when_full == "wait" else 0))
