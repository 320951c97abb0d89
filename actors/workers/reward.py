"""RewardActor: grades response batches in killable processes, and writes the rollout files."""

import asyncio
from pathlib import Path
from typing import Any

from uec.config.schema import Config
from uec.errors import RunFailed
from uec.eval.predictions import Prediction
from uec.models.pretrained import load_decoder
from uec.rewards.graders import overlong_punishment
from uec.rewards.pool import GradingPool
from uec.rewards.process import Grade
from uec.rewards.reward_function import extractor
from uec.rewards.wire import Task
from uec.tracking.rollouts import Page, write_rollouts
from uec.types import Prompt, TrainingSample, Trajectory


class RewardActor:
    """One of `reward.workers`. It is an async actor that grades response batches in parallel."""

    def __init__(self, cfg: Config, rank: int) -> None:
        self.cfg = cfg
        self.rank = rank
        self.prompts: dict[int, Prompt] = {}

    async def start(self, prompts: list[Prompt]) -> None:
        """Load the decoder and start the grading processes. Raises BadInput if the reward function cannot be loaded."""
        self.prompts = {prompt.index: prompt for prompt in prompts}
        # Output of graders goes to the log of this actor, in the run's logs/.
        self.pool = GradingPool(self.cfg.reward, output=1)
        decoder = asyncio.to_thread(load_decoder, self.cfg.model, self.cfg.rollout.stop_tokens)
        self._decode, _ = await asyncio.gather(decoder, asyncio.to_thread(self.pool.start))

    async def grade(self, batch: list[Trajectory]) -> list[TrainingSample]:
        """Grade a response batch, in its order. A grading that fails is a sample with an error, not an exception."""
        texts = await asyncio.to_thread(self._decode, [trajectory.tokens for trajectory in batch])
        prompts = [self._prompt(trajectory) for trajectory in batch]
        grades = await self.pool.grade([Task(text, prompt.answer, prompt.row) for text, prompt in zip(texts, prompts, strict=True)])
        return [self._sample(slot, trajectory, grade) for slot, (trajectory, grade) in enumerate(zip(batch, grades, strict=True))]

    async def write_rollouts(self, path: str, step: int, pages: list[Page], *data: list[Trajectory] | list[TrainingSample]) -> None:
        """Write a step's responses to `path`, one JSON object a line; `data`: each page's response batch, then its graded samples."""
        batches, graded = data[: len(pages)], data[len(pages) :]
        await asyncio.to_thread(write_rollouts, Path(path), step, pages, batches, graded, self.prompts, self._decode)

    async def predictions(self, slots: list[tuple[int, int]], *data: list[Trajectory] | list[TrainingSample]) -> list[Prediction]:
        """Return a group's responses as an evaluation keeps them.

        `slots`: each one's response batch and place in it; `data`: the response batches, then their graded samples.
        """
        return await asyncio.to_thread(self._predictions, slots, data)

    def _predictions(self, slots: list[tuple[int, int]], data: tuple[Any, ...]) -> list[Prediction]:
        batches, graded = data[: len(data) // 2], data[len(data) // 2 :]
        trajectories: list[Trajectory] = [batches[batch][slot] for batch, slot in slots]
        extract = extractor(self.cfg.reward.fn)
        found = []
        for (batch, slot), trajectory, text in zip(slots, trajectories, self._decode([one.tokens for one in trajectories]), strict=True):
            sample: TrainingSample = graded[batch][slot]
            answer = self._prompt(trajectory).answer
            found.append(
                Prediction(
                    prompt=sample.prompt,
                    index=sample.index,
                    response=text,
                    answer=answer,
                    extracted=None if extract is None else extract(text, answer),
                    accuracy=sample.accuracy,
                    parts=sample.parts,
                    error=sample.error,
                    tokens=sample.response_tokens,
                    truncated=sample.truncated,
                    token_ids=trajectory.tokens.tolist() if sample.index == 0 else None,
                )
            )
        return found

    async def stop(self) -> None:
        """End the grading processes; they end with this process, too."""
        await asyncio.to_thread(self.pool.close)

    def _prompt(self, trajectory: Trajectory) -> Prompt:
        if trajectory.prompt not in self.prompts:
            raise RunFailed(
                f"reward-{self.rank} was given a response to prompt {trajectory.prompt}, which is none of its {len(self.prompts)}"
            )
        return self.prompts[trajectory.prompt]

    def _sample(self, slot: int, trajectory: Trajectory, grade: Grade) -> TrainingSample:
        longest, share = self.cfg.rollout.max_tokens, self.cfg.reward.overlong_share
        punishment = overlong_punishment(trajectory.generated_tokens, longest, share)
        return TrainingSample.of(
            trajectory,
            slot,
            reward=grade.reward + punishment,
            accuracy=grade.accuracy,
            parts=grade.parts,
            error=grade.error,
            timed_out=grade.timed_out,
        )
