"""The entropy stabiliser from the Controller's side: steps 7 and 8 of the algorithm, on the ReplayActor and the learners."""

from typing import Any

import ray

from actors.driver.learner_group import Example, LearnerGroup, Updated
from actors.driver.rollout_log import RolloutLog
from actors.runtime.supervisor import Supervisor, awaited
from uec.algorithm.replay import is_due
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.types import Admission, Replayed, Trajectory

REPORTED = ("loss", "clip_frac", "ratio_mean", "grad_norm")


class ReplayUpdates:
    """Admits high-advantage trajectories to the shared store, and trains on a draw from it now and then."""

    def __init__(self, cfg: Config, supervisor: Supervisor, learners: LearnerGroup, log: RolloutLog) -> None:
        self.cfg = cfg
        self.supervisor = supervisor
        self.learners = learners
        self.log = log
        self.size = 0

    def metrics(self) -> dict[str, float]:
        """The store's size, where there is a store."""
        return {"replay/size": float(self.size)} if self.cfg.replay.enabled else {}

    async def admit(self, step: int, batch: list[Trajectory], admitted: list[bool], updated: Updated) -> int:
        """Store the admitted trajectories of a batch that was just trained on. Returns how many."""
        if not any(admitted):
            return 0
        stored = self.cfg.replay.logprobs == "stored"
        data: dict[Any, int] = {}
        admissions = []
        for trajectory, enters, (rank, sample) in zip(batch, admitted, updated.places, strict=True):
            if enters:
                bundle = data.setdefault(trajectory.bundle, len(data))
                logprobs = data.setdefault(updated.old_logprobs[rank], len(data)) if stored else None
                admissions.append(Admission(bundle, trajectory.score.slot, trajectory.advantage, logprobs, sample))
        self.size = await self.supervisor.call(self.supervisor.replay, "admit", step, admissions, *data)
        return len(admissions)

    async def update(self, step: int) -> dict[str, float]:
        """The policy update on replayed trajectories, where it is due; its `replay/` metrics."""
        if not is_due(step, self.size, self.cfg.replay):
            return {}
        replay = self.supervisor.replay
        drawn, bundle = replay.handle.draw.options(num_returns=2).remote(step, self.cfg.replay_rows())
        try:
            records: list[Replayed] = await awaited(drawn)
        except ray.exceptions.RayError as error:
            raise RunFailed(self.supervisor.account(replay, error)) from error
        if not records:  # all of them older than replay.max_age
            return {}
        self.log.write_replayed(step, records)
        examples = [
            Example(bundle, one.slot, one.advantage, one.prompt, one.prompt_tokens, one.response_tokens)
            for one in records
        ]
        updated = await self.learners.update(examples, seed=self.cfg.run.seed + step)
        metrics = {f"replay/{name}": updated.metrics[f"policy/{name}"] for name in REPORTED if f"policy/{name}" in updated.metrics}
        return metrics | {
            "replay/used": float(len(examples)),
            "replay/age_mean": sum(record.age for record in records) / len(records),
            "entropy/replay": updated.metrics["policy/entropy"],
        }
