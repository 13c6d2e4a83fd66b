"""Calibration: parameters found again, nothing learnt from what is held out, and what the rows do not say."""

import errno
import json
import math

import numpy as np
import pytest

import simulator as sim
from simulator.calibration.calibrate import calibrate
from simulator.calibration.misfit import Misfit
from simulator.calibration.parameter import parameters_of
from simulator.calibration.uncertainty import uncertainty
from simulator.calibration.validate import mean_absolute_percentage_error, read_table, simulated, validate
from simulator.errors import InputError
from simulator.model.rewriting import rewritten

SHOP = """# A shop.
name: shop
hosts:
  app: {cpu: 1}
  db: {cpu: 2, disk: {iops: 300, queue_depth: 1}}   # of a data sheet
services:
  web:
    host: app
    operations:
      page:
        - compute: {exponential: '6 ms'}   # a guess
      buy: [{call: db.put}]
  db:
    host: db
    operations:
      put: [{write: 8 KiB}]
workloads:
  visitors: {rate: 60/s, operation: web.page}
  buyers: {rate: 20/s, operation: web.buy}
measurements:
  file: shop.csv
  set: {rate: workloads.visitors.rate, orders: workloads.buyers.rate}
  compare: {page: "visitors: mean", page95: "visitors: p95", buy: "buyers: mean"}
  label: [rate]
  fitted: {rate: [20/s, 60/s, 100/s]}
"""
COMPUTE, IOPS = "services.web.operations.page.0.compute.exponential", "hosts.db.disk.iops"
TRUE = {COMPUTE: 4.2, IOPS: 200.0}
LOADS = ((20, 30), (60, 60), (100, 90), (140, 110))
FEW = sim.Settings(duration=60.0, replications=2)
FEWEST = sim.Settings(duration=20.0, replications=2)
LLM = """
hosts: {box: {cpu: 1}}
llms:
  own:
    step_time: {overhead: 3 ms, weights: 5 ms, token: 50 us, sequence: 20 us}
    kv_tokens: 200k
services:
  api:
    host: box
    operations:
      ask:
        - generate: own
          input: {lognormal: {mean: 500, cv: 0.5}}
          output: {lognormal: {mean: 60, cv: 0.5}}
workloads: {users: {rate: 2/s, operation: api.ask}}
measurements:
  set: {rate: workloads.users.rate}
  compare: {ttft: ttft mean, tpot: tpot mean}
  fitted: {rate: [2/s, 8/s]}
"""


def measured(text, points, truth, settings):
    """A table of what the model does at some points with the true parameters, each with a seed of its own."""
    lines = []
    for seed, point in enumerate(points, 1000):
        system = sim.loads(text, [f"{path}={value}" for path, value in {**truth, **point}.items()])
        seeded = sim.Settings(seed=seed, duration=settings.duration, replications=settings.replications)
        figures = simulated(system, system.measurements, seeded)
        places = {path: column for column, path in system.measurements.set.items()}
        cells = {places[path]: value for path, value in point.items()}
        cells |= {column: f"{figure.value:.5g}" for column, (figure, _) in figures.items()}
        lines = lines or [",".join(cells)]
        lines.append(",".join(cells.values()))
    return "\n".join(lines) + "\n"


@pytest.fixture(scope="module")
def table():
    points = [{"workloads.visitors.rate": f"{a}/s", "workloads.buyers.rate": f"{b}/s"} for a, b in LOADS]
    truth = {COMPUTE: "4.2 ms", IOPS: "200"}
    return measured(SHOP, points, truth, sim.Settings(duration=200.0, replications=2))


