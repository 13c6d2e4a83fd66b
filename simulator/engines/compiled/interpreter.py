"""The interpreter: runs tokens over the code, an instruction at a time.

A step gives GOES_ON where the token goes on at its `pc`, BLOCKS where it blocks or ends, PAUSES where it runs the same
instruction again after what ended has been written down, or a status for Python to deal with, in which case nothing
has changed and the same instruction is run again.
"""

from __future__ import annotations

from simulator.engines.compiled import controls, heap, scalers
from simulator.engines.compiled.balancers import NOBODY, choose, exclude, include
from simulator.engines.compiled.choices import ADDITION, LEAST, SUBTRACTION
from simulator.engines.compiled.draws_at import draw_for, message_base
from simulator.engines.compiled.hashing import bucket_of
from simulator.engines.compiled.layout import NONE, PASSING, Kind, Op, Status
from simulator.engines.compiled.meters import add_to_meter, set_meter
from simulator.engines.compiled.pointers import (
    Record,
    compiled,
    float_at,
    inlined,
    instruction_at,
    integer_at,
    scaler_at,
    scope_at,
    station_at,
    token_at,
    workload_at,
)
from simulator.engines.compiled.requests import end_request, enlist
from simulator.engines.compiled.stations import (
    batch,
    breaker,
    bucket,
    budget,
    gauge,
    inference,
    keyed_locks,
    pool,
    sequences,
    servers,
    sharing,
    store,
)
from simulator.engines.compiled.stations.breaker import SUCCESS
from simulator.engines.compiled.stations.holds import release_holds
from simulator.engines.compiled.stations.station import BLOCKS, GOES_ON, PAUSES
from simulator.engines.compiled.tokens import (
    acknowledge,
    await_message,
    awaited_by,
    close_scope,
    first_token,
    free_token,
    hand_back,
    new_token,
    pass_time,
    register,
    scope_event,
    set_register,
    wake,
)
from simulator.engines.compiled.unwinding import branch_ended, fail
from simulator.program.program import NO_REPLICA
from simulator.records import COMPLETED

VISIT, RELEASE, DELAY, DRAW_INTO = int(Op.VISIT), int(Op.RELEASE), int(Op.DELAY), int(Op.DRAW_INTO)
HASH_INTO, GROUP_INTO, ACQUIRE_KEY = int(Op.HASH_INTO), int(Op.GROUP_INTO), int(Op.ACQUIRE_KEY)
LOOKUP, INSERT, CHOOSE, JUMP, FORK = int(Op.LOOKUP), int(Op.INSERT), int(Op.CHOOSE), int(Op.JUMP), int(Op.FORK)
ACKNOWLEDGE, IF_ABANDONED, HAND_BACK = int(Op.ACKNOWLEDGE), int(Op.IF_ABANDONED), int(Op.HAND_BACK)
FIRST_TOKEN = int(Op.FIRST_TOKEN)
PUBLISH, SELECT, CLEAR, LOOP, NEXT = int(Op.PUBLISH), int(Op.SELECT), int(Op.CLEAR), int(Op.LOOP), int(Op.NEXT)
REMOVE, GENERATE, METER = int(Op.REMOVE), int(Op.GENERATE), int(Op.METER)
CALCULATE, IF_AT_LEAST = int(Op.CALCULATE), int(Op.IF_AT_LEAST)
SCOPE, END_SCOPE, RETRY, FAIL = int(Op.SCOPE), int(Op.END_SCOPE), int(Op.RETRY), int(Op.FAIL)
SWITCH, NUMBER_INTO, DEPOSIT = int(Op.SWITCH), int(Op.NUMBER_INTO), int(Op.DEPOSIT)
END, SET_SPEED, HALT, CLOSE = int(Op.END), int(Op.SET_SPEED), int(Op.HALT), int(Op.CLOSE)
OPEN, BREAK, EXCLUDE, INCLUDE = int(Op.OPEN), int(Op.BREAK), int(Op.EXCLUDE), int(Op.INCLUDE)
SET, ADD, BRANCH, SCALE, JOIN = int(Op.SET), int(Op.ADD), int(Op.BRANCH), int(Op.SCALE), int(Op.JOIN)
SERVERS, SHARING, POOL = int(Kind.SERVERS), int(Kind.SHARING), int(Kind.POOL)
BATCH, BREAKER = int(Kind.BATCH), int(Kind.BREAKER)
NEED_DRAW, GROW_TOKENS, GROW_HOLDS = int(Status.NEED_DRAW), int(Status.GROW_TOKENS), int(Status.GROW_HOLDS)
GROW_SCOPES, GROW_KEYS, GROW_ENTRIES = int(Status.GROW_SCOPES), int(Status.GROW_KEYS), int(Status.GROW_ENTRIES)
GROW_LOCKS, GROW_NODES, NEED_PREFIX = int(Status.GROW_LOCKS), int(Status.GROW_NODES), int(Status.NEED_PREFIX)


