"""What the command prints; nothing else in the package does."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import RenderableType


def say(message: str, code: int) -> int:
    """Print a message on stderr, where that can be written to; returns the exit code."""
    with suppress(OSError):
        print(message, file=sys.stderr)
    return code


def print_blocks(renderables: Iterable[RenderableType]) -> None:
    """Print blocks with an empty line between them, and nothing at the end of lines."""
    from rich.console import Console

    console = Console(highlight=False, soft_wrap=False)
    for number, renderable in enumerate(renderables):
        with console.capture() as capture:
            console.print(renderable)
        lines = [line.rstrip() for line in capture.get().rstrip("\n").split("\n")]
        print("\n".join([""] * (number > 0) + lines))


def print_json(data: Any) -> None:
    """Print one JSON object."""
    import json

    json.dump(data, sys.stdout, indent=2, ensure_ascii=False, allow_nan=False)
    sys.stdout.write("\n")
