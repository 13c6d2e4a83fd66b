"""Faults, health checks, autoscaling and garbage collection, from the model to the results, against theory."""

import math

import numpy as np
import pytest
from pydantic import ValidationError
from scipy import sparse
from scipy.sparse import linalg
from test_engines_agree import check_program

import simulator as sim
from simulator.errors import UsageError
from simulator.model.lowering import lower
from simulator.model.system import System
from simulator.records import COMPLETED, STATION_FIELDS
from simulator.study.run import Settings, run

OK = "completed"


def system(service=None, workload=None, hosts=None, operations=None, **sections):
    """One service `s` on one host `h` with one core; its operation computes for 1 s unless told otherwise."""
    return System.model_validate(
        {
            "hosts": hosts or {"h": {"cpu": 1}},
            "services": {
                "s": {"host": "h", "operations": operations or {"op": [{"compute": "1 s"}]}, **(service or {})}
            },
            "workloads": {"w": {"operation": "s.op", **(workload or {})}},
            **sections,
        }
    )


def at(*times):
    return {"replay": {"times": [f"{time} s" for time in times]}}


def log(model, duration=100.0, workload="w"):
    """(number, end, outcome) of every request that ended, in order of ending; the same on both engines."""
    program = lower(model)
    records = check_program(program, duration)
    table = next(table for table in records.requests if table.workload == workload)
    return [
        (int(number), float(end), OK if code == COMPLETED else program.reasons[code - 1])
        for number, end, code in zip(table.number, table.end, table.outcome, strict=True)
        if not np.isnan(end)
    ]


# Exactly.


def test_a_crash_fails_what_is_inside_and_refuses_what_comes():
    model = system(workload=at(0, 3, 4, 7), faults={"f": {"host": "h", "at": "3.5 s", "lasts": "3 s"}})
    assert log(model) == [(0, 1, OK), (1, 3.5, "crashed"), (2, 4, "refused"), (3, 8, OK)]


def test_a_crash_that_hangs_lets_callers_wait_for_the_repair():
    fault = {"host": "h", "at": "3.5 s", "lasts": "3 s", "connections": "hang"}
    assert log(system(workload=at(3, 4), faults={"f": fault})) == [(0, 3.5, "crashed"), (1, 7.5, OK)]
    model = system(workload={**at(3, 4), "timeout": "1 s"}, faults={"f": fault})
    assert log(model) == [(0, 3.5, "crashed"), (1, 5, "timeout")]


def test_the_client_retries_after_a_crash():
    fault = {"host": "h", "at": "0.5 s", "lasts": "2 s"}
    model = system(workload={**at(0), "retries": {"most": 3, "backoff": "1 s", "factor": 1.0}}, faults={"f": fault})
    assert log(model) == [(0, 3.5, OK)]  # crashed at 0.5, refused at 1.5, and back at 2.5 just before the third try


def test_crashes_overlap():
    faults = {"f": {"host": "h", "at": "1 s", "lasts": "4 s"}, "g": {"host": "h", "at": "2 s", "lasts": "5 s"}}
    assert log(system(workload=at(6, 8), faults=faults)) == [(0, 6, "refused"), (1, 9, OK)]


def test_a_slow_node_takes_longer():
    fault = {"host": "h", "at": "2 s", "lasts": "4 s", "speed": "25%"}
    assert log(system(workload=at(1, 2, 8), faults={"f": fault})) == [(0, 2, OK), (1, 6, OK), (2, 9, OK)]


def test_a_zone_takes_all_its_hosts_along():
    hosts = {name: {"cpu": 1, "place": place} for name, place in [("a", "x"), ("b", "x"), ("c", "y")]}
    operation = {"op": [{"compute": "1 s"}]}
    model = System.model_validate(
        {
            "hosts": hosts,
            "services": {name: {"host": name, "operations": operation} for name in hosts},
            "workloads": {name: {"operation": f"{name}.op", **at(0, 2)} for name in hosts},
            "faults": {"loss": {"place": "x", "at": "0.5 s", "lasts": "2 s"}},
        }
    )
    for name in "ab":
        assert log(model, workload=name) == [(0, 0.5, "crashed"), (1, 2, "refused")]
    assert log(model, workload="c") == [(0, 1, OK), (1, 3, OK)]


