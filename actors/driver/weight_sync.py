"""Weight sync: learners publish weights, engines load them, and a probe (weight_probe.py) verifies the result. The Controller orders it.

The version rises by one at each update.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import ray

from actors.driver.weight_probe import Gap, Tolerance, WeightProbe
from actors.runtime.supervisor import ActorSlot, Supervisor, awaited
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.types import Prompt, WeightUpdate


@dataclass(frozen=True, slots=True)
class SyncResult:
    """The result of a weight sync."""

    seconds: float
    nbytes: int
    gap: Gap | None  # None without a probe

    def metrics(self) -> dict[str, float]:
        """Return the step's metrics of the weight sync."""
        probed = {} if self.gap is None else {"weights/probe_gap": self.gap.largest, "weights/probe_gap_mean": self.gap.mean}
        return {"time/sync_s": self.seconds, "weights/bytes": float(self.nbytes), **probed}


class WeightSync:
    """Brings each version of the weights from the learners to the engines."""

    def __init__(self, cfg: Config, supervisor: Supervisor, prompts: list[Prompt], tolerance: Tolerance, version: int = 0) -> None:
        self.cfg = cfg
        self.supervisor = supervisor
        self.version = version
        self._probe = WeightProbe(cfg, supervisor, prompts, tolerance)
        self._updates = 0
        self._lock = asyncio.Lock()
        self._repeated = -1  # version

    async def start(self) -> None:
        """Give every engine the learners' weights as the current version, so that both start from the same weights.

        With the canary (`weights.canary`), changed weights go before the right ones. Nothing may be sampled meanwhile.
        """
        await self._publish()
        if self._probe.has_canary:
            await self._probe.canary(self.version, self._publish)

    async def sync(self) -> SyncResult:
        """Bring the learners' new weights to every engine as the next version; probe after the first and every `weights.verify_every`."""
        begin = time.perf_counter()
        self.version += 1
        update = await self._publish()
        seconds = time.perf_counter() - begin
        self._updates += 1
        due = self._updates == 1 or self.version % self.cfg.weights.verify_every == 0
        return SyncResult(seconds, update.nbytes, await self.verify() if due else None)

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

    async def _publish(self, scale: float = 1.0) -> WeightUpdate:
        timeout_s = self.cfg.weights.timeout_s
        supervisor = self.supervisor
        async with self._lock:
            changed = () if scale == 1 else (scale,)
            calls = (supervisor.call(rank, "publish", self.version, *changed, timeout_s=timeout_s) for rank in supervisor.learners)
            published = await asyncio.gather(*calls)
            update = next(found for found in published if found is not None)
            supervisor.update = update
            await asyncio.gather(*(self._give(engine, update) for engine in supervisor.engines))
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

    async def verify(self) -> Gap:
        """Verify what the engines hold; see WeightProbe. Raises RunFailed, naming the engine and the check."""
        return await self._probe.verify(self.version)
