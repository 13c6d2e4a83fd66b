"""Limits of requests and tokens: from which load they are reached, and what a run says where they reject."""

import json
import math
from dataclasses import replace

import pytest

import simulator as sim
from simulator import cli
from simulator.analytic.demands import facts
from simulator.distributions import Zipf
from simulator.model.files import loads
from simulator.model.objective import Objective
from simulator.report.tables import _closing
from simulator.results.limits import LARGE_SHARE
from simulator.study.capacity import capacity
from simulator.study.length import LONGEST_FILLING, automatic_duration

SERVICES = "services: {web: {host: app, %soperations: {ask: [{generate: it, input: 90, output: 10}]}}}\n"


def model(gateway="", keys="", workloads="{w: {rate: 2/s, operation: web.ask}}", service="", provider="", more=""):
    keys = f"keys: {{{keys}}}, " if keys else ""
    return loads(
        f"name: m\nhosts: {{app: {{cpu: 64}}}}\nllms:\n  a: {{provider: {{first_token: 50 ms, {provider}}}}}\n"
        f"  b: {{provider: {{first_token: 50 ms}}}}\n"
        f"  it: {{gateway: {{host: app, {keys}{gateway or 'backends: {a: {}}'}}}}}\n"
        f"{SERVICES % service}{more}\nworkloads: {workloads}\n"
    )


def limits(system):
    return {limit.name: limit for limit in facts(sim.lower(system)).limits}


def run(system, **settings):
    return sim.run(system, sim.Settings(**{"replications": 4, "jobs": 1, **settings}))


# What is expected.


def test_each_limit_of_a_key_is_a_resource_that_saturates():
    system = model(keys="search: {requests: 60 RPM, tokens: 24k TPM}, rest: {share: 3, requests: 180 RPM}")
    known = facts(sim.lower(system))
    found = limits(system)
    search, tokens = found["limit of key search (60 requests/min)"], found["limit of key search (24,000 tokens/min)"]
    rest = found["limit of key rest (180 requests/min)"]
    assert (search.per_s, search.expected_per_s, search.saturation_factor) == pytest.approx((1.0, 0.5, 2.0))
    assert (tokens.per_s, tokens.expected_per_s, tokens.saturation_factor) == pytest.approx((400.0, 50.0, 8.0))
    assert (rest.expected_per_s, rest.saturation_factor) == pytest.approx((1.5, 2.0))
    assert search.rejects
    assert (known.saturation_factor, known.saturated_resource) == pytest.approx((2.0, search.resource))


def test_a_limit_of_each_customer_is_reached_by_the_most_popular():
    system = model(
        gateway="backends: {a: {}}, limit: {key: customer, requests: 30 RPM}",
        service="rate_limit: {rate: 9/s, per_client: {rate: 4/s, clients: {zipf: {count: 50, exponent: 1}}}}, ",
        more="keys: {customer: {zipf: {count: 10, exponent: 1}}}",
    )
    found, share = limits(system), Zipf(10, 1.0).probabilities()[0]
    customer = found["limit of each customer of it (30 requests/min)"]
    assert customer.expected_per_s == pytest.approx(2.0 * share)
    assert customer.saturation_factor == pytest.approx(0.5 / (2.0 * share))
    assert found["limit of web (9 requests/s)"].saturation_factor == pytest.approx(4.5)
    client = found["limit of each client of web (4 requests/s)"]
    assert client.saturation_factor == pytest.approx(4.0 / (2.0 * Zipf(50, 1.0).probabilities()[0]))
    known = facts(sim.lower(system))
    assert known.saturation_of(customer.resource) == pytest.approx(customer.saturation_factor)
    assert known.saturated_resource == customer.resource


def test_a_limit_of_a_key_for_one_backend_has_its_part_of_the_load():
    gateway = "backends: {a: {weight: 3}, b: {}}"
    found = limits(model(gateway, keys="k: {requests: 240 RPM, backends: {b: {requests: 60 RPM}}}"))
    assert found["limit of key k (240 requests/min)"].saturation_factor == pytest.approx(2.0)
    assert found["limit of key k for b (60 requests/min)"].expected_per_s == pytest.approx(0.5)


