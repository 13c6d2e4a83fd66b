"""Simulated LLM serving against real measurements."""

import csv
import importlib.util
import statistics
import sys
from pathlib import Path

import pytest

import simulator as sim
from simulator.model.gpu import Gpu
from simulator.model.language_model import LanguageModel

ROOT = Path(__file__).resolve().parents[1]
STUDY = ROOT / "experiments" / "llm-serving"
PROFILES = ROOT.parent / "shared" / "data" / "vllm_llmservingsim"
STAGES = ROOT.parent / "shared" / "data" / "vllm_runs" / "stages.csv"
BOX = ROOT / "experiments" / "llm-out-of-the-box"
POINTS = ROOT.parent / "shared" / "data" / "aic_silicon" / "silicon_points.csv"
TARGETS = {"ttft mean": 0.10, "tpot mean": 0.03, "e2e mean": 0.05, "e2e p90": 0.05, "tokens/s": 0.04}
MEDIANS = {"tpot": 0.03, "e2e": 0.03, "ttft": 0.05}
CPU_SECONDS = 0.7e-3
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


@pytest.mark.slow
@pytest.mark.skipif(not STAGES.is_file(), reason="the measured stages are not here")
def test_load_sweeps_are_predicted_within_the_targets_and_overloads_are_called_so():
    sweep = program("load_sweep")
    found = sweep.study(sweep.stages(STAGES))
    medians = {name: statistics.median(errors) for name, errors in found.errors().items()}
    assert len(found.errors()["e2e"]) == 9
    assert {name: medians[name] <= most for name, most in MEDIANS.items()} == dict.fromkeys(MEDIANS, True)
    assert found.misjudged() == []
    assert sum(stage.failed > 0 for stage, _ in found.predictions) == 3
    with (STUDY / "load-sweep.csv").open(encoding="utf-8") as stream:
        stated = {row["stage"]: row for row in csv.DictReader(stream)}
    for stage, prediction in found.predictions:
        row = stated[stage.name]
        for name in MEDIANS:
            assert float(row[f"{name}_error"]) == pytest.approx(prediction.error(stage, name), abs=1e-3)


@pytest.fixture
def box(monkeypatch):
    """The programs of the study without calibration: the closed form, and the simulation."""
    monkeypatch.syspath_prepend(str(BOX))
    found = importlib.import_module("study"), importlib.import_module("simulated")
    yield found
    for name in ("study", "simulated"):
        del sys.modules[name]


def case(box, harness, **change):
    """32 users of Llama-3.1-8B on an H100, as a row of measurements would say it."""
    model, gpu = LanguageModel.model_validate("llama-3.1-8b"), Gpu.model_validate("h100-sxm")
    given = {"prompt": 512, "output": 64, "users": 32, "campaign": "gap h100", **change}
    return box[0].Case(model=model, gpu=gpu, gpus=1, precision="bf16", harness=harness, **given)


def test_rows_without_calibration_are_simulated_from_the_burst_on(box):
    """The engines agree; where prompts come first users stay in step, and wait longer for their first token only."""
    of = {engine: case(box, f"gap h100 {engine}") for engine in ("vllm", "sglang")}
    found = {engine: box[1].simulated(each, 2048) for engine, each in of.items()}
    assert box[1].simulated(of["sglang"], 2048, by="simpy") == pytest.approx(found["sglang"])
    assert found["sglang"][0] < found["vllm"][0]
    assert found["sglang"][1] > found["vllm"][1]


def test_lengths_are_those_that_the_load_generator_draws(box):
    assert "input: {constant: 512}" in box[1].model(case(box, "gap h100 vllm"), 2048)
    drawn = box[1].model(case(box, "inferencex vllm", campaign="inferencex"), 2048)
    assert "input: {uniform: {low: 409, high: 512}}" in drawn


@pytest.mark.slow
@pytest.mark.skipif(not POINTS.is_file(), reason="the measured points are not here")
def test_the_stated_errors_without_calibration_are_those_of_the_simulation(box):
    study, simulated = box
    rows, _ = study.in_scope(POINTS)
    rows = rows[(rows.model == "qwen3-32b") & (rows.backend == "vllm")]
    rows = rows[[not study.is_trained(row) for row in rows.itertuples()]]
    measured = rows[["silicon_tpot_ms", "silicon_ttft_ms"]].to_numpy() / 1000
    found = simulated.errors([study.Case.of(row) for row in rows.itertuples()], measured, *simulated.TWO)
    with (BOX / "simulated-errors.csv").open(encoding="utf-8") as stream:
        (stated,) = (row for row in csv.DictReader(stream) if (row["model"], row["backend"]) == ("qwen3-32b", "vllm"))
    assert int(stated["rows"]) == len(rows)
    for column, name in enumerate(("tpot", "ttft")):
        assert float(stated[name]) == pytest.approx(100 * statistics.median(abs(found[:, column])), abs=0.06)


def test_the_load_sweep_model_has_the_rooflines_of_its_gpu():
    system = sim.load(STUDY / "load-sweep.yaml")
    sweep = program("load_sweep")
    of = sweep.ARCHITECTURES["meta-llama/Llama-2-7b-hf"]
    step = system.resources("llms")["llama"].engine().step
    assert step.weights == pytest.approx(sweep.BYTES * of.parameters / sweep.BANDWIDTH, rel=1e-3)
    assert step.token == pytest.approx(2.0 * of.parameters / sweep.PEAK, rel=1e-2)
    assert step.generated == pytest.approx(of.kv_bytes / sweep.BANDWIDTH, rel=0.2)
