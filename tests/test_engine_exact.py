"""Tier 1: deterministic systems on the SimPy engine, whole event logs compared with values worked out by hand.

Times are small whole or dyadic numbers of seconds, so that every comparison is exact unless it says otherwise.
"""

import random
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
import simpy
from pydantic import ValidationError

from simulator.distributions import Constant
from simulator.engines.simpy import simulate
from simulator.engines.simpy.balancers import BalancerState
from simulator.engines.simpy.stations import PoolStation, StoreStation
from simulator.errors import UsageError
from simulator.model.files import loads
from simulator.model.lowering import lower
from simulator.model.system import System
from simulator.program.arrivals import Replay
from simulator.program.builder import Builder
from simulator.program.instructions import End, Place, Work
from simulator.program.program import Balancer, Entry, Policy, Workload
from simulator.program.stations import Discipline, Eviction, Pool, Servers, Sharing, Store
from simulator.records import COMPLETED, IN_FLIGHT, STATION_FIELDS

OK, STILL = "completed", "in flight"


class Run:
    """A finished run, read as hand-written logs are."""

    def __init__(self, program, duration, seed=1, windows=1, processes=None):
        self.program = program
        self.records = simulate(program, duration, seed, windows=windows, processes=processes)

    def table(self, workload):
        return next(table for table in self.records.requests if table.workload == workload)

    def outcome(self, code):
        return {COMPLETED: OK, IN_FLIGHT: STILL}.get(code) or self.program.reasons[code - 1]

    def log(self, workload="w"):
        """(number, arrival, end, outcome) in order of ending; the end of one in flight is None."""
        table = self.table(workload)
        return [
            (int(number), float(arrival), None if np.isnan(end) else float(end), self.outcome(int(code)))
            for number, arrival, end, code in zip(table.number, table.arrival, table.end, table.outcome, strict=True)
        ]

    def times(self, workload="w"):
        """{component: (wait, service)} of each request by number; components without any time left out."""
        table = self.table(workload)
        return {
            int(number): {
                name: (wait, service)
                for name, wait, service in zip(table.components, waits, services, strict=True)
                if wait or service
            }
            for number, waits, services in zip(table.number, table.wait.tolist(), table.service.tolist(), strict=True)
        }

    def stations(self, resource):
        """The final fields of each station of a resource."""
        return [
            SimpleNamespace(**dict(zip(STATION_FIELDS, self.records.stations[-1, number].tolist(), strict=True)))
            for number in self.program.resources()[resource]
        ]

    def station(self, resource):
        [only] = self.stations(resource)
        return only


def model(operations, workloads, *, host=None, service=None, **sections):
    """One service `s` on one host `h`."""
    return System.model_validate(
        {
            "hosts": {"h": {"cpu": 1, **(host or {})}},
            "services": {"s": {"host": "h", "operations": operations, **(service or {})}},
            "workloads": workloads,
            **sections,
        }
    )


def run(operations, workloads, duration=100.0, *, seed=1, windows=1, processes=None, **sections):
    return Run(lower(model(operations, workloads, **sections)), duration, seed, windows, processes)


def at(*times, operation="s.op", **more):
    """A workload with one request at each time."""
    return {"replay": {"times": [f"{time} s" for time in times]}, "operation": operation, **more}


def compute(seconds):
    return {"compute": f"{seconds} s"}


def delay(seconds, **more):
    return {"delay": f"{seconds} s", **more}


# Servers: the model's language reaches FIFO only, so these Programs are built by hand.


def jobs_on(station, jobs, duration=100.0):
    """Ends of jobs (arrival, seconds of service, priority), each a workload of its own that visits the station."""
    builder = Builder()
    place = Place((builder.station(station),))
    for number, (arrival, seconds, *priority) in enumerate(jobs):
        builder.start_workload()
        start = builder.label()
        builder.mark(start)
        builder.emit(Work(place, builder.component("it"), builder.draw(Constant(float(seconds)), "work")))
        builder.emit(End())
        choice = builder.draw(Constant(0.0), "operation")
        entries = (Entry("op", start, 1.0),)
        builder.workload(Workload(f"j{number}", Replay((float(arrival),)), entries, choice, (), 0, *priority))
    return Run(builder.build("by hand"), duration)


def ends(finished):
    return [finished.log(table.workload)[0][2] for table in finished.records.requests]


def waits(finished):
    return [finished.times(table.workload)[0].get("it", (0.0, 0.0)) for table in finished.records.requests]


def test_servers_fifo():
    finished = jobs_on(Servers("x", 1), [(0, 3), (1, 2), (1, 1), (2, 1)])
    assert ends(finished) == [3, 5, 6, 7]
    assert waits(finished) == [(0, 3), (2, 2), (4, 1), (4, 1)]
    [x] = finished.stations("x")
    assert (x.busy_area, x.waiting_area, x.arrivals, x.completions, x.delivered) == (7, 10, 4, 4, 7)


def test_servers_lifo_takes_the_latest():
    assert ends(jobs_on(Servers("x", 1, Discipline.LIFO), [(0, 3), (1, 2), (1, 1), (2, 1)])) == [3, 7, 5, 4]


def test_servers_by_priority_fifo_among_equals_and_without_preemption():
    jobs = [(0, 3, 9), (1, 2, 2), (1, 1, 1), (2, 1, 1), (3.5, 1, 0)]
    assert ends(jobs_on(Servers("x", 1, Discipline.PRIORITY), jobs)) == [3, 8, 4, 6, 5]


def test_several_servers_and_completions_at_the_same_instant():
    # The second and third job end at 3 both; the first one's completion was scheduled earlier, so it serves next.
    finished = jobs_on(Servers("x", 2), [(0, 3), (0, 2), (0, 1), (0, 2), (0, 1)])
    assert ends(finished) == [3, 2, 3, 5, 4]


def test_arrival_scheduled_before_a_departure_of_the_same_instant_comes_first():
    finished = jobs_on(Servers("x", 1, queue_limit=0), [(0, 2), (2, 1)])
    assert finished.log("j1") == [(0, 2, 2, "queue full")]
    x = finished.station("x")
    assert (x.arrivals, x.completions, x.rejections, x.present) == (2, 1, 1, 0)


def test_departure_scheduled_before_an_arrival_of_the_same_instant_comes_first():
    operations = {"op": [{"lock": "l", "steps": [delay(2)]}]}
    # Request 1's arrival is scheduled when request 0 arrives, before request 0's delay; request 2's at 1, after it.
    finished = run(operations, {"w": at(0, 1, 2)}, locks={"l": {"queue_limit": 0}})
    assert finished.log() == [(1, 1, 1, "queue full"), (0, 0, 2, OK), (2, 2, 4, OK)]
    finished = run(operations, {"w": at(0, 2)}, locks={"l": {"queue_limit": 0}})
    assert finished.log() == [(1, 2, 2, "queue full"), (0, 0, 2, OK)]


def test_servers_queue_limit():
    finished = jobs_on(Servers("x", 1, queue_limit=1), [(0, 3), (0, 1), (1, 1), (3, 1), (3.5, 1)])
    assert [finished.log(f"j{n}")[0][2:] for n in range(5)] == [
        (3, OK), (4, OK), (1, "queue full"), (3, "queue full"), (5, OK),
    ]  # fmt: skip


# Processor sharing.


def test_short_task_beside_a_long_one_takes_twice_its_time():
    system = loads(
        """
        hosts: {h: {cpu: 1}}
        services: {s: {host: h, operations: {short: [compute: 20 ms], long: [compute: 500 ms]}}}
        workloads:
          short: {replay: {times: [0 s]}, operation: s.short}
          long: {replay: {times: [0 s]}, operation: s.long}
        """
    )
    finished = Run(lower(system), 10.0)
    [(_, _, short, _)] = finished.log("short")
    [(_, _, long, _)] = finished.log("long")
    assert (short, long) == (0.04, pytest.approx(0.52, rel=1e-15))
    assert finished.times("short")[0]["s.cpu"] == (0.02, 0.02)
    assert finished.times("long")[0]["s.cpu"] == pytest.approx((0.02, 0.5))


