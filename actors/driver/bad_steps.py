"""Optimizer steps left out because loss or gradient was not finite: their batches are kept, and too many in a row end the run."""

import asyncio

from actors.driver.learner_group import Updated
from actors.driver.rollout_log import RolloutLog
from actors.runtime.supervisor import Supervisor
from uec.config.schema import Config
from uec.errors import RunFailed

KEPT = 8
"""Batches that a run keeps, the first ones: they tell where it began."""


class BadSteps:
    """Counts the steps in a row in which an optimizer step was left out (`train.max_bad_steps`)."""

    def __init__(self, cfg: Config, supervisor: Supervisor, log: RolloutLog) -> None:
        self.most = cfg.train.max_bad_steps
        self.supervisor = supervisor
        self.log = log
        self.in_a_row = 0

    async def keep(self, name: str, updated: Updated) -> None:
        """Have each rank write its share of the batch to bad_batches/`name`, if an optimizer step of this update was left out."""
        if not updated.skipped:
            return
        folder = self.log.folder.bad_batches
        folder.mkdir(exist_ok=True)
        if len(list(folder.iterdir())) >= KEPT:
            return
        calls = (
            self.supervisor.call(rank, "write_batch", str(folder / name / f"rank-{number:05d}.jsonl"), plan, *data)
            for number, (rank, (plan, data)) in enumerate(zip(self.supervisor.learners, updated.shares, strict=True))
        )
        await asyncio.gather(*calls)

    def end_step(self, step: int, metrics: dict[str, float]) -> None:
        """Read a step's metrics. Raises RunFailed at the last of `train.max_bad_steps` in a row; steps without an update pass."""
        found = [metrics[key] for key in ("learner/skipped_steps", "replay/skipped_steps") if key in metrics]
        if not found:
            return
        self.in_a_row = self.in_a_row + 1 if any(found) else 0
        if not self.in_a_row:
            return
        self.supervisor.tracker.event(
            f"step {step}: {sum(found):.0f} optimizer steps left out, because loss or gradient is not finite ({self.in_a_row} of "
            f"{self.most} steps in a row)"
        )
        if self.in_a_row == self.most:
            raise RunFailed(
                f"loss or gradient was not finite in {self.most} steps in a row, up to step {step} (train.max_bad_steps): the optimizer "
                f"steps were left out, and the weights are those from before. Look at {self.log.folder.bad_batches}, lower learner.lr or "
                "learner.grad_clip, and resume from the last checkpoint"
            )
