"""Plots show the right numbers, and draw without a warning; what is checked are the artists, not pictures."""

import math
import subprocess
import sys

import pandas as pd
import pytest
from matplotlib import pyplot
from matplotlib.collections import PolyCollection
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from simulator.calibration.validate import Comparison, Validation
from simulator.errors import UsageError
from simulator.model.files import loads
from simulator.report.plots import plot_breakdown, plot_latency, plot_scaling, plot_sweep, plot_validation
from simulator.results.estimate import Estimate
from simulator.study.run import Settings, run

pytestmark = pytest.mark.filterwarnings("error")

MODEL = """
hosts: {h: {cpu: 1}}
services: {s: {host: h, operations: {o: [{compute: {exponential: 10 ms}}, {delay: 20 ms}]}}}
workloads: {clients: {rate: 50/s, operation: s.o}}
"""


@pytest.fixture(autouse=True)
def _close():
    yield
    pyplot.close("all")


@pytest.fixture(scope="module")
def results():
    return run(loads(MODEL), Settings(duration=40.0, replications=3))


@pytest.fixture(scope="module")
def overloaded():
    return run(loads(MODEL, ["workloads.clients.rate=200/s"]), Settings(duration=20.0, replications=3))


def new_axes():
    return Figure(figsize=(6, 4), layout="constrained").subplots()


def drawn(axes):
    """The axes after all that a picture needs has been computed."""
    axes.figure.canvas.draw()
    return axes


def texts(axes):
    return [text.get_text() for text in axes.get_legend().get_texts()]


def comparison(protocol, cpus, measured, predicted, fitted=False, column="rps"):
    row = {"protocol": protocol, "cpus": str(cpus)}
    estimate = Estimate(predicted, 0.9 * predicted, 1.2 * predicted, 3)
    return Comparison(2, row, column, "throughput", "rate", measured, estimate, fitted)


VALIDATION = Validation(
    "m.yaml",
    "m.csv",
    (
        comparison("http", 1, 1000.0, 1100.0, fitted=True),
        comparison("http", 8, 8000.0, 9000.0),
        comparison("http", 32, 30000.0, 36000.0),
        comparison("https", 1, 500.0, 450.0, fitted=True),
        comparison("https", 8, 4000.0, 4100.0),
    ),
)


def bars_of(axes):
    """(label, marker's x, marker's y, y of the ends of the bars, whether hollow) of every group of markers."""
    for container in axes.containers:
        line, _, (bars,) = container
        ends = [(low[1], high[1]) for low, high in (path.vertices for path in bars.get_paths())]
        hollow = to_hex(line.get_markerfacecolor()) == "#ffffff"
        yield container.get_label(), list(line.get_xdata()), list(line.get_ydata()), ends, hollow


def test_validation_shows_predicted_over_measured():
    axes = drawn(plot_validation(VALIDATION))
    held_out, fitted = bars_of(axes)
    assert held_out[1:3] == ([8.0, 30.0, 4.0], [9.0, 36.0, 4.1])
    assert held_out[3] == [pytest.approx((8.1, 10.8)), pytest.approx((32.4, 43.2)), pytest.approx((3.69, 4.92))]
    assert (held_out[4], fitted[4]) == (False, True)
    assert fitted[1:3] == ([1.0, 0.5], [1.1, 0.45])
    assert held_out[0] == "held out (3): mean absolute error 11.7%"
    assert fitted[0] == "fitted (2): mean absolute error 10.0%"
    assert axes.get_xlabel() == "measured throughput (thousand requests/s)"
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    diagonal = next(line for line in axes.lines if len(line.get_xdata()) == 2 and line.get_linestyle() == "-")
    assert list(diagonal.get_xdata()) == list(diagonal.get_ydata()) == list(axes.get_xlim()) == list(axes.get_ylim())


def test_the_band_is_ten_per_cent_wide():
    axes = plot_validation(VALIDATION, new_axes())
    (band,) = (each for each in axes.collections if isinstance(each, PolyCollection))
    ratios = {round(y / x, 6) for x, y in band.get_paths()[0].vertices}
    assert ratios == {0.9, 1.1}


def test_validation_leaves_out_rows_without_a_prediction():
    one = VALIDATION.comparisons[0]
    none = comparison("http", 64, 9e9, math.nan)
    axes = plot_validation(Validation("m", "m", (one, none)))
    assert [label for label, *_ in bars_of(axes)] == ["fitted (1): mean absolute error 10.0%"]
    assert axes.get_xlim()[1] < 1e4
    with pytest.raises(UsageError, match="no row has a prediction"):
        plot_validation(Validation("m", "m", (none,)))