def test_three_jobs_on_two_cores():
    finished = run({"op": [compute(2)]}, {"w": at(0, 0, 0)}, host={"cpu": 2})
    assert finished.log() == [(0, 0, 3, OK), (1, 0, 3, OK), (2, 0, 3, OK)]
    assert finished.times()[2] == {"s.cpu": (1, 2)}
    cpu = finished.station("hosts.h.cpu")
    assert (cpu.busy_area, cpu.waiting_area, cpu.delivered, cpu.completions) == (6, 3, 6, 3)


def test_job_on_its_own_core_is_not_slowed():
    finished = jobs_on(Sharing("x", (1.0, 2.0)), [(0, 4), (1, 2), (2, 1)])
    # From 2 three jobs get 2/3 each; they have 2, 1, 1 left; the last two end at 3.5; the first has 1 left then.
    assert ends(finished) == [4.5, 3.5, 3.5]
    assert waits(finished) == [(0.5, 4), (0.5, 2), (0.5, 1)]


SMT = {"cores": 2, "threads_per_core": 2, "smt_yield": 1.5}


def test_hyper_threads_bend_the_capacity():
    finished = run({"op": [compute(3)]}, {"w": at(0, 0, 0, 0)}, host={"cpu": SMT})  # capacity 1, 2, 2.5, 3
    assert [end for _, _, end, _ in finished.log()] == [4, 4, 4, 4]
    finished = run({"op": [compute(2.5)]}, {"w": at(0, 0, 0)}, host={"cpu": SMT})
    assert [end for _, _, end, _ in finished.log()] == [3, 3, 3]
    finished = run({"op": [compute(3)]}, {"w": at(0, 0, 0, 0, 0, 0)}, host={"cpu": SMT})
    assert [end for _, _, end, _ in finished.log()] == [6] * 6


def test_remote_socket_and_speed():
    cpu = {"cores": 2, "sockets": 2, "remote_efficiency": 0.5, "speed": 2}  # capacity 2, 3
    finished = run({"op": [compute(3)]}, {"w": at(0, 0)}, host={"cpu": cpu})
    assert finished.log() == [(0, 0, 2, OK), (1, 0, 2, OK)]
    assert finished.times()[0] == {"s.cpu": (0.5, 1.5)}


def test_joins_and_leaves_at_the_same_instant():
    # The second job joins at 2, the instant at which the first has no work left; the first then leaves at 2.
    assert ends(jobs_on(Sharing("x", (1.0,)), [(0, 2), (2, 1), (2, 1)])) == [2, 4, 4]
    # The second and third leave at 4 as the fourth joins; the first goes on beside it.
    assert ends(jobs_on(Sharing("x", (1.0,)), [(0, 4), (1, 1), (1, 1), (4, 1)])) == [7, 4, 4, 6]


def test_of_jobs_that_end_together_the_one_that_joined_first_leaves_first():
    operations = {
        "early": [compute(2), {"lock": "l", "steps": [delay(1)]}],
        "late": [compute(1), {"lock": "l", "steps": [delay(1)]}],
    }
    # "late" is the first workload, but "early" joined first; both are done at 3.
    finished = run(operations, {"late": at(1, operation="s.late"), "early": at(0, operation="s.early")}, locks=["l"])
    assert finished.log("early") == [(0, 0, 4, OK)]
    assert finished.log("late") == [(0, 1, 5, OK)]
    assert finished.times("late")[0] == {"s.cpu": (1, 1), "s.lock l": (1, 0), "s.delay": (0, 1)}


def test_sharing_of_nothing_takes_no_time():
    assert ends(jobs_on(Sharing("x", (1.0,)), [(0, 2), (1, 0), (1, 0)])) == [2, 1, 1]


def virtual_time_reference(capacity, jobs):
    """Ends of (arrival, amount) jobs, arrivals ascending and no two events at once: rule 5 on a plain list."""
    present, ends = [], {}
    virtual = last = 0.0
    arrivals = list(enumerate(jobs))
    while arrivals or present:
        rate = capacity[min(len(present), len(capacity)) - 1] / len(present) if present else 0.0
        completion = last + max((min(present)[0] - virtual) / rate, 0.0) if present else float("inf")
        if arrivals and arrivals[0][1][0] < completion:
            job, (now, amount) = arrivals.pop(0)
            virtual += (now - last) * rate
            present.append((virtual + amount, job))
        else:
            now = completion
            mark, job = min(present)
            present.remove((mark, job))
            virtual = mark if present else 0.0
            ends[job] = now
        last = now
    return [ends[job] for job in range(len(jobs))]


@pytest.mark.parametrize("capacity", [(1.0,), (1.0, 2.0, 2.7)])
def test_sharing_is_the_plain_virtual_time_algorithm_to_the_last_bit(capacity):
    draws = random.Random(7)
    now, jobs = 0.0, []
    for _ in range(400):
        now += draws.expovariate(0.9)
        jobs.append((now, draws.expovariate(1.0)))
    assert ends(jobs_on(Sharing("x", capacity), jobs, 1e4)) == virtual_time_reference(capacity, jobs)


# Pools.


def holding(size, seconds):
    return [{"hold": f"{size} B", "steps": [delay(seconds)]}]


MEMORY_OPERATIONS = {"six": holding(6, 4), "big": holding(6, 4), "small": holding(2, 2), "huge": holding(11, 1)}


def memory_run(when_full="wait", **big):
    workloads = {
        "six": at(0, operation="s.six"),
        "big": at(1, operation="s.big", **big),
        "small": at(2, operation="s.small"),
        "huge": at(2, operation="s.huge"),
    }
    return run(MEMORY_OPERATIONS, workloads, host={"memory": {"size": "10 B", "when_full": when_full}})


def test_large_request_at_the_head_holds_back_small_ones():
    finished = memory_run()
    assert finished.log("six") == [(0, 0, 4, OK)]
    assert finished.log("big") == [(0, 1, 8, OK)]
    assert finished.log("small") == [(0, 2, 6, OK)]
    assert finished.log("huge") == [(0, 2, 2, "does not fit")]
    assert finished.times("big")[0] == {"s.memory": (3, 0), "s.delay": (0, 4)}
    assert finished.times("small")[0] == {"s.memory": (2, 0), "s.delay": (0, 2)}
    memory = finished.station("hosts.h.memory")
    assert (memory.busy_area, memory.waiting_area) == (6 * 4 + 6 * 4 + 2 * 2, 5)
    assert (memory.arrivals, memory.completions, memory.rejections, memory.present) == (4, 3, 1, 0)


def test_withdrawal_of_a_large_head_lets_small_ones_through():
    finished = memory_run(timeout="2 s")
    assert finished.log("big") == [(0, 1, 3, "timeout")]
    assert finished.times("big")[0] == {"s.memory": (2, 0)}
    assert finished.log("small") == [(0, 2, 5, OK)]
    assert finished.station("hosts.h.memory").withdrawals == 1


def test_full_memory_rejects():
    finished = memory_run("reject")
    assert finished.log("big") == [(0, 1, 1, "out of memory")]
    assert finished.log("small") == [(0, 2, 4, OK)]


def test_worker_queue_limit():
    finished = run({"op": [delay(2)]}, {"w": at(0, 0, 0, 1, 2.5)}, service={"workers": 1, "queue_limit": 1})
    assert finished.log() == [
        (2, 0, 0, "queue full"), (3, 1, 1, "queue full"), (0, 0, 2, OK), (1, 0, 4, OK), (4, 2.5, 6, OK),
    ]  # fmt: skip
    assert finished.times()[4] == {"s.workers": (1.5, 0), "s.delay": (0, 2)}
    workers = finished.station("services.s.workers")
    assert (workers.arrivals, workers.completions, workers.rejections) == (5, 3, 2)


def test_event_loop_is_held_only_while_it_computes():
    service = {"workers": 1, "worker_model": "event_loop"}
    finished = run({"op": [compute(1), delay(3), compute(1)]}, {"w": at(0, 0)}, host={"cpu": 4}, service=service)
    assert finished.log() == [(0, 0, 5, OK), (1, 0, 6, OK)]
    assert finished.times()[1] == {"s.workers": (1, 0), "s.cpu": (0, 2), "s.delay": (0, 3)}
    finished = run({"op": [compute(1), delay(3), compute(1)]}, {"w": at(0, 0)}, service={"workers": 1})
    assert finished.log() == [(0, 0, 5, OK), (1, 0, 10, OK)]


