"""The README shows what a user gets."""

import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from readme_blocks import README, ROOT, blocks, output_of

import simulator as sim

SLOW = ("validate", "capacity", "sweep")


def _marked(command: str) -> object:
    return pytest.param(command, marks=pytest.mark.slow) if command.split()[1] in SLOW else command


@pytest.mark.parametrize("command", [_marked(command) for command, _ in blocks()])
def test_console_block_shows_what_the_command_prints(command):
    assert dict(blocks())[command] == output_of(command)


def test_every_linked_file_is_there():
    targets = re.findall(r"\]\(([^)#:]+)\)", README.read_text(encoding="utf-8"))
    missing = [target for target in targets if not (ROOT / target).exists()]
    assert targets
    assert not missing


def test_ci_runs_the_readme_commands():
    shell_blocks = re.findall(r"```sh\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(shell_blocks) == 2
    assert "tpsim run" in shell_blocks[0]
    assert "pytest" in shell_blocks[1]
    assert "readme_command 1" in Path(ROOT / ".ci/run").read_text(encoding="utf-8")


def test_python_blocks_run():
    source = "\n".join(re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL))
    program = f"if __name__ == '__main__':\n{textwrap.indent(source, '    ', lambda line: True)}"
    done = subprocess.run([sys.executable, "-"], input=program, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 2


def test_the_model_shown_is_stable_and_meets_its_objectives():
    (text,) = re.findall(r"```yaml\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    results = sim.run(sim.loads(text))
    assert results.stable
    assert all(objective.met for objective in results.objectives)
