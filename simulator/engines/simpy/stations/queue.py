"""The queue of a station."""

from __future__ import annotations

from collections import OrderedDict

from simulator.engines.simpy.tokens import Token
from simulator.program.stations import Discipline


class Queue:
    """Waiting tokens; joining, leaving from the middle and taking the next are all O(1) per priority level."""

    def __init__(self, discipline: Discipline) -> None:
        self._levels: dict[int, OrderedDict[Token, None]] = {}
        self._priority = discipline is Discipline.PRIORITY
        self._last = discipline is Discipline.LIFO

    def push(self, token: Token, priority: int = 0) -> None:
        """Join the queue."""
        level = priority if self._priority else 0
        token.mark = [level]
        self._levels.setdefault(level, OrderedDict())[token] = None

    def push_first(self, token: Token, priority: int = 0) -> None:
        """Join the queue before all others of the same priority, where it is served in order of arrival."""
        self.push(token, priority)
        level: int = token.mark[0]  # type: ignore[assignment]
        self._levels[level].move_to_end(token, last=False)

    def pop(self) -> Token:
        """Take the next to be served."""
        level = min(self._levels)
        token, _ = self._levels[level].popitem(last=self._last)
        if not self._levels[level]:
            del self._levels[level]
        return token

    def remove(self, token: Token) -> None:
        """Leave the queue."""
        level: int = token.mark[0]  # type: ignore[assignment]
        del self._levels[level][token]
        if not self._levels[level]:
            del self._levels[level]

    def head(self) -> Token:
        """The next to be served, left in place."""
        level = self._levels[min(self._levels)]
        return next(reversed(level)) if self._last else next(iter(level))

    def __bool__(self) -> bool:
        return bool(self._levels)