@pytest.fixture
def shop(tmp_path, table, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("COLUMNS", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "shop.csv").write_text(table)
    path = tmp_path / "shop.yaml"
    path.write_text(SHOP)
    return path


QUICK = ("-d", "20s", "-r", "2", "-j", "1")


# Estimates


def test_parameters_are_found_again(shop):
    told = []
    found = calibrate(shop, [COMPUTE, IOPS], settings=FEW, tell=lambda *each: told.append(each))
    for parameter, estimate in zip(found.parameters, found.estimates, strict=True):
        true = TRUE[parameter.path]
        assert estimate.contains(true)
        assert estimate.value == pytest.approx(true, rel=0.05)
        assert estimate.high / estimate.low < 1.25
    assert found.warnings == ()
    before, after = (mean_absolute_percentage_error(found.held_out(each)) for each in (found.before, found.after))
    assert len(found.held_out(found.after)) == 3
    assert after < 0.1 < before
    assert [done for done, _ in told] == list(range(1, len(told) + 1))
    assert all(done < planned for done, planned in told)


@pytest.mark.slow
def test_the_start_hardly_matters(shop):
    near = calibrate(shop, [COMPUTE], settings=FEW)
    far = calibrate(shop, [COMPUTE], overrides=[f"{COMPUTE}=30 ms"], settings=FEW)
    assert far.parameters[0].start == 30.0
    assert far.estimates[0].value == pytest.approx(near.estimates[0].value, rel=0.01)
    assert any(math.isnan(each.error) for each in far.before.comparisons), "it begins where there is no steady state"


def test_held_out_rows_change_nothing(shop, table):
    first = calibrate(shop, [COMPUTE], settings=FEWEST)
    lines = table.splitlines()
    cells = lines[-1].split(",")
    shop.with_name("shop.csv").write_text("\n".join([*lines[:-1], ",".join([*cells[:2], "9", "9", "9"])]) + "\n")
    second = calibrate(shop, [COMPUTE], settings=FEWEST)
    assert first.estimates == second.estimates
    assert first.lines == second.lines == {2, 3, 4}
    assert first.fitted(first.after) == second.fitted(second.after)
    assert first.held_out(first.after) != second.held_out(second.after)


def test_errors_are_those_of_validate(shop):
    found = calibrate(shop, [COMPUTE], settings=FEWEST)
    assert found.before == validate(shop, settings=FEWEST)
    assert found.after == validate(shop, overrides=found.settings, settings=FEWEST)


@pytest.mark.slow
def test_jobs_change_nothing(shop):
    measurements = sim.load(shop).measurements
    rows = read_table(shop.with_name("shop.csv"), measurements)[:2]
    jacobians = []
    for jobs in (1, 2):
        settings = sim.Settings(duration=10.0, replications=1, jobs=jobs)
        misfit = Misfit(shop, [], parameters_of(shop, [COMPUTE, IOPS]), rows, measurements, settings)
        misfit.take_lengths(np.zeros(2))
        jacobians.append(misfit.jacobian(np.zeros(2)))
    assert jacobians[0].shape == (6, 2)
    assert np.array_equal(*jacobians)


def test_step_times_of_a_language_model(tmp_path):
    weights, token = "llms.own.step_time.weights", "llms.own.step_time.token"
    settings = sim.Settings(duration=60.0, replications=2)
    points = [{"workloads.users.rate": f"{rate}/s"} for rate in (2, 8, 14)]
    model, csv = tmp_path / "llm.yaml", tmp_path / "llm.csv"
    model.write_text(LLM.replace("[2/s, 8/s]", "[2/s, 8/s, 14/s]"))
    csv.write_text(
        measured(LLM, points, {weights: "9 ms", token: "80 us"}, sim.Settings(duration=200.0, replications=2))
    )
    found = sim.calibrate(model, [weights, token], csv, settings=settings)
    assert [estimate.contains(true) for estimate, true in zip(found.estimates, (9.0, 80.0), strict=True)] == [True] * 2
    assert [parameter.unit for parameter in found.parameters] == ["ms", "us"]
    assert mean_absolute_percentage_error(found.after.comparisons) < 0.05


# What the rows do not say


def test_parameters_that_only_their_sum_matters_of_are_not_told_apart(shop):
    shop.write_text(SHOP.replace("write: 8 KiB", "delay: 3 ms}, {delay: 2 ms"))
    first, second = "services.db.operations.put.0.delay", "services.db.operations.put.1.delay"
    found = calibrate(shop, [first, second], settings=FEWEST)
    (pair,) = [each for each in found.warnings if "told apart" in each]
    assert first in pair
    assert second in pair
    alone = [each for each in found.warnings if "not identified" in each]
    assert [each.split()[0] for each in alone] == [first, second]
    assert all(math.isnan(each.low) for each in found.estimates)
    values = [estimate.value for estimate in found.estimates]
    assert sum(values) == pytest.approx(
        1000.0 * np.mean([each.measured for each in found.fitted(found.after)][2::3]), rel=0.1
    )


def test_the_uncertainty_is_that_of_linear_regression():
    x = np.array([1.0, 2.0, 3.0, 4.0, 5.0])
    design = np.column_stack([np.ones(5), x])
    residuals = np.array([0.1, -0.2, 0.05, 0.1, -0.05])
    found = uncertainty(design, residuals)
    covariance = np.linalg.inv(design.T @ design) * (residuals @ residuals) / 3
    assert found.freedom == 3
    assert found.standard_errors == pytest.approx(np.sqrt(np.diag(covariance)))
    assert found.correlations[0][1] == pytest.approx(covariance[0, 1] / math.sqrt(covariance[0, 0] * covariance[1, 1]))
    half_width = 3.182446 * found.standard_errors[1]
    assert found.estimate(1, 2.0).high == pytest.approx(2.0 * math.exp(half_width))
    assert found.estimate(1, 2.0).low == pytest.approx(2.0 / math.exp(half_width))


def test_nothing_held_out_is_said(shop):
    shop.write_text(SHOP.split("  fitted")[0])
    found = calibrate(shop, [COMPUTE], settings=FEWEST)
    assert found.lines == {2, 3, 4, 5}
    assert found.held_out(found.after) == ()
    assert any("nothing is held out" in each for each in found.warnings)


def test_a_row_without_a_steady_state_is_said(shop, table):
    extra = table.splitlines()[3].replace("100/s,90/s", "60/s,350/s")
    shop.with_name("shop.csv").write_text(f"{table}{extra}\n")
    found = calibrate(shop, [COMPUTE], settings=FEW)
    (said,) = [each for each in found.warnings if "prediction" in each]
    assert said.startswith("line 6: buy has no prediction at the estimates")
    assert found.estimates[0].value == pytest.approx(4.2, rel=0.1)


def test_as_many_parameters_as_numbers_leave_no_interval(shop):
    text = SHOP.replace('page: "visitors: mean", page95: "visitors: p95", ', "").replace(
        "[20/s, 60/s, 100/s]", "[20/s]"
    )
    shop.write_text(text)
    found = calibrate(shop, [IOPS], settings=FEWEST)
    assert math.isnan(found.estimates[0].low)
    assert any("nothing is left" in each for each in found.warnings)


# What is refused


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("services.web.operations.page.3.compute", "no such number in the model: services.web.operations.page has no"),
        ("services.wbe.replicas", "no such number in the model: services has no 'wbe'"),
        ("hosts.app.cpu.speed", "no such number in the model: hosts.app.cpu.speed is left out, expected it"),
        ("services.web.host", "got 'app', expected the path of a number above 0"),
        ("services.web.operations.page.0.compute", "got a mapping with services.web.operations.page.0.compute."),
        ("hosts.app.cpu", "cannot be fitted, as it cannot be changed a little: got 1.03, expected a whole number"),
        ("workloads.visitors.rate", "every row sets it, in the column 'rate'"),
        ("hosts.db.cpu.overhead", "got 0, expected a start above 0"),
        ("hosts.app.nic", "no prediction depends on it: with 5% more or less than 1 Gbit/s"),
    ],
)  # fmt: skip
def test_what_cannot_be_fitted(shop, tpsim, path, message):
    text = SHOP.replace("app: {cpu: 1}", "app: {cpu: 1, nic: 1 Gbit/s}").replace(
        "cpu: 2", "cpu: {cores: 2, overhead: 0}"
    )
    shop.write_text(text)
    code, out, err = tpsim("calibrate", "shop.yaml", "--fit", path, *QUICK)
    assert (code, out) == (3, "")
    assert err.startswith(f"--fit {path}: {message}")
    assert err.count("\n") == 1


