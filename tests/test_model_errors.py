"""Bad models, overrides and tables: every problem names its place and what was expected, and nothing else escapes."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator.errors import InputError, Problem
from simulator.model.document import LINE_BREAK, Mapping, Sequence, read
from simulator.model.files import build, load, loads
from simulator.model.lowering import lower
from simulator.model.overrides import Override, apply_overrides

MODELS = Path(__file__).parent / "models"

BASE = """\
name: shop
hosts:
  app:
    cpu: 4
    memory: 8 GiB
    disk: {iops: 3000}
    price: $0.40/h
services:
  web:
    host: app
    workers: 16
    operations:
      browse:
        - compute: {exponential: 5 ms}
        - lookup: pages
          key: {zipf: {count: 10k}}
          miss:
            - call: store.query
              timeout: 1 s
      buy:
        - choose:
            - probability: 90%
              steps:
                - call: store.query
            - probability: 10%
              steps:
                - fail: sold out
  store:
    host: app
    operations:
      query:
        - read: 16 KiB
        - lock: row
          steps:
            - delay: 1 ms
caches:
  pages: {entries: 1000}
locks: [row]
externals:
  payments: {latency: 80 ms}
workloads:
  shoppers:
    rate: 100/s
    mix: {web.browse: 80%, web.buy: 20%}
objectives:
  - p99 < 200 ms
