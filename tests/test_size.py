"""The smallest number of something that meets the objectives, against trying them all; and answers of none."""

import json
import math
import re

import pytest

from simulator import cli
from simulator.errors import InputError, UsageError
from simulator.model.files import load
from simulator.model.objective import Objective
from simulator.study.run import Settings, run
from simulator.study.size import size

QUEUE = """
name: queue
hosts: {app: {cpu: 1, count: 1, price: $0.5/h}}
services: {web: {host: app, balancer: random, operations: {get: [{compute: {exponential: 10 ms}}]}}}
workloads: {users: {rate: 400/s, operation: web.get}}
objectives: ["mean < 40 ms"]
"""
CHATS = """
name: chats
hosts: {app: {cpu: 4, price: $1/h}}
llms:
  assistant:
    step_time: {overhead: 1 ms, weights: 6 ms, token: 30 us, generated: 60 ns, mixed: 120 ns}
    kv_tokens: 20000
    gpu: {memory: 80 GB, memory_bandwidth: 3 TB/s, price: $4/h}
    gpus: 2
    tensor_parallel: 2
    max_sequences: 4
services: {web: {host: app, operations: {say: [{generate: assistant, system: 500}]}}}
workloads:
  chats:
    rate: 10/s
    operation: web.say
    conversation: {turns: 2, question: 50, answer: {exponential: 30}, think: {exponential: 1 s}}
objectives: ["messages.chats.turns: ttft p95 < 50 ms"]
"""
QUICK = Settings(duration=20.0, replications=3, seed=3)


@pytest.fixture
def model(tmp_path, monkeypatch):
    """Writes a model and returns its path."""
    monkeypatch.chdir(tmp_path)

    def write(text=QUEUE):
        path = tmp_path / "model.yaml"
        path.write_text(text)
        return path

    return write


def test_the_smallest_number_is_that_of_trying_all(model):
    path = model()
    answer = size(path, "hosts.app.count", settings=QUICK)
    # M/M/1 at each of n hosts: 1 / (100 - 400 / n) s on average, so 40 ms takes 400 / 75 = 5.3 hosts.
    assert answer.number.value == 6.0
    for number in (5, 6):
        [objective] = run(load(path, [f"hosts.app.count={number}"]), QUICK).objectives
        assert objective.met == (number == 6)
    assert answer.number.low <= 6.0 <= answer.number.high
    assert answer.results.cost.per_hour == 3.0
    assert (answer.below, answer.broken) == (5, "mean < 40 ms is not met")
    assert [(number, met) for number, met, _ in answer.trials] == [
        (1, False), (2, False), (4, False), (8, True), (6, True), (5, False),
    ]  # fmt: skip
    assert answer.number.n == 6


def test_the_smallest_number_may_be_the_first(model):
    answer = size(model(), "hosts.app.count", settings=QUICK, overrides=["workloads.users.rate=10/s"])
    assert (answer.number.value, answer.number.low, answer.number.high) == (1.0, 1.0, 1.0)
    assert (answer.below, answer.broken, answer.trials) == (None, "", ((1, True, True),))


def test_the_trials_beyond_doubt_say_what_is_sure(model):
    objectives = [Objective.model_validate("mean < 40 ms")]
    answer = size(model(), "hosts.app.count", objectives, settings=QUICK)
    sure = [(number, met) for number, met, decided in answer.trials if decided]
    assert answer.number.low == max(number for number, met in sure if not met) + 1
    assert answer.number.high == min(number for number, met in sure if met)


def test_numbers_that_are_not_valid_are_left_out(model):
    far = "  far: {gateway: {host: app, cpu: 1 ms, backends: {assistant: {}}}}\nservices:"
    answer = size(model(CHATS.replace("services:", far)), "gpus", settings=QUICK)
    assert answer.field == "llms.assistant.gpus"
    numbers = [number for number, _, _ in answer.trials]
    assert all(number % 2 == 0 for number in numbers)
    assert answer.number.value - answer.below == 2
    assert answer.results.cost.per_hour == 1.0 + 4.0 * answer.number.value
    assert answer.results.cost.per_thousand_conversations.value > 0.0


def test_only_multiples_of_a_step_are_tried(model):
    answer = size(model(), "hosts.app.count", settings=QUICK, step=4)
    assert [number for number, _, _ in answer.trials] == [4, 8]
    assert (answer.number.value, answer.below) == (8.0, 4)


def test_out_of_reach(model):
    answer = size(model(), "hosts.app.count", settings=QUICK, most=3)
    assert not answer.reachable
    assert [number for number, _, _ in answer.trials] == [1, 2, 3]
    assert (answer.number.value, answer.number.low, answer.number.high) == (math.inf, math.inf, math.inf)
    assert answer.below == 3
    assert "unstable" in answer.broken


def test_what_is_valid_may_end_before_enough_is_found(model):
    text = QUEUE.replace("cpu: 1,", "cpu: 1, memory: 3.5 GiB,").replace(
        "balancer:", "replicas: 1, memory: {base: 1 GiB}, balancer:"
    )
    text = text.replace("400/s", "40/s").replace("mean < 40 ms", "mean < 4 ms")
    answer = size(model(text), "services.web.replicas", settings=QUICK)
    assert [number for number, _, _ in answer.trials] == [1, 2, 3]
    assert "; 4 is not valid: services hold all memory of a host 'app'" in answer.broken
    assert answer.number.low == math.inf


