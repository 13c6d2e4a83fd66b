"""The command line: exit codes, what it prints, what it writes, and how it ends when it is told to stop."""

import errno
import json
import math
import os
import pty
import re
import resource
import select
import signal
import subprocess
import sys
import time
from functools import partial
from importlib.metadata import version
from pathlib import Path

import pandas as pd
import pytest

import simulator as sim
from simulator import cli
from simulator.cli.options import axes_of
from simulator.errors import UsageError
from simulator.study import store
from simulator.study.executor import WorkerLostError

SHOP = """
name: shop
hosts:
  app: {cpu: 2, price: $0.40/h, count: 2}
  db: {cpu: 2, disk: {iops: 2000, queue_depth: 4}, price: $1.20/h}
services:
  web:
    host: app
    workers: 8
    operations:
      browse: [{compute: 4 ms}, {call: store.read}]
      buy: [{compute: 9 ms}, {call: store.read}]
  store:
    host: db
    operations:
      read: [{compute: 1 ms}, {read: 8 KiB}]
workloads:
  shoppers: {rate: 100/s, mix: {web.browse: 90%, web.buy: 10%}, timeout: 2 s}
  staff: {users: 3, think: 100 ms, operation: web.browse}
objectives: ["shoppers: p95 < 200 ms", "throughput > 50/s"]
measurements:
  set: {rate: workloads.shoppers.rate}
  compare: {mean_s: "shoppers: mean", throughput: "shoppers: throughput"}
  fitted: {rate: [60/s]}
"""
MEASURED = "rate,note,mean_s,throughput\n60/s,quiet,0.008,60\n90/s,busy,0.009,90\n"
LONG = """
name: a system with a long name that says all there is to say about what is modelled, and where, and why, and then more
hosts:
  application-servers-of-the-second-availability-zone-in-frankfurt: {cpu: 1, disk: {iops: 100}}
services:
  order-management-and-fulfilment-service:
    host: application-servers-of-the-second-availability-zone-in-frankfurt
    operations:
      create-an-order-with-many-line-items-and-a-very-long-name: [{read: 4 KiB}]
workloads:
  customers-of-the-european-web-shop-on-black-friday:
    rate: 120/s
    operation: order-management-and-fulfilment-service.create-an-order-with-many-line-items-and-a-very-long-name
objectives: ["customers-of-the-european-web-shop-on-black-friday: p99 < 200 ms", throughput > 2k/s]
measurements:
  set:
    the_rate_that_the_load_generator_offered: workloads.customers-of-the-european-web-shop-on-black-friday.rate
  compare: {mean_response_time_seen_by_the_load_generator: mean}
"""
LONG_MEASURED = "\n".join(
    [
        "the_rate_that_the_load_generator_offered,mean_response_time_seen_by_the_load_generator",
        "50/s,0.02",
        "150/s,3",
    ]
)
WINDOWS = ["time,shoppers: throughput,shoppers: latency,hosts.db.cpu: utilization"] + [
    f"{60 * number},{100 + number % 3},{8 + number % 4} ms,{12 + number % 2}%" for number in range(24)
]
DISK = "hosts.application-servers-of-the-second-availability-zone-in-frankfurt.disk"
LONG_WINDOWS = [f"time,throughput,latency,{DISK}: utilization"] + [
    f"2026-01-31T12:{number:02}:00Z,{100 + number % 3},{2 + number},{97 + number % 2}%" for number in range(24)
]
QUICK = ("-d", "1s", "-r", "3", "-j", "1", "--seed", "5")
# Every verb that simulates, quickly.
VERBS = {
    "check": ["check", "shop.yaml"],
    "run": ["run", "shop.yaml", *QUICK],
    "compare": ["compare", "shop.yaml", "--to", "hosts.app.count=1", *QUICK],
    "sweep": ["sweep", "shop.yaml", "--vary", "hosts.app.count=1,2", *QUICK],
    "capacity": ["capacity", "shop.yaml", "--tolerance", "40%", *QUICK],
    "validate": ["validate", "shop.yaml", "measured.csv", *QUICK],
    "calibrate": [
        "calibrate",
        "shop.yaml",
        "measured.csv",
        "--fit",
        "services.web.operations.browse.0.compute",
        *QUICK,
    ],
    "monitor": ["monitor", "shop.yaml", "measured-windows.csv", *QUICK],
}
FORCING = (
    "COLUMNS",
    "LINES",
    "FORCE_COLOR",
    "PY_COLORS",
    "NO_COLOR",
    "GITHUB_ACTIONS",
    "TPSIM_DEBUG",
    "PYTHONUNBUFFERED",
)
COLOUR = re.compile(r"\x1b\[(?:\d+;)*(?:3\d|4\d|9\d|10\d)(?:;\d+)*m")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with models, where every test runs."""
    (tmp_path / "shop.yaml").write_text(SHOP)
    (tmp_path / "measured.csv").write_text(MEASURED)
    (tmp_path / "measured-windows.csv").write_text("\n".join(WINDOWS))
    (tmp_path / "long-windows.csv").write_text("\n".join(LONG_WINDOWS))
    (tmp_path / "long.yaml").write_text(LONG)
    (tmp_path / "long.csv").write_text(LONG_MEASURED)
    for name in FORCING:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(*arguments):
    return [sys.executable, "-m", "simulator.cli", *map(str, arguments)]


# Exit codes


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_succeeds(tpsim, verb):
    outcome = tpsim(*VERBS[verb])
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu", "shop.yaml"], "Did you mean 'run'?"),
        (["run", "shop.yaml", "--sead", "1"], "--seed"),
        (["run"], "Missing argument 'MODEL'"),
        (["run", "shop.yaml", "-d", "10"], "-d: got '10', expected a duration with its unit"),
        (["run", "shop.yaml", "-d", "0s"], "-d: got '0s', expected more than 0"),
        (["run", "shop.yaml", "-r", "0"], "-r: got '0', expected a whole number >= 1, or auto"),
        (["run", "shop.yaml", "--precision", "-2%"], "--precision: got '-2%'"),
        (["run", "shop.yaml", "--precision", "2"], "--precision: got '2', expected a share below 1, e.g. 2%"),
        (["run", "shop.yaml", "-j", "0"], "-j"),
        (["run", "shop.yaml", "--seed", "x"], "--seed"),
        (["run", "shop.yaml", "--engine", "warp", *QUICK], "no engine named 'warp'"),
        (["compare", "shop.yaml"], "nothing to compare"),
        (["compare", "shop.yaml", "--to", "hosts.app.count=1", *QUICK, "-r", "1"], "at least two"),
        (
            ["check", "shop.yaml", "-S", "hosts.app.count="],
            "--set hosts.app.count=: got nothing, expected a value (null",
        ),
        (["sweep", "shop.yaml", "--vary", "run.seed=1,2", "-S", "hosts.app.count= "], "got nothing, expected a value"),
        (["compare", "shop.yaml", "--to", "hosts.app.count="], "hosts.app.count=: got nothing, expected a value"),
        (["compare", "shop.yaml", "--set", "hosts.app.count", "--to", "run.seed=1"], "expected path=value, such as"),
        (["sweep", "shop.yaml"], "--vary"),
        (["sweep", "shop.yaml", "--vary", "run.seed=1,,2"], "got nothing, expected a value"),
        (["sweep", "shop.yaml", "--vary", "run.seed=1,2", "--vary", "run.seed=3"], "is given twice"),
        (["sweep", "shop.yaml", "--vary", "hosts.app.count=1", "-o", "table.xls"], ".csv or .parquet"),
        (["compare", "shop.yaml", "--to", "hosts.app.count=1", "--metric", "goodput"], "expected limits of latency"),
        (["sweep", "shop.yaml", "--vary", "hosts.app.count=1", "--objective", "goodput > 3/s"], "expected limits of"),
        (["capacity", "shop.yaml", "--objective", "p99 <"], "expected an objective such as"),
        (["capacity", "shop.yaml", "--objective", "p99 < 5 GiB"], "duration"),
        (["capacity", "shop.yaml", "--objective", "nobody: p99 < 1 s", *QUICK], "no workload named 'nobody'"),
        (["validate", "shop.yaml", "measured.csv", "--where", "note"], "expected COLUMN=VALUE"),
    ],
)
def test_what_makes_no_sense_is_a_usage_error(tpsim, arguments, message):
    outcome = tpsim(*arguments)
    assert outcome.code == 2
    assert message in outcome.err
    assert outcome.out == ""
    assert "Traceback" not in outcome.err


@pytest.mark.parametrize("text", ["run.seed=", "run.seed= ", "run.seed=1,,2", "run.seed=1,2,", "run.seed=,"])
def test_an_empty_value_of_an_axis_is_a_usage_error(text):
    with pytest.raises(UsageError, match=f"--vary {text}: got nothing, expected a value"):
        axes_of(["hosts.app.count=1,2", text])


@pytest.mark.parametrize("text", ["run.seed=3,4", "run. seed=3", " run.seed =5..6"])
def test_a_field_varied_twice_is_a_usage_error(text):
    with pytest.raises(UsageError, match=r"run\. ?seed is given twice, expected all of its values in one --vary"):
        axes_of(["run.seed=1,2", "hosts.app.count=1,2", text])


def test_axes_are_in_the_order_of_their_options():
    axes = axes_of(["run.seed=1, null", "hosts.app.count=1..3"])
    assert [(axis.path, axis.values) for axis in axes] == [
        ("run.seed", ("1", "null")), ("hosts.app.count", ("1", "2", "3")),
    ]  # fmt: skip


def test_the_version_is_the_packages(tpsim):
    outcome = tpsim("--version")
    assert (outcome.code, outcome.out) == (0, f"tpsim {version('tpsim')}\n")


def test_without_a_verb_there_is_help(tpsim):
    outcome = tpsim()
    assert outcome.code == 2
    assert "Usage: tpsim" in outcome.out + outcome.err


@pytest.mark.parametrize("verb", VERBS)
def test_a_missing_model_is_said(tpsim, verb):
    outcome = tpsim(*(each.replace("shop.yaml", "nowhere.yaml") for each in VERBS[verb]))
    assert outcome.code == 3
    assert outcome.out == ""
    assert outcome.err.startswith("nowhere.yaml: ")


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", [".", "..", "/", "models"])
def test_a_folder_in_place_of_a_model_is_said(tpsim, folder, verb, name):
    (folder / "models").mkdir()
    outcome = tpsim(*(name if each == "shop.yaml" else each for each in VERBS[verb]))
    assert (outcome.code, outcome.out) == (3, "")
    assert outcome.err == f"{name}: is a folder, expected a model file\n"


@pytest.mark.parametrize("verb", VERBS)
def test_all_problems_of_a_model_come_at_once(tpsim, verb, folder):
    text = SHOP.replace("cpu: 2, price", "cpu: many, price").replace("{compute: 9 ms}", "{compute: 9 potatoes}")
    (folder / "shop.yaml").write_text(text)
    outcome = tpsim(*VERBS[verb])
    assert outcome.code == 3
    assert outcome.out == ""
    places = re.findall(r"^shop\.yaml:(\d+):\d+: ", outcome.err, re.MULTILINE)
    assert [text.splitlines()[int(line) - 1].split(":")[0].strip() for line in places] == ["app", "buy"]


@pytest.mark.parametrize("verb", VERBS)
def test_overrides_work_in_every_verb(tpsim, verb):
    outcome = tpsim(*VERBS[verb], "-S", "hosts.db.count=none")
    assert outcome.code == 3
    assert outcome.err.startswith("--set hosts.db.count=none: hosts.db.count: got 'none'")
    assert tpsim(*VERBS[verb], "-S", "hosts.db.count=2", "--set", "workloads.staff.users=2").code == 0


def test_overrides_change_the_model(tpsim):
    outcome = tpsim("check", "shop.yaml", "--json", "-S", "workloads.shoppers.rate=0.2k/s")
    assert json.loads(outcome.out)["workloads"][0]["offered_per_s"] == pytest.approx(200.0)


def test_an_objective_that_is_not_met(tpsim):
    outcome = tpsim(*VERBS["run"], "-S", "objectives=['shoppers: mean < 1 ms']")
    assert outcome.code == 4
    assert re.search(r"shoppers: mean < 1 ms .* no\n", outcome.out)


def test_a_capacity_out_of_reach(tpsim):
    arguments = [*VERBS["capacity"], "--objective", "shoppers: mean < 1 ms"]
    outcome = tpsim(*arguments)
    assert outcome.code == 4
    assert "no load meets the objectives" in outcome.out
    outcome = tpsim(*arguments, "--json")
    assert outcome.code == 4
    assert json.loads(outcome.out)["reachable"] is False


@pytest.mark.parametrize("verb", ["run", "compare", "sweep"])
def test_a_precision_out_of_reach(tpsim, verb, monkeypatch):
    monkeypatch.setattr("simulator.study.run.MOST_REPLICATIONS", 6)
    outcome = tpsim(*VERBS[verb], "-d", "200ms", "--precision", "0.01%")
    assert outcome.code == 5
    assert outcome.out
    if verb == "run":
        assert re.search(r"precision +0.01 % NOT reached with 6 replications", outcome.out)


def test_a_precision_within_reach(tpsim):
    outcome = tpsim(*VERBS["run"], "--precision", "50%")
    assert outcome.code == 0
    assert re.search(r"precision +50 % reached with \d+ replications", outcome.out)


def test_a_defect_says_so_without_a_traceback(tpsim, monkeypatch):
    def fail(*_):
        raise RuntimeError("the sky is falling")

    monkeypatch.setattr("simulator.study.run.reduce", fail)
    outcome = tpsim(*VERBS["run"])
    assert outcome.code == 1
    assert outcome.err.count("\n") == 1
    assert "RuntimeError: the sky is falling" in outcome.err
    monkeypatch.setenv("TPSIM_DEBUG", "1")
    with pytest.raises(RuntimeError):
        cli.main()


def test_want_of_memory_says_so(tpsim, monkeypatch):
    def fail(*_):
        raise MemoryError

    monkeypatch.setattr("simulator.study.run.reduce", fail)
    outcome = tpsim(*VERBS["run"])
    assert outcome.code == 1
    assert outcome.err.startswith("tpsim: out of memory")


# JSON


def estimates_in(data):
    if isinstance(data, dict):
        if "low" in data:
            yield data
        for value in data.values():
            yield from estimates_in(value)
    elif isinstance(data, list):
        for value in data:
            yield from estimates_in(value)


@pytest.mark.parametrize("verb", [*VERBS, "models"])
def test_json_is_one_object(tpsim, verb):
    outcome = tpsim(*VERBS.get(verb, [verb]), "--json")
    assert (outcome.code, outcome.err) == (0, "")
    data = json.loads(outcome.out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert data["schema_version"] == 1
    assert (
        subprocess.run(
            [sys.executable, "-m", "json.tool"], input=outcome.out, text=True, stdout=subprocess.DEVNULL
        ).returncode
        == 0
    )
    for estimate in estimates_in(data):
        assert set(estimate) >= {"value", "low", "high"}
        if verb != "sweep":
            assert isinstance(estimate["n"], int)


def test_json_of_run_keeps_its_contract(tpsim):
    data = json.loads(tpsim(*VERBS["run"], "--json").out)
    assert set(data) >= {
        "model", "seed", "engine", "simulated_s", "requests", "wall_s", "workloads", "resources", "bottleneck",
        "stable", "objectives", "cost", "digest", "replications", "warm_up_s",
    }  # fmt: skip
    assert (data["model"], data["seed"], data["replications"], data["stable"]) == ("shop", 5, 3, True)
    assert set(data["workloads"]) == {"shoppers", "staff"}
    shoppers = data["workloads"]["shoppers"]
    assert set(shoppers) >= {"offered_per_s", "throughput_per_s", "error_rate", "errors", "latency_s", "breakdown"}
    assert set(shoppers["latency_s"]) == {"mean", "p50", "p90", "p95", "p99", "p999"}
    spent = 0.0
    for component in shoppers["breakdown"].values():
        assert set(component) == {"wait_s", "service_s"}
        spent += sum(estimate["value"] for estimate in component.values())
    assert spent == pytest.approx(shoppers["latency_s"]["mean"]["value"])
    assert set(data["resources"]["hosts.app.cpu"]) >= {"utilization", "queue_mean"}
    assert data["bottleneck"]["resource"] == "hosts.app.cpu"
    assert [set(each) >= {"name", "target", "value", "met"} for each in data["objectives"]] == [True, True]
    assert set(data["cost"]) == {
        "per_hour", "per_million_requests", "usage_per_hour", "per_thousand_conversations",
    }  # fmt: skip
    assert (data["cost"]["usage_per_hour"]["value"], data["cost"]["per_thousand_conversations"]) == (0.0, None)
    assert data["cost"]["per_hour"] == pytest.approx(2.0)
    estimate = shoppers["throughput_per_s"]
    assert set(estimate) >= {"value", "low", "high", "n"}
    assert estimate["low"] < estimate["value"] < estimate["high"]
    assert estimate["n"] == 3


def test_goodput_is_compared_and_swept(tpsim):
    median = json.loads(tpsim(*VERBS["run"], "--json").out)["workloads"]["shoppers"]["latency_s"]["p50"]["value"]
    goodput = f"goodput(latency {median!r} s)"
    data = json.loads(tpsim(*VERBS["compare"], "--metric", goodput, "--json").out)
    [found] = [each for each in data["differences"]["shoppers"] if each["metric"].startswith("goodput")]
    throughput = data["first"]["workloads"]["shoppers"]["throughput_per_s"]["value"]
    assert found["first"]["value"] == pytest.approx(throughput / 2, rel=0.01)
    rows = json.loads(tpsim(*VERBS["sweep"], "--objective", f"shoppers: {goodput} > 99%", "--json").out)["rows"]
    shares = [row for row in rows if row["of"] == "objectives"]
    assert len(shares) >= 2
    assert all(row["metric"].startswith("shoppers: goodput share(latency") for row in shares)
    assert all(0.0 < row["value"] < 1.0 for row in shares)


def test_json_of_the_other_verbs(tpsim):
    data = json.loads(tpsim(*VERBS["compare"], "--json").out)
    assert set(data) >= {"first", "second", "differences", "utilization", "cost", "cost_difference_per_hour"}
    assert data["cost_difference_per_hour"] == pytest.approx(-0.4)
    data = json.loads(tpsim(*VERBS["capacity"], "--json").out)
    assert set(data) >= {"model", "reachable", "factor", "limit", "at_limit", "trials"}
    data = json.loads(tpsim(*VERBS["validate"], "--json").out)
    assert (data["model"], data["source"]) == ("shop", "measured.csv")
    assert set(data["mape"]) == {"held_out", "fitted"}
    assert [row["fitted"] for row in data["rows"]] == [True, True, False, False]
    data = json.loads(tpsim(*VERBS["check"], "--json").out)
    assert data["valid"] is True


def test_a_warm_up_that_eats_the_run_is_warned_of(tpsim):
    warned = "the warm-up leaves"
    assert warned in tpsim("run", "shop.yaml", *QUICK, "-d", "1s", "-S", "run.warm_up=900 ms").out
    assert warned not in tpsim("run", "shop.yaml", *QUICK, "-d", "1s", "-S", "run.warm_up=100 ms").out


def test_an_unstable_load_has_no_latency(tpsim):
    outcome = tpsim("run", "long.yaml", *QUICK, "-d", "5s", "--json")
    data = json.loads(outcome.out)
    (workload,) = data["workloads"].values()
    assert outcome.code == 4
    assert data["stable"] is False
    assert workload["latency_s"] is None
    assert workload["backlog_growth_per_s"]["value"] > 0
    assert data["objectives"][0]["value"]["value"] is None


@pytest.mark.parametrize("verb", ["check", "run"])
@pytest.mark.parametrize(("workers", "first"), [(1, "services.web.workers"), (64, "hosts.app.cpu")])
def test_what_is_held_while_others_are_waited_for_saturates_at_the_latest(tpsim, folder, verb, workers, first):
    (folder / "held.yaml").write_text(f"""
