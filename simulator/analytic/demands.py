"""Demands: what requests ask of every resource, and when the first one saturates, read off a Program's code.

Nothing is simulated, so the answers are instant and carry these assumptions:

- Nothing fails: no fault happens, no time-out fires, no queue or memory is full, so handlers and retries do not run. A
  `Fail` that the request's own code reaches (a failing external call, a `fail` step) ends the token, and nothing
  follows it. Gauges are as at time 0, but garbage collections come as often as they do on average.
- All instances that autoscaling may start are there.
- A balancer sends equal shares to its replicas, or shares like their weights; a switch goes all its ways alike;
  where a key's hash chooses, the shares follow from the keys' popularity.
  Replicas need not be spread equally over hosts: a resource saturates with its busiest instance.
- Every branch of a fork runs to its end. Where a fork cancels those that it does not need, that is too much.
  Only of hedged requests (a fork that needs one branch, whose later ones begin with a constant delay) a branch runs
  with the probability that its delay passes without an answer, taking each try's time for exponential; what it asks
  of resources then counts in full.
- Loops run for their mean count; how a random count is rounded is ignored.
- A pool's units are held for as long as the code between acquiring and releasing takes when nobody waits, which
  is the least that they are held. What is acquired and never released is held until its token ends.
- A fork takes as long as the last branch that it needs, taking each branch for its mean and branches for not
  disturbing each other: too short where it waits for all of several random ones, too long for the first of them.
- A batch's job waits for others as long as it may, is then alone in its batch, and asks for a place in a full one:
  its utilization reaches 1 where all batches are full, and says too much below that.
- A message's demands are those of the request that publishes it. A publisher who waits for a message is taken to wait
  until the message's code first gets to where it acknowledges, or to its end.
- A language model's engine saturates with as many sequences as its limit or its memory lets run, all with prompts and
  answers of mean length; what prompts have in common is found where engines keep it (see
  `simulator.analytic.inference`), which is about right; nothing is said of static batches. A jump that depends on a
  register is taken as often as is estimated.
- An external station takes the seconds that its process is told.
- Stores hit as their popularities say, by the formulas of `simulator.analytic.caches`; all lookups in a store have
  one hit ratio, that of their mix, weighted by how often they come (closed workloads: at zero load).
  A time to live counts where only open workloads look the store up. A lookup that is not counted misses.
- Keyed locks saturate with the units of their most popular key, by the most skewed of the keys they are asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.analytic.caches import che_hit_ratio, fifo_hit_ratio, lfu_hit_ratio, ttl_hit_ratio
from simulator.analytic.inference import sequences_per_second, time_alone
from simulator.analytic.keys import Keys, Sharded, keys_of, popularity_of, shards_of, shares_of
from simulator.distributions import Constant
from simulator.program import instructions as ops
from simulator.program.instructions import Place
from simulator.program.program import Entry, Messages, Program, Users, Workload
from simulator.program.stations import (
    Batch,
    Breaker,
    Eviction,
    Gauge,
    Inference,
    KeyedLocks,
    Sharing,
    Station,
    Store,
    capacity_of,
)

Floats = NDArray[np.float64]

_HIT_RATIO: dict[Eviction, Callable[[Floats, int], float]] = {
    Eviction.LRU: che_hit_ratio,
    Eviction.FIFO: fifo_hit_ratio,
    Eviction.LFU: lfu_hit_ratio,
}


@dataclass(frozen=True, slots=True)
class Demand:
    """What one request asks of a resource, all its instances together.

    `demand` is in the resource's work units: seconds of servers, work of sharing (reference-core seconds, bytes),
    unit-seconds held of a pool, tokens of a bucket, lookups of a store. `capacity` is in work units a second.
    `saturation` is the throughput (1/s) of such requests alone at which the busiest instance saturates, inf where
    none does.
    """

    resource: str
    visits: float
    demand: float
    capacity: float
    saturation: float


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

    Open workloads offer `offered_per_s` and think for 0 s. Closed ones have `users` with a mean `think` time (s), a
    `throughput_bound` (1/s) = min(saturation_throughput, N / (R0 + Z)) and a population `saturation_users` N* =
    (R0 + Z) * saturation_throughput from which somebody must wait (Lazowska, Zahorjan, Graham and Sevcik,
    Quantitative System Performance, section 5.2); what is the other kind's is None. `saturation_throughput` (1/s)
    is that of this workload alone and `saturated_resource` what sets it; inf and None where nothing does.
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
        """Requests a second that are offered, or that closed users send at most."""
        rate = self.throughput_bound if self.offered_per_s is None else self.offered_per_s
        return math.inf if rate is None else rate


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
    or where there is no open workload.
    """

    workloads: tuple[WorkloadFacts, ...]
    messages: tuple[MessageFacts, ...]
    resources: tuple[ResourceFacts, ...]
    saturated_resource: str | None
    saturation_factor: float
    saturation_throughput: float

    def saturation_of(self, resource: str) -> float | None:
        """The multiple of the open load that saturates a resource; None where none does, or for an unknown one."""
        factors = (each.saturation_factor for each in self.resources if each.resource == resource)
        return next((factor for factor in factors if factor < math.inf), None)


