"""Network, balancers and gateway against theory and against cited rules, from the model's text to the results.

Intervals are those of `tests/test_theory.py`: at the confidence used here all checks of this file together raise a
false alarm with a probability of 1 % at most.
"""

import math

import numpy as np
import pytest
from test_engine_exact import OK, Run, at, compute, delay, run

import simulator as sim
from simulator.analytic.demands import facts
from simulator.analytic.queues import mg1_ps, mmc
from simulator.distributions import LogNormal
from simulator.hashing import bucket_of
from simulator.model.files import loads
from simulator.model.lowering import lower
from simulator.model.message import Connection
from simulator.model.network import Location, Network
from simulator.program.arrivals import MarkovModulated, Profile
from simulator.streams import Streams

CONFIDENCE = 1.0 - 0.01 / 50
REPLICATIONS = 16


def simulated(text, seconds, *overrides):
    """Results of 16 replications of `seconds` in all."""
    duration = seconds / REPLICATIONS
    section = (
        f"\nrun: {{replications: {REPLICATIONS}, duration: {duration!r} s, warm_up: {duration / 10!r} s, "
        f"confidence: {CONFIDENCE!r}}}\n"
    )
    return sim.run(loads(text + section, overrides))


def contains(estimate, expected, relative):
    """Whether an estimate agrees with theory, and is precise enough for that to mean something."""
    assert estimate.low <= expected <= estimate.high, (estimate, expected)
    assert estimate.high - estimate.low <= 2 * relative * expected, (estimate, relative)


# Places.


@pytest.mark.parametrize(
    ("place", "location"),
    [
        ("eu-west/1a/rack3", Location("eu-west", "1a", "rack3")),
        ("eu-west/1a", Location("eu-west", "1a")),
        ("berlin", Location("", "berlin")),
        ("us-east-1", Location("us-east-1")),
        ("europe-west1", Location("europe-west1")),
        ("eu-west-1a", Location("eu-west-1", "a")),
        ("us-gov-east-1b", Location("us-gov-east-1", "b")),
        ("europe-west1-b", Location("europe-west1", "b")),
    ],
)
def test_a_place_is_read_part_by_part(place, location):
    assert Location.of(place) == location


def test_latency_grows_with_the_first_part_in_which_places_differ():
    network = Network()

    def between(one, other):
        return network.between(Location.of(one), Location.of(other))

    assert between("eu/a/r1", "eu/a/r1") == network.within_rack
    assert between("eu/a/r1", "eu/a/r2") == between("eu/a", "eu/a") == between("eu/a/r1", "eu/a") == network.within_zone
    assert between("eu/a", "eu/b") == between("eu-west-1a", "eu-west-1b") == network.within_region
    assert between("eu/a", "us/a") == between("eu-west-1a", "us-east-1a") == network.between_regions
    times = [network.within_rack, network.within_zone, network.within_region, network.between_regions]
    means = [time.distribution().mean for time in times]
    assert means == sorted(means)


PLACED = """
hosts:
  front: {cpu: 1, count: 2, place: [r1/a/k1, r1/b]}
  back: {cpu: 1, count: 3, place: [r1/a/k1, r1/a/k2, r2/a]}
services:
  front: {host: front, operations: {op: [{call: back.op}]}}
  back: {host: back, operations: {op: [{compute: 1 s}]}}
network: {within_rack: 1 s, within_zone: 2 s, within_region: 4 s, between_regions: 8 s}
workloads: {w: {replay: {times: [0 s, 100 s, 200 s, 300 s, 400 s, 500 s]}, operation: front.op}}
"""


def test_every_pair_of_replicas_has_its_own_distance():
    finished = Run(lower(loads(PLACED)), 1000.0)
    # Both balancers go round: front 0, 1, 0, 1, 0, 1 and back 0, 1, 2, 0, 1, 2.
    spent = [end - arrival for _, arrival, end, _ in finished.log()]
    assert spent == [1 + 2 * 1, 1 + 2 * 4, 1 + 2 * 8, 1 + 2 * 4, 1 + 2 * 2, 1 + 2 * 8]
    expected = 1 + np.mean([2 * each for each in (1, 2, 8, 4, 4, 8)])
    assert facts(lower(loads(PLACED))).workloads[0].zero_load_response == pytest.approx(expected)