hosts: {{app: {{cpu: 1}}}}
services: {{web: {{host: app, workers: {workers}, operations: {{a: [compute: 5 ms, delay: 5 ms]}}}}}}
workloads: {{w: {{rate: 20/s, operation: web.a}}}}
""")
    shown = " ".join(tpsim(verb, folder / "held.yaml").out.split())
    times = 1000 / 20 / 10 if workers == 1 else 1000 / 20 / 5
    assert first in shown.split("bottleneck" if verb == "run" else "saturates first")[1]
    assert shown.count(f"at {times:g} times this load") == 1
    assert (f"at {times:g} times this load at the latest" in shown) == (workers == 1)


@pytest.mark.parametrize("cancelled", [True, False])
@pytest.mark.parametrize(
    ("step", "once", "each"),
    [
        ("{call: t.o, hedge: 5 ms}", "{call: t.o}", 1 + math.exp(-0.5)),
        ("{parallel: [[{call: t.o}], [{call: t.o}]], need: 1}", "{parallel: [[{call: t.o}], [{call: t.o}]]}", 2.0),
    ],
)
def test_what_is_asked_less_than_analysis_counts_saturates_at_the_earliest(tpsim, folder, step, once, each, cancelled):
    """Of two exponential branches the loser is cancelled: together they ask for one branch's work."""
    (folder / "hedged.yaml").write_text(f"""
hosts: {{a: {{cpu: 4}}, b: {{cpu: 40}}}}
services:
  s: {{host: a, operations: {{o: [{step if cancelled else once}]}}}}
  t: {{host: b, operations: {{o: [{{compute: {{exponential: 10 ms}}}}]}}}}
workloads: {{w: {{rate: 1000/s, operation: s.o}}}}
""")
    found = json.loads(tpsim("run", folder / "hedged.yaml", *QUICK, "--json").out)["bottleneck"]
    assert found["resource"] == "hosts.b.cpu"
    assert found["asked_less"] is cancelled
    shown = " ".join(tpsim("run", folder / "hedged.yaml", *QUICK).out.split())
    times = 4 / each if cancelled or "parallel" in once else 4
    assert f"saturates at {times:.3g} times this load" in shown
    assert ("times this load at the earliest" in shown) is cancelled


