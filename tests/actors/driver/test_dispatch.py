"""Calls of one turn of the event loop leave as one message, and each piece of work goes to the least loaded actor."""

import asyncio
from types import SimpleNamespace

import pytest

from actors.driver.dispatch import BatchedCalls, LeastLoaded


def test_calls_of_one_turn_leave_as_one_message_and_each_gets_its_answer():
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


# --- the least loaded


def member(name: str) -> SimpleNamespace:
    class Named(SimpleNamespace):
        __hash__ = object.__hash__

    return Named(name=name, outstanding=0)


def test_work_goes_to_the_member_with_the_least_and_to_the_first_of_equals():
    a, b, c = members = [member(name) for name in "abc"]
    least_loaded = LeastLoaded(members)
    assert [least_loaded.give(work).name for work in (5, 2, 2)] == ["a", "b", "c"]
    assert least_loaded.give(1) is b  # 3 now, c has 2
    least_loaded.take_back(a, 5)
    assert least_loaded.give(1) is a
    least_loaded.take_back(c, -4)
    assert (a.outstanding, b.outstanding, c.outstanding) == (1, 3, 6)


def test_least_loaded_agrees_with_a_search_through_all_members_and_does_not_grow():
    members = [member(str(i)) for i in range(7)]
    least_loaded = LeastLoaded(members)
    given = []
    for i in range(2000):
        least = min(members, key=lambda one: one.outstanding)
        chosen = least_loaded.give(1 + i % 5)
        assert chosen is least
        given.append((chosen, 1 + i % 5))
        if i % 3:
            least_loaded.take_back(*given.pop(i * 31 % len(given)))
        assert len(least_loaded._heap) <= 5 * len(members)