def test_replicas_on_one_machine_are_no_distance_apart_and_a_plain_latency_holds_between_all_hosts():
    same = PLACED.replace("services:\n  front: {host: front", "services:\n  front: {host: back")
    spent = [end - arrival for _, arrival, end, _ in Run(lower(loads(same)), 1000.0).log()]
    assert spent[:3] == [1, 1, 1]  # both on machine 0, on 1, on 2
    plain = PLACED.replace("network: {", "network: {latency: 16 s, ")
    assert {end - arrival for _, arrival, end, _ in Run(lower(loads(plain)), 1000.0).log()} == {33.0}
    unplaced = PLACED.replace(", place: [r1/a/k1, r1/b]", "")
    assert {end - arrival for _, arrival, end, _ in Run(lower(loads(unplaced)), 1000.0).log()} == {1.0}
    unplaced = plain.replace(", place: [r1/a/k1, r1/b]", "")
    assert {end - arrival for _, arrival, end, _ in Run(lower(loads(unplaced)), 1000.0).log()} == {33.0}


def test_clients_with_a_place_are_as_far_as_it_says():
    far = PLACED.replace("operation: front.op", "operation: front.op, place: r3/a, latency: 100 s")
    near = [end - arrival for _, arrival, end, _ in Run(lower(loads(PLACED)), 1000.0).log()]
    spent = [end - arrival for _, arrival, end, _ in Run(lower(loads(far)), 1000.0).log()]
    assert spent == [each + 16 for each in near]


def test_a_zone_that_is_lost_takes_the_instances_that_stand_there():
    text = """
hosts: {h: {cpu: 1, count: 3, place: [r1/a, r1/b, r1/a]}}
services: {s: {host: h, workers: 1, operations: {op: [{delay: 100 ms}]}}}
faults: {loss: {place: r1/a, at: 1 s, lasts: 100 s}}
workloads: {w: {replay: {times: [2 s, 3 s, 4 s, 5 s, 6 s, 7 s]}, operation: s.op}}
"""
    assert [outcome == OK for *_, outcome in Run(lower(loads(text)), 50.0).log()] == [False, True, False] * 2


# Connections and messages.


@pytest.mark.parametrize(
    ("connection", "seconds"),
    [
        ("{}", 2.0),
        ("{tls: true}", 4.0 + 0.5),
        ("{tls: 1.2}", 6.0 + 0.5),
        ("{tls: 1.2, resumed: 1}", 4.0),
        ("{tls: 1.3, resumed: 1}", 4.0),
        ("{tls: true, keep_alive: 1}", 0.0),
    ],
)
def test_connections_take_the_round_trips_of_their_protocols(connection, seconds):
    text = PLACED.replace("{call: back.op}", f"{{call: back.op, connection: {connection}}}")
    text = text.replace("tls:", "handshake_cpu: 0.5 s, tls:")
    # The first call goes over a link of 1 s each way.
    [(_, _, end, _), *_] = Run(lower(loads(text)), 1000.0).log()
    assert end == 1 + 2 + seconds


def test_share_of_new_connections_sets_the_cost_of_tls():
    connection = Connection(keep_alive=0.9, tls="1.3", handshake_cpu="2 ms", resumed=0.5)
    text = PLACED.replace("{call: back.op}", "{call: back.op, connection: {keep_alive: 0.9, tls: true, resumed: 0.5}}")
    demand = {each.resource: each.demand for each in facts(lower(loads(text))).workloads[0].demands}
    assert demand["hosts.back.cpu"] == pytest.approx(1 + 0.1 * 0.5 * 0.0005)
    assert connection.round_trips(False) == connection.round_trips(True) == 2


CODED = """
hosts: {a: {cpu: 1, nic: 1 kB/s}, b: {cpu: 1, nic: 2 kB/s}}
services:
  a: {host: a, operations: {op: [{call: b.op, request: 1 kB, response: 4 kB, CODING}]}}
  b: {host: b, operations: {op: []}}
workloads: {w: {replay: {times: [0 s]}, operation: a.op}}
"""


