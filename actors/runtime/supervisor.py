"""Start actors in parallel, name the one that fails and the cause, and replace those that die or hang, except learners.

It uses only an actor's role and methods; the specs contain the classes.
"""

import asyncio
import gc
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.actor import ActorHandle

from actors.runtime.failures import LearnerLost, reason
from actors.runtime.logs import logged, tail
from actors.runtime.placement import Pairs
from actors.runtime.slots import ActorSlot, ActorSpec, Role
from actors.runtime.watchdog import GROUP, Watchdog
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.tracking.failure import Failure
from uec.tracking.tracker import Tracker
from uec.types import Prompt, WeightUpdate

CLOSE_TIMEOUT_S = 5.0
PATIENCE = 10.0  # a call may take this many times supervise.timeout_s, or the longest earlier call of its method
PLACE_S = 10.0  # after which the user learns that a replaced actor waits for room


class Images(Protocol):
    """The features of images, by reference (`actors.driver.image_cache`)."""

    def hold(self, prompts: Iterable[Prompt]) -> None: ...

    def prefetch(self, prompts: Iterable[int]) -> None: ...

    def is_ready(self, prompt: int) -> bool: ...

    async def references(self, prompts: Iterable[int]) -> list[Any]: ...


class Turns(Protocol):
    """Whose turn it is with the memory of shared GPUs (`actors.driver.device_turns`)."""

    @property
    def of_engines(self) -> bool: ...

    @property
    def weights_lost(self) -> bool: ...

    async def to_learners(self) -> None: ...

    async def to_sync(self) -> None: ...

    async def to_engines(self) -> None: ...