def test_workers_that_are_held_and_asked_for_less_saturate_neither_at_the_latest_nor_at_the_earliest(tpsim, folder):
    (folder / "held.yaml").write_text("""
hosts: {a: {cpu: 4}, b: {cpu: 40}}
services:
  s: {host: a, operations: {o: [{call: t.o, hedge: 5 ms}]}}
  t: {host: b, workers: 30, operations: {o: [{delay: {exponential: 10 ms}}]}}
workloads: {w: {rate: 1000/s, operation: s.o}}
""")
    shown = " ".join(tpsim("run", folder / "held.yaml", *QUICK).out.split())
    assert "bottleneck services.t.workers" in shown
    assert re.search(r"saturates at [\d.]+ times this load(?! at the)", shown)


def test_a_resource_that_is_never_busy_is_no_bottleneck(tpsim, folder):
    (folder / "idle.yaml").write_text("""
hosts: {a: {cpu: 4}}
services: {s: {host: a, operations: {o: [{delay: 10 ms}]}}}
workloads: {w: {rate: 100/s, operation: s.o}}
""")
    outcome = tpsim("run", folder / "idle.yaml", *QUICK)
    assert re.search(r"^bottleneck +none$", outcome.out, re.MULTILINE)
    assert "busy" not in outcome.out
    assert json.loads(tpsim("run", folder / "idle.yaml", *QUICK, "--json").out)["bottleneck"] is None


