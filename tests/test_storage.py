"""Storage: ceilings, credits, arrays, hard disks, group commit, shared volumes, against closed forms and measurements.

Where everything is constant the closed form is exact; else the simulated mean of independent replications must lie
within four standard errors of it, which chance misses once in 16,000 checks, and the error itself is bounded.
"""

import csv
import math
from pathlib import Path

import pytest
from pydantic import ValidationError

import simulator as sim
from simulator.analytic.queues import mg1
from simulator.model.disk import Disk

DATA = Path(__file__).parent.parent.parent / "shared" / "data"
CEILING = "{iops: 1000, latency: 0.25 ms, cv: 0}"


def model(disk, steps, workload, more=""):
    return sim.loads(
        f"hosts: {{h: {{cpu: 1, nic: 1 Gbit/s, disk: {disk}}}}}\n"
        f"services: {{s: {{host: h, operations: {{o: [{steps}]}}}}}}\n"
        f"workloads: {{w: {{{workload}, operation: s.o}}}}\n{more}"
    )


def records(system, duration, replication=0, windows=2, engine="compiled"):
    return sim.simulate(sim.lower(system), duration, 1, replication=replication, windows=windows, engine=engine)


def throughput(disk, steps, workload, duration=20.0, more=""):
    """Requests completed a second in the second half of a run."""
    found = records(model(disk, steps, workload, more), duration)
    [table] = found.requests
    return float(((table.end > duration / 2) & (table.end < duration)).sum() / (duration / 2))


def mean_response(disk, steps, workload, duration, replications=12):
    """Mean response time in the second half of a run, and its standard error over replications."""
    means = []
    for replication in range(replications):
        [table] = records(model(disk, steps, workload), duration, replication).requests
        late = (table.arrival > duration / 4) & (table.outcome == 0)
        means.append(float((table.end - table.arrival)[late].mean()))
    mean = math.fsum(means) / replications
    error = math.sqrt(math.fsum((each - mean) ** 2 for each in means) / (replications - 1) / replications)
    return mean, error


def check_mean(simulated, expected, width=0.04):
    mean, error = simulated
    assert abs(mean - expected) < 4 * error, (mean, error, expected)
    assert error < width * expected


# The ceiling of operations a second.


@pytest.mark.parametrize("disk", [CEILING, "{iops: 1000, cv: 0}", "{iops: 1000, queue_depth: 8, cv: 0}"])
def test_an_overloaded_disk_does_its_iops_and_no_more(disk):
    assert throughput(disk, "read: 4 KiB", "rate: 3k/s, arrivals: constant") == pytest.approx(1000, rel=1e-3)


@pytest.mark.parametrize("depth", [1, 2, 3, 4, 8, 64])
def test_a_closed_loop_obeys_littles_law_up_to_the_ceiling(depth):
    """N operations at a time take max(latency, N / iops) each: N / latency operations a second, up to the ceiling."""
    found = throughput(CEILING, "read: 4 KiB", f"users: {depth}, think: 0 s, ramp_up: 1 s")
    assert found == pytest.approx(min(depth / 0.25e-3, 1000.0), rel=2e-3)


def test_what_theory_says_of_a_ceiling_is_what_is_simulated():
    facts = sim.facts(sim.lower(model(CEILING, "read: 4 KiB", "rate: 500/s")))
    assert (facts.saturated_resource, facts.saturation_throughput) == ("hosts.h.disk.iops", pytest.approx(1000.0))


def test_writes_count_for_more_where_the_disk_does_fewer():
    disk = "{iops: 1000, write_iops: 250, latency: 0.25 ms, cv: 0}"
    found = throughput(disk, "{read: 4 KiB}, {write: 4 KiB}", "users: 20, think: 0 s")
    assert found == pytest.approx(1 / (1 / 1000 + 1 / 250), rel=0.01)


