"""Summary: replications of a model become Results."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np

from simulator.analytic.demands import Facts
from simulator.model.system import System
from simulator.program.arrivals import Replay
from simulator.program.program import Program, Users
from simulator.program.stations import Gauge, Store, capacity_of
from simulator.results.batches import von_neumann_ok
from simulator.results.completion import is_too_short, too_short
from simulator.results.cost import cost_of, mean_replicas
from simulator.results.estimate import Estimate, mean_interval
from simulator.results.faults import fault_results, fault_warnings
from simulator.results.gateways import gateway_results
from simulator.results.limits import limit_warnings
from simulator.results.metrics import MESSAGES, statistic, workloads_of
from simulator.results.overload import Overload
from simulator.results.replication import Replication
from simulator.results.resolution import resolution_warnings
from simulator.results.results import (
    ComponentTime,
    ObjectiveResult,
    OperationResult,
    ResourceResult,
    Results,
    WorkloadResult,
)
from simulator.results.section import Section, station_field
from simulator.results.statistics import (
    Statistic,
    busiest_instance,
    error_rate,
    hit_ratio,
    latencies,
    mean_of,
    mean_waiting,
    per_second,
    ratio,
    throughput,
    utilization,
)
from simulator.results.token_statistics import distribution, llm_results, tokens_result
from simulator.results.trend import filling, grows

GROWTH_CONFIDENCE = 0.999
LEAST_BATCHES = 8
EXPECTED_GROWTH_CONFIDENCE = 0.8


def _totals(replication: Replication) -> tuple[float, ...]:
    """Numbers in which replications differ unless nothing in them is random."""
    fields = [replication.stations[-1].ravel(), *(each.samples[-1] for each in replication.workloads)]
    return tuple(np.concatenate(fields).tolist())


class Summary:
    """Everything that the sections of a model's replications say, at one confidence."""

    def __init__(
        self,
        system: System,
        program: Program,
        facts: Facts,
        replications: Sequence[Replication],
        sections: Sequence[Section],
        seed: int,
    ) -> None:
        self.system = system
        self.program = program
        self.facts = facts
        self.replications = replications
        self.seed = seed
        self.confidence = system.run.confidence
        self.sections = sections
        self.overload = Overload(system, program, facts, sections)

    def results(self) -> Results:
        """The results, without what only the caller knows (precision, wall time)."""
        named = self.program.workloads
        workloads = {named[index].name: self._workload(index) for index in self.program.senders}
        messages = {named[index].name: self._workload(index) for index in self.program.streams}
        stable, verdict = self._verdict(workloads, messages)
        return Results(
            model=self.system.name,
            seed=self.seed,
            engine=self.replications[0].engine,
            replications=len(self.replications),
            confidence=self.confidence,
            simulated_s=sum(each.duration for each in self.replications),
            warm_up_s=self._warm_up(),
            replayed_s=self._replayed(),
            replay_cut_off=self.system.load_ends and any(each.last_end >= each.duration for each in self.replications),
            requests=sum(each.requests for each in self.replications),
            digest=digest_of(self.replications),
            quantile_relative_error=self._quantile_relative_error(),
            workloads=workloads,
            messages={name.removeprefix(MESSAGES): result for name, result in messages.items()},
            resources={
                name: self._resource(stations)
                for name, stations in self.program.resources().items()
                if not isinstance(self.program.stations[stations[0]], Gauge)
            },
            bottleneck=self.overload.bottleneck(self.confidence),
            stable=stable,
            verdict=verdict,
            objectives=tuple(self._objectives({**workloads, **messages})),
            cost=cost_of(self.system, self.program, self.sections, self.confidence),
            llms=llm_results(self.sections, self.program, self.confidence),
            gateways=gateway_results(self.system, self.program, self.sections, self.confidence),
            faults=fault_results(self.system, self.program, self.replications, self.sections, self.confidence),
            replicas={
                name: self._estimate(found)
                for name, found in mean_replicas(self.system, self.program, self.sections).items()
            },
            warnings=tuple(self._warnings()),
        )

    def _quantile_relative_error(self) -> float:
        every = (each for section in self.sections for workload in section.workloads for each in workload.latencies)
        return max((each.relative_error for each in every), default=0.0)

    def _estimate(self, of: Statistic) -> Estimate:
        return of.estimate(self.confidence)

    def _workload(self, index: int) -> WorkloadResult:
        sections, program = self.sections, self.program
        each = [section.workloads[index] for section in sections]
        ended = [float(one.completed + one.failed) for one in each]
        stable = not (self._backlog_grows(index) or self._waits_without_end(index))
        return WorkloadResult(
            offered_per_s=self._estimate(self._offered(index)),
            throughput_per_s=self._estimate(throughput(sections, [index])),
            error_rate=self._estimate(error_rate(sections, [index])),
            errors={
                reason: self._estimate(ratio([float(one.failures[number]) for one in each], ended))
                for number, reason in enumerate(program.reasons)
                if any(one.failures[number] for one in each)
            },
            retries_per_request=self._estimate(ratio([float(one.retries) for one in each], ended)),
            in_flight_mean=self._estimate(per_second(sections, lambda section: section.workloads[index].population)),
            backlog_growth_per_s=mean_interval([one.growth for one in each], self.confidence),
            stable=stable,
            latency_s=distribution(latencies(sections, index), self.confidence) if stable else None,
            breakdown=self._breakdown(index) if stable else {},
            operations={
                entry.operation: self._operation(index, number, stable)
                for number, entry in enumerate(program.workloads[index].entries)
            },
            tokens=tokens_result(sections, program, index, self.confidence, stable),
        )

    def _offered(self, index: int) -> Statistic:
        """Requests that come a second; of a recording replayed once its own rate, however long serving it takes."""
        source = self.program.workloads[index].source
        if self.system.load_ends and isinstance(source, Replay):
            stretches = ((section.start, section.start + section.length) for section in self.sections)
            gaps = [source.gaps_within(*stretch) for stretch in stretches]
            return ratio([float(count) for count, _ in gaps], [length for _, length in gaps])
        return per_second(self.sections, lambda section: section.workloads[index].arrived)

    def _operation(self, workload: int, operation: int, stable: bool) -> OperationResult:
        samples = latencies(self.sections, workload, operation)
        counts = [float(each.count) for each in samples]
        rate = ratio(counts, [section.length for section in self.sections])
        return OperationResult(self._estimate(rate), distribution(samples, self.confidence) if stable else None)

    def _breakdown(self, index: int) -> dict[str, ComponentTime]:
        each = [section.workloads[index] for section in self.sections]
        completed = [float(one.completed) for one in each]
        return {
            component: ComponentTime(
                self._estimate(ratio([float(one.wait[number]) for one in each], completed)),
                self._estimate(ratio([float(one.service[number]) for one in each], completed)),
            )
            for number, component in enumerate(self.program.workloads[index].components)
        }

    def _may_grow(self, index: int) -> bool:
        """Whether a workload is open, and its load stays the same."""
        return self.system.has_steady_state and not isinstance(self.program.workloads[index].source, Users)

    def _waits_without_end(self, index: int) -> bool:
        """Whether an open workload has no steady state by what analysis says, whether or not its backlog was seen."""
        return self._may_grow(index) and self.overload.waits_without_end(index)

    def _backlog_grows(self, index: int) -> bool:
        """Whether an open workload's requests in flight grow, surely and by an amount that matters."""
        if not self._may_grow(index) or self._is_too_short(index):
            return False
        offered = sum(section.workloads[index].arrived for section in self.sections)
        rate = offered / sum(section.length for section in self.sections)
        time = self._filling_time(index)
        slopes = [section.workloads[index].growth - filling(rate, section.start, time) for section in self.sections]
        expected = self.overload.saturation()[0] <= 1.0
        return grows(slopes, rate, EXPECTED_GROWTH_CONFIDENCE if expected else (1.0 + self.confidence) / 2.0)

    def _is_too_short(self, index: int) -> bool:
        """Whether the run is too short to see a request complete of a workload that is sent from outside."""
        if index not in self.program.senders:
            return False
        each = [section.workloads[index] for section in self.sections]
        return is_too_short(self.overload.facts_of(index), each, self._duration())

    def _duration(self) -> float:
        return min(each.duration for each in self.replications)

    def _filling_time(self, index: int) -> float:
        """Mean time (s) of a workload's requests when nobody waits; of messages that of those who publish them."""
        name = self.program.workloads[index].name
        times = {each.workload: each.zero_load_response for each in self.facts.workloads}
        published = {each.stream: each.per_request for each in self.facts.messages}
        if name in published:
            return max((times.get(each, 0.0) for each, count in published[name].items() if count > 0.0), default=0.0)
        return times.get(name, 0.0)

    def _verdict(self, workloads: dict[str, WorkloadResult], messages: dict[str, WorkloadResult]) -> tuple[bool, str]:
        if not self.system.has_steady_state:
            what = "a fault is scheduled" if self.system.has_scheduled_events else "a load that changes"
            return True, f"{what}: no steady state to judge"
        every = {**workloads, **messages}
        numbers = (*self.program.senders, *self.program.streams)
        growing = [self.program.workloads[each].name for each in numbers if self._backlog_grows(each)]
        unseen = [self.overload.facts_of(each) for each in self.program.senders if self._is_too_short(each)]
        seen = workloads.keys() - {each.workload for each in unseen}
        stuck = [name for name, result in workloads.items() if name in seen and _is_stuck(result)]
        overloaded, limited = self.overload.reason(), self.overload.limited()
        if growing:
            rate = sum(every[name].backlog_growth_per_s.value for name in growing)
            unit = "messages" if set(growing) <= messages.keys() else "requests"
            text = f"unstable: the backlog of {', '.join(growing)} grows by {rate:.3g} {unit}/s"
        elif stuck:
            text, overloaded = f"stuck: no request of {', '.join(stuck)} completes", ""
        elif unseen and not overloaded:
            text = too_short(unseen, self._duration())
        elif queue := self._growing_resource():
            text = f"unstable: what waits for {queue} grows without end"
        elif overloaded or not all(each.stable for each in every.values()):
            text = f"unstable: {self.overload.offered()} can be served; {self._rest(every.values())}"
        elif limited:
            return False, f"limited: {limited}"
        else:
            return True, "stable"
        return False, "; ".join(filter(None, (text, overloaded, limited)))

    @staticmethod
    def _rest(every: Iterable[WorkloadResult]) -> str:
        """What becomes of what cannot be served."""
        if all(each.stable for each in every):
            return "the rest fails or waits"
        return "the longer this lasts, the longer requests wait"

    def _growing_resource(self) -> str | None:
        """A resource with more and more present, work that no request waits for included; None where there is none."""
        for resource, stations in self.program.resources().items():
            if isinstance(self.program.stations[stations[0]], Store):
                continue
            chosen = list(stations)
            slopes = [float(section.growth[chosen].sum()) for section in self.sections]
            arrivals = sum(float(station_field(section, stations, "arrivals").sum()) for section in self.sections)
            rate = arrivals / sum(section.length for section in self.sections)
            if grows(slopes, rate, GROWTH_CONFIDENCE, negligible=0.01):
                return resource
        return None

    def _resource(self, stations: tuple[int, ...]) -> ResourceResult:
        sections, program = self.sections, self.program
        kind = program.stations[stations[0]]
        limited = np.isfinite(sum(capacity_of(program.stations[number]) for number in stations))

        def total(name: str) -> list[float]:
            return [float(station_field(section, stations, name).sum()) for section in sections]

        lengths = [section.length for section in sections]
        return ResourceResult(
            kind=type(kind).__name__.lower(),
            instances=len(stations),
            utilization=self._estimate(utilization(sections, program, stations)) if limited else None,
            busiest_utilization=self._estimate(busiest_instance(sections, program, stations)) if limited else None,
            queue_mean=self._estimate(mean_waiting(sections, stations)),
            arrivals_per_s=self._estimate(ratio(total("arrivals"), lengths)),
            rejections_per_s=self._estimate(ratio(total("rejections"), lengths)),
            hit_ratio=self._estimate(hit_ratio(sections, stations)) if isinstance(kind, Store) else None,
        )

    def _objectives(self, workloads: dict[str, WorkloadResult]) -> list[ObjectiveResult]:
        found = []
        for objective in self.system.objectives:
            metric = objective.metric
            value = self._estimate(statistic(metric, self.sections, self.program))
            concerned = [workloads[self.program.workloads[each].name] for each in workloads_of(metric, self.program)]
            if metric.dimension == "duration" and not all(result.stable for result in concerned):
                value = Estimate(float("inf"), float("inf"), float("inf"), value.n)
            sides = {objective.is_met_by(bound) for bound in (value.low, value.value, value.high)}
            decided = len(sides) == 1 and value.low == value.low
            found.append(
                ObjectiveResult(
                    str(objective), objective.target, value, objective.is_met_by(value.value), decided, metric.dimension
                )
            )
        return found

    def _warm_up(self) -> float:
        """Mean time (s) left out at the start of a replication, other than the wait for a recording's first request."""
        if self.system.load_ends:
            wanted = self.system.run.warm_up
            return wanted if isinstance(wanted, float) and self._first_arrival() < wanted else 0.0
        starts = [section.start for section in self.sections]
        return min(starts) if len(self.replications) == 1 else float(np.mean(starts))

    def _first_arrival(self) -> float:
        return min(each.first_arrival for each in self.replications)

    def _replayed(self) -> float | None:
        """Mean time (s) that is measured of a replication whose load ends."""
        if not self.system.load_ends:
            return None
        return sum(section.length for section in self.sections) / len(self.replications)

    def _warnings(self) -> list[str]:
        warnings = []
        lost = sum(not each.transient_found for each in self.replications)
        if lost and self.system.has_steady_state:
            warnings.append(
                f"the warm-up may not be over in {lost} of {len(self.replications)} replications: run longer (-d)"
            )
        duration, left_out = self.replications[0].duration, self._warm_up()
        if isinstance(self.system.run.warm_up, float) and left_out > 0.5 * duration and not self.system.load_ends:
            warnings.append(f"the warm-up leaves {duration - left_out:.3g} s of {duration:g} s: run longer (-d)")
        if len(self.replications) > 1 and len(set(map(_totals, self.replications))) == 1:
            warnings.append(
                "nothing is random here: all replications are equal, and intervals say nothing of other cases"
            )
        warnings += [f"cost without {path}, of which no price is known: give one" for path in self.system.unpriced]
        warnings += resolution_warnings(self.facts, duration)
        warnings += self._unseen()
        if self.system.has_steady_state:
            warnings += limit_warnings(self.facts, self.replications[0].duration)
        warnings += fault_warnings(self.system, self.replications)
        if len(self.replications) == 1 and not all(
            map(self._batches_are_independent, range(len(self.facts.workloads)))
        ):
            warnings.append(
                "the batches of the one replication depend on each other, so intervals are too narrow: -r 10"
            )
        if len(self.sections) < 2:
            warnings.append("one replication of a load that changes has no interval: run more (-r)")
        return warnings

    def _batches_are_independent(self, workload: int) -> bool:
        """Whether the mean latencies of the batches of one run look like independent ones."""
        means = mean_of(latencies(self.sections, workload)).sections
        return len(means) < LEAST_BATCHES or not np.isfinite(means).all() or von_neumann_ok(means)

    def _unseen(self) -> list[str]:
        """Where a run has plainly not seen what the model says of the long run."""
        warnings = []
        for index, workload in enumerate(self.facts.workloads):
            each = [section.workloads[index] for section in self.sections]
            arrived = sum(one.arrived for one in each)
            offered = self._estimate(per_second(self.sections, lambda section, i=index: section.workloads[i].arrived))  # type: ignore[misc]
            known = workload.offered_per_s
            if self.system.has_steady_state and known and _is_far(offered, known):
                warnings.append(
                    f"{workload.workload} offered {offered.value:.4g}/s, in the long run it offers {known:.4g}/s: "
                    "the run is too short to be trusted, run longer (-d)"
                )
            mean = self._estimate(mean_of(latencies(self.sections, index)))
            if not any(one.failed for one in each) and mean.high < 0.9 * workload.zero_load_response:
                warnings.append(
                    f"{workload.workload} took {mean.value:.3g} s on average, tpsim check says "
                    f"{workload.zero_load_response:.3g} s without any waiting: slow or rare paths were not seen"
                )
            unfinished = arrived - sum(one.completed + one.failed for one in each)
            if not self.system.has_steady_state and unfinished > 0.01 * arrived:
                warnings.append(
                    f"{unfinished / arrived:.0%} of the requests of {workload.workload} had not ended when the run did "
                    "and count nowhere: run longer (-d)"
                )
            if not arrived:
                warnings.append(f"no request of {workload.workload} came: run longer (-d)")
        return warnings


def _is_stuck(workload: WorkloadResult) -> bool:
    """Whether requests are there, and none completes."""
    there = workload.in_flight_mean.value > 0.0 or workload.error_rate.value > 0.0
    return workload.throughput_per_s.value == 0.0 and there


def _is_far(estimate: Estimate, known: float) -> bool:
    return abs(estimate.value / known - 1.0) > 0.05 and not estimate.contains(known)


def digest_of(replications: Sequence[Replication]) -> str:
    """One digest of all replications' records."""
    return hashlib.sha256("".join(each.digest for each in replications).encode()).hexdigest()