def test_lock_is_granted_in_order_of_asking():
    finished = run({"op": [delay(1), {"lock": "l", "steps": [compute(2)]}]}, {"w": at(0, 0.5, 0.5)}, locks=["l"])
    assert finished.log() == [(0, 0, 3, OK), (1, 0.5, 5, OK), (2, 0.5, 7, OK)]
    assert finished.times()[2] == {"s.delay": (0, 1), "s.lock l": (3.5, 0), "s.cpu": (0, 2)}


# Buckets.


def test_bucket_rejects():
    service = {"rate_limit": {"rate": "1/s", "burst": 2}}
    finished = run({"op": []}, {"w": at(0, 0, 0, 1, 1, 10, 10, 10)}, service=service)
    assert [outcome for *_, outcome in finished.log()] == [
        OK, OK, "rate limited", OK, "rate limited", OK, OK, "rate limited",
    ]  # fmt: skip
    bucket = finished.station("services.s.rate_limit")
    assert (bucket.arrivals, bucket.completions, bucket.rejections, bucket.busy_area) == (8, 5, 3, 5)


def test_bucket_makes_wait():
    service = {"rate_limit": {"rate": "1/s", "burst": 2, "when_empty": "wait"}}
    finished = run({"op": [delay(1)]}, {"w": at(0, 0, 0, 0, 1.5)}, service=service)
    assert finished.log() == [(0, 0, 1, OK), (1, 0, 1, OK), (2, 0, 2, OK), (3, 0, 3, OK), (4, 1.5, 4, OK)]
    assert finished.times()[4] == {"s.rate limit": (1.5, 0), "s.delay": (0, 1)}
    assert finished.station("services.s.rate_limit").waiting_area == 1 + 2 + 1.5


def test_bucket_lets_nobody_overtake_at_the_instant_of_a_new_token():
    service = {"rate_limit": {"rate": "1/s", "burst": 1, "when_empty": "wait"}}
    finished = run({"op": []}, {"w": at(0, 0, 1)}, service=service)
    assert finished.log() == [(0, 0, 0, OK), (1, 0, 1, OK), (2, 1, 2, OK)]


def test_bucket_head_that_withdraws_passes_its_share_on():
    service = {"rate_limit": {"rate": "1/s", "burst": 1, "when_empty": "wait"}}
    workloads = {"first": at(0), "head": at(0, timeout="0.5 s"), "next": at(0), "last": at(0, timeout="1.5 s")}
    finished = run({"op": []}, workloads, service=service)
    assert finished.log("first") == [(0, 0, 0, OK)]
    assert finished.log("head") == [(0, 0, 0.5, "timeout")]
    assert finished.log("next") == [(0, 0, 1, OK)]
    assert finished.log("last") == [(0, 0, 1.5, "timeout")]
    bucket = finished.station("services.s.rate_limit")
    assert (bucket.arrivals, bucket.completions, bucket.withdrawals, bucket.present) == (4, 2, 2, 0)


def test_bucket_whose_burst_is_too_small_for_any_request_is_refused():
    with pytest.raises(ValidationError, match="expected a number of at least 1"):
        run({"op": []}, {"w": at(0, 5)}, service={"rate_limit": {"rate": "1/s", "burst": 0.5}})


# Stores.


class ReferenceStore:
    """A cache written the plain way: a list of [key, inserted, uses, order of last use], in order of insertion."""

    def __init__(self, spec):
        self.spec = spec
        self.entries = []
        self.clock = 0

    def find(self, key):
        return next((entry for entry in self.entries if entry[0] == key), None)

    def touch(self, entry):
        self.clock += 1
        entry[3] = self.clock

    def lookup(self, key, now):
        entry = self.find(key)
        if entry is None:
            return False
        if self.spec.time_to_live is not None and now - entry[1] > self.spec.time_to_live:
            self.entries.remove(entry)
            return False
        entry[2] += 1
        self.touch(entry)
        return True

    def insert(self, key, now):
        entry = self.find(key)
        if entry is None:
            if len(self.entries) == self.spec.capacity:
                self.entries.remove(self.victim())
            entry = [key, now, 0, 0]
            self.entries.append(entry)
        entry[1] = now
        self.touch(entry)

    def victim(self):
        if self.spec.eviction is Eviction.FIFO:
            return self.entries[0]
        if self.spec.eviction is Eviction.LRU:
            return min(self.entries, key=lambda entry: entry[3])
        return min(self.entries, key=lambda entry: entry[2:])


@pytest.mark.parametrize("time_to_live", [None, 7.0])
@pytest.mark.parametrize("capacity", [1, 2, 5])
@pytest.mark.parametrize("eviction", Eviction)
def test_store_is_the_plain_cache(eviction, capacity, time_to_live):
    spec = Store("x", capacity, eviction, time_to_live)
    clock = SimpleNamespace(now=0.0)
    store, plain = StoreStation(SimpleNamespace(environment=clock), spec), ReferenceStore(spec)
    choices = random.Random(capacity)
    hits = 0
    for _ in range(4000):
        clock.now += choices.choice((0, 0, 1))
        key = min(choices.randrange(10), choices.randrange(10))
        if choices.random() < 0.1:  # somebody else's miss came back: the key may be there already
            store.insert(key)
            plain.insert(key, clock.now)
        hit = store.lookup(key)
        assert hit == plain.lookup(key, clock.now)
        hits += hit
        if not hit:
            store.insert(key)
            plain.insert(key, clock.now)
        assert sorted(store.entries) == sorted(entry[0] for entry in plain.entries)
    assert 400 < hits < 3900
    assert (store.hits, store.arrivals, store.busy) == (hits, 4000, len(plain.entries))


def follow(spec, keys, times=None):
    """Which of the lookups hit, as a text; a miss inserts."""
    clock = SimpleNamespace(now=0.0)
    store = StoreStation(SimpleNamespace(environment=clock), spec)
    result = ""
    for key, clock.now in zip(keys, times or [0.0] * len(keys), strict=True):
        hit = store.lookup(ord(key))
        result += "h" if hit else "."
        if not hit:
            store.insert(ord(key))
    return result


def test_store_sequences():
    #                                                        a b c | a used | d out: b (LRU), a (FIFO)
    assert follow(Store("x", 3, Eviction.LRU), "abcadabcd") == "...h.h..."
    assert follow(Store("x", 3, Eviction.FIFO), "abcadabcd") == "...h....."
    # c and b are used least, b the less recently of the two: d evicts b, then b evicts c (d is newer), c evicts d.
    assert follow(Store("x", 3, Eviction.LFU), "aabcdabcd") == ".h...h..."
    assert follow(Store("x", 9, Eviction.LRU, 2.0), "aaaa", (0.0, 2.0, 3.0, 5.0)) == ".h.h"


def test_cache_in_a_model():
    operations = {"op": [{"lookup": "c", "key": {"uniform": 1}, "hit": [delay(1)], "miss": [delay(2, name="load")]}]}
    caches = {"c": {"entries": 4, "time_to_live": "2 s", "start": "cold"}}
    finished = run(operations, {"w": at(0, 1, 3, 4, 4.5, 9)}, caches=caches)
    # Inserted at 2 and renewed at 3 by the second loader; 4 and 4.5 find it fresh; 9 does not.
    assert finished.log() == [
        (0, 0, 2, OK), (1, 1, 3, OK), (2, 3, 4, OK), (3, 4, 5, OK), (4, 4.5, 5.5, OK), (5, 9, 11, OK),
    ]  # fmt: skip
    assert finished.times()[0] == {"s.load": (0, 2)}
    assert finished.times()[3] == {"s.delay": (0, 1)}
    cache = finished.station("caches.c")
    assert (cache.arrivals, cache.completions, cache.hits, cache.present) == (6, 6, 3, 1)


# Delays, disks and networks.


def test_delay_occupies_nothing():
    finished = run({"op": [delay(2), delay(1, name="far")]}, {"w": at(0, 0, 1)})
    assert finished.log() == [(0, 0, 3, OK), (1, 0, 3, OK), (2, 1, 4, OK)]
    assert finished.times()[2] == {"s.delay": (0, 2), "s.far": (0, 1)}