def two_places(timeout=None, **fault):
    call = {"call": "t.op", **({"timeout": timeout} if timeout else {})}
    return System.model_validate(
        {
            "hosts": {"h": {"cpu": 1, "place": "x"}, "i": {"cpu": 1, "place": "y"}},
            "services": {
                "s": {"host": "h", "operations": {"op": [call]}},
                "t": {"host": "i", "operations": {"op": [{"compute": "1 s"}]}},
            },
            "network": {"latency": "0 s"},
            "workloads": {"w": {"operation": "s.op", **at(0, 2, 6)}},
            "faults": {"f": {"between": ["y", "x"], "at": "0.5 s", "lasts": "4 s", **fault}},
        }
    )


def test_a_partition_holds_calls_and_answers_back():
    # The first answer waits for the end of the partition, and so does the second call.
    assert log(two_places()) == [(0, 4.5, OK), (1, 5.5, OK), (2, 7, OK)]
    assert log(two_places("2 s")) == [(0, 2, "timeout"), (1, 4, "timeout"), (2, 7, OK)]
    assert log(two_places(connections="refuse")) == [(0, 1, "refused"), (1, 2, "refused"), (2, 7, OK)]


def test_a_brown_out_slows_and_fails_calls():
    fault = {"external": "e", "at": "1.5 s", "lasts": "2 s", "latency_factor": 3, "failures": "100%"}
    model = system(
        operations={"op": [{"external": "e"}]},
        externals={"e": {"latency": "1 s"}},
        workload=at(0, 1, 2, 4),
        faults={"f": fault},
    )
    # What was called before is not slowed, but what is answered meanwhile fails; what is called meanwhile is slow.
    assert log(model) == [(0, 1, OK), (1, 2, "external failure"), (2, 5, OK), (3, 5, OK)]


def test_health_checks_find_the_dead_and_the_repaired():
    service = {"health_check": {"interval": "1 s", "failures": 2}, "replicas": 2}
    model = system(
        service=service,
        hosts={"h": {"cpu": 1, "count": 2}},
        operations={"op": [{"compute": "0.125 s"}]},
        workload=at(*(n / 4 for n in range(1, 40))),
        faults={"f": {"host": "h", "instance": 0, "at": "2.1 s", "lasts": "4.1 s"}},
    )
    refused = [end for _, end, outcome in log(model) if outcome == "refused"]
    # Round robin goes on to the dead replica until the second failed check, at 4 s; it is back at 6.2 s, before the
    # check at 7 s includes it again.
    assert refused == [2.25, 2.75, 3.25, 3.75]
    program = lower(model)
    records = check_program(program, 10.0, windows=40)
    first = program.resources()["services.s.workers"][0]
    arrivals = records.stations[:, first, STATION_FIELDS.index("arrivals")]
    assert arrivals[16] == arrivals[28] < arrivals[30]  # none from 4 s to 7 s


def test_a_scaler_has_as_many_replicas_as_the_load_needs():
    scaling = {"target": "25%", "least": 1, "most": 8, "interval": "1 s", "start_up": "2 s", "cool_down": "4 s"}
    model = system(
        service={"scaling": scaling, "balancer": "least_outstanding"},
        hosts={"h": {"cpu": 8, "price": "$1/h"}},
        operations={"op": [{"compute": "0.5 s"}]},
        workload={"rate": "10 /s", "arrivals": "constant"},
    )
    program = lower(model)
    records = check_program(program, 60.0, windows=60)
    [gauge] = program.resources()["services.s.instances"]
    levels = np.diff(records.stations[:, gauge, 0]).tolist()
    # The first look sees 3.5 cores busy on average, the others 5: 3.5 / 2 is two replicas, 5 / 2 is three.
    assert levels == [1.0, 2.0] + [3.0] * 58
    cpus = program.resources()["hosts.h.cpu"]
    arrivals = records.stations[:, list(cpus), STATION_FIELDS.index("arrivals")]
    # Those asked for at 1 s and at 2 s serve from 3 s and from 4 s on: after interval and start-up.
    assert [(arrivals[time] > 0).sum() for time in (2, 3, 4, 5, 60)] == [1, 1, 2, 3, 3]
    results = run(model, Settings(duration=60.0, replications=2))
    assert results.replicas["s"].value == pytest.approx(3.0, rel=0.05)
    assert results.cost.per_hour == results.replicas["s"].value


# Statistically.


def estimates(model, duration, replications=10, seed=1):
    return run(model, Settings(duration=duration, replications=replications, seed=seed))


