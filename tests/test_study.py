"""Studies find what theory says: differences, grids, capacities and predictions of known systems.

The system is a disk of queue depth 1 under Poisson arrivals, which is M/M/1: the mean response is 1 / (mu - lambda).
"""

import math
import pickle
import time
from functools import partial

import numpy as np
import pytest

from simulator.calibration.validate import mean_absolute_percentage_error, validate
from simulator.errors import InputError, UsageError
from simulator.model.files import load, loads
from simulator.model.objective import Objective
from simulator.study.capacity import capacity
from simulator.study.compare import compare
from simulator.study.executor import WorkerLostError, map_tasks
from simulator.study.run import Experiment, Settings, finish
from simulator.study.sweep import Axis, grid, sweep, tidy

SERVICE_RATE = 100.0
DISK = """
name: disk
hosts: {box: {cpu: 1, disk: {iops: 100, queue_depth: 1}, price: $1/h}}
services: {store: {host: box, operations: {get: [{read: 4 KiB}]}}}
workloads: {load: {rate: 50/s, operation: store.get}}
measurements:
  file: measured.csv
  set: {rate: workloads.load.rate, iops: hosts.box.disk.iops}
  compare: {mean_s: mean, per_s: throughput}
  fitted: {rate: [40/s]}
"""
USERS = """
name: users
hosts: {box: {cpu: 1, disk: {iops: 100, queue_depth: 1}}}
services: {store: {host: box, operations: {get: [{read: 4 KiB}]}}}
workloads: {people: {users: 10, think: {exponential: 1 s}, operation: store.get}}
"""
SLOW_CPU = "[{compute: 12 ms}, {read: 4 KiB}]"
QUICK = Settings(duration=20.0, replications=6, seed=3)


def mean_response(rate, service_rate=SERVICE_RATE):
    return 1.0 / (service_rate - rate)


@pytest.fixture
def disk():
    return loads(DISK)


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "disk.yaml"
    path.write_text(DISK)
    return path


def plain(results):
    """Results as they are written, without how long they took; NaN is None and so equals itself."""
    return {name: value for name, value in results.to_json().items() if name != "wall_s"}


# Compare


def of(comparison, metric, workload="load"):
    return next(each for each in comparison.differences[workload] if each.metric == metric)


def test_a_paired_interval_holds_the_truth_and_is_narrower(disk):
    settings = Settings(duration=100.0, replications=12, seed=1)
    found = of(compare(disk, loads(DISK, ["hosts.box.disk.iops=110"]), settings), "mean")
    truth = mean_response(50.0, 110.0) - mean_response(50.0)
    assert found.significant
    assert found.difference.low <= truth <= found.difference.high
    assert found.ratio.low <= mean_response(50.0, 110.0) / mean_response(50.0) <= found.ratio.high
    unpaired = math.hypot(found.first.half_width, found.second.half_width)
    assert found.difference.half_width < unpaired / 2
    assert found.difference.n == 12


def test_the_same_settings_differ_by_exactly_nothing(disk):
    comparison = compare(disk, loads(DISK), QUICK)
    assert plain(comparison.first) == plain(comparison.second)
    for each in (*comparison.differences["load"], comparison.utilization):
        assert (each.difference.value, each.difference.low, each.difference.high) == (0.0, 0.0, 0.0)
        assert not each.significant
    assert comparison.cost_difference_per_hour == 0.0


def test_differences_are_those_of_the_values_beside_them(disk):
    comparison = compare(disk, loads(DISK, ["hosts.box.disk.iops=80", "hosts.box.price=$2/h"]), QUICK)
    rows = [*comparison.differences["load"], comparison.utilization, *comparison.cost]
    assert len(rows) >= 9
    for each in rows:
        assert each.difference.value == each.second.value - each.first.value
        assert each.difference.low <= each.difference.value <= each.difference.high
        if each.first.value:
            assert each.ratio.value == each.second.value / each.first.value


def test_utilizations_of_different_resources_have_no_difference(disk):
    comparison = compare(disk, loads(DISK, [f"services.store.operations.get={SLOW_CPU}"]), QUICK)
    assert comparison.busiest == ("hosts.box.disk", "hosts.box.cpu")
    found = comparison.utilization
    assert found.first.value == pytest.approx(0.5, abs=0.1)
    assert found.second.value == pytest.approx(0.6, abs=0.1)
    assert math.isnan(found.difference.value)
    assert math.isnan(found.ratio.value)
    assert not found.significant


