"""What `tpsim schema SECTION` says of the language: every section is found, described, and fits in 80 columns."""

import pytest
from rich.console import Console

from simulator.errors import UsageError
from simulator.model.language import section
from simulator.model.step import STEPS
from simulator.model.system import System
from simulator.report.language_tables import section_tables

AS_FAR = 3
"""Parts of the paths that are looked at."""


def paths():
    """The paths of all sections, as far as that; inside steps and distributions all is alike."""
    waiting = ["model", "steps", *(f"steps.{verb}" for verb in STEPS)]
    while waiting:
        path = waiting.pop()
        yield path
        if path.startswith("steps") or path.count(".") == AS_FAR - 1:
            continue
        fields = [field.name for field in section(path).fields if field.has_fields]
        waiting += fields if path == "model" else [f"{path}.{field}" for field in fields]


def field(path, name):
    [found] = [each for each in section(path).fields if each.name == name]
    return found


def test_every_section_is_described_within_80_columns():
    found = list(paths())
    assert len(found) > 200
    console = Console(width=80)
    for path in found:
        each = section(path)
        assert each.about
        assert each.fields
        assert all(field.takes and "a value" not in field.takes and field.about for field in each.fields), path
        with console.capture() as capture:
            for table in section_tables(each):
                console.print(table)
        lines = capture.get().splitlines()
        assert max(map(len, lines)) <= 80
        assert {field.name for field in each.fields} <= {line.split(" ")[0] for line in lines}


@pytest.mark.parametrize(
    ("path", "name", "takes", "default"),
    [
        ("hosts.cpu", "cores", "a whole number >= 1", None),
        ("hosts.cpu", "smt_yield", "a factor above 0", "1.25"),
        ("hosts.memory", "when_full", "wait, reject or restart", "wait"),
        ("hosts.memory", "restart", "a duration with its unit, or one of several fields", "30 s"),
        ("hosts.disk", "price", "a price per hour (or month, year) with its unit", "$0.00/h"),
        ("llms", "prefix_caching", "true or false", "true"),
        ("llms.gateway", "keys", "by name: fields", ""),
        ("services", "operations", "by name: a list of steps", None),
        ("services", "queue", "fifo, lifo or priority", "fifo"),
        ("workloads", "ramp_up", "a duration with its unit, or 'auto'", "auto"),
        ("run", "warm_up", "a duration above 0 with its unit, or 'auto' or 'none'", "auto"),
        ("model", "objectives", "a list, each item an objective such as 'p99 < 200 ms'", ""),
        ("steps", "call", "a step", None),
        ("steps.repeat", "steps", "a list of steps", None),
        ("services.operations.choose", "choose", "a list, each item fields", None),
    ],
)
def test_what_a_field_takes_and_its_default(path, name, takes, default):
    found = field(path, name)
    assert (found.takes, found.default) == (takes, default)


def test_a_steps_verb_comes_first_and_short_forms_are_told():
    assert all(section(f"steps.{verb}").fields[0].name == verb for verb in STEPS)
    assert section("hosts.cpu").bare == "cores"
    assert (section("hosts.disk").typed, section("services").typed) == (True, False)


def test_the_whole_has_all_sections():
    assert [field.name for field in section("model").fields] == list(System.model_fields)
    assert section("model.hosts.cpu") == section("hosts.cpu")


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("hots", "no section 'hots'; did you mean 'hosts'?"),
        ("model.hots", "no section 'hots'; did you mean 'hosts'?"),
        ("step", "no section 'step'; did you mean 'steps'?"),
        ("hosts.cpuu", "hosts has no field 'cpuu'; did you mean 'cpu'?"),
        ("hosts.cpu.cores", "hosts.cpu.cores has no fields, it takes a whole number >= 1"),
        (
            "objectives",
            "model.objectives has no fields, it takes a list, each item an objective such as 'p99 < 200 ms'. ",
        ),
        ("steps.cal", "no step 'cal'; did you mean 'call'?"),
        ("services.operations.cal", "no step 'cal'; did you mean 'call'?"),
        ("", "no section ''; expected one of name, "),
    ],
)
def test_what_is_not_there_gets_one_message_with_the_nearest(path, message):
    with pytest.raises(UsageError) as raised:
        section(path)
    assert str(raised.value).startswith(message)


def test_the_forms_of_objectives_are_told():
    with pytest.raises(UsageError, match="of one workload with its name before it, `shoppers: p99 < 200 ms`"):
        section("objectives")