def test_bandwidth_is_a_ceiling_of_its_own():
    disk = "{iops: 10k IOPS, latency: 0.1 ms, bandwidth: 100 MB/s, write_bandwidth: 50 MB/s}"
    assert throughput(disk, "read: 1 MB", "users: 20, think: 0 s") == pytest.approx(100, rel=0.01)
    assert throughput(disk, "write: 1 MB", "users: 20, think: 0 s") == pytest.approx(50, rel=0.01)


def test_a_window_lets_a_burst_pass_that_pacing_spreads():
    arrivals = "replay: {times: [" + ", ".join(["1 s"] * 100) + "]}"
    responses = []
    for window in ("0 s", "50 ms"):
        disk = f"{{iops: 1000, latency: 1 ms, cv: 0, burst_window: {window}}}"
        [table] = records(model(disk, "read: 4 KiB", arrivals), 2.0).requests
        responses.append(sorted((table.end - table.arrival).round(9).tolist()))
    assert responses[0] == pytest.approx([1e-3 * (n + 1) for n in range(100)])
    assert responses[1] == pytest.approx([1e-3] * 50 + [1e-3 * (n + 2) for n in range(50)])


# Burst credits.


def test_a_burst_ends_exactly_when_the_credits_are_used_up():
    """Balance / (burst - baseline) = 6144 / (4096 - 1024) = 2 s; from then on a backlog grows by 3072 a second."""
    disk = "{iops: 4096, latency: 0.25 ms, cv: 0, credits: {baseline: 1024/s, balance: 6144}}"
    system = model(disk, "read: 4 KiB", "rate: 4096/s, arrivals: constant")
    [table] = records(system, 4.0, engine="simpy").requests
    done = table.outcome == 0
    component = table.components.index("s.disk")
    waits = dict(zip(table.arrival[done].tolist(), table.wait[done, component].tolist(), strict=True))
    # The balance is full at time 0, so it is short of the refill before the first operation: none.
    assert max(wait for arrival, wait in waits.items() if arrival < 2.0 - 1 / 4096) == 0.0
    assert waits[2.0 + 1 / 4096] > 0.0
    assert waits[2.25] == pytest.approx(0.25 * 3, abs=3 / 1024)


GP2 = {"iops": 3000, "latency": "1 ms", "credits": {"baseline_per_gib": "3/s"}}


def test_a_gp2_volume_is_as_its_maker_says():
    """100 GiB: a baseline of 300 a second and a burst of 3,000 for 5.4 M / 2,700 = 2,000 s; none from 1,000 GiB on."""
    for size, baseline in (("1 GiB", 100), ("33 GiB", 100), ("100 GiB", 300), ("500 GiB", 1500), ("16 TiB", 16000)):
        volume = Disk.model_validate({**GP2, "size": size})
        assert volume.baseline == pytest.approx(baseline)
        assert volume.ceiling == pytest.approx(max(3000, baseline))
    disk = Disk.model_validate({**GP2, "size": "100 GiB"})
    assert disk.credits.balance / (disk.ceiling - disk.baseline) == pytest.approx(2000)
    large = model(
        "{iops: 3000, latency: 1 ms, size: 2 TiB, credits: {baseline_per_gib: 3/s}}", "read: 1 B", "rate: 1/s"
    )
    resources = {each.resource: each.capacity for each in sim.facts(sim.lower(large)).resources}
    assert resources["hosts.h.disk.iops"] == 6144
    assert "hosts.h.disk.credits" not in resources


def test_a_volume_without_credits_left_does_its_baseline():
    disk = "{iops: 3000, latency: 1 ms, credits: {baseline: 300/s, balance: 2700}}"
    assert throughput(disk, "read: 4 KiB", "rate: 3k/s") == pytest.approx(300, rel=0.01)


# Arrays.

RAID = "{{iops: 100, queue_depth: 1, cv: {cv}, raid: {{level: {level}, disks: {disks}}}}}"
PENALTIES = [(0, 4, 1), (1, 2, 2), (1, 3, 3), (5, 3, 4), (5, 8, 4), (6, 4, 6), (6, 8, 6), (10, 4, 2), (10, 8, 2)]


