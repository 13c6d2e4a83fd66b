"""Model files: hostile and odd texts, round trips, the JSON schema."""

from __future__ import annotations

import copy
import json
import pickle
import time
from pathlib import Path

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.errors import InputError, Problem
from simulator.model.document import MOST_LEVELS, MOST_NODES, Mapping, read, scalar
from simulator.model.files import dump, load, loads, parse_document, read_document
from simulator.model.lowering import lower
from simulator.model.schema import json_schema
from simulator.model.step import STEPS
from simulator.model.system import System

MODELS = Path(__file__).parent / "models"
SHIPPED = sorted(path for path in (Path(__file__).parent.parent / "models").glob("*.yaml") if path.name != "llms.yaml")
SMALL = """\
hosts: {h: {cpu: 1}}
services: {s: {host: h, operations: {o: [{compute: 1 ms}]}}}
workloads: {w: {rate: 10/s, operation: s.o}}
"""


def refused(text: str) -> list[str]:
    with pytest.raises(InputError) as raised:
        loads(text, source="m.yaml")
    return [str(problem) for problem in raised.value.problems]


def refused_file(path: Path) -> Problem:
    with pytest.raises(InputError) as raised:
        load(path)
    (problem,) = raised.value.problems
    return problem


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "m.yaml:1:1: got an empty text, expected a model: a mapping with hosts, services and workloads"),
        ("# nothing\n# yet\n", "m.yaml:1:1: got an empty text, expected a model"),
        ("---\n...\n", "m.yaml:1:1: got an empty text, expected a model"),
        ("- hosts\n", "m.yaml:1:1: got a list, expected a model"),
        ("hosts\n", "m.yaml:1:1: got 'hosts', expected a model"),
        ("5\n", "m.yaml:1:1: got 5, expected a model"),
        ("a: 1\n\tb: 2\n", "m.yaml:2:1: a tab, expected spaces"),
        ("a: 1\nb:\n\t- 2\n", "m.yaml:3:1: a tab, expected spaces"),
        ("a: [1, 2\n", "m.yaml:1:4: the [ is never closed"),
        ("a:\n  b: {c: 1,\n", "m.yaml:2:6: the { is never closed"),
        ("a: 'b\nc: d\n", "m.yaml:1:4: a quotation that is never closed"),
        ("a: b: c\n", "m.yaml:1:5: a ':' where none can be, expected"),
        ("a: @b\n", "m.yaml:1:4: a text begins with '@', expected it in quotes"),
        ("a:\n  - b\n c: d\n", "m.yaml:3:2: not indented like what begins in line 1"),
        ("a: \x00\n", "m.yaml:1:4: the character '\\x00', expected a YAML text"),
        ("a: 1\nb: \x07\n", "m.yaml:2:4: the character '\\x07', expected a YAML text"),
        ('a: "\\ud800"\n', "m.yaml:1:4: half of a surrogate pair, expected a text in Unicode"),
        ("--- {a: 1}\n--- {b: 1}\n", "m.yaml:2:1: a second document begins here, expected only one"),
        ("a: *b\n", "m.yaml:1:4: the alias *b stands for nothing before it"),
        ("a: &b [*b]\n", "m.yaml:1:8: the alias *b stands for what holds it"),
        ("? [a]\n: 1\n", "m.yaml:1:3: got a list as a key, expected a name"),
        ("a: {<<: 1}\n", "m.yaml:1:9: a.<<: expected an alias of a mapping, or a list of such, to merge"),
        ("a: !!python/object/apply:os.system [id]\n", "m.yaml:1:4: got the tag '!!python/object/apply:os.system'"),
        ("a: !<tag:x> 1\n", "m.yaml:1:4: got the tag 'tag:x', expected a plain value: a model has no tags"),
        ("a: !!int '5'\n", "m.yaml:1:4: got the tag '!!int', expected a plain value"),
        ("[" * 10_000, f"m.yaml:1:101: nested more than {MOST_LEVELS} levels deep"),
        ("{a: " * 10_000, f"nested more than {MOST_LEVELS} levels deep"),
        ("- " * 10_000, f"nested more than {MOST_LEVELS} levels deep"),
        ("%YAML 9.0\n---\na: 1\n", "m.yaml:1:1: not valid YAML"),
    ],
)
def test_text_that_is_no_model_is_refused_at_its_place(text, message):
    began = time.perf_counter()
    assert any(message in line for line in refused(text)), refused(text)
    assert time.perf_counter() - began < 2.0


