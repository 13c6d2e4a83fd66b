"""Gateways to language models: what became of prompts, what back ends did, and the accounts of API keys and teams."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from simulator.model.api_keys import NO_TEAM, ApiKey
from simulator.model.kinds.llm import Llm
from simulator.model.prompt import BACKEND_METERS, GATEWAY_METERS
from simulator.model.system import System
from simulator.program.program import Program
from simulator.records import Floats
from simulator.results.estimate import Estimate
from simulator.results.results import (
    AccountResult,
    BackendResult,
    GatewayResult,
    OccurrenceResult,
    UsageResult,
)
from simulator.results.section import Section
from simulator.results.statistics import Statistic, ratio
from simulator.results.token_statistics import SECONDS_PER_HOUR
from simulator.results.tokens import LLM, TokenMeters, TokenSection


def gateway_results(
    system: System, program: Program, sections: Sequence[Section], confidence: float
) -> dict[str, GatewayResult]:
    """What there is to say of every gateway that a request can come to, by name."""
    sums = _Sums(program, sections, confidence)
    found = {}
    for name, llm in _llms(system).items():
        if llm.gateway is not None and sums.has(f"{LLM}{name}.{GATEWAY_METERS[0]}"):
            rents = {f"{LLM}{each}": spec.cost_per_hour for each, spec in _llms(system).items()}
            ledger = _Ledger(sums, name, llm.gateway.keys, rents)
            found[name] = ledger.result(list(llm.gateway.backends))
    return found


def _llms(system: System) -> dict[str, Llm]:
    return {name: llm for name, llm in system.resources("llms").items() if isinstance(llm, Llm)}


class _Sums:
    """Sums of meters over all that is reported of a Program, by section."""

    def __init__(self, program: Program, sections: Sequence[Section], confidence: float) -> None:
        self.sections = sections
        self.confidence = confidence
        self.lengths = [section.length for section in sections]
        reported = [*program.senders, *program.streams]
        self.meters = {number: TokenMeters.of(program.workloads[number].meters) for number in reported}
        self.numbers = {
            number: {name: index for index, name in enumerate(program.workloads[number].meters)} for number in reported
        }

    def has(self, meter: str) -> bool:
        """Whether any request has a meter of that name."""
        return any(meter in names for names in self.numbers.values())

    def named(self, meter: str, keys: Sequence[tuple[str, str]] | None = None) -> list[float]:
        """What the meter of that name grew by; of requests with one of some API keys, or of all (None)."""
        chosen = {number: [names[meter]] for number, names in self.numbers.items() if meter in names}
        return self._grown(chosen, keys)

    def tokens(
        self, kind: str, gateway: str | None, llm: str | None, keys: Sequence[tuple[str, str]] | None = None
    ) -> list[float]:
        """The same of the meters of one kind, a field of `Usage`: of one gateway's accounts, of one LLM, or of all."""
        return self._grown({number: m.counting(kind, gateway, llm) for number, m in self.meters.items()}, keys)

    def _grown(self, meters: Mapping[int, list[int]], keys: Sequence[tuple[str, str]] | None) -> list[float]:
        return [
            sum(
                float(grown[chosen].sum())
                for number, chosen in meters.items()
                for grown in _of_keys(section.workloads[number].tokens, keys)
            )
            for section in self.sections
        ]

    def rate(self, grown: Sequence[float], factor: float = 1.0) -> Estimate:
        """So much a second, times a factor."""
        return ratio([factor * each for each in grown], self.lengths).estimate(self.confidence)

    def share(self, grown: Sequence[float], whole: Sequence[float]) -> Estimate:
        """So much of it."""
        return ratio(grown, whole).estimate(self.confidence)


def _of_keys(tokens: TokenSection | None, keys: Sequence[tuple[str, str]] | None) -> list[Floats]:
    """The meters of the requests of a section: of all, or of those with some API keys."""
    if tokens is None:
        return []
    return [tokens.meters] if keys is None else [tokens.of_keys[key] for key in keys if key in tokens.of_keys]


