"""Demands: what requests ask of every resource, and when the first one saturates, read off a Program's code.

Nothing is simulated, so the answers are instant and carry these assumptions:

- Nothing fails for want of time or room: no fault happens, no time-out fires, no queue or memory is full. A `Fail` that
  the request's own code reaches (a failing external call, a `fail` step) ends the token, and nothing follows it, but
  where it is tried again: then tries are as many as it takes, each failing as likely as the first, and no budget bounds
  them. Branches that run beside others are taken to last as long as their first tries. Other handlers do not run.
  Gauges are as at time 0, but garbage collections come as often as they do on average.
- All instances that autoscaling may start are there.
- A balancer sends equal shares to its replicas, or shares like their weights; where a key chooses among stations or the
  ways of a switch, the shares follow from the keys' popularity, and other switches go all their ways alike.
  Replicas need not be spread equally over hosts: a resource saturates with its busiest instance.
- Every branch of a fork runs to its end. Where a fork cancels those that it does not need, that is too much.
  Only where the first answer of several is waited for, branches that begin with a constant delay (a hedged request)
  run with the probability that it passes without an answer; what they ask of resources then counts in full.
- Loops run for their mean count; how a random count is rounded is ignored.
- A pool's units are held for as long as the code between acquiring and releasing takes when nobody waits, which
  is the least that they are held. What is acquired and never released is held until its token ends.
- A fork takes as long as the last branch that it needs, by the distributions of the branches' times (see
  `simulator.analytic.branches`), taking branches for not disturbing each other.
- A batch's job waits for others as long as it may and is then alone in its batch, but asks only for its part of a full
  one: utilization is the share of the time that full batches would take, and reaches 1 where all are full.
- A message's demands are those of the request that publishes it. A publisher who waits for a message is taken to wait
  until the message's code first gets to where it acknowledges, or to its end.
- A language model's engine saturates with as many sequences as its limit or its memory lets run, or in static batches
  as full as they get; lengths of prompts and answers are known by their means and variances (see
  `simulator.analytic.inference`). Static batches have all that comes together. What a workload or an operation asks of
  them is said for it alone: where several are unlike, the open load asks for more than their sum; nothing is said where
  conversations come that find what earlier turns left. What prompts have in common is found where engines keep it,
  which is about right. A jump that depends on a register is taken as often as is estimated.
- An external station takes the seconds that its process is told.
- Stores hit as their popularities say, by the formulas of `simulator.analytic.caches`; all lookups in a store have
  one hit ratio, that of their mix, weighted by how often they come (closed workloads: at zero load).
  A time to live counts where only open workloads look the store up. A lookup that is not counted misses.
- Keyed locks, and limits of each of many clients, saturate with what their most popular key has, by the most skewed of
  the keys they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from simulator.analytic.batch_mixes import batched_demand, of_unknown_batches
from simulator.analytic.hit_ratios import entries_of, settled_reading
from simulator.analytic.limits import LimitFacts, limits
from simulator.analytic.popular_keys import capacities_of_keys, most_popular
from simulator.analytic.reading import (
    CodePath,
    Reading,
    offered_rate,
    operation_shares,
    reciprocal,
    users_of,
)
from simulator.program import instructions as ops
from simulator.program.program import Program, Users, Workload
from simulator.program.stations import capacity_of, work_unit_of

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Demand:
    """What one request asks of a resource, all its instances together.

    `demand` is in the resource's work units: seconds of servers, work of sharing (reference-core seconds, bytes),
    unit-seconds held of a pool, tokens of a bucket, lookups of a store. `capacity` is in work units a second.
    `saturation` is the throughput (1/s) of such requests alone at which the busiest instance saturates, inf where
    none does. `unit` is that of the work: `s`, `B`, `B s` (bytes held for seconds), or `1` of what is counted.
    """

    resource: str
    visits: float
    demand: float
    capacity: float
    saturation: float
    unit: str = "s"


@dataclass(frozen=True, slots=True)
class OperationFacts:
    """An operation of a workload: its share of the requests and its mean response time (s) when nobody waits."""

    operation: str
    share: float
    zero_load_response: float
    demands: tuple[Demand, ...]


@dataclass(frozen=True, slots=True)
class WorkloadFacts:
    """A workload's mean request over all its operations, and how many of them the system can do.

    Open workloads offer `offered_per_s`, NaN where all requests come at once, and think for 0 s. Closed ones have
    `users` with a mean `think` time (s), a `throughput_bound` (1/s) = min(saturation_throughput, N / (R0 + Z)) and a
    population `saturation_users` N* = (R0 + Z) * saturation_throughput from which somebody must wait (Lazowska,
    Zahorjan, Graham and Sevcik, Quantitative System Performance, section 5.2); what is the other kind's is None.
    `saturation_throughput` (1/s) is that of this workload alone and `saturated_resource` what sets it; inf and None
    where nothing does.
    """

    workload: str
    offered_per_s: float | None
    users: int | None
    think: float
    zero_load_response: float
    operations: tuple[OperationFacts, ...]
    demands: tuple[Demand, ...]
    saturated_resource: str | None
    saturation_throughput: float
    throughput_bound: float | None
    saturation_users: float | None

    @property
    def expected_throughput(self) -> float:
        """Requests a second that are offered, or that closed users send at most; infinite where all come at once."""
        rate = self.throughput_bound if self.offered_per_s is None else self.offered_per_s
        return math.inf if rate is None or math.isnan(rate) else rate


@dataclass(frozen=True, slots=True)
class MessageFacts:
    """A stream of messages: the mean age (s) at which they are processed when nobody waits.

    `published_per_s` is what the open workloads publish; None where closed ones publish too. `per_request` has how many
    a request of each workload publishes on average.
    """

    stream: str
    published_per_s: float | None
    zero_load_age: float
    per_request: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class ResourceFacts:
    """A resource under the open workloads' offered load.

    `capacity` and `demand_rate` are in work units a second, all instances together; `utilization` is their ratio,
    `busiest_utilization` that of the instance with the most to do; both exceed 1 under overload.
    `saturation_factor` is what the load must be multiplied by to bring that instance to 1.
    """

    resource: str
    kind: str
    instances: int
    capacity: float
    demand_rate: float
    utilization: float
    busiest_utilization: float
    saturation_factor: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What a Program's code says of its capacity.

    `saturation_factor` is the multiple of all open workloads' rates at which the first resource, `saturated_resource`,
    saturates, and `saturation_throughput` (1/s) their requests together then; inf and None where nothing does,
    or where there is no open workload. `limits` says of the resources that are limits which somebody has set what they
    let through. Where there are closed workloads, `busy_factor` is the multiple of all rates and numbers of users from
    which at the earliest, since users who wait send less, the first resource, `busy_resource`, is busy all the time.
    """

    workloads: tuple[WorkloadFacts, ...]
    messages: tuple[MessageFacts, ...]
    resources: tuple[ResourceFacts, ...]
    saturated_resource: str | None
    saturation_factor: float
    saturation_throughput: float
    limits: tuple[LimitFacts, ...] = ()
    busy_resource: str | None = None
    busy_factor: float = math.inf

    def saturation_of(self, resource: str) -> float | None:
        """The multiple of the open load that saturates a resource; None where none does, or for an unknown one."""
        factors = (each.saturation_factor for each in self.resources if each.resource == resource)
        return next((factor for factor in factors if factor < math.inf), None)