def test_a_format_costs_cpu_at_both_ends_and_changes_what_the_wire_carries():
    coding = "format: {kind: protobuf, encode: 1 kB/s, decode: 2 kB/s, size: 50%}"
    finished = Run(lower(loads(CODED.replace("CODING", coding))), 1000.0)
    times = finished.times()[0]
    # 0.5 kB there: 0.5 s to make, 0.25 s to read; 2 kB back: 2 s to make, 1 s to read.
    assert times["a.serialization"] == (0, 0.5 + 1.0)
    assert times["b.serialization"] == (0, 0.25 + 2.0)
    assert times["a.nic out"] == (0, 0.5)
    assert times["b.nic in"] == (0, 0.25)
    assert times["b.nic out"] == (0, 1.0)
    assert times["a.nic in"] == (0, 2.0)


def test_compression_spares_the_wire_and_costs_cpu():
    coding = "format: {kind: json, encode: 1 MB/s, decode: 1 MB/s}, "
    coding += "compression: {kind: zstd, compress: 1 kB/s, decompress: 4 kB/s, ratio: 25%}"
    times = Run(lower(loads(CODED.replace("CODING", coding))), 1000.0).times()[0]
    assert times["a.serialization"][1] == pytest.approx(0.001 + 1 + 0.004 + 1)
    assert times["b.serialization"][1] == pytest.approx(0.001 + 0.25 + 0.004 + 4)
    assert (times["a.nic out"][1], times["b.nic in"][1]) == (0.25, 0.125)


def test_a_message_has_one_size_wherever_it_passes():
    text = CODED.replace("request: 1 kB", "request: {exponential: 1 kB}").replace("CODING", "format: json")
    text = text.replace("times: [0 s]", "times: [0 s, 100 s, 200 s, 300 s, 400 s]")
    for times in Run(lower(loads(text)), 1000.0).times().values():
        sent = times["a.nic out"][1]
        assert times["b.nic in"][1] == pytest.approx(sent / 2)
        assert times["b.serialization"][1] == pytest.approx(sent * 1000 / 36e6 + 4000 / 68e6)


def test_a_link_of_100_mbit_carries_no_more():
    text = """
hosts: {a: {cpu: 4, nic: 100 Mbit/s}}
services: {a: {host: a, operations: {send: [{transfer: {exponential: 125 kB}}]}}}
workloads: {w: {rate: 70/s, operation: a.send}}
"""
    # A link shared in equal parts is M/G/1-PS: 70 messages of 10 ms a second.
    results = simulated(text, 1600.0)
    theory = mg1_ps(70.0, 0.01)
    contains(results.workloads["w"].latency_s["mean"], theory.response_time, 0.1)
    contains(results.resources["hosts.a.nic.out"].utilization, 0.7, 0.05)
    flooded = simulated(text, 160.0, "workloads.w.rate=500/s")  # 500 Mbit/s
    assert not flooded.stable
    assert flooded.workloads["w"].throughput_per_s.value == pytest.approx(100, rel=0.1)


# Balancers.


def servers(count, load, policy):
    service = f"host: h, replicas: {count}, workers: 1, balancer: {policy}"
    return f"""
hosts: {{h: {{cpu: 1}}}}
services: {{s: {{{service}, operations: {{op: [{{delay: {{exponential: 1 s}}}}]}}}}}}
workloads: {{w: {{rate: {load * count!r}/s, operation: s.op}}}}
"""


def test_least_outstanding_counts_requests_in_service_and_waiting_not_those_on_the_wire():
    # The far server's requests are on the wire for long: whoever counts those sends everything to the near one.
    text = """
hosts: {near: {cpu: 1, place: r1/a}, app: {cpu: 1, count: 2, place: [r1/a, r2/a]}}
services:
  front: {host: near, operations: {op: [{call: app.op}]}}
  app: {host: app, workers: 1, balancer: least_outstanding, operations: {op: [{delay: 10 ms}]}}
network: {within_zone: 0 s, between_regions: 200 ms}
workloads: {w: {rate: 120/s, operation: front.op}}
"""
    program = lower(loads(text))
    pools = Run(program, 100.0).stations("services.app.workers")
    shares = [pool.arrivals / sum(each.arrivals for each in pools) for pool in pools]
    assert min(shares) > 0.3


