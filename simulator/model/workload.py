"""Workloads: who sends which requests, when, and how long they wait for an answer.

Open (requests come whatever becomes of them): give a `rate`, a `bursty` process, a `profile` or a `replay`.
Closed (a user waits for the answer, thinks, and sends the next): give `users` and `think`.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from simulator.distributions import Constant, Exponential, Gamma
from simulator.model.columns import read_column
from simulator.model.conversation import Conversation
from simulator.model.distribution import DurationDistribution
from simulator.model.guard import Guard
from simulator.model.message import Messages
from simulator.model.network import Location
from simulator.model.part import (
    ArrivalRate,
    Count,
    Duration,
    Either,
    Factor,
    Part,
    PositiveArrivalRate,
    PositiveDuration,
    Priority,
    Share,
    Users,
)
from simulator.model.trace import located, path_of, times_of
from simulator.program.arrivals import Arrivals, MarkovModulated, Profile, Renewal, Replay
from simulator.traces.column import TraceTimes
from simulator.traces.formats import format_of

TOLERANCE = 1e-6
SOURCES = ("rate", "bursty", "profile", "replay", "users")


class BurstState(Part):
    """A state of a bursty load: Poisson arrivals at `rate` for an exponential time."""

    rate: ArrivalRate
    """Arrivals a second."""
    duration: PositiveDuration
    """Mean time in the state."""


class ProfilePoint(Part):
    """The rate at a time; between two points it goes in a straight line."""

    at: Duration
    """Time since the start."""
    rate: ArrivalRate
    """Arrivals a second."""


class ProfileSpec(Part):
    """A load that changes as scheduled, such as a flash sale; a CSV file has the columns at (s) and rate (/s)."""

    bare: ClassVar[str | None] = "file"

    file: str | None = None
    """CSV file, relative to the model's."""
    factor: Factor = 1.0
    """The rates are multiplied by this."""
    points: list[ProfilePoint] = Field(default_factory=list)
    """Rates by time, where there is no file; the first point is at 0 s."""
    repeats: bool = False
    """Start again after the last point (a day, a week), instead of keeping its rate."""

    @model_validator(mode="before")
    @classmethod
    def _load(cls, data: Any, info: ValidationInfo) -> Any:
        data = cls.long_form(data)
        if isinstance(data, dict) and isinstance(data.get("file"), str) and not data.get("points"):
            times = read_column(data["file"], "at", info.context, ascending=True)
            rates = read_column(data["file"], "rate", info.context)
            points = [{"at": f"{at!r} s", "rate": f"{rate!r}/s"} for at, rate in zip(times, rates, strict=True)]
            return {**data, "points": points}
        return data

    @field_validator("points")
    @classmethod
    def _is_a_story(cls, points: list[ProfilePoint]) -> list[ProfilePoint]:
        if not points:
            raise ValueError("expected a file or a list of points")
        times = [point.at for point in points]
        if times[0] != 0.0:
            raise ValueError(f"the first point is at {times[0]:g} s, expected 0 s")
        if times != sorted(times):
            raise ValueError("the points are not in order, expected each to be no earlier than the one before")
        if not any(point.rate > 0.0 for point in points):
            raise ValueError("every rate is 0, expected at least one above 0")
        return points

    @model_validator(mode="after")
    def _can_repeat(self) -> Self:
        if self.repeats and self.points[-1].at <= 0.0:
            raise ValueError("the last point is at 0 s, expected a later one in a profile that repeats")
        if self.repeats and not any(
            after.at > before.at and before.rate + after.rate > 0.0 for before, after in pairwise(self.points)
        ):
            raise ValueError("the rate is above 0 for no time at all, expected a profile that sends requests")
        return self

    def arrivals(self) -> Profile:
        """The arrival process."""
        times = tuple(point.at for point in self.points)
        return Profile(times, tuple(point.rate * self.factor for point in self.points), self.repeats)


class ReplaySpec(Part):
    """Arrivals at the times of a trace of requests, or at those (s since the start) in a CSV file's column.

    A trace brings the token counts of its requests, too: see `{trace: input}` among the distributions.
    """

    bare: ClassVar[str | None] = "file"

    file: str | None = None
    """A trace or a CSV file, relative to the model's."""
    format: Literal["azure", "mooncake"] | None = None
    """Format of a trace; found out where it is left out. `azure` is CSV with the columns TIMESTAMP, ContextTokens and
    GeneratedTokens, `mooncake` JSON lines with timestamp (ms), input_length, output_length and where they are known
    hash_ids, by which prompts share what they begin with (see `generate`); both may be gzipped."""
    digest: str | None = None
    """Digest of the trace, found out where it is left out; with another content, the model is refused."""
    column: str | None = None
    """Name of the column of a file that is no trace; the only one where it is left out."""
    times: tuple[Duration, ...] = ()
    """The times, where there is no file."""
    speed: Factor = 1.0
    """The times are divided by this."""
    most: Count | None = None
    """Only so many requests are sent, the first ones."""
    repeats: bool = False
    """Start again after the last request and a mean gap, instead of sending no more."""

    @model_validator(mode="before")
    @classmethod
    def _load(cls, data: Any, info: ValidationInfo) -> Any:
        data = cls.long_form(data)
        if not isinstance(data, dict) or not isinstance(data.get("file"), str) or data.get("times"):
            return data
        path, kind = path_of(data["file"], info), data.get("format")
        if kind is None and data.get("column") is None and path.is_file():
            kind = format_of(path)
        if kind is not None:
            return located(data, path, kind)
        times = read_column(data["file"], data.get("column"), info.context, ascending=True)
        return {**data, "times": [f"{time!r} s" for time in times]}

    @model_validator(mode="after")
    def _has_times(self) -> Self:
        if not self.times and self.format is None:
            raise ValueError("expected a file or a list of times")
        if any(after < before for before, after in pairwise(self.times)):
            raise ValueError("the times are not in order, expected each to be no earlier than the one before")
        arrivals = self.arrivals()
        if self.repeats and arrivals.period <= 0.0:
            raise ValueError("all requests come at 0 s, expected later ones in a replay that repeats")
        return self

    def trace(self) -> TraceTimes | None:
        """The trace whose requests are sent; None where only times are known."""
        return None if self.file is None or self.format is None else times_of(self.file, self.format, self.most)

    def arrivals(self) -> Replay:
        """The arrival process."""
        return Replay(self.trace() or self.times[: self.most], self.speed, self.repeats)


