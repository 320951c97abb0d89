"""An actor that gives no sign of life is killed, one that is only slow is not. The handles and their processes are stand-ins."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from actors.runtime import watchdog as module
from actors.runtime.watchdog import Process, Watchdog


class Handle:
    """Stands in for an actor whose process answers or does not."""

    def __init__(self, number: int) -> None:
        self.process = Process(number, "node")
        self.answers = asyncio.Event()
        self.answers.set()
        self.sign_of_life = SimpleNamespace(remote=self._answer)

    async def _answer(self) -> Process:
        await self.answers.wait()
        return self.process


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[Process]:
    found: list[Process] = []
    monkeypatch.setattr(module, "kill", found.append)
    return found


async def look(watchdog: Watchdog, times: int, elapsed_s: float) -> None:
    for _ in range(times):
        watchdog.look(elapsed_s)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def test_a_silent_actor_is_killed_once_after_the_timeout_and_the_others_are_not(killed: list[Process]) -> None:
    async def main() -> None:
        handles = [Handle(1), Handle(2)]
        watchdog = Watchdog(lambda: handles, timeout_s=60)
        await look(watchdog, 3, 5)
        handles[1].answers.clear()
        await look(watchdog, 12, 5)
        assert killed == []
        await look(watchdog, 4, 5)
        assert killed == [handles[1].process]
        assert "no sign of life for 60 s" in watchdog.pulse(handles[1]).verdict and not watchdog.pulse(handles[0]).verdict

    asyncio.run(main())


def test_an_actor_that_answers_late_again_and_again_is_not_killed(killed: list[Process]) -> None:
    async def main() -> None:
        slow = Handle(1)
        watchdog = Watchdog(lambda: [slow], timeout_s=60)
        for _ in range(5):
            slow.answers.clear()
            await look(watchdog, 10, 5)
            slow.answers.set()
            await look(watchdog, 2, 5)
        assert killed == []

    asyncio.run(main())


def test_a_replaced_actor_begins_with_no_silence(killed: list[Process]) -> None:
    async def main() -> None:
        handles = [Handle(1)]
        watchdog = Watchdog(lambda: handles, timeout_s=60)
        await look(watchdog, 2, 5)
        handles[0].answers.clear()
        await look(watchdog, 10, 5)
        handles[0] = Handle(2)
        await look(watchdog, 10, 5)
        assert killed == []
        assert watchdog.pulse(handles[0]).process == Process(2, "node")

    asyncio.run(main())


def test_time_in_which_this_process_stood_still_is_no_silence_of_the_actors(
    killed: list[Process], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[float] = []

    async def main() -> None:
        watchdog = Watchdog(lambda: [], timeout_s=1.2)
        monkeypatch.setattr(watchdog, "look", seen.append)
        clock, jump = iter([0.0, 500.0, 500.0, 500.1]), asyncio.get_running_loop().time
        monkeypatch.setattr(asyncio.get_running_loop(), "time", lambda: next(clock, jump()))
        watching: Callable[[], object] = watchdog._watch
        task = asyncio.ensure_future(watching())  # type: ignore[arg-type]
        while len(seen) < 2:
            await asyncio.sleep(0.01)
        task.cancel()

    asyncio.run(main())
    assert max(seen) <= 0.2 + 1e-9


def test_a_number_of_another_program_is_not_killed() -> None:
    import os

    module._kill_worker(os.getpid())  # this is no Ray worker