def test_least_outstanding_keeps_the_tail_short_where_one_server_is_slow():
    # Of two servers of 10 ms one takes 100 ms for one request in a hundred: p99 stays near that of the service.
    text = servers(4, 0.6, "least_outstanding").replace("exponential: 1 s", "lognormal: {p50: 5 ms, p99: 20 ms}")
    text = text.replace("rate: 2.4/s", "rate: 400/s")
    least = simulated(text, 160.0).workloads["w"].latency_s["p99"]
    at_random = simulated(text.replace("least_outstanding", "random"), 160.0).workloads["w"].latency_s["p99"]
    assert least.high < 0.030 < at_random.low


def fixed_point(load):
    """Mean time in system with d = 2 choices among infinitely many M/M/1 servers, service time 1.

    Mitzenmacher, The power of two choices in randomized load balancing (2001), section 3: sum of load^(2^i - 2).
    """
    return math.fsum(load ** (2**i - 2) for i in range(1, 60) if 2**i < 1e9)


@pytest.mark.parametrize(
    ("count", "requests", "width"), [(100, 130_000, 0.07), pytest.param(400, 3e6, 0.025, marks=pytest.mark.slow)]
)
def test_power_of_two_choices_is_mitzenmachers_fixed_point(count, requests, width):
    load = 0.8
    text = servers(count, load, "power_of_two")
    found = simulated(text, requests / (load * count)).workloads["w"].latency_s["mean"]
    # Two different servers of n are a little better than two of infinitely many: by O(1 / n).
    assert fixed_point(load) * (1 - 4 / count) <= found.high
    assert found.low <= fixed_point(load) * (1 + 4 / count)
    assert found.relative_half_width < width


def test_joining_the_shortest_queue_lies_between_one_queue_and_two_choices():
    load, count = 0.8, 20
    rate = load * count
    text = servers(count, load, "least_outstanding")
    shortest = simulated(text, 8000.0).workloads["w"].latency_s["mean"]
    at_random = simulated(text.replace("least_outstanding", "random"), 16_000.0).workloads["w"].latency_s["mean"]
    assert mmc(rate, 1.0, count).response_time < shortest.low
    assert shortest.high < fixed_point(load)
    contains(at_random, mmc(load, 1.0, 1).response_time, 0.15)


def test_weights_share_requests_out():
    text = servers(3, 0.5, "weighted, weights: [5, 1, 1]").replace("rate: 1.5/s", "rate: 0.7/s")
    pools = Run(lower(loads(text)), 1000.0).stations("services.s.workers")
    arrivals = [pool.arrivals for pool in pools]
    assert arrivals[0] == pytest.approx(5 * arrivals[1], abs=5)
    demands = facts(lower(loads(text))).workloads[0]
    assert demands.saturation_throughput == pytest.approx(7 / 5)


def test_sticky_sessions_keep_a_user_on_one_replica():
    workload = {"users": 40, "think": "1 s", "operation": "s.op"}
    service = {"replicas": 4, "workers": 1, "affinity": "user"}
    finished = run({"op": [delay(0.125)]}, {"w": workload}, 60.0, service=service)
    shares = np.array([pool.arrivals for pool in finished.stations("services.s.workers")]) / len(finished.log())
    # Every user sends as often as the others (but for queueing), so shares are close to whole users of 40.
    assert shares.min() > 0.1
    assert np.std(shares) > 0.01  # not what round robin would give


def test_consistent_hashing_sends_a_key_always_to_the_same_replica():
    text = """
hosts: {h: {cpu: 1}}
services: {s: {host: h, replicas: 5, workers: 1, affinity: product, operations: {op: []}}}
keys: {product: {uniform: 20}}
workloads: {w: {rate: 100/s, operation: s.op}}
"""
    arrivals = [pool.arrivals for pool in Run(lower(loads(text)), 100.0).stations("services.s.workers")]
    replicas = [bucket_of(key, 5) for key in range(20)]
    expected = np.array([replicas.count(replica) / 20 for replica in range(5)])
    assert np.ptp(expected) > 0.1  # whole keys, not shares of their requests
    np.testing.assert_allclose(np.array(arrivals) / sum(arrivals), expected, atol=0.02)


