"""Streaming generation and grading of all groups of a run.

A response is graded as soon as it ends, and a group is complete when its last response is graded. Tokens stay in the object store: a
response batch goes from engine to grader by reference, and only samples, without tokens, come to the driver.
"""

import asyncio
import itertools
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import ray

from actors.driver.dispatch import BatchedCalls, LeastLoaded
from actors.driver.image_cache import AT_ONCE
from actors.driver.timing import RolloutTimer
from actors.runtime.slots import ActorSlot
from actors.runtime.supervisor import Supervisor
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.system.platform import sequences
from uec.types import Kind, Request, TrainingSample


class _BatchLost(Exception):
    """A response batch does not exist, because its engine failed."""


@dataclass(slots=True)
class _Open:
    """A group with missing responses."""

    request: Request
    complete: asyncio.Future[list[TrainingSample]]
    samples: dict[int, TrainingSample] = field(default_factory=dict)  # by their index in the group


class RolloutStream:
    """`await sample(...)` returns one graded group, even if engines and graders fail meanwhile."""

    def __init__(self, supervisor: Supervisor) -> None:
        self.supervisor = supervisor
        self.timer = RolloutTimer(supervisor.engines)
        self._ids = itertools.count()
        self._open: dict[int, _Open] = {}
        self._engines = LeastLoaded(supervisor.engines)
        self._graders = LeastLoaded(supervisor.graders)
        self._submit = BatchedCalls[Request, asyncio.Future[list[TrainingSample]]](self._dispatch)
        self._streams: set[asyncio.Task[None]] = set()
        self._portions = asyncio.Semaphore(_portions_at_once(supervisor.cfg))
        self._failure: BaseException | None = None

    @property
    def open_groups(self) -> int:
        """Return the number of groups that were requested and are not complete."""
        return len(self._open)

    async def sample(self, prompt: int, n: int, temperature: float, kind: Kind) -> list[TrainingSample]:
        """Sample and grade a group of n responses to a prompt."""
        complete = await self._submit(Request(next(self._ids), prompt, n, temperature, kind))
        return await complete

    async def _dispatch(self, requests: list[Request]) -> list[asyncio.Future[list[TrainingSample]]]:
        """Send each request to the engine with the least work: one message per engine, or several if images are not ready."""
        if self._failure is not None:
            raise self._failure
        shares: dict[ActorSlot, list[Request]] = {}
        for request in requests:
            shares.setdefault(self._engines.give(request.n), []).append(request)
            self._open[request.group] = _Open(request, asyncio.get_running_loop().create_future())
            self.timer.group_opened(request.kind)
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
        """Follow requests whose images are not processed yet, in portions: all images of an evaluation could fill the object store."""
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
        """Have an engine answer the requests. If it fails, replace it and issue its unfinished groups again from the start."""
        self.timer.sent(engine, requests)
        while requests:
            images = await self.supervisor.images.references(request.prompt for request in requests)
            handle = engine.handle
            cause = await self._generate(engine, handle, requests, images)
            requests = [request for request in requests if request.group in self._open]
            if requests:
                self.timer.sent(engine, requests)
                await self.supervisor.revive(engine, handle, cause or RunFailed(f"{engine.name} ended before its responses"))
                for request in requests:
                    done = self._open[request.group].samples
                    self._engines.take_back(engine, -len(done))
                    done.clear()

    async def _generate(self, engine: ActorSlot, handle: Any, requests: list[Request], images: list[Any]) -> BaseException | None:
        """Grade every response batch that an engine yields for the requests; return the engine's failure, if there was one."""
        gradings = []
        stream = handle.generate.options(num_returns="streaming").remote(requests, *images)
        timeout_s = self.supervisor.cfg.rollout.timeout_s
        lost: BaseException | None = None
        while True:
            try:
                batch = await asyncio.wait_for(anext(stream), timeout_s)
            except StopAsyncIteration:
                break
            except TimeoutError:
                lost = RunFailed(f"a response did not come within rollout.timeout_s={timeout_s:g} s")
                break
            gradings.append(asyncio.create_task(self._grade(engine, batch)))
        self.timer.answered(engine, requests)
        for result in await asyncio.gather(*gradings, return_exceptions=True):
            if isinstance(result, _BatchLost):
                lost = result.__cause__
            elif isinstance(result, BaseException):
                raise result
        return lost

    async def _grade(self, engine: ActorSlot, batch: Any) -> None:
        """Have a response batch graded. A grader that dies is replaced, and the batch is graded again."""
        samples: list[TrainingSample] | None = None
        graded: Any = None
        while samples is None:
            grader = self._graders.give(1)
            handle: Any = grader.handle
            try:
                graded = handle.grade.remote(batch)
                samples = await graded
            except ray.exceptions.RayError as error:
                try:
                    await batch  # a failed engine's last batch holds its error, which grading only passes on
                except ray.exceptions.RayError as cause:
                    raise _BatchLost from cause
                if not isinstance(error, ray.exceptions.RayActorError):
                    raise RunFailed(self.supervisor.account(grader, error)) from error
                await self.supervisor.revive(grader, handle, error)
            finally:
                self._graders.take_back(grader, 1)
        self._engines.take_back(engine, len(samples))
        self.timer.graded(engine, sum(sample.response_tokens for sample in samples))
        for sample in samples:
            sample.batch, sample.graded = batch, graded
            self._take(sample)

    def _take(self, sample: TrainingSample) -> None:
        group = self._open[sample.group]
        group.samples[sample.index] = sample
        request = group.request
        if len(group.samples) == request.n:
            del self._open[sample.group]
            self.timer.group_closed(request.kind)
            if not group.complete.done():  # done: its caller was cancelled
                group.complete.set_result([group.samples[index] for index in range(request.n)])


def _portions_at_once(cfg: Config) -> int:
    """Return twice the number of portions of AT_ONCE groups that keep every engine busy."""
    return max(2, 2 * cfg.rollout.engines * sequences(cfg) // (AT_ONCE * cfg.rollout.n))
