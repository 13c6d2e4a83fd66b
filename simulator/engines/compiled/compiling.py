"""Compiling, once: machine code is kept on disk, for all models, until the sources change.

Numba's own cache looks at the file of the one function that it caches, and so misses a change of a helper in another
file; here the name of the cached file says everything that the code depends on. What is kept is LLVM's object code,
which LLVM alone loads: importing Numba takes several times as long as all that a small run does.

LLVM crashes on object code that is damaged, so a file says by a hash what it must hold: a line that names the format,
the SHA-256 of the rest, the file's own name, the function's symbol, and the object code. A file that does not hold
that counts as absent.

Where no place can be written to, the code is kept for this process and its workers alone (`simulator.engines.unkept`).
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from simulator import elementary, hashing, records, streams
from simulator.engines import unkept
from simulator.engines.compiled.apart import compiled_apart
from simulator.engines.compiled.machine_code import MachineCode, processor
from simulator.errors import UsageError
from simulator.interrupts import interrupts_held_back
from simulator.program import program, stations, step_time

log = logging.getLogger(__name__)

FORMAT = b"tpsim machine code 1"
# Where the code is kept is not what it is, and code that is compiled already needs no compiler.
NOT_OF_THE_CODE = {"NUMBA_CACHE_DIR", "NUMBA_DISABLE_JIT"}


@lru_cache
def compiled_once(module: str, name: str, signature: str, announce: bool = False) -> Callable[..., Any]:
    """A module's function compiled for one signature, from disk where that has been done before.

    `announce` says on the log that it is compiled, where it is not on disk, and that it could not be kept. Raises
    `UsageError` where it is not on disk and Numba is told not to compile.
    """
    file = _file_name(name)
    function = _loaded(file, signature)
    if function is None:
        code = _compiled(module, name, signature, announce)
        function = _linked(code, signature)
        _keep(file, code, announce)
    return function


def is_kept(name: str) -> bool:
    """Whether a function's machine code is on disk."""
    return _kept(_file_name(name)) is not None


def _loaded(file: str, signature: str) -> Callable[..., Any] | None:
    """The function on disk, if it is there."""
    code = _kept(file)
    if code is not None:
        with contextlib.suppress(LookupError):
            return _linked(code, signature)
    return None


def _linked(code: MachineCode, signature: str) -> Callable[..., Any]:
    """The function, of which LLVM swallows an interrupt that comes while it loads it."""
    with interrupts_held_back():
        return code.function(signature)


def _compiled(module: str, name: str, signature: str, announce: bool) -> MachineCode:
    from numba.core import config

    if getattr(config, "DISABLE_JIT", False):  # set when Numba reads its settings: not declared
        raise UsageError(
            "the compiled engine cannot be compiled with NUMBA_DISABLE_JIT set: unset it, or use --engine simpy"
        )
    if announce:
        log.warning("tpsim: compiling the engine, once for this version: this takes up to half a minute")
    return compiled_apart(module, name, signature)


def _kept(file: str) -> MachineCode | None:
    """The code in the first file of this name that is whole, or of what could not be kept in one."""
    for directory in _directories():
        with contextlib.suppress(OSError):
            code = _unpacked(file, (directory / file).read_bytes())
            if code is not None:
                return code
    content = unkept.recall(file)
    return None if content is None else _unpacked(file, content)


def _keep(file: str, code: MachineCode, announce: bool) -> None:
    """Keep compiled code in the first place that can be written to, else for this process and its workers."""
    for directory in _directories():
        with contextlib.suppress(OSError):
            return _write(directory, file, _packed(file, code))
    unkept.remember(file, _packed(file, code))
    if announce:
        places = " or ".join(map(str, _directories()))
        log.warning("tpsim: the compiled engine could not be kept in %s: it will be compiled again next time", places)


def _packed(file: str, code: MachineCode) -> bytes:
    """What a file of this name holds to keep the code."""
    rest = b"\n".join((file.encode(), code.symbol.encode(), code.object_code))
    return b"\n".join((FORMAT, hashlib.sha256(rest).hexdigest().encode(), rest))


def _unpacked(file: str, content: bytes) -> MachineCode | None:
    """The code that a file of this name holds; None where its content is not just what was written."""
    parts = content.split(b"\n", 4)
    if len(parts) < 5:
        return None
    code = MachineCode(parts[3].decode(errors="replace"), parts[4])
    return code if _packed(file, code) == content else None


def _directories() -> Iterator[Path]:
    """Where the code may be kept, best first: where the user says, else beside the sources or in the user's cache."""
    if chosen := os.environ.get("NUMBA_CACHE_DIR"):
        yield Path(chosen)
        return
    yield Path(__file__).parent / "__pycache__"
    with contextlib.suppress(RuntimeError):  # there is no home directory
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tpsim"


@lru_cache
def _compilers() -> str:
    """What compiles, for which processor, and the settings of Numba that can change the code."""
    names = sorted(name for name in os.environ if name.startswith("NUMBA_") and name not in NOT_OF_THE_CODE)
    settings = [f"{name}={os.environ[name]}" for name in names]
    return repr((sys.version_info, *map(version, ("numba", "llvmlite", "numpy")), processor(), settings))


def _file_name(function: str) -> str:
    """A name that says what the code was compiled from, by and for."""
    digest = hashlib.sha256(_compilers().encode())
    modules = program, stations, step_time, records, elementary, hashing, streams
    sources = [*Path(__file__).parent.rglob("*.py"), *(Path(str(module.__file__)) for module in modules)]
    for source in sorted(sources):
        digest.update(source.read_bytes())
    return f"{function}-{digest.hexdigest()[:24]}.bin"


def _write(directory: Path, name: str, content: bytes) -> None:
    """Write a file as a whole, that whoever the umask allows may read."""
    directory.mkdir(parents=True, exist_ok=True)
    temporary = directory / f"tpsim-{os.urandom(8).hex()}.tmp"
    try:
        with temporary.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, directory / name)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
