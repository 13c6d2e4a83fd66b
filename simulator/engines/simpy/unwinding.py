"""Failure, time-out and cancellation: undoing what a token was in the middle of (rule 7)."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from simulator.engines.simpy.stations.station import Outcome
from simulator.engines.simpy.tokens import OpenScope, Token

if TYPE_CHECKING:
    from simulator.engines.simpy.engine import Engine


class Unwinder:
    """Ends scopes, forks and tokens early."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def fail(self, token: Token, reason: int) -> bool:
        """Unwind a token that is not blocked to its innermost scope; True where it goes on in the handler."""
        token.reason = reason
        if token.scopes:
            self._close(token, token.scopes.pop())
            return True
        release_holds(token, Outcome.FAILURE)
        token.alive = False
        if token.parent is not None:
            self._branch_failed(token, token.parent)
            return False
        self._refuse(token)
        if not token.detached:
            self.engine.end_request(token, 1 + reason)
        return False

    def acknowledge(self, message: Token, levels: int = 1) -> None:
        """Wake the publisher so many levels up, if it waits (rule 13)."""
        publisher = self.awaited_by(message, levels)
        if publisher is not None:
            publisher.at.withdraw(publisher)  # type: ignore[union-attr]
            self.engine.wake(publisher)

    @staticmethod
    def awaited_by(message: Token, levels: int) -> Token | None:
        """The publisher so many levels up, if it waits."""
        publisher: Token | None = message
        for _ in range(levels):
            if publisher is not None:
                publisher = publisher.publisher
        return publisher

    def _refuse(self, message: Token) -> None:
        """Wake the publisher who waits for a message that has failed, to fail in its turn (rule 13)."""
        if message.publisher is not None:
            message.publisher.refused = message.reason
        self.acknowledge(message)

    def expire(self, expired: tuple[Token, OpenScope]) -> None:
        """A scope's timer has fired: interrupt the token and go on in the handler."""
        token, scope = expired
        token.reason = scope.reason
        scope.timer = None
        self._interrupt(token)
        while (inner := token.scopes.pop()) is not scope:
            self._stop_timer(inner)
        self._close(token, scope)
        self.engine.run(token)

    def break_off(self, pools: Collection[object], reason: int) -> None:
        """Fail all who hold units of closed pools, or wait for them (rule 11)."""
        holders = [token for token in self.engine.tokens if token.alive and _depth(token, pools) is not None]
        for token in sorted(holders, key=lambda token: token.created):
            depth = _depth(token, pools)
            if token.alive and depth is not None:
                self._break_token(token, depth, reason)

    def _break_token(self, token: Token, depth: int, reason: int) -> None:
        """Fail a token to the innermost scope that was opened when it had acquired no more than `depth` things."""
        blocked = token.at is not None or bool(token.branches)
        self._interrupt(token)
        token.refused = None
        while token.scopes and token.scopes[-1].holds > depth:
            self._stop_timer(token.scopes.pop())
        if self.fail(token, reason) and blocked:
            self.engine.wake(token)

    def _close(self, token: Token, scope: OpenScope) -> None:
        self._stop_timer(scope)
        release_holds(token, Outcome.FAILURE, scope.holds)
        token.pc = scope.handler

    def _stop_timer(self, scope: OpenScope) -> None:
        if scope.timer is not None:
            self.engine.cancel_timer(scope.timer)

    def first_token(self, token: Token) -> None:
        """Stop the timers that run until the first token of an answer (rule 14)."""
        branch: Token | None = token
        while branch is not None:
            for scope in branch.scopes:
                if scope.until_first_token:
                    self._stop_timer(scope)
                    scope.timer = None
            branch = branch.parent

    def _interrupt(self, token: Token) -> None:
        if token.branches:
            first = token.branches[0]
            self._abandon_branches(token)
            adopt_times(token, first)
        elif token.at is not None:
            token.at.withdraw(token)

    def cancel(self, token: Token) -> None:
        """End a blocked or woken token and everything below it."""
        token.alive = False
        self._interrupt(token)
        for scope in reversed(token.scopes):
            self._stop_timer(scope)
        release_holds(token, Outcome.CANCELLED)

    def _abandon_branches(self, token: Token) -> None:
        branches, token.branches = token.branches, []
        for branch in branches:
            if token.detaches:
                self._detach(branch)
            else:
                self.cancel(branch)

    def _detach(self, branch: Token) -> None:
        """Let a branch go on by itself; the time that it has spent so far stays with its parent too."""
        branch.parent = None
        branch.detached = True

    def branch_ended(self, branch: Token, parent: Token) -> None:
        """A branch has done its work: end the fork if it was the last one needed."""
        branch.alive = False
        parent.branches.remove(branch)
        parent.need -= 1
        if parent.need == 0:
            self._abandon_branches(parent)
            adopt_times(parent, branch)
            self.engine.wake(parent)

    def _branch_failed(self, branch: Token, parent: Token) -> None:
        parent.branches.remove(branch)
        if len(parent.branches) >= parent.need:
            return
        self._abandon_branches(parent)
        adopt_times(parent, branch)
        if self.fail(parent, branch.reason):
            self.engine.wake(parent)


def _depth(token: Token, pools: Collection[object]) -> int | None:
    """How much a token had acquired when it asked for units of one of some pools; None where it has none of them."""
    for depth, (station, _) in enumerate(token.holds):
        if station in pools:
            return depth
    return len(token.holds) if token.at in pools else None


def release_holds(token: Token, outcome: Outcome, keep: int = 0) -> None:
    """Release all but the first `keep` things that a token holds, the last acquired first."""
    while len(token.holds) > keep:
        station, amount = token.holds.pop()
        station.release(amount, outcome)


def adopt_times(token: Token, branch: Token) -> None:
    """Add the time that a branch has spent to its parent's (rule 9)."""
    for i, spent in enumerate(spent_so_far(branch)):
        token.times[i] += spent


def spent_so_far(token: Token) -> list[float]:
    """A token's times; an unfinished visit (of a branch that goes on detached) counts as waiting."""
    times = list(token.times)
    if token.branches:
        for i, spent in enumerate(spent_so_far(token.branches[0])):
            times[i] += spent
    elif token.at is not None:
        times[2 * token.component] += token.at.now() - token.since
    return times
