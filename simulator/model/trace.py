"""Traces of recorded requests in a model: the file that replays and distributions name.

    workloads:
      chat: {replay: {file: chat.csv, speed: 2}, operation: llm.chat}
    services:
      llm:
        operations:
          chat:
            - delay: {trace: {column: output, each: 20 ms}}

Request number n of the workload comes at the time of row n, and draws the tokens of row n, wherever it draws them and
however often. See `simulator.traces.formats` for the formats.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationInfo

from simulator.traces.column import TraceTimes
from simulator.traces.formats import Format
from simulator.traces.trace import open_trace


def path_of(file: str, info: ValidationInfo) -> Path:
    """The whole path of a file that is named relative to the model's directory."""
    return (Path((info.context or {}).get("directory") or ".") / file).absolute()


def located(data: dict[str, Any], path: Path, kind: Any) -> dict[str, Any]:
    """The fields of a part that names a trace, with the file's whole path, its format and its digest.

    Raises ValueError where the file is no trace, or not the one that the digest is of.
    """
    if kind not in ("azure", "mooncake"):
        return data
    digest = open_trace(path, kind).digest
    if data.get("digest") not in (None, digest):
        raise ValueError(f"{path}: the trace has changed: got the digest {digest}, expected {data['digest']}")
    return {**data, "file": str(path), "format": kind, "digest": digest}


def times_of(file: str, kind: Format, most: int | None = None) -> TraceTimes:
    """The arrival times of a trace, or those of its first `most` requests."""
    trace = open_trace(Path(file), kind)
    return TraceTimes(trace, min(trace.rows, most or trace.rows))
