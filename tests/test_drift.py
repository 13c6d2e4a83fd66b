"""Monitoring: the chart's false alarms and delays are those of theory, and a drift is found, sized and named.

Measurements are those of simulated runs, cut into windows. The changes of demand that have to be found are known.
"""

import csv
import json
import math
import re
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import simulator as sim
from simulator.calibration.cusum import Chart, find_shift, scores_of
from simulator.calibration.drift import monitor
from simulator.calibration.expected import Expectation, Need
from simulator.program.stations import capacity_of
from simulator.records import STATION_FIELDS, WINDOWS, WORKLOAD_FIELDS
from simulator.report.drift_tables import drift_sentence

MODELS = Path(__file__).parent.parent / "models" / "techniques" / "monitoring"
MEASURED = MODELS / "measured.csv"
BEFORE, AFTER = MODELS / "before.yaml", MODELS / "after.yaml"
RESOURCES = ("hosts.app.cpu", "hosts.db.cpu", "hosts.db.disk")
WINDOW = 15.0
BUSY = STATION_FIELDS.index("busy_area")
ARRIVED = WORKLOAD_FIELDS.index("arrived")
HEADER = ["time", "offered", "throughput", "latency", *(f"{name}: utilization" for name in RESOURCES)]
FAST = sim.Settings(seed=3, duration=100.0, replications=6, jobs=1)


def windows_of(model, seed, overrides=()):
    """WINDOWS rows of HEADER, without the time, from a run; of WINDOW seconds each."""
    program = sim.lower(sim.load(model, overrides))
    records = sim.simulate(program, WINDOWS * WINDOW, seed, 0, "compiled")
    arrived = np.diff(records.workloads[:, 0, ARRIVED]) / WINDOW
    table = records.requests[0]
    done = np.isfinite(table.end)
    place = np.minimum((table.end[done] / WINDOW).astype(int), WINDOWS - 1)
    completed = np.bincount(place, minlength=WINDOWS)
    latency = np.bincount(place, table.end[done] - table.arrival[done], WINDOWS) / completed
    stations = program.resources()
    used = [
        np.diff(records.stations[:, stations[name], BUSY].sum(axis=1))
        / (WINDOW * sum(capacity_of(program.stations[number]) for number in stations[name]))
        for name in RESOURCES
    ]
    return np.column_stack([arrived, completed / WINDOW, latency, *used])


@cache
def before(seed=1):
    return windows_of(BEFORE, seed)


def table(path, rows, header=HEADER, columns=None):
    """Write windows as a CSV; only those columns, where they are given."""
    kept = [name for name in header if columns is None or name in ("time", *columns)]
    with path.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(kept)
        for number, row in enumerate(rows):
            cells = dict(zip(header, [number * WINDOW, *row], strict=True))
            writer.writerow([repr(float(cells[name])) for name in kept])
    return path


@pytest.fixture(scope="module")
def changed():
    """Forty windows before and thirty after; those of the run's start, which is empty, are left out."""
    return np.vstack([before()[5:45], windows_of(AFTER, 2)[5:35]])


# The chart


def test_scores_are_standard_normal_and_independent_from_the_third_value_on():
    values = np.random.default_rng(1).normal(7.0, 3.0, (4000, 12))
    found = np.array([scores_of(row) for row in values])[:, 2:]
    assert np.allclose(found.mean(axis=0), 0.0, atol=4 / math.sqrt(4000))
    assert np.allclose(found.std(axis=0), 1.0, atol=4 / math.sqrt(2 * 4000))
    assert np.allclose(np.corrcoef(found.T), np.eye(10), atol=4.5 / math.sqrt(4000))


def test_the_run_length_is_that_of_the_tables():
    """Montgomery, Introduction to Statistical Quality Control, table 9.3: k = 1/2, no shift."""
    assert Chart(0.5, 4.0).run_length == pytest.approx(168.0, rel=0.01)
    assert Chart(0.5, 5.0).run_length == pytest.approx(465.0, rel=0.01)


def test_false_alarms_are_as_rare_as_the_run_length_says():
    """Alarms of a chart without memory of its start come at a constant rate, so few are left by exp(-n / ARL)."""
    chart, tested, series = Chart(0.5, 4.0, 20), 170, 400
    values = np.random.default_rng(2).normal(0.0, 1.0, (series, chart.baseline + tested))
    quiet = sum(find_shift(row, chart) is None for row in values) / series
    expected = math.exp(-tested / chart.run_length)
    assert abs(quiet - expected) < 3.5 * math.sqrt(expected * (1 - expected) / series)