@pytest.mark.parametrize(
    ("field", "said"),
    [
        ("services.web.replica", "--vary services.web.replica: no such place in the model"),
        ("services.web.host", "--vary services.web.host=64"),
        ("workloads.users.rate", "--vary workloads.users.rate=64"),
    ],
)
def test_fields_that_take_no_number(model, field, said):
    with pytest.raises(InputError) as error:
        size(model(), field, settings=QUICK)
    assert said in str(error.value)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (QUEUE, "--vary gpus: got a model with 0 LLMs on GPUs of its own, expected a model with one"),
        (CHATS.replace("services:", "  other: {step_time: {overhead: 1 ms, weights: 1 ms, token: 1 us}, "
                       "kv_tokens: 2000}\nservices:"), "one of llms.assistant.gpus, llms.other.gpus"),
    ],
)  # fmt: skip
def test_gpus_of_which_llm(model, text, said):
    with pytest.raises(UsageError, match=said):
        size(model(text), "gpus", settings=QUICK)


def test_no_objectives_no_size(model):
    with pytest.raises(UsageError, match="no objectives"):
        size(model(QUEUE[: QUEUE.index("objectives")]), "hosts.app.count", settings=QUICK)
    with pytest.raises(UsageError, match="expected 1 <= step <= most"):
        size(model(), "hosts.app.count", settings=QUICK, step=8, most=4)


def command(monkeypatch, capsys, *arguments):
    """Exit code and output of `tpsim capacity model.yaml ...`."""
    quick = ["-d", "20s", "-r", "3", "--seed", "3", "-j", "1"]
    monkeypatch.setattr("sys.argv", ["tpsim", "capacity", "model.yaml", *arguments, *quick])
    monkeypatch.setenv("COLUMNS", "80")
    with pytest.raises(SystemExit) as exit:
        cli.main()
    captured = capsys.readouterr()
    return exit.value.code, captured.out, captured.err


def test_the_command_says_the_number_its_cost_and_what_broke(model, monkeypatch, capsys):
    model(CHATS)
    code, out, _ = command(monkeypatch, capsys, "--vary", "gpus")
    answer = size("model.yaml", "gpus", settings=QUICK)
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert code == 0
    assert max(map(len, out.splitlines())) <= 80
    low, high = answer.number.low, answer.number.high
    assert f"llms.assistant.gpus {answer.number.value:.0f} [{low:.4g}, {high:.4g}]" in lines
    assert f"with {answer.below} messages.chats.turns: ttft p95 < 50 ms is not met" in lines
    cost = answer.results.cost
    assert f"cost ${cost.per_hour:.2f} an hour" in lines
    assert f"{cost.per_thousand_conversations.show('money')} per thousand conversations" in lines


def test_the_command_in_json_and_out_of_reach(model, monkeypatch, capsys):
    model()
    code, out, _ = command(monkeypatch, capsys, "--vary", "hosts.app.count", "--json", "--objective", "mean < 40 ms")
    found = json.loads(out)
    assert (code, found["reachable"], found["number"]["value"], found["below"]) == (0, True, 6.0, 5)
    assert found["results"]["cost"]["per_hour"] == 3.0
    code, out, _ = command(monkeypatch, capsys, "--vary", "hosts.app.count", "--json", "--most", "2")
    found = json.loads(out)
    assert (code, found["reachable"], found["number"]["value"]) == (4, False, None)
    code, out, _ = command(monkeypatch, capsys, "--vary", "hosts.app.count", "--most", "2")
    assert code == 4
    assert re.search(r"^hosts.app.count +none +–$", out, re.MULTILINE)
    assert "with 2, the largest tried" in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--step", "2"], "--step and --most are about the numbers of --vary PATH"),
        (["--vary", "hosts.app.count", "--tolerance", "3%"], "--tolerance is about the load"),
        (["--vary", "hosts.app.count", "--objective", "ttft p95 < 1 s"], "expected a workload that streams tokens"),
    ],
)
def test_options_that_do_not_go_together(model, monkeypatch, capsys, arguments, said):
    model()
    code, _, error = command(monkeypatch, capsys, *arguments)
    assert code == 2
    assert said in error


def test_no_more_is_tried_of_what_does_not_help(model):
    path = model(
        QUEUE.replace("hosts: {", "hosts: {db: {cpu: 1}, ")
        .replace("services: {", "services: {db: {host: db, operations: {q: [{compute: {exponential: 5 ms}}]}}, ")
        .replace("get: [", "get: [{call: db.q}, ")
    )
    answer = size(path, "hosts.app.count", settings=QUICK)
    assert not answer.reachable
    assert [number for number, _, _ in answer.trials] == [1, 2, 4, 8]
    assert answer.broken.endswith("more of it does not help: hosts.db.cpu saturates at 0.5 times this load")


CACHED = """
hosts: {app: {cpu: 16}, db: {cpu: 4}}
keys: {product: {zipf: {count: 2k, exponent: 0.8}}}
services:
  web:
    host: app
    operations: {view: [{compute: 1 ms}, {lookup: products, key: product, miss: [{call: db.read}]}]}
  db: {host: db, operations: {read: [{compute: {exponential: 10 ms}}]}}
caches: {products: {entries: 1}}
workloads: {v: {rate: 600/s, operation: web.view}}
objectives: [p95 < 100 ms]
"""


def test_what_helps_little_at_first_is_tried_on(model):
    answer = size(model(CACHED), "caches.products.entries", settings=QUICK)
    assert answer.reachable
    assert 64 < answer.number.value < 512
