"""Running out of memory: the replica whose request asks for more than is left is killed, and started again.

All that the replica serves or has queueing fails with `out of memory`, at the same moment, as far out as whoever called
it. Until it has been started again it refuses requests (`refused`); balancers go on choosing it unless the service has
a `health_check`. What its requests held is free at once; its base stays its own. A request that asks for more than the
whole memory has the same effect. Replicas beside it on the host, and what it has in caches of the model, stay.

That is what the limit of a container does, where a replica has a host (or the part of one that it may fill) to itself.
Linux kills, of all processes of a machine that is out of memory, the one that has most, not the one that asks (The
Linux kernel documentation, Out of memory handling; proc(5), oom_score): where services of unlike size share a host,
it may be another one.

Lowers to a scope around what is asked for, whose handler publishes a token that closes and breaks the replica's pool of
requests, waits, and opens it again. Of several that ask at the same moment only the first one does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from simulator.distributions import Constant, Distribution
from simulator.program.instructions import (
    Acquire,
    Add,
    Branch,
    Break,
    Close,
    End,
    EndScope,
    Fail,
    Jump,
    Open,
    Publish,
    Scope,
    Switch,
)
from simulator.program.program import REFUSED

if TYPE_CHECKING:
    from simulator.model.site import Site

OUT_OF_MEMORY = "out of memory"


def take_or_be_killed(site: Site, acquire: Acquire, restart: Distribution) -> None:
    """Take memory; where it is not there, have the site's replica killed, and back after `restart` seconds."""
    builder = site.builder
    handler, refused, kill, done = (builder.label() for _ in range(4))
    down = site.spread(site.deployment.down)
    builder.emit(Scope(handler))
    builder.emit(acquire)
    builder.emit(EndScope())
    builder.emit(Jump(done))
    builder.mark(handler)
    builder.emit(Branch(down, 1.0, refused))
    builder.emit(Publish(kill, builder.counter()))
    builder.emit(Fail(builder.reason(OUT_OF_MEMORY)))
    builder.mark(refused)
    builder.emit(Fail(REFUSED))
    builder.mark(kill)
    with builder.detached():
        _kill(site, restart)
    builder.mark(done)


def _kill(site: Site, restart: Distribution) -> None:
    """The code of a token that kills a replica, unless it is down, and starts it again."""
    builder, ended = site.builder, site.builder.label()
    down, requests = site.spread(site.deployment.down), site.spread(site.deployment.requests)
    one = builder.draw(Constant(1.0), "count")
    builder.emit(Branch(down, 1.0, ended))
    builder.emit(Add(down, one))
    builder.emit(Close(requests))
    _break_requests(site)
    site.delay("restart", restart)
    builder.emit(Open(requests))
    builder.emit(Add(down, one, negative=True))
    builder.mark(ended)
    builder.emit(End())


def _break_requests(site: Site) -> None:
    """Fail all that the replica has."""
    builder = site.builder
    reason, place = builder.reason(OUT_OF_MEMORY), site.spread(site.deployment.requests)
    broken, targets = builder.label(), tuple(builder.label() for _ in place.stations)
    if len(targets) > 1:
        builder.emit(Switch(place.register, targets))
    for target, pool in zip(targets, place.stations, strict=True):
        builder.mark(target)
        builder.emit(Break((pool,), reason))
        builder.emit(Jump(broken))
    builder.mark(broken)
