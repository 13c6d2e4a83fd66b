"""tpsim: capacity planning by simulation.

    import simulator as sim

    system = sim.load("models/web-shop.yaml")
    results = sim.run(system)

The names below are the public ones; each is imported when it is first used, so importing this package costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from simulator.analytic.demands import facts
    from simulator.calibration.calibrate import calibrate
    from simulator.calibration.drift import monitor
    from simulator.calibration.validate import validate
    from simulator.engines import simulate
    from simulator.engines.simpy import Job
    from simulator.errors import InputError, TpsimError
    from simulator.model.files import load, loads
    from simulator.model.lowering import lower
    from simulator.model.shipped import find_model
    from simulator.model.system import System
    from simulator.records import Records
    from simulator.report import plots
    from simulator.results.estimate import Estimate
    from simulator.results.results import Results
    from simulator.study.capacity import capacity
    from simulator.study.compare import compare
    from simulator.study.run import Settings, run
    from simulator.study.size import size
    from simulator.study.sweep import Axis, sweep, tidy

__all__ = [
    "Axis",
    "Estimate",
    "InputError",
    "Job",
    "Records",
    "Results",
    "Settings",
    "System",
    "TpsimError",
    "calibrate",
    "capacity",
    "compare",
    "facts",
    "find_model",
    "load",
    "loads",
    "lower",
    "monitor",
    "plots",
    "run",
    "simulate",
    "size",
    "sweep",
    "tidy",
    "validate",
]

_HOMES = {
    "analytic.demands": ("facts",),
    "calibration.calibrate": ("calibrate",),
    "calibration.drift": ("monitor",),
    "calibration.validate": ("validate",),
    "engines": ("simulate",),
    "engines.simpy": ("Job",),
    "errors": ("InputError", "TpsimError"),
    "model.files": ("load", "loads"),
    "model.lowering": ("lower",),
    "model.shipped": ("find_model",),
    "model.system": ("System",),
    "records": ("Records",),
    "report.plots": ("plots",),
    "results.estimate": ("Estimate",),
    "results.results": ("Results",),
    "study.capacity": ("capacity",),
    "study.compare": ("compare",),
    "study.run": ("Settings", "run"),
    "study.size": ("size",),
    "study.sweep": ("Axis", "sweep", "tidy"),
}
_HOME = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    home = import_module(f"{__name__}.{_HOME[name]}")
    value = home if name == "plots" else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
