"""Compiling in a process of its own, which an interrupt ends at once: LLVM in this one would go on to the end."""

from __future__ import annotations

import subprocess
import sys

from simulator.engines.compiled.machine_code import MachineCode

_PROGRAM = "import sys; sys.path[:] = sys.argv[4:]; from simulator.engines.compiled import building; building.write()"


def compiled_apart(module: str, name: str, signature: str) -> MachineCode:
    """A module's function compiled for a signature; raises RuntimeError where that fails."""
    command = [sys.executable, "-c", _PROGRAM, module, name, signature, *sys.path]
    # A session of its own keeps a terminal's interrupt from it: this process ends it.
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, start_new_session=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"compiling {name} ended with {done.returncode}: {done.stderr.decode(errors='replace')}")
    symbol, _, object_code = done.stdout.partition(b"\n")
    return MachineCode(symbol.decode(), object_code)
