"""The `tpsim` command. Only this module prints; whatever is heavy is imported when a verb needs it."""

from __future__ import annotations

import io
import json
import os
import sys
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simulator.errors import ConservationError, InputError, TpsimError, UsageError

if TYPE_CHECKING:
    from rich.console import RenderableType

    from simulator.model.objective import Objective
    from simulator.study.run import Settings

FINE, BUG, USAGE, INVALID, UNMET, IMPRECISE, INTERRUPTED = 0, 1, 2, 3, 4, 5, 130

# Newer typer carries its own click, so ClickException is found through a public subclass.
COMMAND_LINE_ERROR: Any = typer.BadParameter.__mro__[2]

app = typer.Typer(
    name="tpsim",
    help="Capacity planning by simulation: how much can this stack do, how fast, what breaks first?",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Model = Annotated[Path, typer.Argument(help="A model file, or the name of a shipped model.", metavar="MODEL")]
Sets = Annotated[
    list[str] | None,
    typer.Option("-S", "--set", metavar="PATH=VALUE", help="Change a field, e.g. -S services.web.replicas=4."),
]
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of all random numbers.")]
Duration = Annotated[str | None, typer.Option("-d", "--duration", help="Simulated time of a replication, e.g. 60s.")]
Replications = Annotated[str | None, typer.Option("-r", "--replications", help="A number, or auto.")]
Precision = Annotated[
    str | None, typer.Option("--precision", help="Add replications until intervals are this narrow, e.g. 2%.")
]
EngineName = Annotated[str, typer.Option("--engine", help="auto, simpy or compiled.")]
Jobs = Annotated[int | None, typer.Option("-j", "--jobs", min=1, help="Processes; as many as cores if left out.")]
SummariesOnly = Annotated[
    bool, typer.Option("--summaries-only", help="Keep no requests: flat memory, quantiles within 0.4 %.")
]
Output = Annotated[Path | None, typer.Option("-o", "--output", help="Folder for results as files.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def main() -> None:
    """Run the command and turn every expected failure into one message and its exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        code = app(prog_name="tpsim", standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # newer typer catches the interrupt and returns this
            raise KeyboardInterrupt
    except InputError as error:
        code = _say(str(error), INVALID)
    except UsageError as error:
        code = _say(f"tpsim: {error}", USAGE)
    except ConservationError as error:
        code = _say(f"tpsim: a run broke a law that every run obeys, a defect of tpsim: {error}", BUG)
    except TpsimError as error:
        code = _say(f"tpsim: {error}", BUG)
    except MemoryError:
        code = _say("tpsim: out of memory; simulate less (-d, -r) or with fewer jobs (-j)", BUG)
    except COMMAND_LINE_ERROR as error:
        error.show()
        code = error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        code = _say("tpsim: interrupted", INTERRUPTED)
    except BrokenPipeError:
        code = _without_a_reader()
    except SystemExit as error:  # typer's way of passing on a broken pipe
        code = _without_a_reader() if isinstance(error.__context__, BrokenPipeError) else error.code
    except OSError as error:
        code = _say(f"tpsim: {error.filename or 'input/output'}: {error.strerror or error}", INVALID)
    except Exception as error:
        if os.environ.get("TPSIM_DEBUG"):
            raise
        code = _say(
            f"tpsim: internal error: {type(error).__name__}: {error} (a defect of tpsim; TPSIM_DEBUG=1 shows where)",
            BUG,
        )
    sys.exit(code or FINE)


def _without_a_reader() -> int:
    """Who reads the output has seen enough, as `head` does: drop the rest."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return FINE


def _say(message: str, code: int) -> int:
    print(message, file=sys.stderr)
    return code


def _print(renderables: Iterable[RenderableType]) -> None:
    """Print blocks with an empty line between them, and nothing at the end of lines."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    for number, renderable in enumerate(renderables):
        with console.capture() as capture:
            console.print(renderable)
        lines = [line.rstrip() for line in capture.get().rstrip("\n").split("\n")]
        print("\n".join([""] * (number > 0) + lines))


def _print_json(data: Any) -> None:
    json.dump(data, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")


class Bar:
    """A progress bar on stderr, shown once the work has lasted a second and stderr is a terminal."""

    patience = 1.0

    def __init__(self, label: str) -> None:
        self.label = label
        self.done, self.planned = 0, 0
        self.shown: Any = None
        self.task: Any = None
        self.lock = threading.Lock()
        self.timer = threading.Timer(self.patience, self._show)
        self.timer.daemon = True

    def __call__(self, done: int, planned: int) -> None:
        """Tell how much is done."""
        with self.lock:
            self.done, self.planned = done, planned
            if self.shown is not None:
                self.shown.update(self.task, completed=done, total=planned)

    def _show(self) -> None:
        from rich.console import Console
        from rich.progress import Progress

        with self.lock:
            if self.timer.finished.is_set():
                return
            self.shown = Progress(console=Console(stderr=True), transient=True)
            self.task = self.shown.add_task(self.label, completed=self.done, total=self.planned or None)
            self.shown.start()

    def __enter__(self) -> Bar:
        if sys.stderr.isatty():
            self.timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self.lock:
            self.timer.cancel()
            if self.shown is not None:
                self.shown.stop()


def _settings(
    seed: int | None,
    duration: str | None,
    replications: str | None,
    precision: str | None,
    engine: str,
    jobs: int | None,
    summaries_only: bool = False,
) -> Settings:
    from simulator.study.executor import available_cores, start_early

    jobs = jobs or available_cores()
    if jobs > 1:
        start_early()
    from simulator.study.run import Settings

    return Settings(
        seed=seed,
        duration=None if duration in (None, "auto") else _above_zero(duration, "duration", "-d"),
        replications=None if replications in (None, "auto") else _whole(replications, "-r"),
        precision=None if precision is None else _above_zero(precision, "fraction", "--precision"),
        engine=engine,
        jobs=jobs,
        summaries_only=summaries_only,
    )


def _above_zero(text: str | None, dimension: str, option: str) -> float:
    from simulator import units

    try:
        number = units.parse(text, dimension)
    except units.UnitError as error:
        raise UsageError(f"{option}: {error}") from None
    if number <= 0.0:
        raise UsageError(f"{option}: got {text!r}, expected more than 0")
    return number


def _whole(text: str | None, option: str) -> int:
    if text is None or not text.isdigit() or int(text) < 1:
        raise UsageError(f"{option}: got {text!r}, expected a whole number >= 1, or auto")
    return int(text)


def _model_path(model: Path) -> Path:
    from simulator.model.shipped import find_model

    return find_model(model)


@app.command()
def check(model: Model, sets: Sets = None, as_json: Json = False) -> None:
    """Validate a model and show what follows from it without simulating: visits, demands, saturation."""
    from simulator.analytic.demands import facts
    from simulator.model.catalogue import named_types
    from simulator.model.files import load
    from simulator.model.lowering import lower
    from simulator.results.results import SCHEMA_VERSION, to_json

    system = load(_model_path(model), sets or ())
    found = facts(lower(system))
    types = named_types(system)
    if as_json:
        header = {"schema_version": SCHEMA_VERSION, "model": system.name, "valid": True, "types": dict(types)}
        _print_json({**header, **to_json(found)})
        return
    from simulator.report.tables import check_tables

    _print(check_tables(system.name, found, system.cost_per_hour, types))


@app.command()
def run(
    model: Model,
    sets: Sets = None,
    seed: Seed = None,
    duration: Duration = None,
    replications: Replications = None,
    precision: Precision = None,
    engine: EngineName = "auto",
    jobs: Jobs = None,
    summaries_only: SummariesOnly = False,
    output: Output = None,
    as_json: Json = False,
) -> None:
    """Simulate a model: throughput, latency, errors, utilization, bottleneck, cost, each with its interval."""
    from dataclasses import replace

    from simulator.model.files import load
    from simulator.study import store
    from simulator.study.run import run as simulate

    settings = _settings(seed, duration, replications, precision, engine, jobs, summaries_only)
    system = load(_model_path(model), sets or ())
    kept: list[Any] = []
    if output:
        store.probe(output)
    with Bar("replications") as bar:
        results = simulate(system, replace(settings, progress=bar, keep=kept.append if output else None))
    if output:
        store.write(output, system, results, kept)
        if summaries_only:
            print("tpsim: no requests.parquet: --summaries-only keeps no requests", file=sys.stderr)
    if as_json:
        _print_json(results.to_json())
    else:
        from simulator.report.tables import run_tables

        _print(run_tables(results))
    if not results.precision_reached:
        raise typer.Exit(IMPRECISE)
    if not all(objective.met for objective in results.objectives):
        raise typer.Exit(UNMET)


@app.command()
def compare(
    model: Model,
    second: Annotated[
        Path | None, typer.Argument(help="Another model file; else the same one.", metavar="[MODEL]")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("-S", "--set", metavar="PATH=VALUE", help="Change a field of both settings.")
    ] = None,
    to: Annotated[
        list[str] | None, typer.Option("--to", metavar="PATH=VALUE", help="Change a field of the second setting.")
    ] = None,
    seed: Seed = None,
    duration: Duration = None,
    replications: Replications = None,
    precision: Precision = None,
    engine: EngineName = "auto",
    jobs: Jobs = None,
    summaries_only: SummariesOnly = False,
    metrics: Annotated[
        list[str] | None, typer.Option("--metric", help="Compare this, too, e.g. 'goodput(ttft 1 s, tpot 50 ms)'.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two settings, replication by replication under the same random numbers."""
    from dataclasses import replace

    from simulator.model.files import load
    from simulator.results.results import SCHEMA_VERSION, to_json
    from simulator.study.compare import compare as compare_systems

    if second is None and not to:
        raise UsageError("nothing to compare: give a second model, or a change with --to PATH=VALUE")
    settings = _settings(seed, duration, replications, precision, engine, jobs, summaries_only)
    first_system = load(_model_path(model), sets or ())
    second_system = load(_model_path(second or model), [*(sets or ()), *(to or ())])
    with Bar("replications") as bar:
        comparison = compare_systems(first_system, second_system, replace(settings, progress=bar), more=metrics or ())
    if as_json:
        _print_json({"schema_version": SCHEMA_VERSION, **to_json(comparison)})
    else:
        from simulator.report.study_tables import compare_tables

        _print(compare_tables(comparison))
    if not (comparison.first.precision_reached and comparison.second.precision_reached):
        raise typer.Exit(IMPRECISE)


@app.command()
def sweep(
    model: Model,
    vary: Annotated[
        list[str], typer.Option("--vary", metavar="PATH=A,B,C", help="A field and its values; repeat for a grid.")
    ],
    objective: Annotated[
        list[str] | None, typer.Option("--objective", help="e.g. 'p99 < 200 ms'; the model's own if left out.")
    ] = None,
    sets: Sets = None,
    seed: Seed = None,
    duration: Duration = None,
    replications: Replications = None,
    precision: Precision = None,
    engine: EngineName = "auto",
    jobs: Jobs = None,
    summaries_only: SummariesOnly = False,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="A .csv or .parquet file.")] = None,
    as_json: Json = False,
) -> None:
    """Simulate every point of a grid over fields of a model; one tidy table, CSV on stdout or a file."""
    from simulator.study import store
    from simulator.study.sweep import Axis, SweepInterrupted, tidy
    from simulator.study.sweep import sweep as sweep_model

    if output is not None and output.suffix not in (".csv", ".parquet"):
        raise UsageError(f"-o: got {str(output)!r}, expected a file that ends in .csv or .parquet")
    axes = [Axis.parse(text) for text in vary]
    objectives = [_objective(text) for text in objective or ()]
    settings = _settings(seed, duration, replications, precision, engine, jobs, summaries_only)
    try:
        with Bar("points") as bar:
            points = sweep_model(_model_path(model), axes, sets or (), settings, bar, objectives)
    except SweepInterrupted as interrupt:
        if output is not None and interrupt.finished:
            part = output.with_suffix(f".partial{output.suffix}")
            store.write_table(part, tidy(interrupt.finished))
            _say(f"tpsim: {len(interrupt.finished)} of {interrupt.planned} points were finished: {part}", INTERRUPTED)
        raise
    table = tidy(points)
    if output is not None:
        store.write_table(output, table)
    elif as_json:
        from simulator.results.results import SCHEMA_VERSION, to_json

        _print_json({"schema_version": SCHEMA_VERSION, "rows": to_json(table.to_dict("records"))})
    else:
        table.to_csv(sys.stdout, index=False)
    if not all(results.precision_reached for _, results in points):
        raise typer.Exit(IMPRECISE)


@app.command()
def capacity(
    model: Model,
    objective: Annotated[
        list[str] | None, typer.Option("--objective", help="e.g. 'p99 < 200 ms'; the model's own if left out.")
    ] = None,
    sets: Sets = None,
    tolerance: Annotated[
        str | None, typer.Option("--tolerance", help="How close to bisect the load; 2% if left out.")
    ] = None,
    vary: Annotated[
        str | None,
        typer.Option(
            "--vary", metavar="PATH", help="Find the smallest number of this instead, e.g. services.web.replicas, gpus."
        ),
    ] = None,
    step: Annotated[int | None, typer.Option("--step", min=1, help="Only multiples of this number (--vary).")] = None,
    most: Annotated[
        int | None, typer.Option("--most", min=1, help="The largest number to try (--vary); 1024 if left out.")
    ] = None,
    seed: Seed = None,
    duration: Duration = None,
    replications: Replications = None,
    engine: EngineName = "auto",
    jobs: Jobs = None,
    summaries_only: SummariesOnly = False,
    as_json: Json = False,
) -> None:
    """Find the largest load that meets the objectives, or with --vary the least of something that the load needs."""
    objectives = tuple(_objective(text) for text in objective or ())
    settings = _settings(seed, duration, replications, None, engine, jobs, summaries_only)
    if vary is None:
        if step is not None or most is not None:
            raise UsageError("--step and --most are about the numbers of --vary PATH, which is missing")
        reachable = _largest_load(model, objectives, sets or (), settings, tolerance or "2%", as_json)
    elif tolerance is not None:
        raise UsageError("--tolerance is about the load, expected none beside --vary")
    else:
        reachable = _smallest_number(model, vary, objectives, sets or (), settings, step, most, as_json)
    if not reachable:
        raise typer.Exit(UNMET)


class Trials:
    """Shows how many trials were made, of an unknown number."""

    def __init__(self, bar: Bar) -> None:
        self.bar = bar
        self.done = 0

    def __call__(self, value: float, met: bool) -> None:
        """Tell of one more."""
        self.done += 1
        self.bar(self.done, max(self.done + 1, 8))


def _largest_load(
    model: Path,
    objectives: tuple[Objective, ...],
    sets: Sequence[str],
    settings: Settings,
    tolerance: str,
    as_json: bool,
) -> bool:
    from simulator.model.files import load
    from simulator.results.results import SCHEMA_VERSION, to_json
    from simulator.study.capacity import capacity as find_capacity

    width = _above_zero(tolerance, "fraction", "--tolerance")
    system = load(_model_path(model), sets)
    with Bar("trials") as bar:
        answer = find_capacity(system, objectives, settings, width, Trials(bar))
    if as_json:
        found = {"reachable": answer is not None, **(to_json(answer) if answer else {})}
        _print_json({"schema_version": SCHEMA_VERSION, "model": system.name, **found})
    elif answer is None:
        print("no load meets the objectives")
    else:
        from simulator.report.study_tables import capacity_tables

        _print(capacity_tables(answer, system))
    return answer is not None


def _smallest_number(
    model: Path,
    field: str,
    objectives: tuple[Objective, ...],
    sets: Sequence[str],
    settings: Settings,
    step: int | None,
    most: int | None,
    as_json: bool,
) -> bool:
    from simulator.results.results import SCHEMA_VERSION, to_json
    from simulator.study.size import MOST, size

    with Bar("trials") as bar:
        answer = size(_model_path(model), field, objectives, sets, settings, step or 1, most or MOST, Trials(bar))
    if as_json:
        header = {"schema_version": SCHEMA_VERSION, "model": answer.results.model, "reachable": answer.reachable}
        _print_json({**header, **to_json(answer)})
    else:
        from simulator.report.study_tables import size_tables

        _print(size_tables(answer))
    return answer.reachable


def _objective(text: str) -> Objective:
    from pydantic import ValidationError

    from simulator.model.objective import Objective

    try:
        return Objective.model_validate(text)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise UsageError(f"--objective: {message}") from None


@app.command()
def validate(
    model: Model,
    measured: Annotated[
        Path | None, typer.Argument(help="A CSV; the model's own if left out.", metavar="[CSV]")
    ] = None,
    sets: Sets = None,
    where: Annotated[
        list[str] | None, typer.Option("--where", metavar="COLUMN=VALUE", help="Only rows with this value.")
    ] = None,
    held_out: Annotated[bool, typer.Option("--held-out", help="Only rows that the model was not fitted to.")] = False,
    seed: Seed = None,
    duration: Duration = None,
    replications: Replications = None,
    engine: EngineName = "auto",
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Show a model's prediction beside measurements, the error of every row, and the mean error."""
    from simulator.calibration.validate import mean_absolute_percentage_error
    from simulator.calibration.validate import validate as validate_model
    from simulator.results.results import SCHEMA_VERSION, to_json

    settings = _settings(seed, duration, replications, None, engine, jobs)
    with Bar("rows") as bar:
        found = validate_model(_model_path(model), measured, sets or (), _choices(where), settings, bar, held_out)
    if as_json:
        rows = [{**to_json(each), "error": to_json(each.error)} for each in found.comparisons]
        errors = {
            name: to_json(mean_absolute_percentage_error(group))
            for name, group in (("held_out", found.held_out), ("fitted", found.fitted))
        }
        header = {"schema_version": SCHEMA_VERSION, "model": found.model, "source": found.source}
        _print_json({**header, "mape": errors, "rows": rows})
        return
    from simulator.report.tables import validation_tables

    _print(validation_tables(found))


@app.command()
def monitor(
    model: Model,
    measured: Annotated[Path, typer.Argument(help="A CSV, one row for each window.", metavar="CSV")],
    sets: Sets = None,
    baseline: Annotated[
        int | None, typer.Option("--baseline", min=3, help="Windows that are normal; 20 if left out.")
    ] = None,
    allowance: Annotated[
        float | None, typer.Option("--allowance", help="Half the shift to find, in deviations; 0.5 if left out.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option("--threshold", help="Sum of deviations that is drift; 8 if left out.")
    ] = None,
    seed: Seed = None,
    duration: Duration = None,
    replications: Replications = None,
    engine: EngineName = "auto",
    jobs: Jobs = None,
    as_json: Json = False,
) -> None:
    """Show where measurements drift away from a model, window by window, and what moved."""
    from simulator.calibration.cusum import Chart
    from simulator.calibration.drift import monitor as monitor_model
    from simulator.results.results import SCHEMA_VERSION

    settings = _settings(seed, duration, replications, None, engine, jobs)
    given = {"baseline": baseline, "allowance": allowance, "threshold": threshold}
    try:
        chart = Chart(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    except ValueError as error:
        raise UsageError(str(error)) from None
    with Bar("loads") as bar:
        found = monitor_model(_model_path(model), measured, sets or (), settings, chart, tell=bar)
    from simulator.report.drift_tables import monitoring_json, monitoring_tables

    if as_json:
        _print_json({"schema_version": SCHEMA_VERSION, **monitoring_json(found)})
    else:
        _print(monitoring_tables(found))
    if found.drift is not None:
        raise typer.Exit(UNMET)


def _choices(where: list[str] | None) -> dict[str, list[str]]:
    chosen: dict[str, list[str]] = {}
    for text in where or ():
        column, equals, values = text.partition("=")
        if not equals or not values:
            raise UsageError(f"--where: got {text!r}, expected COLUMN=VALUE or COLUMN=VALUE,VALUE")
        chosen.setdefault(column.strip(), []).extend(value.strip() for value in values.split(","))
    return chosen


@app.command()
def schema() -> None:
    """Print the JSON schema of model files."""
    from simulator.model.schema import json_schema

    _print_json(json_schema())


@app.command()
def models(as_json: Json = False) -> None:
    """List the shipped models and the hardware catalogue, with a line each."""
    from simulator.model.catalogue import SECTIONS, types_of
    from simulator.model.catalogue import groups as hardware_groups
    from simulator.model.shipped import shipped_models

    found = shipped_models()
    if as_json:
        from simulator.results.results import SCHEMA_VERSION, to_json

        listed = [{"name": name, "description": description} for name, description in found]
        hardware = {section: [to_json(each) for each in types_of(section).values()] for section in SECTIONS}
        _print_json({"schema_version": SCHEMA_VERSION, "models": listed, "hardware": hardware})
        return
    from simulator.report.tables import models_tables

    hardware_lines = [
        (f"{section}: {group}", f"{_first_to_last([each.name for each in types])}: {types[0].about}")
        for section in SECTIONS
        for group, types in hardware_groups(section).items()
    ]
    _print(models_tables(found, hardware_lines))


def _first_to_last(names: list[str]) -> str:
    return ", ".join(names) if len(names) < 5 else f"{names[0]} to {names[-1]}, {len(names)} types"


if __name__ == "__main__":
    main()
