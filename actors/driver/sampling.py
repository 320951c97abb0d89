"""Steps 1 to 4 of the algorithm: regular rollouts, rewards, difficulty, targeted exploration; one task per prompt."""

import asyncio
import itertools

from actors.driver.dispatch import BatchedCalls
from actors.driver.rollouts import RolloutStream
from actors.driver.weight_sync import WeightSync
from actors.runtime.supervisor import Supervisor
from uec.algorithm.difficulty import outcome
from uec.algorithm.exploration import ExplorationSchedule, enough, round_sizes
from uec.config.schema import Config
from uec.data.prompt_order import PromptOrder
from uec.errors import RunFailed
from uec.types import Kind, Outcome, PromptRollouts, StepRollouts, TrainingSample, Verdict

ATTEMPTS = 3  # to sample a group that is not stale


class Sampler:
    """Samples a step's prompts in parallel: a difficult prompt is explored while others still generate."""

    def __init__(
        self, cfg: Config, supervisor: Supervisor, rollouts: RolloutStream, weights: WeightSync, schedule: ExplorationSchedule,
        order: PromptOrder,
    ) -> None:  # fmt: skip
        self.cfg = cfg
        self.supervisor = supervisor
        self.rollouts = rollouts
        self.weights = weights
        self.schedule = schedule
        self.order = order
        numbers = itertools.count()  # so that a call that is repeated after a death is recorded once
        self.classify = BatchedCalls[Outcome, Verdict](
            lambda outcomes: supervisor.call(supervisor.difficulty, "classify", outcomes, schedule.now, next(numbers))
        )

    async def step(self, step: int) -> StepRollouts:
        """Sample all prompts of a step. With `train.max_staleness` above 0 this runs while an earlier step is learned from."""
        await self.weights.give_back()
        before = self.rollouts.timer.time()
        self.schedule.begin_step(step - 1)
        exploring = self.schedule.now.exploring
        prompts = await self._prompts()
        return StepRollouts(prompts, exploring, self.rollouts.timer.time() - before)

    async def _prompts(self) -> list[PromptRollouts]:
        """Sample `train.prompts_per_step` prompts. The next step's images are processed meanwhile.

        With `dynamic_sampling` (DAPO, 2503.14476) an uninformative prompt is replaced at once by the next prompt of the data, up to
        `dynamic_sampling.max_prompts`. The replaced prompts are returned, too, because their tokens count.
        """
        count = self.cfg.train.prompts_per_step
        dynamic = self.cfg.dynamic_sampling
        spare = int(dynamic.max_prompts * count) - count if dynamic.enabled else 0
        regular_done = asyncio.Barrier(count)

        async def place(prompt: int) -> list[PromptRollouts]:
            nonlocal spare
            visits = [await self.prompt(prompt, regular_done)]
            while spare > 0 and visits[-1].uninformative:
                spare -= 1
                visits.append(await self.prompt(self.order.take(1)[0], None))
            return visits

        prompts = self.order.take(count)
        self.supervisor.images.prefetch([*prompts, *self.order.peek(count)])
        places = await asyncio.gather(*(place(prompt) for prompt in prompts))
        return [rollouts for visits in places for rollouts in visits]

    async def prompt(self, prompt: int, regular_done: asyncio.Barrier | None) -> PromptRollouts:
        """Sample one prompt. Without `exploration.stream` exploration waits for the regular groups of all prompts."""
        cfg, solved_at = self.cfg, self.cfg.difficulty.solved_at
        rounds = [cfg.rollout.n] * cfg.rollout.rounds
        regular = await self.group(prompt, rounds, cfg.rollout.temperature, Kind.REGULAR, cfg.rollout.until)  # 1, 2
        verdict = await self.classify(outcome(regular, solved_at))  # 3
        if not cfg.exploration.stream and regular_done is not None:
            await regular_done.wait()
        exploration = None
        if verdict.difficult and verdict.n:
            rounds = round_sizes(verdict.n, cfg.exploration.rounds)
            exploration = await self.group(prompt, rounds, verdict.temperature, Kind.EXPLORATION, "right")  # 4
            await self.classify(outcome(exploration, solved_at))
        return PromptRollouts(regular, exploration, verdict.difficult)

    async def group(self, prompt: int, rounds: list[int], temperature: float, kind: Kind, until: str) -> list[TrainingSample]:
        """Sample a group in rounds, until `uec.algorithm.exploration.enough`.

        A group whose weights are more than `train.max_staleness` versions behind is refused and sampled again. Raises RunFailed after
        ATTEMPTS such groups.
        """
        for _ in range(ATTEMPTS):
            group: list[TrainingSample] = []
            for n in rounds:
                group += await self.rollouts.sample(prompt, n, temperature, kind)
                if enough(group, rounds[0], until, self.cfg.difficulty.solved_at):
                    break
            oldest = min(sample.version for sample in group)
            if self.weights.version - oldest <= self.cfg.train.max_staleness:
                return group
            self.supervisor.tracker.event(
                f"prompt {prompt} was answered with weight version {oldest}, current is {self.weights.version} "
                f"(train.max_staleness={self.cfg.train.max_staleness}): refused, and asked for again"
            )
            await self.weights.repeat()
        raise RunFailed(
            f"prompt {prompt} was answered {ATTEMPTS} times with old weights, version {oldest}, current is {self.weights.version} "
            f"(train.max_staleness={self.cfg.train.max_staleness}): an engine misses updates, its responses must not be trained on"
        )
