"""Weight sync: learners publish weights, engines load them, and a probe verifies the result. The Controller orders it.

The version rises by one at each update. The probe compares log-probabilities of fixed sequences between engine and learner; if they
differ, the run ends with the engine's name. A checksum cannot replace the probe, because it does not see a stale packed copy of a tensor.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import ray

from actors.runtime.supervisor import ActorSlot, Supervisor, awaited
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.system.platform import Platform
from uec.types import Continuation, Logprobs, Prompt, Tokens, WeightUpdate

PROBE_SEQUENCES = 8
PROBE_TOKENS = 64
FIRST_WAKES = 5  # updates that a probe follows where engines sleep: public trackers report wrong weights after a wake
MARKS = 2  # most tokens that a model family puts on either side of an image


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


def gap(ours: list[Logprobs], theirs: list[Logprobs]) -> float:
    """Return the largest difference of two lists of log-probabilities, in nats; infinite where one is not finite."""
    difference = max(float(np.abs(a - b).max()) for a, b in zip(ours, theirs, strict=True))
    return difference if np.isfinite(difference) else float("inf")


def tolerance(cfg: Config, platform: Platform) -> float:
    """Return `weights.tolerance`, or else the rounding error of the dtype: engine and learner add in different orders."""
    return cfg.weights.tolerance or (1e-3 if platform.dtype == "float32" else 0.5)


@dataclass(frozen=True, slots=True)
class SyncResult:
    """The result of a weight sync."""

    seconds: float
    nbytes: int
    probe_gap: float | None  # nats; None without a probe

    def metrics(self) -> dict[str, float]:
        """Return the step's metrics of the weight sync."""
        probed = {} if self.probe_gap is None else {"weights/probe_gap": self.probe_gap}
        return {"time/sync_s": self.seconds, "weights/bytes": float(self.nbytes), **probed}


class WeightSync:
    """Brings each version of the weights from the learners to the engines."""

    def __init__(self, cfg: Config, supervisor: Supervisor, prompts: list[Prompt], tolerance: float, version: int = 0) -> None:
        self.cfg = cfg
        self.supervisor = supervisor
        self.version = version
        self._tolerance = tolerance
        self._probe = probe_sequences(prompts, cfg.rollout.max_tokens)
        self._updates = 0
        self._lock = asyncio.Lock()
        self._repeated = -1  # version

    async def start(self) -> None:
        """Give every engine the learners' weights as the current version, so that both start from the same weights."""
        await self._publish()

    async def sync(self) -> SyncResult:
        """Bring the learners' new weights to every engine as the next version; probe after the first and every `weights.verify_every`."""
        begin = time.perf_counter()
        self.version += 1
        self._updates += 1
        wakes = FIRST_WAKES if self.cfg.rollout.sleep else 1
        due = self._updates <= wakes or self.version % self.cfg.weights.verify_every == 0
        update = await self._publish()
        seconds = time.perf_counter() - begin
        return SyncResult(seconds, update.nbytes, await self.verify() if due else None)

    async def give_back(self) -> None:
        """Give shared GPUs back to the engines with the current weights, where the learners had them for something without an update."""
        turns = self.supervisor.turns
        if turns.of_engines:
            return
        if turns.weights_lost:
            await self._publish()
        else:
            await turns.to_sync()
            await turns.to_engines()

    def state(self) -> dict[str, int]:
        """Return what a checkpoint holds, as JSON."""
        return {"version": self.version}

    def load(self, state: dict[str, int]) -> None:
        """Continue from `state()`."""
        self.version = state["version"]

    async def repeat(self) -> None:
        """Bring the current weights to every engine once more, because one of them missed an update."""
        async with self._lock:
            update = self.supervisor.update
            if update is not None and self._repeated != update.version:
                self._repeated = update.version
                await asyncio.gather(*(self._give(engine, update) for engine in self.supervisor.engines))

    async def _publish(self) -> WeightUpdate:
        timeout_s = self.cfg.weights.timeout_s
        supervisor = self.supervisor
        async with self._lock:
            await supervisor.turns.to_sync()
            calls = (supervisor.call(rank, "publish", self.version, timeout_s=timeout_s) for rank in supervisor.learners)
            published = await asyncio.gather(*calls)
            update = next(found for found in published if found is not None)
            supervisor.update = update
            await asyncio.gather(*(self._give(engine, update) for engine in supervisor.engines))
            await supervisor.turns.to_engines()
        return update

    async def _give(self, engine: ActorSlot, update: WeightUpdate) -> None:
        """Have an engine load an update. One that fails meanwhile is replaced, and the new one starts from this update."""
        handle: Any = engine.handle
        try:
            await asyncio.wait_for(awaited(handle.update_weights.remote(update)), self.cfg.weights.timeout_s)
        except TimeoutError as error:
            raise RunFailed(
                f"{engine.name} did not take weight version {update.version} within "
                f"weights.timeout_s={self.cfg.weights.timeout_s:g} s; see {self.supervisor.logs / engine.name}.log, or raise the timeout"
            ) from error
        except ray.exceptions.RayError as error:
            await self.supervisor.revive(engine, handle, error)

    async def verify(self) -> float:
        """Run the probe and return the largest gap of all engines, in nats. Raises RunFailed, naming the engine, beyond the tolerance."""
        supervisor = self.supervisor
        images = await supervisor.images.references(sequence.prompt for sequence in self._probe)
        learned = await asyncio.gather(*(supervisor.call(rank, "logprobs", self._probe, *images) for rank in supervisor.learners))
        expected, _ = learned[0]
        answers = await asyncio.gather(*(supervisor.call(engine, "logprobs", self._probe, *images) for engine in supervisor.engines))
        gaps = [gap(logprobs, expected) for logprobs in answers]
        for engine, found in zip(supervisor.engines, gaps, strict=True):
            if found > self._tolerance:
                raise RunFailed(
                    f"{engine.name} does not hold the learner's weights: after version {self.version} its log-probabilities on the "
                    f"probe batch are off by {found:.3g} nats (weights.tolerance={self._tolerance:g}). "
                    "Its weights are stale or damaged, none of its rollouts is to be trusted."
                )
        return max(gaps)