@inlined
def step(w: Record, token: int) -> int:
    """Run one instruction of a token."""
    t = token_at(w.tokens, token)
    instruction = instruction_at(w.code, t.pc)
    op = instruction.op
    if op == VISIT:
        return _visit(w, t, token, instruction)
    if op == DELAY:
        return _delay(w, t, token, instruction)
    if op == RELEASE:
        t.pc += 1
        release_holds(w, token, t.holds - 1, SUCCESS)
        return GOES_ON
    return _other(w, token, op)


@inlined
def _amount(w: Record, t: Record, instruction: Record) -> float:
    if instruction.draw == NONE:
        return instruction.value
    return draw_for(w, t, instruction.draw)


@inlined
def _place(w: Record, t: Record, instruction: Record) -> int:
    if instruction.register == NONE:
        return instruction.place
    return integer_at(w.table, instruction.place + register(w, t, instruction.register))


@inlined
def _visit(w: Record, t: Record, token: int, instruction: Record) -> int:
    station = _place(w, t, instruction)
    kind = station_at(w.stations, station).kind
    if kind in (POOL, BREAKER) and w.free_hold == NONE:
        return GROW_HOLDS
    if kind == BATCH and not batch.can_start(w, station):
        return NEED_DRAW
    amount = _amount(w, t, instruction)
    if amount != amount:
        return NEED_DRAW
    t.pc += 1
    component = instruction.component
    if kind == SERVERS:
        entered = servers.enter(w, station, token, amount, component, workload_at(w.workloads, t.workload).level)
    elif kind == SHARING:
        entered = sharing.enter(w, station, token, amount, component)
    elif kind == POOL:
        entered = pool.enter(w, station, token, amount, component, workload_at(w.workloads, t.workload).level)
    elif kind == BATCH:
        entered = batch.enter(w, station, token, amount, component)
    elif kind == BREAKER:
        entered = breaker.enter(w, station, token, component)
    elif instruction.argument == NONE:
        entered = bucket.enter(w, station, token, amount, component)
    else:
        key = register(w, t, instruction.argument)
        entered = bucket.enter_of_key(w, station, token, amount, component, key)
    if entered < 0:
        return entered
    station_at(w.stations, station).rejections += 1
    return GOES_ON if fail(w, token, entered) else BLOCKS


@compiled
def _acquire_key(w: Record, t: Record, token: int, instruction: Record) -> int:
    key = register(w, t, instruction.argument)
    if key >= w.universe:
        w.asked_number = key
        return GROW_KEYS
    if w.free_hold == NONE:
        return GROW_HOLDS
    if w.free_lock == NONE:
        return GROW_LOCKS
    t.pc += 1
    station = _place(w, t, instruction)
    entered = keyed_locks.enter(w, station, token, key, instruction.component)
    if entered < 0:
        return entered
    station_at(w.stations, station).rejections += 1
    return GOES_ON if fail(w, token, entered) else BLOCKS


@compiled
def _generate(w: Record, t: Record, token: int, instruction: Record) -> int:
    station = _place(w, t, instruction)
    if not inference.can_submit(w, station, token, instruction.list):
        return GROW_NODES
    if sequences.lacks_prefix(w, token, t.number, instruction.list):
        return NEED_PREFIX
    t.pc += 1
    level = workload_at(w.workloads, t.workload).level
    entered = inference.submit(w, station, token, instruction.component, level, instruction.list)
    if entered < 0:
        return entered
    station_at(w.stations, station).rejections += 1
    return GOES_ON if fail(w, token, entered) else BLOCKS


@inlined
def _delay(w: Record, t: Record, token: int, instruction: Record) -> int:
    amount = _amount(w, t, instruction)
    if amount != amount:
        return NEED_DRAW
    if instruction.flag:
        amount *= station_at(w.stations, instruction.list).used
    t.pc += 1
    t.since = w.now
    t.component = instruction.component
    pass_time(w, token, amount, PASSING)
    return BLOCKS


