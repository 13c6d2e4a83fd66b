"""What results say of tokens: every figure against a direct count over the records, and goodput as an objective."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from llm_program import USD, Study, Talk
from pydantic import ValidationError

from simulator.cli.output import print_blocks
from simulator.errors import InputError, UsageError
from simulator.model.files import loads
from simulator.model.objective import Objective, parse_metric
from simulator.records import INFERENCE_FIELDS, STATION_FIELDS
from simulator.report import plots
from simulator.report.tables import run_tables
from simulator.results.estimate import sectioned
from simulator.results.latencies import RELATIVE_ERROR
from simulator.results.metrics import statistic
from simulator.results.results import QUANTILES
from simulator.results.section import BATCHES
from simulator.results.tokens import TokenMeters
from simulator.study import store
from simulator.study.compare import compare
from simulator.study.run import Settings, run
from simulator.study.sweep import tidy

GOODPUT = "goodput(ttft 15 ms, tpot 8 ms)"
OBJECTIVES = (
    f"{GOODPUT} > 4/s", f"messages.chats.turns: {GOODPUT} > 50%", "goodput(latency 200 ms) > 1/s", "ttft p95 < 20 ms",
    "ask: goodput(gap 20 ms) > 1/s",
)  # fmt: skip
CHATS = """
name: chats
hosts: {app: {cpu: 4, price: $1/h}}
llms:
  assistant:
    step_time: {overhead: 1 ms, weights: 6 ms, token: 30 us, generated: 60 ns, mixed: 120 ns}
    kv_tokens: 20000
    gpus: 1
services: {web: {host: app, operations: {say: [{compute: 1 ms}, {generate: assistant, system: 500}]}}}
workloads:
  chats:
    rate: 2/s
    operation: web.say
    conversation: {turns: 2, question: {exponential: 50}, answer: {exponential: 30}, think: {exponential: 1 s}}
