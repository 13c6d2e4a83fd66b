"""Statistics of tokens over sections: of workloads whose requests call LLMs, and of the LLMs themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial

from simulator.model.objective import TOKEN_TIMES, Limits
from simulator.program.program import Program
from simulator.program.stations import Inference
from simulator.records import INFERENCE_FIELDS
from simulator.results.estimate import Estimate
from simulator.results.latencies import Latencies, joined
from simulator.results.results import QUANTILES, LlmResult, TokensResult, UsageResult
from simulator.results.section import Section, inference_field, station_field
from simulator.results.statistics import Statistic, mean_of, mean_waiting, per_second, quantile_of, ratio, utilization
from simulator.results.tokens import TokenMeters, TokenSection, Usage

SECONDS_PER_HOUR = 3600.0


def distribution(samples: Sequence[Latencies], confidence: float) -> dict[str, Estimate]:
    """The mean and QUANTILES of times (s), by name."""
    found = {"mean": mean_of(samples).estimate(confidence)}
    for name, share in QUANTILES.items():
        found[name] = quantile_of(samples, share).estimate(confidence)
    return found


def token_times(sections: Sequence[Section], workloads: Sequence[int], time: str) -> list[Latencies]:
    """ttft, tpot or gap (s) of some workloads' completed requests in each section."""
    return [joined([_tokens(section, w).times(time) for w in workloads]) for section in sections]


def inter_token_latency(sections: Sequence[Section], workloads: Sequence[int]) -> Statistic:
    """Mean time (s) between tokens over all tokens but first ones: a ratio of sums over completed requests."""
    each = [[_tokens(section, w) for w in workloads] for section in sections]
    return ratio(
        [sum(one.decode_time for one in tokens) for tokens in each],
        [sum(one.decode_tokens for one in tokens) for tokens in each],
    )


def input_tokens(sections: Sequence[Section], program: Program, workloads: Sequence[int]) -> Statistic:
    """Prompt tokens a second of requests that ended."""
    return _rate(sections, program, workloads, "prompt")


def output_tokens(sections: Sequence[Section], program: Program, workloads: Sequence[int]) -> Statistic:
    """Generated tokens a second of requests that ended."""
    return _rate(sections, program, workloads, "output")


def cached_tokens(sections: Sequence[Section], program: Program, workloads: Sequence[int]) -> Statistic:
    """Share of the prompt tokens whose keys and values were there already."""
    cached, prompt = (
        [_metered(section, program, workloads, kind) for section in sections] for kind in ("cached", "prompt")
    )
    return replace(ratio(cached, prompt), most=1.0)


def goodput(sections: Sequence[Section], workloads: Sequence[int], limits: Limits) -> Statistic:
    """Completed requests a second that keep all limits; raises ValueError for limits that were not counted."""
    return per_second(sections, lambda section: _good(section, workloads, limits))


def goodput_share(sections: Sequence[Section], workloads: Sequence[int], limits: Limits) -> Statistic:
    """Those of `goodput` as a share of the requests that ended."""
    ended = [
        float(sum(section.workloads[w].completed + section.workloads[w].failed for w in workloads))
        for section in sections
    ]
    good = [_good(section, workloads, limits) for section in sections]
    return replace(ratio(good, ended), most=1.0, trials=int(sum(ended)))


def usd_per_hour(sections: Sequence[Section], program: Program, workloads: Sequence[int]) -> Statistic:
    """What the tokens of requests that ended cost, in USD an hour."""
    paid = [SECONDS_PER_HOUR * _metered(section, program, workloads, "usd") for section in sections]
    return ratio(paid, [section.length for section in sections])


def _rate(sections: Sequence[Section], program: Program, workloads: Sequence[int], kind: str) -> Statistic:
    return per_second(sections, lambda section: _metered(section, program, workloads, kind))


def _metered(section: Section, program: Program, workloads: Sequence[int], kind: str) -> float:
    """What the meters of one kind of all LLMs, a field of `Usage`, grew by."""
    total = 0.0
    for number in workloads:
        tokens = section.workloads[number].tokens
        if tokens is not None:
            meters = TokenMeters.of(program.workloads[number].meters).counting(kind)
            total += float(tokens.meters[meters].sum())
    return total


def _good(section: Section, workloads: Sequence[int], limits: Limits) -> float:
    index = section.limits.index(limits)
    return float(sum(section.workloads[w].good[index] for w in workloads))


def _tokens(section: Section, workload: int) -> TokenSection:
    tokens = section.workloads[workload].tokens
    assert tokens is not None
    return tokens