def test_jobs_change_nothing(tpsim):
    one, two = (json.loads(tpsim(*VERBS["run"], "-j", jobs, "--json").out) for jobs in (1, 2))
    assert one.pop("wall_s") > 0
    assert two.pop("wall_s") > 0
    assert one == two


def test_schema_is_a_json_schema(tpsim):
    outcome = tpsim("schema")
    assert outcome.code == 0
    assert json.loads(outcome.out)["$defs"]["model"]["type"] == "object"


def test_a_section_of_the_schema_is_for_people(tpsim):
    outcome = tpsim("schema", "hosts.cpu")
    assert outcome.code == 0
    assert re.search(r"^smt_yield +a factor above 0; 1.25 where left out$", outcome.out, re.MULTILINE)
    outcome = tpsim("schema", "hosts.cpuu")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "tpsim: hosts has no field 'cpuu'; did you mean 'cpu'?\n"


def test_types_of_hardware_are_listed_with_their_figures_and_prices(tpsim):
    outcome = tpsim("models", "gpus")
    assert outcome.code == 0
    assert re.search(r"^h100-sxm +80 GB +3.35 TB/s +989 +1978 +450 GB/s +\$4.90/h$", outcome.out, re.MULTILINE)
    for section in ("machines", "disks", "nics", "gpus", "llms"):
        lines = tpsim("models", section).out.splitlines()
        assert max(map(len, lines)) <= 80
        assert len(lines) > 10
    outcome = tpsim("models", "gpu")
    assert (outcome.code, outcome.out) == (2, "")
    assert outcome.err == "tpsim: the catalogue has no section 'gpu'; did you mean 'gpus'?\n"
    assert set(json.loads(tpsim("models", "gpus", "--json").out)["hardware"]) == {"gpus"}


