"""What the parts of language model serving mean, in small models whose runs can be worked out by hand."""

import math

import numpy as np
import pytest

import simulator as sim
from simulator.analytic.caches import che_hit_ratio
from simulator.distributions import Zipf
from simulator.model.files import loads
from simulator.model.llm import Efficiency, kv_tokens, step_time
from simulator.program.stations import Inference, Pool, Sharing
from simulator.records import COMPLETED

SEED = 11
LLAMA_KV_BYTES = 32 * 2 * 8 * 128 * 2  # of a token: layers, keys and values, heads of them, their size, bf16
SECOND_STEPS = "step_time: {overhead: 1 s, weights: 0 s, token: 0 s}, kv_tokens: 100k"


def model(llms, steps, workloads, hosts="app: {cpu: 64}", services="", more=""):
    lines = "\n".join(f"      - {step}" for step in steps)
    return loads(
        f"name: m\nhosts: {{{hosts}}}\nllms:\n{indented(llms)}\n{more}\nservices:\n  web:\n    host: app\n"
        f"    operations:\n     ask:\n{lines}\n{services}\nworkloads:\n{indented(workloads)}\n"
    )


def indented(mapping):
    return "\n".join(f"  {name}: {value}" for name, value in mapping.items())


def simulated(system, duration=1000.0):
    """Tables of the requests by workload."""
    records = sim.simulate(sim.lower(system), duration, SEED)
    return {table.workload: table for table in records.requests}


def meter(table, name):
    return table.meter[:, table.meters.index(name)]


def component(table, name):
    return table.service[:, table.components.index(name)]


def at(*times):
    return f"{{replay: {{times: [{', '.join(f'{time} s' for time in times)}]}}, operation: web.ask}}"


def together(count):
    return at(*[0] * count)


GENERATE = "{generate: it, input: %s, output: %s}"


# GPUs of one's own.


def engines(**settings):
    own = {"model": "llama-3.1-8b", "gpu": "h100-sxm", **settings}
    text = "{" + ", ".join(f"{name}: {value}" for name, value in own.items()) + "}"
    system = model({"it": text}, [GENERATE % (100, 10)], {"w": "{rate: 1/s, operation: web.ask}"})
    stations = sim.lower(system).stations
    found = [station for station in stations if isinstance(station, Inference)]
    memory = [stations[each.memory] for each in found]
    assert all(isinstance(pool, Pool) for pool in memory)
    return system.resources("llms")["it"], found, [pool.capacity for pool in memory]