@pytest.mark.parametrize("direction", [1, -1])
def test_a_shift_is_dated_and_has_its_direction(direction):
    values = np.random.default_rng(3).normal(0.0, 1.0, 100)
    values[60:] += direction * 6.0
    alarm = find_shift(values, Chart())
    assert (alarm.start, alarm.direction) == (60, direction)
    assert alarm.seen < 64


def test_one_bad_value_is_no_alarm_and_values_that_are_missing_are_skipped():
    values = np.random.default_rng(4).normal(0.0, 1.0, 60)
    values[40] = 1000.0
    values[[3, 30]] = np.nan
    assert find_shift(values, Chart()) is None
    values[50:] = 5.0
    assert find_shift(values[[*range(40), *range(41, 60)]], Chart()).start == 49


def test_what_never_varies_is_no_drift_until_it_does():
    assert find_shift(np.full(50, 0.3), Chart()) is None
    assert find_shift(np.concatenate([np.full(40, 0.3), np.full(10, 0.4)]), Chart()).start == 40


@pytest.mark.parametrize("wrong", [{"allowance": 0.0}, {"threshold": -1.0}, {"threshold": math.nan}, {"baseline": 2}])
def test_a_chart_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(ValueError, match="expected"):
        Chart(**wrong)


# What is predicted


def test_far_from_saturation_nothing_is_simulated_for_throughput_and_near_it_is():
    expectation = Expectation(sim.load(BEFORE), FAST)
    low, high = {"clients": 80.0}, {"clients": 260.0}
    expectation.prepare([Need(low, False)])
    assert expectation.simulated == {}
    assert expectation.throughput("clients", low) == 80.0
    assert expectation.utilization(low) == pytest.approx(0.4)
    expectation.prepare([Need(high, False)])
    assert expectation.throughput("clients", high) == pytest.approx(200.0, rel=0.03)
    assert expectation.demand("hosts.db.disk", high) == pytest.approx(0.005)
    expectation.prepare([Need(high, True)])
    assert math.isnan(expectation.latency("clients", high))


# Drift


def test_the_shipped_measurements_are_of_before_and_after(changed):
    header, *lines = [line.split(",") for line in MEASURED.read_text().splitlines() if not line.startswith("#")]
    shipped = np.array(lines, dtype=float)
    assert header == HEADER
    assert shipped[:, 0].tolist() == [number * WINDOW for number in range(70)]
    np.testing.assert_allclose(shipped[:, 1:], changed, rtol=1e-4)


def test_a_slower_disk_is_found_sized_and_named(changed, tmp_path):
    """Within three windows; and the true factor, 1.6, is within its interval."""
    found = monitor(BEFORE, table(tmp_path / "measured.csv", changed), settings=FAST)
    assert abs(found.drift.start - 40) <= 1
    assert found.drift.seen <= 42
    (moved,) = found.drift.moved
    assert (moved.kind, moved.of) == ("demand", "hosts.db.disk")
    assert moved.factor.contains(1.6)
    assert moved.factor.half_width < 0.05
    assert [each.kind for each in found.drift.changes] == ["latency", "demand"]
    says = drift_sentence(found)
    assert re.search(
        r"^from 600.0 s on, .* latency is \d+.* above what the model says; the demand on hosts.db.disk", says
    )
    assert "nothing else" in says


def test_without_its_utilization_the_drift_is_of_something_not_measured(changed, tmp_path):
    columns = ["offered", "throughput", "latency", "hosts.app.cpu: utilization"]
    found = monitor(BEFORE, table(tmp_path / "measured.csv", changed, columns=columns), settings=FAST)
    assert abs(found.drift.start - 40) <= 1
    assert found.drift.moved == ()
    assert "something that is not measured moved" in drift_sentence(found)


def test_a_model_that_knows_of_the_change_sees_it_as_an_offset_and_not_as_drift(changed, tmp_path):
    found = monitor(AFTER, table(tmp_path / "measured.csv", changed[:40]), settings=FAST)
    assert found.drift is None
    offsets = {(kind, of): ratio for kind, of, ratio in found.offsets}
    assert offsets["demand", "hosts.db.disk"].contains(1 / 1.6)
    assert offsets["latency", "clients"].high < 0.7


