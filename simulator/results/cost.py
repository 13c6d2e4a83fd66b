"""Cost: what is rented by the hour and what is paid by the token, per hour and per request."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from simulator.model.system import System
from simulator.program.program import Program
from simulator.results.metrics import MESSAGES
from simulator.results.results import Cost
from simulator.results.section import Section, station_field
from simulator.results.statistics import Statistic, per_second, throughput
from simulator.results.token_statistics import SECONDS_PER_HOUR, usd_per_hour
from simulator.results.tokens import TokenMeters


def cost_of(system: System, program: Program, sections: Sequence[Section], confidence: float) -> Cost:
    """What a system costs while it does what the sections measured."""
    conversations = None
    if has_conversations(program):
        conversations = cost_per_request(system, program, sections, 1e3).estimate(confidence)
    return Cost(
        per_hour=rented_per_hour(system, program, sections).pooled,
        per_million_requests=cost_per_request(system, program, sections, 1e6).estimate(confidence),
        usage_per_hour=usage_per_hour(program, sections).estimate(confidence),
        per_thousand_conversations=conversations,
    )


def has_conversations(program: Program) -> bool:
    """Whether every request is a conversation: its workload has turns with tokens, which are messages of its own."""
    turns = [program.workloads[number] for number in program.streams]
    names = [turn.name for turn in turns if TokenMeters.of(turn.meters)]
    senders = [program.workloads[number].name for number in program.senders]
    return bool(names) and all(any(name.startswith(f"{MESSAGES}{sender}.") for name in names) for sender in senders)


def cost_per_hour(system: System, program: Program, sections: Sequence[Section]) -> Statistic:
    """What is rented and what is paid by the token (USD an hour)."""
    rented, used = rented_per_hour(system, program, sections), usage_per_hour(program, sections)
    return Statistic(rented.pooled + used.pooled, rented.sections + used.sections)


def cost_per_request(system: System, program: Program, sections: Sequence[Section], requests: float = 1.0) -> Statistic:
    """What so many completed requests cost (USD), everything included."""
    cost, done = cost_per_hour(system, program, sections), throughput(sections, program.senders)
    factor = requests / SECONDS_PER_HOUR
    with np.errstate(divide="ignore", invalid="ignore"):
        return Statistic(float(np.float64(cost.pooled) * factor / done.pooled), cost.sections * factor / done.sections)


def usage_per_hour(program: Program, sections: Sequence[Section]) -> Statistic:
    """What is paid by the token (USD an hour), for requests and messages that ended."""
    return usd_per_hour(sections, program, [*program.senders, *program.streams])


def rented_per_hour(system: System, program: Program, sections: Sequence[Section]) -> Statistic:
    """What hosts and resources cost (USD an hour), with as many replicas as there were on average."""
    replicas = mean_replicas(system, program, sections)
    pooled = system.cost_of({name: each.pooled for name, each in replicas.items()})
    each = [
        system.cost_of({name: float(one.sections[number]) for name, one in replicas.items()})
        for number in range(len(sections))
    ]
    return Statistic(pooled, np.array(each))


def mean_replicas(system: System, program: Program, sections: Sequence[Section]) -> dict[str, Statistic]:
    """Mean number of replicas of every service that is scaled."""
    found = {}
    for name, service in system.services.items():
        if service.scaling is not None:
            gauge = program.resources()[f"services.{name}.instances"]
            found[name] = per_second(
                sections,
                lambda section, g=gauge: float(station_field(section, g, "busy_area").sum()),  # type: ignore[misc]
            )
    return found
