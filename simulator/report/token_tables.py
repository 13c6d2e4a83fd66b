"""Tables of what LLMs did: for the requests that called them, and by themselves."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from rich.table import Table

from simulator.report.layout import NO_STEADY_STATE, estimate_row, table_of
from simulator.results.estimate import Estimate
from simulator.results.results import LlmResult, TokensResult

SHOWN = ("mean", "p50", "p95", "p99")


def token_table(name: str, tokens: TokensResult, stable: bool, confidence: float) -> Table:
    """When a workload's tokens came, and how many of which LLM."""
    table = table_of(f"{name}: tokens", "value", f"{confidence:.0%} interval")
    row = partial(estimate_row, table)
    times: dict[str, Mapping[str, Estimate] | None] = {
        "first token": tokens.ttft_s,
        "per token after it": tokens.tpot_s,
        "between tokens": tokens.itl_s,
        "longest gap": tokens.longest_gap_s,
    }
    for label, found in times.items():
        for statistic in SHOWN:
            if found is not None and statistic in found:
                row(f"{label} {statistic}", found[statistic], "duration")
    if not stable:
        table.add_row("first token", NO_STEADY_STATE, "–")
    row("input tokens", tokens.input_per_s, "rate")
    row("  of them cached", tokens.cached, "fraction")
    row("output tokens", tokens.output_per_s, "rate")
    for llm, usage in tokens.usage.items():
        if len(tokens.usage) > 1:
            row(f"{llm} input", usage.prompt_per_s, "rate")
            row(f"{llm} output", usage.output_per_s, "rate")
        if usage.usd_per_hour is not None:
            row(f"{llm} price", usage.usd_per_hour, "price")
    for gateway, rate in tokens.wrong_per_s.items():
        row(f"{gateway} wrong answers", rate, "rate")
    return table


def llm_table(name: str, llm: LlmResult, confidence: float) -> Table:
    """What an LLM's engine did."""
    label = name if llm.replicas == 1 else f"{name} x{llm.replicas}"
    table = table_of(label, "value", f"{confidence:.0%} interval")
    row = partial(estimate_row, table)
    row("sequences running", llm.running_mean, "count")
    row("sequences waiting", llm.waiting_mean, "count")
    row("KV cache in use", llm.kv_cache_utilization, "fraction")
    row("busy with steps", llm.busy, "fraction")
    row("steps", llm.steps_per_s, "rate")
    row("time of a step", llm.step_s, "duration")
    row("prompt tokens", llm.prompt_tokens_per_s, "rate")
    row("  found in the cache", llm.prefix_hit_ratio, "fraction")
    row("  computed", llm.computed_tokens_per_s, "rate")
    row("generated tokens", llm.generated_tokens_per_s, "rate")
    row("preemptions", llm.preemptions_per_s, "rate")
    return table