def facts(program: Program) -> Facts:
    """Return the demands, zero-load response times and saturation points of a Program.

    Raises `ValueError` for code that jumps back other than by `Next` and `Retry`, and for keys or choices drawn
    from a distribution without probabilities; lowering a model makes neither.
    """
    reading = _settled_reading(program)
    resources = _Resources(program)
    loads = _offered_loads(program, reading)
    saturated, busiest = resources.most_loaded(loads)
    factor = _reciprocal(busiest)
    rates = math.fsum(rate for workload in program.foreground if (rate := _offered_rate(workload)) is not None)
    return Facts(
        workloads=tuple(
            _workload_facts(workload, reading, paths, resources)
            for workload, paths in zip(program.foreground, reading.workloads, strict=True)
        ),
        messages=tuple(_message_facts(number, reading) for number in program.streams),
        resources=resources.under(loads),
        saturated_resource=saturated,
        saturation_factor=factor,
        saturation_throughput=factor * rates if 0 < factor < math.inf else factor,
    )


def flows(program: Program, workload: int) -> Floats:
    """Return how often a request of workload number `workload` executes each instruction, on average.

    Shape (instructions,); the mean over the workload's operations. Raises as `facts` does.
    """
    reading = _settled_reading(program)
    flow = np.zeros(len(program.instructions))
    spec = program.workloads[workload]
    for share, path in zip(_shares(spec), reading.workloads[workload], strict=True):
        for pc, executions in path.flow.items():
            flow[pc] += share * executions
    return flow


def _offered_loads(program: Program, reading: _Reading) -> Floats:
    """Work units a second that the open workloads ask of each station."""
    loads = np.zeros(len(program.stations))
    for workload, paths in zip(program.foreground, reading.workloads, strict=True):
        rate = _offered_rate(workload)
        if rate is not None:
            demand = _mixed(workload, [path.demand for path in paths])
            # A replay of arrivals that all come at time 0 has an infinite rate.
            loads += np.multiply(rate, demand, where=demand > 0, out=np.zeros_like(demand))
    return loads


def _workload_facts(workload: Workload, reading: _Reading, paths: list[_Path], resources: _Resources) -> WorkloadFacts:
    demand = _mixed(workload, [path.demand for path in paths])
    visits = _mixed(workload, [path.visits for path in paths])
    shares = _shares(workload)
    times = [reading.time_left[entry.pc] for entry in workload.entries]
    response_time = math.fsum(share * time for share, time in zip(shares, times, strict=True))
    saturated, busiest = resources.most_loaded(demand)
    saturation = _reciprocal(busiest)
    users, think = _users(workload, reading)
    cycle = response_time + think
    return WorkloadFacts(
        workload=workload.name,
        offered_per_s=_offered_rate(workload),
        users=users,
        think=think,
        zero_load_response=response_time,
        operations=tuple(
            OperationFacts(entry.operation, share, time, resources.demands(path.visits, path.demand))
            for entry, share, time, path in zip(workload.entries, shares, times, paths, strict=True)
        ),
        demands=resources.demands(visits, demand),
        saturated_resource=saturated,
        saturation_throughput=saturation,
        throughput_bound=None if users is None else min(saturation, users * _reciprocal(cycle)),
        saturation_users=None if users is None else cycle * saturation if busiest > 0 else math.inf,
    )


def _message_facts(stream: int, reading: _Reading) -> MessageFacts:
    program = reading.program
    sites = {
        pc: instruction.target
        for pc, instruction in enumerate(program.instructions)
        if isinstance(instruction, ops.Publish) and instruction.stream == stream
    }
    per_request: dict[str, float] = {}
    published, weights, ages = 0.0, 0.0, 0.0
    closed = False
    for workload, entry, rate, path in _entries(reading):
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


