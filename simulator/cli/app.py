"""The command as a whole: its verbs, and the exit code of every expected failure."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from simulator.cli import calibrate, capacity, check, compare, models, monitor, run, schema, sweep, validate
from simulator.cli.exit_codes import BUG, FINE, INTERRUPTED, INVALID, USAGE
from simulator.cli.output import say
from simulator.cli.standard_streams import drop_what_cannot_be_written, prepare_standard_streams
from simulator.errors import ConservationError, InputError, TpsimError, UsageError

# Newer typer carries its own click, so ClickException is found through a public subclass.
COMMAND_LINE_ERROR: Any = typer.BadParameter.__mro__[2]

VERBS: tuple[Callable[..., None], ...] = (
    check.check,
    run.run,
    compare.compare,
    sweep.sweep,
    capacity.capacity,
    validate.validate,
    calibrate.calibrate,
    monitor.monitor,
    schema.schema,
    models.models,
)

app = typer.Typer(
    name="tpsim",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for verb in VERBS:
    app.command()(verb)


def _show_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import PackageNotFoundError, version

        try:
            typer.echo(f"tpsim {version('tpsim')}")
        except PackageNotFoundError:
            typer.echo("tpsim, not installed: no version")
        raise typer.Exit


@app.callback()
def tpsim(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Capacity planning by simulation: how much can this stack do, how fast, what breaks first?"""


def exit_code() -> int:
    """Run the command and turn every expected failure into one message; returns the exit code."""
    prepare_standard_streams()
    try:
        code: Any = app(prog_name="tpsim", standalone_mode=False)
        sys.stdout.flush()
        if code == INTERRUPTED:  # newer typer catches the interrupt and returns this
            raise KeyboardInterrupt
    except InputError as error:
        code = say(str(error), INVALID)
    except UsageError as error:
        code = say(f"tpsim: {error}", USAGE)
    except ConservationError as error:
        code = say(f"tpsim: a run broke a law that every run obeys, a defect of tpsim: {error}", BUG)
    except TpsimError as error:
        code = say(f"tpsim: {error}", BUG)
    except MemoryError:
        code = say("tpsim: out of memory; simulate less (-d, -r) or with fewer jobs (-j)", BUG)
    except COMMAND_LINE_ERROR as error:
        error.show()
        code = error.exit_code
    except typer.Abort:
        raise KeyboardInterrupt from None
    except BrokenPipeError:  # who reads the output has seen enough, as `head` does
        code = FINE
    except SystemExit as error:  # typer's way of passing on a broken pipe
        code = FINE if isinstance(error.__context__, BrokenPipeError) else error.code
    except OSError as error:
        code = say(f"tpsim: {error.filename or 'input/output'}: {error.strerror or error}", INVALID)
    except Exception as error:
        if os.environ.get("TPSIM_DEBUG"):
            raise
        code = say(
            f"tpsim: internal error: {type(error).__name__}: {error} (a defect of tpsim; TPSIM_DEBUG=1 shows where)",
            BUG,
        )
    drop_what_cannot_be_written()
    return code or FINE