def test_disk_channels_and_bandwidth():
    disk = {"iops": 1, "queue_depth": 2, "cv": 0, "bandwidth": "4 B/s"}  # 2 s an operation
    finished = run({"op": [{"read": "8 B"}]}, {"w": at(0, 0, 0)}, host={"disk": disk})
    # Two transfers share from 2 to 6; the third has its channel from 2 to 4 and shares with them.
    # At 4 the first two have 4 B left each; three share 4 B/s: done at 7; the third has 4 B left, done at 8.
    assert finished.log() == [(0, 0, 7, OK), (1, 0, 7, OK), (2, 0, 8, OK)]
    assert finished.times()[0] == {"s.disk": (0, 2), "s.disk bandwidth": (3, 2)}
    assert finished.times()[2] == {"s.disk": (2, 2), "s.disk bandwidth": (2, 2)}


def test_disk_operations_one_after_the_other():
    finished = run({"op": [{"write": "1 B", "times": 3}]}, {"w": at(0)}, host={"disk": {"iops": 1, "cv": 0}})
    assert finished.log() == [(0, 0, 3, OK)]


def test_server_takes_the_next_before_the_one_that_it_served_comes_again():
    finished = run({"op": [{"read": "1 B", "times": 2}]}, {"w": at(0, 0)}, host={"disk": {"iops": 1, "cv": 0}})
    assert finished.log() == [(0, 0, 3, OK), (1, 0, 4, OK)]


def test_call_between_hosts_passes_both_nics_and_the_network():
    system = System.model_validate(
        {
            "hosts": {"a": {"cpu": 1, "nic": "4 B/s"}, "b": {"cpu": 1, "nic": {"bandwidth": "2 B/s", "overhead": 2}}},
            "services": {
                "front": {
                    "host": "a",
                    "operations": {"op": [{"call": "back.op", "request": "4 B", "response": "2 B"}]},
                },
                "back": {"host": "b", "operations": {"op": [compute(1)]}},
            },
            "network": {"latency": "0.5 s"},
            "workloads": {"w": at(0, operation="front.op", latency="0.25 s")},
        }
    )
    finished = Run(lower(system), 100.0)
    # client 0.25, network 0.5, out of a 1, into b 4, work 1, out of b 2, into a 0.5, network 0.5, client 0.25
    assert finished.log() == [(0, 0, 10, OK)]
    assert finished.times()[0] == {
        "network": (0, 1.5), "front.nic out": (0, 1), "back.nic in": (0, 4), "back.cpu": (0, 1),
        "back.nic out": (0, 2), "front.nic in": (0, 0.5),
    }  # fmt: skip


def test_external_api_with_bounded_concurrency():
    externals = {"pay": {"latency": "2 s", "concurrency": 1}}
    finished = run({"op": [{"external": "pay"}]}, {"w": at(0, 1)}, externals=externals)
    assert finished.log() == [(0, 0, 2, OK), (1, 1, 4, OK)]
    assert finished.times()[1] == {"external pay": (1, 2)}
    finished = run({"op": [{"external": "pay"}]}, {"w": at(0)}, externals={"pay": {"latency": "2 s", "failures": 1}})
    assert finished.log() == [(0, 0, 2, "external failure")]


# Time-outs.


def test_timeout_cancels_work_in_service():
    operations = {"long": [compute(10)], "short": [compute(2)]}
    workloads = {"long": at(0, operation="s.long", timeout="3 s"), "short": at(1, operation="s.short")}
    finished = run(operations, workloads)
    assert finished.log("long") == [(0, 0, 3, "timeout")]
    assert finished.times("long")[0] == {"s.cpu": (1, 2)}
    assert finished.log("short") == [(0, 1, 4, OK)]
    cpu = finished.station("hosts.h.cpu")
    assert (cpu.busy_area, cpu.delivered, cpu.completions, cpu.withdrawals) == (4, 4, 1, 1)


def test_timeout_cancels_a_servers_job_and_starts_the_next():
    workloads = {"w": at(0, timeout="3 s"), "v": at(1)}
    finished = run({"op": [{"read": "1 B"}]}, workloads, host={"disk": {"iops": 0.125, "cv": 0}})
    assert finished.log("w") == [(0, 0, 3, "timeout")]
    assert finished.log("v") == [(0, 1, 11, OK)]
    assert finished.times("v")[0] == {"s.disk": (2, 8)}
    assert finished.station("hosts.h.disk").busy_area == 11


def test_timeout_cancels_a_wait_in_each_queue():
    workloads = {"first": at(0), "second": at(1, timeout="2 s"), "third": at(2)}
    finished = run({"op": [delay(5)]}, workloads, service={"workers": 1})
    assert finished.log("second") == [(0, 1, 3, "timeout")]
    assert finished.times("second")[0] == {"s.workers": (2, 0)}
    assert finished.log("third") == [(0, 2, 10, OK)]
    finished = run({"op": [{"read": "1 B"}]}, workloads, host={"disk": {"iops": 0.125, "cv": 0}})
    assert finished.log("second") == [(0, 1, 3, "timeout")]
    assert finished.times("second")[0] == {"s.disk": (2, 0)}
    assert finished.log("third") == [(0, 2, 16, OK)]


def test_timeout_gives_back_what_is_held():
    operations = {"op": [{"lock": "l", "steps": [{"hold": "6 B", "steps": [delay(10)]}]}]}
    workloads = {"first": at(0, timeout="4 s"), "second": at(1)}
    finished = run(operations, workloads, locks=["l"], host={"memory": "10 B"}, service={"workers": 2})
    assert finished.log("first") == [(0, 0, 4, "timeout")]
    assert finished.log("second") == [(0, 1, 14, OK)]
    assert finished.times("second")[0] == {"s.lock l": (3, 0), "s.delay": (0, 10)}
    assert finished.station("hosts.h.memory").busy_area == 6 * 14
    assert finished.station("services.s.workers").busy_area == 4 + 13


def test_timeout_cancels_every_branch_of_a_fork():
    operations = {
        "fork": [{"parallel": [[compute(10)], [{"lock": "l", "steps": [delay(8)]}], [{"lock": "l", "steps": []}]]}],
        "lock": [{"lock": "l", "steps": [compute(2)]}],
    }
    workloads = {"fork": at(0, operation="s.fork", timeout="3 s"), "lock": at(1, operation="s.lock")}
    finished = run(operations, workloads, locks=["l"])
    assert finished.log("fork") == [(0, 0, 3, "timeout")]
    assert finished.times("fork")[0] == {"s.cpu": (0, 3)}  # of the first branch
    # At 3 the second branch's cancellation grants the lock to the third, which is cancelled too and passes it on.
    assert finished.log("lock") == [(0, 1, 5, OK)]
    assert finished.station("hosts.h.cpu").busy_area == 5
    lock = finished.station("locks.l")
    assert (lock.arrivals, lock.completions, lock.withdrawals, lock.present) == (3, 3, 0, 0)


def test_timeout_that_ties_with_the_end_wins_because_it_was_scheduled_first():
    finished = run({"op": [delay(2)]}, {"w": at(0, timeout="2 s")})
    assert finished.log() == [(0, 0, 2, "timeout")]
    finished = run({"op": [delay(1), delay(1)]}, {"w": at(0, timeout="2 s")})
    assert finished.log() == [(0, 0, 2, "timeout")]


def test_inner_timeout_is_the_callers_to_handle():
    operations = {
        "op": [{"call": "s.inner", "timeout": "4 s", "retries": 1}],
        "inner": [{"call": "s.slow", "timeout": "1 s", "retries": {"most": 1, "backoff": "1 s"}}],
        "slow": [delay(9)],
    }
    finished = run(operations, {"w": at(0)})
    # inner: try 0-1, back-off 1-2, try 2-3, fails at 3; outer retries at once: 3-6.
    assert finished.log() == [(0, 0, 6, "timeout")]
    assert finished.table("w").retries.tolist() == [3]
    assert finished.times()[0] == {"s.delay": (0, 4), "s.backoff": (0, 2)}


# Retries and deadlines.


def slow_call(**guard):
    return {"op": [{"call": "s.slow", "timeout": "1 s", **guard}], "slow": [delay(5)]}


def test_retries_back_off_and_give_up():
    operations = slow_call(retries={"most": 3, "backoff": "1 s", "factor": 4, "longest": "3 s"})
    finished = run(operations, {"w": at(0)})
    # tries 0-1, 2-3, 6-7, 10-11; waits 1, 3 (not 4), 3 (not 16)
    assert finished.log() == [(0, 0, 11, "timeout")]
    assert finished.table("w").retries.tolist() == [3]
    assert finished.times()[0] == {"s.delay": (0, 4), "s.backoff": (0, 7)}