@compiled
def _other(w: Record, token: int, op: int) -> int:
    t = token_at(w.tokens, token)
    instruction = instruction_at(w.code, t.pc)
    if op == JUMP:
        t.pc = instruction.target
        return GOES_ON
    if op < FORK:
        return _data(w, t, instruction, op)
    if op == SCOPE:
        return _scope(w, t, token, instruction)
    if op == END_SCOPE:
        close_scope(w, token)
        t.pc += 1
        return GOES_ON
    if op == FORK:
        return _fork(w, t, token, instruction)
    if op == PUBLISH:
        return _publish(w, t, token, instruction)
    if op == SELECT:
        return _select(w, t, token, instruction)
    if op == ACKNOWLEDGE:
        t.pc += 1
        acknowledge(w, token, instruction.argument)
        return GOES_ON
    if op == IF_ABANDONED:
        t.pc = instruction.target if awaited_by(w, token, instruction.argument) == NONE else t.pc + 1
        return GOES_ON
    if op == HAND_BACK:
        t.pc += 1
        hand_back(w, token, instruction.argument)
        return GOES_ON
    if op == FIRST_TOKEN:
        t.pc += 1
        first_token(w, token)
        return GOES_ON
    if op <= NEXT:
        return _count(w, t, instruction, op)
    if op == ACQUIRE_KEY:
        return _acquire_key(w, t, token, instruction)
    if op == GENERATE:
        return _generate(w, t, token, instruction)
    if op == RETRY:
        return _retry(w, t, token, instruction)
    if op == FAIL:
        return GOES_ON if fail(w, token, t.reason if instruction.argument == NONE else instruction.argument) else BLOCKS
    if op == END:
        return _end(w, t, token)
    return _control(w, t, instruction, op)


@inlined
def _data(w: Record, t: Record, instruction: Record, op: int) -> int:
    """Draw a key, make another of it, look it up, put it in, take it out, or choose a way; calculate and meter."""
    if op == SWITCH:
        t.pc = integer_at(w.table, instruction.list + register(w, t, instruction.argument))
    elif op == NUMBER_INTO:
        set_register(w, t, instruction.argument, t.number % int(instruction.value))
        t.pc += 1
    elif op == DEPOSIT:
        value = _amount(w, t, instruction)
        if value != value:
            return NEED_DRAW
        budget.deposit(w, _place(w, t, instruction), value)
        t.pc += 1
    elif op == DRAW_INTO:
        value = _amount(w, t, instruction)
        if value != value:
            return NEED_DRAW
        set_register(w, t, instruction.argument, int(value + 0.5))
        t.pc += 1
    elif op == CHOOSE:
        value = _amount(w, t, instruction)
        if value != value:
            return NEED_DRAW
        t.pc = integer_at(w.table, instruction.list + int(value))
    elif op == CALCULATE:
        _calculate(w, t, instruction)
        t.pc += 1
    elif op == IF_AT_LEAST:
        least = integer_at(w.table, instruction.list)
        t.pc = instruction.target if register(w, t, instruction.argument) >= least else t.pc + 1
    elif op == METER:
        value = _amount(w, t, instruction)
        if value != value:
            return NEED_DRAW
        if instruction.flag:
            add_to_meter(w, t, instruction.argument, value)
        else:
            set_meter(w, t, instruction.argument, w.now)
        t.pc += 1
    elif op == HASH_INTO:
        key = register(w, t, instruction.argument)
        bucket_number = bucket_of(key, instruction.size, integer_at(w.table, instruction.list))
        set_register(w, t, instruction.counter, instruction.flag + bucket_number)
        t.pc += 1
    elif op == GROUP_INTO:
        group = register(w, t, instruction.argument) // instruction.size
        set_register(w, t, instruction.counter, instruction.flag + group)
        t.pc += 1
    else:
        key = register(w, t, instruction.argument)
        if key >= w.universe:
            w.asked_number = key
            return GROW_KEYS
        if op == LOOKUP:
            hit = store.lookup(w, _place(w, t, instruction), key, instruction.flag)
            t.pc = t.pc + 1 if hit else instruction.target
        elif op == REMOVE:
            store.remove(w, _place(w, t, instruction), key)
            t.pc += 1
        else:
            if w.free_entry == NONE:
                return GROW_ENTRIES
            store.insert(w, _place(w, t, instruction), key)
            t.pc += 1
    return GOES_ON