def _shares(workload: Workload) -> list[float]:
    total = math.fsum(entry.share for entry in workload.entries)
    return [entry.share / total for entry in workload.entries]


def _mixed(workload: Workload, values: list[Floats]) -> Floats:
    """The mean over a workload's operations."""
    return np.average(np.stack(values), axis=0, weights=_shares(workload))


def _offered_rate(workload: Workload) -> float | None:
    """Mean arrivals a second; None where the workload is closed."""
    return None if isinstance(workload.source, Users | Messages) else float(workload.source.mean_rate)


def _users(workload: Workload, reading: _Reading) -> tuple[int | None, float]:
    if not isinstance(workload.source, Users):
        return None, 0.0
    return workload.source.count, reading.mean(workload.source.think)


def _reciprocal(value: float) -> float:
    return 1.0 / value if value > 0.0 else math.inf


class _Resources:
    """A Program's stations grouped by resource; arrays have one entry a station, or one a resource."""

    def __init__(self, program: Program) -> None:
        self.stations = program.stations
        self.groups = program.resources()
        self.names = list(self.groups)
        self.capacities = np.array([capacity_of(station) for station in program.stations], dtype=np.float64)
        for number, capacity in _locked_capacities(program).items():
            self.capacities[number] = capacity
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
            Demand(name, seen, work, capacity, _reciprocal(busiest))
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
                saturation_factor=_reciprocal(busiest),
            )
            for (name, members), capacity, load, busiest in zip(
                self.groups.items(), *(column.tolist() for column in columns), strict=True
            )
        )


def _seconds_per_unit(station: Station) -> float:
    """Time that a unit of work takes alone."""
    return 1.0 / station.capacity[0] if isinstance(station, Sharing) else 1.0


class _Step(NamedTuple):
    """What an instruction means for the mean: its time (s), where its token goes on, and what it runs aside.

    `onward` and `aside` are instructions with how often each is gone to. Aside run the body of a loop, branches
    and messages; `time` has what the token waits for them. `ended` is 1 where the token has done its work here.
    """

    time: float = 0.0
    onward: tuple[tuple[int, float], ...] = ()
    aside: tuple[tuple[int, float], ...] = ()
    ended: float = 0.0


def _locked_capacities(program: Program) -> dict[int, float]:
    """The units of keyed locks, by station, that are held when the most popular key's are all held."""
    most: dict[int, float] = {}
    for pc, keys in keys_of(program).items():
        instruction = program.instructions[pc]
        if isinstance(instruction, ops.AcquireKey) and not _fetches_once(program.instructions[pc + 1]):
            share = float(popularity_of(keys).max())
            for number in instruction.place.stations:
                most[number] = max(most.get(number, 0.0), share)
    return {
        number: station.capacity / share
        for number, share in most.items()
        if isinstance(station := program.stations[number], KeyedLocks)
    }


def _fetches_once(following: ops.Instruction) -> bool:
    """Whether keyed locks are those of a single flight: who has waited finds the key, and holds it for no time."""
    return isinstance(following, ops.Lookup) and not following.counted


class _Target(NamedTuple):
    """A place, and where keys choose among its stations, the share that each gets."""

    place: Place
    shares: tuple[float, ...] | None


@dataclass(slots=True)
class _Hold:
    """Units of pools that a token holds, on top of others."""

    target: _Target
    units: float
    below: _Hold | None