def test_other_refusals(shop, tpsim):
    assert "given twice" in tpsim("calibrate", "shop.yaml", "--fit", COMPUTE, "--fit", COMPUTE)[2]
    code, _, err = tpsim("calibrate", "shop.yaml", *QUICK)
    assert (code, "--fit" in err) == (2, True)
    shop.write_text(SHOP.replace("[20/s, 60/s, 100/s]", "[7/s]"))
    assert "no row has rate 7/s" in tpsim("calibrate", "shop.yaml", "--fit", COMPUTE)[2]
    text = SHOP.replace('page: "visitors: mean", page95: "visitors: p95", ', "").replace(
        "[20/s, 60/s, 100/s]", "[20/s]"
    )
    shop.write_text(text)
    code, _, err = tpsim("calibrate", "shop.yaml", "--fit", COMPUTE, "--fit", IOPS)
    assert code == 3
    assert "shop.csv: 2 parameters for 1 measured numbers" in err
    shop.write_text(SHOP.split("measurements")[0])
    assert "no measurements section" in tpsim("calibrate", "shop.yaml", "--fit", COMPUTE)[2]


# The command


def test_the_written_model_is_the_old_one_with_other_numbers(shop, tpsim):
    code, out, err = tpsim("calibrate", "shop.yaml", "--fit", COMPUTE, "--fit", IOPS, *QUICK, "-o", "fitted.yaml")
    assert (code, err) == (0, "")
    text = shop.with_name("fitted.yaml").read_text()
    changed = [(a, b) for a, b in zip(SHOP.splitlines(), text.splitlines(), strict=True) if a != b]
    assert len(changed) == 2
    assert all(a.partition("#")[2] == b.partition("#")[2] for a, b in changed)
    settings = [line.removeprefix("--set ").strip("'") for line in out.splitlines() if line.startswith("--set")]
    assert sim.load(shop.with_name("fitted.yaml")) == sim.load(shop, settings)
    assert (
        validate(shop.with_name("fitted.yaml"), settings=FEWEST).comparisons
        == validate(shop, overrides=settings, settings=FEWEST).comparisons
    )
    code, out, err = tpsim("calibrate", "shop.yaml", "--fit", COMPUTE, "-o", "fitted.yaml")
    assert (code, out) == (2, "")
    assert "fitted.yaml is there already" in err
    assert shop.with_name("fitted.yaml").read_text() == text


