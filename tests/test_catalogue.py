"""The hardware catalogue: every entry is valid, sourced and dated, lowers, and gives way to what a model says."""

import re
from functools import partial

import pytest

import simulator as sim
from simulator.model.catalogue import SECTIONS, groups, types_of
from simulator.model.disk import Disk
from simulator.model.files import dump
from simulator.model.gpu import Gpu
from simulator.model.host import Host
from simulator.model.language_model import LanguageModel
from simulator.model.named_types import named_types
from simulator.model.nic import Nic

PARTS = {"machines": Host, "disks": Disk, "nics": Nic, "gpus": Gpu, "llms": LanguageModel}
ENTRIES = [(section, name) for section in SECTIONS for name in types_of(section)]
every_entry = pytest.mark.parametrize(("section", "name"), ENTRIES, ids=[name for _, name in ENTRIES])
REST = "\nservices: {{s: {{host: h, operations: {{o: [{steps}]}}}}}}\nworkloads: {{w: {{rate: 1/s, operation: s.o}}}}\n"


def model(hosts, steps, overrides=()):
    return sim.loads(f"hosts: {hosts}" + REST.format(steps=steps), overrides)


def part(section, name):
    return PARTS[section].model_validate({"type": name})


def test_there_is_a_choice():
    assert len(ENTRIES) >= 40
    assert all(types_of(section) for section in SECTIONS)
    assert all(len(types) for section in SECTIONS for types in groups(section).values())


@every_entry
def test_an_entry_is_valid_sourced_and_dated(section, name):
    entry = types_of(section)[name]
    assert re.fullmatch(r"20\d\d-\d\d", entry.date)
    assert entry.source
    assert all(source.startswith("https://") for source in entry.source)
    assert entry.about
    found = part(section, name)
    if "price" in entry.fields:
        assert found.price > 0
    if section == "machines":
        assert found.price > 0
        assert found.cost_per_hour >= found.price
    if section == "disks" and found.tariff:
        assert found.cost_per_hour > 0


HOSTS = {"machines": "{{type: {0}}}", "disks": "{{cpu: 1, disk: {0}}}", "nics": "{{cpu: 1, nic: {{type: {0}}}}}"}
STEPS = {"machines": "compute: 1 ms", "disks": "read: 4 KiB", "nics": "transfer: 4 KiB"}


@pytest.mark.parametrize("section", list(HOSTS))
def test_every_entry_lowers_and_works(section):
    """One host of each type, and a request that uses what it has."""
    names = [f"h{number}" for number in range(len(types_of(section)))]
    hosts = ", ".join(
        f"{name}: {HOSTS[section].format(kind)}" for name, kind in zip(names, types_of(section), strict=True)
    )
    services = ", ".join(f"{name}: {{host: {name}, operations: {{o: [{{{STEPS[section]}}}]}}}}" for name in names)
    loads = ", ".join(f"{name}: {{rate: 1/s, arrivals: constant, operation: {name}.o}}" for name in names)
    system = sim.loads(f"hosts: {{{hosts}}}\nservices: {{{services}}}\nworkloads: {{{loads}}}")
    program = sim.lower(system)
    assert all(0 < workload.zero_load_response < 0.1 for workload in sim.facts(program).workloads)
    assert all((table.outcome == 0).sum() >= 2 for table in sim.simulate(program, 3.5, seed=1).requests)


def test_half_of_an_x86_machines_virtual_cpus_are_cores_and_all_of_an_arm_machines():
    for intel, arm in (("c5.2xlarge", "c6g.2xlarge"), ("m6i.large", "m7g.large"), ("r5.16xlarge", "r6g.16xlarge")):
        x86, graviton = part("machines", intel).cpu, part("machines", arm).cpu
        assert x86.cores * x86.threads_per_core == graviton.cores
        assert (x86.threads_per_core, graviton.threads_per_core) == (2, 1)
        assert x86.capacity()[-1] == pytest.approx(1.25 * x86.cores)


def test_prices_are_those_of_their_source():
    """Spot checks that no generation of the file can break unseen."""
    assert part("machines", "c5.2xlarge").price == pytest.approx(0.34)
    assert part("machines", "r7i.48xlarge").price == pytest.approx(12.7008)
    assert part("machines", "i3en.24xlarge").price == pytest.approx(10.848)
    gp3 = Disk.model_validate({"type": "gp3", "size": "2000 GiB", "iops": 10_000, "bandwidth": "500 MiB/s"})
    assert gp3.cost_per_hour * 730 == pytest.approx(2000 * 0.08 + 7000 * 0.005 + 375 * 0.04)
    gp2 = Disk.model_validate({"type": "gp2", "size": "100 GiB"})
    assert (gp2.baseline, gp2.ceiling, gp2.credits.balance) == (pytest.approx(300), 3000, 5.4e6)


def test_what_stands_beside_a_type_overrides_it_down_to_single_fields():
    system = model(
        "{h: {type: i3en.large, count: 3, cpu: {speed: 2}, disk: {iops: 5}, price: 1 USD/h}}", "compute: 1 ms"
    )
    host = system.hosts["h"]
    assert (host.cpu.cores, host.cpu.threads_per_core, host.cpu.speed, host.count) == (1, 2, 2, 3)
    assert (host.disk.iops, host.disk.write_iops, host.disk.latency) == (5, 33177, 0.000125)
    assert host.price == 1
    assert host.memory.size == 16 * 2**30


