"""The `tpsim` command, a verb a file. Only this room prints; what is heavy is imported when a verb needs it."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

__all__ = ["main"]


def main() -> None:
    """Run the command; what asks it to end ends it quietly at any time, also while it is loaded."""
    asked: list[int] = []
    try:
        with _ending_as_on_interrupt(asked):
            from simulator.cli.app import exit_code

            sys.exit(exit_code())
    except KeyboardInterrupt:
        from simulator.cli.exit_codes import INTERRUPTED
        from simulator.cli.output import say

        sys.exit(say("tpsim: terminated", 128 + asked[-1]) if asked else say("tpsim: interrupted", INTERRUPTED))


@contextmanager
def _ending_as_on_interrupt(asked: list[int]) -> Iterator[None]:
    """Take requests to terminate, and the loss of the terminal, for interrupts, and keep their numbers."""

    def end(number: int, frame: Any) -> None:
        asked.append(number)
        raise KeyboardInterrupt

    numbers = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    taken = [number for number in numbers if signal.getsignal(number) == signal.SIG_DFL]
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)