"""


def problems(text: str, *overrides: str) -> list[str]:
    with pytest.raises(InputError) as raised:
        loads(text, overrides, source="shop.yaml")
    return [str(problem) for problem in raised.value.problems]


def changed(old: str, new: str) -> str:
    assert old in BASE
    return BASE.replace(old, new, 1)


def unescaped(text: str) -> str:
    return text.replace("\\n", "\n").replace("\\r", "\r").replace("\\t", "\t")


def golden() -> list[tuple[str, str, list[str]]]:
    """Old text, new text and the problems of every block of bad.txt."""
    blocks = (MODELS / "bad.txt").read_text(encoding="utf-8").strip().split("\n\n")[1:]
    cases = []
    for block in blocks:
        change, *expected = block.split("\n")
        old, _, new = change.partition(" => ")
        cases.append((unescaped(old), unescaped(new), expected))
    return cases


@pytest.mark.parametrize(("old", "new", "expected"), golden())
def test_bad_model_is_reported_at_its_place_with_what_was_expected(old, new, expected, monkeypatch):
    monkeypatch.chdir(MODELS.parent.parent)
    assert problems(changed(old, new)) == expected


def test_every_golden_message_says_what_was_expected_or_meant():
    said = (
        "expected",
        "did you mean",
        "write GB",
        "stands here a second time",
        "never closed",
        "stands for nothing",
        "it fits on",
        "known: none",
    )
    for _, new, expected in golden():
        for line in expected:
            assert re.match(r"shop\.yaml:\d+:\d+: ", line)
            assert any(part in line for part in said) or "not indented" in line, (new, line)


def test_all_problems_of_a_file_come_at_once_in_order_of_their_places():
    text = changed("memory: 8 GiB", "memory: 8 Gb").replace("workers: 16", "wrokers: 16\n    host: ap")
    text = text.replace("call: store.query\n              timeout: 1 s", "call: store.qeury\n              timeout: 5")
    text = text.replace("rate: 100/s", "rate: -1/s").replace("p99 <", "p99 =")
    assert problems(text) == [
        "shop.yaml:5:13: hosts.app.memory: 'Gb' is gigabits; memory and sizes are in bytes: write GB or GiB",
        "shop.yaml:11:5: services.web.wrokers: unknown key 'wrokers'; did you mean 'workers'?",
        "shop.yaml:12:5: services.web.host: the key 'host' stands here a second time, the first is in line 10",
        "shop.yaml:19:21: services.web.operations.browse.1.miss.0.call: no operation named 'store.qeury'; "
        "did you mean 'store.query'?",
        "shop.yaml:20:24: services.web.operations.browse.1.miss.0.timeout: got 5, "
        "expected a duration with its unit, e.g. '5 ms'",
        "shop.yaml:44:11: workloads.shoppers.rate: got '-1/s', expected a rate above 0 and at most 1 G/s, e.g. '200/s'",
        "shop.yaml:47:5: objectives.0: got 'p99 = 200 ms', expected an objective such as 'p99 < 200 ms'",
    ]


def operations(**steps: str) -> str:
    lines = "".join(f"      {name}: {code}\n" for name, code in steps.items())
    return (
        "hosts: {h: {cpu: 1}}\nservices:\n  s:\n    host: h\n    operations:\n"
        + lines
        + "workloads: {w: {rate: 1/s, operation: s.a}}\n"
    )


def test_each_circle_of_calls_is_reported_once_where_it_closes():
    text = operations(
        a="[call: s.b, call: s.b]",
        b="[call: s.c, {repeat: 2, steps: [publish: s.b]}]",
        c="[call: s.a, {choose: [{probability: 1, steps: [call: s.a]}]}, call: s.b]",
    )
    assert [line.split("circle: ")[1] for line in problems(text)] == [
        "s.b -> s.b; expected calls that end",
        "s.a -> s.b -> s.c -> s.a; expected calls that end",
        "s.b -> s.c -> s.b; expected calls that end",
    ]
    assert [line.split(": ")[0] for line in problems(text)] == ["shop.yaml:7:51", "shop.yaml:8:17", "shop.yaml:8:78"]


def chain(length: int, step: str) -> str:
    names = [f"o{number}" for number in range(length)]
    steps = {name: f"[{step.format(below)}]" for name, below in pairwise(names)}
    return operations(a="[call: s.o0]", **steps, **{names[-1]: "[]"})


@pytest.mark.parametrize(
    "step", ["call: s.{0}", "{{parallel: [[{{call: s.{0}, timeout: 1 s, retries: 1, on_timeout: abandon}}]]}}"]
)
def test_calls_as_deep_as_they_may_be_can_be_lowered_and_deeper_ones_are_refused(step):
    levels = 2 if "parallel" in step else 1
    lower(loads(chain(58 // levels, step)))
    for length in (70, 1200):
        (line,) = problems(chain(length, step))
        assert re.search(r"s\.operations\.a: its calls go [\d,]+ levels deep, expected at most 60", line)


def test_calls_that_multiply_beyond_measure_are_refused_at_once():
    (line,) = problems(
        chain(50, "call: s.{0}, call: s.{0}").replace("]]", "]").replace("[call: s.o1, call", "[call: s.o1, call")
    )
    assert "it makes more than a trillion calls in all, expected at most 100,000" in line


def test_unknown_names_without_end_are_reported_up_to_a_point():
    text = changed("- read: 16 KiB", "\n        ".join(f"- call: nowhere.n{number}" for number in range(2000)))
    found = problems(text)
    assert len(found) == 301
    assert "there are more than 300 such problems" in found[0]


OVERRIDES = """
services.web.replicas
    expected path=value, such as services.web.replicas=4
=4
    expected path=value, such as services.web.replicas=4
services.web.replicas=four
    services.web.replicas: got 'four', expected a whole number >= 1
servces.web.replicas=4
    no such place in the model: the model has no 'servces'; did you mean 'services'?
services.wbe.replicas=4
    no such place in the model: services has no 'wbe'; did you mean 'web'?
services.web.replcas=4
    no such place in the model: services.web has no 'replcas'; did you mean 'replicas'?
services.web.workers.count=4
    no such place in the model: services.web.workers is a single value, it has no 'count'
services.web.operations.browse.7.compute=7 ms
    no such place in the model: services.web.operations.browse has no item '7'; its items are numbered: 0 to 1
services.web.operations.browse.x.compute=7 ms
    no such place in the model: services.web.operations.browse has no item 'x'; its items are numbered: 0 to 1
