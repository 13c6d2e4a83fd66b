"""API keys: who asks a gateway, for which team, with limits of each key's own, and how much each of them used.

    gateway:
      keys:
        search: {team: shop, workloads: [searchers], requests: 600 RPM}
        agents: {team: support, tokens: 200k TPM, backends: {large: {requests: 60 RPM}}}

A request has one key of each gateway from its beginning: one of those that name its workload, or where none does, one
of those that name none. Of several it draws one by their `share`. Results say what each key, and each team, used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from pydantic import Field, model_validator

from simulator.distributions import Constant, Discrete
from simulator.model.part import Factor, Part, PositiveRate
from simulator.model.prompt import KEY_METER, Prompt, count_up
from simulator.model.words import EXPECTED_NAME, NAME, unknown
from simulator.program.builder import Builder
from simulator.program.instructions import NO_REGISTER, Calculate, Jump, Place, Switch, TakeTokens
from simulator.program.instructions import Arithmetic as Do
from simulator.program.stations import Bucket

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering
    from simulator.model.resource import Finding
    from simulator.model.site import Site

MINUTE = 60.0
NO_TEAM = "no team"
"""Whose keys are those that no team is known of; no team is called so."""
NO_TEAM_STANDS_FOR = "in results it stands for the keys without a team"


class KeyLimit(Part):
    """What a key may use; what is over it fails, as with HTTP 429."""

    requests: PositiveRate | None = None
    """Requests, such as `60 RPM`; unlimited where left out."""
    tokens: PositiveRate | None = None
    """Tokens of prompts and answers, such as `100k TPM`; unlimited where left out."""


class ApiKey(KeyLimit):
    """A key that requests to a gateway come with, and what it may use of all back ends together."""

    team: str | None = None
    """Who pays for it."""
    workloads: list[str] = Field(default_factory=list)
    """Names of the workloads whose requests have it; those of which no key has the name where left out."""
    share: Factor = 1.0
    """How many of these requests have it, relative to the other keys that they may have."""
    backends: dict[str, KeyLimit] = Field(default_factory=dict)
    """What it may use of one of the back ends, by name; what is over that goes on as where the back end fails."""


class TokenLimit(Part):
    """How many requests and tokens each of many customers may use; what is over fails, as with HTTP 429.

    They are too many to be named, as `keys` are, and have no accounts in the results.
    """

    key: str
    """Name of one of the model's `keys` that tells them apart."""
    requests: PositiveRate | None = None
    """Requests of each key, such as `60 RPM`."""
    tokens: PositiveRate | None = None
    """Tokens of prompts and answers of each key, such as `100k TPM`."""

    @model_validator(mode="after")
    def _limits_something(self) -> Self:
        if self.requests is None and self.tokens is None:
            raise ValueError("got neither requests nor tokens, expected one of them or both")
        return self


def keys_of_workload(keys: dict[str, ApiKey], workload: str) -> list[str]:
    """The names of those that the requests of a workload may have."""
    own = [name for name, key in keys.items() if workload in key.workloads]
    return own or [name for name, key in keys.items() if not key.workloads]


def limit_bucket(resource: str, rate: float, keys: int = 1) -> Bucket:
    """What lets so many a second through, those of a minute at once; one at least, however long that takes."""
    return Bucket(resource, rate, max(rate * MINUTE, 1.0), keys=keys)


def take_requests(builder: Builder, bucket: Place, component: int, key: int = NO_REGISTER) -> None:
    """Emit the taking of one request from a limit."""
    builder.emit(TakeTokens(bucket, component, builder.draw(Constant(1.0), "request"), key))


def take_prompt(builder: Builder, bucket: Place, component: int, prompt: Prompt, key: int = NO_REGISTER) -> None:
    """Emit the taking of a prompt's tokens, and of those of its answer, from a limit."""
    both, mean = builder.register(), prompt.mean_input + prompt.mean_output
    builder.emit(Calculate(both, Do.ADD, prompt.input, prompt.output))
    tokens = builder.times_register(Constant(1.0), both, mean, "tokens")
    builder.emit(TakeTokens(bucket, component, tokens, key))


