"""The time of a step of an LLM serving engine: the formula, and its fit to measured steps."""

import random
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from simulator.calibration.step_profile import MeasuredStep, StepColumns, layered_profile
from simulator.calibration.step_time import FITTED, OutOfRangeWarning, fit_step_time
from simulator.errors import InputError
from simulator.model.columns import read_rows
from simulator.model.gpu import Gpu
from simulator.model.language_model import LanguageModel
from simulator.model.llm import Efficiency, step_time
from simulator.model.shipped import models_directory
from simulator.program.step_time import StepTime

TRUE = StepTime(
    overhead=3e-3, weights=8e-3, token=4e-5, activation=1e-5, sequence=2e-5, chunk=2e-9, floor=256, generated=9e-8,
    mixed=2e-7, mixed_sequence=3e-5, longest=8e-7, uneven=2e-7,
)  # fmt: skip


def synthetic_steps(count=400, noise=0.02, seed=1):
    """Steps of all kinds whose times are those of TRUE but for a noise."""
    rng = np.random.default_rng(seed)
    steps = []
    for number in range(count):
        generating = 0 if number % 4 == 0 else int(2 ** rng.uniform(0, 8))
        length = 2 ** rng.uniform(4, 14) if generating else 0.0
        part = 0 if number % 4 == 1 else int(2 ** rng.uniform(4, 11))
        parts = ((2 ** rng.uniform(0, 14), part),) if part else ()
        longest = max(length, *map(sum, parts), 0.0)
        step = MeasuredStep(generating + part, generating, generating * length, longest, parts, 1.0)
        seconds = step.predicted(TRUE) * float(np.exp(noise * rng.normal()))
        steps.append(replace(step, seconds=seconds))
    return steps


def test_a_fit_recovers_the_coefficients_within_its_intervals():
    fit = fit_step_time(synthetic_steps())
    inside = [low <= getattr(TRUE, name) <= high for name, (low, high) in fit.intervals.items()]
    assert sum(inside) >= len(FITTED) - 1
    for name in FITTED:
        assert getattr(fit.step, name) == pytest.approx(getattr(TRUE, name), rel=0.15)
    assert fit.steps == 400


def test_a_fit_to_wrong_times_does_not_recover_them():
    """The test above can fail: with a third of the arithmetic's time it finds that third."""
    steps = [replace(step, tokens=step.tokens / 3) for step in synthetic_steps()]
    low, high = fit_step_time(steps).intervals["token"]
    assert not low <= TRUE.token <= high


def test_what_no_step_says_anything_about_stays_at_the_prior():
    with_prompts = [step for step in synthetic_steps() if step.parts]
    prior = replace(TRUE, generated=1.23e-7)
    fit = fit_step_time(with_prompts, prior)
    assert fit.step.generated == pytest.approx(1.23e-7, rel=1e-6)
    low, high = fit.intervals["generated"]
    assert low == 0.0
    assert high > 2 * prior.generated


def test_kinds_of_steps_count_alike_in_a_balanced_fit():
    """Where the formula cannot meet all of them, it meets those that are few better when they are balanced."""
    steps = [
        step if step.parts else replace(step, seconds=1.1 * step.seconds)
        for step in synthetic_steps(2000)
        if step.parts or random.Random(step.attended).random() < 0.1
    ]
    alone = StepColumns.of([step for step in steps if not step.parts])
    errors = [
        np.abs(alone.predicted(fit_step_time(steps, TRUE, balanced).step) / alone.seconds - 1).mean()
        for balanced in (False, True)
    ]
    assert errors[1] < 0.9 * errors[0]


def test_arrays_and_single_steps_are_predicted_alike():
    steps = synthetic_steps(50)
    steps.append(MeasuredStep(70, 3, 900, 500, ((0, 40), (128, 27)), 0.02))
    assert StepColumns.of(steps).predicted(TRUE) == pytest.approx([step.predicted(TRUE) for step in steps], rel=1e-12)


def test_a_prediction_outside_of_the_range_names_what_is_outside():
    fit = fit_step_time(synthetic_steps())
    step = synthetic_steps()[2]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fit.predict(step) == step.predicted(fit.step)
    far = MeasuredStep(5000, 0, 0, 5000, ((0, 5000),), 1.0)
    with pytest.warns(OutOfRangeWarning, match=r"tokens 5,000 \(fitted from \d+ to [\d,]+\), prompt part 5,000 \("):
        fit.predict(far)


def test_too_few_steps_and_steps_without_time_are_refused():
    with pytest.raises(ValueError, match="got 10 steps, expected more than the 12 coefficients"):
        fit_step_time(synthetic_steps(10))
    with pytest.raises(ValueError, match="took 0 s"):
        fit_step_time([*synthetic_steps(20), MeasuredStep(1, 1, 1, 1, (), 0.0)])