def test_a_model_with_another_seed_runs_under_the_same_numbers(disk):
    comparison = compare(disk, loads(DISK, ["run.seed=77"]), Settings(duration=20.0, replications=2))
    assert plain(comparison.first) == plain(comparison.second)


def test_an_unstable_side_has_no_latency(disk):
    comparison = compare(disk, loads(DISK, ["workloads.load.rate=150/s"]), QUICK)
    found = of(comparison, "p95")
    assert not comparison.second.stable
    assert math.isfinite(found.first.value)
    assert all(math.isnan(each.value) for each in (found.second, found.difference, found.ratio))
    assert of(comparison, "throughput").significant
    assert comparison.utilization.second.value == pytest.approx(1.0, abs=0.05)


def test_what_cannot_be_compared_is_refused(disk):
    with pytest.raises(UsageError, match="at least two"):
        compare(disk, disk, Settings(duration=5.0, replications=1))
    with pytest.raises(UsageError, match="no workload in common"):
        compare(disk, loads(USERS), Settings(duration=5.0, replications=2))


# Sweep


def test_axes_and_grid():
    axes = [Axis.parse("a.b=1, 2"), Axis.parse("c=4..8..2"), Axis.parse("d=x")]
    assert [axis.values for axis in axes] == [("1", "2"), ("4", "6", "8"), ("x",)]
    assert grid(axes[:2]) == [{"a.b": a, "c": c} for a in "12" for c in "468"]
    assert grid([]) == [{}]


@pytest.mark.parametrize("text", ["", "a", "=1", "a=", "a=,", "a=3..1", "a=1..x", "a=1..5..0"])
def test_axes_that_are_none(text):
    with pytest.raises(InputError, match="expected path=value"):
        Axis.parse(text)


def test_a_sweep_is_in_order_and_tidy(file):
    told = []
    axes = [Axis.parse("workloads.load.rate=20/s,60/s,120/s"), Axis.parse("hosts.box.count=1..2")]
    points = sweep(file, axes, ["name=swept"], Settings(duration=20.0, replications=3), lambda *each: told.append(each))
    assert [point for point, _ in points] == grid(axes)
    assert told == [(number, 6) for number in range(1, 7)]
    assert {results.model for _, results in points} == {"swept"}
    assert [results.cost.per_hour for _, results in points] == [1.0, 2.0] * 3
    table = tidy(points)
    assert list(table.columns) == [
        "workloads.load.rate", "hosts.box.count", "stable", "cost_per_hour", "of", "metric", "value", "low", "high",
    ]  # fmt: skip
    assert table["hosts.box.count"].dtype == np.int64
    one = table[(table["of"] == "load") & (table["hosts.box.count"] == 1)]
    throughput = one[one["metric"] == "throughput_per_s"].set_index("workloads.load.rate")
    assert throughput["value"].tolist() == pytest.approx([20.0, 60.0, 100.0], rel=0.15)
    assert throughput["stable"].tolist() == [True, True, False]
    means = one[one["metric"] == "latency_mean_s"].set_index("workloads.load.rate")["value"]
    assert means.index.tolist() == ["20/s", "60/s"]
    assert not table.duplicated(["workloads.load.rate", "hosts.box.count", "of", "metric"]).any()


def test_problems_of_all_points_come_before_any_is_simulated(file, monkeypatch):
    monkeypatch.setattr("simulator.study.sweep.map_tasks", lambda *_: pytest.fail("it simulated"))
    axes = [Axis.parse("hosts.box.count=1,none"), Axis.parse("workloads.load.rate=5/s,fast,-1/s")]
    with pytest.raises(InputError) as caught:
        sweep(file, axes)
    sources = sorted({problem.source for problem in caught.value.problems})
    assert sources == [
        "--vary hosts.box.count=none", "--vary workloads.load.rate=-1/s", "--vary workloads.load.rate=fast",
    ]  # fmt: skip
    assert len(caught.value.problems) == 3


def test_jobs_change_no_point(file):
    axes = [Axis.parse("workloads.load.rate=20/s,60/s")]
    one, two = (sweep(file, axes, (), Settings(duration=5.0, replications=2, jobs=jobs)) for jobs in (1, 2))
    assert [plain(results) for _, results in one] == [plain(results) for _, results in two]


# Capacity


def objective(text):
    return (Objective.model_validate(text),)