def test_retry_that_succeeds():
    operations = {"op": [{"lock": "l", "steps": [delay(2)]}]}
    workloads = {"first": at(0), "second": at(1, retries={"most": 5, "backoff": "0.5 s", "factor": 1})}
    finished = run(operations, workloads, locks={"l": {"queue_limit": 0}})
    # tried at 1, 1.5, and at 2 before the lock is free (the back-off was scheduled at 1.5, the delay at 0: after it)
    assert finished.log("second") == [(0, 1, 4, OK)]
    assert finished.table("second").retries.tolist() == [2]
    assert finished.times("second")[0] == {"client.backoff": (0, 1), "s.delay": (0, 2)}


def test_retries_without_timeout_catch_failures():
    finished = run({"op": [delay(1), {"fail": "no luck"}]}, {"w": at(0, retries=2)})
    assert finished.log() == [(0, 0, 3, "no luck")]
    assert finished.table("w").retries.tolist() == [2]


def test_retry_counter_starts_afresh_in_every_round():
    operations = {
        "op": [{"repeat": 2, "steps": [{"call": "s.slow", "timeout": "1 s", "retries": 1}]}],
        "slow": [{"choose": [{"probability": 1, "steps": [delay(0.5)]}]}],
    }
    assert run(operations, {"w": at(0)}).log() == [(0, 0, 1, OK)]
    operations["op"] = [{"parallel": [[{"call": "s.bad", "retries": 1}], [delay(2)]], "need": 1}] * 2
    operations["bad"] = [{"fail": "bad"}]
    finished = run(operations, {"w": at(0)})
    assert finished.log() == [(0, 0, 4, OK)]
    assert finished.table("w").retries.tolist() == [2]


def test_jitter_shortens_the_back_off():
    operations = {
        "op": [{"call": "s.bad", "retries": {"most": 1, "backoff": "8 s", "jitter": 0.5}}],
        "bad": [{"fail": "x"}],
    }
    finished = run(operations, {"w": at(*range(50))})
    waited = [finished.times()[n]["s.backoff"][1] for n in range(50)]
    assert min(waited) >= 4
    assert max(waited) <= 8
    assert len(set(waited)) == 50
    assert 5 < sum(waited) / 50 < 7


def test_deadline_ends_tries_and_back_off():
    guard = {"retries": {"most": 9, "backoff": "1 s"}, "timeout": "1 s"}
    finished = run({"op": [delay(5)]}, {"w": at(0, deadline="4.5 s", **guard)})
    # tries 0-1, 2-3; waits 1-2, 3-5
    assert finished.log() == [(0, 0, 4.5, "deadline")]
    assert finished.times()[0] == {"s.delay": (0, 2), "client.backoff": (0, 2.5)}
    finished = run({"op": [delay(5)]}, {"w": at(0, deadline="2.5 s", **guard)})
    assert finished.log() == [(0, 0, 2.5, "deadline")]
    assert finished.times()[0] == {"s.delay": (0, 1.5), "client.backoff": (0, 1)}


def test_timers_of_closed_scopes_do_not_fire():
    operations = {"op": [{"call": "s.quick", "timeout": "2 s"}, delay(9)], "quick": [delay(1)]}
    assert run(operations, {"w": at(0, deadline="20 s")}).log() == [(0, 0, 10, OK)]


# Abandoned work.


@pytest.mark.parametrize(("on_timeout", "busy", "completions"), [("abandon", 8, 2), ("cancel", 2, 0)])
def test_abandoned_work_goes_on_using_the_cpu(on_timeout, busy, completions):
    workload = at(0, timeout="1 s", retries=1, on_timeout=on_timeout)
    finished = run({"op": [compute(4)]}, {"w": workload})
    assert finished.log() == [(0, 0, 2, "timeout")]
    cpu = finished.station("hosts.h.cpu")
    assert (cpu.busy_area, cpu.delivered, cpu.completions, cpu.present) == (busy, busy, completions, 0)


def test_abandoned_work_slows_the_next_try():
    workload = at(0, timeout="2 s", retries=2, on_timeout="abandon")
    finished = run({"op": [compute(2.5)]}, {"w": workload})
    # 2 done by 2, 0.5 left; second try gets 0.5 by 3 and 1 more by 4; then the third gets a half of the CPU until
    # both are done: second has 1 left at 4, done at 6, as the third gives up.
    assert finished.log() == [(0, 0, 6, "timeout")]
    cpu = finished.station("hosts.h.cpu")
    assert (cpu.busy_area, cpu.completions) == (7.5, 3)


def test_abandoned_work_keeps_what_it_holds():
    workloads = {"w": at(0, timeout="1 s", on_timeout="abandon"), "v": at(0.5)}
    finished = run({"op": [delay(3)]}, workloads, service={"workers": 1})
    assert finished.log("w") == [(0, 0, 1, "timeout")]
    assert sum(map(sum, finished.times("w")[0].values())) == 1
    assert finished.log("v") == [(0, 0.5, 6, OK)]


def logging_robot(seen):
    def factory(environment):
        def serve(job):
            seen.append((environment.now, job.number, job.amount))
            yield environment.timeout(job.amount)

        return serve

    return factory


def test_each_try_has_draws_of_its_own_and_the_first_the_same_in_both_ways():
    first_tries = {}
    for way in ("cancel", "abandon"):
        seen = []
        operations = {"op": [{"use": "robot", "demand": {"exponential": "1 s"}}]}
        workload = at(0, 20, timeout="0.001 s", retries={"most": 3, "backoff": "1 s"}, on_timeout=way)
        run(operations, {"w": workload}, processes={"robot": logging_robot(seen)})
        for number in (0, 1):
            amounts = [amount for _, who, amount in seen if who == number]
            assert len(set(amounts)) == 4
            first_tries.setdefault(number, set()).add(amounts[0])
    assert [len(amounts) for amounts in first_tries.values()] == [1, 1]
    assert first_tries[0] != first_tries[1]


# Forks, branches and messages.


def fork(branches, **more):
    return {"op": [{"parallel": branches, **more}]}


def test_fork_waits_for_all():
    finished = run(fork([[delay(1)], [compute(3)], [delay(2)]]), {"w": at(0)})
    assert finished.log() == [(0, 0, 3, OK)]
    assert finished.times()[0] == {"s.cpu": (0, 3)}


@pytest.mark.parametrize(("unfinished", "busy", "completions"), [("cancel", 2, 0), ("continue", 3, 1)])
def test_quorum(unfinished, busy, completions):
    branches = [[delay(1, name="a")], [compute(3)], [delay(2, name="c")]]
    finished = run(fork(branches, need=2, unfinished=unfinished), {"w": at(0)})
    assert finished.log() == [(0, 0, 2, OK)]
    assert finished.times()[0] == {"s.c": (0, 2)}
    cpu = finished.station("hosts.h.cpu")
    assert (cpu.busy_area, cpu.completions, cpu.withdrawals) == (busy, completions, 1 - completions)


def test_first_of_branches_that_end_together_is_the_first_written():
    finished = run(fork([[delay(1, name="a")], [delay(1, name="b")]], need=1), {"w": at(0)})
    assert finished.times()[0] == {"s.a": (0, 1)}
    finished = run(fork([[], [delay(1)]], need=1), {"w": at(0)})
    assert finished.log() == [(0, 0, 0, OK)]


def test_branch_failure_fails_the_fork():
    branches = [[delay(1), {"fail": "broken"}], [compute(5)]]
    finished = run(fork(branches), {"w": at(0)})
    assert finished.log() == [(0, 0, 1, "broken")]
    assert finished.times()[0] == {"s.delay": (0, 1)}
    assert finished.station("hosts.h.cpu").busy_area == 1


def test_fork_fails_only_when_too_few_branches_are_left():
    def failing(seconds, reason):
        return [delay(seconds, name=reason), {"fail": reason}]

    finished = run(fork([failing(1, "x"), [delay(5)]], need=1), {"w": at(0)})
    assert finished.log() == [(0, 0, 5, OK)]
    finished = run(fork([failing(2, "x"), failing(1, "y"), [delay(5)]], need=2), {"w": at(0)})
    assert finished.log() == [(0, 0, 2, "x")]
    finished = run(fork([[delay(1)], failing(2, "x"), [delay(5)]], need=2), {"w": at(0)})
    assert finished.log() == [(0, 0, 5, OK)]
    finished = run(fork([[{"fail": "x"}], [{"fail": "y"}], [compute(5)]], need=2), {"w": at(0)})
    assert finished.log() == [(0, 0, 0, "y")]
    assert finished.station("hosts.h.cpu").arrivals == 0  # the third branch had not started


