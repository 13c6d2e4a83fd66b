"""Steps that call something and guard the call."""

from __future__ import annotations

from simulator.model.guard import Guard
from simulator.model.step import StepPart


class GuardedStep(Guard, StepPart):
    """A step whose verb names what it calls."""

    @classmethod
    def callee(cls, target: str) -> str:
        """What the target of a call is part of, by which the steps of a service share what guards them."""
        return target.partition(".")[0]
