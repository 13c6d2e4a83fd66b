"""Traces of recorded requests: reading, keeping and replaying them, the same on both engines."""

import dataclasses
import gzip
import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
from test_engines_agree import TIGHT, check_program

import simulator as sim
from simulator.distributions import Constant
from simulator.errors import InputError
from simulator.model.files import dump, load, loads
from simulator.model.lowering import lower
from simulator.program.arrivals import BLOCK, Replay
from simulator.streams import Stream, Streams
from simulator.study.length import automatic_duration
from simulator.traces.column import TraceColumn, TraceTimes
from simulator.traces.formats import format_of
from simulator.traces.trace import TraceError, open_trace

AZURE = b"""TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:17:03.9799600,4808,10
2023-11-16 18:17:04.0319600,3180,8
2023-11-16 18:17:04.0319600,110,27
2023-11-16 18:18:03.9799600,0,1
"""
MOONCAKE = b"""{"timestamp": 27, "input_length": 1025, "output_length": 3, "hash_ids": [0, 1, 2]}
{"timestamp": 27, "input_length": 512, "output_length": 5, "hash_ids": [0]}

{"timestamp": 3027, "input_length": 0, "output_length": 0, "hash_ids": []}
"""
MODEL = """
hosts: {gpu: {cpu: 2}}
services:
  llm:
    host: gpu
    workers: 3
    operations:
      chat:
        - compute: {trace: {column: input, each: 10 us}}
        - repeat: {trace: output}
          steps: [{delay: {exponential: 2 ms}}]
workloads:
  chat: {replay: t.csv, operation: llm.chat, timeout: 60 ms, retries: 2}
"""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tpsim" / "traces"


def written(folder, content, name="t.csv"):
    path = folder / name
    path.write_bytes(content)
    return path


def azure(rows, seed=7):
    """A trace of random gaps and token counts."""
    random = np.random.default_rng(seed)
    times = np.cumsum(random.exponential(0.02, rows))
    lines = (
        f"2024-05-10 {int(t) // 3600:02}:{int(t) // 60 % 60:02}:{t % 60:09.6f}+00:00,{i},{o}\n"
        for t, i, o in zip(times, random.integers(0, 5000, rows), random.integers(0, 40, rows), strict=True)
    )
    return b"TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(lines).encode()


def model_of(folder, rows=300, text=MODEL, overrides=()):
    written(folder, azure(rows))
    (folder / "m.yaml").write_text(text)
    return load(folder / "m.yaml", overrides)


@pytest.mark.parametrize("zipped", [False, True])
def test_azure_columns(tmp_path, zipped):
    path = written(tmp_path, gzip.compress(AZURE) if zipped else AZURE)
    assert format_of(path) == "azure"
    trace = open_trace(path, "azure")
    assert (trace.rows, trace.block_ids) == (4, None)
    assert trace.column("arrival").tolist() == [0.0, 0.052, 0.052, 60.0]
    assert trace.column("input").tolist() == [4808, 3180, 110, 0]
    assert trace.column("output", 1, 2).tolist() == [8, 27]
    assert trace.column("output", 3, 9).tolist() == [1]
    with pytest.raises(TraceError, match="has no hash_ids"):
        trace.column("blocks")


@pytest.mark.parametrize("zipped", [False, True])
def test_mooncake_columns(tmp_path, zipped):
    path = written(tmp_path, gzip.compress(MOONCAKE) if zipped else MOONCAKE)
    assert format_of(path) == "mooncake"
    trace = open_trace(path, "mooncake")
    assert (trace.rows, trace.block_ids) == (3, 4)
    assert trace.column("arrival").tolist() == [0.0, 0.0, 3.0]
    assert trace.column("input").tolist() == [1025, 512, 0]
    assert trace.column("blocks").tolist() == [0, 1, 2, 0]
    assert trace.column("offsets").tolist() == [0, 3, 4, 4]


