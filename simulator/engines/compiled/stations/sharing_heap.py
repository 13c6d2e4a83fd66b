"""Jobs of a sharing station: a pairing heap through their tokens on (mark, order of joining).

Joining takes constant time, leaving logarithmic time on average, from anywhere.
Source: M. L. Fredman, R. Sedgewick, D. D. Sleator and R. E. Tarjan, "The pairing heap", Algorithmica 1 (1986) 111-129.
`before` is the sibling to the left, or the parent of its first child.
"""

from __future__ import annotations

from simulator.engines.compiled.layout import NONE
from simulator.engines.compiled.pointers import Record, compiled, inlined, token_at


@inlined
def _meld(w: Record, a: int, b: int) -> int:
    """Make the later of two roots the first child of the other, and return that."""
    first, second = token_at(w.tokens, a), token_at(w.tokens, b)
    if second.mark < first.mark or (second.mark == first.mark and second.order < first.order):
        a, b = b, a
        first, second = second, first
    second.before = a
    second.after = first.child
    if first.child != NONE:
        token_at(w.tokens, first.child).before = b
    first.child = b
    return a


@inlined
def join(w: Record, station: Record, token: int) -> None:
    """Add a job."""
    t = token_at(w.tokens, token)
    t.child = t.before = t.after = NONE
    station.root = token if station.root == NONE else _meld(w, station.root, token)


@compiled
def _merge_pairs(w: Record, first: int) -> int:
    """Meld a list of siblings into one heap: pairs from the left, then all from the right."""
    melded = NONE  # chained by `before`
    while first != NONE:
        second = token_at(w.tokens, first).after
        following = NONE
        if second != NONE:
            following = token_at(w.tokens, second).after
            first = _meld(w, first, second)
        token_at(w.tokens, first).before = melded
        melded = first
        first = following
    root = NONE
    while melded != NONE:
        following = token_at(w.tokens, melded).before
        token_at(w.tokens, melded).after = NONE
        root = melded if root == NONE else _meld(w, root, melded)
        melded = following
    token_at(w.tokens, root).before = NONE
    return root


@inlined
def leave(w: Record, station: Record, token: int) -> None:
    """Take a job out."""
    t = token_at(w.tokens, token)
    rest = NONE if t.child == NONE else _merge_pairs(w, t.child)
    if station.root == token:
        station.root = rest
        return
    before = token_at(w.tokens, t.before)
    if before.child == token:
        before.child = t.after
    else:
        before.after = t.after
    if t.after != NONE:
        token_at(w.tokens, t.after).before = t.before
    if rest != NONE:
        station.root = _meld(w, station.root, rest)
