"""Prompts of a trace with prefix hashes, in the simulated engines: against a walk by hand, and the closed form."""

import json
from collections import OrderedDict
from itertools import takewhile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_engines_agree import check_program

from simulator.analytic.prefix_caches import most_found, prefix_hits
from simulator.analytic.reading import Reading
from simulator.engines import compiled
from simulator.errors import InputError
from simulator.model.files import load, loads
from simulator.model.lowering import lower
from simulator.program.stations import MOST_USES, Inference
from simulator.records import INFERENCE_FIELDS
from simulator.results.conservation import check
from simulator.streams import Stream, Streams
from simulator.traces.column import TraceTimes
from simulator.traces.formats import BLOCK_TOKENS
from simulator.traces.prefixes import PrefixNumbers, TracePrefixes
from simulator.traces.trace import open_trace

ROOT = Path(__file__).parent.parent
MOONCAKE = ROOT.parent / "shared" / "data" / "mooncake"
B = BLOCK_TOKENS
MODEL = """
llms:
  it: {LLM}
hosts: {app: {cpu: 1}}
services: {web: {host: app, operations: {ask: [{generate: it, input: {trace: input}, STEP}]}}}
workloads: {w: {replay: {REPLAY}, operation: web.ask}}
"""
ALONE = "step_time: {overhead: 1 us, weights: 0 s, token: 0 s}, max_sequences: 1, max_batched_tokens: 1M"