def test_another_load_is_drift_only_where_what_is_offered_is_not_told(tmp_path):
    rows = np.vstack([before()[5:45], windows_of(BEFORE, 4, ["workloads.clients.rate=100/s"])[5:25]])
    assert monitor(BEFORE, table(tmp_path / "measured.csv", rows), settings=FAST).drift is None
    columns = [name for name in HEADER[2:] if name != "latency"]
    found = monitor(BEFORE, table(tmp_path / "measured.csv", rows, columns=columns), settings=FAST)
    (moved,) = found.drift.moved
    assert (found.drift.start, moved.kind) == (40, "load")
    assert moved.factor.contains(1.25)


def test_an_outage_is_drift(changed, tmp_path):
    path = table(tmp_path / "measured.csv", changed[:40])
    path.write_text(path.read_text() + "".join(f"{WINDOW * number},80,0,,0,0,0\n" for number in range(40, 45)))
    found = monitor(BEFORE, path, settings=FAST)
    assert found.drift.start == 40
    assert "throughput is at most 0.001 times what the model says" in drift_sentence(found)


def test_demands_of_several_workloads_are_those_of_their_mix(tmp_path):
    """Pages take 1.3 times the 5 ms of the model from the 30th window on, reports their 200 ms; on two servers."""
    random, lines = np.random.default_rng(1), ["time,visitors: offered,clerks: offered,hosts.app.cpu: utilization"]
    for number in range(50):
        visitors, clerks = random.normal(120.0, 4.0), random.normal(2.0, 0.2)
        work = visitors * 0.005 * (1.3 if number >= 30 else 1.0) + clerks * 0.2
        lines.append(f"{number},{visitors},{clerks},{work / 2 * random.normal(1.0, 0.01)}")
    path = tmp_path / "measured.csv"
    path.write_text("\n".join(lines))
    found = monitor(MODELS.parent / "microservices" / "before.yaml", path)
    (moved,) = found.drift.moved
    assert (found.drift.start, moved.of) == (30, "hosts.app.cpu")
    assert moved.factor.contains((0.6 * 1.3 + 0.4) / 1.0)
    assert moved.factor.half_width < 0.02


def test_nothing_drifts_where_nothing_changed(tmp_path):
    assert monitor(BEFORE, table(tmp_path / "measured.csv", before()[5:]), settings=FAST).drift is None


@pytest.mark.slow
def test_false_alarms_on_simulated_measurements_are_those_of_independent_normal_values(tmp_path):
    """200 series of 60 windows, forty of them tested, of five measurements each.

    By default 0.23 % of series of normal values raise a false alarm: 2.3 are expected of 1,000. With a threshold of 4
    there are enough to count. Throughput is left out there: requests in flight at the end of a window are too few in
    one and too many in the next, so that its alarms are even rarer.
    """
    rows = np.vstack([before(seed)[5 : 5 + 180] for seed in range(10, 77)])[: 200 * 60]
    found = monitor(BEFORE, table(tmp_path / "measured.csv", rows), settings=FAST)
    pieces = {each.kind: each.residuals.reshape(200, 60) for each in found.series if each.kind == "throughput"}
    others = np.vstack([each.residuals.reshape(200, 60) for each in found.series if each.kind != "throughput"])
    assert alarms(np.vstack([*pieces.values(), others]), Chart()) <= 8
    normal = np.random.default_rng(9).normal(0.0, 1.0, (4000, 60))
    sensitive = Chart(threshold=4.0)
    assert alarms(others, sensitive) / len(others) == pytest.approx(alarms(normal, sensitive) / 4000, rel=0.3)


def alarms(rows, chart):
    """Number of series, one a row, in which the chart sees a shift."""
    return sum(find_shift(row, chart) is not None for row in rows)


# Reading


GOOD = "time,offered,hosts.db.disk: utilization\n" + "".join(f"{number * 60},80/s,40%\n" for number in range(25))


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("time,", "when,", "1:1", "no column 'time', it has: when"),
        ("offered", "offred", "1:2", "expected 'NAME: KIND' with KIND one of offered, throughput"),
        ("offered", "client: offered", "1:2", "did you mean 'clients'?"),
        ("hosts.db.disk", "hosts.db.disc", "1:3", "did you mean 'hosts.db.disk'?"),
        ("hosts.db.disk: u", "u", "1:3", "expected a resource that works"),
        ("hosts.db.disk: utilization", "clients: offered", "1:3", "in a column before"),
        ("120,80/s", "120,eighty", "4:2", "got 'eighty', expected a rate >= 0 such as '200/s', or a number of 1/s"),
        ("120,80/s", "120,-1", "4:2", "expected a rate >= 0"),
        ("120,80/s,40%", "120,80/s,40", "4:3", "expected a fraction from 0 to 1"),
        ("120,80/s,40%", "120,80/s", "4:1", "2 cells, expected 3"),
        ("120,", "60,", "4:1", "got '60', expected a time after that of the row above"),
        ("120,", "noon,", "4:1", "expected seconds or a timestamp"),
    ],
)
def test_a_bad_table_is_refused_where_it_is_wrong(tmp_path, old, new, place, message):
    path = tmp_path / "measured.csv"
    path.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(sim.InputError, match=re.escape(message)) as refused:
        monitor(BEFORE, path, settings=FAST)
    assert str(refused.value).startswith(f"{path}:{place}: ")