def test_what_cannot_be_written_is_said_before_anything_is_simulated(shop, tpsim, monkeypatch):
    monkeypatch.setattr("simulator.calibration.validate.map_tasks", lambda *_: pytest.fail("it simulated"))
    start = ("calibrate", "shop.yaml", "--fit", COMPUTE, "-o")
    assert "no such folder" in tpsim(*start, "nowhere/new.yaml")[2]
    assert "it would not have --set hosts.app.cpu=2" in tpsim(*start, "new.yaml", "-S", "hosts.app.cpu=2")[2]
    shop.with_name("other").mkdir()
    assert "refers to shop.csv" in tpsim(*start, "other/new.yaml")[2]
    shop.with_name("base.yaml").write_text(SHOP)
    measurements = SHOP[SHOP.index("measurements") :]
    shop.write_text(f"extends: base.yaml\n{measurements}")
    code, _, err = tpsim(*start, "new.yaml")
    assert code == 3
    assert "cannot be replaced in this file" in err


def test_a_number_that_stands_for_several_fields_is_not_replaced(shop):
    shop.write_text(SHOP.replace("'6 ms'", "&guess 6 ms").replace("write: 8 KiB", "delay: *guess"))
    for path in (COMPUTE, "services.db.operations.put.0.delay"):
        with pytest.raises(InputError, match="stands behind an alias or anchor"):
            rewritten(shop, {path: "5 ms"}, shop.parent)
    text = SHOP.replace("db: {cpu: 2", "db: &host {cpu: 2").replace(
        "services:\n", "  spare: {<<: *host}\nservices:\n", 1
    )
    shop.write_text(text)
    assert sim.load(shop).hosts["spare"] == sim.load(shop).hosts["db"]
    with pytest.raises(InputError, match="a number stands for several fields"):
        rewritten(shop, {IOPS: "250"}, shop.parent)