# Rate limits.


def m_d_1_k_loss(load, capacity):
    """Loss probability of M/D/1 with `capacity` places, service included, by its embedded chain at departures."""
    arrivals = [math.exp(-load) * load**k / math.factorial(k) for k in range(capacity)]
    chain = np.zeros((capacity, capacity))
    for state in range(capacity):
        left = max(state - 1, 0)
        for k in range(capacity - left):
            chain[state, min(left + k, capacity - 1)] += arrivals[k]
        chain[state, capacity - 1] += 1.0 - chain[state].sum()
    stationary = np.linalg.matrix_power(chain, 10_000)[0]
    return 1.0 - 1.0 / (stationary[0] + load)


@pytest.mark.parametrize("burst", [1, 3])
def test_a_token_bucket_loses_what_a_deterministic_queue_of_its_burst_does(burst):
    # Tokens that are missing are work of a server that makes one in 1 / rate: it takes what leaves at most `burst`.
    text = f"""
hosts: {{h: {{cpu: 1}}}}
services: {{s: {{host: h, rate_limit: {{rate: 100/s, burst: {burst}}}, operations: {{op: []}}}}}}
workloads: {{w: {{rate: 90/s, operation: s.op}}}}
"""
    contains(simulated(text, 800.0).workloads["w"].error_rate, m_d_1_k_loss(0.9, burst), 0.1)


def test_a_noisy_client_is_limited_alone():
    operations = {"op": []}
    limit = {"rate_limit": {"per_client": {"rate": "1/s", "burst": 2}}}
    finished = run(operations, {"w": {"users": 3, "think": "250 ms", "operation": "s.op"}}, 100.0, service=limit)
    outcomes = [outcome for *_, outcome in finished.log()]
    assert outcomes.count(OK) == pytest.approx(3 * (2 + 100), abs=6)
    # One client who sends 4/s beside two who send 0.5/s: only the first is turned away.
    workloads = {
        "noisy": {"users": 1, "think": "250 ms", "operation": "s.op"},
        "calm": {"users": 2, "think": "2 s", "operation": "s.op"},
    }
    finished = run(operations, workloads, 100.0, service=limit)
    assert {outcome for *_, outcome in finished.log("calm")} == {OK}
    assert {outcome for *_, outcome in finished.log("noisy")} == {OK, "rate limited"}


# Protection.


def calling(step, callee, workload, more=""):
    return f"""
hosts: {{a: {{cpu: 64}}, b: {{cpu: 64}}}}
services:
  a: {{host: a, operations: {{op: [{{call: b.op, {step}}}]}}}}
  b: {{host: b, {more} operations: {{op: [{callee}]}}}}
workloads: {{w: {{{workload}, operation: a.op}}}}
"""


def test_hedging_exponential_latencies_is_the_minimum_of_theory():
    mean, after = 0.1, 0.15
    text = calling("hedge: 150 ms", "{delay: {exponential: 100 ms}}", "rate: 200/s")
    results = simulated(text, 480.0)
    unanswered = math.exp(-after / mean)
    expected = mean * (1 - unanswered) + unanswered * mean / 2
    contains(results.workloads["w"].latency_s["mean"], expected, 0.03)
    found = facts(lower(loads(text))).workloads[0]
    assert found.zero_load_response == pytest.approx(expected)
    # P(T > t) = e^(-after/mean - 2 (t - after)/mean) beyond the copy.
    p99 = after + (math.log(100) - after / mean) * mean / 2
    contains(results.workloads["w"].latency_s["p99"], p99, 0.05)
    unhedged = simulated(text, 480.0, "services.a.operations.op.0.hedge.after=1 h").workloads["w"].latency_s["p99"]
    contains(unhedged, math.log(100) * mean, 0.08)


def test_the_hedge_that_comes_late_is_never_sent_and_the_loser_is_cancelled():
    text = calling("hedge: 2 s", "{delay: 3 s}", "replay: {times: [0 s]}", "workers: 5,")
    finished = Run(lower(loads(text)), 100.0)
    assert finished.log() == [(0, 0, 3, OK)]
    workers = finished.station("services.b.workers")
    assert (workers.arrivals, workers.completions, workers.busy_area) == (2, 2, 3 + 1)
    finished = Run(lower(loads(text.replace("hedge: 2 s", "hedge: 3.5 s"))), 100.0)
    assert finished.station("services.b.workers").arrivals == 1