@compiled
def _calculate(w: Record, t: Record, instruction: Record) -> None:
    left = register(w, t, instruction.counter)
    right = integer_at(w.table, instruction.list)
    if instruction.target != NONE:
        right = register(w, t, instruction.target)
    if instruction.flag == ADDITION:
        left += right
    elif instruction.flag == SUBTRACTION:
        left -= right
    elif instruction.flag == LEAST:
        left = min(left, right)
    else:
        left = max(left, right)
    set_register(w, t, instruction.argument, left)


@inlined
def _count(w: Record, t: Record, instruction: Record, op: int) -> int:
    """Clear a register, or count a loop."""
    if op == CLEAR:
        set_register(w, t, instruction.argument, 0)
        t.pc += 1
    elif op == NEXT:
        left = register(w, t, instruction.argument) - 1
        set_register(w, t, instruction.argument, left)
        t.pc = instruction.target if left > 0 else t.pc + 1
    else:
        value = _amount(w, t, instruction)
        if value != value:
            return NEED_DRAW
        times = int(value + 0.5)
        set_register(w, t, instruction.argument, times)
        t.pc = t.pc + 1 if times > 0 else instruction.target
    return GOES_ON


@inlined
def _select(w: Record, t: Record, token: int, instruction: Record) -> int:
    value = _amount(w, t, instruction)
    if value != value:
        return NEED_DRAW
    replica = choose(w, instruction.list, value)
    if replica == NOBODY:
        return GOES_ON if fail(w, token, NO_REPLICA) else BLOCKS
    set_register(w, t, instruction.argument, replica)
    t.pc += 1
    return GOES_ON


@inlined
def _child(w: Record, t: Record, pc: int) -> int:
    spec = workload_at(w.workloads, t.workload)
    child = new_token(w, pc, spec)
    c = token_at(w.tokens, child)
    c.number = t.number
    c.workload = t.workload
    c.root = t.root
    c.serial = t.serial
    c.user = NONE
    wake(w, child)
    return child


@inlined
def _own_frame(w: Record, t: Record, child: int, counter: int) -> None:
    """Give a child a copy of the frame whose draws no other copy shares."""
    c = token_at(w.tokens, child)
    for i in range(workload_at(w.workloads, t.workload).frame_size):
        set_register(w, c, i, register(w, t, i))
    if counter != NONE:
        set_register(w, c, 0, message_base(register(w, t, 0), register(w, t, counter)))
        set_register(w, t, counter, register(w, t, counter) + 1)


@compiled
def _fork(w: Record, t: Record, token: int, instruction: Record) -> int:
    branches, counter = instruction.size, instruction.counter
    if w.free_tokens < branches:
        return GROW_TOKENS
    t.pc += 1
    t.need = instruction.argument
    t.detaches = instruction.flag
    t.branches = branches
    previous = NONE
    for i in range(branches):
        branch = _child(w, t, integer_at(w.table, instruction.list + i))
        b = token_at(w.tokens, branch)
        if instruction.flag:
            _own_frame(w, t, branch, counter)
        else:
            b.frame = t.frame
        b.parent = token
        b.previous = previous
        b.next = NONE
        if previous == NONE:
            t.first_branch = branch
        else:
            token_at(w.tokens, previous).next = branch
        previous = branch
    t.last_branch = previous
    return BLOCKS


@compiled
def _publish(w: Record, t: Record, token: int, instruction: Record) -> int:
    if w.free_tokens == 0:
        return GROW_TOKENS
    message = NONE
    if instruction.argument == NONE:
        message = _child(w, t, instruction.target)
        token_at(w.tokens, message).detached = 1
    else:
        message = new_token(w, instruction.target, workload_at(w.workloads, instruction.argument))
        enlist(w, message, instruction.argument, t.number, NONE, 0)
        wake(w, message)
    _own_frame(w, t, message, instruction.counter)
    t.pc += 1
    if instruction.flag:
        await_message(w, token, message, instruction.component)
        return BLOCKS
    return GOES_ON


