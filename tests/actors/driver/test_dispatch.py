"""Calls of one turn of the event loop leave as one message."""

import asyncio

import pytest

from actors.driver.dispatch import BatchedCalls


def test_calls_of_one_turn_leave_as_one_message_and_each_gets_its_own_answer():
    messages = []

    async def call(items: list[int]) -> list[int]:
        messages.append(list(items))
        return [item * 10 for item in items]

    async def main() -> list[int]:
        square = BatchedCalls[int, int](call)
        first = await asyncio.gather(square(1), square(2), square(3))
        return [*first, await square(4)]

    assert asyncio.run(main()) == [10, 20, 30, 40]
    assert messages == [[1, 2, 3], [4]]


def test_a_failed_message_fails_every_call_in_it_and_none_after_it():
    async def call(items: list[int]) -> list[int]:
        if 1 in items:
            raise RuntimeError("no")
        return items

    async def main() -> None:
        echo = BatchedCalls[int, int](call)
        results = await asyncio.gather(echo(1), echo(2), return_exceptions=True)
        assert [str(result) for result in results] == ["no", "no"]
        assert await echo(3) == 3

    asyncio.run(main())


def test_an_answer_for_a_cancelled_call_is_dropped():
    async def main() -> None:
        released = asyncio.Event()

        async def call(items: list[int]) -> list[int]:
            await released.wait()
            return items

        echo = BatchedCalls[int, int](call)
        dropped, kept = asyncio.ensure_future(echo(1)), asyncio.ensure_future(echo(2))
        await asyncio.sleep(0)
        dropped.cancel()
        released.set()
        assert await kept == 2
        with pytest.raises(asyncio.CancelledError):
            await dropped

    asyncio.run(main())