def test_a_limit_that_lets_wait_is_one_that_does_not_reject():
    waits = limits(model(provider="requests_rate: 600 RPM, when_limited: wait"))["limit of a (600 requests/min)"]
    assert not waits.rejects
    assert limits(model()) == {}


def test_closed_users_are_not_expected_at_any_rate():
    system = model(keys="k: {requests: 60 RPM}", workloads="{w: {users: 5, think: 1 s, operation: web.ask}}")
    [limit] = limits(system).values()
    assert (limit.expected_per_s, limit.saturation_factor, limit.filling) == (0.0, math.inf, math.inf)


# What a run says.


def test_a_run_names_the_limit_that_rejects_and_its_share():
    results = run(model(keys="k: {requests: 60 RPM}"))
    name = "limit of key k (60 requests/min)"
    assert not results.stable
    assert results.verdict.startswith(f"limited: the {name} rejects ")
    assert "the load is 2.00 times this limit" in results.verdict
    bottleneck = results.bottleneck
    assert (bottleneck.limit, bottleneck.resource) == (name, "llms.it.keys.k.requests_limit")
    assert bottleneck.saturation_factor == pytest.approx(0.5)
    # What is let through in the long run, after the burst of a minute, is the limit's rate.
    assert bottleneck.rejected.low <= 0.5 <= bottleneck.rejected.high
    assert results.workloads["w"].throughput_per_s.value == pytest.approx(1.0, rel=0.02)
    assert bottleneck.utilization.value == pytest.approx(1.0, rel=0.02)
    assert results.workloads["w"].stable


def test_a_limit_of_each_customer_that_rejects_is_named_too():
    text = "backends: {a: {}}, limit: {key: customer, requests: 30 RPM}"
    results = run(model(text, more="keys: {customer: {uniform: 2}}"), duration=600.0)
    assert results.bottleneck.limit == "limit of each customer of it (30 requests/min)"
    assert results.bottleneck.rejected.value == pytest.approx(0.5, abs=0.03)
    assert results.bottleneck.utilization.value == pytest.approx(1.0, abs=0.05)


def test_what_a_limit_rejects_and_a_fallback_serves_is_no_failure():
    results = run(model("backends: {a: {}, b: {}}, routing: fallback", provider="requests_rate: 60 RPM"))
    assert results.gateways["it"].backends["b"].fallbacks.share.value == pytest.approx(0.5, abs=0.03)
    assert results.workloads["w"].error_rate.value == 0.0
    assert (results.stable, results.verdict) == (True, "stable")
    assert (results.bottleneck.limit, results.bottleneck.rejected) == ("limit of a (60 requests/min)", None)


@pytest.mark.parametrize(("rate", "said"), [("90 RPM", True), ("150 RPM", False)])
def test_a_limit_is_named_from_where_it_is_exceeded(rate, said):
    results = run(model(keys=f"k: {{requests: {rate}}}"))
    assert results.verdict.startswith("limited") == said
    assert results.stable != said


def test_bursts_that_a_limit_rejects_count_from_a_large_share_on():
    def rejected(burst):
        workload = "{w: {rate: 20/s, arrivals: gamma, arrivals_cv: 4, operation: web.ask}}"
        return run(model(service=f"rate_limit: {{rate: 25/s, burst: {burst}}}, ", workloads=workload))

    many, few = rejected(2), rejected(400)
    assert many.bottleneck.limit == "limit of web (25 requests/s)"
    assert many.bottleneck.rejected.value > LARGE_SHARE
    assert many.verdict.startswith("limited: the limit of web")
    assert few.verdict == "stable"
    assert few.bottleneck.rejected is None


@pytest.mark.parametrize(
    ("rate", "share"),
    [("60 RPM", 1.0), ("240 RPM", 0.5), ("24 RPM", 1.0)],
)
@pytest.mark.parametrize("replications", [1, 4])
def test_what_is_used_of_a_limit_is_a_share_of_what_there_was_burst_included(rate, share, replications):
    """In 50 s at 2 requests a second; where that is more than the limit's rate, some of the burst goes beside it."""
    workload = "{w: {rate: 2/s, arrivals: constant, operation: web.ask}}"
    results = run(model(keys=f"k: {{requests: {rate}}}", workloads=workload), duration=50.0, replications=replications)
    used = results.resources["llms.it.keys.k.requests_limit"].utilization
    assert used.value == pytest.approx(share, abs=0.03)
    assert used.value <= 1.0 + 1e-9
    if results.bottleneck.rejected is None:
        text = "".join(text for _, text in _closing(results))
        assert "of what it lets through is taken" in text


