"""A stand-in for a vLLM engine that injects latencies, and one for the judge: no model, no sampling, only time.

It is what a GPU's engine looks like from outside: a decoding step takes the same time whatever the batch, so a response takes
its length in steps. Lengths are log-normal, many short and a few very long, as those of reasoning models are.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from operator import itemgetter

import numpy as np

from uec.config import Config
from uec.types import Kind, Outcome, Progress, Prompt, Request, Rollout, Verdict

STEP_S = 0.002  # of decoding
MEDIAN_LENGTH, SIGMA = 20.0, 1.2  # mean 41; one response in a hundred is longer than 320
DIFFICULT_EVERY = 3  # prompts: about the share of the default task


def response_lengths(request: Request, longest: int) -> list[int]:
    """Tokens of each response: the same whenever a prompt is asked for the same kind."""
    rng = np.random.default_rng([request.prompt, request.kind is Kind.EXPLORATION])
    lengths = MEDIAN_LENGTH * np.exp(SIGMA * rng.standard_normal(request.n))
    return np.clip(lengths.astype(int), 1, longest).tolist()


class LateEngine:
    """Stands on a RolloutActor's post."""

    def __init__(self, cfg: Config, rank: int) -> None:
        self._longest = cfg.rollout.max_tokens

    async def start(self, prompts: list[Prompt]) -> dict[str, float]:
        self._prompts = {prompt.index: prompt for prompt in prompts}
        return {}

    async def generate(self, requests: list[Request]) -> AsyncIterator[list[Rollout]]:
        """Each response when its time has come; those that have come together in one bundle."""
        begin = time.perf_counter()
        due = sorted(
            (
                (begin + STEP_S * length, request, i, length)
                for request in requests
                for i, length in enumerate(response_lengths(request, self._longest))
            ),
            key=itemgetter(0),
        )
        while due:
            await asyncio.sleep(max(0.0, due[0][0] - time.perf_counter()))
            now = time.perf_counter()
            ripe = [self._rollout(request, i, length) for when, request, i, length in due if when <= now]
            due = due[len(ripe) :]
            yield ripe

    def _rollout(self, request: Request, index: int, length: int) -> Rollout:
        return Rollout(
            group=request.group,
            index=index,
            prompt=request.prompt,
            kind=request.kind,
            temperature=request.temperature,
            prompt_tokens=self._prompts[request.prompt].tokens,
            tokens=np.zeros(length, np.int32),
            logprobs=np.zeros(length, np.float32),
            truncated=length == self._longest,
            version=0,
        )


class FixedJudge:
    """Stands on the DifficultyActor's post: the stand-in's responses are all wrong, and yet not every prompt shall be difficult."""

    def __init__(self, cfg: Config) -> None:
        self._exploration = cfg.exploration

    def classify(self, outcomes: list[Outcome], progress: Progress) -> list[Verdict]:
        return [
            Verdict(
                outcome.kind is Kind.REGULAR and outcome.prompt % DIFFICULT_EVERY == 0, self._exploration.n, self._exploration.temperature
            )
            for outcome in outcomes
        ]