def test_tags_are_never_evaluated(tmp_path):
    trap = tmp_path / "trap"
    refused(f"a: !!python/object/apply:os.system ['touch {trap}']\nb: !!python/name:os.system\n")
    assert not trap.exists()


def test_aliases_that_multiply_are_refused_at_once():
    lines = ["a0: &a0 [" + ", ".join(["x"] * 10) + "]"]
    lines += [f"a{n}: &a{n} [" + ", ".join([f"*a{n - 1}"] * 10) + "]" for n in range(1, 12)]
    began = time.perf_counter()
    (line,) = refused("\n".join(lines))
    assert line == f"m.yaml:5:45: the text expands to more than {MOST_NODES:,} values"
    nested = ["a0: &a0 " + "[" * 60 + "]" * 60, "a1: " + "[" * 60 + "*a0" + "]" * 60]
    assert refused("\n".join(nested)) == [f"m.yaml:2:65: nested more than {MOST_LEVELS} levels deep"]
    merged = ["a0: &a0 {" + ", ".join(f"k{n}: 1" for n in range(1000)) + "}", "b:", *["  - <<: *a0"] * 300]
    assert "expands to more than" in refused("\n".join(merged))[0]
    assert time.perf_counter() - began < 5.0


@pytest.mark.parametrize(
    ("content", "place", "message"),
    [
        (b"name: x\n# " + b"x" * 10_000_000, (1, 1), "9.5 MiB, expected a model of at most 4 MiB"),
        (b"\x89PNG\r\n\x1a\n\x00\x00", (1, 1), "got the byte 0x89, expected a text in UTF-8: a YAML model"),
        ("name: é\nx: é\xe9".encode("latin-1"), (1, 7), "got the byte 0xe9, expected a text in UTF-8"),
        ("name: é\nx: é".encode() + b"\xff", (2, 5), "got the byte 0xff, expected a text in UTF-8"),
        (b"name: a\x00b\n", (1, 8), "the character '\\x00', expected a YAML text"),
        (SMALL.encode("utf-16"), (1, 1), "got the byte 0xff, expected a text in UTF-8"),
    ],
)
def test_file_that_is_no_text_is_refused_at_once(tmp_path, content, place, message):
    path = tmp_path / "m.yaml"
    path.write_bytes(content)
    began = time.perf_counter()
    problem = refused_file(path)
    assert (problem.source, problem.line, problem.column) == (str(path), *place)
    assert problem.message.startswith(message)
    assert time.perf_counter() - began < 1.0


def test_large_text_is_refused_at_once():
    began = time.perf_counter()
    assert "expected a model of at most 4 MiB" in refused("x: 1\n" * 2_000_000)[0]
    assert time.perf_counter() - began < 1.0


def test_problems_without_end_are_reported_up_to_a_point():
    found = refused("a: 1\n" * 20_000)
    assert len(found) == 301
    assert found[-1] == "m.yaml:301:1: the 300th problem, the rest is left out"


def test_path_that_is_no_file_is_refused(tmp_path):
    assert refused_file(tmp_path / "no.yaml").message == "No such file or directory, expected a model file"
    assert refused_file(tmp_path).message == "Is a directory, expected a model file"
    assert refused_file(Path("/dev/zero")).message.endswith("MiB, expected a model of at most 4 MiB")
    assert "expected a model file" in refused_file(Path("a\0b")).message


def test_byte_order_mark_and_windows_line_ends_do_no_harm(tmp_path):
    path = tmp_path / "m.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + SMALL.replace("\n", "\r\n").encode())
    assert load(path) == loads("name: m\n" + SMALL)
    path.write_bytes(path.read_bytes().replace(b"1 ms", b"1 MB"))
    assert (refused_file(path).line, refused_file(path).column) == (2, 52)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *[(text, None) for text in ("", "~", "null", "Null", "NULL")],
        *[("true", True), ("False", False), ("yes", "yes"), ("on", "on"), ("no", "no")],
        *[("5", 5), ("-5", -5), ("+5", 5), ("007", 7), ("0x1F", 31), ("0o17", 15), ("1_000", "1_000")],
        *[("1.5", 1.5), ("1e3", 1000.0), (".5", 0.5), ("5.", 5.0), ("1e999", float("inf")), ("-.inf", -float("inf"))],
        *[("2026-01-01", "2026-01-01"), ("12:30:45", "12:30:45"), ("9" * 5000, "9" * 5000), ("5 ms", "5 ms")],
        *[(".", "."), ("-", "-"), ("+", "+"), ("1e", "1e"), ("0x", "0x")],
    ],
)
def test_plain_scalars_are_those_of_the_core_schema(text, value):
    assert scalar(text) == value
    assert type(scalar(text)) is type(value)