def test_a_trace_is_its_content(tmp_path):
    trace, same = (open_trace(written(tmp_path, AZURE, name), "azure") for name in ("a.csv", "b.csv"))
    other = open_trace(written(tmp_path, AZURE + AZURE.splitlines(True)[-1], "c.csv"), "azure")
    assert trace == same
    assert hash(trace) == hash(same)
    assert trace != other
    assert pickle.loads(pickle.dumps(other)) == other


def test_columns_that_are_gone_are_written_again_from_an_unchanged_source(tmp_path, cache):
    path = written(tmp_path, AZURE)
    trace = open_trace(path, "azure")
    subprocess.run(["rm", "-r", str(cache)], check=True)
    assert trace.column("output").tolist() == [10, 8, 27, 1]
    subprocess.run(["rm", "-r", str(cache)], check=True)
    written(tmp_path, AZURE.replace(b",27", b",28"))
    with pytest.raises(TraceError, match="has changed since it was read"):
        trace.column("output")


def row(**changes):
    return json.dumps({"timestamp": 5, "input_length": 600, "output_length": 2, "hash_ids": [1, 2]} | changes).encode()


@pytest.mark.parametrize(
    ("kind", "content", "message"),
    [
        ("azure", AZURE.replace(b",8\n", b",-8\n"), "3:3: got '-8', expected a whole number of tokens >= 0"),
        ("azure", AZURE.replace(b"3180", b"31.5"), "3:2: got '31.5', expected a whole number of tokens >= 0"),
        ("azure", AZURE.replace(b",27\n", b"\n"), "4:3: got '', expected a whole number of tokens >= 0"),
        (
            "azure",
            AZURE.replace(b"18:18:03.97", b"18:16:03.97"),
            "5:1: got 2023-11-16 18:16:03.9799600, expected no earlier than the row above",
        ),
        (
            "azure",
            AZURE.replace(b"2023-11-16 18:18", b"2023-13-16 18:18"),
            "5:1: got '2023-13-16 18:18:03.9799600', expected a date and time such as 2023-11-16 18:17:03.9799600",
        ),
        (
            "azure",
            AZURE.replace(b"Generated", b"Output"),
            "1:1: no column 'GeneratedTokens', expected TIMESTAMP, ContextTokens, GeneratedTokens",
        ),
        ("azure", AZURE.splitlines()[0], "1:1: no rows, expected at least one request"),
        ("azure", b"", "1:1: no rows, expected at least one request"),
        ("azure", AZURE + b'"2', "6:1: unexpected end of data, expected a row of a CSV file"),
        (
            "mooncake",
            MOONCAKE + b'{"timestamp": 5,',
            "5:17: Expecting property name enclosed in double quotes, "
            "expected a JSON object with timestamp, input_length, output_length",
        ),
        (
            "mooncake",
            b"[1]\n",
            "1:1: got [1], expected a JSON object with timestamp, input_length, output_length",
        ),
        (
            "mooncake",
            b'{"timestamp": 5, "input_length": 1}\n',
            "1:1: no 'output_length', expected a JSON object with timestamp, input_length, output_length",
        ),
        ("mooncake", row(input_length=1.5), "1:18: got 1.5, expected a whole number of tokens >= 0"),
        ("mooncake", row(output_length=-1), "1:39: got -1, expected a whole number of tokens >= 0"),
        ("mooncake", row(output_length=True), "1:39: got True, expected a whole number of tokens >= 0"),
        ("mooncake", row(timestamp="now"), "1:2: got 'now', expected a time in ms >= 0"),
        ("mooncake", row(hash_ids=[1, -2]), "1:59: got [1, -2], expected a list of whole numbers >= 0"),
        ("mooncake", row(hash_ids={"1": 2}), "1:59: got {'1': 2}, expected a list of whole numbers >= 0"),
        ("mooncake", row(hash_ids=[1]), "1:59: got 1 for 600 tokens, expected 2: one for each block of 512"),
        ("mooncake", row(input_length=512), "1:59: got 2 for 512 tokens, expected 1: one for each block of 512"),
        ("mooncake", row() + b"\n" + row(hash_ids=None), "2:59: expected hash_ids in all rows or in none"),
        (
            "mooncake",
            row() + b"\n" + row(timestamp=4),
            "2:2: got 4 ms, expected no earlier than the row above",
        ),
        ("mooncake", b"\n\n", "1:1: no rows, expected at least one request"),
    ],
)
def test_a_bad_row_is_reported_at_its_place(tmp_path, kind, content, message, cache):
    path = written(tmp_path, content)
    with pytest.raises(ValueError, match="expected") as raised:
        open_trace(path, kind)
    assert str(raised.value) == f"{path}:{message}"
    assert not cache.exists() or not list(cache.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (gzip.compress(AZURE)[:-9], "expected a whole gzip file"),
        (b"\x1f\x8b no gzip at all", "expected a whole gzip file"),
        (b"TIMESTAMP\xff", "expected a text in UTF-8"),
    ],
)
def test_files_that_are_no_texts_are_refused(tmp_path, content, message):
    with pytest.raises(ValueError, match=message):
        open_trace(written(tmp_path, content), "azure")
    with pytest.raises(ValueError, match="no such file, expected a trace"):
        open_trace(tmp_path / "x.csv", "azure")
    with pytest.raises(ValueError, match="got a directory"):
        open_trace(tmp_path, "azure")