class _Path:
    """Mean executions by instruction (`flow`, where above 0), and visits and demand by station, of one request."""

    def __init__(self, reading: _Reading, start: int) -> None:
        self.reading = reading
        self.flow: dict[int, float] = {start: 1.0}
        self._holds: dict[int, _Hold | None] = {start: None}
        self._last = start
        self._visits: dict[_Target, float] = {}
        self._demand: dict[_Target, float] = {}
        self._weights: dict[int, tuple[float, ...]] = {}  # of the replicas that a register's number is chosen from
        self._follow(start)
        self.visits = self._by_station(self._visits)
        self.demand = self._by_station(self._demand)

    def _follow(self, start: int) -> None:
        """Visit instructions in order: flow only goes forward, for loops run their bodies aside."""
        instructions, steps, flow = self.reading.program.instructions, self.reading.steps, self.flow
        pc = start
        while pc <= self._last:
            executions = flow.get(pc)
            if executions is not None:
                step = steps[pc]
                held = self._holds[pc]
                self._occupy(held, executions * step.time)
                held = self._use(instructions[pc], pc, executions, held)
                for target, weight in step.onward:
                    self._reach(target, executions * weight, held)
                for target, weight in step.aside:
                    self._reach(target, executions * weight, None)
            pc += 1

    def _reach(self, pc: int, executions: float, held: _Hold | None) -> None:
        if executions > 0.0:
            self.flow[pc] = self.flow.get(pc, 0.0) + executions
            self._holds[pc] = held
            self._last = max(self._last, pc)

    def _occupy(self, held: _Hold | None, time: float) -> None:
        """Add the time that passes to the demand of all that is held."""
        while held is not None and time > 0.0:
            _add(self._demand, held.target, time * held.units)
            held = held.below

    def _use(self, instruction: ops.Instruction, pc: int, executions: float, held: _Hold | None) -> _Hold | None:
        """Count a visit; returns what is held afterwards."""
        match instruction:
            case ops.Acquire():
                target = self.reading.target(instruction.place, pc)
                _add(self._visits, target, executions)
                return _Hold(target, self._units(instruction), held)
            case ops.AcquireKey():
                target = self.reading.target(instruction.place, pc)
                _add(self._visits, target, executions)
                return _Hold(target, 1.0, held)
            case ops.Halt():
                return _Hold(self.reading.target(instruction.place, pc), self._capacity_at(instruction.place), held)
            case ops.Release() | ops.Resume():
                return held.below if held is not None else None
            case ops.Work() | ops.TakeTokens():
                target = self.reading.target(instruction.place, pc)
                _add(self._visits, target, executions)
                _add(self._demand, target, executions * self.reading.asked(instruction))
            case ops.Generate():
                target = self.reading.target(instruction.place, pc)
                _add(self._visits, target, executions)
                _add(self._demand, target, executions * self.reading.generation(instruction))
            case ops.Lookup(counted=True):
                target = self.reading.target(instruction.place, pc)
                _add(self._visits, target, executions)
                _add(self._demand, target, executions)
            case ops.Select():
                self._weights[instruction.register] = self.reading.program.balancers[instruction.balancer].weights
        return held

    def _capacity_at(self, place: ops.Place) -> float:
        """Mean capacity of the stations of a place, all of which is taken up while one is halted."""
        each = [capacity_of(self.reading.program.stations[number]) for number in place.stations]
        return math.fsum(each) / len(each)

    def _units(self, instruction: ops.Acquire) -> float:
        """Units that are held; a breaker's permit is none."""
        is_breaker = isinstance(self.reading.program.stations[instruction.place.stations[0]], Breaker)
        return 0.0 if is_breaker else self.reading.mean(instruction.amount)

    def _by_station(self, totals: dict[_Target, float]) -> Floats:
        """Spread what goes to places over their stations: by keys, by the weights of replicas, or equally."""
        values = np.zeros(len(self.reading.program.stations))
        for (place, shares), total in totals.items():
            weights = shares or self._weights.get(place.register) or (1.0,) * len(place.stations)
            np.add.at(values, list(place.stations), total * np.array(weights) / math.fsum(weights))
        return values


def _mean_tokens(engine: Inference, instruction: ops.Generate) -> tuple[float, float, float]:
    """Mean tokens of a prompt, of what is there of it, and of those to generate; of prompt and answer one at least."""
    if instruction.begun:
        return instruction.mean_prompt, instruction.mean_prompt, max(instruction.mean_output - 1.0, 1.0)
    cached = instruction.mean_cached if engine.prefix_caching else 0.0
    return max(instruction.mean_prompt, 1.0), cached, max(instruction.mean_output, 1.0)


def _add(totals: dict[_Target, float], target: _Target, amount: float) -> None:
    totals[target] = totals.get(target, 0.0) + amount


