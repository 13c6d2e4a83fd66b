"""A trace as columns on disk: written once for a file's content, then read in blocks, so that memory stays small."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from simulator.traces.formats import Format, read_rows

Column = Literal["arrival", "input", "output", "blocks", "offsets"]
TYPES: dict[Column, str] = {"arrival": "<f8", "input": "<i8", "output": "<i8", "blocks": "<i8", "offsets": "<i8"}
LAYOUT = b"tpsim trace columns 1"
CHUNK = 1 << 14
READ = 1 << 20


class TraceError(ValueError):
    """A trace is not what it was, or not there."""


@dataclass(frozen=True, slots=True)
class Trace:
    """Recorded requests, known by their content; small, hashable and picklable, whatever their number.

    Columns: `arrival` (s since the first), `input` and `output` (tokens); where block ids are known, `blocks` holds
    those of all rows one after the other, and `offsets` where those of each row begin (rows + 1 numbers).
    """

    digest: str
    rows: int
    block_ids: int | None = None
    source: str = field(default="", compare=False)
    trace_format: Format = field(default="azure", compare=False)

    def column(self, name: Column, first: int = 0, count: int | None = None) -> NDArray[Any]:
        """The values first .. first + count - 1 of a column, all by default; a new array, shorter at the end.

        Raises TraceError where the trace has no such column, or its columns and its source are gone.
        """
        if self.block_ids is None and name in ("blocks", "offsets"):
            raise TraceError(f"{self.source}: has no hash_ids, expected block ids in every row")
        path = self._directory() / f"{name}.npy"
        # Mapped for the moment only: pages of a mapping that stays count as this process's memory.
        values = np.load(path, mmap_mode="r")[first : None if count is None else first + count]
        return np.array(values)

    def _directory(self) -> Path:
        for directory in _directories():
            if (directory / self.digest).is_dir():
                return directory / self.digest
        found = open_trace(Path(self.source), self.trace_format)
        if found != self:
            raise TraceError(f"{self.source}: the trace has changed since it was read")
        return found._directory()


def open_trace(path: Path, trace_format: Format) -> Trace:
    """The trace of a file, whose columns are written where that has not been done.

    Raises ValueError with `file:line:column: what was expected` for a file that is none.
    """
    try:
        status = path.stat()
        return _opened(path, trace_format, _digest(path, trace_format, status.st_size, status.st_mtime_ns))
    except (OSError, ValueError):
        for _ in read_rows(path, trace_format):  # says what is wrong with the file
            pass
        raise


def _opened(path: Path, trace_format: Format, digest: str) -> Trace:
    for directory in _directories():
        if (directory / digest).is_dir():
            return _described(directory / digest, digest, path, trace_format)
    for directory in _directories():
        with contextlib.suppress(OSError):
            directory.mkdir(parents=True, exist_ok=True)
            return _described(_write(directory, digest, path, trace_format), digest, path, trace_format)
    raise TraceError(f"{path}: no directory can be written to for the trace's columns: set XDG_CACHE_HOME")


def _directories() -> Iterator[Path]:
    """Where columns may be kept, best first: the user's cache, else a directory for temporary files."""
    with contextlib.suppress(RuntimeError):  # there is no home directory
        yield Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tpsim" / "traces"
    yield Path(tempfile.gettempdir()) / f"tpsim-traces-{os.getuid() if hasattr(os, 'getuid') else 0}"


@lru_cache(maxsize=64)
def _digest(path: Path, trace_format: Format, size: int, modified: int) -> str:
    """Of a file's content; `size` and `modified` tell it from what it was."""
    digest = hashlib.blake2b(LAYOUT + trace_format.encode(), digest_size=16)
    with path.open("rb") as stream:
        while data := stream.read(READ):
            digest.update(data)
    return digest.hexdigest()


def _described(directory: Path, digest: str, source: Path, trace_format: Format) -> Trace:
    def length(name: Column) -> int:
        return int(np.load(directory / f"{name}.npy", mmap_mode="r").shape[0])

    ids = length("blocks") if (directory / "blocks.npy").exists() else None
    return Trace(digest, length("arrival"), ids, str(source), trace_format)


def _write(directory: Path, digest: str, source: Path, trace_format: Format) -> Path:
    """Write the columns of a trace in one pass over it; complete or not at all."""
    scratch = Path(tempfile.mkdtemp(dir=directory, prefix=".writing-"))
    try:
        _write_columns(scratch, source, trace_format)
        with contextlib.suppress(OSError):  # another process was quicker
            scratch.rename(directory / digest)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return directory / digest


def _write_columns(directory: Path, source: Path, trace_format: Format) -> None:
    with contextlib.ExitStack() as stack:
        columns = {name: stack.enter_context(_ColumnFile(directory / f"{name}.npy", TYPES[name])) for name in TYPES}
        start, ids, with_blocks = None, 0, False
        columns["offsets"].append(0)
        for row in read_rows(source, trace_format):
            start = row.nanoseconds if start is None else start
            columns["arrival"].append((row.nanoseconds - start) / 1e9)
            columns["input"].append(row.input)
            columns["output"].append(row.output)
            with_blocks = row.blocks is not None
            columns["blocks"].extend(row.blocks or [])
            ids += len(row.blocks or [])
            columns["offsets"].append(ids)
    if not with_blocks:
        for name in ("blocks", "offsets"):
            (directory / f"{name}.npy").unlink()


class _ColumnFile:
    """A one-dimensional array in NumPy's format that grows at its end."""

    def __init__(self, path: Path, kind: str) -> None:
        self.path, self.kind = path, kind
        self.count = 0
        self.pending: list[float] = []

    def __enter__(self) -> _ColumnFile:
        self.file: BinaryIO = self.path.open("wb")
        self._header()
        return self

    def __exit__(self, *error: object) -> None:
        with self.file:
            self._flush()
            self.file.seek(0)
            self._header()

    def append(self, value: float) -> None:
        self.extend([value])

    def extend(self, values: list[int] | list[float]) -> None:
        self.pending += values
        if len(self.pending) >= CHUNK:
            self._flush()

    def _flush(self) -> None:
        np.array(self.pending, self.kind).tofile(self.file)
        self.count += len(self.pending)
        self.pending = []

    def _header(self) -> None:
        """As long for every length: NumPy leaves room for an array that grows."""
        described = {"descr": self.kind, "fortran_order": False, "shape": (self.count,)}
        np.lib.format.write_array_header_1_0(self.file, described)
        self.file.flush()