LARGE = """
import resource, sys
from pathlib import Path
from simulator.program.arrivals import Replay
from simulator.streams import Stream, Streams
from simulator.traces.column import TraceColumn, TraceTimes
from simulator.traces.prefixes import TracePrefixes
from simulator.traces.trace import open_trace
import numpy as np

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

def use(path):
    trace = open_trace(Path(path), "mooncake")
    times = TraceTimes(trace, trace.rows)
    arrivals = sum(len(gaps) for gaps in Replay(times).gaps(Streams(1), "w"))
    stream = Stream(Streams(1), "s", TraceColumn("input", 1.0, times))
    total = sum(stream.block(first, 4096).sum() for first in range(0, trace.rows, 4096))
    prefixes = TracePrefixes(times, 512)
    assert sum(len(prefixes.of(n)) for n in range(trace.rows)) == trace.rows * prefixes.most == trace.block_ids
    return arrivals, stream.distribution.mean, total

small = use(sys.argv[1]), peak()
large = use(sys.argv[2]), peak()
print(small[0][0], large[0][0], large[1] - small[1])
"""


def test_memory_does_not_grow_with_the_trace(tmp_path):
    """The columns of the larger trace have 27 MB (each row has 15 block ids), its text 38 MB."""
    random = np.random.default_rng(3)
    sizes = 1_000, 200_000
    for rows in sizes:
        with (tmp_path / f"{rows}.jsonl").open("w") as stream:
            for n, (tokens, ids) in enumerate(
                zip(random.integers(7169, 7681, rows), random.integers(0, 10**6, (rows, 15)), strict=True)
            ):
                item = {"timestamp": n, "input_length": int(tokens), "output_length": 1, "hash_ids": ids.tolist()}
                stream.write(json.dumps(item) + "\n")
    paths = [str(tmp_path / f"{rows}.jsonl") for rows in sizes]
    done = subprocess.run([sys.executable, "-c", LARGE, *paths], capture_output=True, text=True, check=True)
    small, large, more = map(int, done.stdout.split())
    assert (small, large) == sizes
    assert more < 8 * 1024, f"{more} KiB more for the larger trace"