class _Reading:
    """A Program's code as steps, given the hit ratio of each lookup by its instruction.

    `time_left` is the mean time (s) from an instruction to the end of its token (of one turn, in a loop's body)
    or to its failure, `success` the probability of getting to that end.
    """

    def __init__(self, program: Program, hit_ratios: Mapping[int, float]) -> None:
        self.program = program
        self.hit_ratios = hit_ratios
        self._means: dict[int, float] = {}
        self._seconds: dict[tuple[int, ...], float] = {}
        self._batches = {n: each for n, each in enumerate(program.stations) if isinstance(each, Batch)}
        self._shards = shards_of(program)
        count = len(program.instructions)
        self.steps = [_Step()] * count
        self.time_left = [0.0] * (count + 1)
        self.success = [0.0] * (count + 1)
        # The mean time until so many levels are acknowledged, where anybody waits for that.
        deepest = max((each.levels for each in program.instructions if isinstance(each, ops.Acknowledge)), default=1)
        awaited = any(isinstance(each, ops.Publish) and each.awaited is not None for each in program.instructions)
        self.until = [[math.inf] * (count + 1) for _ in range(deepest + 1 if awaited else 0)]
        self._read()
        self.workloads = [[_Path(self, entry.pc) for entry in workload.entries] for workload in program.foreground]

    def _read(self) -> None:
        """Read backwards, so that what follows is known."""
        time_left, success = self.time_left, self.success
        readers = {kind: getattr(self, f"_{name}") for kind, name in _READERS.items()}
        for pc in range(len(self.steps) - 1, -1, -1):
            instruction = self.program.instructions[pc]
            reader = readers.get(type(instruction))
            step = reader(instruction, pc) if reader else _Step(onward=((pc + 1, 1.0),))
            _check_forward(pc, step)
            self.steps[pc] = step
            time_left[pc] = step.time + sum(weight * time_left[target] for target, weight in step.onward)
            success[pc] = step.ended + sum(weight * success[target] for target, weight in step.onward)
            for levels, until in enumerate(self.until, start=1):
                until[pc] = self._acknowledged_after(instruction, step, levels, until)

    def _acknowledged_after(self, instruction: ops.Instruction, step: _Step, levels: int, until: list[float]) -> float:
        """Mean time from an instruction until its token, or one that it publishes and awaits, acknowledges `levels` up.

        One level is acknowledged at the end at the latest.
        """
        if isinstance(instruction, ops.Acknowledge) and instruction.levels == levels:
            return 0.0
        if not step.onward:
            return math.inf if levels > 1 and isinstance(instruction, ops.End) else step.time
        ways = [weight * until[target] for target, weight in step.onward if weight > 0.0]
        own = step.time + sum(ways) if ways else math.inf
        if isinstance(instruction, ops.Publish) and instruction.awaited is not None and levels < len(self.until):
            return min(own, self.until[levels][instruction.target])
        return own

    def mean(self, draw: int) -> float:
        """Mean of a draw."""
        if draw not in self._means:
            spec = self.program.draws[draw]
            self._means[draw] = float(spec.distribution.mean) * spec.mean_factor
        return self._means[draw]

    def asked(self, instruction: ops.Work | ops.TakeTokens) -> float:
        """Mean work units that a visit asks for; of a batch's place, the seconds that it is held in a full one."""
        amount, stations = self.mean(instruction.amount), instruction.place.stations
        if stations[0] not in self._batches:
            return amount
        full = [self.mean(each.base) + each.most * amount for each in (self._batches[n] for n in stations)]
        return math.fsum(full) / len(full)

    def _lone_batch(self, stations: tuple[int, ...]) -> float:
        """Mean time that a job alone spends at a batch station beside its own amount."""
        alone = [
            self.mean(each.base) + (each.linger if each.most > 1 else 0.0)
            for each in map(self._batches.get, stations)
            if each
        ]
        return math.fsum(alone) / len(stations)

    def target(self, place: Place, pc: int) -> _Target:
        """Where the instruction `pc` goes."""
        shards = self._shards.get(pc)
        return _Target(place, None if shards is None else shares_of(shards, len(place.stations)))

    def _seconds_at(self, stations: tuple[int, ...]) -> float:
        """Mean time of a unit of work over the stations of a place."""
        if stations not in self._seconds:
            each = [_seconds_per_unit(self.program.stations[number]) for number in stations]
            self._seconds[stations] = math.fsum(each) / len(each)
        return self._seconds[stations]

    def _work(self, instruction: ops.Work, pc: int) -> _Step:
        stations = instruction.place.stations
        time = self.mean(instruction.amount) * self._seconds_at(stations) + self._lone_batch(stations)
        return _Step(time, ((pc + 1, 1.0),))

    def _delay(self, instruction: ops.Delay, pc: int) -> _Step:
        time = self.mean(instruction.amount)
        if instruction.scale is not None:
            gauge = self.program.stations[instruction.scale]
            assert isinstance(gauge, Gauge)
            time *= gauge.level
        return _Step(time, ((pc + 1, 1.0),))

    def _generate(self, instruction: ops.Generate, pc: int) -> _Step:
        engine = self.program.stations[instruction.place.stations[0]]
        assert isinstance(engine, Inference)
        time = time_alone(engine, *_mean_tokens(engine, instruction))
        return _Step(time, ((pc + 1, 1.0),))

    def generation(self, instruction: ops.Generate) -> float:
        """Mean sequence-seconds of an engine that is as busy as can be."""
        engine = self.program.stations[instruction.place.stations[0]]
        assert isinstance(engine, Inference)
        blocks = capacity_of(self.program.stations[engine.memory])
        if engine.static:
            return 0.0
        return engine.sequences / sequences_per_second(engine, blocks, *_mean_tokens(engine, instruction))

    def _branch(self, instruction: ops.Branch | ops.IfAtLeast, pc: int) -> _Step:
        return _Step(onward=((pc + 1, 1.0 - instruction.share), (instruction.target, instruction.share)))

    def _lookup(self, instruction: ops.Lookup, pc: int) -> _Step:
        ratio = self.hit_ratios[pc] if instruction.counted else 0.0
        return _Step(onward=((pc + 1, ratio), (instruction.miss, 1.0 - ratio)))

    def _choose(self, instruction: ops.Choose, pc: int) -> _Step:
        weights = popularity_of(self.program.draws[instruction.draw].distribution).tolist()
        return _Step(onward=tuple(zip(instruction.targets, weights, strict=False)))

    def _switch(self, instruction: ops.Switch, pc: int) -> _Step:
        share = 1.0 / len(instruction.targets)
        return _Step(onward=tuple((target, share) for target in instruction.targets))

    def _jump(self, instruction: ops.Jump, pc: int) -> _Step:
        return _Step(onward=((instruction.target, 1.0),))

    def _fork(self, instruction: ops.Fork, pc: int) -> _Step:
        times = sorted(self.time_left[target] for target in instruction.targets)
        succeeds = _enough_succeed([self.success[target] for target in instruction.targets], instruction.need)
        hedges = [self._hedge(target, instruction.targets[0]) for target in instruction.targets[1:]]
        if instruction.need == 1 and hedges and all(hedges):
            time, weights = _hedged(self.time_left[instruction.targets[0]], sorted(hedges))
            return _Step(time, ((pc + 1, succeeds),), tuple(zip(instruction.targets, weights, strict=True)))
        branches = tuple((target, 1.0) for target in instruction.targets)
        return _Step(times[instruction.need - 1], ((pc + 1, succeeds),), branches)

    def _hedge(self, pc: int, first: int) -> float:
        """The constant delay after which code takes as long as the first branch; 0 where it does not."""
        instruction = self.program.instructions[pc]
        if not isinstance(instruction, ops.Delay):
            return 0.0
        distribution = self.program.draws[instruction.amount].distribution
        alike = math.isclose(self.time_left[pc + 1], self.time_left[first], rel_tol=1e-9)
        return distribution.value if isinstance(distribution, Constant) and alike else 0.0

    def _publish(self, instruction: ops.Publish, pc: int) -> _Step:
        time = 0.0 if instruction.awaited is None else self.until[0][instruction.target]
        return _Step(time, ((pc + 1, 1.0),), ((instruction.target, 1.0),))

    def _loop(self, instruction: ops.Loop, pc: int) -> _Step:
        distribution = self.program.draws[instruction.count].distribution
        mean = self.mean(instruction.count)
        count = math.floor(mean + 0.5) if isinstance(distribution, Constant) else mean
        turns, finishes = _turns(count, self.success[pc + 1])
        return _Step(turns * self.time_left[pc + 1], ((instruction.exit, finishes),), ((pc + 1, turns),))

    def _end(self, instruction: ops.End | ops.Next, pc: int) -> _Step:
        return _Step(ended=1.0)

    def _stop(self, instruction: ops.Fail | ops.Retry, pc: int) -> _Step:
        return _Step()