services.web.operations.browse.0.delay=7 ms
    no such place in the model: services.web.operations.browse.0 has no 'delay'; expected one of compute, growth
hosts.big.cpu=8
    no such place in the model: hosts has no 'big'; it has app
hosts.app.cpu.cors=8
    no such place in the model: hosts.app.cpu has no 'cors'; did you mean 'cores'?
hosts.app.cpu.sockets=3
    hosts.app.cpu: 4 cores do not spread over 3 sockets, expected a multiple
workloads.shoppers.mix.web.browse=70%
    workloads.shoppers.mix: the shares sum to 0.9, expected 1
workloads.shoppers.mix.web.serach=0%
    workloads.shoppers.mix.web.serach: no operation named 'web.serach'; did you mean 'web.browse'?
workloads.shoppers.rate=2000
    workloads.shoppers.rate: got 2000, expected a rate with its unit, e.g. '200/s'
workloads.shoppers.users=5
    workloads.shoppers: expected exactly one of rate, bursty, profile, replay, users, got rate, users
services.web.host=db
    services.web.host: no host named 'db'; known: app
services.web.rate_limit.burst=5
    services.web.rate_limit: expected a rate, or per_client alone
caches.pages.entries=!!python/object/apply:os.system [id]
    caches.pages.entries: got '!!python/object/apply:os.system [id]', expected a whole number >= 1
run.seed=²
    run.seed: got '²', expected a whole number >= 0
name=
    got nothing, expected a value (null says that there is none, '' is an empty text)
name=null
    name: got nothing, expected a text (numbers and the like in quotes)
