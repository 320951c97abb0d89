"""Stand-ins for a RolloutActor and a DifficultyActor that only wait: no model, no sampling.

The stand-in takes the time of a GPU's engine: a decode step takes the same time for any batch, so a response takes its length in
steps; `rollout.max_num_seqs` responses run at once, and the next starts when one ends; weights are loaded between two steps. Lengths
are log-normal, many short and a few very long, as those of reasoning models. It imports nothing heavy: many fit on one machine.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from heapq import heapreplace
from operator import itemgetter

import numpy as np

from uec.config.schema import Config
from uec.system.platform import sequences
from uec.types import Continuation, Kind, Logprobs, Outcome, Prompt, Request, ScheduleState, Trajectory, Verdict, WeightUpdate

RESPONSE_BATCH_INTERVAL_S = 0.02  # as RolloutActor's
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
    """Return the tokens of each response: the same for all requests of a prompt and a kind."""
    first = (2 * request.prompt + (request.kind is Kind.EXPLORATION)) * request.n % (len(DRAWS_N) - request.n)
    lengths = skew.median * np.exp(skew.sigma * DRAWS_N[first : first + request.n])
    return np.clip(lengths.astype(int), 1, longest).tolist()


class SimulatedEngine:
    """Takes the place of a RolloutActor."""

    def __init__(self, cfg: Config, rank: int, skew: Skew = SKEW) -> None:
        self._skew = skew
        self._longest = cfg.rollout.max_tokens
        self._free_at = [0.0] * sequences(cfg)  # a heap: when each slot of the batch is free
        self._tokens = np.zeros(self._longest, np.int32)
        self._logprobs = np.zeros(self._longest, np.float32)
        self._version = 0

    async def start(self, prompts: list[Prompt]) -> dict[str, float]:
        self._prompts = {prompt.index: prompt for prompt in prompts}
        return {}

    async def update_weights(self, update: WeightUpdate) -> None:
        self._version = update.version

    async def logprobs(self, continuations: list[Continuation]) -> list[Logprobs]:
        """Return what SimulatedLearner returns."""
        return [np.zeros(len(one.tokens), np.float32) for one in continuations]

    async def generate(self, requests: list[Request]) -> AsyncIterator[list[Trajectory]]:
        """Yield each response when its time has come; those that come within RESPONSE_BATCH_INTERVAL_S in one response batch."""
        due = self._due(requests)
        sent, last = 0, float("-inf")
        while sent < len(due):
            wake = max(due[sent][0], min(last + RESPONSE_BATCH_INTERVAL_S, due[-1][0]))
            await asyncio.sleep(max(0.0, wake - time.perf_counter()))
            last, first = time.perf_counter(), sent
            while sent < len(due) and due[sent][0] <= max(wake, last):
                sent += 1
            yield [trajectory for _, trajectory in due[first:sent]]

    def _due(self, requests: list[Request]) -> list[tuple[float, Trajectory]]:
        """Return every response with the time at which it ends, in that order; the engine starts them in the order of requests."""
        now = time.perf_counter()
        due = []
        for request in requests:
            for index, length in enumerate(response_lengths(request, self._longest, self._skew)):
                end = max(now, self._free_at[0]) + self._skew.step_s * length
                heapreplace(self._free_at, end)
                due.append((end, self._trajectory(request, index, length)))
        return sorted(due, key=itemgetter(0))

    def _trajectory(self, request: Request, index: int, length: int) -> Trajectory:
        return Trajectory(
            group=request.group,
            index=index,
            prompt=request.prompt,
            kind=request.kind,
            temperature=request.temperature,
            prompt_tokens=self._prompts[request.prompt].tokens,
            tokens=self._tokens[:length],
            logprobs=self._logprobs[:length],
            truncated=length == self._longest,
            versions=(self._version,),
        )


class FixedDifficulty:
    """Takes the place of the DifficultyActor: the stand-in's responses are all wrong, but only every third prompt is difficult."""

    def __init__(self, cfg: Config) -> None:
        self._exploration = cfg.exploration

    def start(self, replaces: bool) -> None: ...

    def classify(self, outcomes: list[Outcome], state: ScheduleState, call: int | None = None) -> list[Verdict]:
        return [
            Verdict(
                outcome.kind is Kind.REGULAR and outcome.prompt % DIFFICULT_EVERY == 0, self._exploration.n, self._exploration.temperature
            )
            for outcome in outcomes
        ]
