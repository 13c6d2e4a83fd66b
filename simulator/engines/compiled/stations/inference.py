"""LLM serving engines: continuous batching.

`busy` counts the sequences that run. A step takes its time when it begins, so that its sums are made as sequences are
put into it.
"""

from __future__ import annotations

from simulator.engines.compiled import heap
from simulator.engines.compiled.layout import NONE
from simulator.engines.compiled.meters import add_to_meter
from simulator.engines.compiled.pointers import (
    Record,
    compiled,
    float_at,
    index_at,
    inference_at,
    inlined,
    sequence_at,
    set_float,
    set_index,
    station_at,
    token_at,
)
from simulator.engines.compiled.stations import blocks, pool, queue, sequences
from simulator.engines.compiled.stations.sequences import GENERATING, OUTPUT, PROMPT, USAGE, blocks_for, says
from simulator.engines.compiled.stations.station import BLOCKS, account, ask, join_queue, leave_queue
from simulator.engines.compiled.tokens import first_token, served, waited, wake
from simulator.program import step_time
from simulator.program.program import DOES_NOT_FIT
from simulator.records import INFERENCE_FIELDS

WIDTH = len(INFERENCE_FIELDS)
FLOOR = 15
"""Place of the floor among the coefficients, see `inference_tables.coefficients`."""
step_seconds, prompt_attention = compiled(step_time.step_seconds), compiled(step_time.prompt_attention)


@compiled
def _has_nodes(w: Record, n: Record, waiting: int) -> bool:
    """Whether there are nodes enough for any step; else they have been asked for.

    Those that run fill at most as many blocks as the step has tokens, and begin one each; those that are admitted take
    no more than they may ever need.
    """
    admitted = min(waiting, n.sequences, n.tokens)
    needed = n.tokens // n.block + n.sequences + admitted * n.largest
    if w.free_nodes >= needed:
        return True
    w.asked_number = needed
    return False


@compiled
def can_submit(w: Record, station: int, token: int, generate: int) -> bool:
    """Whether a token's sequence can come and a step begin with it; else nodes have been asked for."""
    n = inference_at(w.inference, station_at(w.stations, station).row)
    largest = _largest(w, n, token, generate)
    if largest > n.capacity or n.serving:
        return True
    n.largest = max(n.largest, largest)
    return _has_nodes(w, n, station_at(w.stations, station).waiting + 1)


@inlined
def _largest(w: Record, n: Record, token: int, generate: int) -> int:
    """How many blocks a token's sequence may need."""
    t = token_at(w.tokens, token)
    tokens = sequences.tokens_in(w, t, generate, PROMPT) + sequences.tokens_in(w, t, generate, OUTPUT)
    return blocks_for(n, tokens)


@compiled
def submit(w: Record, station: int, token: int, component: int, level: int, generate: int) -> int:
    """Queue for what the token's registers say; a sequence that has not room enough alone is turned away."""
    s = station_at(w.stations, station)
    n = inference_at(w.inference, s.row)
    account(w, s)
    ask(w, s, token, 0.0, component)
    largest = _largest(w, n, token, generate)
    if largest > n.capacity:
        return DOES_NOT_FIT
    n.largest = max(n.largest, largest)
    sequences.begin(w, n, token_at(w.tokens, token), sequence_at(w.sequences, token), token, generate)
    join_queue(w, s, station, token, level if n.priority else 0)
    if not n.serving:
        _step(w, s, n, station)
    return BLOCKS


# A step: first those that run, in order, then those that wait.


@compiled
def _step(w: Record, s: Record, n: Record, station: int) -> None:
    n.in_step = n.step_tokens = n.generating = n.attended = n.longest = 0
    n.attention = 0.0
    admits = not (n.static and s.busy)
    left = _continue(w, s, n, 1 if n.apart else NONE)
    if admits:
        _admit(w, s, n, left)
    if n.apart and not n.in_step:
        _continue(w, s, n, 0)
    if n.in_step:
        _account_memory(w, n)
        n.computed_tokens += n.step_tokens - n.generating
        n.steps += 1
        n.serving = 1
        n.began = w.now
        heap.schedule(w, _seconds(w, n), w.first_station + station)