def tokens_result(
    sections: Sequence[Section], program: Program, workload: int, confidence: float, stable: bool
) -> TokensResult | None:
    """Everything about the tokens of a workload; None where its requests call no LLM."""
    spec = program.workloads[workload]
    meters, chosen = TokenMeters.of(spec.meters), [workload]
    if not meters:
        return None
    times: dict[str, Mapping[str, Estimate] | None] = dict.fromkeys((*TOKEN_TIMES, "itl"))
    if stable and meters.first is not None:
        times |= {name: distribution(token_times(sections, chosen, name), confidence) for name in TOKEN_TIMES}
        times["itl"] = {"mean": inter_token_latency(sections, chosen).estimate(confidence)}
    return TokensResult(
        ttft_s=times["ttft"],
        tpot_s=times["tpot"],
        itl_s=times["itl"],
        longest_gap_s=times["gap"],
        input_per_s=input_tokens(sections, program, chosen).estimate(confidence),
        output_per_s=output_tokens(sections, program, chosen).estimate(confidence),
        cached=cached_tokens(sections, program, chosen).estimate(confidence),
        usage={name: _usage(sections, workload, usage, confidence) for name, usage in _by_llm(meters).items()},
        wrong_per_s={name: _growth(sections, workload, [meter], confidence) for name, meter in meters.wrong.items()},
    )


def _growth(
    sections: Sequence[Section], workload: int, meters: list[int], confidence: float, seconds: float = 1.0
) -> Estimate:
    """What some meters together grew by in so many seconds."""
    total = [seconds * float(_tokens(section, workload).meters[meters].sum()) for section in sections]
    return ratio(total, [section.length for section in sections]).estimate(confidence)


def _by_llm(meters: TokenMeters) -> dict[str, list[Usage]]:
    """The accounts of every LLM, by resource."""
    found: dict[str, list[Usage]] = {}
    for name, usage in meters.usage.items():
        found.setdefault(name.rpartition("/")[2], []).append(usage)
    return found


def _usage(sections: Sequence[Section], workload: int, accounts: list[Usage], confidence: float) -> UsageResult:
    rate = partial(_growth, sections, workload, confidence=confidence)
    usd = [usage.usd for usage in accounts if usage.usd is not None]
    return UsageResult(
        prompt_per_s=rate([usage.prompt for usage in accounts]),
        cached_per_s=rate([usage.cached for usage in accounts]),
        output_per_s=rate([usage.output for usage in accounts]),
        usd_per_hour=rate(usd, seconds=SECONDS_PER_HOUR) if usd else None,
    )


def llm_results(sections: Sequence[Section], program: Program, confidence: float) -> dict[str, LlmResult]:
    """What there is to say of every LLM, by its resource."""
    inference = [number for number, station in enumerate(program.stations) if isinstance(station, Inference)]
    return {
        resource: _llm(sections, program, stations, tuple(inference.index(number) for number in stations), confidence)
        for resource, stations in program.resources().items()
        if stations[0] in inference
    }


def _llm(
    sections: Sequence[Section], program: Program, stations: tuple[int, ...], own: tuple[int, ...], confidence: float
) -> LlmResult:
    memory = tuple(station.memory for number in stations if isinstance(station := program.stations[number], Inference))
    counted = {name: [inference_field(section, own, name) for section in sections] for name in INFERENCE_FIELDS}
    lengths = [section.length for section in sections]
    times = [len(stations) * length for length in lengths]  # a step is counted at its end

    def rate(name: str) -> Estimate:
        return ratio(counted[name], lengths).estimate(confidence)

    def share(over: list[float], under: list[float]) -> Estimate:
        return replace(ratio(over, under), most=1.0).estimate(confidence)

    running = per_second(sections, lambda section: float(station_field(section, stations, "busy_area").sum()))
    return LlmResult(
        replicas=len(stations),
        running_mean=running.estimate(confidence),
        waiting_mean=mean_waiting(sections, stations).estimate(confidence),
        kv_cache_utilization=utilization(sections, program, memory).estimate(confidence),
        busy=share([min(pair) for pair in zip(counted["stepping"], times, strict=True)], times),
        prompt_tokens_per_s=rate("prompt_tokens"),
        computed_tokens_per_s=rate("computed_tokens"),
        generated_tokens_per_s=rate("generated_tokens"),
        prefix_hit_ratio=share(counted["cached_tokens"], counted["prompt_tokens"]),
        preemptions_per_s=rate("preemptions"),
        steps_per_s=rate("steps"),
        step_s=ratio(counted["stepping"], counted["steps"]).estimate(confidence),
    )
