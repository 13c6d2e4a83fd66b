"""What gateways say of their back ends, and their ledger by model, team and key, against counts over the records."""

import json
import math

import numpy as np
import pytest

import simulator as sim
from simulator import cli
from simulator.model.api_keys import NO_TEAM
from simulator.model.files import loads
from simulator.records import COMPLETED
from simulator.report.gateway_tables import gateway_tables

DESK = """
name: desk
hosts: {app: {cpu: 8, price: $1/h}, edge: {cpu: 4}}
llms:
  own:
    step_time: {overhead: 1 ms, weights: 6 ms, token: 30 us, generated: 60 ns, mixed: 120 ns}
    kv_tokens: 200k
    gpu: h100-sxm
    model: llama-3.1-8b
    prefill: {gpus: 1, link: 50 GB/s}
  hosted:
    provider: {first_token: {exponential: 200 ms}, per_token: 2 ms, failures: 10%,
               input_price: 500, output_price: 2000, cached_price: 100, cache_from: 0}
  gateway:
    gateway:
      host: edge
      keys:
        search: {team: shop, workloads: [searchers], requests: 120 RPM}
        chat: {team: support, share: 3}
        batch: {team: support}
        spare: {workloads: [others]}
      backends: {hosted: {timeout: 400 ms, retries: 1}, own: {}}
      routing: fallback
services:
  web:
    host: app
    operations:
      ask: [{generate: gateway, system: 200, input: {exponential: 300}, output: {exponential: 60}}]
      talk: [{generate: gateway, system: 500}]
      twice: [{generate: gateway, input: 100, output: 20}, {generate: own, input: 100, output: 20}]
workloads:
  searchers: {rate: 4/s, operation: web.ask}
  askers: {rate: 3/s, operation: web.ask}
  chats:
    rate: 0.5/s
    operation: web.talk
    conversation: {turns: 3, question: {exponential: 600}, answer: {exponential: 60}, think: {exponential: 1 s}}
  others: {rate: 1/s, operation: web.twice}
"""
SETTINGS = {"duration": 80.0, "replications": 3, "jobs": 1}
KINDS = {"prompt": "prompt_per_s", "cached": "cached_per_s", "output": "output_per_s"}


@pytest.fixture(scope="module")
def kept():
    """The results of the reference engine, with the records behind them."""
    records = []
    system = loads(DESK).model_copy(update={"run": loads(DESK).run.model_copy(update={"warm_up": "none"})})
    results = sim.run(system, sim.Settings(engine="simpy", keep=records.append, **SETTINGS))
    return system, results, records


def column(table, *names):
    """The sum of the meters of those names of each request, of those that it has."""
    chosen = [table.meters.index(name) for name in names if name in table.meters]
    return table.meter[:, chosen].sum(axis=1)


def ended(records):
    """Every table of requests and messages, with which of them ended."""
    return [(table, table.outcome >= COMPLETED) for each in records for table in each.requests]


def per_second(records, key, *names):
    """What meters say a second of the requests with a key."""
    meter = f"llms.gateway.key {key}"
    total = sum(column(table, *names)[(column(table, meter) > 0) & done].sum() for table, done in ended(records))
    return total / sum(each.duration for each in records)


@pytest.mark.parametrize("key", ["search", "chat", "batch", "spare"])
def test_the_account_of_a_key_is_that_of_the_records(kept, key):
    _, results, records = kept
    account = results.gateways["gateway"].keys[key]
    for llm, parts in (("own", {"prompt": "own.prefill", "cached": "own.prefill", "output": "own"}), ("hosted", {})):
        for kind, field in KINDS.items():
            found = getattr(account.llms[llm], field).value
            wanted = per_second(records, key, f"gateway/llms.{parts.get(kind, llm)}.{kind}")
            assert found == pytest.approx(wanted, rel=1e-12), (llm, kind)
    assert account.llms["own"].prompt_per_s.value > 0.0
    assert account.llms["hosted"].usd_per_hour.value == pytest.approx(
        3600 * per_second(records, key, "gateway/llms.hosted.usd"), rel=1e-9
    )
    for field, meter in (("requests", "requests"), ("served", "served"), ("rejections", "limited")):
        found = getattr(account, f"{field}_per_s")
        assert found.value == pytest.approx(per_second(records, key, f"llms.gateway.{meter}"))
        assert found.low <= found.value <= found.high