def test_the_capacity_of_a_disk(disk):
    trials = []
    answer = capacity(
        disk, objective("mean < 50 ms"), Settings(duration=150.0, replications=6, seed=2), 0.05,
        lambda *trial: trials.append(trial),
    )  # fmt: skip
    truth = 80.0 / 50.0
    assert answer.factor.low <= truth <= answer.factor.high
    assert answer.factor.value == pytest.approx(truth, rel=0.1)
    assert answer.factor.n == len(trials) == len(answer.trials)
    assert [(factor, met) for factor, met, _ in answer.trials] == trials
    assert "mean < 50 ms is not met" in answer.limit
    assert answer.at_limit.stable
    assert all(each.met for each in answer.at_limit.objectives)
    assert answer.at_limit.workloads["load"].throughput_per_s.value == pytest.approx(80.0, rel=0.1)


def test_a_load_is_not_met_where_the_backlog_grows(disk):
    answer = capacity(disk, objective("error rate < 1%"), Settings(duration=100.0, replications=4), 0.1)
    assert answer.factor.value == pytest.approx(2.0, rel=0.2)
    assert "unstable" in answer.limit


def test_an_objective_out_of_reach(disk):
    assert capacity(disk, objective("mean < 5 ms"), Settings(duration=5.0, replications=2)) is None


def test_the_capacity_in_users():
    """The response of M/M/1//N by mean value analysis says how many users there can be."""
    service, think, limit = 0.01, 1.0, 0.05
    waiting, bound = 0.0, 0
    for users in range(1, 1000):
        response = service * (1.0 + waiting)
        waiting = users * response / (response + think)
        if response > limit:
            break
        bound = users
    answer = capacity(loads(USERS), objective("mean < 50 ms"), Settings(duration=60.0, replications=5, seed=4), 0.05)
    low, high = (10 * each for each in (answer.factor.low, answer.factor.high))
    assert round(low) <= bound + 1
    assert bound <= round(high)
    assert answer.factor.value * 10 == pytest.approx(bound, rel=0.1)


def test_a_load_that_cannot_be_multiplied():
    replay = DISK.replace("rate: 50/s,", "replay: {times: [0 s, 1 s, 2 s]},").split("measurements")[0]
    with pytest.raises(UsageError, match="cannot be multiplied"):
        capacity(loads(replay), objective("mean < 1 s"), Settings(duration=5.0, replications=2))


def test_capacity_needs_an_objective(disk):
    with pytest.raises(UsageError, match="no objectives"):
        capacity(disk, (), QUICK)


# Validate


def measured_by_theory(path, rates, iops=100):
    rows = ["rate,iops,label,mean_s,per_s"]
    rows += [f"{rate}/s,{iops},r{rate},{mean_response(rate, iops)!r},{rate}" for rate in rates]
    path.write_text("# made by theory\n" + "\n".join(rows) + "\n")


def test_predictions_of_a_disk_are_those_of_theory(file):
    measured_by_theory(file.with_name("measured.csv"), [40, 60, 75])
    told = []
    found = validate(file, settings=Settings(duration=100.0, replications=6), tell=lambda *each: told.append(each))
    assert told == [(1, 3), (2, 3), (3, 3)]
    assert (found.model, found.source) == ("disk", str(file.with_name("measured.csv")))
    assert [each.line for each in found.comparisons] == [3, 3, 4, 4, 5, 5]
    assert [each.column for each in found.comparisons] == ["mean_s", "per_s"] * 3
    assert [each.row["label"] for each in found.fitted] == ["r40"] * 2
    assert [each.row["label"] for each in found.held_out] == ["r60"] * 2 + ["r75"] * 2
    for each in found.comparisons:
        wide = 2.0 * each.predicted.half_width
        assert abs(each.predicted.value - each.measured) <= wide
        assert each.error == pytest.approx(each.predicted.value / each.measured - 1.0)
    errors = [abs(each.error) for each in found.held_out]
    assert mean_absolute_percentage_error(found.held_out) == pytest.approx(sum(errors) / 4)
    assert math.isnan(mean_absolute_percentage_error([]))


def test_a_wrong_model_is_found_out(file):
    measured_by_theory(file.with_name("measured.csv"), [40, 60], iops=100)
    text = file.with_name("measured.csv").read_text()
    file.with_name("measured.csv").write_text(text.replace(",100,", ",80,"))
    found = validate(file, settings=QUICK)
    assert mean_absolute_percentage_error([each for each in found.comparisons if each.column == "mean_s"]) > 0.3


