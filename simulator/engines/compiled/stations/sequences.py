"""Sequences: prompts and the tokens that are generated after them, one for each token at an inference station."""

from __future__ import annotations

from simulator.engines.compiled.hashing import mixed
from simulator.engines.compiled.layout import NONE
from simulator.engines.compiled.meters import add_to_meter, meters_of
from simulator.engines.compiled.pointers import (
    Record,
    block_at,
    compiled,
    float_at,
    inlined,
    integer_at,
    node_at,
    set_float,
)
from simulator.engines.compiled.stations import blocks
from simulator.engines.compiled.tokens import register

# What the instruction says, see `inference_tables.numbers_of`.
GENERATING, PROMPT, OUTPUT, USAGE, LATENCY, KEY, SHARED, SHARED_KEY, BEGUN, KEPT, PREFIX, SPAN, SALT = range(13)
NEVER = (1 << 31) - 1


@inlined
def says(w: Record, q: Record, which: int) -> int:
    """What a sequence's instruction says."""
    return integer_at(w.table, q.generate + which)


@inlined
def tokens_in(w: Record, t: Record, generate: int, which: int) -> int:
    """The length of the prompt or of the output that a token's register says, at least 1."""
    return max(register(w, t, integer_at(w.table, generate + which)), 1)


@compiled
def lacks_prefix(w: Record, token: int, number: int, generate: int) -> bool:
    """Whether the ids of a recorded prompt have to be given to a token first; then they have been asked for."""
    prefix = integer_at(w.table, generate + PREFIX)
    if prefix == NONE:
        return False
    if w.prefixed == token:
        w.prefixed = NONE
        return False
    w.asked = token
    w.asked_number = number
    w.asked_draw = prefix
    return True


@compiled
def begin(w: Record, n: Record, t: Record, q: Record, token: int, generate: int) -> None:
    """Begin a token's sequence, as its instruction says from place `generate` of the table on."""
    q.generate = generate
    q.prompt = tokens_in(w, t, generate, PROMPT)
    q.output = tokens_in(w, t, generate, OUTPUT)
    q.generated = says(w, q, BEGUN)
    q.known = q.prompt + q.generated
    q.computed = q.part = q.keyed = q.held = q.room = q.runs = q.admitted = 0
    q.fills = NEVER
    q.step = q.last_node = NONE
    q.started = q.last = 0.0
    key, shared = says(w, q, KEY), says(w, q, SHARED)
    q.keeps = 0
    q.ids = NONE
    if n.prefix_caching:
        q.keeps = shared
        if says(w, q, PREFIX) != NONE:
            q.ids = token * w.prefix_size
            q.keeps = max(shared, min(q.prompt, shared + w.prefix_count * says(w, q, SPAN)))
        elif key != NONE:
            q.own_key = mixed(2 * register(w, t, key) + 1, 0)
            kept = says(w, q, KEPT)
            q.keeps = max(q.keeps, q.prompt + q.output if kept == NONE else register(w, t, kept))


@inlined
def blocks_for(n: Record, tokens: int) -> int:
    """How many blocks so many tokens take."""
    return (tokens + n.block - 1) // n.block


@inlined
def _has_key(n: Record, q: Record, block: int) -> bool:
    """Whether another sequence can have a block of this one."""
    return (block + 1) * n.block <= q.keeps


@compiled
def _key(w: Record, n: Record, q: Record, block: int) -> int:
    behind = (block + 1) * n.block - says(w, q, SHARED)
    if behind <= 0:
        return mixed(says(w, q, SHARED_KEY), block)
    if q.ids == NONE:
        return mixed(q.own_key, block)
    return mixed(mixed(integer_at(w.prefixes, q.ids + (behind - 1) // says(w, q, SPAN)), says(w, q, SALT)), block)


@compiled
def find(w: Record, n: Record, q: Record) -> tuple[int, int]:
    """How many blocks of a sequence that waits are there already, and how many of these are free.

    At least its last token is computed.
    """
    count, free = 0, 0
    most = (q.known - 1) // n.block
    while count < most and _has_key(n, q, count):
        block = blocks.found(n, _key(w, n, q, count))
        if block == NONE:
            break
        free += block_at(n.blocks, block).users == 0
        count += 1
    return count, free


@compiled
def use_found(w: Record, n: Record, q: Record, count: int) -> None:
    """Use the blocks that have been found, so many."""
    for block in range(count):
        blocks.use(w, n, q, blocks.found(n, _key(w, n, q, block)))
    q.keyed = count
    q.computed = count * n.block
    q.room = 0
    _await_filling(n, q)


@inlined
def _await_filling(n: Record, q: Record) -> None:
    q.fills = (q.keyed + 1) * n.block if _has_key(n, q, q.keyed) else NEVER


@compiled
def offer(w: Record, n: Record, q: Record) -> None:
    """Give the blocks that the step fills their keys."""
    full = (q.computed + q.part) // n.block
    node, block = q.last_node, q.held
    while block > q.keyed:
        block -= 1
        link = node_at(w.nodes, node)
        if block < full and _has_key(n, q, block):
            blocks.keep(n, link.block, _key(w, n, q, block))
        node = link.before
    q.keyed = full
    _await_filling(n, q)


@compiled
def receive(w: Record, n: Record, q: Record) -> None:
    """Have the keys and values of the prompt, which were computed elsewhere."""
    for _ in range(blocks_for(n, q.prompt) - q.held):
        blocks.take(w, n, q)
    q.room -= q.prompt - q.computed
    q.computed = q.prompt


@compiled
def count_prompt(w: Record, n: Record, q: Record, t: Record) -> None:
    """Count the prompt of a sequence that is admitted for the first time."""
    q.admitted = 1
    cached = min(q.computed, q.prompt)
    if says(w, q, BEGUN):
        receive(w, n, q)
    n.prompt_tokens += q.prompt
    n.cached_tokens += cached
    usage = says(w, q, USAGE)
    add_to_meter(w, t, usage, float(q.prompt))
    add_to_meter(w, t, usage + 1, float(cached))


@inlined
def meter_latency(w: Record, q: Record, t: Record) -> None:
    """Write down that a token has been generated now."""
    latency = says(w, q, LATENCY)
    if latency == NONE:
        return
    meters = meters_of(w, t)
    if meters == NONE:
        return
    place = meters + latency
    if q.generated == 1:
        set_float(w.times, place, w.now)
        return
    gap = w.now - (q.last if q.last > 0.0 else float_at(w.times, place))
    set_float(w.times, place + 1, float_at(w.times, place + 1) + gap)
    set_float(w.times, place + 2, float_at(w.times, place + 2) + 1.0)
    if gap > float_at(w.times, place + 3):
        set_float(w.times, place + 3, gap)
