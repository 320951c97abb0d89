"""A stand-in for a vLLM engine that injects latencies, and one for the judge: no model, no sampling, only time.

It is what a GPU's engine looks like from outside: a decoding step takes the same time whatever the batch, so a response takes
its length in steps; `rollout.max_num_seqs` responses are at work at once, the next starts when one ends; and weights are taken between two
steps. Lengths are log-normal, many short and a few very long, as those of reasoning models are. Imports nothing heavy: many of them fit
on one machine.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from heapq import heapreplace
from operator import itemgetter

import numpy as np

from uec.config.schema import Config
from uec.types import Continuation, Kind, Logprobs, Outcome, Progress, Prompt, Request, Rollout, Verdict, WeightUpdate

BUNDLE_INTERVAL_S = 0.02  # as RolloutActor's
DIFFICULT_EVERY = 3  # prompts: about the share of the default task


@dataclass(frozen=True, slots=True)
class Skew:
    """How long responses take."""

    step_s: float  # of decoding
    median: float  # tokens
    sigma: float  # of the length's logarithm


STEP_S = 0.002
SKEW = Skew(STEP_S, 20.0, 1.2)  # mean 41 tokens; one response in a hundred is longer than 320


LENGTHS, LONGEST = Skew(0.0, 400.0, 0.6), 4096
"""Of `uec bench scale`: 480 tokens on average, one response in seventeen thousand is cut off."""

DRAWS_N = np.random.default_rng(0).standard_normal(1 << 18)


def response_lengths(request: Request, longest: int, skew: Skew = SKEW) -> list[int]:
    """Tokens of each response: the same whenever a prompt is asked for the same kind."""
    first = (2 * request.prompt + (request.kind is Kind.EXPLORATION)) * request.n % (len(DRAWS_N) - request.n)
    lengths = skew.median * np.exp(skew.sigma * DRAWS_N[first : first + request.n])
    return np.clip(lengths.astype(int), 1, longest).tolist()


class LateEngine:
    """Stands on a RolloutActor's post."""

    def __init__(self, cfg: Config, rank: int, skew: Skew = SKEW) -> None:
        self._skew = skew
        self._longest = cfg.rollout.max_tokens
        self._free_at = [0.0] * cfg.rollout.max_num_seqs  # a heap: when each place in the batch is free
        self._tokens = np.zeros(self._longest, np.int32)
        self._logprobs = np.zeros(self._longest, np.float32)
        self._version = 0

    async def start(self, prompts: list[Prompt]) -> dict[str, float]:
        self._prompts = {prompt.index: prompt for prompt in prompts}
        return {}

    async def update_weights(self, publication: WeightUpdate) -> None:
        self._version = publication.version

    async def score(self, sequences: list[Continuation]) -> list[Logprobs]:
        """Agrees with LateLearner's."""
        return [np.zeros(len(one.tokens), np.float32) for one in sequences]

    async def generate(self, requests: list[Request]) -> AsyncIterator[list[Rollout]]:
        """Each response when its time has come; those that come within BUNDLE_INTERVAL_S in one bundle."""
        due = self._due(requests)
        sent, last = 0, float("-inf")
        while sent < len(due):
            wake = max(due[sent][0], min(last + BUNDLE_INTERVAL_S, due[-1][0]))
            await asyncio.sleep(max(0.0, wake - time.perf_counter()))
            last, first = time.perf_counter(), sent
            while sent < len(due) and due[sent][0] <= max(wake, last):
                sent += 1
            yield [rollout for _, rollout in due[first:sent]]

    def _due(self, requests: list[Request]) -> list[tuple[float, Rollout]]:
        """Every response with the time at which it ends, in that order; the engine starts them as they come."""
        now = time.perf_counter()
        due = []
        for request in requests:
            for index, length in enumerate(response_lengths(request, self._longest, self._skew)):
                end = max(now, self._free_at[0]) + self._skew.step_s * length
                heapreplace(self._free_at, end)
                due.append((end, self._rollout(request, index, length)))
        return sorted(due, key=itemgetter(0))

    def _rollout(self, request: Request, index: int, length: int) -> Rollout:
        return Rollout(
            group=request.group,
            index=index,
            prompt=request.prompt,
            kind=request.kind,
            temperature=request.temperature,
            prompt_tokens=self._prompts[request.prompt].tokens,
            tokens=self._tokens[:length],
            logprobs=self._logprobs[:length],
            truncated=length == self._longest,
            version=self._version,
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
