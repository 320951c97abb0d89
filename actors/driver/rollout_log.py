"""The rollout files of a run.

A grader writes rollouts/step_NNNNNN.jsonl while the next step runs, because it can decode the responses. The driver writes
rollouts/replayed_NNNNNN.jsonl, which lists the earlier responses that a replay update drew.
"""

from typing import Any

import ray

from actors.runtime.supervisor import Supervisor, awaited
from uec.errors import RunFailed
from uec.run_folder import RunFolder
from uec.tracking.rollouts import Page, write_replayed
from uec.types import PromptRollouts, TrainingSample


class RolloutLog:
    """Passes each step's responses and rewards by reference; at most one file is being written."""

    def __init__(self, folder: RunFolder, supervisor: Supervisor, enabled: bool) -> None:
        self.folder = folder
        self.supervisor = supervisor
        self.enabled = enabled
        self._writing: Any = None

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
        handle: Any = self.supervisor.graders[0].handle
        self._writing = handle.write_rollouts.remote(path, step, list(pages.values()), *pages, *graded.values())

    def write_replayed(self, step: int, drawn: list[TrainingSample]) -> None:
        """Write which responses the replay update of a step trains on."""
        if self.enabled:
            write_replayed(self.folder.rollouts / f"replayed_{step:06d}.jsonl", step, drawn)

    async def flush(self) -> None:
        """Wait until the current file is written."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            await awaited(writing)
        except ray.exceptions.RayActorError:
            self.supervisor.tracker.event("a grader died while it wrote the rollouts of a step: that file is missing")
        except ray.exceptions.RayError as error:
            raise RunFailed(f"rollouts could not be written: {self.supervisor.account(self.supervisor.graders[0], error)}") from error