@inlined
def _scope(w: Record, t: Record, token: int, instruction: Record) -> int:
    if w.free_scope == NONE:
        return GROW_SCOPES
    seconds = 0.0
    if instruction.flag:
        seconds = _amount(w, t, instruction)
        if seconds != seconds:
            return NEED_DRAW
    scope = w.free_scope
    s = scope_at(w.scopes, scope)
    w.free_scope = s.outer
    s.outer = t.scope
    t.scope = scope
    s.token = token
    s.handler = instruction.target
    s.holds = t.holds
    s.reason = instruction.argument
    s.timed = instruction.flag
    s.until_first_token = instruction.size
    if instruction.flag:
        heap.schedule(w, seconds, scope_event(w, scope))
    t.pc += 1
    return GOES_ON


@compiled
def _retry(w: Record, t: Record, token: int, instruction: Record) -> int:
    retries = register(w, t, instruction.argument)
    if retries >= instruction.size or (instruction.flag and not budget.allows(w, _place(w, t, instruction))):
        return GOES_ON if fail(w, token, t.reason) else BLOCKS
    uniform = _amount(w, t, instruction)
    if uniform != uniform:
        return NEED_DRAW
    if instruction.flag:
        budget.spend(w, _place(w, t, instruction))
    jitter = float_at(w.numbers, instruction.list)
    delay = float_at(w.numbers, instruction.list + 1 + retries)
    set_register(w, t, instruction.argument, retries + 1)
    root = token_at(w.tokens, t.root)
    if root.is_root and root.serial == t.serial:
        root.retries += 1
    t.pc = instruction.target
    t.since = w.now
    t.component = instruction.component
    pass_time(w, token, delay * (1.0 - jitter * uniform), PASSING)
    return BLOCKS


@inlined
def _end(w: Record, t: Record, token: int) -> int:
    if t.parent != NONE:
        branch_ended(w, token, t.parent)
    else:
        acknowledge(w, token, 1)
        if not t.detached:
            end_request(w, token, COMPLETED)
        free_token(w, token)
    return BLOCKS


@compiled
def _control(w: Record, t: Record, instruction: Record, op: int) -> int:
    """Change the system."""
    if op == BREAK:
        if controls.break_next(w, instruction.list, instruction.counter, instruction.argument):
            return PAUSES
    elif op == EXCLUDE:
        exclude(w, instruction.list, instruction.argument)
    elif op == INCLUDE:
        include(w, instruction.list, instruction.argument)
    elif op == SCALE:
        return _scale(w, t, instruction)
    elif op == JOIN:
        first = instruction.list
        scalers.join(w, instruction.argument, register(w, t, first), register(w, t, first + 1))
    else:
        return _change_station(w, t, instruction, op)
    t.pc += 1
    return GOES_ON


@inlined
def _change_station(w: Record, t: Record, instruction: Record, op: int) -> int:
    """Change a station's speed, whether it is open, or its level, or go by that."""
    station = _place(w, t, instruction)
    s = station_at(w.stations, station)
    if op == BRANCH:
        t.pc = instruction.target if s.used >= instruction.value else t.pc + 1
        return GOES_ON
    if SET <= op <= ADD:
        amount = _amount(w, t, instruction)
        if amount != amount:
            return NEED_DRAW
        if op == ADD:
            amount = s.used - amount if instruction.flag else s.used + amount
        gauge.set_level(w, station, amount)
    elif op == CLOSE:
        controls.close(w, station, instruction.flag, 1)
    elif op == OPEN:
        controls.close(w, station, instruction.flag, -1)
    elif op == SET_SPEED:
        controls.set_speed(w, station, instruction.value, 0)
    else:
        controls.set_speed(w, station, s.factor, 1 if op == HALT else -1)
    t.pc += 1
    return GOES_ON


@inlined
def _scale(w: Record, t: Record, instruction: Record) -> int:
    """Let a scaler look, and start a token for each new instance."""
    if w.free_tokens < instruction.size:
        return GROW_TOKENS
    starts = scalers.look(w, instruction.argument)
    scaler = scaler_at(w.scalers, instruction.argument)
    level = int(station_at(w.stations, scaler.gauge).used)
    for replica in range(level - starts, level):
        child = _child(w, t, instruction.target)
        _own_frame(w, t, child, instruction.counter)
        c = token_at(w.tokens, child)
        c.detached = 1
        set_register(w, c, instruction.list, replica)
        set_register(w, c, instruction.list + 1, scaler.started)
    t.pc += 1
    return GOES_ON