def test_a_breaker_cuts_the_latency_of_errors():
    callee = "{choose: [{probability: 0.9, steps: [{delay: 500 ms}, {fail: down}]}, {probability: 0.1, steps: []}]}"
    text = calling("timeout: 2 s", callee, "rate: 50/s")
    plain = Run(lower(loads(text)), 100.0)
    guarded = Run(lower(loads(text.replace("timeout: 2 s", "timeout: 2 s, circuit_breaker: {open: 5 s}"))), 100.0)

    def error_time(finished):
        return np.mean(
            [end - arrival for _, arrival, end, outcome in finished.log() if outcome not in (OK, "in flight")]
        )

    assert error_time(plain) == pytest.approx(0.5)
    assert error_time(guarded) < 0.1
    assert guarded.station("services.a.breakers.b").busy_area > 80  # s of 100 in which it was not closed


def test_a_retry_budget_bounds_the_load_of_a_failing_service():
    callee = "{fail: down}"
    text = calling("retries: {most: 5}", callee, "rate: 100/s, arrivals: constant", "rate_limit: 10k/s,")
    tries = Run(lower(loads(text)), 100.0).station("services.b.rate_limit").arrivals
    assert tries == pytest.approx(6 * 9999, rel=0.001)
    bounded = text.replace("most: 5", "most: 5, budget: {ratio: 20%, saved: 1}")
    tries = Run(lower(loads(bounded)), 100.0).station("services.b.rate_limit").arrivals
    assert tries == pytest.approx(1.2 * 9999, rel=0.001)


def test_a_bulkhead_leaves_the_caller_free_for_others():
    text = calling("bulkhead: 2", "{delay: 10 s}", "replay: {times: [0 s, 0 s, 1 s, 11 s]}")
    assert [(number, end, outcome) for number, _, end, outcome in Run(lower(loads(text)), 100.0).log()] == [
        (2, 1, "queue full"), (0, 10, OK), (1, 10, OK), (3, 21, OK)
    ]  # fmt: skip
    queued = text.replace("bulkhead: 2", "bulkhead: {most: 2, queue_limit: 1}")
    assert [end for *_, end, _ in Run(lower(loads(queued)), 100.0).log()] == [10, 10, 20, 21]


SHARING = """
hosts: {web: {cpu: 4}, db: {cpu: 8}}
services:
  web:
    host: web
    operations:
      a: [{call: db.q, bulkhead: {most: 10, queue_limit: 50}, retries: {most: 1, budget: 10%}}]
      b: [{call: db.p, bulkhead: {queue_limit: 50, most: 10}, retries: {most: 1, budget: 20%}}]
      c: [{call: log.q, bulkhead: 3}, {call: db.q}]
  db: {host: db, operations: {q: [{delay: 30 ms}], p: [{delay: 30 ms}]}}
  log: {host: db, operations: {q: [{delay: 30 ms}]}}
workloads: {w: {rate: 300/s, mix: {web.a: 1/3, web.b: 1/3, web.c: 1/3}}}
""".replace("1/3", str(1 / 3))


def capacities(text, *overrides):
    """Capacities of the pools of connections of `web`."""
    program = lower(loads(text, overrides))
    pools = [station for station in program.stations if ".bulkheads." in station.resource]
    return sorted((station.resource.rpartition(".")[2], station.capacity) for station in pools)


def test_steps_of_a_service_share_one_bulkhead_for_a_callee():
    assert capacities(SHARING) == [("db", 10), ("log", 3)]
    spelled = SHARING.replace("bulkhead: 3", "bulkhead: {most: 3, queue_limit: 0}")
    assert capacities(spelled) == [("db", 10), ("log", 3)]