def test_a_bare_value_overrides_the_field_that_it_is_short_for():
    host = model("{h: {type: c5.2xlarge, cpu: 3, memory: 1 GiB, nic: 1 Gbit/s}}", "compute: 1 ms").hosts["h"]
    assert (host.cpu.cores, host.cpu.threads_per_core) == (3, 2)
    assert (host.memory.size, host.nic.bandwidth) == (2**30, 125e6)


def test_a_part_can_be_left_out():
    assert model("{h: {type: i3.large, disk: null}}", "compute: 1 ms").hosts["h"].disk is None


def test_overrides_change_types_and_fields_of_types():
    change = partial(model, "{h: {type: c5.large, disk: gp3}}", "read: 4 KiB")
    assert change(["hosts.h.type=c5.9xlarge"]).hosts["h"].cpu.cores == 18
    assert change(["hosts.h.cpu.speed=2", "hosts.h.type=c5.9xlarge"]).hosts["h"].cpu.cores == 18
    changed = change(["hosts.h.disk.iops=16000"]).hosts["h"].disk
    assert (changed.type, changed.iops, changed.latency) == ("gp3", 16000, pytest.approx(1.05e-3))


def test_a_typed_model_survives_writing_and_reading():
    system = model("{h: {type: i3en.3xlarge, nic: {type: ethernet-10g}}}", "{read: 4 KiB}, {transfer: 1 kB}")
    assert sim.loads(dump(system)) == system


@pytest.mark.parametrize(
    ("hosts", "message"),
    [
        (
            "{h: {type: c5.2xlagre}}",
            "model:1:19: hosts.h.type: no machine of type 'c5.2xlagre'; did you mean 'c5.2xlarge'?",
        ),
        ("{h: {cpu: 1, disk: gp4}}", "hosts.h.disk: no disk of type 'gp4'; did you mean 'gp3'?"),
        ("{h: {cpu: 1, disk: {type: gp4, iops: 5}}}", "hosts.h.disk.type: no disk of type 'gp4'"),
        ("{h: {cpu: 1, disk: gp3, nic: {type: x}}}", "no network interface of type 'x'; known: ethernet-1g, "),
        ("{h: {type: 5}}", "hosts.h.type: got 5, expected the name of a type of hardware"),
        ("{h: {cpu: 1, disk: {type: gp3, seek: 1 ms}}}", "expected both seek and rpm"),
    ],
)
def test_an_unknown_type_gets_one_message_with_the_nearest(hosts, message):
    with pytest.raises(sim.InputError) as raised:
        model(hosts, "read: 4 KiB")
    assert message in str(raised.value)
    assert len(raised.value.problems) == 1


def test_a_step_finds_the_equipment_of_a_type():
    assert model("{h: {type: i3.large}}", "read: 4 KiB").hosts["h"].disk is not None
    with pytest.raises(sim.InputError, match="host 'h' has no disk"):
        model("{h: {type: c5.large}}", "read: 4 KiB")


def test_the_types_of_a_model_are_shown_with_their_source():
    system = model("{h: {type: c5.large, disk: gp3}, plain: {cpu: 1}}", "read: 4 KiB")
    (host, shown), (disk, volume) = named_types(system)
    assert (host, disk) == ("hosts.h", "hosts.h.disk")
    assert "threads_per_core 2, cores 1" in shown
    assert "(AWS c5, 2025-01, https://aws.amazon.com/ec2/pricing/on-demand/)" in shown
    assert volume.startswith("gp3: iops 3000, ")
    assert "overrides" not in shown + volume


def test_what_a_model_overrides_is_shown_with_both_values():
    system = model(
        "{h: {type: c5.large, cpu: {speed: 0.9}, memory: 1 GiB, count: 3, price: 1 USD/h,"
        " disk: {type: gp3, iops: 6000, tariff: {per_gib: 0.1 USD/h}}}}",
        "read: 4 KiB",
    )
    (_, shown), (_, volume) = named_types(system)
    assert "threads_per_core 2, cores 1, speed 0.9 (added)), memory 1 GiB (overrides 4 GiB), " in shown
    assert "price $1.00/h (overrides 0.085 USD/h) (AWS c5" in shown
    assert volume.startswith("gp3: iops 6k/s (overrides 3000), latency 1.05 ms, ")
    assert "tariff (per_gib $0.10/h (overrides 0.08 USD/month), per_iops 0.005 USD/month, " in volume


def test_a_value_that_is_the_fields_default_overrides_that_of_a_type_too():
    system = model("{h: {type: c5.large, cpu: {threads_per_core: 1}, nic: null, disk: gp3}}", "read: 4 KiB")
    (_, shown), _ = named_types(system)
    assert "cpu (threads_per_core 1 (overrides 2), cores 1), " in shown
    assert "nic none (overrides 0.75 Gbit/s)" in shown


def test_a_part_of_another_type_has_nothing_of_the_one_that_it_takes_the_place_of():
    host = model("{h: {type: i3en.large, disk: gp3}}", "read: 4 KiB").hosts["h"]
    assert host.disk == Disk.model_validate("gp3")
