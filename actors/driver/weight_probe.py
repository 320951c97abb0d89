"""The verification of a weight sync: do the engines compute what the learner computes, and did their weights follow the learner's?

Three checks answer this, and a failure says which of them failed:

- the gap: log-probabilities of fixed sequences, engine against learner. It shows weights that are wrong, and a stale packed copy of a
  tensor, which no checksum sees. In half precision, rounding alone moves single tokens by half a nat, so the mean is judged.
- the checksum: a digest of what each engine holds, against the other engines' and against the one before. It shows weights that are
  stale by a difference too small for the gap.
- the canary: at the start, changed weights that the engines' log-probabilities have to follow, and then the right ones again.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import reduce
from typing import Any

import numpy as np

from actors.runtime.supervisor import Supervisor
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.models.logprob_gap import Gap, Tolerance
from uec.types import Continuation, Logprobs, Prompt, Tokens

PROBE_SEQUENCES = 8
PROBE_TOKENS = 64
MARKS = 2  # most tokens that a model family puts on either side of an image
CANARY_SCALE = 1.1  # factor of every tensor: scaled twice, the logits alone move by a fifth
CANARY_CLEARLY = 4.0  # how much more the canary moves an engine than the return to the right weights leaves
CANARY_LEAST = 1e-4  # nats


def probe_sequences(prompts: list[Prompt], max_response: int) -> list[Continuation]:
    """Make fixed sequences for the probe: each prompt continued by the next one's text tokens, up to the length of a response.

    If prompts have images, half of the probe has images, because text alone would not show a stale vision tower.
    """
    with_images = [prompt for prompt in prompts if prompt.images][: PROBE_SEQUENCES // 2]
    text_only = [prompt for prompt in prompts if not prompt.images][: PROBE_SEQUENCES + 1 - len(with_images)]
    chosen = [*with_images, *text_only]
    chosen = chosen if len(chosen) > 1 else chosen * 2
    return [
        Continuation(prompt.index, prompt.tokens if prompt.images else prompt.tokens[:PROBE_TOKENS], _text(following)[:max_response])
        for prompt, following in zip(chosen, chosen[1:], strict=False)
    ]


def _text(prompt: Prompt) -> Tokens:
    """Return the first tokens of a prompt without its images and the marks beside them, which no response may contain."""
    is_text = np.ones(len(prompt.tokens), bool)
    for begin, end in prompt.spans:
        is_text[max(0, begin - MARKS) : end + MARKS] = False
    return prompt.tokens[is_text][:PROBE_TOKENS]


@dataclass(frozen=True, slots=True)
class Expected:
    """What the learner holds: log-probabilities of the probe's sequences, and a digest of its weights where the update has none."""

    logprobs: list[Logprobs]
    digest: str = ""