def test_keys_sum_up_to_models_and_teams_to_all(kept):
    _, results, _ = kept
    gateway = results.gateways["gateway"]
    assert list(gateway.teams) == ["shop", "support", NO_TEAM]
    for accounts in (gateway.keys, gateway.teams):
        for field in ("requests_per_s", "served_per_s", "unserved_per_s", "rejections_per_s"):
            total = sum(getattr(each, field).value for each in accounts.values())
            assert total == pytest.approx(getattr(gateway, field).value, rel=1e-12)
        for llm, usage in gateway.llms.items():
            for field in (*KINDS.values(), "usd_per_hour" if llm == "hosted" else "rent_per_hour"):
                total = sum(getattr(each.llms[llm], field).value for each in accounts.values())
                assert total == pytest.approx(getattr(usage, field).value, rel=1e-9), (llm, field)
        cost = sum(each.usd_per_hour.value for each in accounts.values())
        paid, rent = gateway.llms["hosted"].usd_per_hour.value, gateway.llms["own"].rent_per_hour.value
        assert cost == pytest.approx(paid + rent, rel=1e-9)
    assert gateway.llms["hosted"].usd_per_hour.value == pytest.approx(results.cost.usage_per_hour.value, rel=1e-9)
    for llm in ("own", "hosted"):
        for field in KINDS.values():
            whole = sum(getattr(each.llms[llm], field).value for each in gateway.keys.values())
            assert whole > 0.0


def test_what_is_asked_without_the_gateway_pays_its_part_of_the_rent(kept):
    system, results, records = kept
    own = system.resources("llms")["own"].cost_per_hour
    gateway = results.gateways["gateway"].llms["own"]
    through, all_of_it = (
        sum(
            (column(table, *(f"{path}{name}" for path in paths for name in names)) * sign)[done].sum()
            for table, done in ended(records)
            for sign, names in ((1, ("llms.own.prefill.prompt", "llms.own.output")), (-1, ("llms.own.prefill.cached",)))
        )
        for paths in (("gateway/",), ("gateway/", ""))
    )
    assert 0.0 < through < all_of_it
    assert own > 0.0
    assert gateway.rent_per_hour.value == pytest.approx(own * through / all_of_it, rel=1e-9)
    assert gateway.usd_per_hour is None


def test_tokens_of_a_workload_are_those_of_both_ways(kept):
    _, results, records = kept
    found = results.workloads["others"].tokens.usage["llms.own"].output_per_s.value
    tables = [(table, done) for table, done in ended(records) if table.workload == "others"]
    total = sum(column(t, "llms.own.output", "gateway/llms.own.output")[done].sum() for t, done in tables)
    assert found == pytest.approx(total / sum(each.duration for each in records))


def test_both_engines_say_the_same(kept):
    system, results, _ = kept
    compiled = sim.run(system, sim.Settings(engine="compiled", **SETTINGS))
    assert compiled.digest == results.digest
    assert compiled.gateways == results.gateways


def test_a_request_has_a_key_of_its_workload_and_else_one_by_share(kept):
    _, _, records = kept
    names = ("search", "chat", "batch", "spare")
    chosen = {name: np.zeros(4) for name in ("searchers", "askers", "messages.chats.turns", "others")}
    for table, done in ended(records):
        keys = np.stack([column(table, f"llms.gateway.key {name}")[done] for name in names], axis=1)
        assert (np.count_nonzero(keys, axis=1) <= 1).all()
        if table.workload in chosen:
            chosen[table.workload] += keys.sum(axis=0)
    assert chosen["searchers"][1:].tolist() == [0, 0, 0]
    assert chosen["others"][:3].tolist() == [0, 0, 0]
    asked = chosen["askers"]
    assert asked[0] == asked[3] == 0
    assert abs(asked[1] - 0.75 * asked.sum()) < 4.0 * math.sqrt(0.75 * 0.25 * asked.sum())


def test_all_turns_of_a_conversation_have_its_key(kept):
    _, _, records = kept
    for each in records:
        [turns] = [table for table in each.requests if table.workload == "messages.chats.turns"]
        of_chat = column(turns, "llms.gateway.key chat") > 0
        by_conversation = {}
        for number, key in zip(turns.number, of_chat, strict=True):
            by_conversation.setdefault(int(number), set()).add(bool(key))
        assert len(by_conversation) > 20
        assert all(len(keys) == 1 for keys in by_conversation.values())


