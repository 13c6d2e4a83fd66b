"""Measurements that studies read and that are not part of this repository."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path


def measured_data(origin: str, *parts: str) -> Callable[[str], Path]:
    """A type of argument: a file, or a folder with all these parts, that is there, as an absolute path.

    Where it is not, the program says what is missing and its origin, and exits with code 2.
    """

    def found(text: str) -> Path:
        path = Path(text).absolute()
        missing = next((each for each in (path, *(path / part for part in parts)) if not each.exists()), None)
        if missing is not None:
            raise argparse.ArgumentTypeError(f"{missing} is not there; it is from {origin}, see README.md")
        return path

    return found
