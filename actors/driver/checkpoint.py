"""Checkpoints: the state of all parts of a run, which an exact resume needs, in one folder that is written atomically.

    step_000100/
        hf/               the policy, loads with plain transformers
        learner/          weights, optimizer, schedule and random states of every rank
        store/            replay store, leftover batch
        difficulty.json   each prompt's history
        driver.json       the driver's state, and the engines' random states
        files.json        size and digest of each file (see uec.checkpoint_files)
"""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from actors.runtime.supervisor import Supervisor
from uec.checkpoint_files import FORMAT, list_files
from uec.config.schema import Config
from uec.errors import BadInput, RunFailed
from uec.run_folder import RunFolder
from uec.types import TrainingSample

POLL_S = 0.5
"""Seconds between two questions whether the ranks have written their files."""

CLOSE_S = 120.0
"""Longest wait for a checkpoint of a run that failed."""


class Checkpoints:
    """Saves and restores the state of the driver and of its actors."""

    def __init__(self, cfg: Config, folder: RunFolder, supervisor: Supervisor) -> None:
        self.cfg = cfg
        self.folder = folder
        self.supervisor = supervisor
        self._commit: asyncio.Task[Path] | None = None  # of the checkpoint that is being written

    async def begin(self, step: int, driver: dict[str, Any], leftover: list[TrainingSample]) -> None:
        """Take a checkpoint of the state between two steps. Afterwards training may go on, while the ranks write their files.

        `driver`: the driver's state, JSON. `leftover`: samples that wait for an update. Waits for the checkpoint before.
        Raises RunFailed if the disk refuses; earlier checkpoints are untouched.
        """
        await self.finish()
        supervisor = self.supervisor
        temporary = self.folder.begin_checkpoint(step)
        learner, hf, store = (temporary / name for name in ("learner", "hf", "store"))
        store.mkdir()
        batches: dict[Any, int] = {}
        waiting = [sample.placed(batches.setdefault(sample.batch, len(batches)), sample.slot) for sample in leftover]
        await supervisor.turns.to_learners()
        try:
            engines = await asyncio.gather(*(supervisor.call(engine, "state") for engine in supervisor.engines))
            _, _, difficulty = await asyncio.gather(
                asyncio.gather(*(supervisor.call(rank, "save", str(learner)) for rank in supervisor.learners)),
                supervisor.call(supervisor.replay, "save", str(store), waiting, *batches),
                supervisor.call(supervisor.difficulty, "state"),
            )
            await asyncio.gather(*(supervisor.call(rank, "save_hf", str(hf)) for rank in supervisor.learners))
            (temporary / "difficulty.json").write_text(json.dumps(difficulty))
            content = {"format": FORMAT, "step": step, "driver": driver, "engines": engines, "config": asdict(self.cfg)}
            (temporary / "driver.json").write_text(json.dumps(content))
        except OSError as error:
            raise _not_written(step, error) from error
        self._commit = asyncio.create_task(self._commit_when_written(temporary, step))

    async def finish(self) -> Path | None:
        """Wait until the last checkpoint is complete, and return its folder; None if there was none. Raises RunFailed as `begin` does."""
        return None if self._commit is None else await self._commit

    def refuse_errors(self) -> None:
        """Raise RunFailed if the last checkpoint could not be written."""
        if self._commit is not None and self._commit.done():
            self._commit.result()

    async def close(self) -> None:
        """Give a checkpoint that is being written a last chance to complete, after the run failed elsewhere."""
        if self._commit is not None:
            await asyncio.wait([self._commit], timeout=CLOSE_S)

    async def _commit_when_written(self, temporary: Path, step: int) -> Path:
        """Give the checkpoint its final name, and delete the oldest beyond `checkpoint.keep`."""
        try:
            while not all(await asyncio.gather(*(self.supervisor.call(rank, "written") for rank in self.supervisor.learners))):
                await asyncio.sleep(POLL_S)
            await asyncio.to_thread(list_files, temporary)
            path = await asyncio.to_thread(self.folder.commit_checkpoint, temporary, step, self.cfg.checkpoint.keep)
        except OSError as error:
            raise _not_written(step, error) from error
        self.supervisor.tracker.event(f"checkpoint {path}")
        return path

    async def restore(self, path: Path) -> list[TrainingSample]:
        """Bring all actors to the state of a checkpoint; returns the samples that wait for an update."""
        supervisor = self.supervisor
        engines = read_driver(path)["engines"]
        await asyncio.gather(
            *(supervisor.call(rank, "load", str(path / "learner")) for rank in supervisor.learners),
            supervisor.call(supervisor.difficulty, "load", json.loads((path / "difficulty.json").read_text())),
            # If there are more engines than in the checkpoint, the others keep their random states.
            *(supervisor.call(engine, "load", state) for engine, state in zip(supervisor.engines, engines, strict=False)),
        )
        waiting: list[TrainingSample]
        waiting, batch = await supervisor.call_two(supervisor.replay, "load", str(path / "store"))
        for sample in waiting:
            sample.batch = batch
        return waiting


def _not_written(step: int, error: OSError) -> RunFailed:
    return RunFailed(f"no checkpoint of step {step} could be written: {error}. Earlier ones are untouched.")


def read_driver(path: Path) -> dict[str, Any]:
    """Read driver.json of a checkpoint. Raises BadInput if it is not one of this version's."""
    file = path / "driver.json"
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise BadInput(
            f"run.resume: {path} is no checkpoint of a run ({file.name}: {error}); pass a folder such as runs/NAME/checkpoints/step_000100"
        ) from error
    if content.get("format") != FORMAT:
        found = content.get("format")
        raise BadInput(f"run.resume: {file} has format {found!r}, this version reads {FORMAT}; resume with the code that wrote it")
    return content
