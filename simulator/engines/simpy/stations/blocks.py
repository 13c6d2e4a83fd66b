"""Blocks of a GPU's memory that hold the keys and values of tokens, shared by sequences that begin alike."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from simulator.program.stations import MOST_USES


class Blocks:
    """`count` blocks. One that nobody uses is free; it keeps what it holds, under its key, until it is taken.

    Of the free blocks the one that came free first is taken first, by frequency of use that of those that were found
    again least often.
    """

    def __init__(self, count: int, by_frequency: bool = False) -> None:
        self.free: list[OrderedDict[int, None]] = [OrderedDict.fromkeys(range(count))]
        self.free += [OrderedDict() for _ in range(MOST_USES if by_frequency else 0)]
        self.free_count = count
        self.users = [0] * count
        self.uses = [0] * count  # of what a block holds, after the first
        self.keys: dict[int, int] = {}  # of blocks
        self.kept: dict[int, int] = {}  # blocks by their keys

    def found(self, keys: Iterable[int]) -> list[int]:
        """The blocks with these keys, up to the first that there is not."""
        blocks = []
        for key in keys:
            if key not in self.kept:
                break
            blocks.append(self.kept[key])
        return blocks

    def left(self, found: Sequence[int]) -> int:
        """How many blocks are free besides the found ones."""
        return self.free_count - sum(not self.users[block] for block in found)

    def use(self, block: int) -> None:
        """Use a block that is found."""
        if not self.users[block]:
            del self._level(block)[block]
            self.free_count -= 1
        self.users[block] += 1
        self.uses[block] += 1

    def take(self) -> int:
        """A free block, which forgets what it holds."""
        block, _ = next(level for level in self.free if level).popitem(last=False)
        self.free_count -= 1
        self.users[block], self.uses[block] = 1, 0
        key = self.keys.pop(block, None)
        if key is not None:
            del self.kept[key]
        return block

    def keep(self, block: int, key: int) -> None:
        """Give what a block holds a key, unless another block has it."""
        if key not in self.kept:
            self.kept[key] = block
            self.keys[block] = key

    def give_back(self, blocks: Sequence[int]) -> None:
        """Use blocks no more; the last of them are free first, for what they hold needs that of those before it."""
        for block in reversed(blocks):
            self.users[block] -= 1
            if not self.users[block]:
                self._level(block)[block] = None
                self.free_count += 1

    def _level(self, block: int) -> OrderedDict[int, None]:
        """The free blocks whose content has been used as often."""
        return self.free[min(self.uses[block], len(self.free) - 1)]
