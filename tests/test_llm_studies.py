"""Simulated LLM serving against real measurements that nothing was fitted to."""

import csv
import importlib.util
import sys
from pathlib import Path

import pytest

import simulator as sim

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "experiments" / "llm-serving"
PROFILES = ROOT.parent / "shared" / "data" / "vllm_llmservingsim"
TARGETS = {"ttft mean": 0.10, "tpot mean": 0.03, "e2e mean": 0.05, "e2e p90": 0.05, "tokens/s": 0.04}
CPU_SECONDS = 1e-3
GPUS = pytest.mark.parametrize("name", ["rtx-4090", "rtx-pro-6000"])


def program(name):
    """A program of the study, as a module."""
    spec = importlib.util.spec_from_file_location(f"llm_serving_{name}", STUDY / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@GPUS
def test_real_requests_are_predicted_within_the_targets_on_both_engines(name):
    study = program("real_requests")
    real, found = study.measured(name), study.records(name, "simpy")
    assert len(found.requests[0]) == len(real.e2e) == 300
    errors = study.errors(real, study.simulated(found))
    assert {figure: abs(errors[figure]) <= most for figure, most in TARGETS.items()} == dict.fromkeys(TARGETS, True)
    assert study.records(name, "compiled").digest() == found.digest()


@pytest.mark.slow
@GPUS
def test_the_stated_errors_of_real_requests_are_those_of_the_study(name):
    study = program("real_requests")
    found = study.errors(study.measured(name), study.simulated(study.records(name)))
    with (STUDY / "real-requests.csv").open(encoding="utf-8") as stream:
        stated = {row["figure"]: float(row["error"]) for row in csv.DictReader(stream) if row["gpu"] == name}
    assert stated == pytest.approx(found, abs=1e-3)


@pytest.mark.slow
@pytest.mark.skipif(not PROFILES.is_dir(), reason="the profile is not here")
@GPUS
def test_coefficients_and_traces_are_those_of_the_profile_and_the_run(name, tmp_path, monkeypatch):
    prepare, study = program("prepare"), program("real_requests")
    run = next(run for run in prepare.RUNS if run.name == name)
    fit = prepare.fitted(run, PROFILES)
    shipped = study.coefficients(sim.load(ROOT / "models" / "llm" / f"{name}.yaml"))
    shipped["overhead"] -= CPU_SECONDS
    assert {key: shipped[key] for key in fit.intervals} == pytest.approx(
        {key: getattr(fit.step, key) for key in fit.intervals}, rel=1e-3
    )
    monkeypatch.setattr(prepare, "MODELS", tmp_path)
    prepare.write(run, PROFILES)
    assert (tmp_path / f"{name}.csv").read_text() == (ROOT / "models" / "llm" / f"{name}.csv").read_text()
