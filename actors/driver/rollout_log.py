"""rollouts/step_NNNNNN.jsonl: written by a grader, which can read the responses and scores, while the next step goes on.

rollouts/replayed_NNNNNN.jsonl: which earlier responses a replay update drew; a few numbers each, which the driver knows and writes.
"""

from typing import Any

import ray

from actors.runtime.supervisor import Supervisor, awaited
from uec.algorithm.retention import KeptResponses, PromptRollouts
from uec.errors import RunFailed
from uec.run_folder import RunFolder
from uec.tracking.rollouts import Page, write_replayed
from uec.types import Replayed


class RolloutLog:
    """Hands each step's responses and scores over by reference; at most one file is being written."""

    def __init__(self, folder: RunFolder, supervisor: Supervisor, enabled: bool) -> None:
        self.folder = folder
        self.supervisor = supervisor
        self.enabled = enabled
        self._writing: Any = None

    async def write(self, step: int, sampled: list[PromptRollouts], retained: list[KeptResponses]) -> None:
        """Have every response of a step written, with what was kept and its advantage; waits for the file before."""
        if not self.enabled:
            return
        await self.flush()
        pages: dict[Any, Page] = {}
        scores: dict[Any, Any] = {}
        for prompt in sampled:
            for trajectory in prompt.trajectories:
                page = pages.setdefault(trajectory.bundle, Page([], {}))
                page.slots.append(trajectory.score.slot)
                if prompt.difficult:
                    page.difficult.add(trajectory.score.slot)
                scores[trajectory.bundle] = trajectory.scores
        for prompt_kept in retained:
            for trajectory in prompt_kept.kept:
                pages[trajectory.bundle].advantages[trajectory.score.slot] = trajectory.advantage
        path = str(self.folder.rollouts / f"step_{step:06d}.jsonl")
        self._writing = self.supervisor.graders[0].handle.write_rollouts.remote(path, step, list(pages.values()), *pages, *scores.values())

    def write_replayed(self, step: int, drawn: list[Replayed]) -> None:
        """Say which responses the replay update of a step trains on."""
        if self.enabled:
            write_replayed(self.folder.rollouts / f"replayed_{step:06d}.jsonl", step, drawn)

    async def flush(self) -> None:
        """Wait until the file is there."""
        writing, self._writing = self._writing, None
        if writing is None:
            return
        try:
            await awaited(writing)
        except ray.exceptions.RayActorError:
            self.supervisor.tracker.event("a grader died while it wrote the rollouts of a step: that file is missing")
        except ray.exceptions.RayError as error:
            raise RunFailed(f"rollouts could not be written: {self.supervisor.account(self.supervisor.graders[0], error)}") from error
