"""Fit the CPU time of a request in models/nginx-web.yaml to the rows measured with 1, 2 and 4 CPUs.

    CPU time = request + file (where there is a body) + size * body

Three parameters for each protocol, by least squares on relative errors. Rows within 5 % of the NIC's rated
bandwidth say nothing about the CPU and are left out. Prints each parameter with its 95 % interval, and the
compute time of each operation as the model states it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from simulator.results.estimate import student_t_quantile

TABLE = Path(__file__).resolve().parents[2] / "models" / "nginx-web.csv"
FITTED_CPUS = (1, 2, 4)
NIC_BYTES_PER_S = 80e9 / 8 / (1538 / 1448)
HEADER_BYTES = 257
BODIES_KB = (0, 1, 10, 100)


def fitted_rows(protocol: str) -> pd.DataFrame:
    """The rows that the parameters of a protocol are fitted to."""
    rows = pd.read_csv(TABLE, comment="#")
    rows = rows[(rows.protocol == protocol) & rows.cpus.isin(FITTED_CPUS)]
    nic_limit = NIC_BYTES_PER_S / (rows.body_kb * 1024 + HEADER_BYTES)
    return rows[rows.rps < 0.95 * nic_limit]


def design(body_kb: np.ndarray) -> np.ndarray:
    """One row per body size: 1, whether there is a body, its KiB."""
    return np.column_stack([np.ones(len(body_kb)), body_kb > 0, body_kb]).astype(float)


def fit(protocol: str) -> tuple[np.ndarray, np.ndarray]:
    """Parameters (µs, µs, µs per KiB) and the half widths of their 95 % intervals."""
    rows = fitted_rows(protocol)
    measured = 1e6 * rows.cpus.to_numpy() / rows.rps.to_numpy()
    relative = design(rows.body_kb.to_numpy()) / measured[:, None]
    parameters, *_ = np.linalg.lstsq(relative, np.ones(len(rows)))
    residual = relative @ parameters - 1.0
    freedom = len(rows) - len(parameters)
    covariance = np.linalg.inv(relative.T @ relative) * (residual @ residual) / freedom
    return parameters, student_t_quantile(0.975, freedom) * np.sqrt(np.diag(covariance))


def main() -> None:
    for protocol in ("http", "https"):
        parameters, half_widths = fit(protocol)
        print(f"{protocol}, {len(fitted_rows(protocol))} rows:")
        for name, value, half in zip(("request µs", "file µs", "size µs/KiB"), parameters, half_widths, strict=True):
            print(f"  {name:12} {value:7.3f} [{value - half:.3f}, {value + half:.3f}]")
        for body, time in zip(BODIES_KB, design(np.array(BODIES_KB)) @ parameters, strict=True):
            print(f"  {protocol}_{body}kB: compute: {time:.2f} us")


if __name__ == "__main__":
    main()
