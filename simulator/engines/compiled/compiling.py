"""Compiling, once: machine code is kept on disk, for all models, until the sources change.

Numba's own cache looks at the file of the one function that it caches, and so misses a change of a helper in another
file; here the name of the cached file says everything that the code depends on.
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
from pathlib import Path
from typing import Any

import numba
import numpy as np
from numba.core.compiler import CompileResult
from numba.core.registry import cpu_target
from numba.core.serialize import dumps

from simulator import elementary, hashing, records, streams
from simulator.engines.compiled.pointers import OUTERMOST
from simulator.program import program, stations, step_time

_rebuild: Any = CompileResult._rebuild
_dumps: Any = dumps
log = logging.getLogger(__name__)


@lru_cache
def compiled_once(function: Callable[..., Any], signature: str, announce: bool = False) -> Callable[..., Any]:
    """A function compiled for one signature, from disk where that has been done before."""
    dispatcher: Any = numba.njit(**OUTERMOST)(function)
    dispatcher._cache = DiskCache(function.__name__, announce)
    dispatcher.compile(signature)
    compiled: Callable[..., Any] = dispatcher
    return compiled


def is_kept(function: Callable[..., Any]) -> bool:
    """Whether a function's machine code is on disk."""
    name = _file_name(function.__name__, cpu_target.target_context.codegen().magic_tuple())
    return any((directory / name).exists() for directory in _directories())


class DiskCache:
    """Keeps a function's machine code in a file; what Numba asks of a cache."""

    def __init__(self, name: str, announce: bool) -> None:
        self.name = name
        self.announce = announce

    def load_overload(self, signature: Any, target: Any) -> Any:
        """The compiled code, or None, in which case it will now be compiled: say so."""
        target.refresh()
        name = _file_name(self.name, target.codegen().magic_tuple())
        for directory in _directories():
            with contextlib.suppress(OSError, EOFError, pickle.UnpicklingError):
                return _rebuild(target, *pickle.loads((directory / name).read_bytes()))
        if self.announce:
            log.warning("tpsim: compiling the engine, once for this version: this takes up to half a minute")
        return None

    def save_overload(self, signature: Any, result: Any) -> None:
        """Keep compiled code in the first place that can be written to; nowhere is no error."""
        name, code = _file_name(self.name, result.codegen.magic_tuple()), _dumps(result._reduce())
        for directory in _directories():
            with contextlib.suppress(OSError):
                return _write(directory, name, code)


def _directories() -> Iterator[Path]:
    """Where the code may be kept, best first: where the user says, else beside the sources or in the user's cache."""
    if "NUMBA_CACHE_DIR" in os.environ:
        yield Path(os.environ["NUMBA_CACHE_DIR"])
        return
    yield Path(__file__).parent / "__pycache__"
    with contextlib.suppress(RuntimeError):  # there is no home directory
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tpsim"


def _file_name(function: str, processor: tuple[str, ...]) -> str:
    """A name that says what the code was compiled from, by and for."""
    digest = hashlib.sha256(repr((sys.version_info, numba.__version__, np.__version__, processor)).encode())
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
