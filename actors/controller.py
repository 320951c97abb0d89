"""The driver: UEC-RL (arXiv 2604.14646) as a loop over actors. Read `step` and `explore` beside the paper's algorithm."""

import asyncio
import time

from actors.checkpoint import Checkpoints
from actors.coalesce import Coalesced
from actors.evaluation import evaluate
from actors.exchange import WeightExchange
from actors.learner_group import LearnerGroup, row
from actors.rollout_log import RolloutLog
from actors.stabiliser import EntropyStabiliser
from actors.stream import RolloutStream, refuse_stale
from actors.supervisor import Supervisor
from uec.algorithm.batch import BatchBuffer
from uec.algorithm.replay import admits
from uec.algorithm.retention import retain
from uec.config import Config
from uec.data.order import PromptOrder
from uec.data.prompts import Dataset
from uec.rewards.errors import refuse_errors
from uec.tracking.step import Explored, outcome, rollout_metrics
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
        self.judge = Coalesced[Outcome, Verdict](lambda outcomes: supervisor.call(supervisor.difficulty, "classify", outcomes))
        self.learners = LearnerGroup(cfg.learner, supervisor)
        self.stabiliser = EntropyStabiliser(cfg, supervisor, self.learners)
        self.batch = BatchBuffer(cfg)
        self.order = PromptOrder(len(dataset.train), cfg.run.seed, cfg.data.shuffle)
        self.steps_done = 0
        self.started = False
        self.evaluation: asyncio.Future[dict[str, float]] | None = None
        self.interrupted: Interrupted | None = None

    async def run(self, checkpoints: Checkpoints) -> None:
        """Train to `train.steps`, or until a signal; evaluate before, now and then, and after."""
        cfg, last = self.cfg, self.cfg.train.steps
        await self.exchange.start()
        self.started = True
        if self.steps_done == 0:
            await self.evaluate()
        saved = self.steps_done
        while self.steps_done < last and not self.interrupted:
            metrics = await self.step(self.steps_done + 1)
            self.steps_done += 1
            self.tracker.log(self.steps_done, metrics)
            if self.steps_done == last or is_due(self.steps_done, cfg.eval.every):
                await self.evaluate()
            if self.steps_done == last or is_due(self.steps_done, cfg.checkpoint.every):
                await checkpoints.save(self)
                saved = self.steps_done
        if saved != self.steps_done or self.steps_done == 0:
            await checkpoints.save(self)

    async def step(self, step: int) -> dict[str, float]:
        """One UEC-RL step; its metrics."""
        begin, cpu_begin = time.perf_counter(), time.thread_time()
        everyone_regular = asyncio.Barrier(self.cfg.train.prompts_per_step)
        prompts = self.order.take(self.cfg.train.prompts_per_step)
        explored = await asyncio.gather(*(self.explore(prompt, everyone_regular) for prompt in prompts))  # 1 to 5
        refuse_errors([t.score for prompt in explored for t in prompt.trajectories], self.cfg.reward)
        rolled = time.perf_counter()
        metrics = rollout_metrics(explored, self.exchange.version, self.cfg.difficulty.solved_at, rolled - begin)
        await self.log.write(step, explored)

        self.batch.add(t for prompt in explored for t in prompt.retained.kept)
        batch = self.batch.take()
        replay = await self.learn(step, batch, metrics)  # 6 to 8
        learned = time.perf_counter()

        if batch or replay:
            exchanged = await self.exchange.publish()
            metrics |= {"time/sync_s": exchanged.seconds, "weights/bytes": float(exchanged.nbytes)}
            if exchanged.probe_gap is not None:
                metrics["weights/probe_gap"] = exchanged.probe_gap
        return metrics | {
            "weights/version": float(self.exchange.version),
            "time/step_s": time.perf_counter() - begin,
            "time/generate_s": self.stream.last_bundle_at - begin,
            "time/reward_s": rolled - self.stream.last_bundle_at,
            "time/learn_s": learned - rolled,
            "time/idle_s": rolled - begin,
            "time/controller_s": time.thread_time() - cpu_begin,
        }

    async def explore(self, prompt: int, everyone_regular: asyncio.Barrier) -> Explored:
        """Steps 1 to 5 for one prompt: groups stream, so that a difficult prompt is explored while others are still at work."""
        cfg = self.cfg
        regular = await self.sample(prompt, cfg.rollout.n, cfg.rollout.temperature, Kind.REGULAR)  # 1, 2
        verdict = await self.judge(outcome(regular))  # 3
        if not cfg.exploration.stream:
            await everyone_regular.wait()
        exploration = None
        if verdict.difficult and verdict.n:
            exploration = await self.sample(prompt, verdict.n, verdict.temperature, Kind.EXPLORATION)  # 4
            await self.judge(outcome(exploration))
        return Explored(regular, exploration, verdict.difficult, retain(regular, exploration, cfg))  # 5

    async def sample(self, prompt: int, n: int, temperature: float, kind: Kind) -> Group:
        group = await self.stream.sample(prompt, n, temperature, kind)
        refuse_stale(group, self.exchange.version, self.cfg.train.max_staleness)
        return group

    async def learn(self, step: int, batch: list[Trajectory], metrics: dict[str, float]) -> dict[str, float]:
        """Steps 6 to 8: the policy update, admission to the replay store, and the entropy stabiliser. An empty batch skips the update."""
        admitted = [admits(trajectory, self.cfg.replay) for trajectory in batch]
        if batch:
            rows = [row(trajectory, enters) for trajectory, enters in zip(batch, admitted, strict=True)]
            updated = await self.learners.update(rows, seed=self.cfg.run.seed + step)  # 6
            metrics |= updated.metrics
            metrics["replay/admitted"] = float(await self.stabiliser.admit(step, batch, admitted, updated))  # 7
        replay = await self.stabiliser.update(step)  # 8
        metrics |= replay
        if self.cfg.replay.enabled:
            metrics["replay/size"] = float(self.stabiliser.size)
        return replay

    async def evaluate(self) -> None:
        """Held-out metrics of the current weights; a signal cuts it short."""
        if not self.dataset.eval or self.interrupted:
            return
        self.evaluation = asyncio.ensure_future(evaluate(self.cfg, self.dataset.eval, self.stream, self.learners, self.tracker))
        await asyncio.wait([self.evaluation])
        if not self.evaluation.cancelled():
            self.tracker.evaluation(self.steps_done, self.evaluation.result())

    def interrupt(self, interrupted: Interrupted) -> bool:
        """End after this step and a checkpoint. False if there is nothing to wait for: still starting, or asked before."""
        first, self.interrupted = self.interrupted is None, interrupted
        if self.evaluation is not None:
            self.evaluation.cancel()
        if first and self.started:
            self.tracker.event("stopping after this step with a checkpoint; a second signal stops at once")
        return first and self.started


def is_due(step: int, every: int) -> bool:
    """Every so many steps; 0: never."""
    return every > 0 and step % every == 0
