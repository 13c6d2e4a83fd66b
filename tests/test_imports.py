"""Imports go downhill only, heavy ones wait until they are needed, and nobody but the command line prints.

Every import statement counts, those inside functions and under TYPE_CHECKING included: a room that names another's
types knows it just as well. So do `import_module` and `__import__` with a constant text.
"""

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import simulator

PACKAGE = Path(simulator.__file__).parent

# What each room may import, apart from itself. A line names only rooms above it, so arrows go one way.
ALLOWED = {
    "errors": set(),
    "interrupts": set(),
    "units": set(),
    "elementary": set(),
    "hashing": set(),
    "distributions": {"errors", "elementary"},
    "streams": {"errors", "elementary", "distributions"},
    "traces": {"distributions"},
    "program": {"errors", "distributions", "streams", "traces"},
    "records": {"errors"},
    "analytic": {"errors", "elementary", "distributions", "hashing", "streams", "traces", "program"},
    "model": {"errors", "units", "distributions", "hashing", "traces", "program", "analytic"},
    "results": {"errors", "units", "streams", "program", "records", "model", "analytic"},
    "engines": {"errors", "interrupts", "elementary", "distributions", "hashing", "streams", "program", "records"},
    "study": {"errors", "interrupts", "units", "program", "records", "model", "analytic", "results", "engines"},
    "calibration": {"errors", "units", "distributions", "program", "records", "model", "analytic", "results", "study"},
    "report": {"errors", "units", "model", "analytic", "results", "study", "calibration"},
    "cli": {"errors", "units", "model", "analytic", "results", "study", "calibration", "report"},
}
# The package's own module offers the public names, and is imported by nobody inside.
ALLOWED["simulator"] = set(ALLOWED) - {"cli"}
# Of a Program, the model knows what it builds it from.
OF_PROGRAM_TO_MODEL = {"arrivals", "builder", "instructions", "program", "stations", "step_time"}
ONLY_IMPORTER = {
    "simpy": "simulator.engines.simpy",
    "numba": "simulator.engines.compiled",
    "typer": "simulator.cli",
}
HEAVY = {"pandas", "matplotlib", "scipy", "numpy", "numba", "pydantic", "pyarrow", "ruamel", "simpy", "jinja2"}


def modules_of(package=PACKAGE):
    """Name and source text of every module of the package."""
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        yield ".".join(("simulator", *parts)), path.read_text(encoding="utf-8"), path.name == "__init__.py"


def imports_of(name, text, is_package=False):
    """Absolute names of all that a module imports, with the line."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = name.split(".")
                above = parts[: len(parts) - node.level + (1 if is_package else 0)]
                base = ".".join((*above, base)) if base else ".".join(above)
            for alias in node.names:
                yield f"{base}.{alias.name}", node.lineno
        elif isinstance(node, ast.Call) and called(node) in ("import_module", "__import__"):
            yield from ((str(name.value), node.lineno) for name in node.args[:1] if isinstance(name, ast.Constant))


def called(call):
    """Last part of the name that is called."""
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def room_of(module):
    """`results` of `simulator.results.section.Section`; None outside the package."""
    parts = module.split(".")
    if parts[0] != "simulator":
        return None
    return parts[1] if len(parts) > 1 and parts[1] in ALLOWED else "simulator"


def violations(name, text, is_package=False):
    """Every import of a module that goes uphill, or that another room has to itself."""
    here, found = room_of(name), []
    for target, line in imports_of(name, text, is_package):
        there = room_of(target)
        if there is None:
            owner = ONLY_IMPORTER.get(target.split(".")[0])
            if owner is not None and not f"{name}.".startswith(f"{owner}."):
                found.append(f"{name}:{line}: imports {target}, which only {owner} may")
        elif there != here and there not in ALLOWED[here]:
            found.append(f"{name}:{line}: imports {target}: no arrow from {here} to {there}")
        elif (here, there) == ("model", "program"):
            parts = target.split(".")
            known = {parts[2]} if len(parts) > 2 else set()
            if not known <= OF_PROGRAM_TO_MODEL:
                found.append(f"{name}:{line}: imports {target}, which is none of the builder's parts")
    return found


def prints_of(name, text):
    """Where a module prints, or takes hold of the standard streams."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
            yield f"{name}:{node.lineno}: prints"
        if (
            isinstance(node, ast.Attribute)
            and isinstance(node.value, ast.Name)
            and (node.value.id, node.attr) in {("sys", "stdout"), ("sys", "stderr")}
        ):
            yield f"{name}:{node.lineno}: uses sys.{node.attr}"


