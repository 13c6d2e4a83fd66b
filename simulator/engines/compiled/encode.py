"""Encoding: a Program becomes tables of numbers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from simulator.distributions import Constant
from simulator.engines.compiled import inference_tables, layout
from simulator.engines.compiled.choices import ARITHMETIC, DISCIPLINES, EVICTIONS, JOINED, OFF, POLICIES
from simulator.engines.compiled.layout import NONE, Kind, Op
from simulator.program import instructions as ops
from simulator.program.instructions import NO_REGISTER, Instruction, Place
from simulator.program.program import Balancer, Draw, Program, Scaler, Users, Workload
from simulator.program.stations import (
    Batch,
    Breaker,
    Bucket,
    Budget,
    Discipline,
    Gauge,
    Inference,
    KeyedLocks,
    Pool,
    Servers,
    Sharing,
    Station,
    Store,
)

Table = NDArray[Any]
Fields = dict[str, int | float]


@dataclass(frozen=True, slots=True)
class Tables:
    """A Program in numbers, as it is at time 0; addresses are filled in by `Memory`."""

    code: Table
    table: Table  # lists of integers that instructions, balancers and workloads point into
    numbers: Table  # lists of floats that instructions and stations point into
    draws: Table
    balancers: Table
    stations: Table
    queues: Table
    workloads: Table
    users: Table
    counters: Table  # lists of integers that balancers and scalers count in
    scalers: Table
    inference: Table


def encode(program: Program) -> Tables:
    """The tables of a Program."""
    return Encoder(program).tables()


class Encoder:
    """One encoding under way: the shared lists, and the records that point into them."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.table: list[int] = []
        self.numbers: list[float] = []
        self.counters: list[int] = []
        self.queues = 0
        self.stores = 0
        self.inference: list[Fields] = []
        self.levels = sorted({workload.priority for workload in program.workloads})

    def tables(self) -> Tables:
        """Encode everything."""
        program = self.program
        users = [_users(workload) for workload in program.workloads]
        return Tables(
            code=_records(layout.INSTRUCTION, [self._instruction(each) for each in program.instructions]),
            draws=_records(layout.DRAW, [_draw(each) for each in program.draws]),
            balancers=_records(layout.BALANCER, [self._balancer(each) for each in program.balancers]),
            scalers=_records(layout.SCALER, [self._scaler(each) for each in program.scalers]),
            stations=_records(layout.STATION, [self._station(each) for each in program.stations]),
            workloads=_records(
                layout.WORKLOAD,
                [self._workload(each, sum(users[:number])) for number, each in enumerate(program.workloads)],
            ),
            inference=_records(layout.INFERENCE, self.inference),
            users=_user_records(users),
            queues=np.full(self.queues + 1, NONE, layout.QUEUE),
            table=np.array([*self.table, 0], np.int64),
            numbers=np.array([*self.numbers, 0.0]),
            counters=np.array([*self.counters, 0], np.int64),
        )

    def list(self, values: tuple[int, ...]) -> int:
        """Keep a list of integers; returns where it starts."""
        self.table.extend(values)
        return len(self.table) - len(values)

    def _counter_list(self, values: tuple[int, ...]) -> int:
        self.counters.extend(values)
        return len(self.counters) - len(values)

    def _number_list(self, values: tuple[float, ...]) -> int:
        self.numbers.extend(values)
        return len(self.numbers) - len(values)

    def _instruction(self, instruction: Instruction) -> Fields:
        return ENCODE[type(instruction)](self, instruction)

    def place(self, place: Place) -> Fields:
        """Where a visit goes."""
        if place.register == NO_REGISTER:
            return {"register": NONE, "place": place.stations[0]}
        return {"register": place.register, "place": self.list(place.stations)}

    def amount(self, draw: int) -> Fields:
        """What an instruction draws; a constant is written into it."""
        spec = self.program.draws[draw]
        if isinstance(spec.distribution, Constant) and spec.factor == NO_REGISTER:
            return {"draw": NONE, "value": spec.distribution.value}
        return {"draw": draw}

    def visit(self, instruction: ops.Work | ops.Acquire | ops.TakeTokens) -> Fields:
        """A visit of a station."""
        amount, place = self.amount(instruction.amount), self.place(instruction.place)
        key = instruction.key_register if isinstance(instruction, ops.TakeTokens) else NONE
        return {"op": Op.VISIT, "component": 2 * instruction.component, "argument": key, **amount, **place}

    def deposit(self, instruction: ops.Deposit) -> Fields:
        """An addition to a retry budget."""
        return {"op": Op.DEPOSIT, **self.amount(instruction.amount), **self.place(instruction.place)}

    def delay(self, instruction: ops.Delay) -> Fields:
        """A delay."""
        fields: Fields = {
            "op": Op.DELAY, "component": 2 * instruction.component, **self.amount(instruction.amount),
        }  # fmt: skip
        return fields if instruction.scale is None else {**fields, "flag": 1, "list": instruction.scale}

    def lookup(self, instruction: ops.Lookup) -> Fields:
        """A lookup."""
        key = instruction.key_register
        return {
            "op": Op.LOOKUP, "argument": key, "target": instruction.miss, "flag": instruction.counted,
            **self.place(instruction.place),
        }  # fmt: skip

    def acquire_key(self, instruction: ops.AcquireKey) -> Fields:
        """An asking for a key."""
        place = self.place(instruction.place)
        return {
            "op": Op.ACQUIRE_KEY, "component": 2 * instruction.component, "argument": instruction.key_register, **place
        }  # fmt: skip

    def hash_into(self, instruction: ops.HashInto) -> Fields:
        """The hash of a key; its salt is in the list."""
        return {
            "op": Op.HASH_INTO, "argument": instruction.key_register, "counter": instruction.register,
            "size": instruction.count, "flag": instruction.first, "list": self.list((instruction.salt,)),
        }  # fmt: skip

    def group_into(self, instruction: ops.GroupInto) -> Fields:
        """The group of a key."""
        return {
            "op": Op.GROUP_INTO, "argument": instruction.key_register, "counter": instruction.register,
            "size": instruction.size, "flag": instruction.first,
        }  # fmt: skip

    def calculate(self, instruction: ops.Calculate) -> Fields:
        """A calculation; its constant is in the list."""
        return {
            "op": Op.CALCULATE, "argument": instruction.register, "flag": ARITHMETIC[instruction.operation],
            "counter": instruction.left, "target": instruction.right, "list": self.list((instruction.constant,)),
        }  # fmt: skip

    def meter(self, instruction: ops.Meter) -> Fields:
        """An addition to a meter, or its setting to the present time."""
        fields: Fields = {"op": Op.METER, "argument": instruction.meter, "draw": NONE}
        return fields if instruction.amount is None else {**fields, "flag": 1, **self.amount(instruction.amount)}

    def generate(self, instruction: ops.Generate) -> Fields:
        """A sequence for an inference station."""
        numbers = self.list(inference_tables.numbers_of(instruction, self.program))
        return {
            "op": Op.GENERATE, "component": 2 * instruction.component, "list": numbers, **self.place(instruction.place)
        }  # fmt: skip

    def choose(self, instruction: ops.Choose) -> Fields:
        """A random jump."""
        return {"op": Op.CHOOSE, "list": self.list(instruction.targets), **self.amount(instruction.draw)}

    def fork(self, instruction: ops.Fork) -> Fields:
        """A fork."""
        return {
            "op": Op.FORK, "list": self.list(instruction.targets), "size": len(instruction.targets),
            "argument": instruction.need, "flag": instruction.detach, "counter": instruction.counter,
        }  # fmt: skip

    def publish(self, instruction: ops.Publish) -> Fields:
        """A message."""
        fields: Fields = {
            "op": Op.PUBLISH, "target": instruction.target, "counter": instruction.counter,
            "argument": NONE if instruction.stream is None else instruction.stream,
        }  # fmt: skip
        return fields if instruction.awaited is None else {**fields, "flag": 1, "component": 2 * instruction.awaited}

    def select(self, instruction: ops.Select) -> Fields:
        """A choice of a replica."""
        amount = self.amount(instruction.draw)
        return {"op": Op.SELECT, "argument": instruction.register, "list": instruction.balancer, **amount}

    def loop(self, instruction: ops.Loop) -> Fields:
        """The start of a loop."""
        amount = self.amount(instruction.count)
        return {"op": Op.LOOP, "argument": instruction.register, "target": instruction.exit, **amount}

    def scope(self, instruction: ops.Scope) -> Fields:
        """The start of a scope."""
        fields: Fields = {
            "op": Op.SCOPE, "target": instruction.handler, "argument": instruction.reason,
            "size": instruction.until_first_token,
        }  # fmt: skip
        return fields if instruction.timeout is None else {**fields, "flag": 1, **self.amount(instruction.timeout)}

    def retry(self, instruction: ops.Retry) -> Fields:
        """A retry: its list of numbers is the jitter and the delays."""
        budget: Fields = {} if instruction.budget is None else {"flag": 1, **self.place(instruction.budget)}
        return {
            "op": Op.RETRY, "component": 2 * instruction.component, "argument": instruction.register,
            "size": len(instruction.delays), "list": self._number_list((instruction.jitter, *instruction.delays)),
            "target": instruction.target, **self.amount(instruction.draw), **budget,
        }  # fmt: skip

    def closing(self, op: Op, instruction: ops.Close | ops.Open) -> Fields:
        """A pool's closing or opening."""
        return {"op": op, "flag": instruction.hangs, **self.place(instruction.place)}

    def branch(self, instruction: ops.Branch) -> Fields:
        """A jump that depends on a gauge."""
        target = instruction.target
        return {"op": Op.BRANCH, "value": instruction.least, "target": target, **self.place(instruction.place)}

    def scale(self, instruction: ops.Scale) -> Fields:
        """A scaler's look; `size` is the number of tokens that it can start."""
        return {
            "op": Op.SCALE, "argument": instruction.scaler, "target": instruction.target,
            "list": instruction.register, "counter": instruction.counter,
            "size": self.program.scalers[instruction.scaler].most,
        }  # fmt: skip

    def _balancer(self, spec: Balancer) -> Fields:
        count = len(spec.pools)
        excluded = spec.excluded or (0,) * count
        weights = self._number_list((*spec.weights, *(0.0 for _ in spec.weights)))
        return {
            "policy": POLICIES[spec.policy], "count": count, "pools": self.list(spec.pools), "position": count - 1,
            "weights": weights, "excluded": self._counter_list(excluded), "members": excluded.count(0),
        }  # fmt: skip

    def _scaler(self, spec: Scaler) -> Fields:
        gauge = self.program.stations[spec.gauge]
        assert isinstance(gauge, Gauge)
        starts = tuple(JOINED if replica < gauge.level else OFF for replica in range(spec.most))
        return {
            "gauge": spec.gauge, "balancer": spec.balancer, "stations": self.list(spec.stations),
            "count": len(spec.stations), "waiting": spec.waiting, "starts": self._counter_list(starts),
            "least": spec.least, "most": spec.most, "target": spec.target, "tolerance": spec.tolerance,
            "cool_down": spec.cool_down, "lower_since": -1.0,
        }  # fmt: skip

    def _queue(self, levels: int) -> int:
        self.queues += levels
        return self.queues - levels

    def _station(self, spec: Station) -> Fields:
        match spec:
            case Servers(_, servers, discipline, limit):
                levels = len(self.levels) if discipline is Discipline.PRIORITY else 1
                return {
                    "kind": Kind.SERVERS, "servers": servers, "discipline": DISCIPLINES[discipline],
                    "queue": self._queue(levels), "limit": NONE if limit is None else limit,
                    "speed": 1.0, "factor": 1.0,
                }  # fmt: skip
            case Sharing(_, capacity, quota):
                granted: Fields = {} if quota is None else {
                    "quota": quota.seconds, "period": quota.period, "processors": quota.processors,
                    "left": quota.seconds,
                }  # fmt: skip
                return {
                    "kind": Kind.SHARING, "rates": self._number_list((0.0, *capacity)), "most": len(capacity),
                    "alone": capacity[0], "root": NONE, "speed": 1.0, "factor": 1.0, **granted,
                }  # fmt: skip
            case Pool(_, units, limit, discipline, wait_limit, standing, refusal):
                levels = len(self.levels) if discipline is Discipline.PRIORITY else 1
                return {
                    "kind": Kind.POOL, "capacity": units, "room": units, "discipline": DISCIPLINES[discipline],
                    "queue": self._queue(levels), "limit": NONE if limit is None else limit,
                    "wait_limit": NONE if wait_limit is None else wait_limit, "standing": standing,
                    "refusal": refusal,
                }  # fmt: skip
            case KeyedLocks(_, units, limit, watched):
                self.stores += 1
                return {
                    "kind": Kind.KEYED_LOCKS, "capacity": units, "limit": NONE if limit is None else limit,
                    "row": self.stores - 1, "watched": NONE if watched is None else watched,
                }  # fmt: skip
            case Bucket(_, rate, burst, waits, keys):
                return {
                    "kind": Kind.BUCKET, "rate": rate, "burst": burst, "level": burst, "waits": waits,
                    "queue": self._queue(1), "keys": keys,
                    "taken": self._number_list((0.0,) * (2 * keys)) if keys > 1 else 0,
                }  # fmt: skip
            case Breaker(_, window, least, failure_share, open_time, trials):
                return {
                    "kind": Kind.BREAKER, "window": window, "reports": self._number_list((0.0,) * window),
                    "least": least, "failure_share": failure_share, "open_time": open_time, "trials_most": trials,
                }  # fmt: skip
            case Budget(_, rate, burst):
                return {"kind": Kind.BUDGET, "rate": rate, "burst": burst, "level": burst}
            case Store(_, entries, eviction, time_to_live, _, multiset):
                self.stores += 1
                return {
                    "kind": Kind.STORE, "entries_most": entries, "eviction": EVICTIONS[eviction],
                    "expires": time_to_live is not None, "time_to_live": time_to_live or 0.0,
                    "first": NONE, "end": NONE, "row": self.stores - 1, "multiset": multiset,
                }  # fmt: skip
            case Batch(_, most, base, linger):
                return {
                    "kind": Kind.BATCH, "most": most, "base": base, "linger": linger, "queue": self._queue(2),
                }  # fmt: skip
            case Inference():
                memory = self.program.stations[spec.memory]
                assert isinstance(memory, Pool)
                coefficients = self._number_list(inference_tables.coefficients(spec.step))
                self.inference.append(inference_tables.record(spec, memory.capacity, coefficients))
                return {
                    "kind": Kind.INFERENCE, "row": len(self.inference) - 1,
                    "queue": self._queue(len(self.levels) if spec.priority else 1),
                }  # fmt: skip
            case Gauge(_, level):
                return {"kind": Kind.GAUGE, "used": level}
        raise TypeError(f"the compiled engine has no station {type(spec).__name__}")

    def _workload(self, workload: Workload, first_user: int) -> Fields:
        think = workload.source.think if isinstance(workload.source, Users) else NONE
        return {
            "users": _users(workload), "first_user": first_user, "think": think, "choice": workload.choice,
            "entries": self.list(tuple(entry.pc for entry in workload.entries)),
            "entry_count": len(workload.entries), "frame_size": workload.frame_size,
            "components": len(workload.components), "meters": len(workload.meters),
            "level": self.levels.index(workload.priority), "first": NONE, "end": NONE,
        }  # fmt: skip


