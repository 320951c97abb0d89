"""Engines and learners that share GPUs take turns with the memory (cluster.placement=colocated, rollout.sleep, learner.offload).

    learners' turn    engines sleep; learners hold all their states
    weight sync       engines wake their weights and load the update; learners still hold theirs
    engines' turn     learners have moved their states to host memory; engines have their KV cache again

Each method does nothing where it is that turn already, or where nothing is shared.
"""

import asyncio

from actors.runtime.slots import ActorSlot
from actors.runtime.supervisor import Supervisor
from uec.config.schema import Config


class DeviceTurns:
    """The current turn, and the changes between turns. Engines of `rollout.sleep` start asleep, so the first turn is the learners'."""

    def __init__(self, cfg: Config, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.level = cfg.rollout.sleep
        self.timeout_s = cfg.weights.timeout_s
        self._offloads = self.level > 0 or cfg.learner.offload != "none"  # without states to move, a learner frees cached memory
        self._asleep = self.level > 0
        self._offloaded = False
        self._lock = asyncio.Lock()

    @property
    def of_engines(self) -> bool:
        """Whether it is the engines' turn, so that they can sample."""
        return not self._asleep and self._offloaded == self._offloads

    @property
    def weights_lost(self) -> bool:
        """Whether engines have dropped their weights (rollout.sleep=2) since the last weight sync."""
        return self.level == 2 and self._asleep

    async def to_learners(self) -> None:
        """Let every engine sleep, then bring the learners' states back. No request is running."""
        async with self._lock:
            if self.level and not self._asleep:
                self._asleep = True
                await self._all(self.supervisor.engines, "sleep")
            if self._offloaded:
                self._offloaded = False
                await self._all(self.supervisor.learners, "reload")

    async def to_sync(self) -> None:
        """Bring the learners' states back, then wake the engines' weights, without the KV cache."""
        await self.to_learners()
        if self.level:
            await self._all(self.supervisor.engines, "wake", "weights")

    async def to_engines(self) -> None:
        """Move the learners' states to host memory, then wake the engines' KV cache. Follows `to_sync`."""
        async with self._lock:
            if self._offloads and not self._offloaded:
                self._offloaded = True
                await self._all(self.supervisor.learners, "offload")
            if self._asleep:
                await self._all(self.supervisor.engines, "wake", "kv_cache")
                self._asleep = False

    async def _all(self, slots: list[ActorSlot], method: str, *args: str) -> None:
        await asyncio.gather(*(self.supervisor.call(slot, method, *args, timeout_s=self.timeout_s) for slot in slots))
