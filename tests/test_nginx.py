"""The shipped NGINX model says what is true of it: its parameters, its measurements, and how far off it is."""

import csv
import importlib.util
import os
import re
from pathlib import Path

import numpy as np
import pytest

import simulator as sim

ROOT = Path(__file__).resolve().parents[1]
MODEL = ROOT / "models" / "nginx-web.yaml"
TABLE = ROOT / "models" / "nginx-web.csv"
STUDY = ROOT / "experiments" / "nginx-scaling"
ORIGINAL = ROOT.parent / "shared" / "data" / "nginx_webserver_cpus" / "rps.csv"
TOLERANCE = 0.015
"""Of an error: four replications state it and one or two check it, and either is a little off near the NIC's limit."""
ROW = re.compile(r"^  #   (https?) +(\d+) kB((?: +[\d.]+ \( ?[+-][\d.]+%\))+)(?: with (\d+) CPUs)?$", re.MULTILINE)
CELL = re.compile(r"([\d.]+) \( ?([+-][\d.]+)%\)")


def program(name):
    """A program of the study, as a module."""
    spec = importlib.util.spec_from_file_location(f"nginx_{name}", STUDY / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured():
    with TABLE.open(encoding="utf-8") as stream:
        return list(csv.DictReader(line for line in stream if not line.startswith("#")))


def stated():
    """(predicted requests a second, error) by protocol, body and CPUs, as the model's file says."""
    text = MODEL.read_text(encoding="utf-8")
    heading = re.search(r"^  # +CPUs((?: +\d+)+)$", text, re.MULTILINE)
    found = {}
    for protocol, body, cells, only in ROW.findall(text):
        counts = [only] if only else heading[1].split()
        for cpus, (predicted, error) in zip(counts, CELL.findall(cells), strict=True):
            found[protocol, body, cpus] = (1e3 * float(predicted), float(error) / 100.0)
    return found


def held_out():
    """The rows that nothing was fitted to: those that fit.py does not take."""
    fit = program("fit")
    taken = {
        (row.protocol, str(row.body_kb), str(row.cpus))
        for protocol in ("http", "https")
        for row in fit.fitted_rows(protocol).itertuples()
    }
    return {(row["protocol"], row["body_kb"], row["cpus"]) for row in measured()} - taken


def validated(where, replications):
    jobs = min(2, os.cpu_count() or 1)
    found = sim.validate(MODEL, where=where, settings=sim.Settings(replications=replications, jobs=jobs))
    return {(each.row["protocol"], each.row["body_kb"], each.row["cpus"]): each for each in found.comparisons}


@pytest.mark.parametrize("protocol", ["http", "https"])
def test_compute_times_are_those_of_the_fit(protocol):
    fit = program("fit")
    parameters, _ = fit.fit(protocol)
    times = fit.design(np.array(fit.BODIES_KB)) @ parameters
    operations = sim.load(MODEL).services["nginx"].operations
    for body, microseconds in zip(fit.BODIES_KB, times, strict=True):
        compute, _ = operations[f"{protocol}_{body}kB"]
        assert compute.compute.distribution().mean * 1e6 == pytest.approx(microseconds, abs=0.00501)


@pytest.mark.parametrize("protocol", ["http", "https"])
def test_the_stated_parameters_are_those_of_the_fit(protocol):
    parameters, half_widths = program("fit").fit(protocol)
    numbers = r"([\d.]+) us(?:/KiB)? \[([\d.]+), ([\d.]+)\]"
    line = re.search(rf"# +{protocol} +request +{numbers} +file +{numbers} +size +{numbers}$", MODEL.read_text(), re.M)
    shown = np.array(line.groups(), dtype=float).reshape(3, 3)
    assert shown[:, 0] == pytest.approx(parameters, abs=0.00501)
    assert shown[:, 1] == pytest.approx(parameters - half_widths, abs=0.00501)
    assert shown[:, 2] == pytest.approx(parameters + half_widths, abs=0.00501)


def test_every_row_that_was_not_fitted_is_stated():
    assert set(stated()) == held_out()
    assert len(stated()) == 33
    assert held_out() - {row for row in held_out() if int(row[2]) > 4} == {("http", "100", "4")}


def test_stated_errors_are_those_of_the_stated_predictions():
    figures = {(row["protocol"], row["body_kb"], row["cpus"]): float(row["rps"]) for row in measured()}
    for row, (predicted, error) in stated().items():
        assert predicted / figures[row] - 1.0 == pytest.approx(error, abs=0.002), row


def test_stated_mean_errors_are_those_of_the_stated_rows():
    words = " ".join(MODEL.read_text(encoding="utf-8").replace("#", " ").split())
    beyond = {row: error for row, (_, error) in stated().items() if int(row[2]) > 4}
    overall, by_cpus = re.search(r"more than 4 CPUs: ([\d.]+) %; by CPUs ([\d., and]+) %", words).groups()
    assert np.mean(np.abs(list(beyond.values()))) == pytest.approx(float(overall) / 100.0, abs=0.001)
    for cpus, shown in zip((8, 16, 32, 36), re.findall(r"[\d.]+", by_cpus), strict=True):
        errors = [abs(error) for row, error in beyond.items() if int(row[2]) == cpus]
        assert np.mean(errors) == pytest.approx(float(shown) / 100.0, abs=0.001)


def test_errors_csv_agrees_with_the_models_file():
    with (STUDY / "errors.csv").open(encoding="utf-8") as stream:
        rows = {(row["protocol"], row["body_kb"], row["cpus"]): row for row in csv.DictReader(stream)}
    assert len(rows) == len(measured())
    assert {row for row, cells in rows.items() if cells["fitted"] == "False"} == held_out()
    for row, (predicted, error) in stated().items():
        assert float(rows[row]["predicted"]) == pytest.approx(predicted, abs=51.0)
        assert float(rows[row]["error"]) == pytest.approx(error, abs=0.00051)


def check(found):
    for row, each in found.items():
        assert abs(each.error - stated()[row][1]) < TOLERANCE, (row, each.error)


def test_with_16_cpus_it_is_off_by_what_is_stated():
    found = validated({"cpus": ["16"]}, replications=1)
    assert len(found) == 8
    check(found)


@pytest.mark.slow
def test_it_is_off_by_what_is_stated():
    beyond = validated({"cpus": ["8", "16", "32", "36"]}, replications=2)
    found = beyond | validated({"protocol": ["http"], "body_kb": ["100"], "cpus": ["4"]}, replications=2)
    assert set(found) == held_out()
    check(found)


@pytest.mark.skipif(not ORIGINAL.exists(), reason="the original table is not part of the project")
def test_the_figures_are_those_of_the_original_table():
    names = ("protocol", "cpus", "body_kb", "rps")
    with ORIGINAL.open(encoding="utf-8") as stream:
        original = sorted(tuple(row[name] for name in names) for row in csv.DictReader(stream))
    assert sorted(tuple(row[name] for name in names) for row in measured()) == original


def test_operation_and_connections_say_what_the_source_says():
    for row in measured():
        assert row["operation"] == f"nginx.{row['protocol']}_{row['body_kb']}kB"
        assert int(row["connections"]) == 50 * int(row["cpus"])


def test_the_study_compares_with_a_straight_line():
    study = program("study")
    found = sim.validate(MODEL, where={"protocol": ["http"], "body_kb": ["100", "0"], "cpus": ["4", "8"]},
                         settings=sim.Settings(replications=2, duration=2e-3))  # fmt: skip
    table = study.predictions(study.corrected(found))
    line = study.straight_line(table, MODEL)
    by_row = {(row.body_kb, row.cpus): line[row.Index] for row in table.itertuples()}
    assert by_row[0, 8] == pytest.approx(2 * 543061)
    nic = 80e9 / 8 / 1.06215 / 102657
    assert by_row[100, 8] == pytest.approx(nic)
    assert by_row[100, 4] == pytest.approx(88691)
    assert list(table[table.cpus == 4].set_index("body_kb").fitted.sort_index()) == [True, False]


def test_ceilings_follow_from_the_model():
    study = program("study")
    cpu, nic = study.ceilings(MODEL, operation="nginx.http_0kB", cpus=32, remote_efficiency=0.5)
    assert cpu == pytest.approx((18 + 14 * 0.5) / 7.36e-6)
    assert nic == pytest.approx(80e9 / 8 / 1.06215 / 257)