@dataclass(frozen=True, slots=True)
class ApiKeys:
    """The keys of a gateway, and the buckets of requests and tokens of their limits, by key and back end ('': all)."""

    gateway: str
    keys: dict[str, ApiKey]
    requests: dict[tuple[str, str], Place]
    tokens: dict[tuple[str, str], Place]

    @classmethod
    def lower(cls, builder: Builder, gateway: str, keys: dict[str, ApiKey]) -> ApiKeys:
        """One bucket for each limit."""
        limits = {(name, at): limit for name, key in keys.items() for at, limit in {"": key, **key.backends}.items()}

        def buckets(what: str, rates: dict[tuple[str, str], float | None]) -> dict[tuple[str, str], Place]:
            names = {of: ".".join(filter(None, ("llms", gateway, "keys", *of, f"{what}_limit"))) for of in rates}
            return {
                of: Place((builder.station(limit_bucket(names[of], rate)),))
                for of, rate in rates.items()
                if rate is not None
            }

        requests = buckets("requests", {of: limit.requests for of, limit in limits.items()})
        return cls(gateway, keys, requests, buckets("tokens", {of: limit.tokens for of, limit in limits.items()}))

    def are_limited(self, lowering: Lowering, backend: str = "") -> bool:
        """Whether a key that requests of the present workload may have has a limit, of all or of one back end."""
        limited = (*self.requests, *self.tokens)
        return any((name, backend) in limited for name in self._names(lowering))

    def count(self, site: Site) -> None:
        """Emit what says, of the request, whose prompt this is."""
        self._of_each(site, lambda name: count_up(site.builder, f"llms.{self.gateway}.{KEY_METER} {name}"))

    def limit(self, site: Site, prompt: Prompt, backend: str = "") -> None:
        """Emit the passing of the limits of the request's key, of all or of one back end."""
        builder, component = site.builder, site.component("limit")

        def take(name: str) -> None:
            if (name, backend) in self.requests:
                take_requests(builder, self.requests[name, backend], component)
            if (name, backend) in self.tokens:
                take_prompt(builder, self.tokens[name, backend], component, prompt)

        self._of_each(site, take)

    def _names(self, lowering: Lowering) -> list[str]:
        return keys_of_workload(self.keys, lowering.workload)

    def _of_each(self, site: Site, emit: Callable[[str], None]) -> None:
        """Emit code for every key that the request may have, of which the one that it has runs."""
        names, builder = self._names(site.lowering), site.builder
        if len(names) == 1:
            emit(names[0])
            return
        shares = Discrete(tuple(self.keys[name].share for name in names))
        register, done = site.lowering.keys.drawn(f"{self.gateway} API", shares), builder.label()
        targets = tuple(builder.label() for _ in names)
        builder.emit(Switch(register, targets))
        for name, target in zip(names, targets, strict=True):
            builder.mark(target)
            emit(name)
            builder.emit(Jump(done))
        builder.mark(done)


def key_problems(keys: Any, document: dict[Any, Any]) -> Iterator[Finding]:
    """Names that are none, teams whose accounts would be those of nobody, and workloads that are not there."""
    workloads = document.get("workloads")
    if not isinstance(keys, dict) or not isinstance(workloads, dict):
        return
    for name, key in keys.items():
        if not NAME.fullmatch(str(name)):
            yield ("keys", name), f"got the name {name!r}, {EXPECTED_NAME}", name
        if isinstance(key, dict) and key.get("team") == NO_TEAM:
            yield ("keys", name, "team"), f"got {NO_TEAM!r}, expected another name: {NO_TEAM_STANDS_FOR}", NO_TEAM
        named = key.get("workloads") if isinstance(key, dict) else None
        for index, workload in enumerate(named if isinstance(named, list) else ()):
            if isinstance(workload, str) and workload not in workloads:
                yield ("keys", name, "workloads", index), unknown("workload", workload, workloads), workload
