"""Properties in which every shipped model has to agree with sense, whatever it is of; new models are found."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import simulator as sim
from simulator.program import instructions as ops
from simulator.program.program import Program, Users
from simulator.program.stations import Batch, Bucket, Inference, Sharing
from simulator.results.conservation import check

MODELS = Path(__file__).parent.parent / "models"
NO_SYSTEMS = {"hardware", "llms.yaml"}
PATHS = sorted(path for path in MODELS.rglob("*.yaml") if not NO_SYSTEMS & set(path.relative_to(MODELS).parts))
NAMES = [str(path.relative_to(MODELS).with_suffix("")) for path in PATHS]
EVERY_MODEL = pytest.mark.parametrize("path", PATHS, ids=NAMES)
UNLIMITED = {"techniques/llm-gateway/before"}  # only asks a provider, without limits
REQUESTS = 3000
pytestmark = pytest.mark.slow
EXACT = 1e-9

# Least and largest ratio of the simulated time without waiting to the one that `check` says, where that one is an
# approximation: see `simulator.analytic.demands`, and what these models are of.
APPROXIMATE = {
    "examples/repairs": (1.0, 1.6),  # requests also meet faults, however few they are
    "lab/cpu-quota-closed": (1.0, 4.5),  # a quota stops a request of more than it though nobody else is there
}


def name_of(path: Path) -> str:
    return NAMES[PATHS.index(path)]


@cache
def load(path: Path, *overrides: str) -> sim.System:
    return sim.load(path, overrides)


@cache
def facts_of(path: Path, *overrides: str) -> Any:
    return sim.facts(sim.lower(load(path, *overrides)))


def saturations(facts: Any) -> dict[str, float]:
    """Every throughput and load factor at which something saturates."""
    alone = {each.workload: each.saturation_throughput for each in facts.workloads}
    return {**alone, "all together": facts.saturation_factor}


def capacities(path: Path) -> list[str]:
    """Overrides that double one capacity each, those left out that the rest of the model does not go with."""
    return [change for change in _capacities(load(path)) if _is_possible(path, change)]


def _is_possible(path: Path, change: str) -> bool:
    try:
        load(path, change)
    except sim.InputError:
        return False
    return True


def _capacities(system: sim.System) -> Iterator[str]:
    def doubled(path: str, value: Any, unit: str = "") -> Iterator[str]:
        if value is not None:
            yield f"{path}={2 * value!r}{unit}"

    for name, host in system.hosts.items():
        yield from doubled(f"hosts.{name}.cpu.cores", host.cpu.cores)
        yield from doubled(f"hosts.{name}.count", host.count)
        for part, field, unit in (("disk", "iops", ""), ("disk", "bandwidth", " B/s"), ("nic", "bandwidth", " B/s")):
            yield from doubled(f"hosts.{name}.{part}.{field}", getattr(getattr(host, part), field, None), unit)
    for name, service in system.services.items():
        yield from doubled(f"services.{name}.workers", service.workers)
        yield from doubled(f"services.{name}.replicas", service.replicas)
        limit = service.rate_limit
        yield from doubled(f"services.{name}.rate_limit.rate", limit and limit.rate, " /s")
        client = limit and limit.per_client
        yield from doubled(f"services.{name}.rate_limit.per_client.rate", client and client.rate, " /s")
    for name, api in system.resources("externals").items():
        yield from doubled(f"externals.{name}.concurrency", api.concurrency)
    for name, broker in system.resources("brokers").items():
        for group, consumers in broker.consumers.items():
            yield from doubled(f"brokers.{name}.consumers.{group}.count", consumers.count)
    for name, llm in system.resources("llms").items():
        if llm.provider is None and llm.gateway is None:
            yield from doubled(f"llms.{name}.gpus", llm.gpus)
        if llm.prefill is not None:
            yield from doubled(f"llms.{name}.prefill.gpus", llm.prefill.gpus)
        if llm.gateway is not None:
            yield from doubled(f"llms.{name}.gateway.workers", llm.gateway.workers)
        if llm.provider is not None:
            for limit in ("requests_rate", "tokens_rate"):
                yield from doubled(f"llms.{name}.provider.{limit}", getattr(llm.provider, limit), " /s")


@EVERY_MODEL
def test_doubling_a_capacity_never_lowers_a_saturation_throughput(path):
    before = saturations(facts_of(path))
    changes = capacities(path)
    assert changes
    for change in changes:
        after = saturations(facts_of(path, change))
        lowered = [name for name in before if after[name] < before[name] * (1.0 - EXACT)]
        assert not lowered, f"{change} lowers {lowered}: {before} to {after}"


@EVERY_MODEL
def test_halving_all_demands_doubles_every_saturation_throughput(path):
    program = sim.lower(load(path))
    before, after = saturations(sim.facts(program)), saturations(sim.facts(quicker(program)))
    finite = [name for name in before if math.isfinite(before[name])]
    assert bool(finite) != (name_of(path) in UNLIMITED)
    for name in finite:
        assert after[name] == pytest.approx(2.0 * before[name], rel=1e-6), name


def quicker(program: Program) -> Program:
    """The program with all demands halved: seconds are, and bandwidths, clock rates and token rates are doubled.

    Rates are as before, and caches with them, so that hit ratios are the same.
    """
    halved, draws, changed = {}, list(program.draws), []

    def half(draw: int) -> int:
        if draw not in halved:
            halved[draw] = len(draws)
            draws.append(dataclasses.replace(draws[draw], distribution=draws[draw].distribution.scaled(0.5)))
        return halved[draw]

    for instruction in program.instructions:
        match instruction:
            case ops.Work(place=place) if not isinstance(program.stations[place.stations[0]], Sharing):
                instruction = dataclasses.replace(instruction, amount=half(instruction.amount))
            case ops.Delay():
                instruction = dataclasses.replace(instruction, amount=half(instruction.amount))
            case ops.Retry(delays=delays):
                instruction = dataclasses.replace(instruction, delays=tuple(delay / 2.0 for delay in delays))
            case ops.Scope(timeout=timeout) if timeout is not None:
                instruction = dataclasses.replace(instruction, timeout=half(timeout))
            case ops.Generate(revisit=revisit) if revisit is not None:
                idle = revisit.idle.scaled(0.5)
                instruction = dataclasses.replace(instruction, revisit=dataclasses.replace(revisit, idle=idle))
        changed.append(instruction)

    def station(each: Any) -> Any:
        match each:
            case Sharing():
                return dataclasses.replace(each, capacity=tuple(2.0 * rate for rate in each.capacity))
            case Bucket():
                return dataclasses.replace(each, rate=2.0 * each.rate)
            case Batch():
                return dataclasses.replace(each, base=half(each.base), linger=each.linger / 2.0)
            case Inference():
                no_times = {"floor", "expert_share"}
                coefficients = dataclasses.asdict(each.step)
                seconds = {name: value / 2.0 for name, value in coefficients.items() if name not in no_times}
                return dataclasses.replace(each, step=dataclasses.replace(each.step, **seconds))
            case _:
                return each

    stations = tuple(station(each) for each in program.stations)
    workloads = tuple(
        dataclasses.replace(each, source=dataclasses.replace(each.source, think=half(each.source.think)))
        if isinstance(each.source, Users)
        else each
        for each in program.workloads
    )
    return dataclasses.replace(
        program, draws=tuple(draws), instructions=tuple(changed), stations=stations, workloads=workloads
    )


def alone(system: sim.System) -> sim.System:
    """The system under a thousandth of its load, with one user where users wait for answers."""
    workloads = {
        name: workload.model_copy(
            update={"users": 1} if workload.users is not None else {} if workload.replay else workload.scaled(1e-3)
        )
        for name, workload in system.workloads.items()
    }
    return system.model_copy(update={"workloads": workloads})


@EVERY_MODEL
def test_without_waiting_a_request_takes_the_sum_of_its_demands(path):
    system = alone(load(path))
    if not system.has_steady_state:
        pytest.skip("a load that changes is not a load without waiting")
    program = sim.lower(system)
    facts = sim.facts(program)
    rate = sum(each.expected_throughput for each in facts.workloads)
    results = sim.run(system, sim.Settings(replications=8, duration=REQUESTS / rate))
    for each in facts.workloads:
        found, expected = results.workloads[each.workload].latency_s["mean"], each.zero_load_response
        least, most = APPROXIMATE.get(name_of(path), (0.995, 1.005))
        assert found.high >= least * expected, (each.workload, found, expected)
        assert found.low <= most * expected, (each.workload, found, expected)
        assert found.relative_half_width < 0.3


@EVERY_MODEL
@pytest.mark.parametrize("factor", [0.5, 1.5])
def test_work_is_conserved_below_and_above_saturation(path, factor):
    system = at_saturation(load(path), factor)
    program = sim.lower(system)
    records = sim.simulate(program, duration_of(system, program), seed=3)
    check(records, program)
    arrived, completed, failed = records.workloads[-1, :, 1:].T
    in_flight = np.array([np.isnan(table.end).sum() for table in records.requests])
    assert (arrived == completed + failed + in_flight).all()
    assert completed.sum() > 0


@EVERY_MODEL
def test_more_of_what_saturates_first_never_lowers_the_throughput_of_an_overload(path):
    system = load(path)
    if not system.has_steady_state:
        pytest.skip("a load that changes")
    if name_of(path) in UNLIMITED:
        pytest.skip("nothing saturates")
    facts = facts_of(path)
    before = saturations(facts)
    relieving = [
        change
        for change in capacities(path)
        if any(now > before[name] * 1.01 for name, now in saturations(facts_of(path, change)).items())
    ]
    assert relieving, f"nothing that can be doubled relieves {facts.saturated_resource}"
    overloaded = at_saturation(system, 1.5)
    duration = duration_of(overloaded, sim.lower(overloaded))
    done = throughput(overloaded, duration)
    for change in relieving[:2]:
        changed = load(path, change).model_copy(update={"workloads": overloaded.workloads})
        assert throughput(changed, duration) >= 0.98 * done, change


def at_saturation(system: sim.System, factor: float) -> sim.System:
    """The system at `factor` times the load that saturates it."""
    facts = sim.facts(sim.lower(system))
    if any(workload.replay for workload in system.workloads.values()):
        return system
    if math.isfinite(facts.saturation_factor):
        return system.scaled(factor * facts.saturation_factor)
    users = [each.saturation_users / each.users for each in facts.workloads if each.users]
    wanted = factor * min(users) if users and math.isfinite(min(users)) else factor
    return system.scaled(min(wanted, 10.0))


def duration_of(system: sim.System, program: Program) -> float:
    return REQUESTS / sum(each.expected_throughput for each in sim.facts(program).workloads)


def throughput(system: sim.System, duration: float) -> float:
    """Requests completed in the second half of a run, of all workloads."""
    program = sim.lower(system)
    records = sim.simulate(program, duration, seed=5)
    halves = [table.end[table.outcome == 0] > duration / 2.0 for table in records.requests]
    return sum(float(np.count_nonzero(halves[number])) for number in program.senders)


@EVERY_MODEL
def test_cost_is_positive_where_there_are_prices(path):
    system = load(path)
    priced = [host for host in system.hosts.values() if host.price]
    assert not priced or system.cost_per_hour > 0.0
    assert system.cost_per_hour >= sum(host.price * host.count for host in priced)


def test_halving_seconds_alone_does_not_double_what_a_cpu_can_do():
    """A negative control: halving only the seconds, and no bandwidth, does not double everything."""
    program = sim.lower(load(MODELS / "web-shop.yaml"))
    seconds_only = dataclasses.replace(quicker(program), stations=program.stations)
    before, after = saturations(sim.facts(program)), saturations(sim.facts(seconds_only))
    assert any(after[name] < 1.9 * before[name] for name in before)