"""


@pytest.mark.parametrize("case", re.findall(r"(?m)^(\S.*)\n    (.*)$", OVERRIDES), ids=lambda case: case[0])
def test_bad_override_is_reported_as_it_was_typed(case):
    text, message = case
    assert problems(BASE, text) == [f"--set {text}: {message}"]


def test_override_that_breaks_another_part_is_named_beside_that_parts_place():
    assert problems(BASE, "hosts.app.disk=null") == [
        "shop.yaml:32:17: services.store.operations.query.0.read: host 'app' has no disk, expected one for this step "
        "(hosts.app.disk) (with --set hosts.app.disk=null)"
    ]


def test_problems_of_overrides_and_of_the_file_come_together():
    text = changed("8 GiB", "8 Gb").replace("rate: 100/s", "rate: 5")
    overrides = ["services.web.workers=x", "services.web.replicas=y", "workloads.shoppers.rate=-1/s", "nonsense"]
    assert [line.split(": ")[0] for line in problems(text, *overrides)] == [
        "--set nonsense",
        "--set services.web.replicas=y",
        "--set services.web.workers=x",
        "--set workloads.shoppers.rate=-1/s",
        "shop.yaml:5:13",
    ]


def test_every_override_that_leads_nowhere_is_reported():
    found = problems(changed("8 GiB", "8 Gb"), "services.wbe.workers=1", "x.y=1", "run.sed=1")
    places = ["--set services.wbe.workers=1", "--set x.y=1", "--set run.sed=1", "shop.yaml:5:13"]
    assert [line.split(": ")[0] for line in found] == places


def test_overrides_reach_every_kind_of_place():
    system = loads(
        BASE,
        [
            "hosts.app.cpu.sockets=2",
            "hosts.app.memory.when_full=reject",
            "services.web.replicas=4",
            "services.web.rate_limit.rate=50/s",
            "services.web.rate_limit.burst=10",
            "services.web.operations.browse.0.compute.lognormal={mean: 4 ms, cv: 2}",
            "services.web.operations.browse.1.miss.0.retries=3",
            "services.web.operations.browse.1.miss.0.retries.backoff=5 ms",
            "services.web.operations.browse.1.key.zipf.count=50",
            "services.web.operations.buy.0.choose.0.probability=80%",
            "services.web.operations.buy.0.choose.1.probability=0.2",
            "services.store.operations.query.1.steps.0.delay.exponential=3 ms",
            "workloads.shoppers.mix.web.browse=0.3",
            "workloads.shoppers.mix.web.buy=70%",
            "workloads.shoppers.rate=2k/s",
            "locks.row.queue_limit=5",
            "network.latency=1 ms",
            "run.seed=9",
            "objectives.0=p95 < 1 s",
            "hosts.spare={cpu: 2}",
            "measurements={compare: {rps: throughput}}",
            "measurements.compare.a.b=p99",
        ],
    )
    app, web, store = system.hosts["app"], system.services["web"], system.services["store"]
    assert (app.cpu.cores, app.cpu.sockets, app.memory.when_full) == (4, 2, "reject")
    assert (web.replicas, web.rate_limit.rate, web.rate_limit.burst) == (4, 50.0, 10.0)
    browse, buy, query = web.operations["browse"], web.operations["buy"], store.operations["query"]
    assert (browse[0].compute.exponential, browse[0].compute.lognormal.cv) == (None, 2.0)
    assert (browse[1].miss[0].retries.most, browse[1].miss[0].retries.backoff) == (3, 0.005)
    assert browse[1].key.zipf.count == 50
    assert [option.probability for option in buy[0].choose] == [0.8, 0.2]
    assert (query[1].steps[0].delay.constant, query[1].steps[0].delay.exponential) == (None, 0.003)
    assert system.workloads["shoppers"].mix == {"web.browse": 0.3, "web.buy": 0.7}
    assert system.workloads["shoppers"].rate == 2000.0
    assert (system.locks["row"].queue_limit, system.network.latency.constant, system.run.seed) == (5, 0.001, 9)
    assert (system.objectives[0].target, system.hosts["spare"].cpu.cores) == (1.0, 2)
    assert system.measurements.compare == {"rps": "throughput", "a.b": "p99"}


def test_overrides_of_what_steps_share_that_differ_are_reported_as_they_were_typed():
    text = changed("timeout: 1 s", "bulkhead: 5").replace(
        "      buy:\n", "      buy:\n        - {call: store.query, bulkhead: 5}\n"
    )
    first, second = "services.web.operations.browse.1.miss.0.bulkhead", "services.web.operations.buy.0.bulkhead"
    (problem,) = problems(text, f"{first}.most=6", f"{second}.most=7")
    assert problem.startswith(f"--set {second}.most=7: {second}: got most: 7, expected most: 6 as in {first}: ")
    (problem,) = problems(text, f"{second}.most=0")
    assert problem == f"--set {second}.most=0: {second}.most: got 0, expected a whole number >= 1"


def test_override_changes_one_of_two_places_that_share_an_alias_and_leaves_the_document_alone():
    text = changed("  app:\n", "  app: &app\n").replace("services:", "  other: *app\nservices:")
    document, _ = read(text, "shop.yaml")
    after = apply_overrides(document, [Override.parse("hosts.other.cpu=16")])
    assert (after["hosts"]["app"]["cpu"], after["hosts"]["other"]["cpu"]) == (4, 16)
    assert document["hosts"]["other"]["cpu"] == 4
    assert after["services"] is document["services"]


def table(folder: Path, content: bytes, where: str = "empirical: {file: t.csv, unit: ms}") -> str:
    (folder / "t.csv").write_bytes(content)
    if where.startswith("replay"):
        text = changed("rate: 100/s", where)
    else:
        text = changed("delay: 1 ms", f"delay: {{{where}}}")
    (folder / "shop.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as raised:
        load(folder / "shop.yaml")
    (problem,) = raised.value.problems
    assert (Path(problem.source), problem.line > 1, problem.column > 1) == (folder / "shop.yaml", True, True)
    return problem.message.replace(str(folder) + "/", "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"time\n1\nx\n2\ny\n", "t.csv:3:1: got 'x', expected a number >= 0 (1 more such rows)"),
        (b"# notes\n\ntime\n1\n\n-1\n", "t.csv:6:1: got '-1', expected a number >= 0"),
        (b"time\nnan\n", "t.csv:2:1: got 'nan', expected a number >= 0"),
        (b"time\n1e999\n", "t.csv:2:1: got '1e999', expected a number >= 0"),
        (b"", "t.csv:1:1: empty file, expected a header and one number a row"),
        (b"time\n", "t.csv:2:1: no rows, expected at least one number"),
        (b"1\n2\n", "t.csv:1:1: got '1', expected a header with the column's name above the numbers"),
        (b"a,b\n1,2\n", "t.csv:1:1: has 2 columns, name one with 'column': a, b"),
        (b"time\n\xff\xfe\n", "t.csv:1:1: expected a text in UTF-8 (invalid start byte at byte 5)"),
        (b'time\n"1\n', "t.csv:2:1: unexpected end of data, expected a row of a CSV file"),
        (b"time\n1\n\x00\n", "t.csv:3:1: got '\\x00', expected a number >= 0"),
    ],
)
def test_bad_table_is_reported_with_its_own_place_and_that_of_the_model(tmp_path, content, message):
    assert table(tmp_path, content) == message


def test_bad_uses_of_a_table_are_reported(tmp_path):
    good = b"a,b\n1,2\n2,1\n"
    assert table(tmp_path, good, "empirical: {file: t.csv, column: c, unit: s}").endswith("no column 'c'; it has a, b")
    assert table(tmp_path, good, "empirical: {file: t.csv, column: a}").startswith("got no unit for the file's numbers")
    assert "got the unit 'MB'" in table(tmp_path, good, "empirical: {file: t.csv, column: a, unit: MB}")
    assert "no such file, expected a CSV file" in table(tmp_path, good, "empirical: {file: u.csv, unit: s}")
    assert "no such file" in table(tmp_path, good, 'empirical: {file: "a\\0b", unit: s}')
    assert "got a directory or a device" in table(tmp_path, good, "empirical: {file: ., unit: s}")
    assert "got a directory or a device" in table(tmp_path, good, "empirical: {file: /dev/zero, unit: s}")
    assert "u.csv: no such file" in table(tmp_path, good, "replay: u.csv")
    late = table(tmp_path, good, "replay: {file: t.csv, column: b}")
    assert late == "t.csv:3:2: got 1 s, expected no earlier than the row above"


def test_document_that_comes_from_python_has_problems_without_lines():
    with pytest.raises(InputError) as raised:
        build({"hosts": {"a": {"cpu": "x"}}, "services": {}, "workloads": 5}, "python", [], Path())
    assert [(problem.line, problem.path) for problem in raised.value.problems] == [
        (0, "hosts.a.cpu"),
        (0, "services"),
        (0, "workloads"),
    ]


def check(problem: Problem, text: str) -> None:
    assert problem.message
    assert len(str(problem)) < 2000
    assert "\n" not in str(problem)
    lines = LINE_BREAK.split(text)
    assert 1 <= problem.line <= len(lines)
    assert 1 <= problem.column <= len(lines[problem.line - 1]) + 1


def refusal(action: Callable[[], object]) -> tuple[Problem, ...]:
    """The problems with which something is refused, none where it goes well; another error fails the test."""
    try:
        action()
    except InputError as error:
        return error.problems or (Problem("", 0, 0, "", ""),)
    return ()


def loads_or_is_refused(text: str) -> None:
    """A model either loads and lowers, or raises InputError with problems that are in the text."""
    for problem in refusal(lambda: lower(loads(text, source="fuzz.yaml"))):
        if problem.source == "fuzz.yaml":
            check(problem, text)
        assert problem.message


EVERYTHING = (MODELS / "everything.yaml").read_text(encoding="utf-8").replace("file: ", f"file: {MODELS}/")
ODD_TEXTS = st.sampled_from(
    [*(MODELS / "odd_values.txt").read_text(encoding="utf-8").split("\n"), "\t", "\u2028", "\x00", "\n", "\r"]
)


def places(node: object) -> list[tuple[object, object]]:
    """Every (container, key) of a document."""
    found: list[tuple[object, object]] = []
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        found += [(node, key), *places(value)]
    return found


ODD_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | ODD_TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)
FUZZ = settings(max_examples=30, suppress_health_check=list(HealthCheck))


@FUZZ
@given(st.data())
def test_mutated_documents_load_or_are_refused(data):
    document, _ = read(EVERYTHING, "fuzz.yaml")
    for _ in range(data.draw(st.integers(1, 3))):
        container, key = data.draw(st.sampled_from(places(document)))
        other, other_key = data.draw(st.sampled_from(places(document)))
        action = data.draw(st.sampled_from(["delete", "replace", "insert", "copy"]))
        value = other[other_key] if action == "copy" else data.draw(ODD_VALUES)
        if action == "delete":
            del container[key]
        elif action == "insert" and isinstance(container, dict):
            container[data.draw(st.text(max_size=6) | st.sampled_from(list(container)))] = value
        elif action == "insert":
            container.insert(key, value)
        else:
            container[key] = plain(value)
        document = plain(document)
    assert all(problem.message for problem in refusal(lambda: lower(build(document, "fuzz", [], Path()))))


def plain(node: object) -> object:
    """A deep copy without places, and without a container inside of itself."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    return [plain(value) for value in node] if isinstance(node, list) else node


