"""Tokens: what the meters of a workload say of the LLM calls that its requests make."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from simulator.model.objective import LATENCY, TOKEN_TIMES, Limits
from simulator.model.prompt import (
    GATEWAY_METERS,
    KEY_METER,
    LATENCY_METERS,
    PAID_METER,
    PREFILL,
    USAGE_METERS,
    WRONG_METER,
)
from simulator.records import Floats
from simulator.results.latencies import Counts, Latencies, LatencySeries
from simulator.results.sums import TimeSums, add_by_tick

PROMPT, CACHED, OUTPUT, USD = (f".{name}" for name in (*USAGE_METERS, PAID_METER))
WRONG, APART = f".{WRONG_METER}", f".{PREFILL}"
CAME = f".{GATEWAY_METERS[0]}"
LLM = "llms."
Times = dict[str, tuple[NDArray[np.bool_], Floats]]
"""Which completed requests have a time, and the time (s) of each of them, by its name in objectives."""


class Usage(NamedTuple):
    """Numbers of the meters of one account of an LLM; `usd` is None where it is not paid by the token."""

    prompt: int
    cached: int
    output: int
    usd: int | None


@dataclass(frozen=True, slots=True)
class TokenMeters:
    """Where the meters of LLM calls stand among those of a workload; `first` is None where no call is streamed.

    Behind the meter of the first token (s; 0: there was none) stand the time from the first to the last token (s), the
    number of tokens that came in it, and the longest time between two of them (s). `usage` is by account, an LLM's
    resource behind the gateways with accounts that its prompts have come through, as in `gateway/llms.model`. `wrong`
    has those that count the wrong answers of gateways' caches, and `keys` those that count the prompts with each API
    key, by gateway; of these a request has only one.
    """

    first: int | None
    usage: dict[str, Usage]
    wrong: dict[str, int]
    keys: dict[str, dict[str, int]]

    @classmethod
    def of(cls, meters: tuple[str, ...]) -> TokenMeters:
        """Read off the names of a workload's meters."""
        number = {name: index for index, name in enumerate(meters)}
        named = [name.removesuffix(PROMPT) for name in meters if name.endswith(PROMPT)]
        usage = {
            name: Usage(number[name + PROMPT], number[name + CACHED], number[name + OUTPUT], number.get(name + USD))
            for name in named
        }
        wrong = {name.removesuffix(WRONG): index for name, index in number.items() if name.endswith(WRONG)}
        gateways = [name.removesuffix(CAME).removeprefix(LLM) for name in meters if name.endswith(CAME)]
        keys = {gateway: _named(number, f"{LLM}{gateway}.{KEY_METER} ") for gateway in gateways}
        return cls(number.get(LATENCY_METERS[0]), usage, wrong, keys)

    def counting(self, kind: str, gateway: str | None = None, llm: str | None = None) -> list[int]:
        """Meters that together count every token of a kind, or every USD, once; or those of one gateway or LLM alone.

        An LLM that computes prompts on GPUs apart has meters for these, too: there they are computed, and cached.
        """
        chosen = []
        for name, usage in self.usage.items():
            *gateways, resource = name.split("/")
            if (gateway is not None and gateway not in gateways) or llm not in (None, resource.removesuffix(APART)):
                continue
            is_apart, has_apart = name.endswith(APART), name + APART in self.usage
            meter: int | None = getattr(usage, kind)
            if meter is not None and not (has_apart if kind in ("prompt", "cached") else is_apart and kind == "output"):
                chosen.append(meter)
        return chosen

    def llms(self, gateway: str) -> list[str]:
        """The LLMs, by resource, of the accounts of a gateway."""
        accounts = (name.split("/") for name in self.usage)
        found = (resource.removesuffix(APART) for *gateways, resource in accounts if gateway in gateways)
        return list(dict.fromkeys(found))

    def __bool__(self) -> bool:
        return self.first is not None or bool(self.usage)

    def times(self, arrival: Floats, meter: Floats) -> Times:
        """Of completed requests: time to the first token (s), per token after it, and the longest gap.

        What a provider does between tokens is not known, so its requests have no gap.
        """
        if self.first is None:
            return {}
        first, time, tokens, gap = (meter[:, self.first + number] for number in range(len(LATENCY_METERS)))
        streamed, decoded, interrupted = first > 0.0, tokens > 0.0, gap > 0.0
        return {
            "ttft": (streamed, first[streamed] - arrival[streamed]),
            "tpot": (decoded, time[decoded] / tokens[decoded]),
            "gap": (interrupted, gap[interrupted]),
        }


