"""Compiling, once: machine code is kept on disk, for all models, until the sources change.

Numba's own cache looks at the file of the one function that it caches, and so misses a change of a helper in another
file; here the name of the cached file says everything that the code depends on. What is kept is LLVM's object code,
which LLVM alone loads: importing Numba takes several times as long as all that a small run does.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import pickle
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from simulator import elementary, hashing, records, streams
from simulator.engines.compiled.machine_code import MachineCode, processor
from simulator.program import program, stations, step_time

log = logging.getLogger(__name__)


@lru_cache
def compiled_once(module: str, name: str, signature: str, announce: bool = False) -> Callable[..., Any]:
    """A module's function compiled for one signature, from disk where that has been done before.

    `announce` says on the log that it is compiled, where it is not on disk.
    """
    file = _file_name(name)
    code = _kept(file)
    if code is None:
        if announce:
            log.warning("tpsim: compiling the engine, once for this version: this takes up to half a minute")
        code = _compiled(module, name, signature)
        _keep(file, code)
    return code.function(signature)


def is_kept(name: str) -> bool:
    """Whether a function's machine code is on disk."""
    return _kept(_file_name(name)) is not None


def _compiled(module: str, name: str, signature: str) -> MachineCode:
    from simulator.engines.compiled.building import machine_code

    return machine_code(module, name, signature)


def _kept(file: str) -> MachineCode | None:
    for directory in _directories():
        with contextlib.suppress(OSError, EOFError, pickle.UnpicklingError):
            return MachineCode(*pickle.loads((directory / file).read_bytes()))
    return None


def _keep(file: str, code: MachineCode) -> None:
    """Keep compiled code in the first place that can be written to; nowhere is no error."""
    for directory in _directories():
        with contextlib.suppress(OSError):
            return _write(directory, file, pickle.dumps((code.symbol, code.object_code)))


def _directories() -> Iterator[Path]:
    """Where the code may be kept, best first: where the user says, else beside the sources or in the user's cache."""
    if "NUMBA_CACHE_DIR" in os.environ:
        yield Path(os.environ["NUMBA_CACHE_DIR"])
        return
    yield Path(__file__).parent / "__pycache__"
    with contextlib.suppress(RuntimeError):  # there is no home directory
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tpsim"


@lru_cache
def _compilers() -> str:
    """What compiles, for which processor, and the settings of Numba that can change the code."""
    settings = sorted(f"{k}={v}" for k, v in os.environ.items() if k.startswith("NUMBA_") and k != "NUMBA_CACHE_DIR")
    return repr((sys.version_info, *map(version, ("numba", "llvmlite", "numpy")), processor(), settings))


def _file_name(function: str) -> str:
    """A name that says what the code was compiled from, by and for."""
    digest = hashlib.sha256(_compilers().encode())
    modules = program, stations, step_time, records, elementary, hashing, streams
    sources = [*Path(__file__).parent.rglob("*.py"), *(Path(str(module.__file__)) for module in modules)]
    for source in sorted(sources):
        digest.update(source.read_bytes())
    return f"{function}-{digest.hexdigest()[:24]}.bin"


def _write(directory: Path, name: str, code: bytes) -> None:
    """Write a file as a whole."""
    directory.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=directory, prefix="tpsim-", suffix=".tmp")
    with os.fdopen(handle, "wb") as file:
        file.write(code)
    os.replace(temporary, directory / name)