ENCODE: dict[type[Instruction], Callable[[Encoder, Any], Fields]] = {
    ops.Work: Encoder.visit,
    ops.Acquire: Encoder.visit,
    ops.TakeTokens: Encoder.visit,
    ops.Release: lambda encoder, it: {"op": Op.RELEASE},
    ops.Delay: Encoder.delay,
    ops.Deposit: Encoder.deposit,
    ops.NumberInto: lambda encoder, it: {"op": Op.NUMBER_INTO, "argument": it.register, "value": it.modulus},
    ops.Switch: lambda encoder, it: {"op": Op.SWITCH, "argument": it.register, "list": encoder.list(it.targets)},
    ops.DrawInto: lambda encoder, it: {"op": Op.DRAW_INTO, "argument": it.register, **encoder.amount(it.draw)},
    ops.Calculate: Encoder.calculate,
    ops.IfAtLeast: lambda encoder, it: {
        "op": Op.IF_AT_LEAST,
        "argument": it.register,
        "target": it.target,
        "list": encoder.list((it.least,)),
    },
    ops.Generate: Encoder.generate,
    ops.Meter: Encoder.meter,
    ops.AcquireKey: Encoder.acquire_key,
    ops.HashInto: Encoder.hash_into,
    ops.GroupInto: Encoder.group_into,
    ops.Lookup: Encoder.lookup,
    ops.Insert: lambda encoder, it: {"op": Op.INSERT, "argument": it.key_register, **encoder.place(it.place)},
    ops.Remove: lambda encoder, it: {"op": Op.REMOVE, "argument": it.key_register, **encoder.place(it.place)},
    ops.Choose: Encoder.choose,
    ops.Jump: lambda encoder, it: {"op": Op.JUMP, "target": it.target},
    ops.Fork: Encoder.fork,
    ops.Publish: Encoder.publish,
    ops.Acknowledge: lambda encoder, it: {"op": Op.ACKNOWLEDGE, "argument": it.levels},
    ops.IfAbandoned: lambda encoder, it: {"op": Op.IF_ABANDONED, "argument": it.levels, "target": it.target},
    ops.HandBack: lambda encoder, it: {"op": Op.HAND_BACK, "argument": it.register},
    ops.FirstToken: lambda encoder, it: {"op": Op.FIRST_TOKEN},
    ops.Select: Encoder.select,
    ops.Clear: lambda encoder, it: {"op": Op.CLEAR, "argument": it.register},
    ops.Loop: Encoder.loop,
    ops.Next: lambda encoder, it: {"op": Op.NEXT, "argument": it.register, "target": it.body},
    ops.Scope: Encoder.scope,
    ops.EndScope: lambda encoder, it: {"op": Op.END_SCOPE},
    ops.Retry: Encoder.retry,
    ops.Fail: lambda encoder, it: {"op": Op.FAIL, "argument": NONE if it.reason is None else it.reason},
    ops.End: lambda encoder, it: {"op": Op.END},
    ops.SetSpeed: lambda encoder, it: {"op": Op.SET_SPEED, "value": it.factor, **encoder.place(it.place)},
    ops.Halt: lambda encoder, it: {"op": Op.HALT, **encoder.place(it.place)},
    ops.Resume: lambda encoder, it: {"op": Op.RESUME, **encoder.place(it.place)},
    ops.Close: lambda encoder, it: encoder.closing(Op.CLOSE, it),
    ops.Open: lambda encoder, it: encoder.closing(Op.OPEN, it),
    ops.Break: lambda encoder, it: {
        "op": Op.BREAK,
        "list": encoder.list(it.pools),
        "counter": len(it.pools),
        "argument": it.reason,
    },
    ops.Exclude: lambda encoder, it: {"op": Op.EXCLUDE, "list": it.balancer, "argument": it.replica},
    ops.Include: lambda encoder, it: {"op": Op.INCLUDE, "list": it.balancer, "argument": it.replica},
    ops.Set: lambda encoder, it: {"op": Op.SET, **encoder.amount(it.amount), **encoder.place(it.place)},
    ops.Add: lambda encoder, it: {
        "op": Op.ADD,
        "flag": it.negative,
        **encoder.amount(it.amount),
        **encoder.place(it.place),
    },
    ops.Branch: Encoder.branch,
    ops.Scale: Encoder.scale,
    ops.Join: lambda encoder, it: {"op": Op.JOIN, "argument": it.scaler, "list": it.register},
}


def _records(dtype: np.dtype[Any], rows: list[Fields]) -> Table:
    """Records from their fields, 0 where left out; one record more, so that no table is empty."""
    table = np.zeros(len(rows) + 1, dtype)
    for row, fields in enumerate(rows):
        for name, value in fields.items():
            table[name][row] = value
    return table


def _draw(spec: Draw) -> Fields:
    if isinstance(spec.distribution, Constant):
        return {"constant": 1, "value": spec.distribution.value, "counter": NONE, "factor": spec.factor}
    return {"counter": spec.counter, "factor": spec.factor}


def _users(workload: Workload) -> int:
    return workload.source.count if isinstance(workload.source, Users) else 0


def _user_records(counts: list[int]) -> Table:
    table = np.zeros(sum(counts) + 1, layout.USER)
    table["workload"][:-1] = np.repeat(np.arange(len(counts)), counts)
    table["number"][:-1] = np.concatenate([np.arange(count) for count in counts] or [np.empty(0, int)])
    return table
