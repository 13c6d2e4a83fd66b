"""The primitive stations on SimPy events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from simulator.engines.simpy.stations.batch import BatchStation
from simulator.engines.simpy.stations.breaker import BreakerStation
from simulator.engines.simpy.stations.bucket import BucketStation
from simulator.engines.simpy.stations.budget import BudgetStation
from simulator.engines.simpy.stations.external import ExternalStation, Serve
from simulator.engines.simpy.stations.gauge import GaugeStation
from simulator.engines.simpy.stations.inference import InferenceStation
from simulator.engines.simpy.stations.keyed_locks import KeyedLocksStation
from simulator.engines.simpy.stations.pool import PoolStation
from simulator.engines.simpy.stations.quota import QuotaStation
from simulator.engines.simpy.stations.servers import ServersStation
from simulator.engines.simpy.stations.sharing import SharingStation
from simulator.engines.simpy.stations.station import Station
from simulator.engines.simpy.stations.store import StoreStation
from simulator.errors import UsageError
from simulator.program import stations as specs
from simulator.program.stations import (
    Batch,
    Breaker,
    Bucket,
    Budget,
    External,
    Gauge,
    Inference,
    KeyedLocks,
    Pool,
    Servers,
    Sharing,
    Store,
)

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine


def station_of(engine: Engine, spec: specs.Station, serves: Mapping[str, Serve]) -> Station:
    """The station of a specification; `serves` are the users' own, by name."""
    match spec:
        case Servers():
            return ServersStation(engine, spec)
        case Sharing():
            return SharingStation(engine, spec) if spec.quota is None else QuotaStation(engine, spec, spec.quota)
        case Pool():
            return PoolStation(engine, spec)
        case KeyedLocks():
            return KeyedLocksStation(engine, spec)
        case Bucket():
            return BucketStation(engine, spec)
        case Batch():
            return BatchStation(engine, spec)
        case Inference():
            return InferenceStation(engine, spec)
        case Breaker():
            return BreakerStation(engine, spec)
        case Budget():
            return BudgetStation(engine, spec)
        case Store():
            return StoreStation(engine, spec)
        case Gauge():
            return GaugeStation(engine, spec)
        case External():
            if spec.name not in serves:
                raise UsageError(f"no process was given for the station {spec.name!r}: pass processes={{...}}")
            return ExternalStation(engine, spec, serves[spec.name])
