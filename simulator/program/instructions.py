"""Instructions of a request program: what a token does next.

A *token* is one thread of control of a request: the root token, a branch of a fork, or a detached message.
Every token has a *frame* of numbers: `frame[0]` is the base of its draw numbers, 0 at first, the rest are registers
named by the instructions. `pc` below is an index into `Program.instructions`; an amount or key is an index into
`Program.draws`; a component is an index into the workload's `components`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from simulator.distributions import Distribution

NO_REGISTER = -1


@dataclass(frozen=True, slots=True)
class Place:
    """A station: `stations[frame[register]]`, or the only one where `register` is NO_REGISTER."""

    stations: tuple[int, ...]
    register: int = NO_REGISTER


@dataclass(frozen=True, slots=True)
class Work:
    """Be served `amount` at a servers, sharing, batch or external station."""

    place: Place
    component: int
    amount: int


@dataclass(frozen=True, slots=True)
class Acquire:
    """Take `amount` units of a pool, waiting for them, or a breaker's permit; held until the matching `Release`."""

    place: Place
    component: int
    amount: int


@dataclass(frozen=True, slots=True)
class AcquireKey:
    """Take one of the units that keyed locks have for the key in `key_register`; held until the matching `Release`."""

    place: Place
    component: int
    key_register: int


@dataclass(frozen=True, slots=True)
class Release:
    """Give back what the last unmatched `Acquire` or `AcquireKey` took."""


@dataclass(frozen=True, slots=True)
class Delay:
    """Let `amount` seconds pass without occupying anything, times the level of gauge `scale` where there is one."""

    component: int
    amount: int
    scale: int | None = None


@dataclass(frozen=True, slots=True)
class TakeTokens:
    """Take `amount` tokens from a bucket, the one of the key in `key_register`: go on, wait, or fail `rate limited`."""

    place: Place
    component: int
    amount: int
    key_register: int = NO_REGISTER


@dataclass(frozen=True, slots=True)
class Deposit:
    """Add `amount` tokens to a retry budget."""

    place: Place
    amount: int


@dataclass(frozen=True, slots=True)
class DrawInto:
    """Put a drawn number into a register, rounded."""

    register: int
    draw: int


class Arithmetic(StrEnum):
    """What `Calculate` does with two numbers."""

    ADD = "add"
    SUBTRACT = "subtract"
    LEAST = "least"
    MOST = "most"


@dataclass(frozen=True, slots=True)
class Calculate:
    """Put the sum (or so) of a register and another one, or `constant` where there is none, into a register."""

    register: int
    operation: Arithmetic
    left: int
    right: int = NO_REGISTER
    constant: int = 0


@dataclass(frozen=True, slots=True)
class IfAtLeast:
    """Jump to `target` where a register is at least `least`; `share` of the times on average (for analysis only)."""

    register: int
    least: int
    target: int
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class NumberInto:
    """Put the request's number modulo `modulus` into a register: of a closed workload of that many users, the user."""

    register: int
    modulus: int


@dataclass(frozen=True, slots=True)
class HashInto:
    """Put `first` + a number below `count` into a register, the same for the same key in `key_register`.

    It is the key's bucket by `simulator.hashing.bucket_of`; uses with different `salt` are independent.
    """

    register: int
    key_register: int
    count: int
    salt: int = 0
    first: int = 0


@dataclass(frozen=True, slots=True)
class GroupInto:
    """Put `first` + the key in `key_register` divided by `size`, rounded down, into a register: keys in a row."""

    register: int
    key_register: int
    size: int
    first: int = 0


@dataclass(frozen=True, slots=True)
class Revisit:
    """What earlier prompts of a conversation leave on an engine, in mean tokens; for analysis only.

    A prompt finds `found` where they were kept, `growth` more in each turn, and leaves `left`. A share `again` of the
    prompts is followed by another one after the time `idle` (s).
    """

    found: float
    growth: float
    left: float
    again: float
    idle: Distribution