@pytest.mark.parametrize(("level", "disks", "penalty"), PENALTIES)
def test_an_array_reads_with_all_disks_and_pays_for_writes(level, disks, penalty):
    """Reads: disks times the iops of one. Small writes: as many by the penalty of the level."""
    disk = RAID.format(level=level, disks=disks, cv=1)
    for steps, per_request in (("read: 4 KiB", 1), ("write: 4 KiB", penalty)):
        facts = sim.facts(sim.lower(model(disk, steps, "rate: 1/s")))
        assert facts.saturation_throughput == pytest.approx(100 * disks / per_request)
    # With many at a time every disk is busy nearly all the time, and completes what the penalty leaves.
    found = throughput(disk, "write: 4 KiB", f"users: {40 * disks}, think: 0 s", 100.0)
    assert found == pytest.approx(100 * disks / penalty, rel=0.05)


def test_a_small_write_on_level_5_takes_two_turns_of_two_disks():
    """Read data and parity, then write both: 2 operations long where nobody waits, of constant time 10 ms."""
    [table] = records(model(RAID.format(level=5, disks=4, cv=0), "write: 4 KiB", "rate: 1/s"), 20.0).requests
    assert (table.end - table.arrival)[:10].tolist() == pytest.approx([0.02] * 10, rel=0.01)


def test_reads_of_a_striped_array_are_queues_of_their_own():
    """Each disk is an M/M/1 queue: data are where they are, whatever disk is idle."""
    disk = "{iops: 1000, raid: {level: 0, disks: 4}}"
    check_mean(mean_response(disk, "read: 1 B", "rate: 2800/s", 20.0), mg1(700.0, 1e-3, 1.0).response_time)


def test_sequential_writes_fill_whole_stripes():
    disk = "{iops: 100k IOPS, bandwidth: 100 MB/s, raid: {level: 6, disks: 8}}"
    steps = "{write: 1 MB, pattern: sequential}"
    facts = sim.facts(sim.lower(model(disk, steps, "rate: 1/s")))
    assert facts.saturation_throughput == pytest.approx(6 * 100)


# Hard disks.


def test_a_hard_disk_is_an_m_g_1_queue_of_seek_turn_and_transfer():
    """Seek 8 ms constant, a turn of 8.33 ms at 7,200/min uniform, 1 MB at 200 MB/s: mean 17.17 ms at 40/s."""
    turn, fixed = 60 / 7200, 0.008 + 0.005
    mean = fixed + turn / 2
    queue = mg1(40.0, mean, (turn**2 / 12) / mean**2)
    disk = "{seek: 8 ms, rpm: 7200, bandwidth: 200 MB/s}"
    check_mean(mean_response(disk, "read: 1 MB", "rate: 40/s", 800.0), queue.response_time)


def test_a_sequential_operation_neither_seeks_nor_turns():
    disk = "{seek: 8 ms, rpm: 7200, bandwidth: 200 MB/s}"
    system = model(disk, "{read: 1 MB, pattern: sequential}", "rate: 3k/s")
    assert sim.facts(sim.lower(system)).workloads[0].zero_load_response == pytest.approx(0.005)
    assert throughput(disk, "{read: 1 MB, pattern: sequential}", "rate: 3k/s") == pytest.approx(200, rel=1e-3)


# Group commit and batched I/O.


@pytest.mark.parametrize(("users", "most", "expected"), [(1, 100, 100), (2, 100, 100), (9, 100, 450), (9, 1, 100)])
def test_group_commit_of_users_that_do_nothing_else(users, most, expected):
    """N users of a 10 ms flush: the one whose flush is under way alternates with the N - 1 that wait, N in 20 ms."""
    disk = f"{{iops: 1000, fsync: {{time: 10 ms, cv: 0, most: {most}}}}}"
    found = throughput(disk, "fsync: 0 B", f"users: {users}, think: 0 s, ramp_up: 0 s")
    assert found == pytest.approx(expected, rel=0.01)


