"""Tables of gateways to language models: their back ends, and the accounts of models, teams and keys."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from rich.table import Table

from simulator.report.layout import estimate_row, interval, table_of, value
from simulator.results.results import AccountResult, GatewayResult, OccurrenceResult, UsageResult


def gateway_tables(name: str, gateway: GatewayResult, confidence: float) -> Iterable[Table]:
    """What a gateway's back ends did, and where it has API keys, who used how much."""
    yield _backends(name, gateway)
    if gateway.keys:
        yield _ledger(name, gateway, confidence)


def _backends(name: str, gateway: GatewayResult) -> Table:
    """Prompts sent to each back end, and what of it went wrong where anything did."""
    table = table_of(f"{name}: back ends", "a second", "interval", "of prompts", "interval")
    for backend, found in gateway.backends.items():
        _occurrence(table, backend, found.asked)
        for label in ("fallbacks", "retries", "timeouts", "errors"):
            event: OccurrenceResult = getattr(found, label)
            if event.per_s.value > 0.0:
                _occurrence(table, f"  {'time-outs' if label == 'timeouts' else label}", event)
    return table


def _occurrence(table: Table, label: str, event: OccurrenceResult) -> None:
    table.add_row(
        label,
        value(event.per_s, "rate"),
        interval(event.per_s, "rate"),
        value(event.share, "fraction"),
        interval(event.share, "fraction"),
    )


def _ledger(name: str, gateway: GatewayResult, confidence: float) -> Table:
    table = table_of(f"{name}: ledger", "value", f"{confidence:.0%} interval")
    for llm, usage in gateway.llms.items():
        _tokens(table, f"model {llm}", usage)
        for label, cost in (("paid for tokens", usage.usd_per_hour), ("share of its rent", usage.rent_per_hour)):
            if cost is not None:
                estimate_row(table, f"  {label}", cost, "price")
    for team, account in gateway.teams.items():
        _account(table, f"team {team}", account)
    for key, account in gateway.keys.items():
        _account(table, f"key {key}" + (f" of {account.team}" if account.team else ""), account)
    return table


def _account(table: Table, label: str, account: AccountResult) -> None:
    row = partial(estimate_row, table)
    row(f"{label}: requests", account.requests_per_s, "rate")
    row("  served", account.served_per_s, "rate")
    row("  not served", account.unserved_per_s, "rate")
    row("  tries rejected by limits", account.rejections_per_s, "rate")
    _tokens(table, "", account)
    row("  cost", account.usd_per_hour, "price")


def _tokens(table: Table, label: str, usage: UsageResult | AccountResult) -> None:
    """Tokens in and out; the label, where there is one, is that of the first row."""
    row = partial(estimate_row, table)
    row(f"{label}: input tokens" if label else "  input tokens", usage.prompt_per_s, "rate")
    row("    of them cached", usage.cached_per_s, "rate")
    row("  output tokens", usage.output_per_s, "rate")