"""
QUICK = Settings(engine="simpy", duration=40.0, replications=3, seed=3)


@pytest.fixture(scope="module")
def study():
    return Study(Talk(plain=True).program(), OBJECTIVES)


@pytest.fixture(scope="module")
def results(study):
    return study.results()


def of_section(study, workload, number):
    """The requests of a workload that ended in a section: which completed, and columns by name, meters included."""
    [(table, inside)] = study.requests(workload, number)
    columns = {name: table.meter[inside, index] for index, name in enumerate(table.meters)}
    done = table.outcome[inside] == 0
    return done, columns | {"arrival": table.arrival[inside], "end": table.end[inside]}


def times(study, workload, number):
    """ttft, tpot and gap, one by one, of the requests that completed in a section."""
    done, columns = of_section(study, workload, number)
    rows = list(zip(*(columns[name][done] for name in ("arrival", "first token", "decode time", "decode tokens",
                                                       "longest gap")), strict=True))  # fmt: skip
    return {
        "ttft": [first - arrival for arrival, first, *_ in rows if first > 0.0],
        "tpot": [time / tokens for *_, time, tokens, _ in rows if tokens > 0.0],
        "gap": [gap for *_, gap in rows if gap > 0.0],
    }


def agree(estimate, pooled, sections, most=math.inf):
    """Whether an estimate is the pooled value with the sectioning interval, cut to what is possible."""
    wanted = sectioned(pooled, sections)
    assert estimate.value == pytest.approx(pooled, rel=1e-12)
    assert estimate.low == pytest.approx(max(wanted.low, 0.0), rel=1e-9, abs=1e-12)
    assert estimate.high == pytest.approx(max(min(wanted.high, most), pooled), rel=1e-9)
    assert estimate.n == wanted.n


@pytest.mark.parametrize("workload", ["ask", "messages.chats.turns"])
@pytest.mark.parametrize("time", ["ttft", "tpot", "gap"])
def test_times_are_those_of_the_records(study, results, workload, time):
    tokens = {**results.workloads, "messages.chats.turns": results.messages["chats.turns"]}[workload].tokens
    found = {"ttft": tokens.ttft_s, "tpot": tokens.tpot_s, "gap": tokens.longest_gap_s}[time]
    each = [times(study, workload, number)[time] for number in range(3)]
    pooled = [value for values in each for value in values]
    assert len(pooled) > 500
    agree(found["mean"], sum(pooled) / len(pooled), [np.mean(values) for values in each])
    for name in ("p50", "p95", "p99"):
        share = QUANTILES[name]
        if (1.0 - share) * len(pooled) >= 10:
            agree(found[name], np.quantile(pooled, share), [np.quantile(values, share) for values in each])


def test_rates_are_those_of_the_records(study, results):
    tokens = results.workloads["ask"].tokens
    lengths = [section.length for section in study.sections]
    sums = []
    for number in range(3):
        done, columns = of_section(study, "ask", number)
        sums.append(
            {name: column.sum() for name, column in columns.items()}
            | {name: columns[f"decode {name}"][done].sum() for name in ("time", "tokens")}
        )

    def compare_ratio(estimate, over, under, most=math.inf):
        pooled = sum(over) / sum(under)
        agree(estimate, pooled, [a / b for a, b in zip(over, under, strict=True)], most)

    usage = tokens.usage["assistant"]
    compare_ratio(tokens.itl_s["mean"], [each["time"] for each in sums], [each["tokens"] for each in sums])
    for estimate, name in ((tokens.input_per_s, "prompt"), (tokens.output_per_s, "output")):
        compare_ratio(estimate, [each[f"assistant.{name}"] for each in sums], lengths)
    compare_ratio(usage.prompt_per_s, [each["assistant.prompt"] for each in sums], lengths)
    compare_ratio(usage.usd_per_hour, [3600 * each["assistant.usd"] for each in sums], lengths)
    assert usage.usd_per_hour.value == pytest.approx(3600 * USD * results.workloads["ask"].throughput_per_s.value)


def test_goodput_is_that_of_the_records(study, results):
    def good(workload, keeps):
        counts = []
        for number in range(3):
            done, columns = of_section(study, workload, number)
            rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
            counts.append(sum(keeps(row) for row, completed in zip(rows, done, strict=True) if completed))
        return counts

    def prompt(row):
        first, tokens = row["first token"] - row["arrival"], row["decode tokens"]
        return first <= 0.015 and (tokens == 0.0 or row["decode time"] / tokens <= 0.008)

    lengths = [section.length for section in study.sections]
    found = {objective.name: objective for objective in results.objectives}
    both, share, quick, _, calm = found.values()
    ask, turns = good("ask", prompt), good("messages.chats.turns", prompt)
    pairs = zip(ask, turns, strict=True)
    counts = [a + b for a, b in pairs]
    assert 0 < sum(counts) < sum(len(times(study, each, n)["ttft"]) for each in ("ask", "messages.chats.turns")
                                 for n in range(3))  # fmt: skip
    agree(both.value, sum(counts) / sum(lengths), [a / b for a, b in zip(counts, lengths, strict=True)])
    ended = [len(of_section(study, "messages.chats.turns", number)[0]) for number in range(3)]
    agree(share.value, sum(turns) / sum(ended), [a / b for a, b in zip(turns, ended, strict=True)], most=1.0)
    assert (share.dimension, both.dimension) == ("fraction", "rate")
    # A limit of the latency is for all workloads, not for messages.
    rows = [good(each, lambda row: row["end"] - row["arrival"] <= 0.2) for each in ("ask", "chats", "plain")]
    assert quick.value.value == pytest.approx(sum(map(sum, rows)) / sum(lengths))
    assert calm.value.value == pytest.approx(sum(good("ask", lambda row: row["longest gap"] <= 0.02)) / sum(lengths))


def test_llms_are_those_of_the_records(study, results):
    [llm] = results.llms.values()
    assert (list(results.llms), llm.replicas) == (["llms.assistant"], 2)
    grown = dict.fromkeys(INFERENCE_FIELDS, 0.0)
    areas = dict.fromkeys(("running", "waiting", "blocks"), 0.0)
    length = sum(section.length for section in study.sections)
    for records, section in zip(study.records, study.sections, strict=True):
        first, last = (
            int(np.argmin(abs(records.times - time))) for time in (section.start, section.start + section.length)
        )
        inference = records.inference[last] - records.inference[first]
        stations = records.stations[last] - records.stations[first]
        for index, name in enumerate(INFERENCE_FIELDS):
            grown[name] += inference[:, index].sum()
        for name, field, chosen in (
            ("running", "busy_area", [2, 3]), ("waiting", "waiting_area", [2, 3]), ("blocks", "busy_area", [0, 1]),
        ):  # fmt: skip
            areas[name] += stations[chosen, STATION_FIELDS.index(field)].sum()
    assert grown["steps"] > 10_000
    assert {
        "running": llm.running_mean.value, "waiting": llm.waiting_mean.value,
        "blocks": llm.kv_cache_utilization.value, "busy": llm.busy.value, "steps": llm.steps_per_s.value,
        "step": llm.step_s.value, "prompt": llm.prompt_tokens_per_s.value,
        "computed": llm.computed_tokens_per_s.value, "generated": llm.generated_tokens_per_s.value,
    } == pytest.approx({
        "running": areas["running"] / length, "waiting": areas["waiting"] / length,
        "blocks": areas["blocks"] / length / 8000, "busy": grown["stepping"] / length / 2,
        "steps": grown["steps"] / length, "step": grown["stepping"] / grown["steps"],
        "prompt": grown["prompt_tokens"] / length, "computed": grown["computed_tokens"] / length,
        "generated": grown["generated_tokens"] / length,
    })  # fmt: skip


def test_cost_is_what_is_rented_and_what_is_used(results):
    ask, turns = results.workloads["ask"].throughput_per_s.value, results.messages["chats.turns"].throughput_per_s.value
    requests = sum(each.throughput_per_s.value for each in results.workloads.values())
    usage = 3600 * USD * (ask + turns)
    assert results.cost.per_hour == 2.0
    assert results.cost.usage_per_hour.value == pytest.approx(usage)
    assert results.cost.per_million_requests.value == pytest.approx((2.0 + usage) / 3600 / requests * 1e6)
    assert results.cost.per_thousand_conversations is None  # other requests share what is rented


def test_conversations_cost_what_everything_does():
    found = Study(Talk(asks=False).program(), duration=60.0).results()
    wanted = found.cost.per_million_requests
    thousand = found.cost.per_thousand_conversations
    assert (thousand.value, thousand.low) == pytest.approx((wanted.value / 1000, wanted.low / 1000))
    assert thousand.value > 2 * 1000 * USD  # two turns each


def test_summaries_differ_in_quantiles_only(study, results):
    found = Study(study.program, OBJECTIVES, sketched=True).results()
    exact, sketched = results.workloads["ask"].tokens, found.workloads["ask"].tokens
    assert sketched.usage == exact.usage
    assert [each.value for each in found.objectives if "goodput" in each.name] == [
        each.value for each in results.objectives if "goodput" in each.name
    ]
    for one, other in ((exact.ttft_s, sketched.ttft_s), (exact.tpot_s, sketched.tpot_s)):
        assert one["mean"] == other["mean"]
        assert other["p95"].value == pytest.approx(one["p95"].value, rel=RELATIVE_ERROR)
        assert other["p95"].low <= one["p95"].low
    assert sketched.ttft_s["p50"].value != exact.ttft_s["p50"].value


def test_one_run_is_cut_into_batches(study):
    found = Study(study.program, [f"{GOODPUT} > 4/s"], replications=1).results()
    tokens = found.workloads["ask"].tokens
    assert {each.n for each in (tokens.ttft_s["mean"], tokens.output_per_s, found.objectives[0].value)} == {BATCHES}
    assert found.llms["llms.assistant"].step_s.n == BATCHES


def test_what_generates_nothing_has_no_tokens(results):
    assert results.workloads["plain"].tokens is None
    assert results.workloads["chats"].tokens is None  # its turns have them


def test_nothing_is_said_of_times_without_a_steady_state():
    found = Study(Talk(rate=200.0, chats=False).program(), ["ttft p95 < 1 s"], replications=2, duration=20.0).results()
    tokens = found.workloads["ask"].tokens
    assert not found.workloads["ask"].stable
    assert (tokens.ttft_s, tokens.tpot_s, tokens.itl_s, tokens.longest_gap_s) == (None, None, None, None)
    assert tokens.output_per_s.value > 0.0
    assert math.isinf(found.objectives[0].value.value)
    assert not found.objectives[0].met


def test_answers_that_nobody_reads_along_have_tokens_and_no_times():
    study = Study(Talk(streamed=False, paid=False, chats=False).program(), ["output tokens > 1/s"], duration=40.0)
    tokens = study.results().workloads["ask"].tokens
    assert (tokens.ttft_s, tokens.itl_s, tokens.usage["assistant"].usd_per_hour) == (None, None, None)
    assert study.results().objectives[0].value == tokens.output_per_s
    with pytest.raises(UsageError, match="ttft p95: expected a workload that streams tokens of an LLM, this model has"):
        statistic(parse_metric("ttft p95"), study.sections, study.program)


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("plain: ttft p95", "plain: ttft p95: plain never streams tokens of an LLM; those that do: ask, messages"),
        ("chats: output tokens", "chats never calls an LLM; those that do: ask, messages.chats.turns"),
        ("nobody: ttft p95", "no workload named 'nobody'"),
        ("plain: goodput(ttft 1 s)", "plain never streams tokens"),
    ],
)
def test_tokens_of_who_has_none_are_an_error(study, metric, said):
    with pytest.raises(UsageError, match=said):
        statistic(parse_metric(metric), study.sections, study.program)


def test_a_model_without_llms_is_told_before_it_is_simulated():
    text = CHATS[: CHATS.index("llms:")] + (
        "services: {web: {host: app, operations: {get: [{compute: 1 ms}]}}}\n"
        "workloads: {users: {rate: 1/s, operation: web.get}}\n"
    )
    with pytest.raises(InputError, match=r"model:6:14: objectives.0: the load comes to no streamed generate step"):
        loads(text + "objectives: ['ttft p95 < 1 s']\n")
    system = loads(text).model_copy(update={"objectives": [Objective.model_validate("ttft p95 < 1 s")]})
    with pytest.raises(UsageError, match="ttft p95: expected a workload that streams tokens"):
        run(system, Settings(engine="nothing would run"))


def test_prompts_computed_apart_count_once():
    llms, kinds = ("llms.a.prefill", "llms.a", "llms.b"), ("prompt", "cached", "output")
    names = [f"{llm}.{kind}" for llm in llms for kind in kinds]
    meters = TokenMeters.of((*names, "llms.b.usd"))
    assert [meters.counting(kind) for kind in ("prompt", "cached", "output", "usd")] == [[0, 6], [1, 7], [5, 8], [9]]


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("ttft p95 < 500 ms", "ttft p95 < 500 ms"),
        ("messages.chats.turns: tpot p99.9 < 50ms", "messages.chats.turns: tpot p99.9 < 50 ms"),
        ("itl mean < 20 ms", "itl mean < 20 ms"),
        ("output_tokens > 2k tokens/s", "output tokens > 2k/s"),
        ("cached tokens > 60%", "cached tokens > 60 %"),
        ("goodput(tpot 50 ms,ttft 0.5 s) > 4/s", "goodput(ttft 500 ms, tpot 50 ms) > 4/s"),
        ("a: goodput(ttft 1234.5 ms) > 95%", "a: goodput share(ttft 1.2345 s) > 95 %"),
        ("goodput share(latency 1 s) > 0.9", "goodput share(latency 1 s) > 90 %"),
    ],
)
def test_objectives_of_tokens_are_read_as_they_are_written(text, written):
    objective = Objective.model_validate(text)
    assert str(objective) == written
    assert Objective.model_validate(written) == objective == Objective.model_validate(objective.model_dump())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ttft < 1 s", "got 'ttft', expected mean, a percentile"),
        ("itl p99 < 1 s", "itl mean"),
        ("goodput > 3/s", "expected limits of latency, ttft, tpot or gap, e.g. goodput"),
        ("goodput(speed 1 s) > 3/s", "got 'speed 1 s' in 'goodput"),
        ("goodput(ttft 3) > 3/s", "got '3', expected a duration with its unit"),
        ("goodput(ttft 1 s, ttft 2 s) > 3/s", "expected each limit once"),
        ("goodput(ttft 0 s) > 3/s", "above 0"),
        ("goodput(ttft 1 s) > 3", "expected a rate with its unit"),
        ("output tokens > 3", "expected a rate with its unit"),
        ("ttft p95 < 95%", "is a fraction, expected a duration"),
    ],
)
def test_what_is_no_objective_of_tokens(text, said):
    with pytest.raises(ValidationError) as error:
        Objective.model_validate(text)
    assert said in str(error.value)


def test_the_tables_are_80_columns_wide(results, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_blocks(run_tables(results))
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    text = "\n".join(lines)
    ttft = results.messages["chats.turns"].tokens.ttft_s["p95"]
    assert [line for line in lines if line.startswith("first token p95") and ttft.show("duration").split()[0] in line]
    assert "an hour for tokens" in text
    assert "llms.assistant x2" in text
    json.dumps(results.to_json(), allow_nan=False)


def test_a_comparison_has_streams_tokens_and_cost():
    priced = loads(CHATS, ["hosts.app.price=$3/h", "llms.assistant.step_time.weights=12 ms"])
    found = compare(loads(CHATS), priced, QUICK, more=["goodput(ttft 20 ms)"])
    assert list(found.differences) == ["chats", "messages.chats.turns"]
    metrics = {each.metric: each for each in found.differences["messages.chats.turns"]}
    assert "ttft p95" not in {each.metric for each in found.differences["chats"]}
    first, second = (each.messages["chats.turns"].tokens for each in (found.first, found.second))
    assert metrics["ttft p95"].first == first.ttft_s["p95"]
    assert metrics["ttft mean"].second == second.ttft_s["mean"]
    assert metrics["ttft mean"].difference.low > 0.0  # steps take twice as long
    assert metrics["goodput(ttft 20 ms)"].difference.high < 0.0
    hour, million, thousand = found.cost
    assert (hour.first.value, hour.second.value, hour.difference.value) == (1.0, 3.0, 2.0)
    assert (thousand.first, thousand.second) == tuple(
        each.cost.per_thousand_conversations for each in (found.first, found.second)
    )
    assert million.second == found.second.cost.per_million_requests


def test_a_table_of_a_sweep_has_streams_tokens_llms_cost_and_objectives():
    results = run(loads(CHATS, ["objectives=['goodput(ttft 20 ms) > 1/s']"]), QUICK)
    table = tidy([({"gpus": "1"}, results)]).set_index(["of", "metric"])["value"]
    turns = results.messages["chats.turns"]
    assert table["messages.chats.turns", "ttft_p95_s"] == turns.tokens.ttft_s["p95"].value
    assert table["messages.chats.turns", "latency_mean_s"] == turns.latency_s["mean"].value
    assert table["llms.assistant", "step_s"] == results.llms["llms.assistant"].step_s.value
    assert table["cost", "per_thousand_conversations"] == results.cost.per_thousand_conversations.value
    assert table["objectives", "goodput(ttft 20 ms) > 1/s"] == results.objectives[0].value.value


def test_runs_that_keep_no_requests_count_the_same_tokens():
    system = loads(CHATS, ["objectives=['goodput(ttft 20 ms) > 1/s']"])
    kept, not_kept = run(system, QUICK), run(system, Settings(**{**vars_of(QUICK), "summaries_only": True}))
    assert not_kept.objectives == kept.objectives
    assert not_kept.llms == kept.llms
    assert not_kept.messages["chats.turns"].tokens.usage == kept.messages["chats.turns"].tokens.usage


def vars_of(settings):
    """The fields of settings by name."""
    return {name: getattr(settings, name) for name in settings.__dataclass_fields__}


def test_files_of_a_run_have_the_meters_of_requests(tmp_path):
    kept = []
    system = loads(CHATS)
    results = run(system, Settings(**{**vars_of(QUICK), "keep": kept.append}))
    store.write(tmp_path / "out", system, results, kept)
    table = pd.read_parquet(tmp_path / "out" / "requests.parquet")
    turns = table[table["workload"] == "messages.chats.turns"]
    index = [each.workload for each in kept[0].requests].index("messages.chats.turns")
    meters = kept[0].requests[index]
    first = turns[turns["replication"] == 0]
    assert len(first) == len(meters) > 50
    for number, name in enumerate(meters.meters):
        assert first[name].tolist() == meters.meter[:, number].tolist()
    assert table[table["workload"] == "chats"]["first token"].isna().all()


def test_files_of_a_run_tell_what_engines_run_and_what_memory_they_use_over_time(tmp_path):
    kept = []
    system = loads(CHATS, ["run.warm_up=none"])
    results = run(system, Settings(**{**vars_of(QUICK), "keep": kept.append}))
    store.write(tmp_path / "out", system, results, kept)
    table = pd.read_parquet(tmp_path / "out" / "levels.parquet")
    (name,) = results.llms
    engines, memory = (table[table["resource"] == each] for each in (name, f"{name}.kv_cache"))
    last = engines[engines["time"] == engines["time"].max()]
    length = last["time"].sum() / engines["station"].nunique()
    assert last["busy_area"].sum() / length == pytest.approx(results.llms[name].running_mean.value)
    assert last["waiting_area"].sum() / length == pytest.approx(results.llms[name].waiting_mean.value)
    assert last["generated_tokens"].sum() / length == pytest.approx(results.llms[name].generated_tokens_per_s.value)
    assert last["steps"].sum() == sum(each.inference[-1, :, 0].sum() for each in kept)
    assert memory["busy_area"].diff().max() > 0.0
    assert table.loc[table["resource"] != name, "steps"].isna().all()


@pytest.mark.parametrize(
    ("metric", "dimension"),
    [
        ("ttft_p95_s", "duration"), ("output_tokens_per_s", "rate"), ("cached_tokens", "fraction"),
        ("running_mean", "count"), ("usage_per_hour", "money"), ("per_thousand_conversations", "money"),
        ("ttft p95 < 500 ms", "duration"), ("goodput share(ttft 1 s) > 95 %", "fraction"),
    ],
)  # fmt: skip
def test_what_metrics_of_a_sweep_are_drawn_in(metric, dimension):
    assert plots._dimension_of(metric) == dimension