@inlined
def _seconds(w: Record, n: Record) -> float:
    """The time of the step."""
    c = n.coefficients
    return step_seconds(
        float_at(w.numbers, c), float_at(w.numbers, c + 1), float_at(w.numbers, c + 2), float_at(w.numbers, c + 3),
        float_at(w.numbers, c + 4), float_at(w.numbers, c + 5), float_at(w.numbers, c + 6), float_at(w.numbers, c + 7),
        float_at(w.numbers, c + 8), float_at(w.numbers, c + 9), float_at(w.numbers, c + 10),
        float_at(w.numbers, c + 11), float_at(w.numbers, c + 12), float_at(w.numbers, c + 13),
        float_at(w.numbers, c + 14),
        float(n.step_tokens), float(n.generating), float(n.attended), float(n.longest), n.attention,
    )  # fmt: skip


@compiled
def _continue(w: Record, s: Record, n: Record, skipped: int) -> int:
    """Give those that run their part of the tokens; returns what is left, 0 where one lost its blocks.

    Those that generate are left out where `skipped` is 1, those that compute a prompt where it is 0.
    """
    budget, preempted, position = n.tokens, False, 0
    while position < s.busy and budget:
        token = index_at(n.running, position)
        q = sequence_at(w.sequences, token)
        if skipped != NONE and _generates(q) == (skipped == 1):
            position += 1
            continue
        part = min(q.known - q.computed, n.part, budget)
        if part > q.room and blocks_for(n, part - q.room) > n.free:
            preempted = True
            _preempt(w, s, n, index_at(n.running, s.busy - 1))
            continue
        _schedule(w, n, token, q, part)
        budget -= part
        position += 1
    return 0 if preempted else budget


@inlined
def _generates(q: Record) -> bool:
    """Whether the next part brings another token, and not only a part of the prompt."""
    return bool(q.generated > 0 and q.known - q.computed == 1)


@compiled
def _preempt(w: Record, s: Record, n: Record, token: int) -> None:
    """Take the blocks of the last of those that run, which waits again."""
    q = sequence_at(w.sequences, token)
    n.preemptions += 1
    s.busy -= 1
    s.waiting += 1
    s.delivered += w.now - q.started
    served(w, token)
    _give_back(w, n, q)
    q.computed = q.keyed = q.runs = 0
    queue.push_first(w, s, token, token_at(w.tokens, token).level)


@compiled
def _admit(w: Record, s: Record, n: Record, budget: int) -> None:
    planned, begins = n.ahead and s.busy, n.in_step
    while s.waiting and s.busy < n.sequences and budget:
        token = queue.head(w, s, False)
        if planned and token_at(w.tokens, token).since > n.began:
            return
        q = sequence_at(w.sequences, token)
        found, free = sequences.find(w, n, q)
        if blocks_for(n, q.known) - found > n.free - free:
            return
        if not n.chunked and n.in_step > begins and q.known - found * n.block > budget:
            return
        _start(w, s, n, token, q, found)
        part = q.known - q.computed
        if n.chunked:
            part = min(part, n.part, budget)
        _schedule(w, n, token, q, part)
        budget = max(budget - part, 0)


@inlined
def _start(w: Record, s: Record, n: Record, token: int, q: Record, found: int) -> None:
    queue.remove(w, s, token)
    s.waiting -= 1
    waited(w, token)
    q.started = w.now
    q.runs = 1
    place, level = s.busy, token_at(w.tokens, token).level
    while place and token_at(w.tokens, index_at(n.running, place - 1)).level > level:
        set_index(n.running, place, index_at(n.running, place - 1))
        place -= 1
    set_index(n.running, place, token)
    s.busy += 1
    sequences.use_found(w, n, q, found)
    if not q.admitted:
        sequences.count_prompt(w, n, q, token_at(w.tokens, token))


@inlined
def _schedule(w: Record, n: Record, token: int, q: Record, part: int) -> None:
    """Put the next part of a sequence into the step; there are blocks enough."""
    while part > q.room:
        blocks.take(w, n, q)
    q.part = part
    q.step = n.in_step
    set_index(n.stepped, n.in_step, token)
    n.in_step += 1
    if q.computed + part >= q.fills:
        sequences.offer(w, n, q)
    n.step_tokens += part
    n.longest = max(n.longest, q.computed + part)
    if _generates(q):
        n.generating += 1
        n.attended += q.known
    else:
        floor = float_at(w.numbers, n.coefficients + FLOOR)
        n.attention += prompt_attention(floor, float(q.computed), float(part))


