"""Monitoring: the chart's false alarms and delays are those of theory, and a drift is found, sized and named.

Measurements are those of simulated runs, cut into windows. The changes of demand that have to be found are known.
"""

import csv
import json
import math
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import pytest

import simulator as sim
from simulator import cli
from simulator.calibration.cusum import Chart, find_shift, scores
from simulator.calibration.drift import monitor
from simulator.calibration.expected import Expectation, Need
from simulator.program.stations import capacity_of
from simulator.records import STATION_FIELDS, WINDOWS, WORKLOAD_FIELDS
from simulator.report.drift_tables import drift_sentence

MODELS = Path(__file__).parent.parent / "models" / "techniques" / "monitoring"
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