def test_a_column_gives_each_request_its_row(tmp_path):
    trace = open_trace(written(tmp_path, azure(5000)), "azure")
    tokens = trace.column("input")
    column = TraceColumn("input", 2.0, TraceTimes(trace, 5000))
    stream = Stream(Streams(1), "any", column)
    assert stream.block(4990, 30).tolist() == [*(2.0 * tokens[4990:]), *(2.0 * tokens[:20])]
    assert stream.block(3, 4, draw=5).tolist() == (2.0 * tokens[3:7]).tolist()
    assert [stream.at(7), stream.at(5007), stream.at(7, 3)] == [2.0 * tokens[7]] * 3
    assert column.mean == pytest.approx(2.0 * tokens.mean(), rel=1e-14)
    assert column.variance == pytest.approx(4.0 * tokens.var(), rel=1e-12)
    assert column.scaled(0.5) == TraceColumn("input", 1.0, TraceTimes(trace, 5000))
    first = TraceColumn("output", 1.0, TraceTimes(trace, 3))
    assert Stream(Streams(1), "any", first).block(0, 7).tolist() == np.resize(trace.column("output")[:3], 7).tolist()
    assert set(column.sample(lambda k: np.linspace(0.001, 0.999, 99)) / 2.0) <= set(tokens.tolist())
    with pytest.raises(TraceError, match="replays none"):
        TraceColumn("input").scaled(2.0).bound(None)


def test_a_replay_gives_the_times_of_the_trace(tmp_path):
    trace = open_trace(written(tmp_path, azure(2 * BLOCK + 9)), "azure")
    times = trace.column("arrival")

    def arrivals(replay, count):
        blocks = replay.gaps(Streams(1), "w")
        gaps = []
        while len(gaps) < count and (block := next(blocks, None)) is not None:
            gaps += block.tolist()
        return np.cumsum(gaps)

    whole = Replay(TraceTimes(trace, trace.rows))
    assert arrivals(whole, 10**9) == pytest.approx(times, abs=1e-9)
    assert whole.mean_rate == (len(times) - 1) / times[-1]
    assert arrivals(Replay(TraceTimes(trace, 100), speed=4.0), 10**9) == pytest.approx(times[:100] / 4.0, abs=1e-9)
    again = Replay(TraceTimes(trace, 100), speed=4.0, repeats=True)
    gap = times[99] / 99
    expected = np.concatenate([times[:100], times[:100] + times[99] + gap, times[:100] + 2 * (times[99] + gap)]) / 4.0
    assert arrivals(again, 300)[:300] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize(
    "overrides", [[], ["workloads.chat.replay={file: t.csv, most: 40, repeats: true, speed: 0.5}"]]
)
@pytest.mark.parametrize("sizes", [None, TIGHT])
def test_engines_agree(tmp_path, overrides, sizes):
    found = check_program(lower(model_of(tmp_path, overrides=overrides)), duration=20.0, sizes=sizes)
    (table,) = found.requests
    assert len(table) == 300 if not overrides else len(table) > 300
    assert table.retries.max() == 2


def test_each_request_takes_its_own_tokens(tmp_path):
    system = model_of(
        tmp_path, overrides=["services.llm.workers=300", "hosts.gpu.cpu=300", "workloads.chat.timeout=null"]
    )
    system = loads(dump(system).replace("exponential: 2 ms", "constant: 2 ms"))
    trace = system.workloads["chat"].replay.trace().trace
    (table,) = check_program(lower(system), duration=60.0).requests
    expected = 1e-5 * trace.column("input") + 2e-3 * trace.column("output")
    order = np.argsort(table.number)
    assert (table.end - table.arrival)[order] == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("summaries_only", [False, True])
def test_workers_and_engines_give_the_same(tmp_path, summaries_only):
    system = model_of(tmp_path)
    common = sim.Settings(replications=3, duration=20.0, summaries_only=summaries_only)
    found = []
    for changes in ({}, {"jobs": 2}, {"jobs": 2, "engine": "simpy"}):
        summary = sim.run(system, dataclasses.replace(common, **changes)).to_json()
        found.append({name: value for name, value in summary.items() if name not in ("wall_s", "engine")})
    assert found[0]["workloads"]
    assert found[0] == found[1] == found[2]


def test_duration_is_that_of_the_trace(tmp_path):
    system = model_of(tmp_path)
    end = system.workloads["chat"].replay.trace()[-1]
    facts = sim.facts(lower(system))
    assert end < automatic_duration(system, facts) < end + 10.0
    endless = model_of(tmp_path, overrides=["workloads.chat.replay={file: t.csv, repeats: true}"])
    with pytest.raises(sim.TpsimError, match="replay has no end"):
        automatic_duration(endless, sim.facts(lower(endless)))


