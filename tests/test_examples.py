"""Every example runs, on both engines to the same records, and says what it is an example of."""

from pathlib import Path

import pytest

import simulator as sim

EXAMPLES = sorted((Path(__file__).parent.parent / "models" / "examples").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_alike_on_both_engines(path):
    system = sim.load(path)
    assert len(system.description.splitlines()[0]) > 20
    program = sim.lower(system)
    duration = 2000 / sum(each.expected_throughput for each in sim.facts(program).workloads)
    reference = sim.simulate(program, duration, seed=1, engine="simpy")
    compiled = sim.simulate(program, duration, seed=1, engine="compiled")
    assert sum(len(table) for table in reference.requests) > 100
    assert reference.digest() == compiled.digest()


def test_every_section_and_every_step_has_an_example():
    from simulator.model.checks import walk_steps
    from simulator.model.resource import RESOURCES
    from simulator.model.step import STEPS, verb_of

    everything = sim.load(Path(__file__).parent / "models" / "everything.yaml").model_dump(exclude_none=True)
    for section in RESOURCES:
        assert everything[section], f"tests/models/everything.yaml has no {section}"
    verbs = {
        verb_of(step)
        for service in everything["services"].values()
        for steps in service["operations"].values()
        for _, step in walk_steps(steps, ())
    }
    assert verbs == set(STEPS)