def test_a_run_too_short_for_the_burst_says_so():
    results = run(model(keys="k: {requests: 110 RPM}"), duration=60.0)
    [warning] = [each for each in results.warnings if "limit of key k" in each]
    assert "is exceeded after 660 s only" in warning
    assert not [each for each in run(model(keys="k: {requests: 60 RPM}")).warnings if "limit of key k" in each]


@pytest.mark.parametrize(("rate", "filling"), [("1000 RPM", 300.0), ("1100 RPM", 660.0), ("1190 RPM", 7140.0)])
def test_runs_are_as_long_as_it_takes_to_see_a_limit_reject(rate, filling):
    system = model(keys=f"k: {{requests: {rate}}}", workloads="{w: {rate: 20/s, operation: web.ask}}")
    known = facts(sim.lower(system))
    assert known.limits[0].filling == pytest.approx(filling)
    fewest = automatic_duration(system, replace(known, limits=()))
    assert fewest == 500.0  # of the requests
    wanted = fewest if filling > LONGEST_FILLING else 4 * filling
    assert automatic_duration(system, known) == pytest.approx(wanted)


def test_where_everything_is_rejected_the_limit_is_why():
    results = run(model(keys="k: {tokens: 60 TPM}"), duration=60.0)
    assert results.verdict.startswith(
        "stuck: no request of w completes; the limit of key k (60 tokens/min) rejects 100%"
    )


def test_capacity_says_that_the_limit_broke_first():
    found = capacity(
        model(keys="k: {requests: 600 RPM}"), (Objective.model_validate("p99 < 1 s"),),
        sim.Settings(replications=2, jobs=1, duration=300.0), tolerance=0.1,
    )  # fmt: skip
    assert 4.5 < found.factor.value < 6.0
    assert "limited: the limit of key k (600 requests/min) rejects" in found.limit


def test_check_lists_limits(tmp_path, capsys, monkeypatch):
    path = tmp_path / "m.yaml"
    text = model(keys="k: {requests: 60 RPM, tokens: 100k TPM}").model_dump(mode="json", exclude_defaults=True)
    path.write_text(json.dumps(text), encoding="utf-8")
    for more in ([], ["--json"]):
        monkeypatch.setattr("sys.argv", ["tpsim", "check", str(path), *more])
        with pytest.raises(SystemExit):
            cli.main()
    shown, _, found = capsys.readouterr().out.partition('{\n  "schema_version"')
    rows = [" ".join(line.split()) for line in shown.splitlines()]
    assert "key k 60 requests/min 120 0.5 times this load" in rows
    assert "key k 100,000 tokens/min 12,000 8.33 times this load" in rows
    assert "saturates first limit of key k (60 requests/min)" in rows
    known = json.loads('{"schema_version"' + found)["limits"]
    assert [each["saturation_factor"] for each in known] == pytest.approx([0.5, 8.333333333])


def test_what_a_limit_keeps_from_an_engine_does_not_overload_it():
    system = loads(
        "hosts: {app: {cpu: 64}}\nllms:\n"
        "  own: {step_time: {overhead: 0.7 s, weights: 0 s, token: 0 s}, kv_tokens: 10k, max_sequences: 1}\n"
        "  other: {provider: {first_token: 50 ms}}\n"
        "  it: {gateway: {host: app, routing: fallback, backends: {own: {}, other: {}}, "
        "keys: {k: {backends: {own: {requests: 60 RPM}}}}}}\n"
        "services: {web: {host: app, operations: {ask: [{generate: it, input: 9, output: 1}]}}}\n"
        "workloads: {w: {rate: 2/s, operation: web.ask}}\n"
    )
    known = facts(sim.lower(system))
    assert known.saturation_of("llms.own") < 1.0
    results = run(system, duration=600.0)
    assert results.resources["llms.own"].utilization.value < 0.8
    assert results.resources["llms.it.keys.k.own.requests_limit"].utilization.value > 0.95
    assert results.verdict == "stable"