def test_keys_without_limits_change_nothing_but_the_accounts():
    start, stop = DESK.index("      keys:"), DESK.index("      backends:")
    texts = DESK.replace(", requests: 120 RPM", ""), DESK[:start] + DESK[stop:]
    with_keys, without = (sim.simulate(sim.lower(loads(text)), 40.0, 5) for text in texts)
    assert with_keys.digest() != without.digest()
    for one, other in zip(with_keys.requests, without.requests, strict=True):
        assert np.array_equal(one.end, other.end, equal_nan=True)
        assert (one.outcome == other.outcome).all()


# Small models whose runs can be worked out by hand.


def gateway(text, provider="first_token: 1 s", times=1, more=""):
    """A gateway before a provider, and before another that answers at once; as many requests come at 0 s."""
    return loads(
        f"name: m\nhosts: {{app: {{cpu: 64}}}}\n{more}\nllms:\n  a: {{provider: {{{provider}}}}}\n"
        f"  b: {{provider: {{first_token: 0.1 s}}}}\n  it: {{gateway: {{host: app, cpu: 0 s, {text}}}}}\n"
        "services: {web: {host: app, operations: {ask: [{generate: it, input: 90, output: 10}]}}}\n"
        f"workloads: {{w: {{replay: {{times: [{', '.join(['0 s'] * times)}]}}, operation: web.ask}}}}\n"
        "run: {duration: 1 min, warm_up: none}\n"
    )


def of_backends(system, replications=2):
    """A gateway, occurrences by back end and kind, and the seconds that are measured."""
    results = sim.run(system, sim.Settings(replications=replications, jobs=1, engine="simpy"))
    found, seconds = results.gateways["it"], results.replayed_s
    fields = ("asked", "fallbacks", "retries", "timeouts", "errors")
    counts = {
        name: {field: round(seconds * getattr(each, field).per_s.value, 6) for field in fields}
        for name, each in found.backends.items()
    }
    return found, counts, seconds


@pytest.mark.parametrize("on_timeout", ["cancel", "abandon"])
def test_timeouts_retries_and_fallbacks_are_counted_by_backend(on_timeout):
    guard = f"{{timeout: 500 ms, retries: 2, on_timeout: {on_timeout}}}"
    found, counts, seconds = of_backends(gateway(f"backends: {{a: {guard}, b: {{}}}}, routing: fallback", times=4))
    assert counts["a"] == {"asked": 4, "fallbacks": 0, "retries": 8, "timeouts": 12, "errors": 0}
    assert counts["b"] == {"asked": 4, "fallbacks": 4, "retries": 0, "timeouts": 0, "errors": 0}
    assert found.backends["a"].timeouts.share.value == pytest.approx(3.0)
    assert found.backends["b"].fallbacks.share.value == 1.0
    assert found.served_per_s.value == pytest.approx(4 / seconds)


def test_failures_of_a_backend_are_no_timeouts():
    text = "backends: {a: {timeout: 5 s, retries: 1}, b: {weight: 0}}, fallback: [b]"
    _, counts, _ = of_backends(gateway(text, "first_token: 1 s, failures: 100%", times=3))
    assert counts["a"] == {"asked": 3, "fallbacks": 0, "retries": 3, "timeouts": 0, "errors": 6}
    assert counts["b"]["fallbacks"] == 3


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
@pytest.mark.parametrize("routing", ["weighted", "round_robin", "least_outstanding", "affinity", "fallback"])
def test_a_backend_without_weight_is_only_fallen_back_to(routing, engine):
    """Two of weight, of which one fails always, and one without, which no routing but the order of all chooses."""
    more = "" if routing == "fallback" else ", fallback: [b]"
    system = loads(
        "hosts: {app: {cpu: 64}}\nllms:\n  a: {provider: {first_token: 0.1 s}}\n"
        "  c: {provider: {first_token: 0.1 s, failures: 100%}}\n  b: {provider: {first_token: 0.1 s}}\n"
        f"  it: {{gateway: {{host: app, backends: {{b: {{weight: 0}}, a: {{}}, c: {{}}}}, routing: {routing}{more}}}}}"
        "\n"
        "services: {web: {host: app, operations: {ask: [{generate: it, input: 90, output: 10}]}}}\n"
        "workloads: {w: {rate: 20/s, operation: web.ask}}\nrun: {duration: 20 s, warm_up: none}"
    )
    found = sim.run(system, sim.Settings(replications=2, jobs=1, engine=engine)).gateways["it"].backends
    asked, fallbacks = found["b"].asked.per_s.value, found["b"].fallbacks.per_s.value
    if routing == "fallback":
        assert (found["b"].asked.share.value, fallbacks) == (pytest.approx(1.0, abs=0.02), 0.0)
    else:
        assert asked == fallbacks == pytest.approx(found["c"].errors.per_s.value, abs=0.2)
        assert found["a"].fallbacks.per_s.value == found["c"].fallbacks.per_s.value == 0.0
        assert found["a"].asked.share.value + found["c"].asked.share.value == pytest.approx(1.0, abs=0.02)