def test_keys_are_texts_as_they_are_written():
    document, problems = read("1: a\n2026-01-01: b\ntrue: c\n1e3: {<<: {x: 1}, y: 2}\n", "m.yaml")
    assert not problems
    assert document == {"1": "a", "2026-01-01": "b", "true": "c", "1e3": {"y": 2, "x": 1}}


def test_merged_keys_keep_their_own_places():
    document, _ = read("a: &a {x: 1, y: 2}\nb:\n  <<: *a\n  y: 3\nc: {<<: [*a, {z: 4}]}\n", "m.yaml")
    assert document["b"] == {"y": 3, "x": 1}
    assert document["b"].places == {"y": ((4, 3), (4, 6)), "x": ((1, 8), (1, 11))}
    assert document["c"] == {"x": 1, "y": 2, "z": 4}


def test_documents_can_be_copied_and_sent_to_other_processes():
    document = read_document(MODELS / "everything.yaml")
    for other in (copy.deepcopy(document), pickle.loads(pickle.dumps(document))):
        assert other == document
        assert isinstance(other["hosts"], Mapping)
        assert other["hosts"].places == document["hosts"].places


def test_parse_document_refuses_what_is_wrong_as_yaml():
    with pytest.raises(InputError, match=r"m.yaml:2:1: a: the key 'a' stands here a second time"):
        parse_document("a: 1\na: 2\n", "m.yaml")


def everything() -> System:
    return load(MODELS / "everything.yaml")


def test_model_of_everything_uses_every_word_of_the_language():
    text = (MODELS / "everything.yaml").read_text(encoding="utf-8")
    for name, definition in json_schema()["$defs"].items():
        for mapping in (definition, *definition.get("anyOf", ())):
            for word in mapping.get("properties", ()):
                assert f"{word}:" in text, (name, word)
    for word in (*System.model_fields, *STEPS):
        assert f"{word}:" in text, word


@pytest.mark.parametrize("path", [MODELS / "everything.yaml", *SHIPPED], ids=lambda path: path.name)
def test_dumped_model_loads_as_an_equal_system_and_program(path):
    system = load(path)
    again = loads(dump(system))
    assert again == system
    assert lower(again) == lower(system)
    assert dump(again) == dump(system)


def test_dumped_model_reads_like_one_that_a_planner_wrote():
    assert dump(loads(SMALL, ["workloads.w.timeout=250 ms", "hosts.h.memory=8 GiB", "name='5'"])) == (
        'name: "5"\n'
        "hosts:\n"
        "  h:\n"
        "    cpu:\n"
        "      cores: 1\n"
        "    memory:\n"
        "      size: 8 GiB\n"
        "services:\n"
        "  s:\n"
        "    host: h\n"
        "    operations:\n"
        "      o:\n"
        "        - compute: 1 ms\n"
        "workloads:\n"
        "  w:\n"
        "    timeout: 250 ms\n"
        "    rate: 10/s\n"
        "    operation: s.o\n"
    )


@settings(max_examples=50)
@given(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.sampled_from(
        ["1e5", ".5e3", "0o7", "~", "yes", "2026-01-01", "- a", "a: b", "#", " x ", "\x85", "é\u2028", "5."]
    ),
    st.floats(1e-9, 1e12),
)
def test_any_text_and_any_duration_survive_the_round_trip(text, seconds):
    system = loads(SMALL)
    workload = system.workloads["w"].model_copy(update={"timeout": seconds, "rate": 1.0 / seconds})
    system = system.model_copy(update={"description": text, "name": text, "workloads": {"w": workload}})
    assert loads(dump(system)) == system


VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def test_schema_is_valid_and_every_field_is_described():
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    assert json.loads(json.dumps(schema)) == schema
    for name, definition in schema["$defs"].items():
        assert definition["description"], name
        assert "Annotated" not in name + definition["title"]
        for mapping in (definition, *definition.get("anyOf", ())):
            for field, value in mapping.get("properties", {}).items():
                assert value.get("description"), (name, field)


@pytest.mark.parametrize("path", [MODELS / "everything.yaml", *SHIPPED], ids=lambda path: path.name)
def test_models_and_their_dumps_satisfy_the_schema(path):
    for document in (read_document(path), parse_document(dump(load(path)), "dump")):
        assert [(error.json_path, error.message) for error in VALIDATOR.iter_errors(document)] == []


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("cpu: 1", "cpu: many"),
        ("cpu: 1", "cpus: 1"),
        ("cpu: 1", "cpu: 0"),
        ("cpu: 1", "cpu: [1]"),
        ("cpu: 1", "cpu: 1, memory: 8 Gb"),
        ("cpu: 1", "cpu: 1, price: 5"),
        ("host: h, ", ""),
        ("host: h", "host: 5"),
        ("host: h", "host: h, worker_model: green"),
        ("compute: 1 ms", "comptue: 1 ms"),
        ("compute: 1 ms", "compute: 1 MB"),
        ("compute: 1 ms", "compute: 1"),
        ("compute: 1 ms", "compute: {}"),
        ("compute: 1 ms", "compute: {constant: 1 ms, exponential: 1 ms}"),
        ("compute: 1 ms", "compute: {lognormal: {mean: 1 ms}}"),
        ("compute: 1 ms", "compute: 1 ms, read: 1 kB"),
        ("[{compute: 1 ms}]", "{compute: 1 ms}"),
        ("rate: 10/s", "rate: 10"),
        ("rate: 10/s", "rate: -10/s"),
        ("rate: 10/s", "users: 1.5"),
        ("services:", "service:"),
        ("workloads:", "objectives: p99 < 1 s\nworkloads:"),
        ("workloads:", "objectives: [p99]\nworkloads:"),
        ("workloads:", "run: {warm_up: never}\nworkloads:"),
    ],
)
def test_typical_bad_models_do_not_satisfy_the_schema(old, new):
    assert old in SMALL
    assert VALIDATOR.is_valid(parse_document(SMALL, "small"))
    assert not VALIDATOR.is_valid(parse_document(SMALL.replace(old, new), "small"))


@pytest.mark.parametrize("text", ["5 ms", "0", "0 s", " 5  ms ", "5ms", "250 µs", "250 μs", "1e-3 s", ".5 s", "+5 s"])
def test_schema_takes_durations_as_the_loader_does(text):
    loads(SMALL.replace("1 ms", text))
    assert VALIDATOR.is_valid(parse_document(SMALL.replace("1 ms", text), "small"))


@pytest.mark.parametrize(
    "text", ["10/s", "10 /s", "3k req/s", "5 IOPS", "2k rps", "10 requests / min", "60/h", "1.5M tokens/s", "90k TPM"]
)
def test_schema_takes_rates_as_the_loader_does(text):
    loads(SMALL.replace("10/s", text))
    assert VALIDATOR.is_valid(parse_document(SMALL.replace("10/s", text), "small"))


def large_model(services: int) -> str:
    lines = ["hosts: {app: {cpu: 64, disk: {iops: 10000}}}", "services:"]
    for service in range(services):
        lines += [f"  s{service}:", "    host: app", "    workers: 8", "    operations:"]
        for operation in range(3):
            lines += [f"      o{operation}:", "        - compute: {lognormal: {mean: 1 ms, cv: 1.5}}"]
            lines += ["        - read: 16 KiB"]
            if service % 10:
                lines += [f"        - call: s{service - 1}.o{operation}", "          timeout: 1 s"]
    return "\n".join([*lines, "workloads: {w: {rate: 10/s, operation: s0.o0}}", ""])


def test_model_of_3000_lines_loads_in_a_few_seconds():
    text = large_model(165)
    assert text.count("\n") > 3000
    began = time.perf_counter()
    loads(text)
    assert time.perf_counter() - began < 6.0  # 0.5 s on a machine with nothing else to do