def test_every_room_has_its_arrows():
    assert {room_of(name) for name, _, _ in modules_of()} <= set(ALLOWED)
    rooms = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert rooms - {"__init__"} <= set(ALLOWED), "a new room: say what it may import"


def test_the_table_itself_goes_downhill():
    above = set()
    for room, allowed in ALLOWED.items():
        assert allowed <= above, room
        above.add(room)


def test_imports_go_downhill():
    found = [each for module in modules_of() for each in violations(*module)]
    assert not found, "\n".join(found)


def test_only_the_command_line_prints():
    found = [each for name, text, _ in modules_of() if room_of(name) != "cli" for each in prints_of(name, text)]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("simulator.engines.simpy.engine", "from simulator.model.system import System"),
        ("simulator.engines.compiled.engine", "from simulator.results.section import reduce"),
        ("simulator.engines.simpy.engine", "import simulator.analytic.demands"),
        ("simulator.results.summary", "from simulator.engines import simulate"),
        ("simulator.results.summary", "def later():\n    from simulator.study.run import run"),
        ("simulator.model.system", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import simulator.engines"),
        ("simulator.model.system", "from simulator.program.loader import load"),
        ("simulator.model.system", "from simulator.study.run import run"),
        ("simulator.model.system", "from ..study import run"),
        ("simulator.program.program", "from simulator import model"),
        ("simulator.errors", "from simulator import Results"),
        ("simulator.study.run", "import simpy"),
        ("simulator.engines.simpy.engine", "from numba import njit"),
        ("simulator.engines.simpier", "import simpy"),
        ("simulator.report.tables", "from simulator.cli import main"),
        ("simulator", "from simulator.cli import main"),
        ("simulator.units", "import importlib\nimportlib.import_module('simulator.errors')"),
    ],
)
def test_an_arrow_uphill_is_found(name, text):
    assert violations(name, text)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("simulator.engines.simpy.engine", "import simpy\nfrom simulator.records import Records"),
        ("simulator.model.system", "from simulator import units\nfrom simulator.program import instructions as ops"),
        ("simulator.model.system", "from .host import Host"),
        ("simulator.cli", "import typer\nfrom simulator.report.tables import run_tables"),
        ("simulator", "from simulator.study.run import run"),
    ],
)
def test_an_arrow_downhill_is_not(name, text):
    assert not violations(name, text)


def test_a_planted_import_in_a_copy_of_the_package_is_found(tmp_path):
    copy = shutil.copytree(PACKAGE, tmp_path / "simulator", ignore=shutil.ignore_patterns("__pycache__"))
    planted = copy / "program" / "builder.py"
    peek = "\n\ndef _peek():\n    from simulator.model import system\n    print(system)\n"
    planted.write_text(planted.read_text() + peek)
    found = [each for module in modules_of(copy) for each in violations(*module)]
    assert any(each.startswith("simulator.program.builder:") for each in found)
    assert any("prints" in each for name, text, _ in modules_of(copy) for each in prints_of(name, text))


def loaded_after(*arguments):
    """Top-level packages that are loaded once the command has run with these arguments."""
    program = (
        "import contextlib, io, json, sys\n"
        f"sys.argv = ['tpsim', *{list(arguments)!r}]\n"
        "from simulator import cli\n"
        "with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):\n"
        "    cli.main()\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(json.loads(done.stdout))


def test_help_loads_nothing_heavy():
    loaded = loaded_after("--help")
    assert "typer" in loaded
    assert sorted(loaded & HEAVY) == []


@pytest.mark.parametrize("arguments", [["run", "--help"], ["rnu"], ["run"]])
def test_a_verb_that_does_not_run_loads_nothing_heavy(arguments):
    """Newer typer parses a verb's options with pydantic; nothing of ours asks for it."""
    assert sorted(loaded_after(*arguments) & (HEAVY - {"pydantic"})) == []


def test_importing_the_package_loads_nothing_heavy():
    program = "import sys, simulator; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & HEAVY