_READERS: dict[type[ops.Instruction], str] = {
    ops.Work: "work", ops.Delay: "delay", ops.Lookup: "lookup", ops.Choose: "choose", ops.Jump: "jump",
    ops.Switch: "switch", ops.Branch: "branch", ops.IfAtLeast: "branch", ops.Generate: "generate",
    ops.Fork: "fork", ops.Publish: "publish", ops.Loop: "loop", ops.Next: "end", ops.End: "end",
    ops.Fail: "stop", ops.Retry: "stop",
}  # fmt: skip


def _check_forward(pc: int, step: _Step) -> None:
    for target, _ in (*step.onward, *step.aside):
        if target <= pc:
            raise ValueError(f"instruction {pc} jumps back to {target}: only Next and Retry may")


def _hedged(mean: float, delays: list[float]) -> tuple[float, list[float]]:
    """Mean time to the first of several equal exponential tries, and each try's probability of being made.

    Try k starts `delays[k - 1]` after the first if none has ended by then; with k under way the first ends at k / mean.
    """
    if mean <= 0.0:
        return 0.0, [1.0, *(0.0 for _ in delays)]
    time, unanswered, weights = 0.0, 1.0, [1.0]
    for tries, (start, stop) in enumerate(pairwise([0.0, *delays, math.inf]), 1):
        left = unanswered * math.exp(-tries * (stop - start) / mean)
        time += (unanswered - left) * mean / tries
        unanswered = left
        weights.append(left)
    return time, weights[:-1]


