"""How fast the compiled engine is, as ratios within one run: to the SimPy engine, to C, and to Ciw.

    python tests/benchmarks/compiled_speed.py [--rounds 5] [--quick]

All contestants run in turn, several times, pinned to one CPU; a ratio is the median over the rounds of requests per
CPU-second of the compiled engine by requests per CPU-second of the other, in the same round.

Where the 96 ns of one M/M/4 request go (measured by leaving parts out; a core of an AMD EPYC, memory already touched):

    draws of gap and service, Python's part of them included     12 to 20 ns (Philox 6, logarithm 2)
    row of the finished request, 80 bytes                         10 ns
    integrals of the station, waiting and service of the request   4 ns
    two events: heap, queue, token, instructions, loop            60 to 70 ns

The bare C loop, with cheaper draws, one number recorded and nothing else kept, takes 69 ns, and the SimPy engine 7 µs:
C / SimPy is 102 to 108 on M/M/4 and 87 on the FIFO tandem. So 100 times SimPy means to be as quick as that loop on
M/M/4, and quicker on the tandem. Memory that was never touched costs up to 90 ns a request more, for the rows, on a
virtual machine that gives free memory back to its host.

Tried, as ratios of speed on M/M/4 to the engine as it is, of five rounds in turns, and not kept:

    rows as records, not columns (the transposition at the end left out)              1.04
    blocks of 16384 draws, not 4096                                                   1.02
    loads of addresses marked as invariant for LLVM                                   1.00
    every field of every record marked as free of aliases (TBAA)                      0.88
    events unsorted, the next one found by a scan without branches                    0.88
    a heap with four children; indices of 64 bits; fewer divisions                    1.00 or less
    sharing tandem: no division by one where a job alone has a rate of one            1.00
"""

import argparse
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from simulator.distributions import Constant, Exponential
from simulator.engines import simulate
from simulator.model.files import load
from simulator.model.lowering import lower
from simulator.program.arrivals import Renewal
from simulator.program.builder import Builder
from simulator.program.instructions import End, Place, Work
from simulator.program.program import Entry, Workload
from simulator.program.stations import Servers, Sharing

HERE = Path(__file__).parent
MODELS = HERE.parent.parent / "models"
TARGETS = {  # of compiled by SimPy, and compiled by C
    "M/M/4": (100.0, 0.5),
    "FIFO tandem": (100.0, 0.5),
    "sharing tandem": (60.0, None),
}


def tandem(stations, rate, service_rate):
    """Poisson arrivals that visit the stations one after the other, exponential work at each."""
    builder = Builder()
    builder.start_workload()
    start = builder.label()
    builder.mark(start)
    for number, station in enumerate(stations):
        place = Place((builder.station(station),))
        work = builder.draw(Exponential(1.0 / service_rate), f"work {number}")
        builder.emit(Work(place, builder.component(station.resource), work))
    builder.emit(End())
    choice = builder.draw(Constant(0.0), "operation")
    entries = (Entry("op", start, 1.0),)
    builder.workload(Workload("w", Renewal(Exponential(1.0 / rate)), entries, choice, (), 0))
    return builder.build("tandem")


def engine_rate(program, engine, duration, seed):
    """Requests per CPU-second of one of the engines."""
    start = time.process_time()
    records = simulate(program, duration, seed, engine=engine)
    return sum(int((table.outcome >= 0).sum()) for table in records.requests) / (time.process_time() - start)


