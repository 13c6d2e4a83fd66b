"""What all tests have: the engine, compiled before any test process starts, and the command."""

import sys
from typing import NamedTuple

import pytest

from simulator import cli


def pytest_configure(config):
    """Compile the engine once, where it is not in the cache yet."""
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