def _turns(count: float, success: float) -> tuple[float, float]:
    """Mean turns of a loop whose turns succeed with that probability, and the probability that all do."""
    if success >= 1.0:
        return count, 1.0
    if count <= 1.0:
        return count, 1.0 - count * (1.0 - success)
    finishes = success**count
    return (1.0 - finishes) / (1.0 - success), finishes


def _enough_succeed(probabilities: list[float], need: int) -> float:
    """Probability that at least `need` of independent branches succeed."""
    if all(probability >= 1.0 for probability in probabilities):
        return 1.0
    counts = np.ones(1)  # probabilities of the number of successes so far
    for probability in probabilities:
        counts = np.convolve(counts, (1.0 - probability, probability))
    return float(min(counts[need:].sum(), 1.0))


@dataclass(frozen=True, slots=True)
class _Request:
    """A lookup's traffic to a store: keys, rate (1/s) to weigh it by, and whether that is an offered rate."""

    keys: Keys
    rate: float = 1.0
    known: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class StoreFacts:
    """What a store is asked for: the `popularity` of each key from 0 on, and its hit ratio in the long run.

    `rate` (1/s) is that of the lookups of open workloads, None where closed ones come too.
    """

    popularity: Floats
    hit_ratio: float
    rate: float | None


def stores(program: Program) -> dict[int, StoreFacts]:
    """The stores that are looked up, by station number. Raises as `facts` does."""
    keys = _lookups(program)
    reading = _Reading(program, _hit_ratios(program, {pc: [_Request(drawn)] for pc, drawn in keys.items()}))
    found = {}
    for number, requests in _traffic(program, _rated(reading, keys)).items():
        total = math.fsum(request.rate for request in requests)
        if total > 0.0:
            known = all(request.known for request in requests)
            ratio = _store_hit_ratio(_store(program, number), requests)
            found[number] = StoreFacts(_popularity(_mix(requests)), ratio, total if known else None)
    return found


def _lookups(program: Program) -> dict[int, Keys]:
    """The keys of lookups that count, by instruction."""
    return {
        pc: asked
        for pc, asked in keys_of(program).items()
        if isinstance(instruction := program.instructions[pc], ops.Lookup) and instruction.counted
    }


def _settled_reading(program: Program) -> _Reading:
    """Read with all lookups weighing the same; where hit ratios depend on rates, read again at the rates so found."""
    keys = _lookups(program)
    reading = _Reading(program, _hit_ratios(program, {pc: [_Request(drawn)] for pc, drawn in keys.items()}))
    return _Reading(program, _hit_ratios(program, _rated(reading, keys))) if _need_rates(program, keys) else reading


def _rated(reading: _Reading, keys: Mapping[int, Keys]) -> dict[int, list[_Request]]:
    """The traffic of each lookup, weighed by how often it comes."""
    requests: dict[int, list[_Request]] = {pc: [] for pc in keys}
    for workload, entry, rate, path in _entries(reading):
        known = not isinstance(workload.source, Users) and math.isfinite(rate)
        for pc in keys.keys() & path.flow.keys():
            weight = rate if math.isfinite(rate) else 1.0
            requests[pc].append(_Request(keys[pc], weight * entry.share * path.flow[pc], known))
    return requests