# What a person sees


@pytest.mark.parametrize("verb", [*VERBS, "models", "help"])
def test_output_fits_and_is_plain(tpsim, verb):
    arguments = ["--help"] if verb == "help" else VERBS.get(verb, [verb])
    outputs = [tpsim(*arguments).out]
    if verb in VERBS and verb != "sweep":
        replaced = [each.replace("shop.yaml", "long.yaml").replace("measured", "long") for each in arguments]
        if verb == "compare":
            replaced[3] = "workloads.customers-of-the-european-web-shop-on-black-friday.rate=50/s"
        if verb == "capacity":
            replaced += ["--objective", "mean < 50 ms"]
        if verb == "calibrate":
            replaced[4] = f"{DISK}.iops"
        outcome = tpsim(*replaced)
        assert (outcome.code in (0, 4), outcome.err) == (True, "")
        outputs.append(outcome.out)
    if verb == "sweep":
        return
    for text in outputs:
        assert max(map(len, text.splitlines())) <= 80
        assert "\x1b" not in text
        assert "nan" not in text
        assert not re.search(r"\binf\b", text)
        assert "(s)" not in text
        assert "\n\n\n" not in text
        if verb != "help":
            assert not re.search(r"[ \t]\n", text)


def test_an_unstable_objective_is_said_in_words(tpsim):
    outcome = tpsim("run", "long.yaml", *QUICK, "-d", "5s")
    assert "no steady state" in outcome.out
    assert "verdict" in outcome.out
    assert "unstable: the backlog" in re.sub(r"\s+", " ", outcome.out)


def test_a_comparison_with_an_unstable_side_has_no_latency_there(tpsim):
    rate = "workloads.customers-of-the-european-web-shop-on-black-friday.rate=50/s"
    outcome = tpsim("compare", "long.yaml", "--to", rate, *QUICK, "-d", "5s")
    (line,) = [line for line in outcome.out.splitlines() if line.startswith("mean ")]
    assert line.split()[1] == "–"
    assert "ms" in line


def in_a_terminal(arguments, until=None, limit=60.0, asked=signal.SIGINT, **environment):
    """Run with stdout and stderr on a terminal; stop it by a signal once `until` was seen."""
    leader, follower = pty.openpty()
    names = {"TERM": "xterm", "COLUMNS": "80", **environment}
    process = subprocess.Popen(
        command(*arguments), stdin=subprocess.DEVNULL, stdout=follower, stderr=follower, env={**os.environ, **names},
        preexec_fn=None if asked == signal.SIGINT else partial(signal.signal, asked, signal.SIG_DFL),  # despite nohup
    )  # fmt: skip
    os.close(follower)
    seen, stopped, ends = b"", False, time.monotonic() + limit
    while time.monotonic() < ends and select.select([leader], [], [], limit)[0]:
        try:
            piece = os.read(leader, 65536)
        except OSError:  # the other end is closed
            break
        if not piece:
            break
        seen += piece
        if until and until in seen and not stopped:
            process.send_signal(asked)
            stopped = True
    os.close(leader)
    try:
        return process.wait(timeout=limit), seen.decode()
    finally:
        process.kill()