@dataclass(frozen=True, slots=True)
class Generate:
    """Have an inference station compute a prompt and generate tokens, as many as two registers say, at least 1 each.

    The time up to the first token goes to `component`, that from then on to `generating`. Blocks of the first `shared`
    tokens of the prompt are the same for all with the same `shared_key`, those of the rest for all with the same key
    in `key_register`; without one nobody else has them, and with a `kept_register` nobody has those behind its tokens.
    Where `prefix` is the number of recorded prefixes of the Program, the rest is the request's prompt in them, and
    blocks of it are the same for all prompts that have been equal up to them; nobody has what is generated.

    Where it has `begun`, the prompt has been computed, and the first token generated, by another station.

    Where `latency` is the number of a meter, it gets the time of the first token, and the next two add up the time from
    the first to the last token and how many tokens came in it; the one after is the longest time between two tokens.
    Meter `usage` and the next two add up tokens of prompts, those of them that were there already, and generated ones.
    The means and variances of these, and what is `revisit`ed, are for analysis only.
    """

    place: Place
    component: int
    generating: int
    prompt_register: int
    output_register: int
    usage: int
    latency: int | None = None
    key_register: int = NO_REGISTER
    kept_register: int = NO_REGISTER
    shared: int = 0
    shared_key: int = 0
    begun: bool = False
    mean_prompt: float = 1.0
    mean_cached: float = 0.0
    mean_output: float = 1.0
    prefix: int | None = None
    revisit: Revisit | None = None
    variance_prompt: float = 0.0
    variance_output: float = 0.0


@dataclass(frozen=True, slots=True)
class Meter:
    """Add a drawn number to a meter of the request, or set it to the present time where there is no `amount`.

    Meters are numbers that are recorded with every request.
    """

    meter: int
    amount: int | None = None


@dataclass(frozen=True, slots=True)
class Lookup:
    """Look the key in `key_register` up in a store: fall through on a hit, jump to `miss` otherwise.

    One that is not `counted` is a use of the key all the same, but no arrival or hit of the store's statistics.
    """

    place: Place
    key_register: int
    miss: int
    counted: bool = True


@dataclass(frozen=True, slots=True)
class Insert:
    """Put the key in `key_register` into a store, evicting if it is full."""

    place: Place
    key_register: int


@dataclass(frozen=True, slots=True)
class Remove:
    """Take the key in `key_register` out of a store, where it is there."""

    place: Place
    key_register: int


@dataclass(frozen=True, slots=True)
class Choose:
    """Jump to `targets[draw]`."""

    draw: int
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Switch:
    """Jump to `targets[frame[register]]`."""

    register: int
    targets: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Jump:
    """Go on at `target`."""

    target: int


@dataclass(frozen=True, slots=True)
class Fork:
    """Start a branch at each target, in order, and go on when `need` of them have ended.

    The fork fails as soon as fewer than `need` branches can still succeed. Branches that are unfinished when the
    fork ends, fails or is cancelled are cancelled too, or go on detached where `detach` is set. Detachable
    branches get a copy of the frame, with a base of draw numbers of its own where there is a `counter`: see `Publish`.
    """

    targets: tuple[int, ...]
    need: int
    detach: bool = False
    counter: int = NO_REGISTER


@dataclass(frozen=True, slots=True)
class Publish:
    """Start a token at `target` with a copy of the frame, which nothing cancels, and go on at once.

    It is a message of stream number `stream` of `Program.workloads`: a request of its own that has the number of this
    one. Without a stream it is detached: what becomes of it is not recorded.

    Where `awaited` is the number of a component, the publisher waits there until the message acknowledges or ends. If
    it fails before, the publisher fails with its reason. A publisher who is interrupted waits no more; the message
    goes on.

    Where the instruction may run more than once in a frame, register `counter` counts how often it has, and the copy
    has the base `simulator.streams.message_base(frame[0], frame[counter])`.
    """

    target: int
    counter: int = NO_REGISTER
    stream: int | None = None
    awaited: int | None = None


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Let the publisher who waits for this token go on; with more `levels`, who waits for that publisher, and so on up.

    Nothing happens where nobody waits there (any more), and those in between wait on.
    """

    levels: int = 1


@dataclass(frozen=True, slots=True)
class HandBack:
    """Give the publisher who waits for this token what a register has, into its own; nothing where nobody waits."""

    register: int


@dataclass(frozen=True, slots=True)
class FirstToken:
    """Have the first token of an answer, as `Generate` has by itself; see rule 14."""


@dataclass(frozen=True, slots=True)
class IfAbandoned:
    """Jump to `target` where the publisher so many `levels` up (see `Acknowledge`) waits no more."""

    target: int
    levels: int = 1


@dataclass(frozen=True, slots=True)
class Select:
    """Let balancer number `balancer` choose a replica, with a uniform draw, and put its index into `register`."""

    register: int
    balancer: int
    draw: int


@dataclass(frozen=True, slots=True)
class Clear:
    """Set a register to 0."""

    register: int


@dataclass(frozen=True, slots=True)
class Loop:
    """Set `register` to the drawn count (rounded) and fall through, or jump to `exit` where it is 0."""

    register: int
    count: int
    exit: int


@dataclass(frozen=True, slots=True)
class Next:
    """Count `register` down and jump to `body` while it is above 0."""

    register: int
    body: int


@dataclass(frozen=True, slots=True)
class Scope:
    """Open a scope: failures inside it, or `timeout` seconds passing (None: never), jump to `handler`.

    On the way everything that the scope did is undone: branches are cancelled, queues left, units released.
    `reason` is the index of the failure reason that the timer gives. A timer that runs `until_first_token` stops there.
    """

    handler: int
    timeout: int | None = None
    reason: int = 0
    until_first_token: bool = False


@dataclass(frozen=True, slots=True)
class EndScope:
    """Close the innermost scope and stop its timer."""


@dataclass(frozen=True, slots=True)
class Retry:
    """In a handler: fail again after `len(delays)` retries, else wait the back-off and jump to `target`.

    The k-th retry waits `delays[k - 1] * (1 - jitter * u)` seconds, u being the draw. Where there is a `budget`
    and it has no token left for the retry, the token fails again too.
    """

    register: int
    component: int
    delays: tuple[float, ...]
    jitter: float
    draw: int
    target: int
    budget: Place | None = None


@dataclass(frozen=True, slots=True)
class Fail:
    """Fail with a reason (index into `Program.reasons`), or again with the token's own where it is None."""

    reason: int | None = None