def test_rows_are_chosen(file, tmp_path):
    measured_by_theory(tmp_path / "other.csv", [40, 60, 75])
    settings = Settings(duration=5.0, replications=2)
    chosen = validate(file, tmp_path / "other.csv", (), {"label": ["r60", "r75"]}, settings)
    assert [each.row["rate"] for each in chosen.comparisons] == ["60/s"] * 2 + ["75/s"] * 2
    held_out = validate(file, tmp_path / "other.csv", (), {}, settings, held_out=True)
    assert not held_out.fitted
    assert len(held_out.held_out) == 4
    with pytest.raises(InputError, match="no column 'colour' to choose by"):
        validate(file, tmp_path / "other.csv", (), {"colour": ["red"]}, settings)
    with pytest.raises(InputError, match="no row has label r1"):
        validate(file, tmp_path / "other.csv", (), {"label": ["r1"]}, settings)


def test_measured_numbers_may_have_units(file):
    table, compared = file.with_name("measured.csv"), []
    for row in ("40/s,100,0.02,40", "40/s,100,20 ms,2400/min"):
        table.write_text(f"rate,iops,mean_s,per_s\n{row}\n")
        compared.append(validate(file, settings=QUICK).comparisons)
    assert [each.measured for each in compared[1]] == [each.measured for each in compared[0]] == [0.02, 40.0]


def test_an_unstable_prediction_has_no_latency(file):
    file.with_name("measured.csv").write_text("rate,iops,mean_s,per_s\n130/s,100,0.5,99\n60/s,100,0.025,60\n")
    found = validate(file, settings=QUICK)
    errors = [each.error for each in found.comparisons]
    assert [math.isnan(error) for error in errors] == [True, False, False, False]
    assert math.isfinite(mean_absolute_percentage_error(found.held_out))