@pytest.mark.slow
def test_availability_of_one_and_of_any_of_two():
    """Shares of time up are MTBF / (MTBF + MTTR) each; both are down at once for the square of the rest."""
    faults = {"f": {"host": "h", "every": {"exponential": "30 s"}, "lasts": {"gamma": {"mean": "10 s", "cv": 2.0}}}}
    model = system(
        service={"health_check": {"interval": "0.02 s", "failures": 1}},
        hosts={"h": {"cpu": 1, "count": 2}},
        operations={"op": [{"delay": "0 s"}]},
        workload={"rate": "2 /s"},
        faults=faults,
        run={"confidence": 0.999},
    )
    results = estimates(model, 4000.0)
    assert results.faults["f"].availability.contains(0.75)
    assert results.faults["f"].recovery_s is None
    none_up = results.workloads["w"].errors["no replica"]
    assert none_up.contains(0.25**2)
    assert not results.faults["f"].availability.contains(30 / (30 + 14))


def mm1_with_breakdowns(arrival, service, failure, repair):
    """Mean number in an M/M/1 queue that breaks down, whether busy or not, and goes on where it stopped.

    Up and down times are exponential with rates `failure` and `repair` (White and Christie, Queuing with preemptive
    priorities or with breakdown, Operations Research 6, 1958, p. 79; Avi-Itzhak and Naor, Operations Research 11, 1963,
    p. 303): with availability A = repair / (failure + repair) and rho = arrival / service,
    L = (rho + arrival * failure / (failure + repair)^2) / (A - rho).
    """
    up = repair / (failure + repair)
    rho = arrival / service
    return (rho + arrival * failure / (failure + repair) ** 2) / (up - rho)


def test_the_formula_for_breakdowns_is_that_of_the_chain():
    """Against the stationary distribution of the chain itself, cut off where it does not matter."""
    arrival, service, failure, repair, most = 0.5, 1.0, 0.05, 0.2, 400
    generator = np.zeros((2 * most, 2 * most))
    for n in range(most):
        up, down = 2 * n, 2 * n + 1
        generator[up, down] += failure
        generator[down, up] += repair
        if n + 1 < most:
            generator[up, up + 2] += arrival
            generator[down, down + 2] += arrival
        if n:
            generator[up, up - 2] += service
    np.fill_diagonal(generator, generator.diagonal() - generator.sum(axis=1))
    system_ = np.vstack([generator.T, np.ones(2 * most)])
    share, *_ = np.linalg.lstsq(system_, np.append(np.zeros(2 * most), 1.0), rcond=None)
    mean = share @ np.repeat(np.arange(most), 2)
    assert mean == pytest.approx(mm1_with_breakdowns(arrival, service, failure, repair), rel=1e-6)


@pytest.mark.slow
def test_mm1_with_breakdowns():
    """A server that stands still at random times, by the same instruction that a garbage collection uses."""
    fault = {"host": "h", "every": {"exponential": "20 s"}, "lasts": {"exponential": "5 s"}, "speed": 0}
    model = system(
        operations={"op": [{"compute": {"exponential": "1 s"}}]},
        workload={"rate": "0.5 /s"},
        faults={"f": fault},
        run={"confidence": 0.999},
    )
    expected = mm1_with_breakdowns(0.5, 1.0, 1 / 20, 1 / 5)
    results = estimates(model, 20_000.0)
    assert results.workloads["w"].in_flight_mean.contains(expected)
    assert results.workloads["w"].in_flight_mean.relative_half_width < 0.2
    assert not results.workloads["w"].in_flight_mean.contains(1.0)  # M/M/1 without breakdowns


def two_queues(choose, arrival, services, most=50):
    """Mean time in two queues with exponential times, by the stationary distribution of the chain.

    `choose(first, second, last)` gives the queue that an arrival joins: numbers present, and the queue joined last.
    """
    states = [(n, m, last) for n in range(most) for m in range(most) for last in range(2)]
    index = {state: number for number, state in enumerate(states)}
    generator = sparse.lil_matrix((len(states), len(states)))

    def flow(source, target, rate):
        if target in index:
            generator[index[source], index[target]] += rate
            generator[index[source], index[source]] -= rate

    for n, m, last in states:
        joined = choose(n, m, last)
        flow((n, m, last), (n + (joined == 0), m + (joined == 1), joined), arrival)
        flow((n, m, last), (n - 1, m, last), services[0])
        flow((n, m, last), (n, m - 1, last), services[1])
    equations = generator.T.tolil()
    equations[0, :] = 1.0
    share = linalg.spsolve(equations.tocsc(), np.eye(1, len(states))[0])
    return float(share @ [n + m for n, m, _ in states]) / arrival