@pytest.mark.parametrize(("gpus", "tensor"), [(1, 1), (4, 1), (4, 2), (4, 4)])
def test_tensor_parallel_gpus_make_one_engine_with_the_memory_of_all(gpus, tensor):
    llm, found, blocks = engines(gpus=gpus, tensor_parallel=tensor)
    room = kv_tokens(llm.model, llm.gpu, tensor, "bf16", None)
    assert len(found) == gpus // tensor
    assert blocks == [room // 16] * (gpus // tensor)
    assert {each.step for each in found} == {step_time(llm.model, llm.gpu, tensor, "bf16", None, Efficiency())}


def test_tensor_parallel_reads_weights_and_computes_as_many_times_faster_but_exchanges():
    one, four = (engines(gpus=4, tensor_parallel=tensor)[1][0].step for tensor in (1, 4))
    for name in ("weights", "token", "chunk", "generated"):
        assert getattr(four, name) == pytest.approx(getattr(one, name) / 4.0), name
    assert (four.overhead, four.sequence) == (one.overhead, one.sequence)
    assert one.link == one.link_token == 0.0
    # Two all-reduces in each of 32 layers, each of 2 (n - 1) / n of 4,096 numbers of 2 bytes a token, 44 % of 450 GB/s.
    assert four.link == pytest.approx(2 * 32 * 13e-6)
    assert four.link_token == pytest.approx(2 * 32 * (2 * 3 / 4 * 4096 * 2) / (0.44 * 450e9))


def test_pipeline_parallel_has_a_batch_for_each_stage_with_its_share_of_the_memory():
    llm, found, blocks = engines(gpus=4, pipeline_parallel=4, max_sequences=64)
    assert [each.sequences for each in found] == [16] * 4
    room = kv_tokens(llm.model, llm.gpu, 4, "bf16", None)
    assert blocks == [room // 4 // 16] * 4
    assert {each.step for each in found} == {engines()[1][0].step}  # a pass takes no less time


def test_keys_and_values_of_prompts_computed_apart_go_over_the_link_first():
    split = "{model: llama-3.1-8b, gpu: h100-sxm, prefill: {gpus: 1, link: 1 GB/s}}"
    system = model({"it": split}, [GENERATE % (1000, 11)], {"w": together(1)})
    table = simulated(system)["w"]
    stations = sim.lower(system).stations
    assert sum(isinstance(each, Inference) for each in stations) == 2
    assert sum(isinstance(each, Sharing) and each.resource == "llms.it.prefill.link" for each in stations) == 1
    assert component(table, "it.transfer") == pytest.approx(1000 * LLAMA_KV_BYTES / 1e9)
    step = engines()[1][0].step
    first = step.seconds(1000.0, 0.0, 0.0, 0.0, step.prompt_attention(0.0, 1000.0))
    assert meter(table, "first token") == pytest.approx(first, rel=1e-6)
    others = sum(step.seconds(1.0, 1.0, 1000.0 + n, 1000.0 + n, 0.0) for n in range(1, 11))
    assert table.end == pytest.approx(first + 1000 * LLAMA_KV_BYTES / 1e9 + others, rel=1e-3)


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
@pytest.mark.parametrize(
    ("coefficients", "seconds"),
    [
        ("longest: 1 ms", 1.4),  # the prompt of 400 tokens is the longest sequence
        ("longest: 1 ms, chunk: 1 us", 1.4),  # attention of 400 tokens to 200 on average, 0.08 s, is less
        ("longest: 1 ms, chunk: 10 us", 1.8),
        ("longest: 1 ms, uneven: 500 us, chunk: 5 us", 1.6),
        ("activation: 1 ms", 1.4),
    ],
)
def test_a_prompt_takes_as_long_as_the_coefficients_say(engine, coefficients, seconds):
    llm = f"{{step_time: {{overhead: 1 s, weights: 0 s, token: 0 s, {coefficients}}}, kv_tokens: 100k}}"
    program = sim.lower(model({"it": llm}, [GENERATE % (400, 1)], {"w": at(0)}))
    (table,) = sim.simulate(program, 100.0, SEED, engine=engine).requests
    assert table.end == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("batching", "ends"),
    [
        ("continuous", {"alone": 1.0, "two": 3.0, "six": 7.0, "late": 5.0}),  # comes in when `two` has gone
        ("static", {"alone": 1.0, "two": 3.0, "six": 7.0, "late": 9.0}),  # waits for all of the batch
    ],
)
def test_a_static_batch_takes_nobody_in_before_all_have_ended(batching, ends):
    requests = {"alone": (0.0, 1), "two": (0.5, 2), "six": (0.5, 6), "late": (1.5, 2)}  # when, and tokens of a second
    operations = "".join(f"      {name}: [{GENERATE % (10, output)}]\n" for name, (_, output) in requests.items())
    workloads = {
        name: f"{{replay: {{times: [{moment} s]}}, operation: api.{name}}}" for name, (moment, _) in requests.items()
    }
    services = f"  api:\n    host: app\n    operations:\n{operations}"
    llm = f"{{{SECOND_STEPS}, max_sequences: 2, batching: {batching}}}"
    tables = simulated(model({"it": llm}, ["{delay: 1 s}"], workloads, services=services))
    assert {name: table.end.item() for name, table in tables.items()} == pytest.approx(ends)


@pytest.mark.parametrize("engine", ["simpy", "compiled"])
@pytest.mark.parametrize(
    ("mixed", "ends"),
    [
        ("true", {"long": 3.0, "other": 2.0, "third": 4.0}),
        ("false", {"long": 5.0, "other": 2.0, "third": 4.0}),  # `long` waits while the others' prompts are computed
    ],
)
def test_prompts_come_first_where_steps_are_not_mixed(engine, mixed, ends):
    requests = {"long": (0.0, 3), "other": (0.5, 1), "third": (1.5, 2)}  # when, and tokens of a second
    operations = "".join(f"      {name}: [{GENERATE % (10, output)}]\n" for name, (_, output) in requests.items())
    workloads = {
        name: f"{{replay: {{times: [{moment} s]}}, operation: api.{name}}}" for name, (moment, _) in requests.items()
    }
    services = f"  api:\n    host: app\n    operations:\n{operations}"
    llm = f"{{{SECOND_STEPS}, mixed_steps: {mixed}}}"
    program = sim.lower(model({"it": llm}, ["{delay: 1 s}"], workloads, services=services))
    tables = sim.simulate(program, 100.0, SEED, engine=engine).requests
    assert {table.workload: table.end.item() for table in tables} == pytest.approx(ends)


def test_a_static_batch_is_slower_under_load():
    def latency(batching):
        llm = f"{{model: llama-3.1-8b, gpu: h100-sxm, max_sequences: 8, batching: {batching}}}"
        lengths = GENERATE % (200, "{exponential: 50}")
        table = simulated(model({"it": llm}, [lengths], {"w": "{rate: 8/s, operation: web.ask}"}), 200.0)["w"]
        done = table.outcome == COMPLETED
        return (table.end - table.arrival)[done].mean()

    assert latency("static") > 1.2 * latency("continuous")


CONVERSATION = "{%s, operation: web.ask, conversation: {turns: %s, think: %s, question: %s, answer: %s}}"


def cached_share(llm, **change):
    llm = "{" + ", ".join([llm, *(f"{name}: {value}" for name, value in change.items())]) + "}"
    talk = CONVERSATION % ("rate: 2/s", 4, "{exponential: 5 s}", 64, 64)
    table = simulated(model({"it": llm}, ["generate: it"], {"w": talk}), 200.0)["messages.w.turns"]
    done = table.outcome == COMPLETED
    return meter(table, "llms.it.cached")[done].sum() / meter(table, "llms.it.prompt")[done].sum()


def test_affinity_finds_what_a_conversation_has_said_and_turns_in_turn_do_not():
    own = "model: llama-3.1-8b, gpu: h100-sxm, gpus: 4"
    bound, spread = cached_share(own, affinity="true"), cached_share(own)
    # Of 64 + 192 + 320 + 448 tokens 0 + 128 + 256 + 384 were there; the keys and values of the last token of an answer
    # are in no step before, so that its block is not.
    assert 0.6 < bound <= 768 / 1024
    assert spread < 0.6 * bound
    assert cached_share(own, affinity="true", prefix_caching="false") == 0.0


# Contexts.


def turns_of(steps, llms=None, turns=5, question=10, answer=20, **more):
    llms = llms or {"it": "{provider: {first_token: 1 s}}"}
    talk = CONVERSATION % ("replay: {times: [0 s]}", turns, "0 s", question, answer)
    return simulated(model(llms, steps, {"w": talk}, **more))["messages.w.turns"]


@pytest.mark.parametrize(
    ("step", "prompts"),
    [
        ("generate: it", [10, 40, 70, 100, 130]),
        ("{generate: it, system: 7}", [17, 47, 77, 107, 137]),
        ("{generate: it, context: {window: 50}}", [10, 40, 60, 60, 60]),
        ("{generate: it, context: 50, system: 7, retrieved: 3}", [20, 50, 70, 70, 70]),
        # After 60 and after 75 tokens it is summarised, and goes on from 15.
        ("{generate: it, context: {summary: {above: 60, to: 15, by: writer}}}", [10, 40, 25, 55, 25]),
        ("{generate: it, context: {window: 12, summary: {above: 60, to: 15, by: writer}}}", [10, 22, 22, 22, 22]),
    ],
)
def test_prompts_are_as_long_as_the_context_says(step, prompts):
    provider = "{provider: {first_token: 1 s}}"
    table = turns_of([step], {"it": provider, "writer": provider})
    assert meter(table, "llms.it.prompt").tolist() == prompts
    assert meter(table, "llms.it.output").tolist() == [20] * 5
    if "summary" in step:
        assert meter(table, "llms.writer.prompt").tolist() == [0, 0, 60, 0, 75]
        assert meter(table, "llms.writer.output").tolist() == [0, 0, 15, 0, 15]


def test_a_context_that_is_kept_outside_is_moved_before_and_after_every_turn():
    keep = "  keep: {host: data, operations: {get: [{compute: 0 s}], put: [{compute: 0 s}]}}"
    step = "{generate: it, context: {store: {fetch: keep.get, save: keep.put, bytes_per_token: 5}}}"
    hosts = "app: {cpu: 8, nic: 1 GB/s}, data: {cpu: 8, nic: 1 kB/s}"
    table = turns_of([step], services=keep, hosts=hosts)
    assert meter(table, "llms.it.prompt").tolist() == [10, 40, 70, 100, 130]
    history = np.arange(6) * 30.0
    assert component(table, "keep.nic out") == pytest.approx(history[:-1] * 5 / 1000)
    assert component(table, "keep.nic in") == pytest.approx(history[1:] * 5 / 1000)


def test_a_window_that_cuts_finds_only_the_system_text_again():
    own = {"it": "{model: llama-3.1-8b, gpu: h100-sxm}"}
    cut = turns_of(["{generate: it, system: 160, context: 128}"], own, question=64, answer=64)
    whole = turns_of(["{generate: it, system: 160}"], own, question=64, answer=64)
    assert meter(cut, "llms.it.cached")[2:].tolist() == [160] * 3
    assert (meter(whole, "llms.it.cached")[2:] > 160 + 128).all()


# Providers.


def provided(steps, workload, **settings):
    spec = ", ".join(f"{name}: {value}" for name, value in {"first_token": "1 s", **settings}.items())
    return simulated(model({"it": f"{{provider: {{{spec}}}}}"}, steps, {"w": workload}))


def test_a_provider_takes_its_time_and_its_price_for_tokens():
    step = GENERATE % (1000, 501)
    table = provided([step], together(1), per_token="10 ms", per_input_token="0.1 ms", input_price=2, output_price=8)[
        "w"
    ]
    assert meter(table, "first token") == pytest.approx(1.0 + 0.1)
    assert meter(table, "decode time") == pytest.approx(5.0)
    assert table.end == pytest.approx(6.1)
    assert meter(table, "llms.it.usd") == pytest.approx((1000 * 2 + 501 * 8) / 1e6)


@pytest.mark.parametrize("written", [None, 2.5])
def test_a_provider_asks_less_for_whole_steps_of_128_tokens_from_1024_that_it_has_kept(written):
    prices = {"input_price": 2, "output_price": 8, "cached_price": 0.5}
    if written is not None:
        prices["cache_write_price"] = written
    talk = CONVERSATION % ("replay: {times: [0 s]}", 4, "0 s", 600, 300)
    table = provided(["generate: it"], talk, **prices)["messages.w.turns"]
    prompts, cached = meter(table, "llms.it.prompt"), meter(table, "llms.it.cached")
    assert prompts.tolist() == [600, 1500, 2400, 3300]
    assert cached.tolist() == [0, 0, 14 * 128, 21 * 128]  # of 0, 900, 1,800 and 2,700 tokens that have been said
    usd = ((prompts - cached) * (written or 2) + cached * 0.5 + 300 * 8) / 1e6
    assert meter(table, "llms.it.usd") == pytest.approx(usd)


def test_a_provider_forgets_what_nobody_asks_for_in_time():
    talk = CONVERSATION % ("replay: {times: [0 s]}", 4, "10 min", 1200, 300)
    table = provided(["generate: it"], talk, cached_price=0.5)["messages.w.turns"]
    assert not meter(table, "llms.it.cached").any()
    table = provided(["generate: it"], talk, cached_price=0.5, cache_time="20 min")["messages.w.turns"]
    assert meter(table, "llms.it.cached")[1] == 11 * 128


@pytest.mark.parametrize("limit", [{"requests_rate": "60 RPM"}, {"tokens_rate": "6k TPM"}])
def test_a_provider_lets_the_requests_of_a_minute_through_and_rejects_others(limit):
    step = GENERATE % (90, 10)
    table = provided([step], together(62), **limit)["w"]
    assert (table.outcome == COMPLETED).sum() == 60
    assert table.end[table.outcome != COMPLETED].tolist() == [0.0, 0.0]
    table = provided([step], together(62), when_limited="wait", **limit)["w"]
    assert (table.outcome == COMPLETED).all()
    assert sorted(table.end)[-3:] == pytest.approx([1.0, 2.0, 3.0])  # one a second after those


def test_a_provider_fails_as_often_as_it_says():
    table = provided([GENERATE % (10, 10)], "{rate: 10/s, operation: web.ask}", failures="10%")["w"]
    failed, count = (table.outcome > COMPLETED).sum(), len(table)
    assert abs(failed - 0.1 * count) < 4.0 * math.sqrt(0.09 * count)


# Gateways.


def behind(gateway, step=GENERATE % (10, 10), workload="{rate: 10/s, operation: web.ask}", more="", **backends):
    llms = {name: f"{{provider: {{first_token: 0.1 s, {settings}}}}}" for name, settings in backends.items()}
    llms["it"] = f"{{gateway: {{host: app, {gateway}}}}}"
    return simulated(model(llms, [step], {"w": workload}, more=more))["w"]


def asked(table, name):
    """Whether each request was answered there."""
    return meter(table, f"llms.{name}.prompt") > 0


def test_a_gateway_shares_prompts_out_by_weight():
    table = behind("backends: {a: {weight: 3}, b: {}}", a="", b="")
    done = table.outcome == COMPLETED
    share = asked(table, "a")[done].mean()
    assert abs(share - 0.75) < 4.0 * math.sqrt(0.75 * 0.25 / done.sum())
    assert (asked(table, "a") ^ asked(table, "b"))[done].all()


def test_a_gateway_asks_in_turn():
    table = behind("routing: round_robin, backends: {a: {}, b: {}}", a="", b="")
    assert abs(asked(table, "a").sum() - asked(table, "b").sum()) <= 1


@pytest.mark.parametrize(
    "how", ["backends: {a: {}, b: {}}, routing: fallback", "backends: {a: {}, b: {weight: 0}}, fallback: [b]"]
)
def test_a_gateway_asks_the_next_where_one_fails(how):
    table = behind(how, a="failures: 30%", b="")
    done = table.outcome == COMPLETED
    assert (table.outcome <= COMPLETED).all()
    share = asked(table, "b")[done].mean()
    assert abs(share - 0.3) < 4.0 * math.sqrt(0.3 * 0.7 / done.sum())
    alone = behind("backends: {a: {}}", a="failures: 30%")
    assert (alone.outcome > COMPLETED).mean() == pytest.approx(0.3, abs=0.03)


def test_a_gateway_cache_hits_as_often_as_che_says_and_some_similar_answers_are_wrong():
    similar, wrong = 0.2, 0.1
    cache = f"cache: {{entries: 100, similar: {similar}, wrong: {wrong}}}"
    table = behind(
        f"{cache}, backends: {{a: {{}}}}", "{generate: it, key: prompt, input: 10, output: 10}",
        "{rate: 40/s, operation: web.ask}", "keys: {prompt: {zipf: {count: 1k, exponent: 0.9}}}", a="",
    )  # fmt: skip
    done = table.outcome == COMPLETED
    count = done.sum()
    missed = 1.0 - che_hit_ratio(Zipf(1000, 0.9).probabilities(), 100)
    share = asked(table, "a")[done].mean()
    assert share == pytest.approx(missed * (1.0 - similar), abs=4.0 * math.sqrt(0.25 / count))
    wrongs = meter(table, "llms.it.wrong answers")[done].mean()
    expected = missed * similar * wrong
    assert wrongs == pytest.approx(expected, abs=4.0 * math.sqrt(expected / count))


def test_a_gateway_limits_what_each_key_may_use():
    limit = "limit: {key: team, requests: 30 RPM}, backends: {a: {}}"
    table = behind(limit, workload=together(100), more="keys: {team: {uniform: 2}}", a="")
    done = (table.outcome == COMPLETED).sum()
    assert done == 60


def test_a_gateway_takes_its_cpu_on_its_host():
    table = behind("cpu: 7 ms, authentication: 2 ms, backends: {a: {}}", workload=together(1), a="")
    assert component(table, "it.cpu") == pytest.approx(0.007)
    assert component(table, "it.authentication") == pytest.approx(0.002)
    assert table.end == pytest.approx(0.109)


def test_what_weights_and_reserve_leave_of_the_memory_is_blocks_of_keys_and_values():
    _, _, whole = engines(memory_utilization="90%")
    llm, _, part = engines(memory_utilization="60%")
    weights = llm.model.weights_bytes("bf16")
    expected = (llm.gpu.memory * 0.6 - llm.efficiency.reserve - weights) // (16 * LLAMA_KV_BYTES)
    assert part == [expected]
    assert part < whole
