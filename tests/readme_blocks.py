"""The README's ```console blocks: `$ tpsim ...` lines and what they print. Run this file to bring them up to date."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
README = ROOT / "README.md"
BLOCK = re.compile(r"```console\n(\$ .*?)\n```", re.DOTALL)


def blocks() -> list[tuple[str, str]]:
    """Command and shown output of every block; a block shows one command."""
    found = []
    for match in BLOCK.finditer(README.read_text(encoding="utf-8")):
        command, _, output = match[1].partition("\n")
        found.append((command.removeprefix("$ "), output))
    return found


def output_of(command: str) -> str:
    """What the command prints, without trailing white space."""
    program, *arguments = shlex.split(command)
    assert program == "tpsim"
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "FORCE_COLOR")}
    done = subprocess.run(
        [sys.executable, "-m", "simulator.cli", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return "\n".join(line.rstrip() for line in done.stdout.splitlines()).strip("\n")


def update() -> None:
    """Write what the commands print now into the README."""

    def block(match: re.Match[str]) -> str:
        command = match[1].partition("\n")[0].removeprefix("$ ")
        return f"```console\n$ {command}\n{output_of(command)}\n```"

    README.write_text(BLOCK.sub(block, README.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    update()
