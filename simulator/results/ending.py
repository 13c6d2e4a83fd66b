"""Loads that end: which stretch of a replication is measured, and whether its sampling times are good for that.

Nothing is measured before the first request has come, or the warm-up asked for is over, nor after the last has ended:
the time when nothing is left to do belongs to nobody, and would dilute throughput and utilization.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from simulator import units
from simulator.errors import UsageError
from simulator.records import STATION_FIELDS
from simulator.results.replication import Replication
from simulator.results.section import Section, section

AREAS = [STATION_FIELDS.index("busy_area"), STATION_FIELDS.index("waiting_area")]
PRESENT = STATION_FIELDS.index("present")
LEAST_LENGTH = 1e-9
"""Share of the time from 0 to the end below which a stretch is too short to be sampled by itself."""


def measured_stretch(replication: Replication, warm_up: float) -> tuple[float, float]:
    """From the first arrival, or after the warm-up (s), to the last end; raises UsageError where nothing is left."""
    if warm_up > 0.0 and replication.last_end <= warm_up:
        raise UsageError(
            f"the warm-up of {units.show(warm_up, 'duration')} leaves nothing to measure: "
            f"the load is over after {units.show(replication.last_end, 'duration')}"
        )
    return max(replication.first_arrival, warm_up), replication.last_end


def sampling_of_its_own(replication: Replication, warm_up: float) -> tuple[float, float] | None:
    """Begin and duration (s) with which to sample only what is measured; None where that is known without.

    It is where that is all, and where nothing is left out behind the first arrival and stations are idle without
    requests: then what they did between the sampling times around is what they did in between.
    """
    begin, end = measured_stretch(replication, warm_up)
    everything = begin == 0.0 and end == replication.duration
    if everything or end - begin <= LEAST_LENGTH * end or (warm_up == 0.0 and _idle_without_requests(replication)):
        return None
    # What happens at the first moment and at the last one belongs to it.
    return max(math.nextafter(begin, 0.0), 0.0), min(math.nextafter(end, math.inf), replication.duration)


def _idle_without_requests(replication: Replication) -> bool:
    """Whether stations plainly do nothing, and hold nothing, before the first arrival and after the last end."""
    if replication.works_aside:
        return False
    first, last = _ticks_around(replication)
    stations = replication.stations
    outside = (stations[first] - stations[0], stations[-1] - stations[last])
    return not stations[[0, -1], :, PRESENT].any() and not any(grown[:, AREAS].any() for grown in outside)


def _ticks_around(replication: Replication) -> tuple[int, int]:
    """The last sampling time before the first arrival, and the first one after the last end."""
    times = replication.times
    last = min(int(np.searchsorted(times, replication.last_end, side="right")), len(times) - 1)
    first = int(np.searchsorted(times, replication.first_arrival, side="left")) - 1
    return min(max(first, 0), last - 1), last


def section_of_ending(replication: Replication, warm_up: float) -> Section:
    """What is measured of a replication whose load ends; raises UsageError where a warm-up (s) leaves nothing."""
    begin, end = measured_stretch(replication, warm_up)
    own = replication.measured
    if own is not None:
        found = section(own, 1 if begin > 0.0 else 0, len(own.times) - 1)
    else:
        found = section(replication, *_ticks_around(replication))
    return replace(found, start=begin, length=end - begin) if end > begin else found
