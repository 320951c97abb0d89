"""The learner ranks as one: a batch of rows in, a policy update out."""

import asyncio
from dataclasses import dataclass
from typing import Any

import ray

from actors.supervisor import Member, Supervisor, awaited
from uec.config import Learner
from uec.errors import RunFailed
from uec.models.packing import plan
from uec.types import Plan, Sample, Trajectory


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a training batch, by reference."""

    bundle: Any  # reference to a list[Rollout]
    slot: int
    advantage: float
    prompt_tokens: int
    response_tokens: int
    right: bool = False
    admit: bool = False  # goes to the replay store afterwards


def row(trajectory: Trajectory, solved_at: float, admit: bool = False) -> Row:
    """A fresh trajectory as a row."""
    score = trajectory.score
    return Row(
        trajectory.bundle, score.slot, trajectory.advantage, score.prompt_tokens, score.response_tokens, score.right(solved_at), admit
    )


@dataclass(frozen=True, slots=True)
class Updated:
    """What a policy update gave; the i-th row's old log-probabilities are entry `places[i][1]` of `old_logprobs[places[i][0]]`."""

    metrics: dict[str, float]
    old_logprobs: list[Any]  # a reference for each rank, to dict[sample, Logprobs]
    places: list[tuple[int, int]]  # rank and sample of each row


class LearnerGroup:
    """Deals a batch over the ranks, hands each only the bundles that it needs, and runs them together."""

    def __init__(self, settings: Learner, supervisor: Supervisor) -> None:
        self.settings = settings
        self.supervisor = supervisor

    async def update(self, rows: list[Row], seed: int) -> Updated:
        """One policy update of `learner.optimizer_steps` optimizer steps on these rows (at least one)."""
        plans, bundles, places = self._deal(rows, self.settings.optimizer_steps, seed)
        ranks = self.supervisor.learners
        answers = [
            rank.handle.update.options(num_returns=2).remote(share, *refs) for rank, share, refs in zip(ranks, plans, bundles, strict=True)
        ]
        metrics = await asyncio.gather(*(self._answer(rank, answer[0]) for rank, answer in zip(ranks, answers, strict=True)))
        return Updated(metrics[0], [answer[1] for answer in answers], places)

    async def entropy(self, rows: list[Row]) -> float:
        """Mean true entropy of the policy over the rows' response tokens, in nats."""
        plans, bundles, _ = self._deal(rows, 1, 0)
        answers = await asyncio.gather(
            *(
                self.supervisor.call(rank, "entropy", share, *refs)
                for rank, share, refs in zip(self.supervisor.learners, plans, bundles, strict=True)
            )
        )
        return float(answers[0])

    def _deal(
        self, rows: list[Row], optimizer_steps: int, seed: int
    ) -> tuple[list[Plan], list[list[Any]], list[tuple[int, int]]]:
        lengths = [row.prompt_tokens + row.response_tokens for row in rows]
        responses = [row.response_tokens for row in rows]
        shares = plan(lengths, responses, self.settings.ranks, self.settings.micro_batch_tokens, optimizer_steps, seed)
        places = [(0, 0)] * len(rows)
        plans, bundles = [], []
        for rank, share in enumerate(shares):
            refs: dict[Any, int] = {}
            samples = []
            for sample, number in enumerate(share.rows):
                row = rows[number]
                places[number] = (rank, sample)
                samples.append(Sample(refs.setdefault(row.bundle, len(refs)), row.slot, row.advantage, row.right, row.admit))
            plans.append(Plan(samples, share.steps, share.tokens, share.counts))
            bundles.append(list(refs))
        return plans, bundles, places

    async def _answer(self, rank: Member, answer: Any) -> dict[str, float]:
        try:
            return await awaited(answer)
        except ray.exceptions.RayError as error:
            raise RunFailed(self.supervisor.account(rank, error)) from error
