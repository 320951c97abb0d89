"""Measure two implementations of the same work in turns: ours, theirs, ours, theirs, ..."""

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Block:
    """A timed piece of work."""

    seconds: float
    tokens: int
    cpu_s: float = 0.0  # CPU time of its processes; 0: not measured

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds

    @property
    def cost(self) -> float:
        """Seconds per thousand tokens."""
        return 1e3 * self.seconds / self.tokens

    @property
    def cpu_rate(self) -> float | None:
        """Tokens per second of CPU time."""
        return self.tokens / self.cpu_s if self.cpu_s else None


def total(blocks: list[Block]) -> Block:
    """Return the sum of blocks."""
    return Block(sum(b.seconds for b in blocks), sum(b.tokens for b in blocks), sum(b.cpu_s for b in blocks))


Work = Callable[[int], Awaitable[Block] | Block]
"""Does the k-th piece of work; both sides get the same k. A function that is not async runs in a thread."""


async def in_turns(ours: Work, theirs: Work, pairs: int) -> tuple[list[Block], list[Block]]:
    """Return `pairs` blocks of each side, measured after one pair that is not counted, because first calls include one-time work."""
    measured: list[tuple[Block, Block]] = []
    for k in range(-1, pairs):
        pair = (await _do(ours, max(k, 0)), await _do(theirs, max(k, 0)))
        if k >= 0:
            measured.append(pair)
    return [ours for ours, _ in measured], [theirs for _, theirs in measured]


async def _do(work: Work, k: int) -> Block:
    if inspect.iscoroutinefunction(work):
        return await work(k)
    return await asyncio.to_thread(work, k)