@compiled
def _account_memory(w: Record, n: Record) -> None:
    memory = station_at(w.stations, n.memory)
    pool.account(w, memory)
    memory.used = memory.capacity - n.free


# The end of a step, of a sequence, or of a wait.


@compiled
def can_step(w: Record, station: int) -> bool:
    """Whether the step can end and the next one begin; else nodes have been asked for."""
    s = station_at(w.stations, station)
    return _has_nodes(w, inference_at(w.inference, s.row), s.waiting)


@compiled
def complete(w: Record, station: int) -> None:
    """A step is over."""
    s = station_at(w.stations, station)
    n = inference_at(w.inference, s.row)
    account(w, s)
    n.stepping += w.now - n.began
    n.serving = 0
    for place in range(n.in_step):
        token = index_at(n.stepped, place)
        if token != NONE:
            q = sequence_at(w.sequences, token)
            q.computed += q.part
            q.room -= q.part
            if q.computed == q.known:
                _generate(w, s, n, token, q)
    n.in_step = 0
    if s.busy or s.waiting:
        _step(w, s, n, station)


@inlined
def _generate(w: Record, s: Record, n: Record, token: int, q: Record) -> None:
    """Have one more token."""
    t = token_at(w.tokens, token)
    n.generated_tokens += 1
    q.generated += 1
    q.known += 1
    sequences.meter_latency(w, q, t)
    q.last = w.now
    if q.generated == 1:
        served(w, token)
        t.component = says(w, q, GENERATING)
        first_token(w, token)
    if q.generated >= q.output:
        add_to_meter(w, t, says(w, q, USAGE) + 2, float(q.output))
        s.completions += 1
        _leave(w, s, n, token)
        wake(w, token)


@compiled
def _leave(w: Record, s: Record, n: Record, token: int) -> None:
    q = sequence_at(w.sequences, token)
    s.busy -= 1
    place = 0
    while index_at(n.running, place) != token:
        place += 1
    for i in range(place, s.busy):
        set_index(n.running, i, index_at(n.running, i + 1))
    s.delivered += w.now - q.started
    served(w, token)
    token_at(w.tokens, token).at = NONE
    _give_back(w, n, q)


@compiled
def _give_back(w: Record, n: Record, q: Record) -> None:
    blocks.give_back(w, n, q)
    _account_memory(w, n)


@compiled
def withdraw(w: Record, station: int, token: int) -> None:
    """Leave the queue, or the step under way, which takes as long as before."""
    s = station_at(w.stations, station)
    n = inference_at(w.inference, s.row)
    q = sequence_at(w.sequences, token)
    account(w, s)
    s.withdrawals += 1
    if not q.runs:
        leave_queue(w, s, token)
        return
    if 0 <= q.step < n.in_step and index_at(n.stepped, q.step) == token:
        set_index(n.stepped, q.step, NONE)
    _leave(w, s, n, token)


@compiled
def in_progress(w: Record, s: Record) -> float:
    """Seconds that the sequences which run now have run."""
    n = inference_at(w.inference, s.row)
    seconds = 0.0
    for place in range(s.busy):
        seconds += w.now - sequence_at(w.sequences, index_at(n.running, place)).started
    return seconds


@compiled
def sample_tokens(w: Record) -> None:
    """Write down the tokens of every inference station, see `simulator.records.INFERENCE_FIELDS`."""
    for number in range(w.inference_count):
        n = inference_at(w.inference, number)
        place = (w.sampled * w.inference_count + number) * WIDTH
        set_float(w.inference_samples, place, n.steps)
        set_float(w.inference_samples, place + 1, n.stepping)
        set_float(w.inference_samples, place + 2, n.prompt_tokens)
        set_float(w.inference_samples, place + 3, n.cached_tokens)
        set_float(w.inference_samples, place + 4, n.computed_tokens)
        set_float(w.inference_samples, place + 5, n.generated_tokens)
        set_float(w.inference_samples, place + 6, n.preemptions)
