"""The driver: UEC-RL (2604.14646) as a loop over actors. Read `step` beside the paper's algorithm; steps 1 to 4 are in sampling.py."""

from typing import Any

from actors.driver.bad_steps import BadSteps
from actors.driver.checkpoint import Checkpoints
from actors.driver.evaluation import Evaluation
from actors.driver.learner_group import LearnerGroup
from actors.driver.prefetch import RolloutPrefetcher
from actors.driver.replay_update import ReplayUpdates
from actors.driver.rollout_log import RolloutLog
from actors.driver.rollouts import RolloutStream
from actors.driver.sampling import Sampler
from actors.driver.schedule import is_due, next_checkpoint
from actors.driver.timing import StepTimer
from actors.driver.weight_sync import WeightSync
from actors.runtime.supervisor import Supervisor
from uec.algorithm.advantage import load_estimator
from uec.algorithm.batch import BatchBuffer
from uec.algorithm.exploration import ExplorationSchedule
from uec.algorithm.replay import admits
from uec.algorithm.retention import retain
from uec.config.schema import Config
from uec.data.dataset import Dataset, digest
from uec.data.prompt_order import PromptOrder
from uec.rewards.reward_function import refuse_errors
from uec.tracking.step import rollout_metrics
from uec.tracking.tracker import Tracker
from uec.types import Interrupted


class Controller:
    """The state of a run between steps, and the step."""

    def __init__(
        self, cfg: Config, supervisor: Supervisor, dataset: Dataset, weights: WeightSync, log: RolloutLog, tracker: Tracker
    ) -> None:
        self.cfg = cfg
        self.supervisor = supervisor
        self.dataset = dataset
        self.weights = weights
        self.log = log
        self.tracker = tracker
        self.rollouts = RolloutStream(supervisor)
        self.schedule = ExplorationSchedule(cfg.exploration.until, cfg.train.steps)
        self.order = PromptOrder(len(dataset.train), cfg.run.seed, cfg.data.shuffle, digest(dataset.train))
        self.sampler = Sampler(cfg, supervisor, self.rollouts, weights, self.schedule, self.order)
        self.estimator = load_estimator(cfg.advantage.estimator)
        self.learners = LearnerGroup(cfg, supervisor)
        self.bad_steps = BadSteps(cfg, supervisor, log)
        self.replay = ReplayUpdates(cfg, supervisor, self.learners, log, self.bad_steps)
        self.batch = BatchBuffer(cfg)
        self.evaluation = Evaluation(cfg, dataset.eval, self.rollouts, self.learners, tracker)
        self.prefetcher = RolloutPrefetcher(self.sampler.step, cfg.train.max_staleness, last=self._last_to_begin)
        self.steps_done = 0
        self.started = False
        self.interrupted: Interrupted | None = None

    async def run(self, checkpoints: Checkpoints) -> None:
        """Train to `train.steps`, or until a signal; evaluate before, at intervals, and after."""
        cfg, last = self.cfg, self.cfg.train.steps
        await self.weights.start()
        self.started = True
        if self.steps_done == 0:
            await self.evaluation.run(0)
        saved = self.steps_done
        while self.steps_done < last and (self.prefetcher or not self.interrupted):
            metrics = await self.step(self.steps_done + 1)
            self.steps_done += 1
            self.tracker.log(self.steps_done, metrics)
            self.bad_steps.end_step(self.steps_done, metrics)
            checkpoints.refuse_errors()
            if self.steps_done == last or is_due(self.steps_done, cfg.eval.every):
                await self.evaluation.run(self.steps_done)
            if self.steps_done == last or is_due(self.steps_done, cfg.checkpoint.every):
                await self._save(checkpoints)
                saved = self.steps_done
        if saved != self.steps_done or self.steps_done == 0:
            await self._save(checkpoints)
        await checkpoints.finish()

    async def step(self, step: int) -> dict[str, float]:
        """Run one UEC-RL step and return its metrics. An empty batch skips the policy update."""
        cfg = self.cfg
        timer = StepTimer(self.rollouts.timer)
        rollouts = await self.prefetcher.take(step)  # 1 to 4: sample, reward, classify, explore
        timer.sampled()
        refuse_errors([sample for prompt in rollouts.prompts for sample in prompt.samples], cfg.reward)

        retained = retain(rollouts.prompts, cfg, self.estimator)  # 5: advantages and selective retention
        metrics = rollout_metrics(rollouts, retained, self.weights.version, cfg.difficulty.solved_at)
        await self.log.write(step, rollouts.prompts, retained)
        self.batch.add(sample for prompt in retained for sample in prompt.kept)
        metrics |= self.batch.metrics()

        batch = self.batch.take()
        if batch:
            admitted = [admits(sample, cfg) for sample in batch]
            updated = await self.learners.update(batch, seed=cfg.run.seed + step, admitted=admitted)  # 6: policy update
            await self.bad_steps.keep(f"step_{step:06d}", updated)
            metrics |= updated.metrics
            metrics["replay/admitted"] = float(await self.replay.admit(step, batch, admitted, updated))  # 7: admission
        replayed = await self.replay.update(step)  # 8: entropy stabiliser
        metrics |= replayed | self.replay.metrics()
        timer.learned()

        if batch or replayed:
            metrics |= (await self.weights.sync()).metrics()
        self.schedule.end_step(metrics)
        return metrics | timer.metrics() | {"weights/version": float(self.weights.version)}

    def interrupt(self, interrupted: Interrupted) -> bool:
        """End the run after this step and a checkpoint. Returns False to end it at once: during the start, or at a second signal."""
        first, self.interrupted = self.interrupted is None, interrupted
        self.evaluation.stop()
        if first and self.started:
            self.tracker.event("stopping after this step with a checkpoint; a second signal stops at once")
        return first and self.started

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds of the driver, as JSON; the waiting batch is apart, because its tokens are in the object store."""
        return {
            "steps_done": self.steps_done,
            "weights": self.weights.state(),
            "order": self.order.state(),
            "schedule": self.schedule.state(),
            "bad_steps": self.bad_steps.in_a_row,
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from `state()`. Raises BadInput if the data is not the same."""
        self.order.load(state["order"])
        self.schedule.load(state["schedule"])
        self.weights.load(state["weights"])
        self.bad_steps.in_a_row = state.get("bad_steps", 0)
        self.steps_done = state["steps_done"]

    async def _save(self, checkpoints: Checkpoints) -> None:
        await checkpoints.begin(self.steps_done, self.state(), self.batch.leftover())

    def _last_to_begin(self) -> int:
        """Return the last step whose rollouts may begin: that of the next checkpoint, which holds no rollouts; 0 after a signal."""
        return 0 if self.interrupted else next_checkpoint(self.steps_done, self.cfg)