def test_a_flush_writes_the_bytes_of_all_that_it_serves():
    disk = "{iops: 1000, bandwidth: 100 MB/s, write_bandwidth: 50 MB/s, fsync: {time: 10 ms, cv: 0, most: 4}}"
    facts = sim.facts(sim.lower(model(disk, "fsync: 100 kB", "rate: 1/s")))
    assert facts.saturation_throughput == pytest.approx(4 / (0.010 + 4 * 0.002))
    assert throughput(disk, "fsync: 100 kB", "rate: 2k/s") == pytest.approx(4 / 0.018, rel=0.01)


@pytest.mark.parametrize("most", ["", "most: 3, "])
def test_a_flush_is_as_busy_as_full_ones_would_be(most):
    disk = f"{{iops: 1000, bandwidth: 100 MB/s, write_bandwidth: 50 MB/s, fsync: {{time: 6 ms, {most}cv: 0}}}}"
    of_each = 0.02 + (0.002 if most else 0.0)
    for rate in (30, 60):
        found = sim.run(model(disk, "fsync: 1 MB", f"rate: {rate}/s"), sim.Settings(duration=60.0, replications=4))
        busy = found.resources["hosts.h.disk.fsync"].utilization
        expected = min(of_each * found.workloads["w"].throughput_per_s.value, 1.0)
        assert busy.value == pytest.approx(expected, rel=0.01)
        assert (found.bottleneck.resource, found.bottleneck.utilization) == ("hosts.h.disk.fsync", busy)
        assert found.bottleneck.saturation_factor == pytest.approx(1.0 / of_each / rate, rel=1e-3)
    assert "times the capacity of hosts.h.disk.fsync" in found.verdict


def test_one_operation_for_many_items():
    """100 items of 1 kB each cost 100 operations, or 4 of 25 items: limited by 1,000 operations a second."""
    disk = "{iops: 1000, queue_depth: 4, bandwidth: 100 MB/s}"
    for steps, expected in (("{write: 1 kB, times: 100}", 10), ("{write: 1 kB, items: 25, times: 4}", 250)):
        assert sim.facts(sim.lower(model(disk, steps, "rate: 1/s"))).saturation_throughput == pytest.approx(expected)


def test_drawn_items_are_passed_one_by_one():
    disk = "{iops: 1M IOPS, bandwidth: 100 MB/s}"
    steps = "{write: {exponential: 10 kB}, items: 10}"
    assert sim.facts(sim.lower(model(disk, steps, "rate: 1/s"))).saturation_throughput == pytest.approx(1000)


# Shared volumes.

VOLUME = "volumes: {nas: {disk: {iops: 10k IOPS, latency: 1 ms, cv: 0}, nic: 80 Mbit/s, latency: 2 ms}}\n"


def test_a_shared_volume_is_reached_over_both_interfaces():
    system = model("{iops: 1}", "{read: 100 kB, volume: nas}", "rate: 10/s, arrivals: constant", VOLUME)
    [table] = records(system, 10.0).requests
    # There and back 2 ms each, 1 ms of disk, 100 kB at 10 MB/s out of the volume and at 125 MB/s into the host.
    assert (table.end - table.arrival)[:50].tolist() == pytest.approx([0.004 + 0.001 + 0.010 + 0.0008] * 50)
    facts = sim.facts(sim.lower(system))
    assert (facts.saturated_resource, facts.saturation_throughput) == ("volumes.nas.nic.out", pytest.approx(100))


def test_hosts_share_a_volume():
    system = sim.loads(
        "hosts: {a: {cpu: 1}, b: {cpu: 1}}\n"
        "services:\n"
        "  s: {host: a, operations: {o: [{write: 1 B, volume: nas}]}}\n"
        "  t: {host: b, operations: {o: [{write: 1 B, volume: nas}, {fsync: 1 B, volume: nas}]}}\n"
        "workloads: {w: {rate: 1/s, mix: {s.o: 50%, t.o: 50%}}}\n"
        "volumes: {nas: {disk: {iops: 200, price: 1 USD/h}}}\n"
    )
    facts = sim.facts(sim.lower(system))
    assert (facts.saturated_resource, facts.saturation_throughput) == ("volumes.nas", pytest.approx(200))
    assert system.cost_per_hour == 1


