"""A model may extend another: what is taken, what is changed, and where problems are placed."""

import pytest

import simulator as sim
from simulator.model.files import dump

BASE = """\
name: base
description: what everything begins with
hosts:
  app: {cpu: 2, disk: {iops: 100 IOPS, queue_depth: 1}}
  other: {cpu: 1}
services:
  web:
    host: app
    workers: 8
    operations:
      page: [{compute: {exponential: 5 ms}}, {read: 4 KiB}]
externals:
  mail: {latency: {exponential: 5 ms}}
workloads:
  people: {rate: 10/s, operation: web.page}
measurements: {rows: [{cpus: 1}], set: {cpus: hosts.app.cpu}, compare: {x: throughput}}
"""


@pytest.fixture
def load(tmp_path):
    (tmp_path / "base.yaml").write_text(BASE.split("measurements")[0])

    def write(text, name="change.yaml"):
        (tmp_path / name).write_text(text)
        return sim.load(tmp_path / name)

    return write


def problems(load, text):
    with pytest.raises(sim.InputError) as caught:
        load(text)
    return [str(problem).split("/")[-1] for problem in caught.value.problems]


def test_what_is_not_said_is_taken(load):
    system = load("extends: base.yaml\nhosts: {app: {disk: {iops: 5k IOPS}}}\n")
    assert system.hosts["app"].disk.iops == 5000.0
    assert (system.hosts["app"].disk.queue_depth, system.hosts["app"].cpu.cores) == (1, 2)
    assert (system.name, system.description) == ("change", "")


def test_an_empty_key_takes_out(load):
    system = load("extends: base.yaml\nhosts: {other: }\nservices: {web: {workers: null}}\n")
    assert list(system.hosts) == ["app"]
    assert system.services["web"].workers is None


def test_lists_and_distributions_take_the_place_of_what_was_there(load):
    text = """
extends: base.yaml
services: {web: {operations: {page: [{compute: 1 ms}]}}}
externals: {mail: {latency: {uniform: {low: 1 ms, high: 2 ms}}}}
workloads: {people: {rate: null, users: 5}}
"""
    system = load(text)
    assert len(system.services["web"].operations["page"]) == 1
    assert system.resources("externals")["mail"].latency.uniform.high == 0.002
    assert (system.workloads["people"].rate, system.workloads["people"].users) == (None, 5)


def test_files_extend_files_that_extend(load):
    load("extends: base.yaml\nhosts: {app: {cpu: 4}}\n", "middle.yaml")
    system = load("extends: middle.yaml\nhosts: {app: {count: 3}}\n")
    assert (system.hosts["app"].cpu.cores, system.hosts["app"].count) == (4, 3)
    assert sim.loads(dump(system)) == system


def test_problems_are_placed_in_the_file_that_they_come_from(load):
    text = "extends: base.yaml\nhosts: {app: {cpu: many}}\nservices: {web: {host: ap}}\n"
    assert problems(load, text) == [
        "change.yaml:2:20: hosts.app.cpu: got 'many', expected a whole number >= 1",
        "change.yaml:3:24: services.web.host: no host named 'ap'; did you mean 'app'?",
    ]


def test_a_problem_that_a_change_brings_about_elsewhere_is_placed_there(load):
    found = problems(load, "extends: base.yaml\nhosts: {app: {disk: }}\n")
    assert found == [
        "base.yaml:11:53: services.web.operations.page.1.read: host 'app' has no disk, expected one for this step "
        "(hosts.app.disk)"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("extends: nothing.yaml", "no such file"),
        ("extends: ../base.yaml", "expected the name of a model file in the same directory"),
        ("extends: [base.yaml]", "expected the name of a model file in the same directory"),
        ("extends: change.yaml", "files extend each other in a circle"),
    ],
)
def test_what_cannot_be_extended_is_said(load, text, expected):
    with pytest.raises(sim.InputError) as caught:
        load(text)
    assert expected in str(caught.value)
    assert "change.yaml:1:10: extends:" in str(caught.value)