def test_only_the_ratio_of_weights_matters_however_large_they_are():
    shares = []
    for weight in ("1", "1.0e308"):
        backends = f"backends: {{a: {{weight: {weight}}}, b: {{weight: {weight}}}}}"
        shares.append([draw.distribution for draw in sim.lower(gateway(backends)).draws])
    assert shares[0] == shares[1]


def test_some_backend_has_a_weight():
    with pytest.raises(sim.InputError, match=r"llms.it.gateway: backends: got weight 0 of all of them, expected one"):
        gateway("backends: {a: {weight: 0}, b: {weight: 0%}}, fallback: [b]")
    with pytest.raises(sim.InputError, match=r"backends.a.weight: got -1, expected a factor of at least 0"):
        gateway("backends: {a: {weight: -1}}")
    assert gateway("backends: {a: {weight: 0}}, routing: fallback")


def test_a_hedged_copy_is_no_try_of_its_own():
    _, counts, _ = of_backends(gateway("backends: {a: {hedge: 300 ms}}", times=2))
    assert counts["a"] == {"asked": 2, "fallbacks": 0, "retries": 0, "timeouts": 0, "errors": 0}


@pytest.mark.parametrize(
    ("key", "served"),
    [("requests: 2 RPM", 2), ("tokens: 350 TPM", 3), ("requests: 1/h", 1), ("tokens: 99 TPM", 0), ("team: x", 5)],
)
def test_a_key_has_a_minute_of_its_limit_at_once_and_one_request_at_least(key, served):
    found, _, seconds = of_backends(gateway(f"backends: {{b: {{}}}}, keys: {{k: {{{key}}}}}", times=5))
    account = found.keys["k"]
    assert [round(seconds * each.value, 6) for each in (account.requests_per_s, account.served_per_s)] == [5, served]
    assert round(seconds * account.rejections_per_s.value, 6) == 5 - served


def test_what_a_key_may_not_use_of_one_backend_goes_to_the_next():
    keys = "keys: {k: {backends: {a: {requests: 2 RPM}, b: {tokens: 100 TPM}}}}"
    found, counts, seconds = of_backends(gateway(f"backends: {{a: {{}}, b: {{}}}}, routing: fallback, {keys}", times=5))
    assert (counts["a"]["asked"], counts["a"]["errors"]) == (5, 3)
    assert (counts["b"]["asked"], counts["b"]["errors"]) == (3, 2)
    assert [round(seconds * each.value, 6) for each in (found.served_per_s, found.rejections_per_s)] == [3, 5]
    with pytest.raises(sim.InputError, match=r"keys.k.backends: got 'c', expected one of the backends a"):
        gateway("backends: {a: {}}, keys: {k: {backends: {c: {requests: 2 RPM}}}}")


def test_rejected_tries_are_told_from_prompts_that_are_not_served():
    """Of five prompts two pass; the others are tried three times at each back end, and all of that is rejected."""
    guard = "{retries: {most: 2, backoff: 1 ms}}"
    keys = "keys: {k: {backends: {a: {requests: 1 RPM}, b: {requests: 1 RPM}}}}"
    system = gateway(f"backends: {{a: {guard}, b: {guard}}}, routing: fallback, {keys}", times=5)
    found, _, seconds = of_backends(system)
    account = found.keys["k"]
    counts = (account.requests_per_s, account.served_per_s, account.unserved_per_s, account.rejections_per_s)
    assert [round(seconds * each.value, 6) for each in counts] == [5, 2, 3, 4 * 3 + 3 * 3]


