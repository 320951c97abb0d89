"""Weight sync: learners publish weights, engines load them, and a probe (weight_probe.py) verifies the result. The Controller orders it.

The version rises by one at each update.

Under nccl and ipc the learners send an update once, to all engines together. An engine that was replaced therefore gets its weights by
another update of all engines, for which engines and learners meet anew. If one dies within an update, the others may wait for it
without end: they are replaced, too.
"""

import asyncio
import time
from dataclasses import dataclass
from typing import Any

import ray

from actors.driver.weight_probe import WeightProbe
from actors.runtime.slots import ActorSlot
from actors.runtime.supervisor import Supervisor, awaited
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.models.logprob_gap import Gap, Tolerance
from uec.types import Prompt, WeightUpdate

FIRST_WAKES = 5  # updates that a probe follows where engines sleep: public trackers report wrong weights after a wake
GRACE_S = 10.0  # for the other engines, after one failed within an update


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
        supervisor.bring_weights = self._bring

    async def start(self) -> None:
        """Give every engine the learners' weights as the current version, so that both start from the same weights.

        With the canary (`weights.canary`), changed weights go before the right ones. Nothing may be sampled meanwhile.
        """
        await self._publish()
        if self._probe.has_canary:
            await self._probe.canary(self.version, self._publish)

    async def sync(self) -> SyncResult:
        """Bring the learners' new weights to every engine as the next version; probe after the first and every `weights.verify_every`."""
        self._updates += 1
        due = self._updates <= (FIRST_WAKES if self.cfg.rollout.sleep else 1) or (self.version + 1) % self.cfg.weights.verify_every == 0
        expected = await self._probe.expect() if due else None
        begin = time.perf_counter()
        update = await self._publish(step=1)
        seconds = time.perf_counter() - begin
        return SyncResult(seconds, update.nbytes, None if expected is None else await self._probe.verify(self.version, expected))

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
                if update.is_kept:
                    await asyncio.gather(*(self._give(engine, update) for engine in self.supervisor.engines))
                else:
                    update = await self._send_in_turn(again=True)
                self._repeated = update.version

    async def _bring(self) -> None:
        """Give replaced engines their weights, if nobody did so meanwhile."""
        async with self._lock:
            if self.supervisor.weightless:
                await self._send_in_turn(again=True)

    async def _publish(self, scale: float = 1.0, step: int = 0) -> WeightUpdate:
        async with self._lock:
            self.version += step
            return await self._send_in_turn(scale)

    async def _send_in_turn(self, scale: float = 1.0, again: bool = False) -> WeightUpdate:
        """Send an update when engines and learners both have their weights on shared GPUs; then it is the engines' turn."""
        await self.supervisor.turns.to_sync()
        update = await self._send(scale, again)
        await self.supervisor.turns.to_engines()
        return update

    async def _send(self, scale: float = 1.0, again: bool = False) -> WeightUpdate:
        """Have the learners publish and every engine load the update; repeat it with those that replace engines which fail meanwhile."""
        supervisor, timeout_s = self.supervisor, self.cfg.weights.timeout_s
        while True:
            if supervisor.update is not None and not supervisor.update.is_kept:
                await asyncio.gather(*(self._replace_if_dead(engine) for engine in supervisor.engines))
            regroup = bool(supervisor.weightless)
            options = (scale, regroup, again) if regroup or again or scale != 1 else ()
            calls = (supervisor.call(rank, "publish", self.version, *options, timeout_s=timeout_s) for rank in supervisor.learners)
            update = next(found for found in await asyncio.gather(*calls) if found is not None)
            supervisor.update = update
            self.version = update.version
            if update.is_kept:
                await asyncio.gather(*(self._give(engine, update) for engine in supervisor.engines))
                supervisor.weightless.clear()
                return update
            supervisor.weightless.clear()
            await self._give_together(update)
            if not supervisor.weightless:
                return update
            supervisor.tracker.event(f"weight version {update.version} is sent again: engines and learners meet anew")

    async def _give(self, engine: ActorSlot, update: WeightUpdate) -> None:
        """Have an engine load an update. One that fails or hangs meanwhile is replaced, and the new one is asked, too."""
        while True:
            handle: Any = engine.handle
            try:
                await asyncio.wait_for(awaited(handle.update_weights.remote(update)), self.cfg.weights.timeout_s)
                return
            except TimeoutError:
                await self.supervisor.revive(engine, handle, self._late(engine, update.version))
            except ray.exceptions.RayError as error:
                await self.supervisor.revive(engine, handle, error)

    async def _give_together(self, update: WeightUpdate) -> None:
        """Have all engines load an update that is sent once. Where one fails, replace it and those that wait for it."""
        engines: dict[asyncio.Future[Any], tuple[ActorSlot, Any]] = {}
        for engine in self.supervisor.engines:
            handle: Any = engine.handle
            engines[asyncio.ensure_future(awaited(handle.update_weights.remote(update)))] = engine, handle
        done, pending = await asyncio.wait(engines, timeout=self.cfg.weights.timeout_s, return_when=asyncio.FIRST_EXCEPTION)
        if pending and all(task.exception() is None for task in done):
            raise self._late(engines[min(pending, key=lambda task: engines[task][0].name)][0], update.version)
        if pending:
            await asyncio.wait(pending, timeout=GRACE_S)
        lost = []
        for task, (engine, handle) in engines.items():
            error = task.exception() if task.done() else RunFailed("it waited within a weight update for an engine that failed")
            if error is not None and not isinstance(error, (ray.exceptions.RayError, RunFailed)):
                raise error
            if error is not None:
                task.cancel()
                lost.append(self.supervisor.replace(engine, handle, error))
        await asyncio.gather(*lost)

    async def _replace_if_dead(self, engine: ActorSlot) -> None:
        """Replace an engine that died unnoticed, for which the others would wait."""
        async with engine.lock:  # another call may be replacing it
            handle: Any = engine.handle
        try:
            await asyncio.wait_for(awaited(handle.ready.remote()), self.cfg.weights.timeout_s)
        except TimeoutError as error:
            raise self._late(engine, self.version) from error
        except ray.exceptions.RayError as error:
            await self.supervisor.replace(engine, handle, error)

    def _late(self, engine: ActorSlot, version: int) -> RunFailed:
        return RunFailed(
            f"{engine.name} did not take weight version {version} within weights.timeout_s={self.cfg.weights.timeout_s:g} s; "
            f"see {self.supervisor.logs / engine.name}.log, or raise the timeout"
        )

    async def verify(self) -> Gap:
        """Verify what the engines hold; see WeightProbe. Raises RunFailed, naming the engine and the check."""
        await self.supervisor.turns.to_learners()
        expected = await self._probe.expect()
        await self.give_back()
        return await self._probe.verify(self.version, expected)
