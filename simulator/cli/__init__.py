"""The `tpsim` command, a verb a file. Only this room prints; what is heavy is imported when a verb needs it."""

from simulator.cli.app import main

__all__ = ["main"]
