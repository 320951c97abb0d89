"""The rollout files of a run.

A grader writes rollouts/step_NNNNNN.jsonl while the next step runs, because it can decode the responses; if it dies, its replacement
writes the file again. The driver writes
rollouts/replayed_NNNNNN.jsonl, which lists the earlier responses that a replay update drew.
"""

import asyncio
from typing import Any

from actors.runtime.supervisor import Supervisor
from uec.run_folder import RunFolder
from uec.tracking.rollouts import Page, write_replayed
from uec.types import PromptRollouts, TrainingSample


class RolloutLog:
    """Passes each step's responses and rewards by reference; at most one file is being written."""

    def __init__(self, folder: RunFolder, supervisor: Supervisor, enabled: bool) -> None:
        self.folder = folder
        self.supervisor = supervisor
        self.enabled = enabled
        self._writing: asyncio.Task[None] | None = None

    async def write(self, step: int, prompts: list[PromptRollouts], retained: list[PromptRollouts]) -> None:
        """Have a grader write every response of a step, and the advantages of those kept; wait for the previous file first."""
        if not self.enabled:
            return
        await self.flush()
        pages: dict[Any, Page] = {}
        graded: dict[Any, Any] = {}
        for prompt in prompts:
            for sample in prompt.samples:
                page = pages.setdefault(sample.batch, Page([], {}))
                page.slots.append(sample.slot)
                if prompt.difficult:
                    page.difficult.add(sample.slot)
                graded[sample.batch] = sample.graded
        for prompt in retained:
            for sample in prompt.kept:
                pages[sample.batch].advantages[sample.slot] = sample.advantage
        path = str(self.folder.rollouts / f"step_{step:06d}.jsonl")
        call = self.supervisor.call(
            self.supervisor.graders[0], "write_rollouts", path, step, list(pages.values()), *pages, *graded.values()
        )
        self._writing = asyncio.create_task(call)

    def write_replayed(self, step: int, drawn: list[TrainingSample]) -> None:
        """Write which responses the replay update of a step trains on."""
        if self.enabled:
            write_replayed(self.folder.rollouts / f"replayed_{step:06d}.jsonl", step, drawn)

    async def flush(self) -> None:
        """Wait until the current file is written. Raises RunFailed if the disk refuses."""
        writing, self._writing = self._writing, None
        if writing is not None:
            await writing
