"""The public names: few, described, there when asked for, and free until then."""

import inspect
import json
import pickle
import subprocess
import sys

import pytest

import simulator as sim

HEAVY = {"numpy", "scipy", "pandas", "matplotlib", "pydantic", "ruamel", "simpy", "pyarrow", "typer", "rich"}


def modules_after(program):
    program += "\nimport sys, json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_importing_the_package_alone_loads_nothing():
    loaded = modules_after("import simulator")
    assert {name for name in loaded if name.startswith("simulator.")} == set()
    assert {name.partition(".")[0] for name in loaded} & HEAVY == set()


def test_a_name_loads_what_it_needs_and_no_more():
    loaded = modules_after("import simulator\nsimulator.InputError")
    assert {name for name in loaded if name.startswith("simulator.")} == {"simulator.errors"}


def test_there_are_few_and_they_are_in_order():
    assert len(sim.__all__) <= 25
    assert sorted(sim.__all__) == sim.__all__


@pytest.mark.parametrize("name", sim.__all__)
def test_every_name_is_there_and_described(name):
    found = getattr(sim, name)
    assert inspect.getdoc(found)
    assert getattr(sim, name) is found


def test_all_of_them_can_be_imported_at_once():
    loaded = modules_after("from simulator import *\nassert callable(run) and callable(load)")
    assert "simulator.study.run" in loaded


def test_a_type_checker_sees_the_same_names():
    tree = inspect.getsource(sim)
    block = tree[tree.index("if TYPE_CHECKING:") : tree.index("__all__")]
    imported = {
        name.strip()
        for line in block.splitlines()
        if " import " in line
        for name in line.partition(" import ")[2].split(",")
    }
    assert imported == set(sim.__all__)


def test_names_are_listed_and_unknown_ones_are_refused():
    assert set(sim.__all__) <= set(dir(sim))
    with pytest.raises(AttributeError, match="no attribute 'simulation'"):
        _ = sim.simulation
    with pytest.raises(ImportError):
        exec("from simulator import simulation")


def test_the_names_work_together():
    text = """
hosts: {h: {cpu: 1, price: $1/h}}
services: {s: {host: h, operations: {o: [{compute: {exponential: 10 ms}}]}}}
workloads: {w: {rate: 50/s, operation: s.o}}
objectives: [p90 < 100 ms]
"""
    system, few = sim.loads(text), sim.Settings(duration=20.0, replications=3)
    assert sim.facts(sim.lower(system)).saturation_throughput == pytest.approx(100.0)
    assert isinstance(sim.simulate(sim.lower(system), 5.0), sim.Records)
    results = sim.run(system, few)
    assert isinstance(results, sim.Results)
    assert isinstance(results.workloads["w"].latency_s["mean"], sim.Estimate)
    faster = sim.loads(text, ["hosts.h.cpu.speed=2"])
    assert isinstance(faster, sim.System)
    assert sim.compare(system, faster, few).differences["w"][2].significant
    answer = sim.capacity(system, settings=few, tolerance=0.3)
    assert 1.0 < answer.factor.value < 2.0
    with pytest.raises(sim.InputError):
        sim.loads("hosts: {}")
    assert issubclass(sim.InputError, sim.TpsimError)


def test_a_shipped_model_is_swept(tmp_path):
    from pathlib import Path

    few = sim.Settings(duration=0.002, replications=2)
    points = sim.sweep(sim.find_model(Path("nginx-web")), [sim.Axis("workloads.clients.users", ("10", "20"))], [], few)
    table = sim.tidy(points)
    assert sorted(table["workloads.clients.users"].unique()) == [10, 20]


def test_a_system_travels_between_processes():
    system = sim.load(sim.find_model("web-shop"))
    copy = pickle.loads(pickle.dumps(system))
    assert copy == system
    assert sim.lower(copy) == sim.lower(system)