def _entries(reading: _Reading) -> Iterator[tuple[Workload, Entry, float, _Path]]:
    """Every operation of every workload, with the workload's rate: offered, or of closed ones at zero load."""
    for workload, paths in zip(reading.program.foreground, reading.workloads, strict=True):
        rate = _offered_rate(workload)
        if rate is None:
            users, think = _users(workload, reading)
            times = [reading.time_left[entry.pc] for entry in workload.entries]
            cycle = think + float(np.average(times, weights=_shares(workload)))
            rate = (users or 0) * _reciprocal(cycle)
        for entry, path in zip(workload.entries, paths, strict=True):
            yield workload, entry, rate, path


def _need_rates(program: Program, keys: Mapping[int, Keys]) -> bool:
    """Whether a hit ratio depends on how often lookups come: stores with a time to live, or with several keys."""
    seen: dict[int, set[Keys]] = {}
    for pc, asked in keys.items():
        for number in _stores_of(program, pc):
            seen.setdefault(number, set()).add(asked)
    return any(len(kinds) > 1 or _store(program, number).time_to_live for number, kinds in seen.items())


def _traffic(program: Program, requests: Mapping[int, list[_Request]]) -> dict[int, list[_Request]]:
    """The requests that come to each store, by station number, of those of each lookup, by instruction."""
    sharding = shards_of(program)
    traffic: dict[int, list[_Request]] = {}
    for pc, several in requests.items():
        stations, shards = _stores_of(program, pc), sharding.get(pc)
        shares = [1.0 / len(stations)] * len(stations) if shards is None else shares_of(shards, len(stations))
        for index, (number, share) in enumerate(zip(stations, shares, strict=False)):
            traffic.setdefault(number, []).extend(
                _Request(one.keys if shards is None else Sharded(one.keys, shards, index), one.rate * share, one.known)
                for one in several
            )
    return traffic


def _stores_of(program: Program, pc: int) -> tuple[int, ...]:
    instruction: Any = program.instructions[pc]
    stations: tuple[int, ...] = instruction.place.stations
    return stations


def _store(program: Program, number: int) -> Store:
    station = program.stations[number]
    if not isinstance(station, Store):
        raise ValueError(f"a lookup in {station.resource}, which is no store")
    return station


def _hit_ratios(program: Program, requests: Mapping[int, list[_Request]]) -> dict[int, float]:
    """Hit ratio of each lookup: the mean over the stores of its place."""
    of_store = {
        number: _store_hit_ratio(_store(program, number), several)
        for number, several in _traffic(program, requests).items()
    }
    sharding, ratios = shards_of(program), {}
    for pc in requests:
        stations = _stores_of(program, pc)
        shares = shares_of(sharding[pc], len(stations)) if pc in sharding else [1.0 / len(stations)] * len(stations)
        ratios[pc] = math.fsum(share * of_store[number] for share, number in zip(shares, stations, strict=False))
    return ratios


def _store_hit_ratio(store: Store, requests: list[_Request]) -> float:
    """Hit ratio of all requests to a store together; 0 where there are none, or where others put in what they find."""
    total = math.fsum(request.rate for request in requests)
    if total <= 0.0 or store.multiset:
        return 0.0
    mix = _mix(requests)
    ratio = _policy_hit_ratio(mix, store.capacity, store.eviction)
    if store.time_to_live is None or not all(request.known for request in requests):
        return ratio
    return min(ratio, ttl_hit_ratio(_popularity(mix), total, store.time_to_live))


def _mix(requests: list[_Request]) -> tuple[tuple[Keys, float], ...]:
    """The kinds of keys with their shares of the requests."""
    weights: dict[Keys, float] = {}
    for request in requests:
        weights[request.keys] = weights.get(request.keys, 0.0) + request.rate
    total = math.fsum(weights.values())
    return tuple((keys, weight / total) for keys, weight in weights.items() if weight > 0.0)


@lru_cache(maxsize=256)
def _policy_hit_ratio(mix: tuple[tuple[Keys, float], ...], capacity: int, eviction: Eviction) -> float:
    return _HIT_RATIO[eviction](_popularity(mix), capacity)


def _popularity(mix: tuple[tuple[Keys, float], ...]) -> Floats:
    """Probability of each key among requests that draw from several distributions."""
    parts = [(popularity_of(keys), weight) for keys, weight in mix]
    total = np.zeros(max(len(part) for part, _ in parts))
    for part, weight in parts:
        if (whole := part.sum()) > 0.0:
            total[: len(part)] += weight / whole * part
    return total
