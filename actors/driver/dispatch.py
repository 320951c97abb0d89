"""Send work to actors: calls in one turn of the event loop become one message, and each piece goes to the actor with the least work.

A Ray call costs the driver about as much as all its other work for a group. A step's requests are made in one turn, and so are those of
groups that finish together.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from typing import Generic, TypeVar

from actors.runtime.slots import ActorSlot

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class BatchedCalls(Generic[Item, Answer]):
    """`await batched(item)` returns the answer to `item`; `call` gets all items of a turn and answers in their order."""

    def __init__(self, call: Callable[[list[Item]], Awaitable[list[Answer]]]) -> None:
        self._call = call
        self._items: list[Item] = []
        self._answers: list[asyncio.Future[Answer]] = []
        self._flushes: set[asyncio.Task[None]] = set()

    async def __call__(self, item: Item) -> Answer:
        loop = asyncio.get_running_loop()
        if not self._items:
            loop.call_soon(self._start_flush)
        answer = loop.create_future()
        self._items.append(item)
        self._answers.append(answer)
        return await answer

    def _start_flush(self) -> None:
        flush = asyncio.get_running_loop().create_task(self._flush(self._items, self._answers))
        self._items, self._answers = [], []
        self._flushes.add(flush)
        flush.add_done_callback(self._flushes.discard)

    async def _flush(self, items: list[Item], futures: list[asyncio.Future[Answer]]) -> None:
        try:
            answers = await self._call(items)
        except Exception as error:
            for future in futures:
                if not future.done():
                    future.set_exception(error)
            return
        for future, answer in zip(futures, answers, strict=True):
            if not future.done():
                future.set_result(answer)


SLACK = 4
"""Outdated entries per slot, on average, beyond which the heap is rebuilt."""


class LeastLoaded:
    """Chooses the slot with the least `outstanding` work. A choice takes logarithmic time: a plain `min` takes 54 us for 1024 engines."""

    def __init__(self, slots: Sequence[ActorSlot]) -> None:
        self._slots = slots
        self._sweep()

    def give(self, work: int) -> ActorSlot:
        """Add `work` to the slot with the least outstanding work, the first of equals, and return it."""
        while (least := self._heap[0])[0] != self._slots[least[1]].outstanding:
            heappop(self._heap)
        slot = self._slots[least[1]]
        slot.outstanding += work
        heapreplace(self._heap, (slot.outstanding, least[1]))
        return slot

    def take_back(self, slot: ActorSlot, work: int) -> None:
        """Subtract finished work (negative: add work)."""
        slot.outstanding -= work
        heappush(self._heap, (slot.outstanding, self._places[slot]))
        if len(self._heap) > (1 + SLACK) * len(self._slots):
            self._sweep()

    def _sweep(self) -> None:
        """Rebuild the heap: one entry (outstanding, place) for each slot."""
        self._places = {slot: place for place, slot in enumerate(self._slots)}
        self._heap = [(slot.outstanding, place) for place, slot in enumerate(self._slots)]
        heapify(self._heap)
