"""The weight exchange that the Controller orders: learners publish, engines take, and a probe proves it.

Versions rise by one at each publication. The probe scores fixed sequences by engine and learner: their log-probabilities
agree, or the run ends, naming the engine. (A checksum cannot do this: a stale packed copy of a tensor hides behind it.)
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from actors.runtime.supervisor import ActorSlot, Supervisor, awaited
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.system.platform import Platform
from uec.types import Continuation, Group, Logprobs, Prompt, Tokens, WeightUpdate

PROBE_SEQUENCES = 8
PROBE_TOKENS = 64
ATTEMPTS = 3  # at a group that is not stale
MARKS = 2  # tokens that a family puts on either side of an image, at most


def probe_sequences(prompts: list[Prompt], max_response: int) -> list[Continuation]:
    """Fixed sequences for the probe: each prompt is continued by the next one's text tokens, as far as a response may go.

    Where prompts have images, half of the probe has: a vision tower that was left behind shows in no text.
    """
    pictured = [prompt for prompt in prompts if prompt.images][: PROBE_SEQUENCES // 2]
    plain = [prompt for prompt in prompts if not prompt.images][: PROBE_SEQUENCES + 1 - len(pictured)]
    chosen = [*pictured, *plain]
    chosen = chosen if len(chosen) > 1 else chosen * 2
    return [
        Continuation(prompt.index, prompt.tokens if prompt.images else prompt.tokens[:PROBE_TOKENS], _text(following)[:max_response])
        for prompt, following in zip(chosen, chosen[1:], strict=False)
    ]


def _text(prompt: Prompt) -> Tokens:
    """The first tokens of a prompt outside its images and the marks on either side of each, which no response may hold."""
    is_text = np.ones(len(prompt.tokens), bool)
    for begin, end in prompt.spans:
        is_text[max(0, begin - MARKS) : end + MARKS] = False
    return prompt.tokens[is_text][:PROBE_TOKENS]


def gap(ours: list[Logprobs], theirs: list[Logprobs]) -> float:
    """Largest difference of two scorings, in nats; infinite where one is not finite."""
    difference = max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))
    return difference if np.isfinite(difference) else float("inf")


def tolerance(cfg: Config, platform: Platform) -> float:
    """`weights.tolerance`, or what the dtype's rounding allows: engine and learner compute the same in another order."""
    return cfg.weights.tolerance or (1e-3 if platform.dtype == "float32" else 0.5)


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What an exchange did."""

    seconds: float
    nbytes: int
    probe_gap: float | None  # nats, where a probe ran

    def metrics(self) -> dict[str, float]:
        """The step's figures of it."""
        probed = {} if self.probe_gap is None else {"weights/probe_gap": self.probe_gap}
        return {"time/sync_s": self.seconds, "weights/bytes": float(self.nbytes), **probed}


class WeightExchange:
    """Moves versions from the learners to the engines."""

    def __init__(self, cfg: Config, supervisor: Supervisor, prompts: list[Prompt], tolerance: float, version: int = 0) -> None:
        self.cfg = cfg
        self.supervisor = supervisor
        self.version = version
        self._tolerance = tolerance
        self._probe = probe_sequences(prompts, cfg.rollout.max_tokens)
        self._updates = 0
        self._exchanging = asyncio.Lock()
        self._repeated = -1  # version

    async def start(self) -> None:
        """Give every engine the learners' weights as the current version, so that both start from the same."""
        await self._publish()

    async def publish(self) -> Exchanged:
        """Bring the learners' new weights to every engine as the next version; probe the first and every `weights.verify_every`."""
        begin = time.perf_counter()
        self.version += 1
        publication = await self._publish()
        seconds = time.perf_counter() - begin
        self._updates += 1
        due = self._updates == 1 or self.version % self.cfg.weights.verify_every == 0
        return Exchanged(seconds, publication.nbytes, await self.verify() if due else None)

    async def fresh(self, sample: Callable[[], Awaitable[Group]]) -> Group:
        """A group that was sampled by weights at most `train.max_staleness` versions behind: an older one is refused, and asked for again.

        Raises RunFailed for a prompt that is answered with old weights again and again.
        """
        for _ in range(ATTEMPTS):
            group = await sample()
            oldest = min(trajectory.score.version for trajectory in group.trajectories)
            if self.version - oldest <= self.cfg.train.max_staleness:
                return group
            self.supervisor.tracker.event(
                f"prompt {group.request.prompt} was answered with weight version {oldest}, current is {self.version} "
                f"(train.max_staleness={self.cfg.train.max_staleness}): refused, and asked for again"
            )
            await self._repeat()
        raise RunFailed(
            f"prompt {group.request.prompt} was answered {ATTEMPTS} times with old weights, version {oldest}, current is {self.version} "
            f"(train.max_staleness={self.cfg.train.max_staleness}): an engine misses updates, its responses must not be trained on"
        )

    async def _repeat(self) -> None:
        """Bring the current weights to every engine once more: one of them missed an update."""
        async with self._exchanging:
            publication = self.supervisor.publication
            if publication is not None and self._repeated != publication.version:
                self._repeated = publication.version
                await asyncio.gather(*(self._give(engine, publication) for engine in self.supervisor.engines))

    async def _publish(self) -> WeightUpdate:
        async with self._exchanging:
            return await self._publish_alone()

    async def _publish_alone(self) -> WeightUpdate:
        timeout_s = self.cfg.weights.timeout_s
        supervisor = self.supervisor
        calls = (supervisor.call(rank, "publish", self.version, timeout_s=timeout_s) for rank in supervisor.learners)
        published = await asyncio.gather(*calls)
        publication = next(found for found in published if found is not None)
        supervisor.publication = publication
        await asyncio.gather(*(self._give(engine, publication) for engine in supervisor.engines))
        return publication

    async def _give(self, engine: ActorSlot, publication: WeightUpdate) -> None:
        """An engine that fails on the way is replaced, and the new one starts from this publication."""
        handle: Any = engine.handle
        try:
            await asyncio.wait_for(awaited(handle.update_weights.remote(publication)), self.cfg.weights.timeout_s)
        except TimeoutError as error:
            raise RunFailed(
                f"{engine.name} did not take weight version {publication.version} within "
                f"weights.timeout_s={self.cfg.weights.timeout_s:g} s; see {self.supervisor.logs / engine.name}.log, or raise the timeout"
            ) from error
        except ray.exceptions.RayError as error:
            await self.supervisor.revive(engine, handle, error)

    async def verify(self) -> float:
        """The probe: the largest gap of all engines, in nats. Raises RunFailed, naming the engine, beyond the tolerance."""
        supervisor = self.supervisor
        images = await supervisor.images.references(sequence.prompt for sequence in self._probe)
        learned = await asyncio.gather(*(supervisor.call(rank, "score", self._probe, *images) for rank in supervisor.learners))
        expected, _ = learned[0]
        scored = await asyncio.gather(*(supervisor.call(engine, "score", self._probe, *images) for engine in supervisor.engines))
        gaps = [gap(logprobs, expected) for logprobs in scored]
        for engine, found in zip(supervisor.engines, gaps, strict=True):
            if found > self._tolerance:
                raise RunFailed(
                    f"{engine.name} does not hold the learner's weights: after version {self.version} its log-probabilities on the "
                    f"probe batch are off by {found:.3g} nats (weights.tolerance={self._tolerance:g}). "
                    "Its weights are stale or damaged, none of its rollouts is to be trusted."
                )
        return max(gaps)
