"""When a checkpoint counts, with stand-ins for the actors that write it."""

import asyncio
from pathlib import Path
from types import SimpleNamespace

import pytest

import actors.driver.checkpoint as checkpoint
from actors.driver.checkpoint import Checkpoints, read_driver
from tests.support.answers import NoTurns
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.run_folder import RunFolder


class Actors:
    """A stand-in for the supervisor, whose ranks write when the test lets them."""

    def __init__(self) -> None:
        self.learners, self.engines, self.replay, self.difficulty = ["rank-0", "rank-1"], ["engine"], "replay", "difficulty"
        self.turns = NoTurns()
        self.done: set[str] = set()
        self.error: BaseException | None = None
        self.calls: list[tuple[str, str]] = []
        self.events: list[str] = []
        self.tracker = SimpleNamespace(event=self.events.append)

    async def call(self, slot: str, method: str, *args: object) -> object:
        self.calls.append((slot, method))
        if method == "written" and self.error is not None:
            raise self.error
        return slot in self.done if method == "written" else {}


@pytest.fixture
def actors(monkeypatch: pytest.MonkeyPatch) -> Actors:
    monkeypatch.setattr(checkpoint, "POLL_S", 0)
    return Actors()


def made(actors: Actors, folder: Path) -> Checkpoints:
    run = RunFolder(folder)
    run.checkpoints.mkdir(parents=True)
    return Checkpoints(Config(), run, actors)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "checkpoints").iterdir() if not path.name.startswith("."))


async def some_polls(actors: Actors) -> None:
    seen = len(actors.calls)
    while len(actors.calls) < seen + 6:
        await asyncio.sleep(0)


def test_a_checkpoint_counts_when_every_rank_has_written_and_the_next_one_waits_for_it(actors: Actors, tmp_path: Path) -> None:
    async def scenario() -> None:
        checkpoints = made(actors, tmp_path)
        assert await checkpoints.finish() is None
        await checkpoints.begin(1, {}, [])  # returns before the files are complete
        actors.done = {"rank-0"}
        await some_polls(actors)
        assert (names(tmp_path), actors.events) == ([], [])
        following = asyncio.create_task(checkpoints.begin(2, {}, []))
        await some_polls(actors)
        assert sum(method == "save" for _, method in actors.calls) == 3  # two ranks and the replay store: only of the first
        actors.done = {"rank-0", "rank-1"}
        await following
        assert names(tmp_path) == ["step_000001"]
        final = await checkpoints.finish()
        assert names(tmp_path) == ["step_000001", "step_000002"] and read_driver(final)["step"] == 2
        assert [event.split("/")[-1] for event in actors.events] == ["step_000001", "step_000002"]

    asyncio.run(scenario())


def test_ranks_save_their_parts_before_the_whole_policy_is_gathered(actors: Actors, tmp_path: Path) -> None:
    async def scenario() -> None:
        checkpoints = made(actors, tmp_path)
        actors.done = {"rank-0", "rank-1"}
        await checkpoints.begin(1, {}, [])
        await checkpoints.finish()

    asyncio.run(scenario())
    of_ranks = [method for slot, method in actors.calls if slot.startswith("rank")]
    assert of_ranks == ["save", "save", "save_hf", "save_hf", "written", "written"]


def test_a_write_that_fails_ends_the_run_at_its_next_step_and_leaves_the_last_checkpoint(actors: Actors, tmp_path: Path) -> None:
    async def scenario() -> None:
        checkpoints = made(actors, tmp_path)
        actors.done = {"rank-0", "rank-1"}
        await checkpoints.begin(1, {}, [])
        await checkpoints.finish()
        actors.error = RunFailed("rank-1 failed: No space left on device")
        await checkpoints.begin(2, {}, [])
        checkpoints.refuse_errors()  # nothing has failed yet
        await checkpoints.close()
        with pytest.raises(RunFailed, match="rank-1 failed"):
            checkpoints.refuse_errors()
        with pytest.raises(RunFailed, match="rank-1 failed"):
            await checkpoints.finish()
        assert names(tmp_path) == ["step_000001"]

    asyncio.run(scenario())