@FUZZ
@given(st.data())
def test_spliced_texts_load_or_are_refused(data):
    text = data.draw(st.sampled_from([BASE, EVERYTHING]))
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        length = data.draw(st.sampled_from([0, 0, 1, 2, 5, 20, 200]))
        piece = data.draw(ODD_TEXTS | st.text(max_size=4) | st.just(""))
        text = text[:start] + piece + text[start + length :]
    loads_or_is_refused(text)


SCALAR = re.compile(r"(?<=[:,\[] )[^\s,\[\]{}:][^,\[\]{}\n]*(?=[,\]}\n])")


@FUZZ
@given(st.data())
def test_texts_with_other_values_load_or_are_refused(data):
    text = data.draw(st.sampled_from([BASE, EVERYTHING]))
    for _ in range(data.draw(st.integers(1, 3))):
        matches = list(SCALAR.finditer(text))
        match = data.draw(st.sampled_from(matches))
        text = text[: match.start()] + data.draw(ODD_TEXTS) + text[match.end() :]
    loads_or_is_refused(text)


NAMES = (
    *("hosts", "app", "cpu", "cores", "services", "web", "operations", "browse", "buy", "0", "1", "-1", "99"),
    *("compute", "miss", "choose", "workloads", "shoppers", "mix", "web.browse", "rate", "locks", "row", "run", "seed"),
    *("network", "latency", "objectives", "measurements", "compare", "x", "constant", "lognormal", ""),
)
PATHS = st.lists(st.sampled_from(NAMES) | st.text(max_size=4), max_size=6).map(".".join)


@FUZZ
@given(PATHS, ODD_TEXTS | st.text(max_size=6))
def test_any_override_is_applied_or_refused(path, value):
    found = refusal(lambda: loads(BASE, [f"{path}={value}"]))
    assert all(problem.message and problem.source for problem in found)


def test_reader_keeps_the_places_of_everything_it_reads():
    document, found = read(EVERYTHING, "all.yaml")
    assert not found
    lines = EVERYTHING.split("\n")
    for container, key in places(document):
        assert isinstance(container, Mapping | Sequence)
        place = container.places[key][0] if isinstance(container, Mapping) else container.places[key]
        rest = lines[place[0] - 1][place[1] - 1 :]
        if isinstance(container, Mapping):
            assert rest.startswith((str(key), '"', "'"))
        elif isinstance(container[key], float) and not math.isfinite(container[key]):
            raise AssertionError("no such number in the file")
        elif isinstance(container[key], str):
            assert rest.startswith((container[key], '"', "'"))
