"""NIC: bandwidth each way, shared in equal parts by the transfers under way.

Lowers to two sharing stations per host instance, one for each direction. `overhead` counts what a link carries
besides the payload: with 1500-byte Ethernet frames a full packet has 1448 bytes of payload (TCP with time stamps)
in 1538 bytes on the wire (38 of Ethernet preamble, header, check sum and gap; 52 of IP and TCP headers).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from simulator.model.catalogue import Typed
from simulator.model.part import Bandwidth, Factor
from simulator.program.builder import Builder
from simulator.program.stations import Sharing


@dataclass(frozen=True, slots=True)
class NicStations:
    """The stations of one NIC."""

    outgoing: int
    incoming: int


class Nic(Typed):
    """The network interface of one host (all its ports together)."""

    section: ClassVar[str] = "nics"
    least: ClassVar[dict[str, Any]] = {"bandwidth": "1 B/s"}
    bare: ClassVar[str | None] = "bandwidth"

    bandwidth: Bandwidth
    """Each way."""
    overhead: Factor = 1.0
    """Bytes on the wire per byte of payload; 1538/1448 = 1.062 for TCP in full-size Ethernet frames."""

    def lower(self, builder: Builder, resource: str) -> NicStations:
        """The stations of one host instance; their work is bytes of payload."""
        payload = (self.bandwidth / self.overhead,)
        return NicStations(
            builder.station(Sharing(f"{resource}.out", payload, unit="B")),
            builder.station(Sharing(f"{resource}.in", payload, unit="B")),
        )
