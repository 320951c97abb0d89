"""The driver: UEC-RL (arXiv 2604.14646) as a loop over actors. Read `step` and `explore` beside the paper's algorithm."""

import asyncio

from actors.driver.checkpoint import Checkpoints
from actors.driver.dispatch import BatchedCalls
from actors.driver.evaluation import Evaluation
from actors.driver.learner_group import LearnerGroup, example
from actors.driver.prefetch import RolloutPrefetcher
from actors.driver.replay_update import ReplayUpdates
from actors.driver.rollout_log import RolloutLog
from actors.driver.rollouts import RolloutStream
from actors.driver.sampling import sample_prompts, sample_rounds
from actors.driver.schedule import is_due, next_checkpoint
from actors.driver.timing import StepClock
from actors.driver.weight_sync import WeightExchange
from actors.runtime.supervisor import Supervisor
from uec.algorithm.advantage import load_estimator
from uec.algorithm.batch import BatchBuffer
from uec.algorithm.difficulty import outcome
from uec.algorithm.exploration import Pulse, round_sizes
from uec.algorithm.replay import admits
from uec.algorithm.retention import PromptRollouts, StepRollouts, retain
from uec.config.schema import Config
from uec.data.dataset import Dataset
from uec.data.order import PromptOrder
from uec.rewards.reward_function import refuse_errors
from uec.tracking.step import rollout_metrics
from uec.tracking.tracker import Tracker
from uec.types import Group, Interrupted, Kind, Outcome, Trajectory, Verdict