def test_line_breaks_and_other_letters_stay(shop):
    text = SHOP.replace("# A shop.", "# Ein Geschäft: 6 µs").replace("\n", "\r\n")
    shop.write_bytes(text.encode())
    assert rewritten(shop, {COMPUTE: "5 ms", IOPS: "250"}, shop.parent) == text.replace("'6 ms'", "'5 ms'").replace(
        "iops: 300", "iops: 250"
    )


def test_the_output_fits_and_is_plain(shop, tpsim):
    shop.write_text(SHOP.split("  fitted")[0].replace("web", "order-management-and-fulfilment-service"))
    path = COMPUTE.replace("web", "order-management-and-fulfilment-service")
    code, out, err = tpsim("calibrate", "shop.yaml", "--fit", path, "--fit", IOPS, *QUICK)
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    assert "\x1b" not in out
    assert "nan" not in out
    assert not any(line != line.rstrip() for line in out.splitlines())


def test_json_is_one_object(shop, tpsim):
    code, out, err = tpsim("calibrate", "shop.yaml", "--fit", COMPUTE, *QUICK, "--json")
    assert (code, err) == (0, "")
    data = json.loads(out)
    assert (data["schema_version"], data["model"], data["source"]) == (1, "shop", "shop.csv")
    (parameter,) = data["parameters"]
    assert (parameter["path"], parameter["unit"], parameter["start"]) == (COMPUTE, "ms", 6.0)
    assert set(parameter["estimate"]) == {"value", "low", "high", "n"}
    assert parameter["set"].startswith(f"{COMPUTE}=4.")
    assert data["fitted_lines"] == [2, 3, 4]
    assert data["mape"]["after"]["held_out"] < data["mape"]["before"]["held_out"]


def test_the_rows_that_are_fitted_to_can_be_chosen(shop, tpsim):
    command = ("calibrate", "shop.yaml", "--fit", COMPUTE, *QUICK)
    data = json.loads(tpsim(*command, "--where", "rate=20/s,140/s", "--json")[1])
    assert (data["fitted_lines"], data["fitted_where"]) == ([2, 5], {"rate": ["20/s", "140/s"]})
    assert data["parameters"][0]["estimate"]["value"] == pytest.approx(TRUE[COMPUTE], rel=0.1)
    (warning,) = data["warnings"]
    assert warning.endswith("should be {rate: [20/s, 140/s]}")
    code, out, err = tpsim(*command, "--where", "rate=20/s", "--where", "rate=60/s,100/s")
    assert (code, err) == (0, "")
    assert "fitted to  3 of 4 rows: rate 20/s, 60/s or 100/s" in out
    assert "warning" not in out
    assert out == tpsim(*command)[1]


def test_rows_that_are_not_there_cannot_be_chosen(shop, tpsim):
    command = ("calibrate", "shop.yaml", "--fit", COMPUTE, "--where")
    assert "no row has rate 1/s or 2/s" in tpsim(*command, "rate=1/s,2/s")[2]
    for verb in (command, ("validate", "shop.yaml", "--where")):
        code, _, err = tpsim(*verb, "rate=20/s", "--where", "rate=2/s")
        assert (code, err.strip()[-19:]) == (3, "no row has rate 2/s")
    assert "no column 'cpus' to choose by" in tpsim(*command, "cpus=4")[2]
    code, _, err = tpsim(*command, "rate")
    assert code == 2
    assert "expected COLUMN=VALUE" in err


def test_a_model_that_cannot_be_written_whole_is_not_written_at_all(shop, tpsim, monkeypatch):
    def full(*names):
        raise OSError(errno.ENOSPC, "no space left on device")

    before = sorted(shop.parent.iterdir())
    monkeypatch.setattr("os.replace", full)
    code, _, err = tpsim("calibrate", "shop.yaml", "--fit", COMPUTE, *QUICK, "-o", "fitted.yaml")
    assert code != 0
    assert "fitted.yaml" in err
    assert sorted(shop.parent.iterdir()) == before