def write_profile(directory, attention="0,0,2,100,10\n64,32,2,100,25\n"):
    (directory / "dense.csv").write_text(
        "layer,tokens,time_us\nembedding,1,2\nembedding,101,4\nlayernorm,1,1\nlayernorm,101,3\nqkv,1,50\nqkv,101,150\n"
    )
    (directory / "per_sequence.csv").write_text("layer,sequences,time_us\nlm_head,1,100\nlm_head,11,200\nsampler,1,5\n")
    (directory / "attention.csv").write_text("prefill_chunk,kv_prefill,n_decode,kv_decode,time_us\n" + attention)
    return directory


def test_a_layered_profile_is_summed_up_to_steps(tmp_path):
    first, second = layered_profile(write_profile(tmp_path), layers=3)
    assert (first.tokens, first.generating, first.attended, first.longest, first.parts) == (2, 2, 200, 100, ())
    layer = 2 * 1.02 + 51
    assert first.seconds == pytest.approx(1e-6 * (2.02 + 3 * (layer + 10) + 110 + 5))
    assert (second.tokens, second.longest, second.parts, second.kept) == (66, 100, ((32, 64),), 296)
    assert second.seconds == pytest.approx(1e-6 * (3.3 + 3 * (2 * 2.3 + 115 + 25) + 120 + 5))


def test_a_bad_cell_of_a_profile_is_named(tmp_path):
    with pytest.raises(InputError, match=r"attention\.csv:3:5: got 'fast', expected a number >= 0"):
        layered_profile(write_profile(tmp_path, "0,0,2,100,10\n64,32,2,100,fast\n"), layers=3)
    (tmp_path / "dense.csv").write_text("layer,token,time_us\n")
    with pytest.raises(InputError, match=r"dense\.csv:1:1: no column 'tokens'; did you mean 'token'\?"):
        layered_profile(tmp_path, layers=3)
    with pytest.raises(InputError, match=r"nowhere/dense\.csv: no such file"):
        layered_profile(Path("nowhere"), layers=3)


PROFILES = Path(__file__).parents[2] / "shared" / "data" / "vllm_llmservingsim"
REAL = {
    # Folder, model, GPU, tensor parallel, tokens that its memory has room for.
    "llama on rtx-4090": (
        "profile_RTX4090_meta-llama_Llama-3.1-8B_bf16_tp1", "llama-3.1-8b", "rtx-4090", 1, 41_408,
    ),
    "qwen on two rtx-pro-6000": (
        "profile_RTXPRO6000_Qwen_Qwen3-32B_bf16_tp2", "qwen3-32b", "rtx-pro-6000", 2, 450_000,
    ),
    "llama on rtx-pro-6000": (
        "profile_RTXPRO6000_meta-llama_Llama-3.1-8B_bf16_tp1", "llama-3.1-8b", "rtx-pro-6000", 1, 530_000,
    ),
}  # fmt: skip


def steps_and_roofline(name):
    folder, model, gpu, gpus, room = REAL[name]
    language_model = LanguageModel.model_validate(model)
    steps = [step for step in layered_profile(PROFILES / folder, language_model.layers) if step.kept <= room]
    roofline = step_time(language_model, Gpu.model_validate(gpu), gpus, "bf16", None, Efficiency())
    return steps, replace(roofline, link=0.0, link_token=0.0)


@pytest.mark.skipif(not PROFILES.is_dir(), reason="the measured profiles are not here")
@pytest.mark.parametrize("name", REAL)
def test_sixty_measured_steps_predict_the_others(name):
    steps, roofline = steps_and_roofline(name)
    found = []
    for seed in range(8):
        chosen = set(random.Random(seed).sample(range(len(steps)), 60))
        fit = fit_step_time([steps[number] for number in chosen], roofline)
        others = StepColumns.of([step for number, step in enumerate(steps) if number not in chosen])
        errors = np.abs(others.predicted(fit.step) / others.seconds - 1)
        found.append((errors.mean(), np.median(errors)))
    mean, median = np.mean(found, axis=0)
    assert mean <= 0.05
    assert median <= 0.03


@pytest.mark.skipif(not PROFILES.is_dir(), reason="the measured profiles are not here")
@pytest.mark.parametrize("name", REAL)
def test_shipped_coefficients_predict_the_steps_they_were_fitted_to(name):
    """Kinds of steps were weighed alike: those without prompts, most of a server's, are met as well as others."""
    _, model, gpu = REAL[name][:3]
    steps, _ = steps_and_roofline(name)
    header, rows = read_rows(models_directory() / "step-times.csv")
    row = next(cells for _, cells in rows if cells[:2] == [model, gpu])
    shipped = StepTime(**{column: float(row[header.index(column)]) for column in FITTED})
    columns = StepColumns.of(steps)
    errors = np.abs(columns.predicted(shipped) / columns.seconds - 1)
    assert errors.mean() == pytest.approx(float(row[header.index("mean_error")]), abs=6e-4)
    assert np.median(errors) == pytest.approx(float(row[header.index("median_error")]), abs=6e-4)
    decoding = [not step.parts for step in steps]
    assert errors[decoding].mean() < 0.015