class WeightProbe:
    """Runs the three checks on the engines of a run."""

    def __init__(self, cfg: Config, supervisor: Supervisor, prompts: list[Prompt], tolerance: Tolerance) -> None:
        self.supervisor = supervisor
        self.tolerance = tolerance
        self.has_canary = cfg.weights.canary == "always" or (cfg.weights.canary == "auto" and tolerance.half_precision)
        self._sequences = probe_sequences(prompts, cfg.rollout.max_tokens)
        self._verified: tuple[str, str] | None = None  # digests of the last verification: the learner's, the engines'

    async def expect(self) -> Expected:
        """Return what engines have to hold. On shared GPUs it must be the learners' turn."""
        images, learners, update = await self._images(), self.supervisor.learners, self.supervisor.update
        learned = await asyncio.gather(*(self.supervisor.call(rank, "logprobs", self._sequences, *images) for rank in learners))
        logprobs, _ = learned[0]
        if update is None or update.digest:  # the next update has one, too
            return Expected(logprobs)
        return Expected(logprobs, (await asyncio.gather(*(self.supervisor.call(rank, "digest") for rank in learners)))[0])

    async def verify(self, version: int, expected: Expected) -> Gap:
        """Return the mean and the largest gap, each of the engine that is furthest off. Raises RunFailed, naming engine and check."""
        update = self.supervisor.update
        await self._compare_checksums(version, expected.digest if update is None else update.digest or expected.digest)
        gaps = [Gap.of(logprobs, expected.logprobs) for logprobs in await self._logprobs(await self._images())]
        for engine, found in zip(self.supervisor.engines, gaps, strict=True):
            self._judge(engine.name, version, found)
        return reduce(Gap.or_worse, gaps)

    async def canary(self, version: int, publish: Callable[[float], Awaitable[object]]) -> None:
        """Publish changed weights and the right ones again; the engines have to follow both times. They hold the right ones before.

        `publish`: publishes every tensor times a factor. Raises RunFailed, naming the engine.
        """
        images = await self._images()
        before, held = await self._logprobs(images), await self._checksums()
        await publish(CANARY_SCALE)
        changed = await self._logprobs(images)
        await publish(1.0)
        after, again = await self._logprobs(images), await self._checksums()
        for i, engine in enumerate(self.supervisor.engines):
            moved, left = Gap.of(changed[i], before[i]).mean, Gap.of(after[i], before[i]).mean
            if not moved > CANARY_CLEARLY * max(left, CANARY_LEAST):
                raise RunFailed(
                    f"canary: {engine.name} does not follow a weight update: weights times {CANARY_SCALE:g} moved its log-probabilities by "
                    f"{moved:.3g} nats on average, and the right ones again (version {version}) left {left:.3g}. Updates do not reach its "
                    "model; see its log. weights.canary=never skips this check."
                )
            if left > self.tolerance.mean or held[i] != again[i]:
                raise RunFailed(
                    f"canary: {engine.name} does not come back to the right weights (version {version}): its log-probabilities are off by "
                    f"{left:.3g} nats on average (weights.tolerance={self.tolerance.mean:g}), its checksum was {held[i][:12] or 'unknown'} "
                    f"and is {again[i][:12] or 'unknown'}. A part of an update does not arrive; report it with its log."
                )

    async def _images(self) -> list[Any]:
        return await self.supervisor.images.references(sequence.prompt for sequence in self._sequences)

    async def _logprobs(self, images: list[Any]) -> list[list[Logprobs]]:
        calls = (self.supervisor.call(engine, "logprobs", self._sequences, *images) for engine in self.supervisor.engines)
        return list(await asyncio.gather(*calls))

    async def _checksums(self) -> list[str]:
        return list(await asyncio.gather(*(self.supervisor.call(engine, "checksum") for engine in self.supervisor.engines)))

    async def _compare_checksums(self, version: int, published: str) -> None:
        """Raise RunFailed if the engines hold different weights, or the ones of the last verification though the learner's changed.

        `published`: the digest of the learner's weights; "" if it is unknown.
        """
        checksums = await self._checksums()
        if not all(checksums):
            return  # an engine cannot read all its weights; its kernels are then exact enough for the gap
        engines = self.supervisor.engines
        if len(set(checksums)) > 1:
            found = ", ".join(f"{engine.name} {checksum[:12]}" for engine, checksum in zip(engines, checksums, strict=True))
            raise RunFailed(
                f"checksum: the engines hold different weights after version {version}: {found}. An update was lost or damaged on its way "
                "to some of them. Resume from a checkpoint before the last successful probe, and report it with their logs."
            )
        if published and self._verified is not None and self._verified[0] != published and self._verified[1] == checksums[0]:
            raise RunFailed(
                f"checksum: the engines hold old weights: the learner's changed since the last probe, and version {version} left those of "
                f"every engine as they were (checksum {checksums[0][:12]}). Resume from a checkpoint before the last successful probe, "
                "and report it with the engines' logs."
            )
        self._verified = (published, checksums[0]) if published else None

    def _judge(self, name: str, version: int, found: Gap) -> None:
        """Raise RunFailed if an engine's gap is beyond the tolerance."""
        limits = self.tolerance
        if found.mean > limits.mean:
            raise RunFailed(
                f"gap: {name} does not hold the learner's weights: after version {version} its log-probabilities on the probe batch are "
                f"off by {found.mean:.3g} nats on average (weights.tolerance={limits.mean:g}). Its weights are stale or damaged, or it "
                f"computes another model. None of its rollouts is to be trusted."
            )
        if found.largest > limits.largest:
            raise RunFailed(
                f"gap: {name} does not hold the learner's weights: after version {version} its log-probability of one token of the probe "
                f"batch is off by {found.largest:.3g} nats (weights.max_gap={limits.largest:g}), by {found.mean:.3g} on average. "
                f"Its weights are damaged in part. None of its rollouts is to be trusted."
            )
