"""The Supervisor replaces actors that die or hang, with small actors in place of engines, graders and stores; Ray is real."""

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from actors.runtime.failures import LearnerLost
from actors.runtime.slots import ActorSlot, ActorSpec, Role
from actors.runtime.supervisor import Supervisor
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.tracking.failure import Failure
from uec.tracking.tracker import Tracker

pytestmark = pytest.mark.e2e
ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])  # Ray's workers cannot import a test module


class Grader:
    """Stands in for a RewardActor: `work` needs what a slow `start` makes."""

    def __init__(self, folder: str, dies_at_start: int = 0) -> None:
        self.folder, self.dies_at_start = Path(folder), dies_at_start

    async def start(self, prompts: object) -> None:
        deaths = len(list(self.folder.glob("death-*")))
        if deaths < self.dies_at_start:
            (self.folder / f"death-{deaths}").touch()
            os._exit(3)
        await asyncio.sleep(0.5)
        self.ready = "graded"

    async def work(self, number: int) -> tuple[str, int]:
        return f"{self.ready} {number}", os.getpid()

    async def fail(self) -> None:
        raise ValueError("a mistake of the code")

    async def never(self) -> None:
        await asyncio.Event().wait()


class Rank:
    """Stands in for a LearnerActor."""

    def __init__(self, folder: str) -> None: ...

    def address(self) -> str:
        return ""

    def start(self, address: str) -> None: ...

    def update(self, seconds: float) -> int:
        time.sleep(seconds)
        return os.getpid()

    def close(self) -> None: ...


class Heard(Tracker):
    """Keeps the failures that are reported."""

    def __init__(self) -> None:
        super().__init__([])
        self.failures: list[Failure] = []

    def actor_failed(self, failure: Failure) -> None:
        self.failures.append(failure)


class NoImages:
    def hold(self, prompts: object) -> None: ...


@pytest.fixture
def started(cluster: None, make_config: Callable[..., Config], tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Return a function that runs a test's main with a started Supervisor."""

    def run(main: Callable[[Supervisor], Any], *overrides: str, role: Role = Role.GRADER, actor: type = Grader, args: tuple = ()) -> Any:
        cfg = make_config("supervise.timeout_s=5", *overrides)
        specs = [ActorSpec(role, "one", actor, (str(tmp_path), *args), 0.1, concurrency=10 if actor is Grader else 1)]
        supervisor = Supervisor(cfg, specs, tmp_path / "logs", Heard(), namespace=tmp_path.name)
        supervisor.images = NoImages()  # type: ignore[assignment]

        async def everything() -> Any:
            try:
                await supervisor.start([])
                return await main(supervisor)
            finally:
                await supervisor.stop()

        return asyncio.run(everything())

    yield run


def slot(supervisor: Supervisor) -> ActorSlot:
    return supervisor.slots[0]


def test_calls_that_meet_a_dead_actor_wait_until_its_replacement_has_started(started):
    async def main(supervisor: Supervisor) -> list[tuple[str, int]]:
        _, pid = await supervisor.call(slot(supervisor), "work", 0)
        os.kill(pid, signal.SIGKILL)
        answers = []

        async def later(number: int) -> None:
            await asyncio.sleep(0.2 * number)  # some come while the replacement starts
            answers.append(await supervisor.call(slot(supervisor), "work", number))

        await asyncio.gather(*(later(number) for number in range(8)))
        assert slot(supervisor).restarts == 1
        first, last = supervisor.tracker.failures
        assert (first.actor, first.action) == ("one", "restarting it (1 of 2)") and first.cause.startswith("The actor is dead because")
        assert last.action == "replaced" and 0.5 < last.seconds < 60
        return answers

    answers = started(main)
    assert sorted(answer for answer, _ in answers) == [f"graded {number}" for number in range(8)]
    assert len({pid for _, pid in answers}) == 1


def test_an_actor_that_dies_while_it_starts_is_replaced(started):
    async def main(supervisor: Supervisor) -> str:
        return (await supervisor.call(slot(supervisor), "work", 1))[0]

    assert started(main, args=(2,)) == "graded 1"


@pytest.mark.long
def test_an_actor_that_always_dies_at_the_start_ends_the_run_with_the_count(started):
    async def main(supervisor: Supervisor) -> None: ...

    with pytest.raises(RunFailed, match="It failed 3 times within supervise.window_s=600 s"):
        started(main, args=(99,))


def test_a_stopped_actor_is_killed_and_replaced_within_the_timeout(started):
    async def main(supervisor: Supervisor) -> float:
        _, pid = await supervisor.call(slot(supervisor), "work", 0)
        await asyncio.sleep(1)  # the watchdog learns the process
        os.kill(pid, signal.SIGSTOP)
        begin = time.monotonic()
        answer, other = await supervisor.call(slot(supervisor), "work", 1)
        assert answer == "graded 1" and other != pid
        failure = supervisor.tracker.failures[0]
        assert "no sign of life" in failure.cause and failure.node == ray.get_runtime_context().get_node_id()
        assert not Path(f"/proc/{pid}").exists()
        return time.monotonic() - begin

    assert started(main) < 30


@pytest.mark.long
def test_a_call_that_never_returns_is_given_up_and_its_actor_replaced(started, monkeypatch):
    monkeypatch.setattr("actors.runtime.supervisor.PATIENCE", 0.2)  # 1 s

    async def main(supervisor: Supervisor) -> None:
        with pytest.raises(RunFailed, match="one.never did not finish within 1 s"):
            await supervisor.call(slot(supervisor), "never")
        assert slot(supervisor).restarts == 2

    started(main)


def test_an_error_of_the_code_ends_the_run_and_restarts_nothing(started):
    async def main(supervisor: Supervisor) -> None:
        with pytest.raises(RunFailed, match="one failed: ValueError: a mistake of the code"):
            await supervisor.call(slot(supervisor), "fail")
        assert slot(supervisor).restarts == 0

    started(main)


def test_a_replaced_actor_that_finds_no_room_says_what_is_lacking(started, monkeypatch):
    monkeypatch.setattr("actors.runtime.supervisor.PLACE_S", 1.0)
    events: list[str] = []

    async def main(supervisor: Supervisor) -> None:
        supervisor.tracker.event = events.append
        _, pid = await supervisor.call(slot(supervisor), "work", 0)
        slot(supervisor).spec = replace(slot(supervisor).spec, cpus=64)  # as if the node had left that had them
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(RunFailed, match="no room within supervise.wait_s=2 s: it needs 64 CPUs and 0 GPUs, and the cluster has"):
            await supervisor.call(slot(supervisor), "work", 1)

    started(main, "supervise.wait_s=2")
    assert [event.partition(":")[0] for event in events] == ["one waits for room, at most 2 s"]


@pytest.mark.long
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
def test_a_learner_that_dies_or_hangs_is_named_as_lost(started, fault):
    async def main(supervisor: Supervisor) -> None:
        pid = await supervisor.call(slot(supervisor), "update", 0)
        await asyncio.sleep(1)
        os.kill(pid, fault)
        with pytest.raises(LearnerLost, match="one failed"):
            await supervisor.call(slot(supervisor), "update", 0)

    started(main, role=Role.LEARNER, actor=Rank)


@pytest.mark.long
def test_a_long_call_of_a_learner_is_no_hang(started):
    async def main(supervisor: Supervisor) -> None:
        assert await supervisor.call(slot(supervisor), "update", 8)  # supervise.timeout_s is 5
        assert supervisor.tracker.failures == []

    started(main, role=Role.LEARNER, actor=Rank)