@pytest.mark.parametrize("plot", [plot_validation, lambda found, **names: plot_scaling(found, "cpus", **names)])
def test_one_of_several_columns_is_asked_for_by_name(plot):
    other = comparison("http", 1, 5.0, 5.0, column="p99")
    both = Validation("m", "m", (*VALIDATION.comparisons, other))
    with pytest.raises(UsageError, match=r"name one.*rps, p99"):
        plot(both)
    with pytest.raises(UsageError, match="'rpm' was not compared; known: rps, p99"):
        plot(both, compared="rpm")
    assert len(list(bars_of(plot(both, compared="p99")))) == 1


def test_scaling_shows_a_line_and_markers_for_each_group():
    axes = drawn(plot_scaling(VALIDATION, "cpus"))
    lines = [line for line in axes.lines if line.get_linestyle() == "-"]
    assert [list(line.get_xdata()) for line in lines] == [[1.0, 8.0, 32.0], [1.0, 8.0]]
    assert [list(line.get_ydata()) for line in lines] == [[1.1, 9.0, 36.0], [0.45, 4.1]]
    markers = [(xs, ys, hollow) for _, xs, ys, _, hollow in bars_of(axes)]
    assert markers == [
        ([1.0], [1.0], True), ([8.0, 32.0], [8.0, 30.0], False), ([1.0], [0.5], True), ([8.0], [4.0], False)
    ]  # fmt: skip
    band = axes.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((0.99, 43.2))
    assert texts(axes) == ["http", "https", "predicted", "measured, held out", "measured, fitted"]
    assert axes.get_xlabel() == "cpus"
    assert axes.get_ylabel() == "throughput (thousand requests/s)"
    assert axes.get_xscale() == "log"


def test_scaling_wants_a_numeric_column():
    with pytest.raises(UsageError, match=r"'protocol' is not a numeric column.*protocol, cpus"):
        plot_scaling(VALIDATION, "protocol")


def test_breakdown_adds_up_to_the_mean_latency(results):
    axes = drawn(plot_breakdown(results))
    mean = results.workloads["clients"].latency_s["mean"].value
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(1000.0 * mean)
    waiting, service = axes.containers
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels == ["s.cpu", "s.delay"] or labels == ["s.delay", "s.cpu"]
    cpu = results.workloads["clients"].breakdown["s.cpu"]
    place = labels.index("s.cpu")
    assert waiting[place].get_width() == pytest.approx(1000.0 * cpu.wait_s.value)
    assert service[place].get_width() == pytest.approx(1000.0 * cpu.service_s.value)
    assert service[place].get_x() == pytest.approx(1000.0 * cpu.wait_s.value)
    assert texts(axes) == ["waiting", "service"]
    ends = [list(line.get_xdata()) for line in axes.lines]
    wait = 1000.0 * cpu.wait_s.value
    shifted = [wait + 1000.0 * cpu.service_s.low, wait + 1000.0 * cpu.service_s.high]
    assert any(pair == pytest.approx(shifted) for pair in ends)
    assert axes.get_xlabel() == "mean time of a request (ms)"


def test_breakdown_sums_up_small_components():
    steps = ", ".join(f"{{delay: {'10 ms' if number < 2 else '1 us'}, name: d{number}}}" for number in range(6))
    model = f"""
hosts: {{h: {{cpu: 1}}}}
services: {{s: {{host: h, operations: {{o: [{steps}]}}}}}}
workloads: {{clients: {{rate: 50/s, operation: s.o}}}}
"""
    axes = plot_breakdown(run(loads(model), Settings(duration=5.0, replications=2)))
    labels = [label.get_text() for label in axes.get_yticklabels()]
    assert labels[0] == "4 more"
    assert sorted(labels[1:]) == ["s.d0", "s.d1"]
    assert sum(bar.get_width() for bar in axes.patches) == pytest.approx(20.004)


def test_latency_shows_percentiles_with_their_intervals(results):
    axes = drawn(plot_latency(results, "clients"))
    latency = results.workloads["clients"].latency_s
    shown = [key for key, estimate in latency.items() if math.isfinite(estimate.value)]
    dots = axes.lines[-1]
    assert list(dots.get_xdata()) == pytest.approx([1000.0 * latency[key].value for key in shown])
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["mean", "p50"]
    first = axes.lines[0]
    assert list(first.get_xdata()) == pytest.approx([1000.0 * latency["mean"].low, 1000.0 * latency["mean"].high])
    assert latency["p50"].show("duration") in [text.get_text() for text in axes.texts]
    assert axes.get_xlabel() == "latency (ms)"