def test_failure_inside_a_branch_is_caught_by_a_retry_around_the_fork():
    operations = {
        "op": [{"call": "s.forks", "retries": {"most": 1, "backoff": "1 s"}}],
        "forks": [{"lock": "l", "steps": [{"parallel": [[delay(1), {"fail": "x"}], [compute(8)]]}]}],
    }
    finished = run(operations, {"w": at(0)}, locks=["l"])
    assert finished.log() == [(0, 0, 3, "x")]
    assert finished.times()[0] == {"s.delay": (0, 2), "s.backoff": (0, 1)}
    assert finished.station("hosts.h.cpu").busy_area == 2
    assert finished.station("locks.l").busy_area == 2


def test_branch_gives_back_what_it_holds_when_it_is_cancelled():
    branches = [[{"lock": "l", "steps": [delay(8)]}], [delay(2)]]
    finished = run(fork(branches, need=1), {"w": at(0, 0)}, locks=["l"])
    assert finished.log() == [(0, 0, 2, OK), (1, 0, 2, OK)]
    assert finished.station("locks.l").busy_area == 2


def test_nested_forks():
    inner = {"parallel": [[delay(3, name="slow")], [delay(1, name="quick")]], "need": 1}
    finished = run(fork([[inner, delay(1, name="then")], [delay(1.5, name="side")]]), {"w": at(0)})
    assert finished.log() == [(0, 0, 2, OK)]
    assert finished.times()[0] == {"s.quick": (0, 1), "s.then": (0, 1)}
    finished = run(fork([[inner], [compute(9)]]), {"w": at(0, timeout="0.5 s")})
    assert finished.times()[0] == {"s.slow": (0, 0.5)}


def test_timers_of_a_cancelled_branch_do_not_fire():
    guarded = {"call": "s.busy", "timeout": "2 s", "retries": {"most": 1, "backoff": "1 s"}}
    operations = {**fork([[delay(1)], [guarded]], need=1), "busy": [compute(5)]}
    finished = run(operations, {"w": at(0)})
    assert finished.log() == [(0, 0, 1, OK)]
    assert finished.table("w").retries.tolist() == [0]
    assert finished.station("hosts.h.cpu").busy_area == 1


# The order of those who are woken at the same instant: whoever is first gets lock m first.


def then_m(*steps):
    return [*steps, {"lock": "m", "steps": [delay(1)]}]


def holding_lock(lock, *steps):
    return {"lock": lock, "steps": [*steps]}


def wake_up_run(operations, **times):
    workloads = {name: at(time, operation=f"s.{name}", **more) for name, (time, more) in times.items()}
    finished = run(operations, workloads, locks=["k", "l", "m"])
    return [finished.log(name)[0][2] for name in times]


def test_ended_fork_goes_on_after_those_woken_before_it():
    operations = {
        "a": then_m({"parallel": [[delay(1)], [holding_lock("l", delay(9))]], "need": 1}),
        "b": then_m(holding_lock("l")),
    }
    # At 1 branch 0 ends; cancelling branch 1 wakes b; then the fork's token is woken.
    assert wake_up_run(operations, a=(0, {}), b=(0.5, {})) == [3, 2]


def test_branches_are_cancelled_in_order():
    branches = [[holding_lock("k", delay(9))], [holding_lock("l", delay(9))]]
    operations = {
        "a": [{"parallel": branches}],
        "b": then_m(holding_lock("l")),
        "c": then_m(holding_lock("k")),
    }
    ends = wake_up_run(operations, a=(0, {"timeout": "1 s"}), b=(0.5, {}), c=(0.5, {}))
    assert ends == [1, 3, 2]


def test_units_are_released_in_reverse_order():
    operations = {
        "a": [holding_lock("k", holding_lock("l", delay(9)))],
        "b": then_m(holding_lock("k")),
        "c": then_m(holding_lock("l")),
    }
    ends = wake_up_run(operations, a=(0, {"timeout": "1 s"}), b=(0.5, {}), c=(0.5, {}))
    assert ends == [1, 3, 2]


def test_retry_without_back_off_is_an_event_of_its_own():
    operations = {
        "a": [{"call": "s.inner", "timeout": "1 s", "retries": 1}],
        "inner": [holding_lock("l", delay(9))],
        "b": [holding_lock("l", delay(0.5))],
    }
    # The handler's back-off of 0 s is an event of its own: b has the lock by then.
    assert wake_up_run(operations, a=(0, {}), b=(0.5, {})) == [2, 1.5]


@pytest.mark.parametrize(
    ("inner", "guard", "expected"),
    [
        # A timer's handler runs before those whom the unwinding woke: its back-off ends before b gives m back.
        ([holding_lock("l", delay(9))], {"timeout": "1 s"}, (2, "queue full")),
        # A failed fork is woken after those whom its cancellation woke: b gives m back before the back-off ends.
        ([{"parallel": [[delay(1), {"fail": "x"}], [holding_lock("l", delay(9))]]}], {}, (3, "x")),
    ],
)
def test_handler_and_those_whom_the_unwinding_woke(inner, guard, expected):
    operations = {
        "a": [{"call": "s.inner", **guard, "retries": {"most": 1, "backoff": "1 s"}}],
        "inner": [holding_lock("m"), *inner],
        "b": then_m(holding_lock("l")),
    }
    workloads = {"a": at(0, operation="s.a"), "b": at(0.5, operation="s.b")}
    finished = run(operations, workloads, locks={"l": {}, "m": {"queue_limit": 0}})
    assert finished.log("a")[0][2:] == expected
    assert finished.log("b") == [(0, 0.5, 2, OK)]


def test_branches_start_in_order_after_their_parent_blocks_and_messages_too():
    operations = {
        "a": [{"publish": "s.m2"}, {"parallel": [then_m(delay(0, name="x")), then_m()]}],
        "m2": then_m(),
    }
    finished = run(operations, {"w": at(0, operation="s.a")}, locks=["m"])
    # The message is first, then branch 1: branch 0's delay of nothing is an event of its own.
    assert finished.log() == [(0, 0, 3, OK)]
    assert finished.times()[0] == {"s.lock m": (2, 0), "s.delay": (0, 1)}


def test_message_is_not_waited_for():
    operations = {"op": [{"publish": "s.later"}, delay(1)], "later": [compute(3)]}
    finished = run(operations, {"w": at(0, 0)})
    assert finished.log() == [(0, 0, 1, OK), (1, 0, 1, OK)]
    assert finished.times()[0] == {"s.delay": (0, 1)}
    cpu = finished.station("hosts.h.cpu")
    assert (cpu.busy_area, cpu.completions) == (6, 2)


def test_failed_message_vanishes_and_gives_back_what_it_held():
    operations = {"op": [{"publish": "s.later"}], "later": [{"lock": "l", "steps": [delay(1), {"fail": "x"}]}]}
    finished = run(operations, {"w": at(0, 0, 0)}, locks=["l"])
    assert [outcome for *_, outcome in finished.log()] == [OK] * 3
    lock = finished.station("locks.l")
    assert (lock.busy_area, lock.completions, lock.present) == (3, 3, 0)


def test_messages_published_in_a_loop_draw_apart():
    seen = []
    operations = {
        "op": [{"repeat": 4, "steps": [{"publish": "s.later"}]}],
        "later": [{"repeat": 2, "steps": [{"use": "robot", "demand": {"exponential": "1 s"}}]}],
    }
    run(operations, {"w": at(0)}, processes={"robot": logging_robot(seen)})
    assert len({amount for *_, amount in seen}) == len(seen) == 8


# Loops and choices.


def test_nested_loops():
    operations = {"op": [{"repeat": 2, "steps": [{"repeat": 3, "steps": [delay(1)]}, delay(2, name="outer")]}]}
    finished = run(operations, {"w": at(0, 0.5)})
    assert finished.log() == [(0, 0, 10, OK), (1, 0.5, 10.5, OK)]
    assert finished.times()[0] == {"s.delay": (0, 6), "s.outer": (0, 4)}


