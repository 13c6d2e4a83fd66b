"""A kind of resource is one file: put among the others it is part of the language, schema and messages included."""

import shutil
import subprocess
import sys
from pathlib import Path

import simulator

KIND = '''
"""Printers: paper comes out one page after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from simulator.distributions import Constant
from simulator.model.part import PositiveDuration
from simulator.model.resource import Resource
from simulator.model.step import StepPart
from simulator.program.instructions import Place
from simulator.program.stations import Servers

if TYPE_CHECKING:
    from simulator.model.lowering import Lowering
    from simulator.model.site import Site


class Printer(Resource):
    """Prints a page at a time."""

    section: ClassVar[str] = "printers"
    noun: ClassVar[str] = "printer"

    page: PositiveDuration
    """Time that a page takes."""

    def lower(self, lowering: Lowering, name: str) -> int:
        """One server."""
        return lowering.builder.station(Servers(f"printers.{name}", 1))


class Print(StepPart):
    """Print a page."""

    verb: ClassVar[str] = "print"
    references: ClassVar[dict[str, str]] = {"print": "printers"}

    print: str
    """Name of the printer."""

    def lower(self, site: Site) -> None:
        """A visit of the printer."""
        printer = site.lowering.system.resources("printers")[self.print]
        site.work("printer", Place((site.resource("printers", self.print),)), Constant(printer.page))
'''
MODEL = """
hosts: {app: {cpu: 1}}
services: {web: {host: app, operations: {page: [{print: laser}]}}}
workloads: {people: {rate: 1/s, operation: web.page}}
printers: {laser: {page: 100 ms}}
"""
PROGRAM = """
import sys
import simulator as sim
from simulator.model.schema import json_schema

text = open(sys.argv[1]).read()
results = sim.run(sim.loads(text), sim.Settings(replications=2, duration=100.0, engine="simpy"))
print(round(results.workloads["people"].breakdown["web.printer"].service_s.value, 6))
print("printers" in json_schema()["$defs"]["model"]["properties"])
try:
    sim.loads(text.replace("print: laser", "print: lazer"))
except sim.InputError as error:
    print(error)
"""


def test_a_new_kind_is_one_file(tmp_path):
    copy = shutil.copytree(
        Path(simulator.__file__).parent, tmp_path / "simulator", ignore=shutil.ignore_patterns("__pycache__")
    )
    (copy / "model" / "kinds" / "printer.py").write_text(KIND)
    (tmp_path / "model.yaml").write_text(MODEL)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "model.yaml"],
        cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    service, in_schema, message = done.stdout.strip().splitlines()
    assert (service, in_schema) == ("0.1", "True")
    assert message.endswith("services.web.operations.page.0.print: no printer named 'lazer'; did you mean 'laser'?")