# Prices.


def test_a_tariff_counts_size_operations_and_bandwidth_beyond_what_is_included():
    disk = Disk.model_validate(
        {
            "iops": 5000, "latency": "1 ms", "size": "100 GiB", "bandwidth": "225 MiB/s",
            "raid": {"level": 0, "disks": 2},
            "tariff": {
                "per_gib": "0.08 USD/month", "per_iops": "0.005 USD/month", "included_iops": 3000,
                "per_mib_per_s": "0.04 USD/month", "included_bandwidth": "125 MiB/s",
            },
        }
    )  # fmt: skip
    assert disk.cost_per_hour * 730 == pytest.approx(2 * (8 + 10 + 4))


# Bad parameters.


@pytest.mark.parametrize(
    ("disk", "message"),
    [
        ({}, "expected iops, or seek and rpm of a hard disk"),
        ({"seek": "8 ms"}, "expected both seek and rpm"),
        ({"seek": "8 ms", "rpm": 7200, "iops": 100}, "iops beside seek and rpm"),
        ({"seek": "8 ms", "rpm": 7200, "discipline": "lifo"}, "discipline 'lifo' of a hard disk"),
        ({"iops": 10, "write_bandwidth": "1 MB/s"}, "write_bandwidth without bandwidth"),
        ({"iops": 10, "write_latency": "1 ms"}, "write_latency without latency"),
        ({"iops": 10, "latency": "1 ms", "discipline": "lifo"}, "a discipline with a latency but no queue_depth"),
        ({"iops": 10, "credits": {"baseline_per_gib": "3/s"}}, "credits or a price for a GiB without a size"),
        ({"iops": 10, "credits": {}}, "expected exactly one of baseline, baseline_per_gib"),
        ({"iops": 10, "credits": {"baseline": 5, "balance": 0}}, "expected room for at least one operation"),
        ({"iops": 10, "tariff": {"per_gib": "1 USD/month"}}, "credits or a price for a GiB without a size"),
        ({"iops": 10, "raid": {"level": 5, "disks": 2}}, "2 disks, expected 3 to 256 for level 5"),
        ({"iops": 10, "raid": {"level": 10, "disks": 5}}, "5 disks, expected an even number"),
        ({"iops": 10, "raid": {"level": 3, "disks": 5}}, "0, 1, 5, 6 or 10"),
        ({"iops": 10, "fsync": {"time": "1 ms", "most": 0}}, "expected a whole number >= 1"),
    ],
)
def test_a_disk_that_cannot_be(disk, message):
    with pytest.raises(ValidationError, match=message):
        Disk.model_validate(disk)


def test_a_volume_that_is_not_there_is_reported():
    with pytest.raises(sim.InputError, match=r"read|no volume named 'nsa'; did you mean 'nas'\?"):
        model("{iops: 1}", "{read: 1 B, volume: nsa}", "rate: 1/s", VOLUME)


# Measurements.


def rows(*path):
    file = DATA.joinpath(*path)
    if not file.exists():
        pytest.skip(f"no measurements at {file}")
    with file.open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_fio_with_a_cap_is_predicted_from_one_uncapped_row():
    """Throughput and mean latency of all capped rows within 2 %, from the latency at depth 1 without a cap.

    The tool keeps its cap in bursts and stalls of 100 ms, we pace: percentiles are not predicted.
    """
    measured = rows("lab", "disk_fio.csv")
    alone = next(float(row["mean_ms"]) for row in measured if row["iops_cap"] == "none" and row["qd"] == "1")
    capped = [row for row in measured if row["iops_cap"] != "none"]
    assert len(capped) == 6
    for row in capped:
        disk = f"{{iops: {row['iops_cap']}, latency: {alone} ms, cv: 0.5}}"
        found = throughput(disk, "read: 4 KiB", f"users: {row['qd']}, think: 0 s, ramp_up: 1 s", 40.0)
        assert found == pytest.approx(float(row["tps"]), rel=0.02)
        assert int(row["qd"]) / found == pytest.approx(float(row["mean_ms"]) / 1e3, rel=0.02)