@pytest.mark.parametrize("plot", [plot_breakdown, plot_latency])
def test_without_a_steady_state_there_is_only_a_word(plot, overloaded):
    axes = drawn(plot(overloaded))
    assert [text.get_text() for text in axes.texts] == ["no steady state: the backlog grows"]
    assert not axes.lines
    assert not axes.patches


@pytest.mark.parametrize("plot", [plot_breakdown, plot_latency])
def test_a_workload_that_is_not_there(plot, results):
    with pytest.raises(UsageError, match="got 'client'; known: clients"):
        plot(results, "client")


def tidy_rows(rates, counts=(2,), unstable=(), metric="latency_p99_s"):
    rows = []
    for rate in rates:
        for count in counts:
            point = {"workloads.w.rate": rate, "hosts.h.count": count, "stable": True, "cost_per_hour": 1.0}
            value = 0.1 * len(str(rate)) / count
            if (rate, count) not in unstable:
                rows.append({**point, "of": "w", "metric": metric, "value": value, "low": value - 0.01,
                             "high": value + 0.02})  # fmt: skip
            rows.append({**point, "of": "w", "metric": "error_rate", "value": 0.0, "low": 0.0, "high": 0.0})
            busy = {**point, "metric": "utilization", "value": 0.5, "low": 0.4, "high": 0.6}
            rows += [{**busy, "of": host} for host in ("h", "g")]
    return pd.DataFrame(rows)


def test_sweep_draws_a_line_with_a_band():
    table = tidy_rows(["1000/s", "900/s", "50/s"])
    axes = drawn(plot_sweep(table, "workloads.w.rate", "latency_p99_s"))
    (line,) = axes.lines
    assert list(line.get_xdata()) == pytest.approx([50.0, 900.0, 1000.0])
    assert list(line.get_ydata()) == pytest.approx([200.0, 250.0, 300.0])
    band = axes.collections[0].get_paths()[0].vertices
    assert (band[:, 1].min(), band[:, 1].max()) == pytest.approx((190.0, 320.0))
    assert axes.get_xlabel() == "workloads.w.rate (requests/s)"
    assert axes.get_ylabel() == "latency p99 (ms)"
    assert texts(axes) == ["w"]


def test_sweep_has_a_line_for_each_point_of_the_other_axes_and_marks_what_is_missing():
    table = tidy_rows([100, 200, 300], counts=(2, 3), unstable={(300, 2)})
    axes = drawn(plot_sweep(table, "workloads.w.rate", "latency_p99_s", new_axes()))
    two, three, missing = axes.lines
    assert list(two.get_xdata()) == [100.0, 200.0]
    assert list(three.get_xdata()) == [100.0, 200.0, 300.0]
    assert (missing.get_marker(), list(missing.get_xdata()), missing.get_color()) == ("x", [300], two.get_color())
    assert texts(axes) == ["hosts.h.count 2", "hosts.h.count 3", "no steady state"]


def test_sweep_draws_only_those_that_are_asked_for():
    table = tidy_rows([1, 2])
    assert texts(plot_sweep(table, "workloads.w.rate", "utilization")) == ["h", "g"]
    axes = plot_sweep(table, "workloads.w.rate", "utilization", of="g")
    assert texts(axes) == ["g"]
    assert list(axes.lines[0].get_ydata()) == [50.0, 50.0]
    assert axes.get_ylabel() == "utilization (%)"


def test_sweep_over_words_stands_in_their_order():
    axes = drawn(plot_sweep(tidy_rows(["round_robin", "random"]), "workloads.w.rate", "error_rate"))
    assert [label.get_text() for label in axes.get_xticklabels()] == ["round_robin", "random"]
    assert list(axes.lines[0].get_xdata()) == [0.0, 1.0]


def test_sweep_names_what_it_has():
    with pytest.raises(UsageError, match=r"no column 'rate' was varied; known: workloads\.w\.rate, hosts\.h\.count"):
        plot_sweep(tidy_rows([1]), "rate", "error_rate")
    with pytest.raises(UsageError, match="no 'p99' to draw; known: latency_p99_s, error_rate, utilization"):
        plot_sweep(tidy_rows([1]), "workloads.w.rate", "p99")


def test_the_given_axes_are_used_and_nothing_else_is_drawn(results):
    axes = new_axes()
    assert plot_latency(results, axes=axes) is axes
    assert plot_validation(VALIDATION, (other := new_axes())) is other
    assert pyplot.get_fignums() == []


def test_matplotlib_waits_until_something_is_drawn():
    program = "import sys; from simulator.report import plots; print('matplotlib' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
