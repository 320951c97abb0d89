"""Starts a run's or an evaluation's actors side by side, names the one that fails and why, and replaces engines, graders and image
workers that die."""

import asyncio
import gc
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import Enum, auto
from pathlib import Path
from typing import Any

import ray
from ray.actor import ActorHandle

from actors.driver.image_cache import ImageStore
from actors.runtime.logs import logged, tail
from actors.runtime.placement import Pairs
from actors.workers.difficulty import DifficultyActor
from actors.workers.image import ImageActor
from actors.workers.image import environment as image_environment
from actors.workers.learner import LearnerActor
from actors.workers.learner import environment as learner_environment
from actors.workers.replay import ReplayActor
from actors.workers.reward import RewardActor
from actors.workers.rollout import RolloutActor
from actors.workers.rollout import environment as rollout_environment
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.system.process_env import compiler_caches_in_force
from uec.tracking.tracker import Tracker
from uec.types import Prompt, WeightUpdate

MAX_RESTARTS = 3
CLOSE_TIMEOUT_S = 5.0


class Crew(Enum):
    """Which actors there are."""

    TRAINING = auto()  # all
    SAMPLING = auto()  # engines, graders and image workers
    SCORING = auto()  # learners without an optimizer, and image workers


@dataclass(frozen=True, slots=True)
class ActorSpec:
    """What an actor is and needs."""

    actor: type
    args: tuple[Any, ...]
    cpus: float
    gpus: float = 0
    pair: int | None = None  # the bundle of a GPU that it shares
    concurrency: int = 1  # calls at once, for an async actor
    environment: dict[str, str] = field(default_factory=dict)


@dataclass(eq=False)
class ActorSlot:
    """An actor by its name; the handle changes when it is replaced."""

    name: str
    post: ActorSpec
    start: Callable[[ActorHandle], Awaitable[Any]]
    handle: ActorHandle | None = None
    restarts: int = 0
    outstanding: int = 0  # responses or gradings asked of it and not yet answered
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


ANSI = re.compile(r"\x1b\[[0-9;]*m")
DEATH = ("The actor is dead because", "Worker exit", "exit type", "exit detail", "was killed", "node died", "node was", "OOM")


def reason(error: BaseException) -> str:
    """An actor error's cause in one line: the end of a traceback, or what Ray knows of a death."""
    lines = [line.strip() for line in ANSI.sub("", str(error)).splitlines() if line.strip()]
    if isinstance(error, ray.exceptions.RayActorError) and not error.actor_init_failed:
        lines = [line for line in lines if any(word in line for word in DEATH)] or lines
        return " ".join(lines)[:600] or type(error).__name__
    return lines[-1][:600] if lines else type(error).__name__