class _Ledger:
    """Who used how much of what behind one gateway; `rents` are the prices (USD an hour) of the GPUs of LLMs."""

    def __init__(self, sums: _Sums, gateway: str, keys: Mapping[str, ApiKey], rents: Mapping[str, float]) -> None:
        self.sums = sums
        self.gateway = gateway
        self.keys = keys
        found = [llm for meters in sums.meters.values() for llm in meters.llms(gateway)]
        self.llms = list(dict.fromkeys(found))
        self.rents = {llm: rents.get(llm, 0.0) for llm in self.llms}
        self.processed = {llm: self._processed(None, llm, None) for llm in self.llms}

    def result(self, backends: Sequence[str]) -> GatewayResult:
        """Everything about the gateway."""
        teams = dict.fromkeys(key.team or NO_TEAM for key in self.keys.values())
        came, served, rejected = self._prompts(None)
        rate = self.sums.rate
        return GatewayResult(
            requests_per_s=rate(came),
            served_per_s=rate(served),
            unserved_per_s=rate(_difference(came, served)),
            rejections_per_s=rate(rejected),
            backends={name: self._backend(name, came) for name in backends},
            llms={llm.removeprefix(LLM): self._usage(llm, None) for llm in self.llms},
            keys={name: replace(self._account([name]), team=key.team) for name, key in self.keys.items()},
            teams={
                team: self._account([name for name, key in self.keys.items() if (key.team or NO_TEAM) == team])
                for team in teams
            },
        )

    def _prompts(self, keys: Sequence[tuple[str, str]] | None) -> list[list[float]]:
        """Those that came, those that were served, and tries that a limit rejected."""
        return [self.sums.named(f"{LLM}{self.gateway}.{meter}", keys) for meter in GATEWAY_METERS]

    def _backend(self, name: str, came: Sequence[float]) -> BackendResult:
        asked, fallbacks, tries, errors, failures = (
            self.sums.named(f"{LLM}{self.gateway}.{meter} {name}") for meter in BACKEND_METERS
        )

        def occurred(grown: Sequence[float]) -> OccurrenceResult:
            return OccurrenceResult(self.sums.rate(grown), self.sums.share(grown, came))

        return BackendResult(
            asked=occurred(asked),
            fallbacks=occurred(fallbacks),
            retries=occurred(_difference(tries, asked)),
            timeouts=occurred(_difference(failures, errors)),
            errors=occurred(errors),
        )

    def _account(self, names: Sequence[str]) -> AccountResult:
        """What some keys together used."""
        keys = [(self.gateway, name) for name in names]
        sums, tokens = self.sums, partial(self.sums.tokens, gateway=self.gateway, llm=None, keys=keys)
        came, served, rejected = self._prompts(keys)
        cost = [each for llm in self.llms for each in (self._paid(llm, keys), self._rent(llm, keys)) if each]
        none = ratio([0.0] * len(sums.lengths), sums.lengths)
        whole = Statistic(sum(each.pooled for each in cost), sum((each.sections for each in cost), none.sections))
        return AccountResult(
            requests_per_s=sums.rate(came),
            served_per_s=sums.rate(served),
            unserved_per_s=sums.rate(_difference(came, served)),
            rejections_per_s=sums.rate(rejected),
            prompt_per_s=sums.rate(tokens("prompt")),
            cached_per_s=sums.rate(tokens("cached")),
            output_per_s=sums.rate(tokens("output")),
            usd_per_hour=whole.estimate(sums.confidence),
            llms={llm.removeprefix(LLM): self._usage(llm, keys) for llm in self.llms},
        )

    def _usage(self, llm: str, keys: Sequence[tuple[str, str]] | None) -> UsageResult:
        sums, tokens = self.sums, partial(self.sums.tokens, gateway=self.gateway, llm=llm, keys=keys)
        paid, rent = self._paid(llm, keys), self._rent(llm, keys)
        return UsageResult(
            prompt_per_s=sums.rate(tokens("prompt")),
            cached_per_s=sums.rate(tokens("cached")),
            output_per_s=sums.rate(tokens("output")),
            usd_per_hour=None if paid is None else paid.estimate(sums.confidence),
            rent_per_hour=None if rent is None else rent.estimate(sums.confidence),
        )

    def _paid(self, llm: str, keys: Sequence[tuple[str, str]] | None) -> Statistic | None:
        """What is paid to a provider (USD an hour); None where it is none."""
        if not any(meters.counting("usd", self.gateway, llm) for meters in self.sums.meters.values()):
            return None
        paid = self.sums.tokens("usd", self.gateway, llm, keys)
        return ratio([SECONDS_PER_HOUR * each for each in paid], self.sums.lengths)

    def _rent(self, llm: str, keys: Sequence[tuple[str, str]] | None) -> Statistic | None:
        """The share of what an LLM's GPUs cost (USD an hour) by what they processed; None where that is nothing."""
        if not self.rents[llm] or not sum(self.processed[llm]):
            return None
        own = self._processed(self.gateway, llm, keys)
        return ratio([self.rents[llm] * each for each in own], self.processed[llm])

    def _processed(self, gateway: str | None, llm: str, keys: Sequence[tuple[str, str]] | None) -> list[float]:
        """Tokens that an LLM computed or generated."""
        prompt, cached, output = (self.sums.tokens(kind, gateway, llm, keys) for kind in ("prompt", "cached", "output"))
        return [a - b + c for a, b, c in zip(prompt, cached, output, strict=True)]


def _difference(more: Sequence[float], fewer: Sequence[float]) -> list[float]:
    return [a - b for a, b in zip(more, fewer, strict=True)]
