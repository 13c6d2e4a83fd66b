"""What a small run takes beyond `tpsim --help`: importing, reading the model, loading the engine, all but simulating.

Both are whole processes, in turns, by the clock. The engine is compiled before. Run it with

    python tests/benchmarks/start_up.py [--repetitions 9]
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

MODEL = Path(__file__).parents[2] / "models" / "web-shop.yaml"
TPSIM = (sys.executable, "-m", "simulator.cli")
HELP = (*TPSIM, "--help")
RUN = (*TPSIM, "run", str(MODEL), "-d", "5s", "-r", "2", "-j", "1", "--engine", "compiled")


def seconds(command: tuple[str, ...]) -> float:
    """How long a process takes."""
    start = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - start


def main() -> None:
    """Print the medians and their difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repetitions", type=int, default=9)
    seconds(RUN)
    pairs = [(seconds(HELP), seconds(RUN)) for _ in range(parser.parse_args().repetitions)]
    helps, runs = zip(*pairs, strict=True)
    beyond = sorted(run - help_ for help_, run in pairs)
    print(f"tpsim --help  {median(helps):.2f} s")
    print(f"tpsim run     {median(runs):.2f} s")
    print(f"beyond help   {median(beyond):.2f} s [{beyond[0]:.2f}, {beyond[-1]:.2f}]")


if __name__ == "__main__":
    main()
