"""Calls made in the same turn of the event loop leave as one message.

A Ray call costs the driver about as much as all else it does for a group; a step's requests are made in one turn,
and so are those of the groups that finish together.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Coalesced(Generic[Item, Answer]):
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
