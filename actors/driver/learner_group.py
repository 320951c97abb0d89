"""The learner ranks as one: a batch of examples in, a policy update out."""

import asyncio
from dataclasses import dataclass
from typing import Any

import ray

from actors.runtime.supervisor import ActorSlot, Supervisor, awaited
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.models.packing import packs, plan
from uec.models.source import load_config
from uec.types import Plan, Sample, Trajectory


@dataclass(frozen=True, slots=True)
class Example:
    """One response of a training batch, by reference."""

    bundle: Any  # reference to a list[Rollout]
    slot: int
    advantage: float
    prompt: int
    prompt_tokens: int
    response_tokens: int
    right: bool = False
    admit: bool = False  # goes to the replay store afterwards


def example(trajectory: Trajectory, solved_at: float, admit: bool = False) -> Example:
    """A fresh trajectory as an example."""
    score = trajectory.score
    return Example(
        bundle=trajectory.bundle,
        slot=score.slot,
        advantage=trajectory.advantage,
        prompt=trajectory.prompt,
        prompt_tokens=score.prompt_tokens,
        response_tokens=score.response_tokens,
        right=score.right(solved_at),
        admit=admit,
    )


@dataclass(frozen=True, slots=True)
class Updated:
    """What a policy update gave; the i-th example's old log-probabilities are entry `places[i][1]` of `old_logprobs[places[i][0]]`."""

    metrics: dict[str, float]
    old_logprobs: list[Any]  # a reference for each rank, to dict[sample, Logprobs]
    places: list[tuple[int, int]]  # rank and sample of each example


class LearnerGroup:
    """Deals a batch over the ranks, hands each only the bundles and images that it needs, and runs them together."""

    def __init__(self, cfg: Config, supervisor: Supervisor) -> None:
        self.settings = cfg.learner
        self.supervisor = supervisor
        self._packed = packs(cfg.learner, load_config(cfg.model))

    async def update(self, examples: list[Example], seed: int) -> Updated:
        """One policy update of `learner.optimizer_steps` optimizer steps on these examples (at least one)."""
        plans, data, places = await self._deal(examples, self.settings.optimizer_steps, seed)
        ranks = self.supervisor.learners
        answers = [
            rank.handle.update.options(num_returns=2).remote(share, *refs) for rank, share, refs in zip(ranks, plans, data, strict=True)
        ]
        metrics = await asyncio.gather(*(self._answer(rank, answer[0]) for rank, answer in zip(ranks, answers, strict=True)))
        return Updated(metrics[0], [answer[1] for answer in answers], places)

    async def entropy(self, examples: list[Example]) -> float:
        """Mean true entropy of the policy over the examples' response tokens, in nats."""
        plans, data, _ = await self._deal(examples, 1, 0)
        answers = await asyncio.gather(
            *(
                self.supervisor.call(rank, "entropy", share, *refs)
                for rank, share, refs in zip(self.supervisor.learners, plans, data, strict=True)
            )
        )
        return float(answers[0])

    async def entropies(self, examples: list[Example]) -> list[float]:
        """Mean true entropy of the policy over each example's response tokens, in nats."""
        plans, data, places = await self._deal(examples, 1, 0)
        ranks = self.supervisor.learners
        answers = await asyncio.gather(
            *(self.supervisor.call(rank, "entropies", share, *refs) for rank, share, refs in zip(ranks, plans, data, strict=True))
        )
        return [float(answers[rank][sample]) for rank, sample in places]

    async def _deal(
        self, examples: list[Example], optimizer_steps: int, seed: int
    ) -> tuple[list[Plan], list[list[Any]], list[tuple[int, int]]]:
        """Each rank's plan and the references that it goes with, and where each example went."""
        settings = self.settings
        shares = plan(examples, settings.ranks, settings.micro_batch_tokens, optimizer_steps, seed, self._packed)
        places = [(0, 0)] * len(examples)
        plans, data = [], []
        for rank, share in enumerate(shares):
            bundles: dict[Any, int] = {}
            samples = []
            for sample, number in enumerate(share.responses):
                one = examples[number]
                places[number] = (rank, sample)
                samples.append(Sample(bundles.setdefault(one.bundle, len(bundles)), one.slot, one.advantage, one.right, one.admit))
            images = await self.supervisor.images.references(examples[number].prompt for number in share.responses)
            plans.append(Plan(samples, share.steps, share.tokens, share.counts))
            data.append([*bundles, *images])
        return plans, data, places

    async def _answer(self, rank: ActorSlot, answer: Any) -> dict[str, float]:
        try:
            return await awaited(answer)
        except ray.exceptions.RayError as error:
            raise RunFailed(self.supervisor.account(rank, error)) from error