def test_a_terminal_gets_a_bar_on_long_work_only():
    code, seen = in_a_terminal(["run", "shop.yaml", "-d", "1000000s", "-j", "1"], until=b"replications")
    assert code == 130
    assert "replications" in seen
    assert seen.rstrip().endswith("tpsim: interrupted")
    assert seen.rfind("\x1b[?25h") > seen.rfind("\x1b[?25l")


def test_a_quick_run_has_no_bar_and_no_colour_where_none_is_wanted():
    code, seen = in_a_terminal(["run", "shop.yaml", *QUICK, "-d", "100ms", "--engine", "simpy"], NO_COLOR="1")
    assert code in (0, 4)
    assert "bottleneck" in seen
    assert not COLOUR.search(seen)
    assert "\x1b[?25l" not in seen


def test_a_narrow_terminal_folds():
    code, seen = in_a_terminal(["check", "long.yaml"], COLUMNS="50", NO_COLOR="1")
    assert code == 0
    plain = re.sub(r"\x1b\[[\d;]*m", "", seen).replace("\r", "")
    assert max(map(len, plain.splitlines())) <= 50


# Files


def test_files_of_a_run(tpsim, folder):
    outcome = tpsim(*VERBS["run"], "-o", "out", "-S", "hosts.db.count=2", "--json")
    assert outcome.code == 0
    out = folder / "out"
    assert {path.name for path in out.iterdir()} == {
        "run.json", "model.yaml", "requests.parquet", "levels.parquet", "summary.json",
    }  # fmt: skip
    printed, written = json.loads(outcome.out), json.loads((out / "summary.json").read_text())
    run = json.loads((out / "run.json").read_text())
    assert written == {name: value for name, value in printed.items() if name != "wall_s"}
    assert run["digest"] == printed["digest"]
    assert set(run) >= {"schema_version", "model", "seed", "engine", "wall_s"}
    requests = pd.read_parquet(out / "requests.parquet")
    assert len(requests) == printed["requests"]
    assert set(requests["workload"]) == {"shoppers", "staff"}
    levels = pd.read_parquet(out / "levels.parquet")
    assert set(levels["resource"]) == set(printed["resources"])
    assert set(levels["replication"]) == {0, 1, 2}
    again = json.loads(tpsim("run", out / "model.yaml", *QUICK, "--json").out)
    assert again["digest"] == printed["digest"]
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_same_inputs_same_bytes(tpsim, folder):
    for name, jobs in (("one", 1), ("two", 2)):
        assert tpsim(*VERBS["run"], "-o", name, "-j", jobs).code == 0
    for path in (folder / "one").iterdir():
        other = folder / "two" / path.name
        if path.name == "run.json":
            first, second = (json.loads(each.read_text()) for each in (path, other))
            assert first.pop("wall_s") != second.pop("wall_s")
            assert first == second
        else:
            assert path.read_bytes() == other.read_bytes(), path.name


def test_results_replace_results_and_leave_the_rest(tpsim, folder):
    assert tpsim(*VERBS["run"], "-o", "deep/out").code == 0
    (folder / "deep/out/notes.txt").write_text("mine")
    before = (folder / "deep/out/summary.json").read_bytes()
    assert tpsim(*VERBS["run"], "--seed", "6", "-o", "deep/out").code == 0
    assert (folder / "deep/out/notes.txt").read_text() == "mine"
    assert (folder / "deep/out/summary.json").read_bytes() != before


@pytest.mark.parametrize("output", ["measured.csv", "measured.csv/out", "/proc/out"])
def test_a_folder_that_cannot_be_written_is_said_before_the_work(tpsim, folder, output, monkeypatch):
    monkeypatch.setattr("simulator.study.run.simulate", lambda *_: pytest.fail("it simulated"))
    outcome = tpsim(*VERBS["run"], "-o", output)
    assert outcome.code == 3
    assert outcome.out == ""
    assert outcome.err.startswith("tpsim: /")
    assert output in outcome.err
    assert outcome.err.count("\n") == 1
    assert (folder / "measured.csv").read_text() == MEASURED


def test_a_full_disk_leaves_old_results(tpsim, folder):
    assert tpsim(*VERBS["run"], "-o", "out").code == 0
    before = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}

    def no_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))

    arguments = command(*VERBS["run"], "--seed", "6", "-o", "out")
    done = subprocess.run(arguments, capture_output=True, text=True, preexec_fn=no_room)
    assert done.returncode == 3
    assert done.stderr == f"tpsim: {folder / 'out'}: {os.strerror(errno.EFBIG)}\n"
    assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == before
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_an_interrupt_while_writing_leaves_old_results(tpsim, folder, monkeypatch):
    assert tpsim(*VERBS["run"], "-o", "out").code == 0
    before = {path.name: path.read_bytes() for path in (folder / "out").iterdir()}

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "levels_table", interrupt)
    assert tpsim(*VERBS["run"], "--seed", "6", "-o", "out").code == 130
    assert {path.name: path.read_bytes() for path in (folder / "out").iterdir()} == before
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == []


