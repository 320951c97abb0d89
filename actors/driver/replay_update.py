"""The entropy stabiliser (2604.14646), steps 7 and 8 of the algorithm: admission to the replay store, and updates on draws from it."""

from typing import Any

from actors.driver.bad_steps import BadSteps
from actors.driver.learner_group import LearnerGroup, Updated
from actors.driver.rollout_log import RolloutLog
from actors.runtime.supervisor import Supervisor
from uec.algorithm.replay import is_due
from uec.config.schema import Config
from uec.types import TrainingSample

REPORTED = ("loss", "clip_frac", "ratio_mean", "grad_norm")


class ReplayUpdates:
    """Admits high-advantage trajectories to the shared store, and trains on a draw from it every `replay.every` steps."""

    def __init__(self, cfg: Config, supervisor: Supervisor, learners: LearnerGroup, log: RolloutLog, bad_steps: BadSteps) -> None:
        self.cfg = cfg
        self.supervisor = supervisor
        self.learners = learners
        self.log = log
        self.bad_steps = bad_steps
        self.size = 0

    def metrics(self) -> dict[str, float]:
        """Return the store's size, if there is a store."""
        return {"replay/size": float(self.size)} if self.cfg.replay.enabled else {}

    async def admit(self, step: int, batch: list[TrainingSample], admitted: list[bool], updated: Updated) -> int:
        """Store the admitted samples of a batch that was just trained on; none of one with a bad step. Returns their number."""
        if updated.skipped or not any(admitted):
            return 0
        entering = [i for i, enters in enumerate(admitted) if enters]
        data: dict[Any, int] = {}
        samples = [batch[i].placed(data.setdefault(batch[i].batch, len(data)), batch[i].slot) for i in entering]
        old: list[tuple[int, int]] = []
        if self.cfg.replay.logprobs == "stored":
            for rank, position in (updated.places[i] for i in entering):
                old.append((data.setdefault(updated.old_logprobs[rank], len(data)), position))
        self.size = await self.supervisor.call(self.supervisor.replay, "admit", step, samples, old, *data)
        return len(samples)

    async def update(self, step: int) -> dict[str, float]:
        """Update the policy on replayed trajectories where it is due; returns the `replay/` metrics."""
        if not is_due(step, self.size, self.cfg.replay):
            return {}
        samples: list[TrainingSample]
        samples, batch = await self.supervisor.call_two(self.supervisor.replay, "draw", step, self.cfg.replay_rows())
        if not samples:  # all are older than replay.max_age
            return {}
        for sample in samples:
            sample.batch = batch
        self.log.write_replayed(step, samples)
        updated = await self.learners.update(samples, seed=self.cfg.run.seed + step)
        await self.bad_steps.keep(f"step_{step:06d}_replay", updated)
        metrics = {f"replay/{name}": updated.metrics[f"policy/{name}"] for name in REPORTED if f"policy/{name}" in updated.metrics}
        if "policy/entropy" in updated.metrics:
            metrics["entropy/replay"] = updated.metrics["policy/entropy"]
        return metrics | {
            "replay/skipped_steps": updated.metrics.get("learner/skipped_steps", 0.0),
            "replay/used": float(len(samples)),
            "replay/age_mean": sum(step - (sample.admitted or 0) for sample in samples) / len(samples),
        }

    async def restore(self) -> None:
        """Learn the store's size after the ReplayActor has loaded a checkpoint."""
        self.size = await self.supervisor.call(self.supervisor.replay, "size")