def test_no_team_is_called_so():
    with pytest.raises(sim.InputError) as raised:
        gateway("backends: {a: {}}, keys: {k: {}, other: {team: no team}}")
    assert str(raised.value) == (
        "model:7:86: llms.it.gateway.keys.other.team: got 'no team', expected another name: "
        "in results it stands for the keys without a team"
    )


def test_the_limit_of_many_customers_lets_one_request_pass_at_least():
    keys = "keys: {customer: {uniform: 1}}"
    system = gateway("backends: {b: {}}, limit: {key: customer, requests: 1/h}", times=5, more=keys)
    found, _, seconds = of_backends(system)
    assert round(seconds * found.served_per_s.value, 6) == 1
    assert round(seconds * found.rejections_per_s.value, 6) == 4
    assert found.keys == {}


def test_a_gateway_behind_another_has_accounts_of_its_own():
    system = loads(
        "hosts: {app: {cpu: 64}}\nllms:\n  b: {provider: {first_token: 0.1 s, output_price: 1000000}}\n"
        "  it: {gateway: {host: app, backends: {inner: {}, b: {weight: 1e-9}}, keys: {x: {}}}}\n"
        "  inner: {gateway: {host: app, backends: {b: {}}, keys: {y: {team: out}}}}\n"
        "services: {web: {host: app, operations: {ask: [{generate: it, input: 90, output: 10}]}}}\n"
        "workloads: {w: {replay: {times: [0 s, 1 s, 2 s]}, operation: web.ask}}\nrun: {duration: 1 min, warm_up: none}"
    )
    results = sim.run(system, sim.Settings(replications=2, jobs=1))
    found, seconds = results.gateways, results.replayed_s
    for name, key in (("it", "x"), ("inner", "y")):
        assert found[name].keys[key].usd_per_hour.value == pytest.approx(3 * 10 * 3600 / seconds)
        assert found[name].keys[key].output_per_s.value == pytest.approx(30 / seconds)


def test_a_workload_without_a_key_is_refused():
    with pytest.raises(sim.InputError, match=r"llms.it.gateway.keys: w has none of the keys, expected one with w"):
        loads(
            "hosts: {app: {cpu: 1}}\nllms:\n  a: {provider: {first_token: 1 s}}\n"
            "  it: {gateway: {host: app, backends: {a: {}}, keys: {k: {workloads: [v]}}}}\n"
            "  outer: {gateway: {host: app, backends: {it: {}}}}\n"
            "services: {web: {host: app, operations: {ask: [{generate: outer, input: 9, output: 1}], no: []}}}\n"
            "workloads: {w: {rate: 1/s, operation: web.ask}, v: {rate: 1/s, operation: web.no}}\n"
        )


# What is shown.


def test_tables_and_json_have_the_ledger(kept, tmp_path, capsys, monkeypatch):
    _, results, _ = kept
    from rich.console import Console

    console = Console(width=80)
    with console.capture() as capture:
        for table in gateway_tables("gateway", results.gateways["gateway"], 0.95):
            console.print(table)
    shown = capture.get()
    for label in ("gateway: back ends", "time-outs", "fallbacks", "model hosted: input tokens", "team shop: requests",
                  "key search of shop: requests", "not served", "tries rejected by limits", "key spare"):  # fmt: skip
        assert label in shown
    assert max(map(len, shown.splitlines())) <= 80
    (tmp_path / "desk.yaml").write_text(DESK, encoding="utf-8")
    arguments = ["tpsim", "run", str(tmp_path / "desk.yaml"), "-d", "20s", "-r", "2", "-j", "1", "--json"]
    monkeypatch.setattr("sys.argv", [*arguments, "-S", "llms.gateway.gateway.keys.chat.requests=30 RPM"])
    with pytest.raises(SystemExit):
        cli.main()
    found = json.loads(capsys.readouterr().out)["gateways"]["gateway"]
    assert found["keys"]["search"]["team"] == "shop"
    assert set(found["keys"]["chat"]["rejections_per_s"]) == {"value", "low", "high", "n"}
    assert found["keys"]["chat"]["rejections_per_s"]["value"] > 0.0
    assert set(found["backends"]["own"]["fallbacks"]) == {"per_s", "share"}