@pytest.mark.parametrize(("count", "seconds"), [(0, 0), (0.4, 0), (0.5, 1), (2.4, 2), (2.5, 3)])
def test_repetitions_are_rounded(count, seconds):
    assert run({"op": [{"repeat": count, "steps": [delay(1)]}]}, {"w": at(0)}).log() == [(0, 0, seconds, OK)]


def test_loops_in_branches_do_not_share_counters():
    operations = fork([[{"repeat": 3, "steps": [delay(1)]}], [{"repeat": 2, "steps": [delay(2)]}]])
    assert run({"op": operations["op"] * 2}, {"w": at(0)}).log() == [(0, 0, 8, OK)]


def test_choices():
    options = [{"probability": 0.25, "steps": [delay(1)]}, {"probability": 0.75, "steps": [delay(2)]}]
    finished = run({"op": [{"choose": options}]}, {"w": at(*[n / 1024 for n in range(4000)])})
    took = Counter(round(end - arrival, 9) for _, arrival, end, _ in finished.log())
    assert set(took) == {1, 2}
    assert abs(took[1] - 1000) < 5 * (4000 * 0.25 * 0.75) ** 0.5
    certain = [{"probability": 0, "steps": [delay(1)]}, {"probability": 1, "steps": []}]
    finished = run({"op": [{"choose": certain}]}, {"w": at(*range(90))})
    assert all(end == arrival for _, arrival, end, _ in finished.log())


def test_mix_of_operations():
    workload = {"replay": {"times": ["0 s"] * 1000}, "mix": {"s.a": 0.5, "s.b": 0.5}}
    finished = run({"a": [delay(1)], "b": [delay(2)]}, {"w": workload})
    table = finished.table("w")
    assert table.operations == ("s.a", "s.b")
    assert (table.end == 1.0 + table.operation).all()
    assert abs(table.operation.sum() - 500) < 5 * 250**0.5


# Balancers.


def arrivals_per_replica(policy, workloads, operations, replicas=2, pools="workers", **service):
    service = {"replicas": replicas, "workers": 1, "balancer": policy, **service}
    return [pool.arrivals for pool in run(operations, workloads, service=service).stations(f"services.s.{pools}")]


def test_round_robin():
    operations = {"op": [delay(2)]}
    assert arrivals_per_replica("round_robin", {"w": at(*range(9))}, operations, 3) == [3, 3, 3]
    finished = run(operations, {"w": at(0, 0, 0)}, service={"replicas": 2, "workers": 1})
    assert finished.log() == [(0, 0, 2, OK), (1, 0, 2, OK), (2, 0, 4, OK)]


def test_least_outstanding_avoids_the_busy_and_takes_turns_among_equals():
    operations = {"long": [delay(50)], "op": [delay(0.5)]}
    workloads = {"long": at(0, operation="s.long"), "short": at(*range(1, 10))}
    assert arrivals_per_replica("least_outstanding", workloads, operations) == [1, 9]
    assert arrivals_per_replica("least_outstanding", {"w": at(*range(9))}, operations, 3) == [3, 3, 3]
    assert arrivals_per_replica("least_outstanding", {"w": at(*[0] * 9)}, operations, 3) == [3, 3, 3]


EVENT_LOOP = {"worker_model": "event_loop", "pools": "requests"}


@pytest.mark.parametrize("more", [{"workers": None}, EVENT_LOOP, {"workers": None, **EVENT_LOOP}])
def test_least_outstanding_counts_requests_that_hold_no_worker(more):
    operations = {"long": [delay(50)], "op": [delay(0.5)]}
    workloads = {"long": at(0, operation="s.long"), "short": at(*range(1, 10))}
    assert arrivals_per_replica("least_outstanding", workloads, operations, **more) == [1, 9]


def test_least_outstanding_counts_the_waiting():
    operations = {"op": [delay(10)], "other": [delay(1)]}
    # Three at replica 0, 1, 0; at 1 replica 1 has fewer: 1, 2 each; ties go on in turn.
    finished = run(
        operations, {"w": at(0, 0, 0, 1)}, service={"replicas": 2, "workers": 1, "balancer": "least_outstanding"}
    )
    assert [end for _, _, end, _ in finished.log()] == [10, 10, 20, 20]


def test_random_balancer_spreads():
    counts = arrivals_per_replica("random", {"w": at(*[n / 64 for n in range(3000)])}, {"op": []}, 3)
    assert sum(counts) == 3000
    assert all(abs(count - 1000) < 5 * (3000 * 2 / 9) ** 0.5 for count in counts)


def test_power_of_two_takes_the_lesser_of_two():
    operations = {"long": [delay(90)], "op": [delay(0.5)]}
    workloads = {"long": at(0, operation="s.long"), "short": at(*range(1, 60))}
    assert sorted(arrivals_per_replica("power_of_two", workloads, operations, workers=None)) == [1, 59]


def test_power_of_two_draws_every_pair_alike_and_keeps_the_first_of_equals():
    pools = [PoolStation(None, Pool(f"p{n}", 1.0)) for n in range(3)]
    choose = BalancerState(SimpleNamespace(stations=pools), Balancer(Policy.POWER_OF_TWO, (0, 1, 2))).choose
    assert [choose((n + 0.5) / 6) for n in range(6)] == [0, 0, 1, 1, 2, 2]
    pools[0].waiting, pools[1].busy = 2, 1
    assert [choose((n + 0.5) / 6) for n in range(6)] == [1, 2, 1, 2, 2, 2]


def test_replicas_are_spread_over_the_instances_of_their_host():
    finished = run({"op": [compute(1)]}, {"w": at(0, 0, 0, 0)}, host={"count": 2}, service={"replicas": 4})
    assert [cpu.arrivals for cpu in finished.stations("hosts.h.cpu")] == [2, 2]
    assert [end for _, _, end, _ in finished.log()] == [2, 2, 2, 2]


# Workloads.


def test_closed_users_think_and_wait_and_the_run_ends_before_events_at_its_end():
    workload = {"users": 2, "think": "1 s", "ramp_up": "0 s", "operation": "s.op"}
    finished = run({"op": [delay(2)]}, {"w": workload}, duration=10.0)
    assert finished.log() == [
        (0, 1, 3, OK), (1, 1, 3, OK), (2, 4, 6, OK), (3, 4, 6, OK), (4, 7, 9, OK), (5, 7, 9, OK),
    ]  # fmt: skip
    assert finished.records.workloads[-1, 0].tolist() == [12, 6, 6, 0]


def test_closed_users_queue_and_number_their_own_requests():
    workload = {"users": 3, "ramp_up": "0 s", "operation": "s.op"}
    finished = run({"op": [delay(2)]}, {"w": workload}, duration=9.0, service={"workers": 1})
    assert finished.log() == [
        (0, 0, 2, OK), (1, 0, 4, OK), (2, 0, 6, OK), (3, 2, 8, OK), (4, 4, None, STILL), (5, 6, None, STILL),
        (6, 8, None, STILL),
    ]  # fmt: skip


def test_users_of_failed_requests_go_on():
    workload = {"users": 1, "think": "1 s", "ramp_up": "0 s", "operation": "s.op"}
    finished = run({"op": [delay(1), {"fail": "x"}]}, {"w": workload}, 6.5)
    assert finished.log() == [(0, 1, 2, "x"), (1, 3, 4, "x"), (2, 5, 6, "x")]


def test_users_come_within_the_ramp_up_and_think_first():
    workload = {"users": 50, "think": "1 s", "ramp_up": "8 s", "operation": "s.op"}
    finished = run({"op": [delay(100)]}, {"w": workload}, duration=20.0)
    arrivals = finished.table("w").arrival
    assert len(set(arrivals.tolist())) == 50
    assert 1 < arrivals.min() < 3
    assert 7 < arrivals.max() < 9


def test_time_that_stands_still_is_reported(monkeypatch):
    monkeypatch.setattr("simulator.engines.simpy.sources.MOST_STARTS_AT_ONCE", 100)
    with pytest.raises(UsageError, match="time stands still"):
        run({"op": []}, {"w": {"users": 1, "operation": "s.op"}})


def test_constant_arrivals():
    workload = {"rate": "2/s", "arrivals": "constant", "operation": "s.op"}
    finished = run({"op": [delay(0.25)]}, {"w": workload}, duration=2.0)
    assert finished.log() == [(0, 0.5, 0.75, OK), (1, 1, 1.25, OK), (2, 1.5, 1.75, OK)]