@dataclass(frozen=True, slots=True)
class End:
    """End the token: complete the request, join the fork, or vanish."""


# Controls: what faults, autoscalers and garbage collectors do to the system. Rules 10 to 12.


@dataclass(frozen=True, slots=True)
class SetSpeed:
    """Let a servers or sharing station go on at `factor` times its speed."""

    place: Place
    factor: float


@dataclass(frozen=True, slots=True)
class Halt:
    """Stop a servers or sharing station; what is in it stays, and goes on after as many `Resume` as `Halt`."""

    place: Place


@dataclass(frozen=True, slots=True)
class Resume:
    """Undo one `Halt`."""

    place: Place


@dataclass(frozen=True, slots=True)
class Close:
    """Grant no more units of a pool until as many `Open`: newcomers are `refused`, or queue where it `hangs`."""

    place: Place
    hangs: bool = False


@dataclass(frozen=True, slots=True)
class Open:
    """Undo one `Close` of the same kind."""

    place: Place
    hangs: bool = False


@dataclass(frozen=True, slots=True)
class Break:
    """Fail every token that holds units of these closed pools, or waits for them, with a reason (rule 11)."""

    pools: tuple[int, ...]
    reason: int


@dataclass(frozen=True, slots=True)
class Exclude:
    """Let a balancer not choose a replica, until as many `Include`."""

    balancer: int
    replica: int


@dataclass(frozen=True, slots=True)
class Include:
    """Undo one `Exclude`."""

    balancer: int
    replica: int


@dataclass(frozen=True, slots=True)
class Set:
    """Set a gauge to a drawn number."""

    place: Place
    amount: int


@dataclass(frozen=True, slots=True)
class Add:
    """Add a drawn number to a gauge, or take it off where `negative`."""

    place: Place
    amount: int
    negative: bool = False


@dataclass(frozen=True, slots=True)
class Branch:
    """Jump to `target` where a gauge is at least `least`; `share` of the times on average (for analysis only)."""

    place: Place
    least: float
    target: int
    share: float = 0.0


@dataclass(frozen=True, slots=True)
class Scale:
    """Let a scaler look at its metric and change the number of instances (rule 12).

    Each instance that is to start gets a detached token at `target`, with a copy of the frame that has the number of
    the instance in `register`, the number of this start in the next one, and draw numbers counted in `counter`.
    """

    scaler: int
    target: int
    register: int
    counter: int


@dataclass(frozen=True, slots=True)
class Join:
    """The instance in `register`, started as the next register says, is up: include it, where it is still wanted."""

    scaler: int
    register: int


Instruction = (
    Work | Acquire | AcquireKey | Release | Delay | TakeTokens | Deposit | DrawInto | Calculate | NumberInto | HashInto
    | GroupInto | Lookup | Insert | Remove | Generate | Meter | Choose | Switch | IfAtLeast | Jump | Fork | Publish
    | Acknowledge | HandBack | FirstToken | IfAbandoned | Select | Clear | Loop | Next | Scope | EndScope | Retry | Fail
    | End
    | SetSpeed | Halt | Resume | Close | Open | Break | Exclude | Include | Set | Add | Branch | Scale | Join
)  # fmt: skip