def facts(program: Program) -> Facts:
    """Return the demands, zero-load response times and saturation points of a Program.

    Raises `ValueError` for code that jumps back other than by `Next` and `Retry`, and for keys or choices drawn
    from a distribution without probabilities; lowering a model makes neither.
    """
    reading = settled_reading(program)
    resources = _Resources(program)
    loads = _offered_loads(program, reading)
    saturated, busiest = resources.most_loaded(loads)
    factor, under = reciprocal(busiest), resources.under(loads)
    rates = math.fsum(_rate(workload) for workload in program.foreground)
    of_users = _loads_of_users(program, reading)
    busy_resource, busy = resources.most_loaded(loads + of_users) if of_users.any() else (None, 0.0)
    return Facts(
        workloads=tuple(
            _workload_facts(workload, reading, paths, resources)
            for workload, paths in zip(program.foreground, reading.workloads, strict=True)
        ),
        messages=tuple(_message_facts(number, reading) for number in program.streams),
        resources=under,
        saturated_resource=saturated,
        saturation_factor=factor,
        saturation_throughput=factor * rates if 0 < factor < math.inf else factor,
        limits=limits(program, {each.resource: each.demand_rate for each in under}, most_popular(program)),
        busy_resource=busy_resource,
        busy_factor=reciprocal(busy),
    )