def test_a_sweep_goes_to_a_file_or_to_stdout(tpsim, folder):
    printed = tpsim(*VERBS["sweep"])
    assert printed.code == 0
    for name in ("table.csv", "new/table.parquet"):
        outcome = tpsim(*VERBS["sweep"], "-o", name)
        assert (outcome.code, outcome.out, outcome.err) == (0, f"2 points: {name}\n", "")
    assert (folder / "table.csv").read_text() == printed.out
    table = pd.read_csv(folder / "table.csv")
    pd.testing.assert_frame_equal(table, pd.read_parquet(folder / "new/table.parquet"), check_dtype=False)
    assert list(table.columns) == [
        "hosts.app.count", "stable", "cost_per_hour", "of", "metric", "value", "low", "high",
    ]  # fmt: skip
    assert table["hosts.app.count"].unique().tolist() == [1, 2]
    rows = json.loads(tpsim(*VERBS["sweep"], "--json").out)["rows"]
    assert len(rows) == len(table)
    assert rows[0]["hosts.app.count"] == 1


# Pipes, signals and lost workers


@pytest.mark.slow
@pytest.mark.parametrize("verb", VERBS)
def test_a_model_comes_through_a_pipe(verb):
    arguments = command(*(each.replace("shop.yaml", "/dev/stdin") for each in VERBS[verb]))
    done = subprocess.run(arguments, input=SHOP, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout


def test_a_problem_of_a_model_in_a_pipe_has_its_place():
    arguments = command("check", "/dev/stdin")
    done = subprocess.run(arguments, input=SHOP.replace("count: 2", "count: two"), capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.startswith("/dev/stdin:4:40: hosts.app.count: got 'two', expected a whole number")


def with_closed(streams, arguments):
    """Run with file descriptors closed, as `>&-` does."""
    code = f'exec {" ".join(f"{number}>&-" for number in streams)}; exec "$@"'
    return subprocess.run(["bash", "-c", code, "bash", *command(*arguments)], capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("closed", [[2], [0], [0, 2]])
def test_a_closed_stderr_or_stdin_is_not_missed(tpsim, closed, jobs):
    done = with_closed(closed, [*VERBS["sweep"], "-j", jobs])
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == tpsim(*VERBS["sweep"]).out


def test_a_failure_without_stderr_has_its_exit_code():
    done = with_closed([2], ["check", "nowhere.yaml"])
    assert (done.returncode, done.stdout) == (3, "")


@pytest.mark.parametrize("arguments", [VERBS["check"], [*VERBS["run"], "-j", "2", "-o", "out"], ["--help"]])
def test_a_closed_stdout_is_a_failed_write(folder, arguments):
    done = with_closed([1], arguments)
    assert (done.returncode, done.stderr) == (3, f"tpsim: input/output: {os.strerror(errno.EBADF)}\n")
    assert (folder / "shop.yaml").read_text() == SHOP


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("arguments", [VERBS["check"], VERBS["run"], ["--help"]])
def test_a_full_disk_under_stdout_is_said_once(arguments):
    with open("/dev/full", "w") as full:
        done = subprocess.run(command(*arguments), stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (3, f"tpsim: input/output: {os.strerror(errno.ENOSPC)}\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_under_stderr_leaves_the_exit_code():
    with open("/dev/full", "w") as full:
        done = subprocess.run(command("check", "nowhere.yaml"), stdout=subprocess.PIPE, stderr=full, text=True)
    assert (done.returncode, done.stdout) == (3, "")


@pytest.mark.parametrize("verb", ["run", "schema"])
def test_a_reader_that_has_gone_is_no_error(verb):
    reader, writer = os.pipe()
    os.close(reader)
    arguments = command(*VERBS.get(verb, [verb]))
    done = subprocess.run(arguments, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


def session_of(leader):
    """Process numbers and parents of those in a session, the leader left out."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        state, parent, session = fields[0], int(fields[1]), int(fields[3])
        number = int(stat.parent.name)
        if session == leader and number != leader and state != "Z":
            found[number] = parent
    return found


def workers_of(leader):
    """Those of a session whose parent is not the leader: forked from its fork server."""
    return [number for number, parent in session_of(leader).items() if parent != leader]


def wait_until(condition, limit=30.0):
    ends = time.monotonic() + limit
    while not (found := condition()):
        assert time.monotonic() < ends, "it did not come about"
        time.sleep(0.05)
    return found


@pytest.fixture
def long_run():
    """A run that would take hours, in a session of its own."""
    started = []

    def start(*arguments):
        process = subprocess.Popen(
            command("run", "shop.yaml", "-d", "1000000s", "--summaries-only", *arguments),
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )  # fmt: skip
        started.append(process)
        return process

    yield start
    for process in started:
        for number in (*session_of(process.pid), *([process.pid] if process.poll() is None else [])):
            os.kill(number, signal.SIGKILL)
        process.communicate()


needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes through /proc")


@needs_proc
@pytest.mark.parametrize("to_all", [False, True], ids=["to the command", "to all, as a terminal does"])
def test_an_interrupt_ends_everything(long_run, folder, to_all):
    before = sorted(folder.iterdir())
    process = long_run("-j", "2", "-o", "out")
    wait_until(lambda: len(workers_of(process.pid)) == 2)
    (os.killpg if to_all else os.kill)(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out, err) == (130, "", "tpsim: interrupted\n")
    wait_until(lambda: not session_of(process.pid), limit=10)
    assert sorted(folder.iterdir()) == before


def processor_seconds(number):
    """What a process has used so far of a processor."""
    fields = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def simulating(process, jobs):
    """Whether all that simulate have used more than it takes to load what they need."""
    if jobs == 1:
        return processor_seconds(process.pid) > 4.0
    workers = workers_of(process.pid)
    return len(workers) == jobs and all(processor_seconds(number) > 1.5 for number in workers)


@needs_proc
@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupt_stops_the_compiled_engine_within_two_seconds(long_run, folder, jobs):
    before = sorted(path.name for path in folder.iterdir())
    process = long_run("-j", jobs, "-o", "out", "--engine", "compiled")
    wait_until(lambda: simulating(process, jobs), limit=120.0)
    start = time.monotonic()
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    shared_by = max(os.getloadavg()[0] / len(os.sched_getaffinity(0)), 1.0)  # a processor
    assert time.monotonic() - start < 2.0 * shared_by
    assert (process.returncode, out, err) == (130, "", "tpsim: interrupted\n")
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize("jobs", [1, 2])
def test_an_interrupted_sweep_keeps_the_points_that_were_finished(folder, jobs):
    (folder / "table.csv").write_text("an older one")
    durations = "run.duration=1s,2s,10000000s,3s"
    finished, shown = (["1s", "2s"], b" 50%") if jobs == 1 else (["1s", "2s", "3s"], b" 75%")
    code, seen = in_a_terminal(
        ["sweep", "shop.yaml", "--vary", durations, "-r", "3", "-j", jobs, "-o", "table.csv"], until=shown
    )
    assert code == 130
    assert f"tpsim: {len(finished)} of 4 points were finished: table.partial.csv" in seen
    assert seen.rstrip().endswith("tpsim: interrupted")
    assert (folder / "table.csv").read_text() == "an older one"
    assert pd.read_csv(folder / "table.partial.csv")["run.duration"].unique().tolist() == finished


@pytest.mark.parametrize("asked", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_sweep_keeps_the_points_that_were_finished(folder, asked):
    durations = "run.duration=1s,2s,10000000s,3s"
    code, seen = in_a_terminal(
        ["sweep", "shop.yaml", "--vary", durations, "-r", "3", "-j", "2", "-o", "table.csv"], b" 75%", asked=asked
    )
    assert code == 128 + asked
    assert seen.rstrip().endswith("tpsim: terminated")
    assert pd.read_csv(folder / "table.partial.csv")["run.duration"].unique().tolist() == ["1s", "2s", "3s"]


def test_a_sweep_that_loses_a_worker_keeps_the_points_that_were_finished(tpsim, folder, monkeypatch):
    def lose(system, settings):
        if system.run.duration == 3.0:
            raise WorkerLostError("a worker process was lost")
        return sim.run(system, settings)

    monkeypatch.setattr("simulator.study.sweep.run", lose)
    outcome = tpsim(*VERBS["sweep"][:2], "--vary", "run.duration=1s,2s,3s", "-r", "2", "-j", "1", "-o", "table.csv")
    assert (outcome.code, outcome.out) == (1, "")
    lines = ["2 of 3 points were finished: table.partial.csv", "a worker process was lost"]
    assert outcome.err.splitlines() == [f"tpsim: {line}" for line in lines]
    assert pd.read_csv(folder / "table.partial.csv")["run.duration"].unique().tolist() == ["1s", "2s"]


def test_a_table_that_a_full_disk_refuses_is_printed(tpsim, folder, monkeypatch):
    def full(path, table):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    printed = tpsim(*VERBS["sweep"])
    monkeypatch.setattr("simulator.study.store.write_table", full)
    outcome = tpsim(*VERBS["sweep"], "-o", "table.csv")
    assert outcome.code == 3
    assert "No space left on device" in outcome.err
    assert outcome.out == printed.out
    monkeypatch.setattr("simulator.cli.progress.Bar.__call__", interrupt_after_the_last)
    stopped = tpsim(*VERBS["sweep"], "-o", "table.csv")
    assert stopped.code == 3
    assert stopped.out == printed.out


def interrupt_after_the_last(bar, done, planned):
    if done == planned:
        raise KeyboardInterrupt


def test_a_sweep_interrupted_before_any_point_leaves_no_file(tpsim, folder, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    before = sorted(path.name for path in folder.iterdir())
    monkeypatch.setattr("simulator.study.sweep.run", interrupt)
    outcome = tpsim(*VERBS["sweep"], "-o", "table.csv")
    assert (outcome.code, outcome.out, outcome.err) == (130, "", "tpsim: interrupted\n")
    assert sorted(path.name for path in folder.iterdir()) == before


@needs_proc
@pytest.mark.parametrize("after", [0.0, 0.5])
def test_an_interrupt_at_any_time_is_quiet(long_run, after):
    process = long_run("-j", "2")
    wait_until(lambda: session_of(process.pid))  # it loads what it needs, and so does its fork server
    time.sleep(after)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=10)
    wait_until(lambda: not session_of(process.pid), limit=10)
    assert process.returncode == 130
    assert err == "tpsim: interrupted\n"


INTERRUPTED_WHILE_LOADING = """
import sys

class Interrupt:
    def find_spec(self, name, path=None, target=None):
        if name == MODULE:
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
from simulator.cli import main
sys.argv[1:] = ["check", "shop.yaml"]
main()
"""


@pytest.mark.parametrize("module", ["typer", "simulator.cli.options", "simulator.model.files"])
def test_an_interrupt_while_the_command_is_loaded_is_quiet(module):
    program = f"MODULE = {module!r}\n{INTERRUPTED_WHILE_LOADING}"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "tpsim: interrupted\n")


@needs_proc
def test_workers_of_a_killed_command_end(long_run):
    process = long_run("-j", "2")
    wait_until(lambda: len(workers_of(process.pid)) == 2)
    time.sleep(0.5)
    process.kill()
    process.wait(timeout=10)
    wait_until(lambda: not session_of(process.pid), limit=10)


@needs_proc
def test_a_killed_worker_is_said(long_run):
    process = long_run("-j", "2")
    workers = wait_until(lambda: len(workers_of(process.pid)) == 2 and workers_of(process.pid))
    os.kill(workers[0], signal.SIGKILL)
    out, err = process.communicate(timeout=10)
    assert (process.returncode, out) == (1, "")
    assert err.startswith("tpsim: a worker process was lost: ")
    wait_until(lambda: not session_of(process.pid), limit=10)