def test_a_written_model_names_the_trace_by_path_and_content(tmp_path):
    system = model_of(tmp_path)
    again = loads(dump(system))
    assert again == system
    assert pickle.loads(pickle.dumps(system)) == system
    assert lower(again) == lower(system)
    written(tmp_path, azure(300, seed=8))
    with pytest.raises(InputError, match=r"the trace has changed: got the digest \w+, expected \w+"):
        loads(dump(system))


def test_a_column_of_a_file_needs_no_replay(tmp_path):
    text = MODEL.replace("replay: t.csv", "rate: 50/s").replace("column: input,", "column: input, file: t.csv,")
    text = text.replace("trace: output", "trace: {column: output, file: t.csv}")
    system = model_of(tmp_path, text=text)
    check_program(lower(system), duration=20.0)
    assert loads(dump(system)) == system


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "replay: t.csv",
            "rate: 5/s",
            "m.yaml:8:28: services.llm.operations.chat.0.compute.trace: workload 'chat' gets here and replays no "
            "trace, expected a column with its file",
        ),
        ("column: input, each: 10 us", "column: input",
            "m.yaml:8:28: services.llm.operations.chat.0.compute.trace: no 'each', "
            "which says what a token stands for, expected a duration with its unit, e.g. '5 ms'"),
        ("column: input", "column: inputs", "m.yaml:8:37: services.llm.operations.chat.0.compute.trace.column: "
            "got 'inputs', expected 'input' or 'output'"),
        ("replay: t.csv", "replay: {file: t.csv, speed: 0}", "m.yaml:12:39: workloads.chat.replay.speed: "
            "got 0, expected a factor above 0, e.g. '70%'"),
        ("replay: t.csv", "replay: {file: t.csv, format: mooncake}", "m.yaml:12:18: workloads.chat.replay: t.csv:1:1: "
            "Expecting value, expected a JSON object with timestamp, input_length, output_length"),
        ("replay: t.csv", "replay: {file: t.csv, most: 1, repeats: true}", "m.yaml:12:18: workloads.chat.replay: "
            "all requests come at 0 s, expected later ones in a replay that repeats"),
        ("replay: t.csv", "replay: u.csv",
            "m.yaml:12:18: workloads.chat.replay: u.csv: no such file, expected a CSV file"),
        ("column: input,", "column: input, file: m.yaml,", "m.yaml:8:28: services.llm.operations.chat.0.compute.trace: "
            "m.yaml:1:1: expected a trace in the format azure or mooncake"),
    ],
)  # fmt: skip
def test_a_wrong_model_is_reported_at_its_place(tmp_path, old, new, message):
    with pytest.raises(InputError) as raised:
        model_of(tmp_path, text=MODEL.replace(old, new).lstrip())
    assert str(raised.value.problems[0]).replace(f"{tmp_path}/", "") == message


def test_what_no_step_draws_is_refused_when_the_program_is_made(tmp_path):
    text = MODEL.replace("replay: t.csv", "rate: 5/s, latency: {trace: {column: input, each: 1 us}}")
    text = text.replace("{trace: {column: input, each: 10 us}}", "0 s").replace("{trace: output}", "1")
    system = model_of(tmp_path, text=text)
    with pytest.raises(InputError, match="replays none: expected the trace's file"):
        lower(system)


def test_times_alone_can_be_sped_up_and_repeated():
    replay = "replay: {times: [1 s, 2 s, 5 s, 9 s], most: 3, speed: 2, repeats: true}"
    text = MODEL.replace("replay: t.csv", replay).replace("{trace: {column: input, each: 10 us}}", "0 s")
    records = check_program(lower(loads(text.replace("{trace: output}", "0"))), duration=8.1)
    assert records.requests[0].arrival.tolist() == [0.5, 1.0, 2.5, 4.0, 4.5, 6.0, 7.5, 8.0]


def test_constants_are_not_touched_by_numbers():
    assert Constant(3.0).block(5, 4, lambda k: np.full(4, 0.5)).tolist() == [3.0] * 4