def flows(program: Program, workload: int) -> Floats:
    """Return how often a request of workload number `workload` executes each instruction, on average.

    Shape (instructions,); the mean over the workload's operations. Raises as `facts` does.
    """
    reading = settled_reading(program)
    flow = np.zeros(len(program.instructions))
    spec = program.workloads[workload]
    for share, path in zip(operation_shares(spec), reading.workloads[workload], strict=True):
        for pc, executions in path.flow.items():
            flow[pc] += share * executions
    return flow


def _offered_loads(program: Program, reading: Reading) -> Floats:
    """Work units a second that the open workloads ask of each station."""
    loads, mix = np.zeros(len(program.stations)), list[tuple[float, CodePath]]()
    for workload, paths in zip(program.foreground, reading.workloads, strict=True):
        rate = _rate(workload)
        if rate > 0.0:
            loads += _times(rate, _mixed(workload, [path.demand for path in paths]))
            mix += [(rate * share, path) for share, path in zip(operation_shares(workload), paths, strict=True)]
    return loads + _batched_loads(program, mix)


def _batched_loads(program: Program, mix: list[tuple[float, CodePath]]) -> Floats:
    """The same of stations with static batches; of what has an infinite rate alone where anything has."""
    endless = [(1.0, path) for rate, path in mix if rate == math.inf]
    return _times(math.inf, batched_demand(program, endless)) + batched_demand(
        program, [(rate, path) for rate, path in mix if rate < math.inf]
    )


def _times(rate: float, demand: Floats) -> Floats:
    """Work units a second of a rate, which is infinite for a replay that repeats arrivals all at time 0."""
    return np.multiply(rate, demand, where=demand > 0, out=np.zeros_like(demand))


def _demand(program: Program, workload: Workload, paths: list[CodePath]) -> Floats:
    """What a workload's mean request asks where no others come."""
    mix = list(zip(operation_shares(workload), paths, strict=True))
    return _mixed(workload, [path.demand for path in paths]) + batched_demand(program, mix)


def _rate(workload: Workload) -> float:
    """Mean arrivals a second; 0 where the workload is closed, or all requests come at once and so have no rate."""
    rate = offered_rate(workload)
    return 0.0 if rate is None or math.isnan(rate) else rate


def _loads_of_users(program: Program, reading: Reading) -> Floats:
    """Work units a second that the closed workloads ask of each station where nobody waits."""
    loads = np.zeros(len(program.stations))
    for workload, paths in zip(program.foreground, reading.workloads, strict=True):
        users, think = users_of(workload, reading)
        if users is not None:
            cycle = think + _response_time(workload, reading)
            loads += users * reciprocal(cycle) * _demand(program, workload, paths) if cycle > 0.0 else 0.0
    return loads


def _response_time(workload: Workload, reading: Reading) -> float:
    """Mean seconds of a workload's request where nobody waits."""
    times = [reading.time_left[entry.pc] for entry in workload.entries]
    return math.fsum(share * time for share, time in zip(operation_shares(workload), times, strict=True))


def _workload_facts(
    workload: Workload, reading: Reading, paths: list[CodePath], resources: _Resources
) -> WorkloadFacts:
    demand = _demand(reading.program, workload, paths)
    visits = _mixed(workload, [path.visits for path in paths])
    shares = operation_shares(workload)
    times = [reading.time_left[entry.pc] for entry in workload.entries]
    response_time = _response_time(workload, reading)
    saturated, busiest = resources.most_loaded(demand)
    saturation = reciprocal(busiest)
    users, think = users_of(workload, reading)
    cycle = response_time + think
    return WorkloadFacts(
        workload=workload.name,
        offered_per_s=offered_rate(workload),
        users=users,
        think=think,
        zero_load_response=response_time,
        operations=tuple(
            OperationFacts(
                entry.operation,
                share,
                time,
                resources.demands(path.visits, path.demand + batched_demand(reading.program, [(1.0, path)])),
            )
            for entry, share, time, path in zip(workload.entries, shares, times, paths, strict=True)
        ),
        demands=resources.demands(visits, demand),
        saturated_resource=saturated,
        saturation_throughput=saturation,
        throughput_bound=None if users is None else min(saturation, users * reciprocal(cycle)),
        saturation_users=None if users is None else cycle * saturation if busiest > 0 else math.inf,
    )


