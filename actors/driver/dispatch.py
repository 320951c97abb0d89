"""How the driver sends work: calls of one turn of the event loop as one message, and each piece to the actor with the least work.

A Ray call costs the driver about as much as everything else that it does for a group. A step's requests are made in one turn, and so
are those of the groups that finish together.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from heapq import heapify, heappop, heappush, heapreplace
from typing import Generic, TypeVar

from actors.runtime.supervisor import ActorSlot

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class BatchedCalls(Generic[Item, Answer]):
    """`await coalesced(item)` gives the answer to `item`; `call` gets all items of a turn and answers in their order."""

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
"""Outdated entries that are kept for each member before they are swept out."""


class LeastLoaded:
    """Keeps count of the members' `outstanding`; a choice takes time that hardly grows with their number."""

    def __init__(self, members: Sequence[ActorSlot]) -> None:
        self._members = members
        self._sweep()

    def give(self, work: int) -> ActorSlot:
        """The member with the least outstanding, the first of equals, which now has `work` more."""
        while (least := self._heap[0])[0] != self._members[least[1]].outstanding:
            heappop(self._heap)
        member = self._members[least[1]]
        member.outstanding += work
        heapreplace(self._heap, (member.outstanding, least[1]))
        return member

    def take_back(self, member: ActorSlot, work: int) -> None:
        """It has `work` less to do (negative: more)."""
        member.outstanding -= work
        heappush(self._heap, (member.outstanding, self._places[member]))
        if len(self._heap) > (1 + SLACK) * len(self._members):
            self._sweep()

    def _sweep(self) -> None:
        """Every member has its entry (outstanding, place); what others there are is outdated."""
        self._places = {member: place for place, member in enumerate(self._members)}
        self._heap = [(member.outstanding, place) for place, member in enumerate(self._members)]
        heapify(self._heap)
