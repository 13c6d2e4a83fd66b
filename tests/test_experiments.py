"""Studies whose measurements are not in this repository say so where they are missing, and touch nothing."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXPERIMENTS = Path(__file__).resolve().parents[1] / "experiments"
NEEDING = {
    "context-reuse/routing.py": "github.com/kvcache-ai/Mooncake",
    "context-reuse/study.py": "github.com/kvcache-ai/Mooncake",
    "llm-out-of-the-box/simulated.py": "github.com/ai-dynamo/aiconfigurator",
    "llm-out-of-the-box/study.py": "github.com/ai-dynamo/aiconfigurator",
    "llm-serving/load_sweep.py": "github.com/inference-sim/training",
    "llm-serving/prepare.py": "github.com/casys-kaist/LLMServingSim",
}


def run(script, *arguments):
    environment = {**os.environ, "COLUMNS": "200"}
    command = [sys.executable, EXPERIMENTS / script, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment)


def contents():
    written = (*EXPERIMENTS.rglob("*.csv"), *EXPERIMENTS.parent.glob("models/**/*.csv"))
    return {path: path.read_bytes() for path in written}


@pytest.mark.parametrize(("script", "origin"), NEEDING.items())
def test_missing_measurements_are_named_with_where_they_are_from(script, origin, tmp_path):
    before, missing = contents(), tmp_path / "data"
    done = run(script, missing)
    assert (done.returncode, done.stdout) == (2, "")
    usage, message = done.stderr.strip().rsplit("\n", 1)
    assert usage.startswith("usage: ")
    assert f"{missing} is not there; it is from {origin}" in message
    assert contents() == before


def test_a_folder_without_all_its_files_is_told_the_missing_one(tmp_path):
    done = run("llm-serving/prepare.py", tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path}/RTX4090_Llama-3.1-8B/requests.jsonl is not there" in done.stderr