def test_fio_without_a_cap_is_predicted_at_small_depths_only():
    """From depth 1 (latency) and 64 (ceiling): depths 2 and 4 within 12 %.

    At 8, 16 and 32 we say 33, 58 and 32 % too much: on that machine two cores do all of the work of an operation,
    which slows down long before the ceiling.
    """
    measured = {int(row["qd"]): float(row["tps"]) for row in rows("lab", "disk_fio.csv") if row["iops_cap"] == "none"}
    errors = {}
    for depth, tps in measured.items():
        disk = f"{{iops: {measured[64]}, latency: {1 / measured[1]!r} s, cv: 0.5}}"
        errors[depth] = throughput(disk, "read: 4 KiB", f"users: {depth}, think: 0 s, ramp_up: 0.1 s", 2.0) / tps - 1
    assert all(abs(errors[depth]) < 0.02 for depth in (1, 64))
    assert all(0 <= errors[depth] < 0.12 for depth in (2, 4))
    assert all(0.25 < errors[depth] < 0.65 for depth in (8, 16, 32))


@pytest.mark.slow
def test_mysql_on_provisioned_iops_is_predicted_from_one_row():
    """Transactions a second at 8,000 to 24,000 IOPS within 6 %, from the row at 12,000.

    Below 8,000 the run is too short to warm the buffer pool, so there are more reads a transaction; above 24,000 the
    machine's own limit holds (the measured plateau).
    """
    measured = {
        float(row["nominal_iops"]): float(row["tps_mean_2nd_half"])
        for row in rows("percona_cloud_iops", "tps_vs_iops.csv")
    }
    operations = 12_000 / measured[12_000]
    for iops in (8000, 16_000, 20_000, 24_000):
        disk = f"{{iops: {iops}, latency: 1 ms}}"
        steps = f"{{read: 16 KiB, times: {{uniform: {{low: 0, high: {2 * operations!r}}}}}}}"
        found = throughput(disk, steps, "users: 32, think: 0 s", 20.0)
        assert found == pytest.approx(measured[iops], rel=0.06), (iops, found, measured[iops])


@pytest.mark.slow
def test_tpcc_on_another_ssd_is_predicted_roughly():
    """From the NVMe's whole curve and one row of the SATA disk: mean error 12 %, at worst 24 %, by size of the cache.

    A transaction computes on one of 56 hardware threads, and waits for its misses, which are as many on both disks.
    """
    measured: dict[str, dict[int, float]] = {}
    for row in rows("percona_tpcc_storage", "notpm.csv"):
        measured.setdefault(row["device"], {})[int(row["buffer_pool_gb"])] = float(row["notpm"]) / 60
    nvme, sata = measured["PM1725 NVMe"], measured["SM863 SATA"]
    computing = 56 / max(nvme.values())
    slower = (56 / sata[5] - computing) / (56 / nvme[5] - computing)
    errors = []
    for size in sorted(sata.keys() - {5}):
        misses = max(slower * (56 / nvme[size] - computing), 1e-9)
        system = sim.loads(
            f"hosts: {{h: {{cpu: 56, disk: {{iops: 1M IOPS, latency: {misses!r} s}}}}}}\n"
            f"services: {{s: {{host: h, operations: {{o: [{{compute: {computing!r} s}}, {{read: 16 KiB}}]}}}}}}\n"
            "workloads: {w: {users: 56, think: 0 s, operation: s.o}}"
        )
        [table] = records(system, 10.0).requests
        errors.append(float((table.end > 5.0).sum() / 5.0) / sata[size] - 1)
    assert max(abs(error) for error in errors) < 0.26
    assert math.fsum(abs(error) for error in errors) / len(errors) < 0.13
