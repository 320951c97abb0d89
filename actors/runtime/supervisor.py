"""Start actors in parallel, name the one that fails and the cause, and replace engines, graders and image workers that die.

It uses only an actor's role and methods; the specs contain the classes.
"""

import asyncio
import gc
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.actor import ActorHandle

from actors.runtime.logs import logged, tail
from actors.runtime.placement import Pairs
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.system.process_env import current_compiler_caches, import_path
from uec.tracking.tracker import Tracker
from uec.types import Prompt, WeightUpdate

MAX_RESTARTS = 3
CLOSE_TIMEOUT_S = 5.0


class Role(Enum):
    """The task of an actor, which decides how it is started."""

    ENGINE = auto()
    LEARNER = auto()
    GRADER = auto()
    IMAGE = auto()
    DIFFICULTY = auto()
    REPLAY = auto()


@dataclass(frozen=True, slots=True)
class ActorSpec:
    """The class of an actor, its arguments and its resources."""

    role: Role
    name: str
    actor: type
    args: tuple[Any, ...]
    cpus: float
    gpus: float = 0.0
    pair: int | None = None  # number of the GPU that it shares with another
    concurrency: int = 1  # simultaneous calls, for an async actor
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def runtime_env(self) -> dict[str, dict[str, str]]:
        """Return Ray's runtime environment of the actor: the variables of every actor, and its `environment`."""
        shared = {"TOKENIZERS_PARALLELISM": "false", **import_path(), **current_compiler_caches()}
        return {"env_vars": {**shared, **self.environment}}


@dataclass(eq=False)
class ActorSlot:
    """An actor by its name; the handle changes when it is replaced."""

    spec: ActorSpec
    handle: ActorHandle | None = None
    restarts: int = 0
    outstanding: int = 0  # responses or gradings that it was asked for and has not answered
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def name(self) -> str:
        """Return the actor's name, which is also that of its log."""
        return self.spec.name


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


ANSI = re.compile(r"\x1b\[[0-9;]*m")
DEATH = ("The actor is dead because", "Worker exit", "exit type", "exit detail", "was killed", "node died", "node was", "OOM")


def reason(error: BaseException) -> str:
    """Return an actor error's cause in one line: the end of a traceback, or what Ray knows of a death."""
    lines = [line.strip() for line in ANSI.sub("", str(error)).splitlines() if line.strip()]
    if isinstance(error, ray.exceptions.RayActorError) and not error.actor_init_failed:
        lines = [line for line in lines if any(word in line for word in DEATH)] or lines
        return " ".join(lines)[:600] or type(error).__name__
    return lines[-1][:600] if lines else type(error).__name__


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
        return ray.remote(logged(spec.actor, self.logs / f"{slot.name}.log")).options(**options).remote(*spec.args)

    async def _begin(self, slot: ActorSlot) -> Any:
        """Call `start` of an actor that was created; a replaced engine loads the current weights."""
        actor: Any = slot.handle
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
            case _:
                return await actor.__ray_ready__.remote()

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
        starts = {asyncio.ensure_future(self._begin(slot)): slot for slot in self.slots if slot not in self.learners}
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
                if (error := task.exception()) is not None:
                    raise RunFailed(self.account(starts[task], error)) from error

    async def _begin_after(self, engines: list[asyncio.Task[Any]], slot: ActorSlot) -> Any:
        """Call `start` of a learner once these engines have started: vLLM refuses a GPU whose free memory changes while it measures."""
        if engines:
            await asyncio.wait(engines)
            if any(engine.cancelled() or engine.exception() for engine in engines):
                return None  # the engine's error ends the start
        return await self._begin(slot)

    def _not_started(self, slots: list[ActorSlot]) -> str:
        names = ", ".join(slot.name for slot in slots)
        free, total = ray.available_resources(), ray.cluster_resources()
        have = ", ".join(f"{free.get(kind, 0):g} of {total.get(kind, 0):g} {kind}s free" for kind in ("CPU", "GPU") if kind in total)
        return (
            f"not started within cluster.start_timeout_s={self.cfg.cluster.start_timeout_s:g} s: {names}. The cluster has {have}. "
            "Lower rollout.cpus, learner.cpus or their number, free the cluster, or raise the timeout."
        )

    def account(self, slot: ActorSlot, error: BaseException) -> str:
        """Return which actor failed, the cause, and the path of its log."""
        path = self.logs / f"{slot.name}.log"
        last = tail(path)
        return f"{slot.name} failed: {reason(error)}" + (f"\nlast lines of {path}:\n{last}" if last else "")

    async def revive(self, slot: ActorSlot, failed: ActorHandle, error: BaseException) -> None:
        """Replace an engine, grader or image worker that failed. A new engine has the current weights before it is asked for anything."""
        await self.replace(slot, failed, error)
        if slot in self.weightless and self.bring_weights is not None:
            await self.bring_weights()

    async def replace(self, slot: ActorSlot, failed: ActorHandle, error: BaseException) -> None:
        """Do what `revive` does, but leave a new engine in `weightless` if it cannot load the current update alone."""
        async with slot.lock:
            if slot.handle is not failed:
                return  # another call saw the failure first
            slot.restarts += 1
            if slot.restarts > MAX_RESTARTS:
                raise RunFailed(f"{self.account(slot, error)}\nIt was restarted {MAX_RESTARTS} times before.")
            self.tracker.event(f"{slot.name} failed: {reason(error)}; restarting it ({slot.restarts} of {MAX_RESTARTS})")
            ray.kill(failed)
            slot.handle = self._create(slot, f"{slot.name}.{slot.restarts}")
            try:
                await asyncio.wait_for(self._begin(slot), self.cfg.cluster.start_timeout_s)
            except (ray.exceptions.RayError, TimeoutError) as again:
                raise RunFailed(f"{slot.name} could not be restarted: {self.account(slot, again)}") from again
            self.tracker.event(f"{slot.name} is back")

    async def call(self, slot: ActorSlot, method: str, *args: Any, timeout_s: float | None = None) -> Any:
        """Call an actor whose death ends the run. Raises RunFailed, naming it."""
        try:
            return await asyncio.wait_for(awaited(getattr(slot.handle, method).remote(*args)), timeout_s)
        except TimeoutError as error:
            raise RunFailed(f"{slot.name}.{method} did not finish within {timeout_s:g} s; see {self.logs / slot.name}.log") from error
        except ray.exceptions.RayError as error:
            raise RunFailed(self.account(slot, error)) from error

    async def stop(self) -> None:
        """End every actor. Child processes of a killed actor end with it, but learners must free their shared memory first."""
        closing = (self._close(slot) for slot in self.learners if slot.handle is not None)
        try:
            await asyncio.wait_for(asyncio.gather(*closing, return_exceptions=True), CLOSE_TIMEOUT_S)  # a dead learner raises
        except TimeoutError:
            self.tracker.event("the learners were busy at the end: their weights may stay in shared memory until the next run")
        for slot in self.slots:
            if slot.handle is not None:
                ray.kill(slot.handle)
        if self._pairs is not None:
            self._pairs.release()

    async def _close(self, slot: ActorSlot) -> None:
        learner: Any = slot.handle
        await learner.close.remote()


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