def test_all_problems_of_a_table_come_at_once(tmp_path):
    path = tmp_path / "measured.csv"
    path.write_text(GOOD.replace("60,80/s", "60,x", 1).replace("180,80/s", "180,y", 1))
    with pytest.raises(sim.InputError) as refused:
        monitor(BEFORE, path, settings=FAST)
    assert [problem.line for problem in refused.value.problems] == [3, 5]


@pytest.mark.parametrize(("text", "message"), [("", "no column 'time'"), ("time,offered\n", "no rows")])
def test_an_empty_table_is_refused(tmp_path, text, message):
    path = tmp_path / "measured.csv"
    path.write_text(text)
    with pytest.raises(sim.InputError, match=message):
        monitor(BEFORE, path, settings=FAST)


def test_too_few_windows_are_refused(tmp_path):
    path = tmp_path / "measured.csv"
    path.write_text("\n".join(GOOD.splitlines()[:15]))
    with pytest.raises(sim.InputError, match="14 windows, expected more than the 20 of the baseline"):
        monitor(BEFORE, path, settings=FAST)


def test_timestamps_and_empty_cells_are_read(tmp_path):
    lines = [f"2026-01-31T12:{number:02}:00Z,80,{'' if number % 5 == 0 else 0.4}" for number in range(30)]
    path = tmp_path / "measured.csv"
    path.write_text("\n".join(["time,offered,hosts.db.disk: utilization", *lines]))
    found = monitor(BEFORE, path, settings=FAST)
    assert [window.time - found.windows[0].time for window in found.windows[:3]] == [0.0, 60.0, 120.0]
    (series,) = found.series
    assert np.isnan(series.measured).sum() == 6
    assert np.nanmax(np.abs(series.residuals)) < 1e-12


# The command


QUICK = ("-d", "100s", "-r", "4", "-j", "1")


def test_the_command_says_what_moved_and_exits_with_4(changed, tmp_path, tpsim):
    path = table(tmp_path / "measured.csv", changed)
    code, out, err = tpsim("monitor", BEFORE, path, *QUICK)
    assert (code, err) == (4, "")
    assert re.search(r"^600.0 s .* begins$", out, re.MULTILINE)
    assert re.search(r"the demand on hosts\.db\.disk is 1\.[56]\d* \[", re.sub(r"\s+", " ", out))
    assert max(map(len, out.splitlines())) <= 80
    code, out, _ = tpsim("monitor", BEFORE, path, *QUICK, "--json")
    data = json.loads(out, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert (code, data["schema_version"], data["drift"]["start_time"]) == (4, 1, "600.0")
    assert [each["of"] for each in data["drift"]["moved"]] == ["hosts.db.disk"]
    assert sum(window["drift"] for window in data["windows"]) == 30


def test_the_command_exits_with_0_without_drift_and_2_for_a_chart_without_sense(changed, tmp_path, tpsim):
    path = table(tmp_path / "measured.csv", changed[:40])
    code, out, _ = tpsim("monitor", BEFORE, path, *QUICK)
    assert code == 0
    assert "none in 40 windows" in out
    assert "warning" not in out
    _, out, _ = tpsim("monitor", BEFORE, path, *QUICK, "--baseline", "4")
    assert "a shift soon after 4 windows alone may pass for normal" in " ".join(out.split())
    code, out, err = tpsim("monitor", BEFORE, path, *QUICK, "--threshold", "0")
    assert (code, out) == (2, "")
    assert "threshold" in err


def test_the_command_names_the_place_of_a_bad_cell(tmp_path, tpsim):
    path = tmp_path / "measured.csv"
    path.write_text(GOOD.replace("120,80/s", "120,eighty", 1))
    code, out, err = tpsim("monitor", BEFORE, path, *QUICK)
    assert (code, out) == (3, "")
    assert err.startswith(f"{path}:4:2: clients: offered: got 'eighty'")