class Controller:
    """A run's state between steps, and the step."""

    def __init__(
        self, cfg: Config, supervisor: Supervisor, dataset: Dataset, exchange: WeightExchange, log: RolloutLog, tracker: Tracker
    ) -> None:
        self.cfg = cfg
        self.supervisor = supervisor
        self.dataset = dataset
        self.exchange = exchange
        self.log = log
        self.tracker = tracker
        self.stream = RolloutStream(supervisor)
        self.pulse = Pulse(cfg)
        self.judge = BatchedCalls[Outcome, Verdict](
            lambda outcomes: supervisor.call(supervisor.difficulty, "classify", outcomes, self.pulse.progress)
        )
        self.estimator = load_estimator(cfg.advantage.estimator)
        self.learners = LearnerGroup(cfg, supervisor)
        self.stabiliser = ReplayUpdates(cfg, supervisor, self.learners, log)
        self.batch = BatchBuffer(cfg)
        self.order = PromptOrder(len(dataset.train), cfg.run.seed, cfg.data.shuffle)
        self.steps_done = 0
        self.started = False
        self.ahead = RolloutPrefetcher(
            self.roll, cfg.train.max_staleness, last=lambda: 0 if self.interrupted else next_checkpoint(self.steps_done, cfg)
        )
        self.evaluation = Evaluation(cfg, dataset.eval, self.stream, self.learners, tracker)
        self.interrupted: Interrupted | None = None

    async def run(self, checkpoints: Checkpoints) -> None:
        """Train to `train.steps`, or until a signal; evaluate before, now and then, and after."""
        cfg, last = self.cfg, self.cfg.train.steps
        await self.exchange.start()
        self.started = True
        if self.steps_done == 0:
            await self.evaluation.run(0)
        saved = self.steps_done
        while self.steps_done < last and (self.ahead or not self.interrupted):
            metrics = await self.step(self.steps_done + 1)
            self.steps_done += 1
            self.tracker.log(self.steps_done, metrics)
            if self.steps_done == last or is_due(self.steps_done, cfg.eval.every):
                await self.evaluation.run(self.steps_done)
            if self.steps_done == last or is_due(self.steps_done, cfg.checkpoint.every):
                await checkpoints.save(self)
                saved = self.steps_done
        if saved != self.steps_done or self.steps_done == 0:
            await checkpoints.save(self)

    async def step(self, step: int) -> dict[str, float]:
        """One UEC-RL step; its metrics."""
        clock = StepClock(self.stream.spent)
        rolled = await self.ahead.take(step)  # 1 to 4
        clock.taken()
        refuse_errors([t.score for prompt in rolled.prompts for t in prompt.trajectories], self.cfg.reward)
        retained = retain(rolled.prompts, self.cfg, self.estimator)  # 5
        metrics = rollout_metrics(rolled, retained, self.exchange.version, self.cfg.difficulty.solved_at)
        await self.log.write(step, rolled.prompts, retained)
        self.batch.add(t for prompt in retained for t in prompt.kept)
        metrics |= self.batch.metrics()
        batch = self.batch.take()
        replay = await self.learn(step, batch, metrics)  # 6 to 8
        clock.learned()

        if batch or replay:
            metrics |= (await self.exchange.publish()).metrics()
        self.pulse.end_step(metrics)
        return metrics | clock.metrics() | {"weights/version": float(self.exchange.version)}

    async def roll(self, step: int) -> StepRollouts:
        """Steps 1 to 4: with `train.max_staleness` above 0, while an earlier step is learned from."""
        before = self.stream.spent()
        self.pulse.begin_step(step - 1)
        prompts = await sample_prompts(self.explore, self.order, self.cfg, self.supervisor.images)
        return StepRollouts(prompts, self.pulse.progress.exploring, self.stream.spent() - before)

    async def explore(self, prompt: int, everyone_regular: asyncio.Barrier | None = None) -> PromptRollouts:
        """Steps 1 to 4 for one prompt: groups stream, so that a difficult prompt is explored while others are still at work."""
        cfg, solved_at = self.cfg, self.cfg.difficulty.solved_at
        rollout, exploration = cfg.rollout, cfg.exploration
        rounds = [rollout.n] * rollout.rounds
        regular = await self.sample(prompt, rounds, rollout.temperature, Kind.REGULAR, rollout.until)  # 1, 2
        verdict = await self.judge(outcome(regular, solved_at))  # 3
        if not exploration.stream and everyone_regular is not None:
            await everyone_regular.wait()
        explored = None
        if verdict.difficult and verdict.n:
            rounds = round_sizes(verdict.n, exploration.rounds)
            explored = await self.sample(prompt, rounds, verdict.temperature, Kind.EXPLORATION, "right")  # 4
            await self.judge(outcome(explored, solved_at))
        return PromptRollouts(regular, explored, verdict.difficult)

    async def sample(self, prompt: int, rounds: list[int], temperature: float, kind: Kind, until: str) -> Group:
        solved_at = self.cfg.difficulty.solved_at
        return await self.exchange.fresh(lambda: sample_rounds(self.stream.sample, prompt, rounds, temperature, kind, until, solved_at))

    async def learn(self, step: int, batch: list[Trajectory], metrics: dict[str, float]) -> dict[str, float]:
        """Steps 6 to 8: the policy update, admission to the replay store, and the entropy stabiliser. An empty batch skips the update."""
        admitted = [admits(trajectory, self.cfg.replay) for trajectory in batch]
        if batch:
            examples = [example(t, self.cfg.difficulty.solved_at, enters) for t, enters in zip(batch, admitted, strict=True)]
            updated = await self.learners.update(examples, seed=self.cfg.run.seed + step)  # 6
            metrics |= updated.metrics
            metrics["replay/admitted"] = float(await self.stabiliser.admit(step, batch, admitted, updated))  # 7
        replay = await self.stabiliser.update(step)  # 8
        metrics |= replay | self.stabiliser.metrics()
        return replay

    def interrupt(self, interrupted: Interrupted) -> bool:
        """End after this step and a checkpoint. False if there is nothing to wait for: still starting, or asked before."""
        first, self.interrupted = self.interrupted is None, interrupted
        self.evaluation.stop()
        if first and self.started:
            self.tracker.event("stopping after this step with a checkpoint; a second signal stops at once")
        return first and self.started
