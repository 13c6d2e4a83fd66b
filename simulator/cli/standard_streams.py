"""Standard streams: however they were begun with, they can be written to, and no failure is left for the end."""

from __future__ import annotations

import io
import os
import sys


def prepare_standard_streams() -> None:
    """Let stdout and stderr write every character, and stand in for those that are closed.

    What is written to a closed stdout fails as on a full disk; to a closed stderr, it is dropped. Either way the
    descriptor is taken, so that no file that is opened later gets what is printed.
    """
    if sys.stdout is None:
        sys.stdout = _stand_in(1, os.O_RDONLY)
    if sys.stderr is None:
        sys.stderr = _stand_in(2, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def drop_what_cannot_be_written() -> None:
    """Drop what the streams do not take: Python would try once more as it ends, and exit with a code of its own."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            _send_nowhere(stream.fileno(), os.O_WRONLY)


def _stand_in(descriptor: int, mode: int) -> io.TextIOWrapper:
    _send_nowhere(descriptor, mode)
    return open(descriptor, "w", encoding="utf-8", closefd=False)


def _send_nowhere(descriptor: int, mode: int) -> None:
    nowhere = os.open(os.devnull, mode)
    os.dup2(nowhere, descriptor)
    if nowhere != descriptor:
        os.close(nowhere)