@pytest.fixture(autouse=True, scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("traces")


def trace_of(folder, requests, gap=100.0):
    """A file with prompts, each with its ids, tokens and output tokens, so many seconds after the one before."""
    path = folder / "t.jsonl"
    rows = (
        {"timestamp": 1000 * gap * n, "input_length": tokens, "output_length": output, "hash_ids": list(ids)}
        for n, (ids, tokens, output) in enumerate(requests)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def model(path, llm, step="output: {trace: output}", **replay):
    named = ", ".join(f"{name}: {value}" for name, value in {"file": path, **replay}.items())
    return loads(MODEL.replace("LLM", llm).replace("STEP", step).replace("REPLAY", named))


def cached(program, duration=1e6):
    """Tokens that each prompt found."""
    (table,) = check_program(program, duration).requests
    return table.meter[np.argsort(table.number), table.meters.index("llms.it.cached")].tolist()


def totals(records, station=0):
    return dict(zip(INFERENCE_FIELDS, records.inference[-1, station], strict=True))


# By hand.

STORY = [
    ([1, 2], 2 * B, 1),  # nothing is there; leaves 1 and 2 behind
    ([1, 2], 2 * B, 1),  # the last token is computed anyway, and with it its block: a second 2, which nobody finds
    ([1, 2, 3, 4], 3 * B + 1, 1),  # finds two, takes the two others of the four; 4 is no whole block
    ([7], B, 1),  # in place of the partial block, the first to come free
    ([8, 9], 2 * B, 1),  # in place of 3 and 2: the end of a prompt goes before its beginning
    ([1, 2], 2 * B, 1),
]


@pytest.mark.parametrize(
    ("settings", "step", "expected"),
    [
        (f"kv_tokens: {4 * B}, block: {B}", "output: 1", [0, B, 2 * B, 0, 0, B]),
        (f"kv_tokens: {6 * B}, block: {B}", "output: 1", [0, B, 2 * B, 0, 0, B]),
        (f"kv_tokens: {9 * B}, block: {B}", "output: 1", [0, B, 2 * B, 0, 0, B]),
        (f"kv_tokens: {99 * B}, block: 16", "output: 1", [0, 2 * B - 16, 2 * B, 0, 0, 2 * B - 16]),
        (f"kv_tokens: {99 * B}, block: 16", "output: 1, prefix_hashes: false", [0] * 6),
        (f"kv_tokens: {99 * B}, block: 16, prefix_caching: false", "output: 1", [0] * 6),
        (f"kv_tokens: {99 * B}, block: 16", "output: 1, retrieved: 64", [0] * 6),
        (f"kv_tokens: {99 * B}, block: 16", "output: 1, key: {uniform: 1}", [0, 1008, 1024, 496, 1008, 1008]),
        # Behind a system's text of its own, of which 96 tokens are whole blocks, no block of 16 ends with a hash's.
        (f"kv_tokens: {99 * B}, block: 16", "output: 1, system: 100", [0, 1120, 1120, 96, 96, 1120]),
    ],
)
def test_a_prompt_finds_what_its_hashes_say(folder, settings, step, expected):
    system = model(trace_of(folder, STORY), f"{ALONE}, {settings}", step)
    assert cached(lower(system)) == expected


def test_equal_hashes_of_partial_blocks_are_equal_tokens(folder):
    story = [([1, 2], 700, 9), ([1, 2], 700, 9), ([1, 3], 650, 9), ([1, 4, 5], 3 * B, 40)]
    found = cached(lower(model(trace_of(folder, story), f"{ALONE}, kv_tokens: 1M")))
    assert found == [0, 688, B, B]  # 43 whole blocks of 16 tokens in 699 of 700


def test_the_mean_that_analysis_takes_is_that_of_an_endless_cache(folder):
    path = trace_of(folder, STORY)
    program = lower(model(path, f"{ALONE}, kv_tokens: 1M"))
    trace = open_trace(path, "mooncake")
    assert most_found(TraceTimes(trace, 6)) == 6 * B / 6
    assert most_found(TraceTimes(trace, 2)) == 2 * B / 2
    (generate,) = (each for each in program.instructions if hasattr(each, "mean_cached"))
    assert generate.mean_cached == B


def test_twice_the_tokens_are_twice_the_block(folder):
    system = model(trace_of(folder, STORY), f"{ALONE}, kv_tokens: 1M, block: 16")
    text = "services.web.operations.ask.0.input.trace"
    doubled = load(written(folder, system), [f"{text}={{column: input, each: 2}}"])
    assert cached(lower(doubled)) == [0, 4 * B - 16, 4 * B, 0, 0, 4 * B - 16]


def written(folder, system):
    from simulator.model.files import dump

    (folder / "m.yaml").write_text(dump(system))
    return folder / "m.yaml"


# Prompts of which none overlaps another, against the rule as a list.


def walked(requests, count, size, levels=1):
    """Tokens that each prompt finds in `count` blocks: the free ones in lists by how often they were found again."""
    free = [OrderedDict.fromkeys(range(count)), *(OrderedDict() for _ in range(levels - 1))]
    uses, key_of, slot_of, found_of = [0] * count, {}, {}, []

    def list_of(slot):
        return free[min(uses[slot], levels - 1)]

    for ids, tokens, output in requests:
        keys = [(ids[((block + 1) * size - 1) // B], block) for block in range(tokens // size)]
        found = list(takewhile(slot_of.__contains__, keys[: (tokens - 1) // size]))
        held = [slot_of[key] for key in found]
        for slot in held:
            del list_of(slot)[slot]
            uses[slot] += 1
        for place in range(len(held), -(-(tokens + output - 1) // size)):
            slot, _ = next(level for level in free if level).popitem(last=False)
            slot_of.pop(key_of.pop(slot, None), None)
            uses[slot] = 0
            held.append(slot)
            if place == (tokens - 1) // size:  # the whole prompt has blocks; only now it is computed and can be found
                new = {key: each for key, each in zip(keys, held, strict=False) if key not in slot_of}
                slot_of |= new
                key_of |= {each: key for key, each in new.items()}
        for slot in reversed(held):
            list_of(slot)[slot] = None
        found_of.append(len(found) * size)
    return found_of


def random_requests(count, seed):
    """Prompts that go down a tree, some of them to a part of a block."""
    random = np.random.default_rng(seed)
    nodes, requests = {}, []
    for _ in range(count):
        path = tuple(random.integers(0, 3, random.integers(1, 7)).tolist())
        part = int(random.integers(1, B)) if random.random() < 0.5 else B
        ways = [*(path[: depth + 1] for depth in range(len(path) - 1)), (*path, part)]
        ids = [nodes.setdefault(way, 1000 + 3 * len(nodes)) for way in ways]
        requests.append((ids, B * (len(path) - 1) + part, int(random.integers(1, 700))))
    return requests


@pytest.mark.parametrize("eviction", ["lru", "lfu"])
@pytest.mark.parametrize("size", [32, 200, 512, 700])
def test_what_is_found_is_what_the_rule_leaves(folder, eviction, size):
    requests = random_requests(150, size)
    for tokens in (4200, 9000, 30_000):
        system = model(trace_of(folder, requests), f"{ALONE}, kv_tokens: {tokens}, block: {size}, eviction: {eviction}")
        found = walked(requests, tokens // size, size, 1 + (MOST_USES if eviction == "lfu" else 0))
        assert cached(lower(system)) == found
        assert 0 < sum(found) < sum(tokens for _, tokens, _ in requests)


# The traces of Mooncake, against the closed form.


@pytest.mark.skipif(not MOONCAKE.exists(), reason="needs the traces of Mooncake")
@pytest.mark.parametrize(("name", "rows"), [("synthetic", 3993), ("conversation", 3000)])
def test_simulated_hit_rates_are_the_walked_ones(name, rows):
    path = MOONCAKE / f"{name}_trace.jsonl.gz"
    trace = open_trace(path, "mooncake")
    prefixes = TracePrefixes(TraceTimes(trace, rows), B)
    prompts = trace.column("input", 0, rows).tolist()
    rule = [(prefixes.of(row).tolist(), prompt, 1) for row, prompt in enumerate(prompts)]
    capacities = [10**6, 3 * 10**6, 10**7, 2 * 10**8]
    for capacity, walk in zip(capacities, prefix_hits(trace, capacities, rows=rows), strict=True):
        found = simulated(path, capacity, rows, "output: 1")
        assert found["prompt_tokens"] == walk.prompt_tokens
        if capacity == capacities[-1]:  # nothing is evicted
            assert found["cached_tokens"] == walk.hit_tokens - computed_again(rule)
        assert found["cached_tokens"] == sum(walked(rule, capacity // B, B))
        # The closed form evicts the beginning of a prompt before its end, and has its partial block under a key.
        assert found["cached_tokens"] == pytest.approx(walk.hit_tokens, abs=0.004 * walk.prompt_tokens)
        answered = simulated(path, capacity, rows, "output: {trace: output}")  # answers take blocks, too
        assert answered["cached_tokens"] == pytest.approx(walk.hit_tokens, abs=0.006 * walk.prompt_tokens)


def simulated(path, capacity, rows, step):
    """What one replica with blocks of 512 tokens has counted, one prompt after the other."""
    system = model(path, f"{ALONE}, kv_tokens: {capacity}, block: {B}", step, most=rows)
    records = compiled.simulate(lower(system), 1e6, 1)
    check(records, lower(system))
    return totals(records)


def computed_again(requests):
    """Tokens of last blocks of prompts that are there as a whole, of which the last token has to be computed."""
    seen, tokens = set(), 0
    for ids, prompt, _ in requests:
        tokens += B * (prompt % B == 0 and seen.issuperset(ids))
        seen.update(ids)
    return tokens


# Several replicas.


def spread(path, llm, step="output: 1", duration=1e6):
    """The prompts' tokens, and those found, by replica."""
    program = lower(model(path, llm, step))
    records = check_program(program, duration)
    check(records, program)
    replicas = sum(isinstance(station, Inference) for station in program.stations)
    return [
        tuple(int(totals(records, each)[f"{what}_tokens"]) for what in ("prompt", "cached")) for each in range(replicas)
    ]


def test_prompts_that_begin_alike_go_to_one_replica(folder):
    path = trace_of(folder, [([1, 2 + n % 6, 10 + n], 3 * B, 1) for n in range(60)])
    four = f"{ALONE}, kv_tokens: 1M, gpus: 4"
    turns = spread(path, four)
    by_all = spread(path, f"{four}, affinity: true")
    by_two = spread(path, f"{four}, affinity: true, affinity_tokens: {B + 1}")
    assert [prompts for prompts, _ in turns] == [15 * 3 * B] * 4
    assert sorted(prompts for prompts, _ in by_all) == [0, 0, 0, 60 * 3 * B]
    assert 2 <= sum(prompts > 0 for prompts, _ in by_two) <= 4
    found = [sum(found for _, found in each) for each in (turns, by_all, by_two)]
    assert found[1] == (60 + 60 - 1 - 6) * B
    assert found[0] < found[2] < found[1]


def test_analysis_knows_how_uneven_affinity_is(folder):
    path = trace_of(folder, [([1, 2 + n % 3], 2 * B, 1) for n in range(30)], gap=1.0)
    for tokens in (B, 2 * B):
        system = model(path, f"{ALONE}, kv_tokens: 1M, gpus: 2, affinity: true, affinity_tokens: {tokens}")
        records = check_program(lower(system), 1e6)
        arrived = [totals(records, each)["prompt_tokens"] / (2 * B) / 30 for each in range(2)]
        program = lower(system)
        visits = Reading(program, {}).workloads[0][0].visits
        numbers = [number for number, each in enumerate(program.stations) if isinstance(each, Inference)]
        assert [visits[number] for number in numbers] == pytest.approx(arrived)


def test_a_gateway_sends_prompts_that_begin_alike_to_one_back_end(folder):
    path = trace_of(folder, [([1 + n % 5, 9 + n % 10], 2 * B, 1) for n in range(50)])
    text = MODEL.replace("  it: {LLM}", "".join(f"  {name}: {{{ALONE}, kv_tokens: 1M}}\n" for name in "ab")).replace(
        "hosts:", "  gate: {gateway: {host: app, routing: affinity, backends: {a: {}, b: {}}}}\nhosts:"
    )
    text = (
        text.replace("generate: it", "generate: gate").replace("STEP", "output: 1").replace("REPLAY", f"file: {path}")
    )
    records = check_program(lower(loads(text)), 1e6)
    first, second = totals(records, 0), totals(records, 1)
    assert 0 < first["prompt_tokens"] < 50 * 2 * B
    assert first["cached_tokens"] + second["cached_tokens"] == 45 * B + 40 * (B - 16)


def test_prompts_computed_apart_are_found_where_they_are_computed(folder):
    gpu = "{memory: 80 GB, memory_bandwidth: 3 TB/s, teraflops: {bf16: 900}}"
    llm = f"model: llama-3.1-8b, gpu: {gpu}, kv_tokens: 1M, prefill: {{gpus: 1, link: 1 TB/s}}"
    prompts, answers = spread(trace_of(folder, STORY), llm, "output: 3")
    assert prompts == (12 * B + 1, 6 * B - 2 * 16)
    assert answers == (12 * B + 1, 6 * B)  # with the first token there is one more to compute, and no prompt is whole


replicas = st.fixed_dictionaries(
    {
        "gpus": st.integers(1, 3),
        "kv_tokens": st.sampled_from([2048, 4096, 20_000]),
        "block": st.sampled_from([16, 100, 512]),
        "affinity": st.booleans(),
        "affinity_tokens": st.sampled_from([1, 513, 9000]),
        "eviction": st.sampled_from(["lru", "lfu"]),
        "scheduling": st.sampled_from(["fcfs", "priority"]),
        "max_batched_tokens": st.sampled_from([256, 4000]),
        "chunked_prefill": st.booleans(),
        "balancer": st.sampled_from(["round_robin", "least_outstanding", "random"]),
        "async_scheduling": st.booleans(),
    }
)


@settings(max_examples=25)
@given(replicas, st.integers(0, 20), st.booleans())
def test_engines_agree_on_any_replicas(folder, llm, seed, repeats):
    requests = [(ids, tokens, min(output, 40)) for ids, tokens, output in random_requests(30, seed)]
    path = trace_of(folder, requests, gap=0.5)
    step = "step_time: {overhead: 100 ms, weights: 50 ms, token: 100 us}"
    text = model_text = ", ".join(f"{name}: {value}" for name, value in llm.items())
    system = model(path, f"{step}, {text}", repeats=str(repeats).lower())
    program = lower(system)
    records = check_program(program, 40.0, seed=seed, told=model_text)
    check(records, program)
    for table in records.requests:
        meter = dict(zip(table.meters, table.meter.T, strict=True))
        assert (meter["llms.it.cached"] <= meter["llms.it.prompt"]).all()


# Streams.


def test_prefixes_are_those_of_the_rows_and_begin_anew(folder):
    requests = random_requests(1300, 4)
    trace = open_trace(trace_of(folder, requests), "mooncake")
    prefixes = TracePrefixes(TraceTimes(trace, 1200), B)
    ids = [each for each, _, _ in requests]
    for number in (0, 1, 511, 512, 1023, 1199, 1200, 3 * 1200 + 700):
        assert prefixes.of(number).tolist() == ids[number % 1200]
    assert prefixes.most == max(map(len, ids[:1200]))
    assert prefixes.salt(0, 7) != prefixes.salt(16, 7) != prefixes.salt(16, 8)
    numbers = PrefixNumbers(prefixes, 2)
    expected = [(each[min(2, len(each)) - 1]) % 65536 for each in ids[:1200]]
    assert Stream(Streams(1), "any", numbers).block(1190, 20).tolist() == expected[1190:] + expected[:10]
    assert numbers.probabilities().sum() == pytest.approx(1.0)
    assert numbers.mean == pytest.approx(np.mean(expected))
    assert numbers.variance == pytest.approx(np.var(expected))
    assert set(numbers.sample(lambda k: np.linspace(0.001, 0.999, 50))) <= set(expected)


def test_a_wrong_row_is_reported_at_its_place_in_the_trace(folder):
    path = trace_of(folder, [([1], 512, 1), ([1], 513, 1)])
    with pytest.raises(InputError, match=r"t.jsonl:2:\d+: got 1 for 513 tokens, expected 2: one for each block of 512"):
        model(path, f"{ALONE}, kv_tokens: 1M")
