"""Words of messages: a value shown shortly, and the nearest of the known names."""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel

NAME = re.compile(r"[A-Za-z][\w-]*")
EXPECTED_NAME = "expected a name of letters, digits, - and _ that starts with a letter"
SHOWN = 10
LONGEST = 60
MOST_NAMES = 500


def nearest(name: Any, known: Iterable[str], otherwise: str = "expected one of") -> str:
    """`did you mean 'x'?` for the nearest known name, or a few of the known ones."""
    names = list(known)
    plain = {same.lower().replace("-", "_"): same for same in names[:MOST_NAMES]}
    text = str(name)[:100]
    close = get_close_matches(text.lower().replace("-", "_"), list(plain), n=1, cutoff=0.6)
    if close:
        return f"did you mean {plain[close[0]]!r}?"
    return f"{otherwise} {', '.join(names[:SHOWN]) or 'none'}{', ...' if len(names) > SHOWN else ''}"


def unknown(kind: str, name: Any, known: Iterable[str]) -> str:
    """A message that names the nearest known name, or a few known ones."""
    return f"no {kind} named {name!r}; {nearest(name, known, 'known:')}"


def short(value: Any) -> str:
    """A value as it is shown in a message, in one line and not too long."""
    if value is None:
        return "nothing"
    text = type(value).__name__ if isinstance(value, BaseModel) else repr(value)
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
