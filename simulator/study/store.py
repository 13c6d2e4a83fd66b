"""Store: results as files, each complete or absent; same inputs, same bytes, timings aside."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from simulator.model.files import dump
from simulator.model.lowering import lower
from simulator.model.system import System
from simulator.program.program import Program
from simulator.program.stations import Inference
from simulator.records import INFERENCE_FIELDS, STATION_FIELDS, Records, RequestTable
from simulator.results.results import Results
from simulator.study.whole_files import scratch_beside, write_whole

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa


def probe(directory: Path) -> None:
    """Fail before hours of simulation rather than after: raises OSError where a folder cannot be written."""
    directory = directory.absolute()
    if directory.exists() and not directory.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, "is a file, expected a folder", str(directory))
    with scratch_beside(directory):
        pass


def write(directory: Path, system: System, results: Results, records: Sequence[Records]) -> None:
    """Write run.json, model.yaml, requests.parquet, levels.parquet and summary.json into a folder.

    Records that keep no requests have no requests.parquet, nor does that of an earlier run stay in the folder.
    Everything is written beside the folder first, so a full disk or an interrupt leaves what was there before.
    Raises OSError.
    """
    directory = directory.absolute()
    with scratch_beside(directory) as scratch:
        summary = results.to_json()
        timing = {"wall_s": summary.pop("wall_s")}
        inputs = {name: summary[name] for name in ("model", "seed", "engine", "replications", "digest")}
        _write_json(scratch / "run.json", {"schema_version": summary["schema_version"], **inputs, **timing})
        (scratch / "model.yaml").write_text(dump(system), encoding="utf-8")
        _write_json(scratch / "summary.json", summary)
        if keeps_requests := any(each.requests for each in records):
            _write_parquet(scratch / "requests.parquet", requests_table(records))
        _write_parquet(scratch / "levels.parquet", levels_table(records, lower(system)))
        _move(scratch, directory)
        if not keeps_requests:
            (directory / "requests.parquet").unlink(missing_ok=True)


def _move(scratch: Path, directory: Path) -> None:
    """Put finished files into place: the folder as a whole where there is none yet."""
    if not directory.exists():
        os.replace(scratch, directory)
        return
    for file in sorted(scratch.iterdir()):
        os.replace(file, directory / file.name)


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write a table as CSV or Parquet, by the file's ending; complete or not at all. Raises OSError."""
    if path.suffix == ".csv":
        write_whole(path, lambda scratch: table.to_csv(scratch, index=False))
    else:
        write_whole(path, lambda scratch: table.to_parquet(scratch, index=False))


def _write_json(path: Path, data: Any) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")


def _write_parquet(path: Path, table: pa.Table) -> None:
    import pyarrow.parquet

    pyarrow.parquet.write_table(table, path, compression="zstd")


def requests_table(records: Sequence[Records]) -> pa.Table:
    """One row per request; wait and service of each component (s) and meters in columns, null where it has none."""
    import pyarrow as pa

    tables = [pa.table(_request_columns(table, each.replication)) for each in records for table in each.requests]
    return pa.concat_tables(tables, promote_options="default")


def _request_columns(table: RequestTable, replication: int) -> dict[str, Any]:
    columns: dict[str, Any] = {
        "replication": np.full(len(table), replication),
        "workload": np.full(len(table), table.workload),
        "operation": np.array(table.operations)[table.operation],
        **{name: getattr(table, name) for name in ("number", "arrival", "end", "outcome", "retries")},
    }
    for index, component in enumerate(table.components):
        columns[f"{component} wait"] = table.wait[:, index]
        columns[f"{component} service"] = table.service[:, index]
    for index, meter in enumerate(table.meters):
        columns[meter] = table.meter[:, index]
    return columns


def levels_table(records: Sequence[Records], program: Program) -> pa.Table:
    """One row per replication, sampling time and station: its fields cumulated from time 0, but `present`.

    Those of LLM serving engines (`simulator.records.INFERENCE_FIELDS`) are null for other stations.
    """
    import pyarrow as pa

    return pa.concat_tables([pa.table(_level_columns(each, program)) for each in records])


def _level_columns(records: Records, program: Program) -> dict[str, Any]:
    import pyarrow as pa

    count, stations = records.stations.shape[:2]
    inference = np.array([isinstance(station, Inference) for station in program.stations])
    columns: dict[str, Any] = {
        "replication": np.full(count * stations, records.replication),
        "time": np.repeat(records.times, stations),
        "resource": np.tile(np.array(records.resources), count),
        "station": np.tile(np.arange(stations), count),
    }
    for index, field in enumerate(STATION_FIELDS):
        columns[field] = records.stations[:, :, index].ravel()
    for index, field in enumerate(INFERENCE_FIELDS):
        values = np.zeros((count, stations))
        values[:, inference] = records.inference[:, :, index]
        columns[field] = pa.array(values.ravel(), mask=np.tile(~inference, count))
    return columns
