"""Network between hosts: latency by how far their places are apart. Bandwidth is a matter of the hosts' NICs.

A place is `region/zone/rack`, of which the end may be left out: `eu-west/1a/rack3`, `eu-west/1a`. A name without a
slash is read as what it is at Amazon or Google: a region (`eu-west-1`, `europe-west1`) or region and zone
(`eu-west-1a`, `europe-west1-b`); any other (`zone-a`) as a zone of one region without a name. Two hosts are as far
apart as the first part in which their places differ; of what is not said (a rack), they differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from simulator.model.distribution import DurationDistribution
from simulator.model.part import Part

CLOUD = re.compile(r"(?P<region>[a-z]+(-[a-z]+)+-?\d+)(-?(?P<zone>[a-z]))?")
PLACE = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*){0,2}")


@dataclass(frozen=True, slots=True)
class Location:
    """A place, part by part; empty where it is not said."""

    region: str
    zone: str = ""
    rack: str = ""

    @classmethod
    def of(cls, place: str) -> Location:
        """The parts of a place as written; raises ValueError where it is none."""
        if not PLACE.fullmatch(place):
            raise ValueError(f"got the place {place!r}, expected region/zone/rack, such as eu-west/1a or eu-west-1a")
        if "/" in place:
            return cls(*place.split("/"))
        cloud = CLOUD.fullmatch(place)
        return cls(cloud["region"], cloud["zone"] or "") if cloud else cls("", place)


class Network(Part):
    """What lies between hosts.

    Latencies are one-way: of a call, and again of its answer. Between two hosts that have a place it is that of their
    distance, unless `latency` says that it is the same between all hosts.
    """

    latency: DurationDistribution | None = None
    """Between hosts of different names, wherever they are; where left out, that of the distance between their places,
    or none where they have no place."""
    within_rack: DurationDistribution = DurationDistribution.model_validate("25 us")
    """Between two machines of one rack: one switch. 10 to 50 µs with kernel TCP."""
    within_zone: DurationDistribution = DurationDistribution.model_validate("100 us")
    """Between racks of one data centre or zone. 50 to 250 µs: Dean's rule of thumb is a round trip of 500 µs, and pings
    inside an AWS zone take about 200 µs."""
    within_region: DurationDistribution = DurationDistribution.model_validate("400 us")
    """Between the zones of a region. AWS promises single-digit milliseconds a round trip; measured are 0.3 to 1.5 ms
    (bitsand.cloud/posts/cross-az-latencies, flashgrid.io on latencies between availability zones): 150 to 750 µs."""
    between_regions: DurationDistribution = DurationDistribution.model_validate("40 ms")
    """Between regions: 5 µs per km of fibre and detours. 5 ms (neighbours) to 150 ms (antipodes), 35 ms across the
    Atlantic (cloudping.co)."""

    def between(self, one: Location, other: Location) -> DurationDistribution:
        """The latency between two hosts by their distance."""
        if one.region != other.region:
            return self.between_regions
        if one.zone != other.zone:
            return self.within_region
        return self.within_rack if one.rack and one.rack == other.rack else self.within_zone