@pytest.mark.slow
def test_a_slow_node_hurts_round_robin_more_than_least_outstanding():
    """Two replicas, one at 40 % of its speed, against the chains of their balancers, in which ties go in turn."""
    expected = {
        "random": 0.5 / (10 - 3) + 0.5 / (4 - 3),  # M/M/1 twice
        "round_robin": two_queues(lambda n, m, last: 1 - last, 6.0, (10.0, 4.0)),
        "least_outstanding": two_queues(lambda n, m, last: 1 - last if n == m else int(m < n), 6.0, (10.0, 4.0)),
    }
    for policy, mean in expected.items():
        model = system(
            service={"balancer": policy, "workers": 100},
            hosts={"h": {"cpu": 1, "count": 2}},
            operations={"op": [{"compute": {"exponential": "0.1 s"}}]},
            workload={"rate": "6 /s"},
            faults={"f": {"host": "h", "instance": 1, "at": "0 s", "lasts": "10000 h", "speed": "40%"}},
            run={"confidence": 0.999},
        )
        found = estimates(model, 3000.0).workloads["w"].latency_s["mean"]
        assert found.contains(mean), (policy, mean, found)
    assert expected["least_outstanding"] < 0.6 * expected["round_robin"] < expected["random"]


@pytest.mark.slow
def test_a_retry_storm_outlasts_the_crash():
    """At 70 % load a crash of 20 s is over soon, unless every request that times out is tried again three times."""

    def shop(retries):
        return system(
            service={"workers": 50},
            operations={"op": [{"compute": {"exponential": "10 ms"}}]},
            workload={"rate": "70 /s", "timeout": "2 s", "on_timeout": "abandon", **retries},
            faults={"f": {"host": "h", "at": "60 s", "lasts": "20 s", "connections": "hang"}},
        )

    calm = estimates(shop({}), 300.0, replications=4).faults["f"]
    storm = estimates(shop({"retries": {"most": 3, "backoff": "100 ms"}}), 300.0, replications=4).faults["f"]
    assert calm.recovered == 4
    assert calm.recovery_s.high < 80.0
    assert storm.recovered == 0


def test_pauses_come_as_often_as_the_young_generation_fills():
    """Throughput * allocation / young pauses a second, of 10 ms each: utilization and mean number follow."""
    collection = {"allocation": {"exponential": "2 MiB"}, "young": "64 MiB", "pause": "10 ms"}
    model = system(
        service={"garbage_collection": collection},
        operations={"op": [{"compute": "1 ms"}]},
        workload={"rate": "500 /s"},
        run={"confidence": 0.999},
    )
    program = lower(model)
    [demand] = sim.facts(program).workloads[0].demands
    assert demand.demand == pytest.approx(0.001 + 0.010 * 2 / 64)
    records = sim.simulate(program, 40.0, seed=1)
    [heap] = program.resources()["services.s.heap"]
    left = records.stations[-1, heap]
    table = records.requests[0]
    slow = table.end - table.arrival
    paused = slow[~np.isnan(slow)] > 0.0095
    assert left[STATION_FIELDS.index("present")] == 0
    # Half of 20,000 requests' 2 MiB in 64 MiB: 625 pauses. All those that come in one, and the one that asked for it,
    # are slow: 500 * 0.01 + 1 or a few more each.
    assert 625 < paused.sum() < 625 * 8


def test_pauses_exactly():
    collection = {"allocation": "1 MiB", "young": "3 MiB", "pause": "2 s"}
    model = system(service={"garbage_collection": collection}, workload=at(0, 10, 20, 30, 40, 50, 61))
    ends = [end for _, end, _ in log(model)]
    assert ends == [1, 11, 23, 31, 41, 53, 62]


def test_mean_time_with_pauses_is_that_of_a_queue_with_breakdowns():
    """Every request fills the generation: each is preceded by a pause of its own, so M/D/1 with both together."""
    collection = {"allocation": "1 MiB", "young": "1 MiB", "pause": "4 ms"}
    model = system(
        service={"garbage_collection": collection, "workers": 1},
        operations={"op": [{"compute": "1 ms"}]},
        workload={"rate": "100 /s"},
        run={"confidence": 0.999},
    )
    results = estimates(model, 60.0, replications=6)
    rho = 100 * 0.005
    expected = 0.005 + rho * 0.005 / (2 * (1 - rho))
    assert results.workloads["w"].latency_s["mean"].contains(expected)


# Results.