def c_loop():
    """The compiled C program, or None where there is no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    binary = Path(tempfile.mkdtemp()) / "event_loop"
    subprocess.run([compiler, "-O2", "-o", binary, HERE / "event_loop.c", "-lm"], check=True)
    return binary


def c_rate(binary, stations, servers, rate, service_rate, requests, seed):
    """Requests per CPU-second of the C loop."""
    arguments = [str(value) for value in (stations, servers, rate, service_rate, requests, seed)]
    done = subprocess.run([binary, *arguments], capture_output=True, text=True, check=True)
    count, seconds, _ = done.stdout.split()
    return int(count) / float(seconds)


def ciw_rate(stations, servers, rate, service_rate, duration, seed):
    """Requests per CPU-second of Ciw, FIFO stations only; None where it is not installed."""
    try:
        import ciw
    except ImportError:
        return None
    following = [[1.0 if to == start + 1 else 0.0 for to in range(stations)] for start in range(stations)]
    network = ciw.create_network(
        arrival_distributions=[ciw.dists.Exponential(rate)] + [None] * (stations - 1),
        service_distributions=[ciw.dists.Exponential(service_rate)] * stations,
        number_of_servers=[servers] * stations,
        routing=following,
    )
    ciw.seed(seed)
    start = time.process_time()
    simulation = ciw.Simulation(network)
    simulation.simulate_until_max_time(duration)
    finished = len({record.id_number for record in simulation.get_all_records() if record.node == stations})
    return finished / (time.process_time() - start)


class Case:
    """One system: how long each contestant simulates it, in seconds of its own time."""

    def __init__(self, name, program, compiled_s, simpy_s, *, fifo=None, ciw_s=0.0):
        self.name = name
        self.program = program
        self.compiled_s, self.simpy_s, self.ciw_s = compiled_s, simpy_s, ciw_s
        self.fifo = fifo  # (stations, servers, arrival rate, service rate), where C and Ciw can do it
        self.rates = []

    def round(self, binary, seed):
        """Let everybody run once."""
        rates = {
            "compiled": engine_rate(self.program, "compiled", self.compiled_s, seed),
            "SimPy": engine_rate(self.program, "simpy", self.simpy_s, seed),
        }
        if self.fifo and binary:
            rates["C"] = c_rate(binary, *self.fifo, int(self.compiled_s * self.fifo[2]), seed)
        if self.fifo:
            rates["Ciw"] = ciw_rate(*self.fifo, self.ciw_s, seed)
        self.rates.append({name: rate for name, rate in rates.items() if rate})

    def report(self):
        """Lines of the medians."""
        compiled = statistics.median(each["compiled"] for each in self.rates)
        yield f"{self.name}: {compiled:,.0f} requests per CPU-second"
        for other in self.rates[0]:
            if other != "compiled":
                ratios = [each["compiled"] / each[other] for each in self.rates]
                yield (
                    f"    compiled / {other:6} {statistics.median(ratios):8.2f}"
                    f"   [{min(ratios):.2f}, {max(ratios):.2f}]{self.target(other)}"
                )

    def target(self, other):
        """What was aimed at."""
        simpy, c = TARGETS.get(self.name, (50.0, None))
        aim = {"SimPy": simpy, "C": c}.get(other)
        return f"   target {aim:g}" if aim else ""


def cases(scale):
    """The systems."""
    fifo4, fifo5 = (1, 4, 3.0, 1.0), (5, 1, 0.8, 1.0)
    four = tandem([Servers("s", 4)], 3.0, 1.0)
    five = tandem([Servers(f"s{n}", 1) for n in range(5)], 0.8, 1.0)
    shared = tandem([Sharing(f"s{n}", (1.0,)) for n in range(5)], 0.8, 1.0)
    yield Case("M/M/4", four, 1_000_000 * scale, 10_000 * scale, fifo=fifo4, ciw_s=2_000 * scale)
    yield Case("FIFO tandem", five, 1_000_000 * scale, 10_000 * scale, fifo=fifo5, ciw_s=2_000 * scale)
    yield Case("sharing tandem", shared, 1_000_000 * scale, 10_000 * scale)
    programs = [(path.stem, lower(load(path))) for path in sorted(MODELS.glob("*.yaml")) if path.name != "llms.yaml"]
    name, largest = max(programs, key=lambda named: len(named[1].instructions))
    yield Case(f"{name}, the largest model", largest, 600 * scale, 20 * scale)


def main():
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    options = parser.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    binary = c_loop()
    if binary is None:
        print("no C compiler: compiled / C is skipped")
    for case in cases(0.1 if options.quick else 1.0):
        simulate(case.program, 1.0, engine="compiled")  # compiles
        for seed in range(options.rounds):
            case.round(binary, seed)
        print(*case.report(), sep="\n", flush=True)


if __name__ == "__main__":
    main()