def _message_facts(stream: int, reading: Reading) -> MessageFacts:
    program = reading.program
    sites = {
        pc: instruction.target
        for pc, instruction in enumerate(program.instructions)
        if isinstance(instruction, ops.Publish) and instruction.stream == stream
    }
    per_request: dict[str, float] = {}
    published, weights, ages = 0.0, 0.0, 0.0
    closed = False
    for workload, entry, rate, path in entries_of(reading):
        weight = rate if math.isfinite(rate) else 1.0
        for pc in sites.keys() & path.flow.keys():
            times = entry.share * path.flow[pc]
            per_request[workload.name] = per_request.get(workload.name, 0.0) + times
            published += rate * times
            weights += weight * times
            ages += weight * times * reading.time_left[sites[pc]]
            closed |= isinstance(workload.source, Users)
    age = ages / weights if weights > 0.0 else 0.0
    return MessageFacts(program.workloads[stream].name, None if closed else published, age, per_request)


def _mixed(workload: Workload, values: list[Floats]) -> Floats:
    """The mean over a workload's operations."""
    return np.average(np.stack(values), axis=0, weights=operation_shares(workload))


class _Resources:
    """A Program's stations grouped by resource; arrays have one entry a station, or one a resource."""

    def __init__(self, program: Program) -> None:
        self.stations = program.stations
        self.groups = program.resources()
        self.names = list(self.groups)
        self.capacities = np.array([capacity_of(station) for station in program.stations], dtype=np.float64)
        for number, capacity in capacities_of_keys(program).items():
            self.capacities[number] = capacity
        self.capacities[list(of_unknown_batches(program))] = math.inf
        self.group_of = np.zeros(len(program.stations), dtype=np.intp)
        for number, members in enumerate(self.groups.values()):
            self.group_of[list(members)] = number

    def _total(self, values: Floats) -> Floats:
        totals = np.zeros(len(self.names))
        np.add.at(totals, self.group_of, values)
        return totals

    def _busiest(self, loads: Floats) -> Floats:
        """The highest utilization of a resource's instances; shape (resources,)."""
        busiest = np.zeros(len(self.names))
        limited = np.isfinite(self.capacities)
        np.maximum.at(busiest, self.group_of[limited], loads[limited] / self.capacities[limited])
        return busiest

    def most_loaded(self, loads: Floats) -> tuple[str | None, float]:
        """The resource with the busiest instance, and that instance's utilization under work units a second."""
        busiest = self._busiest(loads)
        if not busiest.any():
            return None, 0.0
        first = int(np.argmax(busiest))
        return self.names[first], float(busiest[first])

    def demands(self, visits: Floats, demand: Floats) -> tuple[Demand, ...]:
        """One for each resource that is visited."""
        columns = (self._total(visits), self._total(demand), self._total(self.capacities), self._busiest(demand))
        return tuple(
            Demand(name, seen, work, capacity, reciprocal(busiest), work_unit_of(self.stations[self.groups[name][0]]))
            for name, seen, work, capacity, busiest in zip(
                self.names, *(column.tolist() for column in columns), strict=True
            )
            if seen > 0
        )

    def under(self, loads: Floats) -> tuple[ResourceFacts, ...]:
        """Every resource under a load, work units a second for each station."""
        columns = (self._total(self.capacities), self._total(loads), self._busiest(loads))
        return tuple(
            ResourceFacts(
                resource=name,
                kind=type(self.stations[members[0]]).__name__.lower(),
                instances=len(members),
                capacity=capacity,
                demand_rate=load,
                utilization=load / capacity if capacity < math.inf else 0.0,
                busiest_utilization=busiest,
                saturation_factor=reciprocal(busiest),
            )
            for (name, members), capacity, load, busiest in zip(
                self.groups.items(), *(column.tolist() for column in columns), strict=True
            )
        )