@pytest.mark.parametrize("operation", ["a", "b"])
def test_the_number_of_a_shared_bulkhead_is_changed_by_that_of_any_step(operation):
    path = f"services.web.operations.{operation}.0.bulkhead"
    assert capacities(SHARING, f"{path}.most=20") == [("db", 20), ("log", 3)]
    assert capacities(SHARING, f"{path}.most=20", f"{path}.most=30") == [("db", 30), ("log", 3)]
    assert capacities(SHARING, f"{path}=5") == [("db", 5), ("log", 3)]
    assert capacities(SHARING, f"{path}=null") == [("db", 10), ("log", 3)]
    shares = [step.retries.budget.ratio for name in "ab" for step in loads(SHARING).services["web"].operations[name]]
    assert shares == [0.1, 0.2]  # of a budget each call has its own


def test_load_shedding_keeps_goodput_under_overload():
    """Clients give up after 0.5 s: a queue without limit serves only those who have, one that sheds hardly any."""
    text = """
hosts: {h: {cpu: 1}}
services: {s: {host: h, workers: 1, SHED operations: {op: [{delay: 10 ms}]}}}
workloads: {w: {rate: 150/s, timeout: 500 ms, on_timeout: abandon, operation: s.op}}
"""

    def goodput(shed):
        finished = Run(lower(loads(text.replace("SHED", shed))), 60.0)
        return sum(1 for _, arrival, _, outcome in finished.log() if outcome == OK and arrival > 10) / 50

    assert goodput("") < 5
    assert goodput("load_shedding: 300 ms,") > 90
    assert goodput("load_shedding: {wait: 20 ms, standing: 100 ms}, queue: lifo,") > 90


def test_concurrency_limit_counts_those_inside_and_authentication_comes_first():
    service = {
        "concurrency_limit": {"most": 2, "queue_limit": 0},
        "workers": 1,
        "authentication": [compute(1)],
    }
    finished = run({"op": [delay(2)]}, {"w": at(0, 0, 0, 10)}, service=service)
    assert finished.log() == [(2, 0, 0, "queue full"), (0, 0, 3, OK), (1, 0, 6, OK), (3, 10, 13, OK)]
    assert finished.times()[0]["s.cpu"] == (0, 1)


# What peers got wrong.


def test_idle_periods_of_a_load_are_idle():
    bursty = MarkovModulated((100.0, 0.0), (1.0, 9.0))
    gaps = np.concatenate([block for block, _ in zip(bursty.gaps(Streams(1), "w"), range(400), strict=False)])
    times = np.cumsum(gaps)
    assert len(times) / times[-1] == pytest.approx(10.0, rel=0.1)
    assert np.sum(gaps[gaps > 0.2]) / times[-1] == pytest.approx(0.9, abs=0.03)
    pause = Profile((0.0, 10.0, 10.0, 20.0, 20.0, 30.0), (50.0, 50.0, 0.0, 0.0, 50.0, 50.0))
    times = np.cumsum(next(pause.gaps(Streams(1), "w")))
    assert not np.any((times > 10.0) & (times < 20.0))
    assert np.sum(times < 30.0) == pytest.approx(1000, abs=150)


def test_a_log_normal_of_3_ms_takes_3_ms():
    system = loads(calling("timeout: 1 s", "{delay: {lognormal: {mean: 3 ms, cv: 1}}}", "rate: 100/s"))
    contains(sim.run(system).workloads["w"].latency_s["mean"], 0.003, 0.02)


@pytest.mark.parametrize(("name", "probability"), [("p90", 0.9), ("p95", 0.95), ("p99", 0.99), ("p999", 0.999)])
def test_percentiles_that_were_asked_for_are_those_that_come(name, probability):
    law = LogNormal.of_percentiles(0.010, 0.040, probability)
    stream = Streams(1).uniforms("x", 0, 400_000)
    draws = law.sample(lambda k: stream)
    assert np.median(draws) == pytest.approx(0.010, rel=0.02)
    assert np.mean(draws < 0.040) == pytest.approx(probability, abs=5 * math.sqrt(0.25 / 400_000))
    text = calling("timeout: 9 s", f"{{delay: {{lognormal: {{p50: 10 ms, {name}: 40 ms}}}}}}", "rate: 100/s")
    assert facts(lower(loads(text))).workloads[0].zero_load_response == pytest.approx(law.mean)
