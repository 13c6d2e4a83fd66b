"""The `tpsim` command, a verb a file. Only this room prints; what is heavy is imported when a verb needs it."""

import sys

__all__ = ["main"]


def main() -> None:
    """Run the command; an interrupt ends it quietly at any time, also while it is loaded."""
    try:
        from simulator.cli.app import exit_code

        sys.exit(exit_code())
    except KeyboardInterrupt:
        from simulator.cli.exit_codes import INTERRUPTED
        from simulator.cli.output import say

        sys.exit(say("tpsim: interrupted", INTERRUPTED))