def test_recovery_and_availability_are_reported():
    model = system(
        operations={"op": [{"compute": {"exponential": "10 ms"}}]},
        service={"workers": 10},
        workload={"rate": "50 /s"},
        faults={"f": {"host": "h", "at": "50 s", "lasts": "10 s", "connections": "hang"}},
    )
    results = estimates(model, 100.0, replications=4)
    fault = results.faults["f"]
    assert fault.availability.value == pytest.approx(0.9)
    assert fault.recovered == fault.replications == 4
    # 500 wait when it is back, and twice as many are served as come: about 10 s.
    assert 5.0 < fault.recovery_s.value < 15.0
    data = results.to_json()
    assert data["faults"]["f"]["recovery_s"]["n"] == 4
    assert "services.s.instances" not in data["resources"]
    assert set(data["workloads"]) == {"w"}
    assert results.verdict == "a fault is scheduled: no steady state to judge"


def test_a_system_that_does_not_recover_says_so():
    model = system(
        workload={"rate": "0.9 /s"}, faults={"f": {"host": "h", "at": "40 s", "lasts": "50 s", "connections": "hang"}}
    )
    fault = estimates(model, 100.0, replications=2).faults["f"]
    assert (fault.recovered, fault.replications) == (0, 2)
    assert math.isnan(fault.recovery_s.value)


def test_a_scheduled_fault_needs_a_duration():
    model = system(workload={"rate": "1 /s"}, faults={"f": {"host": "h", "at": "40 s", "lasts": "5 s"}})
    with pytest.raises(UsageError, match=r"a fault is scheduled, .*: give a duration"):
        run(model)
    late = run(model, Settings(duration=30.0, replications=2))
    assert any("the fault f is to happen at 40 s" in warning for warning in late.warnings)


def test_others_draws_do_not_move_when_a_fault_is_added():
    parts = {"operations": {"op": [{"compute": {"exponential": "0.5 s"}}]}, "workload": {"rate": "1 /s"}}
    fault = {"f": {"host": "h", "at": "50 s", "lasts": "1 s"}}
    plain, faulty = (sim.simulate(lower(system(**parts, **more)), 49.0, seed=3) for more in ({}, {"faults": fault}))
    for name, column in plain.requests[0].columns().items():
        if name not in ("wait", "service"):
            assert np.array_equal(column, faulty.requests[0].columns()[name], equal_nan=True)


# Bad models.


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"host": "h", "place": "x"}, "expected exactly one of host, place, between, external, got host, place"),
        ({}, "expected exactly one of host, place, between, external, got none"),
        ({"host": "h", "every": "1 s"}, "expected exactly one of at, every, got both"),
        ({"host": "g"}, "no host named 'g'; known: h"),
        ({"host": "h", "instance": 1}, "got 1, expected at most 0, the last instance of 'h'"),
        ({"place": "moon"}, "no place named 'moon'; known: x"),
        ({"between": ["x"]}, "at least 2"),
        ({"between": ["x", "x"]}, "got 'x' twice, expected two places"),
        ({"between": ["x", "y"]}, "no place named 'y'; known: x"),
        ({"external": "e"}, "no external API named 'e'"),
        ({"host": "h", "failures": "5%"}, "failures says nothing about a fault of host, expected it with external"),
        ({"host": "h", "speed": "50%", "connections": "hang"}, "connections says nothing about a host that is only"),
        ({"host": "h", "speed": 2}, "expected a share between 0 and 1"),
    ],
)
def test_bad_faults(fault, message):
    with pytest.raises(ValidationError) as error:
        system(
            hosts={"h": {"cpu": 1, "place": "x"}},
            workload={"rate": "1 /s"},
            faults={"f": {"at": "1 s", "lasts": "1 s", **fault}},
        )
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("service", "message"),
    [
        ({"scaling": {"target": "50%", "least": 5, "most": 3}}, "expected at most what most says (3)"),
        ({"scaling": {"target": 2, "most": 3}}, "expected a utilization of at most 100 %"),
        ({"scaling": {"target": 2, "most": 3, "metric": "queue"}}, "scaling by queue needs workers"),
        ({"scaling": {"target": "50%", "most": 3}, "replicas": 4}, "replicas: got 4, expected 1 to 3 as scaling says"),
        ({"scaling": {"target": "50%", "most": 3}}, "expected a count of at most least"),
        (
            {"garbage_collection": {"allocation": "2 MB", "young": "1 MB", "pause": "1 s"}},
            "expected no more than young",
        ),
        ({"health_check": {"interval": "0 s"}}, "expected"),
    ],
)
def test_bad_controls(service, message):
    with pytest.raises(ValidationError) as error:
        system(hosts={"h": {"cpu": 1, "count": 2}}, workload={"rate": "1 /s"}, service=service)
    assert message in str(error.value)
