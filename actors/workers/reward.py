"""RewardActor: turns bundles of responses into scores, in grading processes of its own, and writes the rollout files."""

import asyncio
from pathlib import Path
from typing import Any

from uec.config.schema import Config
from uec.errors import RunFailed
from uec.eval.predictions import Prediction
from uec.models.source import load_decoder
from uec.rewards.graders import overlong_punishment
from uec.rewards.pool import GradingPool
from uec.rewards.process import Grade
from uec.rewards.reward_function import extractor
from uec.rewards.wire import Task
from uec.tracking.rollouts import Page, write_rollouts
from uec.types import Prompt, Rollout, Score


class RewardActor:
    """One of `reward.workers`. An async actor: bundles are graded side by side."""

    def __init__(self, cfg: Config, rank: int) -> None:
        self.cfg = cfg
        self.rank = rank
        self.prompts: dict[int, Prompt] = {}

    async def start(self, prompts: list[Prompt]) -> None:
        """Load the decoder and start the grading processes. Raises BadInput if the reward function cannot be loaded."""
        self.prompts = {prompt.index: prompt for prompt in prompts}
        # What graders print goes where this actor's own output goes: the run's logs/.
        self.pool = GradingPool(self.cfg.reward, output=1)
        self._decode, _ = await asyncio.gather(asyncio.to_thread(load_decoder, self.cfg.model), asyncio.to_thread(self.pool.start))

    async def grade(self, rollouts: list[Rollout]) -> list[Score]:
        """Scores in the order of the bundle. A grading that fails is a Score with an error, not an exception."""
        texts = await asyncio.to_thread(self._decode, [rollout.tokens for rollout in rollouts])
        prompts = [self._prompt(rollout) for rollout in rollouts]
        grades = await self.pool.grade([Task(text, prompt.answer, prompt.row) for text, prompt in zip(texts, prompts, strict=True)])
        return [self._score(slot, rollout, grade) for slot, (rollout, grade) in enumerate(zip(rollouts, grades, strict=True))]

    async def write_rollouts(self, path: str, step: int, pages: list[Page], *data: list[Rollout] | list[Score]) -> None:
        """Write a step's responses to `path`, one JSON object a line; `data` are each page's rollouts, then each page's scores."""
        rollouts, scores = data[: len(pages)], data[len(pages) :]
        await asyncio.to_thread(write_rollouts, Path(path), step, pages, rollouts, scores, self.prompts, self._decode)

    async def predictions(self, slots: list[tuple[int, int]], *data: list[Rollout] | list[Score]) -> list[Prediction]:
        """A group's responses as an evaluation keeps them: `slots` are each one's bundle and place in it, `data` the bundles, then their
        scores."""
        return await asyncio.to_thread(self._predictions, slots, data)

    def _predictions(self, slots: list[tuple[int, int]], data: tuple[Any, ...]) -> list[Prediction]:
        bundles, scores = data[: len(data) // 2], data[len(data) // 2 :]
        rollouts: list[Rollout] = [bundles[bundle][slot] for bundle, slot in slots]
        extract = extractor(self.cfg.reward.fn)
        found = []
        for (bundle, slot), rollout, text in zip(slots, rollouts, self._decode([one.tokens for one in rollouts]), strict=True):
            score: Score = scores[bundle][slot]
            answer = self._prompt(rollout).answer
            found.append(
                Prediction(
                    prompt=rollout.prompt,
                    index=score.index,
                    response=text,
                    answer=answer,
                    extracted=None if extract is None else extract(text, answer),
                    accuracy=score.accuracy,
                    parts=score.parts,
                    error=score.error,
                    tokens=score.response_tokens,
                    truncated=score.truncated,
                    token_ids=rollout.tokens.tolist() if score.index == 0 else None,
                )
            )
        return found

    async def stop(self) -> None:
        """End the grading processes; they end with this process, too."""
        await asyncio.to_thread(self.pool.close)

    def _prompt(self, rollout: Rollout) -> Prompt:
        if rollout.prompt not in self.prompts:
            raise RunFailed(f"reward-{self.rank} was given a response to prompt {rollout.prompt}, which is none of its {len(self.prompts)}")
        return self.prompts[rollout.prompt]

    def _score(self, slot: int, rollout: Rollout, grade: Grade) -> Score:
        punishment = overlong_punishment(len(rollout.tokens), self.cfg.rollout.max_tokens, self.cfg.reward.overlong_share)
        return Score(
            group=rollout.group,
            index=rollout.index,
            slot=slot,
            reward=grade.reward + punishment,
            accuracy=grade.accuracy,
            parts=grade.parts,
            error=grade.error,
            timed_out=grade.timed_out,
            prompt_tokens=len(rollout.prompt_tokens),
            response_tokens=len(rollout.tokens),
            truncated=rollout.truncated,
            version=rollout.version,
        )
