"""The laboratory's servers: every row is predicted as well as is said, from service times and sizes alone."""

import csv
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest
from test_engines_agree import check_program

import simulator as sim

ROOT = Path(__file__).parent.parent
MODELS = sorted((ROOT / "models" / "lab").glob("*.yaml"))
ORIGINAL = ROOT.parent / "shared" / "data" / "lab"
OFF = {
    ("cpu-quota-open", "0.25 24.35/s", "p95"),
    ("job-queue-constant", "1 114.14/s", "mean"),
    ("job-queue-constant", "1 114.14/s", "p95"),
    ("job-queue-exponential", "1 56.37/s", "mean"),
    ("job-queue-exponential", "1 56.37/s", "p95"),
    ("job-queue-exponential", "1 112.73/s", "mean"),
}
"""What experiments/lab/README.md lists with its cause."""


def study():
    spec = spec_from_file_location("lab_study", ROOT / "experiments" / "lab" / "study.py")
    module = sys.modules[spec.name] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("path", MODELS, ids=lambda path: path.stem)
def test_both_engines_agree_on_it(path):
    check_program(sim.lower(sim.load(path)), duration=5.0)


@pytest.mark.slow
def test_rows_are_predicted_within_what_is_said_but_for_those_that_are_listed():
    found = list(study().verdicts())
    assert len({(each.model, each.comparison.line) for each in found}) == 49
    assert {each.key for each in found if each.off} == OFF
    judged = [each for each in found if each.judged]
    assert sum(each.comparison.metric == "throughput" for each in judged) == 21
    assert sum(each.comparison.metric == "mean" for each in judged) == 18


@pytest.mark.skipif(not ORIGINAL.exists(), reason="the original tables are not part of the project")
def test_figures_are_those_of_the_original_tables():
    for name in ("connection_pool", "cpu_quota", "job_queue", "http_closed_loop"):
        with (ORIGINAL / f"{name}.csv").open(encoding="utf-8") as stream:
            original = sorted((float(row["mean_ms"]), float(row["p95_ms"])) for row in csv.DictReader(stream))
        ours = []
        stem = name.replace("_", "-").replace("http-closed-loop", "http-")
        for path in (ROOT / "models" / "lab").glob(f"{stem}*.csv"):
            lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
            ours += [(float(row["mean"]) * 1e3, float(row["p95"]) * 1e3) for row in csv.DictReader(lines)]
        assert [each for pair in sorted(ours) for each in pair] == pytest.approx(
            [each for pair in original for each in pair], rel=1e-6
        )