BAD = {
    "a text in a number": (
        "rate,iops,mean_s,per_s\n40/s,100,slow,40\n",
        ":2:3: mean_s: got 'slow', expected a duration above 0 such as '5 ms', or a number of seconds",
    ),
    "a measurement of nothing": (
        "rate,iops,mean_s,per_s\n40/s,100,0,40\n",
        ":2:3: mean_s: got '0', expected a duration",
    ),
    "another unit": (
        "rate,iops,mean_s,per_s\n40/s,100,20 ms,40 ms\n",
        ":2:4: per_s: got '40 ms', expected a rate above 0",
    ),
    "an infinite measurement": ("rate,iops,mean_s,per_s\n40/s,100,inf,40\n", ":2:3: mean_s: got 'inf'"),
    "a text in a field": ("rate,iops,mean_s,per_s\n40/s,many,0.02,40\n", ":2:2: iops"),
    "an empty cell in a field": (
        "rate,iops,mean_s,per_s\n40/s,,0.02,40\n",
        ":2:2: iops: got nothing, expected a value",
    ),
    "a number without its unit": ("rate,iops,mean_s,per_s\n\n40,100,0.02,40\n", ":3:1: rate: got 40, expected a rate"),
    "a short row": ("rate,iops,mean_s,per_s\n40/s,100,0.02,40\n40/s,100,0.02\n", ":3:1: 3 cells, expected 4"),
    "a long row": ("rate,iops,mean_s,per_s\n40/s,100,0.02,40,1\n", ":2:1: 5 cells, expected 4"),
    "a missing column": ("rate,iops,mean_s\n40/s,100,0.02\n", ":1:1: no column 'per_s', it has: rate, iops, mean_s"),
    "an empty file": ("", ":1:1: no column 'rate', it has: none"),
    "no row": ("rate,iops,mean_s,per_s\n", ": no row is left"),
    "an open quote": ('rate,iops,mean_s,per_s\n"40/s,100,0.02,40\n', ":2:1: "),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_tables_are_refused_at_their_place(file, case, monkeypatch):
    monkeypatch.setattr("simulator.calibration.validate.map_tasks", lambda *_: pytest.fail("it simulated"))
    text, message = BAD[case]
    table = file.with_name("measured.csv")
    table.write_text(text)
    with pytest.raises(InputError) as caught:
        validate(file)
    assert str(caught.value).startswith(f"{table}{message}")


def test_all_problems_of_a_table_come_at_once(file):
    table = file.with_name("measured.csv")
    table.write_text("rate,iops,mean_s,per_s\nfast,100,0.02,40\n40/s,100,x,y\n40/s,100\n40/s,0,0.02,40\n")
    with pytest.raises(InputError) as caught:
        validate(file)
    places = sorted((problem.line, problem.column) for problem in caught.value.problems)
    assert places == [(2, 1), (3, 3), (3, 4), (4, 1), (5, 2)]


def test_a_missing_table_is_said(file, tmp_path):
    with pytest.raises(InputError) as caught:
        validate(file, tmp_path / "nowhere.csv")
    assert str(caught.value).startswith(f"{tmp_path / 'nowhere.csv'}: no such file")
    file.write_text(DISK.replace("  file: measured.csv\n", ""))
    with pytest.raises(InputError, match=r"measurements\.file: missing"):
        validate(file)
    file.write_text(DISK.split("measurements")[0])
    with pytest.raises(InputError, match="no measurements section"):
        validate(file)


# Runs and workers


def test_precision_is_reached_or_not(disk, monkeypatch):
    easy = finish(Experiment(disk, Settings(duration=50.0, replications=2, precision=0.1)))
    assert easy.precision_reached
    assert easy.workloads["load"].latency_s["mean"].relative_half_width <= 0.1
    monkeypatch.setattr("simulator.study.run.MOST_REPLICATIONS", 5)
    hard = finish(Experiment(disk, Settings(duration=1.0, replications=2, precision=0.001)))
    assert not hard.precision_reached
    assert hard.replications == 5


def test_adding_replications_changes_none(disk):
    one, other = (Experiment(disk, Settings(duration=5.0, seed=9)) for _ in range(2))
    one.extend(4)
    other.extend(1)
    other.extend(4)
    digests = [[each.digest for each in experiment.replications] for experiment in (one, other)]
    assert digests[0][1:] == digests[1][1:]
    assert digests[0] == digests[1]


def test_results_travel(disk):
    results = finish(Experiment(disk, Settings(duration=5.0, replications=2)))
    assert plain(pickle.loads(pickle.dumps(results))) == plain(results)


def square(number):
    return number * number


def die(number):
    import os
    import signal

    if number == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def refuse(number):
    raise InputError([]) if number < 2 else UsageError(f"not {number}")


def machine_code(_):
    """How much of it a worker has that has not simulated yet; the kernel is on disk before any test."""
    from simulator.engines.compiled.compiling import compiled_once

    return compiled_once.cache_info().currsize


def test_workers_come_with_the_engine_loaded():
    assert all(map_tasks(machine_code, range(2), 2))


def test_tasks_keep_their_order():
    assert list(map_tasks(square, range(20), 3)) == [number * number for number in range(20)]
    assert list(map_tasks(square, [], 3)) == []


def test_an_error_of_a_task_is_raised_here():
    with pytest.raises(UsageError, match="not 2"):
        list(map_tasks(refuse, [2, 3], 2))


def end_half_way(told):
    """Once told to, a result that is too long to go through the pipe unread, and an end of the worker meanwhile."""
    import os
    import signal
    import threading

    if told is None:
        return b""
    while not told.exists():
        time.sleep(0.01)
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGKILL)).start()
    return bytes(10_000_000)


@pytest.mark.parametrize("stops", [WorkerLostError, KeyboardInterrupt])
def test_a_worker_that_is_lost_half_way_through_a_result_holds_nobody_up(tmp_path, stops):
    told = tmp_path / "told"

    def wait(number, outcome):
        told.touch()
        time.sleep(1.0)
        if stops is KeyboardInterrupt:
            raise stops

    with pytest.raises(stops):
        list(map_tasks(end_half_way, [None, told], 2, wait))


def wait_for(told, number):
    while number == 0 and not told.exists():
        time.sleep(0.01)


def first_last(told, number):
    wait_for(told, number)
    return number


def test_outcomes_are_told_of_as_they_come(tmp_path):
    came, told = [], tmp_path / "told"

    def note(number, outcome):
        came.append((number, outcome))
        if number == 3:
            told.touch()

    assert list(map_tasks(partial(first_last, told), range(4), 2, note)) == [0, 1, 2, 3]
    assert came == [(1, 1), (2, 2), (3, 3), (0, 0)]


def refuse_first_last(told, number):
    wait_for(told, number)
    told.touch()
    raise UsageError(f"not {number}")


def test_the_first_error_is_raised_though_a_later_one_comes_before(tmp_path):
    with pytest.raises(UsageError, match="not 0"):
        list(map_tasks(partial(refuse_first_last, tmp_path / "told"), range(3), 2))


def test_a_lost_worker_is_said():
    with pytest.raises(WorkerLostError, match="fewer jobs"):
        list(map_tasks(die, range(4), 2))


def test_a_model_file_is_the_system(file):
    assert load(file) == loads(DISK)
