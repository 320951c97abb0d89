"""All learner ranks together: distribute a batch of samples over them and run a policy update."""

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from actors.runtime.supervisor import Supervisor
from uec.config.schema import Config
from uec.models.packing import packs, plan
from uec.models.pretrained import load_config
from uec.tracking.metrics import finite
from uec.types import TrainingSample, UpdatePlan


@dataclass(frozen=True, slots=True)
class Updated:
    """The result of a policy update.

    The i-th sample's old log-probabilities are entry `places[i][1]` of `old_logprobs[places[i][0]]`, if it was admitted.
    """

    metrics: dict[str, float]
    old_logprobs: list[Any]  # a reference for each rank, to dict[position, Logprobs]
    places: list[tuple[int, int]]  # rank of each sample, and position in that rank's plan
    shares: list[tuple[UpdatePlan, list[Any]]]  # of each rank: its plan, and the references that went with it

    @property
    def skipped(self) -> bool:
        """Return whether an optimizer step was left out because its loss or gradient was not finite."""
        return self.metrics.get("learner/skipped_steps", 0.0) > 0


class LearnerGroup:
    """Deals a batch over the ranks, sends each only the response batches and images that it needs, and runs them together."""

    def __init__(self, cfg: Config, supervisor: Supervisor) -> None:
        self.settings = cfg.learner
        self.solved_at = cfg.difficulty.solved_at
        self.supervisor = supervisor
        self._packed = packs(cfg.learner, load_config(cfg.model))

    async def update(self, samples: list[TrainingSample], seed: int, admitted: list[bool] | None = None) -> Updated:
        """Run one policy update of `learner.optimizer_steps` optimizer steps on these samples (at least one).

        `admitted`: the samples that enter the replay store, whose old log-probabilities are returned; None: no sample.
        """
        plans, data, places = await self._deal(samples, self.settings.optimizer_steps, seed, admitted)
        ranks = self.supervisor.learners
        answers = [
            rank.handle.update.options(num_returns=2).remote(share, *refs) for rank, share, refs in zip(ranks, plans, data, strict=True)
        ]
        metrics = await asyncio.gather(
            *(self.supervisor.answer(rank, "update", answer[0]) for rank, answer in zip(ranks, answers, strict=True))
        )
        shares = list(zip(plans, data, strict=True))
        return Updated(finite(metrics[0]), [answer[1] for answer in answers], places, shares)

    async def entropy(self, samples: list[TrainingSample]) -> float:
        """Return the mean true entropy of the policy over the samples' response tokens, in nats."""
        plans, data, _ = await self._deal(samples, 1, 0)
        answers = await asyncio.gather(
            *(
                self.supervisor.call(rank, "entropy", share, *refs)
                for rank, share, refs in zip(self.supervisor.learners, plans, data, strict=True)
            )
        )
        return float(answers[0])

    async def entropies(self, samples: list[TrainingSample]) -> list[float]:
        """Return the mean true entropy of the policy over each sample's response tokens, in nats."""
        plans, data, places = await self._deal(samples, 1, 0)
        ranks = self.supervisor.learners
        answers = await asyncio.gather(
            *(self.supervisor.call(rank, "entropies", share, *refs) for rank, share, refs in zip(ranks, plans, data, strict=True))
        )
        return [float(answers[rank][position]) for rank, position in places]

    async def _deal(
        self, samples: list[TrainingSample], optimizer_steps: int, seed: int, admitted: list[bool] | None = None
    ) -> tuple[list[UpdatePlan], list[list[Any]], list[tuple[int, int]]]:
        """Return each rank's plan and the references that go with it, and the place of each sample; then it is the learners' turn."""
        settings = self.settings
        shares = plan(samples, settings.ranks, settings.micro_batch_tokens, optimizer_steps, seed, self._packed)
        places = [(0, 0)] * len(samples)
        plans, data = [], []
        for rank, share in enumerate(shares):
            batches: dict[Any, int] = {}
            in_batches = []
            for position, number in enumerate(share.responses):
                sample = samples[number]
                places[number] = (rank, position)
                in_batches.append((batches.setdefault(sample.batch, len(batches)), sample.slot))
            plans.append(
                replace(
                    share,
                    places=in_batches,
                    advantages=[samples[number].advantage for number in share.responses],
                    right=[samples[number].right(self.solved_at) for number in share.responses],
                    admitted=frozenset(i for i, number in enumerate(share.responses) if admitted is not None and admitted[number]),
                )
            )
            images = await self.supervisor.images.references(samples[number].prompt for number in share.responses)
            data.append([*batches, *images])
        await self.supervisor.turns.to_learners()
        return plans, data, places
