"""Prompts in, scored groups out: generation and grading of all groups of a run, streaming.

A response is graded as it ends, a group is complete with its last score. Tokens stay in the object store: a bundle of
finished responses goes from engine to grader by reference, and only scores come here.
"""

import asyncio
import itertools
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import ray

from actors.driver.dispatch import Balance, BatchedCalls
from actors.driver.image_cache import AT_ONCE
from actors.driver.timing import Activity
from actors.runtime.supervisor import ActorSlot, Supervisor
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.types import Group, Kind, Request, Score, Spent, Trajectory


class _BundleLost(Exception):
    """A bundle cannot be had: its engine failed."""


@dataclass(slots=True)
class _Open:
    """A group of which responses are missing."""

    request: Request
    complete: asyncio.Future[Group]
    trajectories: dict[int, Trajectory] = field(default_factory=dict)  # by their index in the group


class RolloutStream:
    """`await sample(...)` is one group, whatever happens to engines and graders meanwhile."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self._activity = Activity(supervisor.engines)
        self._ids = itertools.count()
        self._open: dict[int, _Open] = {}
        self._engines = Balance(supervisor.engines)
        self._graders = Balance(supervisor.graders)
        self._submit = BatchedCalls[Request, asyncio.Future[Group]](self._dispatch)
        self._streams: set[asyncio.Task[None]] = set()
        self._portions = asyncio.Semaphore(_portions_at_once(supervisor.cfg))
        self._failure: BaseException | None = None

    def spent(self) -> Spent:
        """What all rollouts up to now have cost."""
        return self._activity.spent()

    @property
    def open_groups(self) -> int:
        """Groups that were asked for and are not complete."""
        return len(self._open)

    async def sample(self, prompt: int, n: int, temperature: float, kind: Kind) -> Group:
        """The scored group of n responses to a prompt."""
        complete = await self._submit(Request(next(self._ids), prompt, n, temperature, kind))
        return await complete

    async def _dispatch(self, requests: list[Request]) -> list[asyncio.Future[Group]]:
        """Hand each request to the engine with the least to do, in one message an engine, and in more where images are not ready."""
        if self._failure is not None:
            raise self._failure
        shares: dict[ActorSlot, list[Request]] = {}
        for request in requests:
            shares.setdefault(self._engines.give(request.n), []).append(request)
            self._open[request.group] = _Open(request, asyncio.get_running_loop().create_future())
            self._activity.group_opened(request.kind)
        futures = [self._open[request.group].complete for request in requests]
        for engine, share in shares.items():
            ready = [self.supervisor.images.is_ready(request.prompt) for request in share]
            now = [request for request, yes in zip(share, ready, strict=True) if yes]
            later = [request for request, yes in zip(share, ready, strict=True) if not yes]
            if now:
                self._begin(self._follow(engine, now))
            for first in range(0, len(later), AT_ONCE):
                self._begin(self._follow_later(engine, later[first : first + AT_ONCE]))
        return futures

    def _begin(self, following: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(following)
        self._streams.add(task)
        task.add_done_callback(self._ended)

    async def _follow_later(self, engine: ActorSlot, requests: list[Request]) -> None:
        """For requests whose images are still to be processed. Not all at once: those of a large evaluation would fill the object store."""
        async with self._portions:
            await self._follow(engine, requests)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._streams.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._failure = error
            for group in self._open.values():
                if not group.complete.done():
                    group.complete.set_exception(error)
            self._open.clear()

    async def _follow(self, engine: ActorSlot, requests: list[Request]) -> None:
        """Have the requests answered by this engine; if it fails, replace it and issue unfinished groups again, whole."""
        self._activity.sent(engine, requests)
        while requests:
            images = await self.supervisor.images.references(request.prompt for request in requests)
            handle = engine.handle
            cause = await self._generate(engine, handle, requests, images)
            requests = [request for request in requests if request.group in self._open]
            if requests:
                self._activity.sent(engine, requests)
                await self.supervisor.revive(engine, handle, cause or RunFailed(f"{engine.name} ended before its responses"))
                for request in requests:
                    again = self._open[request.group].trajectories
                    self._engines.take_back(engine, -len(again))
                    again.clear()

    async def _generate(self, engine: ActorSlot, handle: Any, requests: list[Request], images: list[Any]) -> BaseException | None:
        """Grade all that an engine yields for the requests; the engine's failure, if there was one."""
        gradings = []
        async for bundle in handle.generate.options(num_returns="streaming").remote(requests, *images):
            gradings.append(asyncio.create_task(self._grade(engine, bundle)))
        self._activity.answered(engine, requests)
        lost = None
        for result in await asyncio.gather(*gradings, return_exceptions=True):
            if isinstance(result, _BundleLost):
                lost = result.__cause__
            elif isinstance(result, BaseException):
                raise result
        return lost

    async def _grade(self, engine: ActorSlot, bundle: Any) -> None:
        """Have an engine's bundle graded; a grader that dies is replaced and the bundle graded again."""
        scores: list[Score] | None = None
        graded: Any = None
        while scores is None:
            grader = self._graders.give(1)
            handle: Any = grader.handle
            try:
                graded = handle.grade.remote(bundle)
                scores = await graded
            except ray.exceptions.RayError as error:
                try:
                    await bundle  # a failed engine's last bundle holds its error, which grading only passes on
                except ray.exceptions.RayError as cause:
                    raise _BundleLost from cause
                if not isinstance(error, ray.exceptions.RayActorError):
                    raise RunFailed(self.supervisor.account(grader, error)) from error
                await self.supervisor.revive(grader, handle, error)
            finally:
                self._graders.take_back(grader, 1)
        self._engines.take_back(engine, len(scores))
        self._activity.graded(engine, sum(score.response_tokens for score in scores))
        for score in scores:
            self._take(score, bundle, graded)

    def _take(self, score: Score, bundle: Any, graded: Any) -> None:
        group = self._open[score.group]
        request = group.request
        group.trajectories[score.index] = Trajectory(request.prompt, request.kind, request.temperature, score, bundle, graded)
        if len(group.trajectories) == request.n:
            del self._open[score.group]
            self._activity.group_closed(request.kind)
            if not group.complete.done():  # done: the one who asked was cancelled
                group.complete.set_result(Group(request, [group.trajectories[index] for index in range(request.n)]))


def _portions_at_once(cfg: Config) -> int:
    """Portions of AT_ONCE groups that keep every engine busy, twice over."""
    return max(2, 2 * cfg.rollout.engines * cfg.rollout.max_num_seqs // (AT_ONCE * cfg.rollout.n))
