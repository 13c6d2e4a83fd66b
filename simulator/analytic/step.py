"""Steps: what single instructions of a Program mean for the mean request."""

from __future__ import annotations

from typing import NamedTuple


class Varying(NamedTuple):
    """The part of a step's time that varies: `seconds` for each unit of what draw number `draw` draws."""

    draw: int
    seconds: float


class Step(NamedTuple):
    """What an instruction means for the mean: its time (s), where its token goes on, and what it runs aside.

    `onward` and `aside` are instructions with how often each is gone to. Aside run the body of a loop, branches
    and messages; `time` has what the token waits for them. `ended` is 1 where the token has done its work here.
    Of `time`, `varying` is not the same every time.
    """

    time: float = 0.0
    onward: tuple[tuple[int, float], ...] = ()
    aside: tuple[tuple[int, float], ...] = ()
    ended: float = 0.0
    varying: Varying | None = None