class Supervisor:
    """The actors of a run or an evaluation."""

    images: Images
    turns: Turns

    def __init__(self, cfg: Config, specs: list[ActorSpec], logs: Path, tracker: Tracker, namespace: str | None = None) -> None:
        """`namespace`: Ray's, for the actors' names; None: the job's. Supervisors that follow each other in a job need different ones."""
        self.cfg = cfg
        self.logs = logs
        self.tracker = tracker
        self.namespace = namespace
        self.watchdog = Watchdog(lambda: [slot.handle for slot in self.slots if slot.handle is not None], cfg.supervise.timeout_s)
        self._longest: dict[str, float] = {}  # seconds of the longest call by role and method
        self.update: WeightUpdate | None = None  # what a replaced engine loads first
        self.weightless: set[ActorSlot] = set()  # replaced engines that wait for an update, because the current one was sent only once
        self.bring_weights: Callable[[], Awaitable[None]] | None = None  # gives them the weights; WeightSync sets it
        self._prompts: Any = None
        self._rendezvous: Any = None
        slots = [ActorSlot(spec) for spec in specs]
        by_role = {role: [slot for slot in slots if slot.spec.role is role] for role in Role}
        self.engines = by_role[Role.ENGINE]
        self.learners = by_role[Role.LEARNER]
        self.graders = by_role[Role.GRADER]
        self.image_workers = by_role[Role.IMAGE]  # after the start, empty if no prompt has images
        self._difficulty, self._replay = by_role[Role.DIFFICULTY], by_role[Role.REPLAY]  # one each, in a training run
        self._pairs = Pairs(cfg) if any(spec.pair is not None for spec in specs) else None

    @property
    def difficulty(self) -> ActorSlot:
        """Return the DifficultyActor of a training run."""
        return self._difficulty[0]

    @property
    def replay(self) -> ActorSlot:
        """Return the ReplayActor of a training run."""
        return self._replay[0]

    @property
    def slots(self) -> list[ActorSlot]:
        """Return every actor."""
        return [*self.engines, *self.learners, *self.graders, *self.image_workers, *self._difficulty, *self._replay]

    def _create(self, slot: ActorSlot, name: str) -> ActorHandle:
        spec = slot.spec
        options: dict[str, Any] = {"name": name, "num_cpus": spec.cpus, "num_gpus": spec.gpus, "runtime_env": spec.runtime_env}
        if self._pairs is not None and spec.pair is not None:
            options |= self._pairs.options(spec.pair)
        if self.namespace is not None:
            options["namespace"] = self.namespace
        if spec.concurrency > 1:
            options["max_concurrency"] = spec.concurrency
        actor: Any = ray.remote(concurrency_groups={GROUP: 1})(logged(spec.actor, self.logs / f"{slot.name}.log"))
        return actor.options(**options).remote(*spec.args)

    async def _begin(self, slot: ActorSlot, actor: Any, replaces: bool = False) -> Any:
        """Call `start` of an actor that was created. A replaced engine loads the current weights, a replaced store its journal."""
        match slot.spec.role:
            case Role.ENGINE:
                timings = await actor.start.remote(self._prompts)
                if self.update is not None and self.update.is_kept and not self.cfg.rollout.sleep:
                    await actor.update_weights.remote(self.update)
                elif self.update is not None:
                    self.weightless.add(slot)
                return timings
            case Role.LEARNER:
                return await actor.start.remote(await self._rendezvous)
            case Role.GRADER | Role.IMAGE:
                return await actor.start.remote(self._prompts)
            case Role.DIFFICULTY | Role.REPLAY:
                return await actor.start.remote(replaces)

    async def start(self, prompts: list[Prompt]) -> None:
        """Start every actor at once; on shared GPUs, learners start after all engines.

        Raises RunFailed, naming the actor and the cause, if one fails or does not get its place.
        """
        self._prompts = ray.put(prompts)
        self.images.hold(prompts)
        if not any(prompt.images for prompt in prompts):
            self.image_workers = []
        if self._pairs is not None:
            self._pairs.reserve()
        for slot in self.slots:
            slot.handle = self._create(slot, slot.name)
        if self.learners:
            learner: Any = self.learners[0].handle
            self._rendezvous = learner.address.remote()
        _collect_less_garbage()
        starts = {asyncio.ensure_future(self._begin_or_replace(slot)): slot for slot in self.slots if slot not in self.learners}
        engines = [task for task, slot in starts.items() if slot in self.engines] if self._pairs is not None else []
        starts |= {asyncio.ensure_future(self._begin_after(engines, slot)): slot for slot in self.learners}
        pending = set(starts)
        deadline = asyncio.get_running_loop().time() + self.cfg.cluster.start_timeout_s
        while pending:
            self.tracker.stage("starting actors: " + ", ".join(sorted(starts[task].name for task in pending)))
            done, pending = await asyncio.wait(
                pending, timeout=max(0.0, deadline - asyncio.get_running_loop().time()), return_when=asyncio.FIRST_COMPLETED
            )
            if not done:
                raise RunFailed(self._not_started([starts[task] for task in pending]))
            for task in done:
                error = task.exception()
                if isinstance(error, RunFailed):
                    raise error
                if error is not None:
                    raise await self._failure(starts[task], error) from error
        self.watchdog.start()

    async def _begin_or_replace(self, slot: ActorSlot) -> Any:
        """Call `start` of an actor; one whose process dies meanwhile is replaced."""
        handle: Any = slot.handle
        try:
            return await self._begin(slot, handle)
        except ray.exceptions.RayActorError as error:
            if error.actor_init_failed:
                raise
            return await self.replace(slot, handle, error)

    async def _begin_after(self, engines: list[asyncio.Task[Any]], slot: ActorSlot) -> Any:
        """Call `start` of a learner once these engines have started: vLLM refuses a GPU whose free memory changes while it measures."""
        if engines:
            await asyncio.wait(engines)
            if any(engine.cancelled() or engine.exception() for engine in engines):
                return None  # the engine's error ends the start
        return await self._begin(slot, slot.handle)

    def _not_started(self, slots: list[ActorSlot]) -> str:
        names = ", ".join(slot.name for slot in slots)
        return (
            f"not started within cluster.start_timeout_s={self.cfg.cluster.start_timeout_s:g} s: {names}. The cluster has {_room()}. "
            "Lower rollout.cpus, learner.cpus or their number, free the cluster, or raise the timeout."
        )

    def account(self, slot: ActorSlot, error: BaseException) -> str:
        """Return which actor failed, the cause, and the path of its log."""
        path = self.logs / f"{slot.name}.log"
        last = tail(path)
        return f"{slot.name} failed: {self._cause(slot.handle, error)}" + (f"\nlast lines of {path}:\n{last}" if last else "")

    async def revive(self, slot: ActorSlot, failed: ActorHandle, error: BaseException) -> None:
        """Replace an actor that failed, but for a learner. A new engine has the current weights before it is asked for anything."""
        await self.replace(slot, failed, error)
        if slot in self.weightless and self.bring_weights is not None:
            await self.bring_weights()

    async def replace(self, slot: ActorSlot, failed: ActorHandle, error: BaseException) -> None:
        """Do what `revive` does, but leave a new engine in `weightless` if it cannot load the current update alone.

        The slot keeps the failed handle until the new actor has started, so that nobody calls an actor that is starting.
        Raises RunFailed if the actor fails more than `supervise.max_restarts` times within `supervise.window_s`.
        """
        async with slot.lock:
            if slot.handle is not failed:
                return  # another call saw the failure first
            noticed, replaced = time.monotonic(), failed
            while True:
                count = self._count_failure(slot, replaced, error)
                self._report(slot, replaced, error, f"restarting it ({count} of {self.cfg.supervise.max_restarts})")
                self._kill(replaced)
                slot.restarts += 1
                replaced = self._create(slot, f"{slot.name}.{slot.restarts}")
                try:
                    await self._placed(slot, replaced)
                    await asyncio.wait_for(self._begin(slot, replaced, replaces=True), self.cfg.cluster.start_timeout_s)
                    break
                except ray.exceptions.RayActorError as again:
                    if again.actor_init_failed:
                        raise RunFailed(f"{slot.name} could not be restarted: {self.account(slot, again)}") from again
                    error = again  # its process died, too
                except (ray.exceptions.RayError, TimeoutError) as again:
                    raise RunFailed(f"{slot.name} could not be restarted: {self.account(slot, again)}") from again
            slot.handle = replaced
            self._report(slot, failed, error, "replaced", time.monotonic() - noticed)

    def _count_failure(self, slot: ActorSlot, handle: ActorHandle, error: BaseException) -> int:
        """Return the number of this actor's failures in the window. Raises RunFailed if there are too many."""
        limits, now = self.cfg.supervise, time.monotonic()
        slot.failures.append(now)
        while slot.failures[0] < now - limits.window_s:
            slot.failures.popleft()
        if len(slot.failures) > limits.max_restarts:
            self._report(slot, handle, error, "ending the run")
            raise RunFailed(
                f"{self.account(slot, error)}\nIt failed {len(slot.failures)} times within supervise.window_s={limits.window_s:g} s "
                f"(supervise.max_restarts={limits.max_restarts})."
            )
        return len(slot.failures)

    async def _placed(self, slot: ActorSlot, actor: Any) -> None:
        """Wait until a replaced actor has its place in the cluster. Raises RunFailed, naming what it lacks, after `supervise.wait_s`."""
        ready = asyncio.ensure_future(awaited(actor.__ray_ready__.remote()))
        if (await asyncio.wait([ready], timeout=PLACE_S))[1]:
            lacking = f"it needs {slot.spec.cpus:g} CPUs and {slot.spec.gpus:g} GPUs, and the cluster has {_room()}"
            wait_s = self.cfg.supervise.wait_s
            self.tracker.event(f"{slot.name} waits for room, at most {wait_s:g} s: {lacking}")
            if (await asyncio.wait([ready], timeout=wait_s))[1]:
                ready.cancel()
                raise RunFailed(f"{slot.name} found no room within supervise.wait_s={wait_s:g} s: {lacking}. Add a node and resume.")
        await ready

    def _report(self, slot: ActorSlot, handle: Any, error: BaseException, action: str, seconds: float = 0.0) -> None:
        self.tracker.actor_failed(Failure(slot.name, self._node(handle), self._cause(handle, error), action, seconds))

    def _node(self, handle: Any) -> str:
        process = self.watchdog.pulse(handle).process
        return "" if process is None else process.node

    def _cause(self, handle: Any, error: BaseException) -> str:
        return self.watchdog.pulse(handle).verdict or reason(error)

    def _kill(self, handle: ActorHandle) -> None:
        """End an actor's process, also one that is stopped."""
        self.watchdog.pulse(handle).kill()
        ray.kill(handle)

    async def call(self, slot: ActorSlot, method: str, *args: Any, timeout_s: float | None = None) -> Any:
        """Call an actor. One that dies or hangs is replaced and asked again; `timeout_s`: a limit of the caller, which ends the run.

        Raises LearnerLost for a learner, RunFailed for another error; both name the actor.
        """
        return (await self._call(slot, method, args, timeout_s))[0]

    async def call_two(self, slot: ActorSlot, method: str, *args: Any) -> tuple[Any, Any]:
        """Call a method with two return values; return the first one, and a reference to the second. Otherwise as `call`."""
        answer, reference = await self._call(slot, method, args, returns=2)
        return answer, reference

    async def _call(self, slot: ActorSlot, method: str, args: tuple[Any, ...], timeout_s: float | None = None, returns: int = 1) -> Any:
        """Return the first value of a call, and references to the others."""
        while True:
            handle: Any = slot.handle
            remote = getattr(handle, method)
            try:
                if returns == 1:
                    return [await self._within(slot, method, remote.remote(*args), timeout_s)]
                first, *others = remote.options(num_returns=returns).remote(*args)
                return [await self._within(slot, method, first, timeout_s), *others]
            except (TimeoutError, ray.exceptions.RayError) as error:
                dead = isinstance(error, (TimeoutError, ray.exceptions.RayActorError))
                if timeout_s is not None or slot in self.learners or not (dead or slot in self.engines):
                    raise await self._failure(slot, error) from error
                await self.revive(slot, handle, error)

    async def answer(self, rank: ActorSlot, method: str, reference: Any) -> Any:
        """Await a call to a learner that returns several references. Raises LearnerLost or RunFailed."""
        try:
            return await self._within(rank, method, reference)
        except (TimeoutError, ray.exceptions.RayError) as error:
            raise await self._failure(rank, error) from error

    async def _within(self, slot: ActorSlot, method: str, reference: Any, timeout_s: float | None = None) -> Any:
        """Await an answer for PATIENCE times the longest earlier one, and not less than that of `supervise.timeout_s`."""
        key, begin = f"{slot.spec.role.name}.{method}", time.monotonic()
        limit = timeout_s or PATIENCE * max(self.cfg.supervise.timeout_s, self._longest.get(key, 0.0))
        try:
            found = await asyncio.wait_for(awaited(reference), limit)
        except TimeoutError as error:
            raise TimeoutError(f"{slot.name}.{method} did not finish within {limit:g} s; see {self.logs / slot.name}.log") from error
        self._longest[key] = max(self._longest.get(key, 0.0), time.monotonic() - begin)
        return found

    async def _failure(self, slot: ActorSlot, error: BaseException) -> RunFailed:
        """Return the failure that ends the run, or LearnerLost if a learner is dead or hangs, or data for it was lost with a node."""
        if slot not in self.learners:
            self._report(slot, slot.handle, error, "ending the run")
            return RunFailed(self.account(slot, error))
        lost = isinstance(error, (TimeoutError, ray.exceptions.RayActorError, ray.exceptions.ObjectLostError))
        culprit = None if lost else await self._dead_learner()
        if culprit is not None:  # the other ranks fail, because they wait for a dead one
            slot, error = culprit
        broken = isinstance(error, ray.exceptions.RayActorError) and error.actor_init_failed
        if broken or not (lost or culprit):
            self._report(slot, slot.handle, error, "ending the run")
            return RunFailed(self.account(slot, error))
        return LearnerLost(self.account(slot, error), slot.name, self._node(slot.handle), self._cause(slot.handle, error))

    async def _dead_learner(self) -> tuple[ActorSlot, BaseException] | None:
        """Return a rank whose process is dead, with its error, or None."""
        signs: Any = [slot.handle.sign_of_life.remote() for slot in self.learners]  # type: ignore[union-attr]
        asked = [asyncio.ensure_future(awaited(sign)) for sign in signs]
        await asyncio.wait(asked, timeout=CLOSE_TIMEOUT_S)
        for slot, answer in zip(self.learners, asked, strict=True):
            if answer.done() and isinstance(error := answer.exception(), ray.exceptions.RayActorError):
                return slot, error
        return None

    async def stop(self) -> None:
        """End every actor. Child processes of a killed actor end with it, but learners must free their shared memory first."""
        self.watchdog.stop()
        closing = (self._close(slot) for slot in self.learners if slot.handle is not None)
        try:
            await asyncio.wait_for(asyncio.gather(*closing, return_exceptions=True), CLOSE_TIMEOUT_S)  # a dead learner raises
        except TimeoutError:
            self.tracker.event("the learners were busy at the end: their weights may stay in shared memory until the next run")
        for slot in self.slots:
            if slot.handle is not None:
                ray.kill(slot.handle)  # a process that is stopped is ended by uec/system/cleanup.py
        if self._pairs is not None:
            self._pairs.release()

    async def _close(self, slot: ActorSlot) -> None:
        learner: Any = slot.handle
        await learner.close.remote()


def _room() -> str:
    """Return what the cluster has, in words."""
    free, total = ray.available_resources(), ray.cluster_resources()
    return ", ".join(f"{free.get(kind, 0):g} of {total.get(kind, 0):g} {kind}s free" for kind in ("CPU", "GPU") if kind in total)


def _collect_less_garbage() -> None:
    """Freeze objects that exist at start-up, and run the garbage collector less often.

    Modules, config and data stay for the whole run. A collection that includes them would stop the Controller for a quarter of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


async def awaited(awaitable: Awaitable[Any]) -> Any:
    """Await a Ray reference as a coroutine, which asyncio's tasks and timeouts need."""
    return await awaitable
