"""Rollouts of coming steps, begun while earlier steps are learned from: at most `train.max_staleness` steps ahead.

Steps are sampled one after the other. Step n may begin once step n - 1 - k has been learned from, so that the weights that sample it
are at most k versions older than those that it trains. With k = 0 no step begins before it is taken.
"""

import asyncio
from collections.abc import Awaitable, Callable

from uec.types import StepRollouts


class RolloutPrefetcher:
    """Holds the steps that were begun and not yet taken."""

    def __init__(self, sample: Callable[[int], Awaitable[StepRollouts]], max_staleness: int, last: Callable[[], int]) -> None:
        """`sample` runs a step's rollouts; `last` returns the last step that may begin."""
        self._sample = sample
        self._max_staleness = max_staleness
        self._last = last
        self._learned = 0
        self._begun: dict[int, asyncio.Future[StepRollouts]] = {}

    def __len__(self) -> int:
        return len(self._begun)

    async def take(self, step: int) -> StepRollouts:
        """Await the rollouts of `step`, the first step not learned from yet; re-raise an error of sampling."""
        self._learned = step - 1
        if step not in self._begun:
            self._begin(step)
        rollouts = await self._begun.pop(step)
        self._begin_next(step + 1)
        return rollouts

    def close(self) -> None:
        """Cancel the steps that were begun."""
        for rollouts in self._begun.values():
            rollouts.cancel()
        self._begun.clear()

    def _begin(self, step: int) -> None:
        rollouts = self._begun[step] = asyncio.ensure_future(self._sample(step))

        def ended(rollouts: asyncio.Future[StepRollouts]) -> None:
            if not rollouts.cancelled() and rollouts.exception() is None:
                self._begin_next(step + 1)

        rollouts.add_done_callback(ended)

    def _begin_next(self, step: int) -> None:
        """Begin a step if it is the next one and may begin."""
        allowed = step <= min(self._learned + 1 + self._max_staleness, self._last())
        if allowed and step > self._learned + 1 and not any(later >= step or not of.done() for later, of in self._begun.items()):
            self._begin(step)
