"""What all tests have: interrupts let through, the engine compiled before any test process starts, and the command.

Generated cases are the same in every run of the same tests, so that a commit is judged by what it changed;
`pytest --hypothesis-profile=explore` generates others each time, as which found cases become regression tests.
"""

import signal
import sys
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, settings

from simulator import cli

COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow, HealthCheck.data_too_large]}
settings.register_profile("same", derandomize=True, **COMMON)
settings.register_profile("explore", **COMMON)
settings.load_profile("same")


def pytest_configure(config):
    """Let interrupts through, and compile the engine where it is not in the cache yet."""
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # started in the background; children would inherit it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if not hasattr(config, "workerinput"):
        from simulator.engines.compiled.engine import prepare

        prepare()


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def tpsim(monkeypatch, capsys):
    """Run the command in this process."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["tpsim", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        return Outcome(ended.value.code, captured.out, captured.err)

    return run