class Workload(Guard, Messages):
    """A stream of requests. `timeout`, `retries`, `deadline` and all other protection are the client's."""

    rate: PositiveArrivalRate | None = None
    """Mean arrivals a second."""
    arrivals: Literal["poisson", "constant", "gamma"] = "poisson"
    """How the arrivals of `rate` are spaced."""
    arrivals_cv: Factor = 1.0
    """Coefficient of variation of the gaps, for gamma arrivals."""
    bursty: list[BurstState] | None = Field(default=None, min_length=1)
    """Markov-modulated Poisson arrivals: the states follow each other in turn."""
    profile: ProfileSpec | None = None
    """Arrivals at a rate that changes as scheduled."""
    replay: ReplaySpec | None = None
    """Recorded requests, or recorded times; `replay: trace.csv` is short for `replay: {file: trace.csv}`."""
    users: Users | None = None
    """How many users there are, each with one request at a time."""
    think: DurationDistribution = DurationDistribution(constant=0.0)
    """Time of a user between an answer and the next request."""
    ramp_up: Annotated[float | Literal["auto"], Either(Duration, "auto")] = "auto"
    """Users come at random times within this. `auto` is the time of one cycle (request and think time) of all users
    when the bottleneck is busy, so that they do not march in step."""
    conversation: Conversation | None = None
    """Every request is a conversation of several turns, each of which asks for the operation."""
    operation: str | None = None
    """`service.operation` that every request asks for."""
    mix: dict[str, Share] | None = None
    """Share of the requests by `service.operation`; sums to 1."""
    deadline: PositiveDuration | None = None
    """Time from arrival after which the client gives up for good."""
    latency: DurationDistribution = DurationDistribution(constant=0.0)
    """One-way network latency between client and system."""
    place: str | None = None
    """Where the clients are, such as `eu-west` or `eu-west-1a`; then the latency to hosts that have a place is that of
    the distance (see `network`)."""
    priority: Priority = 0
    """Where a station serves by priority, the lower number goes first."""

    @model_validator(mode="after")
    def _has_one_source(self) -> Self:
        given = [name for name in SOURCES if getattr(self, name) is not None]
        wrong = []
        if len(given) != 1:
            wrong.append(f"expected exactly one of {', '.join(SOURCES)}, got {', '.join(given) or 'none'}")
        if (self.operation is None) == (self.mix is None):
            wrong.append(f"expected exactly one of operation, mix, got {'none' if self.mix is None else 'both'}")
        if wrong:
            raise ValueError("; ".join(wrong))
        self.open_arrivals()
        return self

    @field_validator("place")
    @classmethod
    def _is_a_place(cls, place: str | None) -> str | None:
        if place is not None:
            Location.of(place)
        return place

    @field_validator("bursty")
    @classmethod
    def _ever_sends(cls, states: list[BurstState] | None) -> list[BurstState] | None:
        if states is not None and not any(state.rate > 0.0 for state in states):
            raise ValueError("every rate is 0, expected at least one above 0")
        return states

    @field_validator("mix")
    @classmethod
    def _sums_to_one(cls, mix: dict[str, float] | None) -> dict[str, float] | None:
        if mix is not None and abs(sum(mix.values()) - 1.0) > TOLERANCE:
            raise ValueError(f"the shares sum to {sum(mix.values()):.6g}, expected 1")
        return mix

    def shares(self) -> dict[str, float]:
        """Share of the requests by operation."""
        return {self.operation: 1.0} if self.operation else dict(self.mix or {})

    def open_arrivals(self) -> Arrivals | None:
        """The arrival process; None where the load is closed."""
        if self.rate is not None:
            return Renewal(self._gap(1.0 / self.rate))
        if self.bursty is not None:
            rates = tuple(state.rate for state in self.bursty)
            return MarkovModulated(rates, tuple(state.duration for state in self.bursty))
        if self.profile is not None:
            return self.profile.arrivals()
        return self.replay.arrivals() if self.replay is not None else None

    def _gap(self, mean: float) -> Constant | Exponential | Gamma:
        if self.arrivals == "constant":
            return Constant(mean)
        return Exponential(mean) if self.arrivals == "poisson" else Gamma(mean, self.arrivals_cv)

    def scaled(self, factor: float) -> dict[str, Any]:
        """The fields that change when the load is multiplied by `factor`.

        Raises ValueError for a replay, whose load is what it was.
        """
        if self.rate is not None:
            return {"rate": self.rate * factor}
        if self.bursty is not None:
            return {"bursty": [state.model_copy(update={"rate": state.rate * factor}) for state in self.bursty]}
        if self.profile is not None:
            return {"profile": self.profile.model_copy(update={"factor": self.profile.factor * factor})}
        if self.users is not None:
            return {"users": max(round(self.users * factor), 1)}
        raise ValueError("the load of a replay cannot be multiplied")
