"""Hit rates of prefix caches: against a walk that is written as the rule says, and against published figures."""

import csv
import json
import runpy
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from simulator.analytic.prefix_caches import prefix_hits
from simulator.traces.formats import BLOCK_TOKENS
from simulator.traces.trace import TraceError, open_trace

ROOT = Path(__file__).parent.parent
PUBLISHED = ROOT / "experiments" / "context-reuse" / "published.csv"
MOONCAKE = ROOT.parent / "shared" / "data" / "mooncake"


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def trace_of(folder, requests):
    """A trace of prompts, each with its block ids and tokens."""
    path = folder / "t.jsonl"
    rows = (
        {"timestamp": n, "input_length": tokens, "output_length": 1, "hash_ids": ids}
        for n, (ids, tokens) in enumerate(requests)
    )
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return open_trace(path, "mooncake")


def naive(requests, room, policy):
    """Tokens that hit, in whole blocks: pool as a list, oldest first, with the touches of each."""
    size = BLOCK_TOKENS
    pool, touches, hit = [], Counter(), 0
    for ids, tokens in requests:
        hits = 0
        while hits < len(ids) and ids[hits] in pool:
            hits += 1
        hit += size * min(hits, tokens // size)
        for block in ids:
            if block in pool:
                touches[block] += 1
                if policy != "fifo":
                    pool.append(pool.pop(pool.index(block)))
            elif room:
                if len(pool) == room:
                    victim = min(pool, key=lambda each: touches[each]) if policy == "lfu" else pool[0]
                    pool.remove(victim)
                pool.append(block)
                touches[block] = 1
    return hit


@pytest.mark.parametrize("policy", ["lru", "lfu", "fifo"])
def test_hits_are_those_of_the_rule(tmp_path, policy):
    random = np.random.default_rng(5)
    size = BLOCK_TOKENS
    requests = []
    for _ in range(400):
        ids = random.permutation(40)[: random.integers(0, 9)].tolist()
        requests.append((ids, max(len(ids) * size - int(random.integers(0, 2)) * 5, 0)))
    trace = trace_of(tmp_path, requests)
    rooms = [0, 1, 2, 5, 10, 30, 50]
    found = prefix_hits(trace, [room * size + 3 for room in rooms], policy)
    assert [each.hit_tokens for each in found] == [naive(requests, room, policy) for room in rooms]
    assert {each.whole_block_tokens for each in found} == {sum(tokens // size * size for _, tokens in requests)}
    assert found[0].rate == 0.0 < found[3].rate < found[-1].rate
    (first,) = prefix_hits(trace, [5 * size], policy, rows=150)
    assert first.hit_tokens == naive(requests[:150], 5, policy)


def test_a_block_is_no_hit_after_one_that_is_not_there(tmp_path):
    (found,) = prefix_hits(trace_of(tmp_path, [([1, 2, 3], 1536), ([9, 2, 3], 1536), ([1, 2, 4, 5], 1537)]), [10**6])
    assert (found.hit_tokens, found.whole_block_tokens, found.prompt_tokens) == (1024, 4608, 4609)


def test_a_partial_block_does_not_count(tmp_path):
    (found,) = prefix_hits(trace_of(tmp_path, [([1, 2], 700), ([1, 2], 700)]), [10**6])
    assert (found.rate, found.rate_of_prompts) == (0.5, 512 / 1400)


def test_what_cannot_be_walked_is_refused(tmp_path):
    with pytest.raises(ValueError, match="capacities must be at least 0 tokens, got -1"):
        prefix_hits(trace_of(tmp_path, [([1], 512)]), [5, -1])
    (tmp_path / "t.csv").write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2026-01-01 00:00:00,1,2\n")
    with pytest.raises(TraceError, match="has no hash_ids"):
        prefix_hits(open_trace(tmp_path / "t.csv", "azure"), [5])


@pytest.mark.skipif(not MOONCAKE.exists(), reason="needs the traces of Mooncake")
def test_the_synthetic_trace_has_the_published_hit_rates():
    lines = [line for line in PUBLISHED.read_text().splitlines() if not line.startswith("#")]
    expected = {int(row["capacity_tokens"]): float(row["hit_rate"]) for row in csv.DictReader(lines)}
    trace = open_trace(MOONCAKE / "synthetic_trace.jsonl.gz", "mooncake")
    errors = {
        policy: [each.rate - expected[each.capacity] for each in prefix_hits(trace, expected, policy)]
        for policy in ("lru", "lfu")
    }
    assert len(expected) == 12
    assert max(map(abs, errors["lru"])) < 0.005
    assert max(map(abs, errors["lfu"])) > 0.05


@pytest.mark.parametrize("name", ["study.py", "routing.py"])
def test_studies_say_what_they_need(name, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", [name])
    with pytest.raises(SystemExit, match="2"):
        runpy.run_path(str(PUBLISHED.with_name(name)))["main"]()
    assert "the following arguments are required: trace" in capsys.readouterr().err


def test_simulated_hit_rates_are_near_the_walked_ones():
    rows = list(csv.DictReader(PUBLISHED.with_name("simulated.csv").open()))
    assert len(rows) == 20
    for row in rows:
        error = float(row["simulated_of_prompts"]) - float(row["walked_of_prompts"])
        assert abs(error) < (0.006 if row["policy"] == "lru" else 0.02)
