"""How much memory glibc's malloc takes from the kernel for tensors that come and go.

It is more than is alive at once. Torch asks for blocks aligned to 64 bytes. For such a block malloc looks for a free
one that is 96 bytes larger, and gives the rest back. While autograd records operations, small objects of its graph take
these rests. The hole that a freed tensor leaves beside one is too small for the next tensor of the same size, until the
graph is gone.
"""

from __future__ import annotations

import bisect
from dataclasses import dataclass

# Of malloc.c, on 64 bits: what `_int_memalign` asks for beyond a block aligned to 64 bytes; from where on a block is
# mapped by itself and given back when it is freed; and how far that bound rises, to the largest such block freed.
SLACK = 64 + 32
FIRST_BOUND = 128 * 2**10
LAST_BOUND = 32 * 2**20


@dataclass(frozen=True)
class Block:
    """A block of memory.

    Attributes:
        start: its first byte in the heap; ``None`` for a block that is mapped by itself.
        size: in bytes.
    """

    start: int | None
    size: int


class Heap:
    """Places blocks as malloc does: in the smallest hole that is large enough, or else at the end.

    Pages that were touched stay; that malloc gives the end of the heap back is left out.

    Args:
        bound: bytes from where on a block is mapped by itself, until a larger one is freed.

    Attributes:
        size: bytes from the heap's beginning to the end of its last block, as high as it ever was.
        mapped: bytes of blocks that are mapped by themselves.
        peak: the most that both have been together.
    """

    def __init__(self, bound: int = FIRST_BOUND) -> None:
        self.size = 0
        self.mapped = 0
        self.peak = 0
        self._bound = bound
        # Of the holes: by size; their sizes by where they start; and where they start by where they end.
        self._holes: list[tuple[int, int]] = []
        self._sizes: dict[int, int] = {}
        self._starts: dict[int, int] = {}
        self._pins: list[int] = []

    def allocate(self, size: int, recorded: bool = False) -> Block:
        """Place a block of so many bytes.

        Args:
            size: of the block.
            recorded: whether an object of autograd's graph takes the rest beside it, until `end_graph`.
        """
        if size + SLACK >= self._bound:
            self.mapped += size
            block = Block(None, size)
        else:
            start = self._place(size + SLACK)
            if recorded:
                self._pins.append(start)
            else:
                self._leave(start, SLACK)
            block = Block(start + SLACK, size)
        self.peak = max(self.peak, self.size + self.mapped)
        return block

    def free(self, block: Block) -> None:
        """Give a block back."""
        if block.start is not None:
            self._leave(block.start, block.size)
            return
        self.mapped -= block.size
        if self._bound < block.size <= LAST_BOUND:
            self._bound = block.size

    def end_graph(self) -> None:
        """Free the objects of autograd's graph."""
        for start in self._pins:
            self._leave(start, SLACK)
        self._pins.clear()

    def _place(self, size: int) -> int:
        index = bisect.bisect_left(self._holes, (size, -1))
        if index < len(self._holes):
            found, start = self._holes[index]
            self._fill(start, found)
            self._leave(start + size, found - size)
            return start
        # A hole at the end is part of what the heap grows by.
        start = self._starts.get(self.size, self.size)
        if start < self.size:
            self._fill(start, self._sizes[start])
        self.size = start + size
        return start

    def _leave(self, start: int, size: int) -> None:
        """Make a hole, one with those that it touches."""
        if size <= 0:
            return
        after = start + size
        if after in self._sizes:
            size += self._fill(after, self._sizes[after])
        if start in self._starts:
            start = self._starts[start]
            size += self._fill(start, self._sizes[start])
        bisect.insort(self._holes, (size, start))
        self._sizes[start] = size
        self._starts[start + size] = start

    def _fill(self, start: int, size: int) -> int:
        del self._holes[bisect.bisect_left(self._holes, (size, start))]
        del self._sizes[start], self._starts[start + size]
        return size