class Supervisor:
    """The actors of a run."""

    def __init__(
        self, cfg: Config, device: str, logs: Path, tracker: Tracker, crew: Crew = Crew.TRAINING, namespace: str | None = None
    ) -> None:
        """`namespace`: Ray's, of the actors' names; none: the job's. Crews that follow each other in a job take different ones."""
        self.cfg = cfg
        self.logs = logs
        self.tracker = tracker
        self.namespace = namespace
        self.publication: WeightUpdate | None = None  # what a replaced engine has to be given
        self._prompts: Any = None
        self._rendezvous: Any = None
        rollout, learner = cfg.rollout, cfg.learner
        gpus = 0.0 if device == "cpu" else 1.0
        samples, trains = crew is not Crew.SCORING, crew is Crew.TRAINING
        # Engines and ranks of an evaluation are never up together: there is nothing to share.
        self._pairs = Pairs(cfg) if gpus and trains and cfg.cluster.placement == "colocated" else None
        self.engines = [
            ActorSlot(
                f"rollout-{i}",
                ActorSpec(
                    RolloutActor, (cfg, i), rollout.cpus, gpus * rollout.tensor_parallel, i if self._pairs else None,
                    concurrency=10_000, environment=rollout_environment(cfg, i),
                ),  # fmt: skip
                self._start_engine,
            )
            for i in range(rollout.engines if samples else 0)
        ]
        self.learners = [
            ActorSlot(
                f"learner-{i}",
                ActorSpec(
                    LearnerActor, (cfg, i) if trains else (cfg, i, True), learner.cpus, gpus, i if self._pairs else None,
                    environment=learner_environment(cfg, i),
                ),  # fmt: skip
                self._start_learner,
            )
            for i in range(learner.ranks if crew is not Crew.SAMPLING else 0)
        ]
        self.graders = [
            ActorSlot(f"reward-{i}", ActorSpec(RewardActor, (cfg, i), cfg.reward.cpus, concurrency=1000), self._start_with_prompts)
            for i in range(cfg.reward.workers if samples else 0)
        ]
        self.image_workers: list[ActorSlot] = []  # only where there are images
        self.images = ImageStore(self)
        self.difficulty = ActorSlot("difficulty", ActorSpec(DifficultyActor, (cfg,), cpus=0.01), _ready)
        self.replay = ActorSlot("replay", ActorSpec(ReplayActor, (cfg,), cpus=0.01), _ready)
        self._keepers = [self.difficulty, self.replay] if trains else []

    @property
    def members(self) -> list[ActorSlot]:
        return [*self.engines, *self.learners, *self.graders, *self.image_workers, *self._keepers]

    def _create(self, member: ActorSlot, name: str) -> ActorHandle:
        post = member.post
        options: dict[str, Any] = {"name": name, "num_cpus": post.cpus, "num_gpus": post.gpus}
        if self._pairs is not None and post.pair is not None:
            options |= self._pairs.options(post.pair)
        if self.namespace is not None:
            options["namespace"] = self.namespace
        options["runtime_env"] = {"env_vars": {"TOKENIZERS_PARALLELISM": "false", **compiler_caches_in_force(), **post.environment}}
        if post.concurrency > 1:
            options["max_concurrency"] = post.concurrency
        return ray.remote(logged(post.actor, self.logs / f"{member.name}.log")).options(**options).remote(*post.args)

    async def _start_engine(self, actor: ActorHandle) -> Any:
        timings = await actor.start.remote(self._prompts)
        if self.publication is not None:
            await actor.update_weights.remote(self.publication)
        return timings

    async def _start_learner(self, actor: ActorHandle) -> Any:
        return await actor.start.remote(await self._rendezvous)

    async def _start_with_prompts(self, actor: ActorHandle) -> Any:
        return await actor.start.remote(self._prompts)

    async def start(self, prompts: list[Prompt]) -> None:
        """Start every actor at once; an actor that fails or does not get its place ends the run with its name and the cause."""
        self._prompts = ray.put(prompts)
        self.images.hold(prompts)
        if any(prompt.images for prompt in prompts):
            self.image_workers = [self._image_worker(i) for i in range(self.cfg.data.image.workers)]
        if self._pairs is not None:
            self._pairs.reserve()
        for member in self.members:
            member.handle = self._create(member, member.name)
        if self.learners:
            self._rendezvous = self.learners[0].handle.address.remote()
        _spare_collector()
        starts = {asyncio.ensure_future(awaited(member.start(member.handle))): member for member in self.members}
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

    def _image_worker(self, rank: int) -> ActorSlot:
        post = ActorSpec(ImageActor, (self.cfg, rank), self.cfg.data.image.cpus, environment=image_environment())
        return ActorSlot(f"image-{rank}", post, self._start_with_prompts)

    def _not_started(self, members: list[ActorSlot]) -> str:
        names = ", ".join(member.name for member in members)
        free, total = ray.available_resources(), ray.cluster_resources()
        have = ", ".join(f"{free.get(kind, 0):g} of {total.get(kind, 0):g} {kind}s free" for kind in ("CPU", "GPU") if kind in total)
        return (
            f"not started within cluster.start_timeout_s={self.cfg.cluster.start_timeout_s:g} s: {names}. The cluster has {have}. "
            "Lower rollout.cpus, learner.cpus or their number, free the cluster, or raise the timeout."
        )

    def account(self, member: ActorSlot, error: BaseException) -> str:
        """Which actor failed, why, and where to read on."""
        path = self.logs / f"{member.name}.log"
        last = tail(path)
        return f"{member.name} failed: {reason(error)}" + (f"\nlast lines of {path}:\n{last}" if last else "")

    async def revive(self, member: ActorSlot, failed: ActorHandle, error: BaseException) -> None:
        """Replace an engine or grader that failed; the new one has the current weights before anything is asked of it."""
        async with member.lock:
            if member.handle is not failed:
                return  # another of its calls saw the failure first
            member.restarts += 1
            if member.restarts > MAX_RESTARTS:
                raise RunFailed(f"{self.account(member, error)}\nIt was restarted {MAX_RESTARTS} times before.")
            self.tracker.event(f"{member.name} failed: {reason(error)}; restarting it ({member.restarts} of {MAX_RESTARTS})")
            ray.kill(failed)
            member.handle = self._create(member, f"{member.name}.{member.restarts}")
            try:
                await asyncio.wait_for(awaited(member.start(member.handle)), self.cfg.cluster.start_timeout_s)
            except (ray.exceptions.RayError, TimeoutError) as again:
                raise RunFailed(f"{member.name} could not be restarted: {self.account(member, again)}") from again
            self.tracker.event(f"{member.name} is back")

    async def call(self, member: ActorSlot, method: str, *args: Any, timeout_s: float | None = None) -> Any:
        """Call an actor whose death ends the run, naming it."""
        try:
            return await asyncio.wait_for(awaited(getattr(member.handle, method).remote(*args)), timeout_s)
        except TimeoutError as error:
            raise RunFailed(f"{member.name}.{method} did not finish within {timeout_s:g} s; see {self.logs / member.name}.log") from error
        except ray.exceptions.RayError as error:
            raise RunFailed(self.account(member, error)) from error

    async def stop(self) -> None:
        """End every actor; a killed actor's child processes go with it, what the learners hold in shared memory does not."""
        closing = (awaited(member.handle.close.remote()) for member in self.learners if member.handle is not None)
        try:
            await asyncio.wait_for(asyncio.gather(*closing, return_exceptions=True), CLOSE_TIMEOUT_S)  # a dead learner raises
        except TimeoutError:
            self.tracker.event("the learners were busy at the end: their weights may stay in shared memory until the next run")
        for member in self.members:
            if member.handle is not None:
                ray.kill(member.handle)
        if self._pairs is not None:
            self._pairs.release()


def _spare_collector() -> None:
    """Garbage is looked for less often, and not among what is there now: modules, config and data stay for the whole run.

    Each search among them would stop the Controller for a quarter of a second.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


async def _ready(actor: ActorHandle) -> Any:
    return await actor.__ray_ready__.remote()


async def awaited(awaitable: Awaitable[Any]) -> Any:
    """A Ray reference as a coroutine, which asyncio's tasks and timeouts ask for."""
    return await awaitable