def _named(number: dict[str, int], prefix: str) -> dict[str, int]:
    """Meters by what follows the beginning of their names."""
    return {name.removeprefix(prefix): index for name, index in number.items() if name.startswith(prefix)}


def within(limits: Limits, latencies: Floats, times: Times) -> Floats:
    """1 for each completed request that keeps all limits, else 0; one without such a time keeps a limit of it."""
    kept = np.ones(len(latencies), dtype=bool)
    for name, most in limits:
        if name == LATENCY:
            kept &= latencies <= most
        elif name in times:
            has, values = times[name]
            kept[has] &= values <= most
    return kept.astype(np.float64)


@dataclass(frozen=True, slots=True, eq=False)
class TokenSection:
    """Tokens of a workload in one section.

    `ttft`, `tpot` and `gap` (s) are those of completed requests that have them, `decode_time` (s) and `decode_tokens`
    sums over completed requests, and `meters` sums of all meters over requests that ended, the failed ones included,
    for theirs were computed and paid all the same; `of_keys` has those of requests with each API key, by gateway.
    """

    ttft: Latencies
    tpot: Latencies
    gap: Latencies
    decode_time: float
    decode_tokens: float
    meters: Floats
    of_keys: dict[tuple[str, str], Floats]

    def times(self, name: str) -> Latencies:
        """Those of a name in objectives."""
        found: Latencies = getattr(self, name)
        return found


@dataclass(frozen=True, slots=True, eq=False)
class TokenSeries:
    """As `TokenSection`, to be cut at sampling times: `decode` (T, 2) and meters (T, meters) are cumulated."""

    ttft: LatencySeries
    tpot: LatencySeries
    gap: LatencySeries
    decode: Floats
    meters: Floats
    of_keys: dict[tuple[str, str], Floats]

    def between(self, start: int, stop: int) -> TokenSection:
        """Those of requests that ended between two sampling times."""
        decode = self.decode[stop] - self.decode[start]
        return TokenSection(
            ttft=self.ttft.between(start, stop),
            tpot=self.tpot.between(start, stop),
            gap=self.gap.between(start, stop),
            decode_time=float(decode[0]),
            decode_tokens=float(decode[1]),
            meters=self.meters[stop] - self.meters[start],
            of_keys={key: sums[stop] - sums[start] for key, sums in self.of_keys.items()},
        )


class TokenSums:
    """Sums up the meters of a workload, `count` in all, by tick."""

    def __init__(self, meters: TokenMeters, count: int, ticks: int, sketched: bool) -> None:
        self.meters = meters
        self.times = {name: TimeSums(ticks, sketched) for name in TOKEN_TIMES}
        self.decode = np.zeros((ticks, 2))
        self.sums = np.zeros((ticks, count))
        self.keys = {(gateway, key): meter for gateway, keys in meters.keys.items() for key, meter in keys.items()}
        self.of_keys = {key: np.zeros((ticks, count)) for key in self.keys}

    def add_ended(self, tick: Counts, meter: Floats) -> None:
        """Add the meters, shape (n, meters), of the next requests that ended, and the tick of each."""
        add_by_tick(self.sums, tick, meter)
        for key, number in self.keys.items():
            own = meter[:, number] > 0.0
            add_by_tick(self.of_keys[key], tick[own], meter[own])

    def add_completed(self, tick: Counts, arrival: Floats, meter: Floats) -> Times:
        """Add the times of those that completed, and return them."""
        times = self.meters.times(arrival, meter)
        for name, (has, values) in times.items():
            self.times[name].add(tick[has], values)
        if self.meters.first is not None:
            add_by_tick(self.decode, tick, meter[:, self.meters.first + 1 : self.meters.first + 3])
        return times

    def series(self) -> TokenSeries:
        """The sums, cumulated."""
        return TokenSeries(
            ttft=self.times["ttft"].series(),
            tpot=self.times["tpot"].series(),
            gap=self.times["gap"].series(),
            decode=np.cumsum(self.decode, axis=0),
            meters=np.cumsum(self.sums, axis=0),
            of_keys={key: np.cumsum(sums, axis=0) for key, sums in self.of_keys.items()},
        )