def test_replay():
    times = (0, 0, 0.25, 3, 3)
    finished = run({"op": []}, {"w": at(*times)})
    assert [arrival for _, arrival, _, _ in finished.log()] == list(times)


def within_five_sigma(count, expected):
    return abs(count - expected) < 5 * expected**0.5 or count == expected


@pytest.mark.parametrize("repeats", [False, True])
def test_profile_has_the_arrivals_of_each_segment(repeats):
    points = [(0, 0), (10, 200), (20, 200), (20, 0), (30, 0), (30, 50), (40, 50)]
    profile = {"points": [{"at": f"{t} s", "rate": f"{r}/s"} for t, r in points], "repeats": repeats}
    finished = run({"op": []}, {"w": {"profile": profile, "operation": "s.op"}}, duration=80.0)
    counts, _ = np.histogram(finished.table("w").arrival, [0, 5, 10, 20, 30, 40, 45, 50, 60, 70, 80])
    again = [250, 750, 2000, 0, 500] if repeats else [250, 250, 500, 500, 500]
    expected = [250, 750, 2000, 0, 500, *again]
    assert all(map(within_five_sigma, counts, expected)), counts


def test_profile_that_falls_to_nothing_ends():
    profile = {"points": [{"at": "0 s", "rate": "100/s"}, {"at": "1 s", "rate": "0/s"}]}
    finished = run({"op": []}, {"w": {"profile": profile, "operation": "s.op"}}, duration=1000.0)
    assert within_five_sigma(len(finished.log()), 50)
    assert finished.table("w").arrival.max() < 1.0


def test_bursty_load_is_on_and_off():
    states = [{"rate": "100/s", "duration": "1 s"}, {"rate": "0/s", "duration": "3 s"}]
    finished = run({"op": []}, {"w": {"bursty": states, "operation": "s.op"}}, duration=2000.0)
    arrivals = finished.table("w").arrival
    # The on-time of 500 exponential cycles has a standard deviation of about sqrt(500 * 2) * 3/4 s or so.
    assert abs(len(arrivals) - 50_000) < 6 * 3000
    long_gaps = np.diff(arrivals)[np.diff(arrivals) > 0.2]
    assert 380 < len(long_gaps) < 620
    assert abs(long_gaps.mean() - 3.0) < 5 * 3.0 / len(long_gaps) ** 0.5


def test_run_ends_just_before_its_duration():
    finished = run({"op": [delay(5)]}, {"w": at(0, 5)}, duration=5.0)
    assert finished.log() == [(0, 0, None, STILL)]
    assert finished.records.workloads[-1, 0].tolist() == [5, 1, 0, 0]
    finished = run({"op": [delay(5)]}, {"w": at(0, 5)}, duration=5.0 + 2**-40)
    assert finished.log() == [(0, 0, 5, OK), (1, 5, None, STILL)]


def test_work_in_progress_at_the_end_is_counted():
    finished = run({"op": [compute(5)]}, {"w": at(0, 1)}, duration=3.0)
    cpu = finished.station("hosts.h.cpu")
    assert (cpu.busy_area, cpu.delivered, cpu.arrivals, cpu.completions, cpu.present) == (3, 3, 2, 0, 2)


def test_samples_are_cumulated_at_equal_steps():
    finished = run({"op": [compute(3)]}, {"w": at(1, 1)}, duration=8.0, windows=4)
    assert finished.records.times.tolist() == [0, 2, 4, 6, 8]
    assert finished.records.stations[:, 0, 0].tolist() == [0, 1, 3, 5, 6]
    assert finished.records.workloads[:, 0].tolist() == [
        [0, 0, 0, 0], [2, 2, 0, 0], [6, 2, 0, 0], [10, 2, 0, 0], [12, 2, 2, 0],
    ]  # fmt: skip


def test_watching_more_often_changes_no_trajectory():
    """Samples read the stations: they may not move the virtual time or a bucket's level by a rounding."""
    operations = {"op": [{"compute": {"exponential": "0.9 s"}}, {"compute": {"exponential": "0.9 s"}}]}
    service = {"rate_limit": {"rate": "1.7/s", "burst": 1.3, "when_empty": "wait"}}
    workloads = {"w": {"rate": "1.7/s", "operation": "s.op", "timeout": "20 s"}}
    first, *others = [
        run(operations, workloads, 300.0, windows=windows, host={"cpu": 3}, service=service).table("w").columns()
        for windows in (1, 7, 997)
    ]
    for columns in others:
        for name, column in columns.items():
            assert np.array_equal(column, first[name], equal_nan=True), name


# Stations of the user's own.


def crane(environment):
    """One crane that moves its loads in `amount` seconds each."""
    arm = simpy.Resource(environment)

    def serve(job):
        with arm.request() as turn:
            yield turn
            yield environment.timeout(job.amount)

    return serve


def test_user_process_serves():
    operations = {"op": [delay(1), {"use": "robot", "demand": "2 s"}]}
    finished = run(operations, {"w": at(0, 0.5)}, processes={"robot": crane})
    assert finished.log() == [(0, 0, 3, OK), (1, 0.5, 5, OK)]
    assert finished.times()[1] == {"s.delay": (0, 1), "s.robot": (0, 3.5)}
    robot = finished.station("processes.robot")
    assert (robot.busy_area, robot.delivered, robot.arrivals, robot.completions) == (5.5, 5.5, 2, 2)


def test_user_process_is_interrupted_by_a_timeout():
    workloads = {"first": at(0, timeout="2 s"), "waits": at(0, timeout="1 s"), "last": at(0)}
    finished = run({"op": [{"use": "robot", "demand": "3 s"}]}, workloads, processes={"robot": crane})
    assert finished.log("first") == [(0, 0, 2, "timeout")]
    assert finished.log("waits") == [(0, 0, 1, "timeout")]
    assert finished.log("last") == [(0, 0, 5, OK)]
    robot = finished.station("processes.robot")
    assert (robot.completions, robot.withdrawals, robot.present, robot.delivered) == (1, 2, 0, 8)


def test_user_process_may_clean_up_after_an_interrupt():
    cleaned = []

    def careful(environment):
        def serve(job):
            try:
                yield environment.timeout(job.amount)
            except simpy.Interrupt as interrupt:
                yield environment.timeout(1)
                cleaned.append((environment.now, job.workload, job.operation, job.number, interrupt.cause))

        return serve

    finished = run(
        {"op": [{"use": "robot", "demand": "9 s"}]}, {"w": at(0, 1, timeout="2 s")}, processes={"robot": careful}
    )
    assert finished.log() == [(0, 0, 2, "timeout"), (1, 1, 3, "timeout")]
    assert cleaned == [(3, "w", "s.op", 0, "cancelled"), (4, "w", "s.op", 1, "cancelled")]


def test_user_process_that_ends_at_the_instant_of_a_timeout():
    finished = run({"op": [{"use": "robot", "demand": "2 s"}]}, {"w": at(0, timeout="2 s")}, processes={"robot": crane})
    assert finished.log() == [(0, 0, 2, "timeout")]


def test_user_process_cancelled_before_it_has_started():
    branches = [[{"use": "robot", "demand": "2 s"}], []]
    finished = run(fork(branches, need=1), {"w": at(0)}, processes={"robot": crane})
    assert finished.log() == [(0, 0, 0, OK)]
    robot = finished.station("processes.robot")
    assert (robot.arrivals, robot.withdrawals, robot.present) == (1, 1, 0)


def test_user_process_that_takes_no_time():
    def instant(environment):
        def serve(job):
            return
            yield

        return serve

    finished = run({"op": [{"use": "robot"}, delay(1)]}, {"w": at(1)}, processes={"robot": instant})
    assert finished.log() == [(0, 1, 2, OK)]


def test_user_process_that_breaks_is_heard_of():
    def broken(environment):
        def serve(job):
            yield environment.timeout(1)
            raise ZeroDivisionError("the robot fell over")

        return serve

    with pytest.raises(ZeroDivisionError, match="fell over"):
        run({"op": [{"use": "robot"}]}, {"w": at(0)}, processes={"robot": broken})


def test_missing_user_process_is_named():
    with pytest.raises(UsageError, match="robot"):
        run({"op": [{"use": "robot"}]}, {"w": at(0)})
