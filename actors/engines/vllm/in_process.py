"""vLLM's LLMEngine in the actor's own process, stepped by one thread. Requests join between two steps."""

import asyncio
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from actors.engines.vllm.inputs import engine_input
from actors.engines.vllm.job import Job, Stream
from uec.errors import RunFailed

Result = TypeVar("Result")


class InProcessCore:
    """Implements `EngineCore`. The thread owns the vLLM engine; the event loop talks to it through a queue of functions."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._inbox: queue.SimpleQueue[Callable[[Any], None]] = queue.SimpleQueue()
        self._streams: dict[str, Stream] = {}  # by job; only the engine's thread uses it
        self._open: weakref.WeakSet[Stream] = weakref.WeakSet()
        self._waiting: set[asyncio.Future[Any]] = set()
        self._failure: RunFailed | None = None
        self._stopping = False
        self._paused = False  # only the engine's thread uses it

    async def start(self, arguments: dict[str, Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self._prefix_caching = arguments["enable_prefix_caching"]
        built: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, args=(arguments, built), name="vllm-engine", daemon=True)
        self._thread.start()
        await built

    def submit(self, jobs: list[Job]) -> Stream:
        stream = Stream(job.id for job in jobs)
        if self._failure is not None:
            stream.fail(self._failure)
        else:
            self._open.add(stream)
            self._inbox.put(lambda engine: self._add(engine, jobs, stream))
        return stream

    def abort(self, stream: Stream) -> None:
        pending = list(stream.pending)
        self._inbox.put(lambda engine: self._drop(engine, pending))

    async def workers(self, method: str, **kwargs: Any) -> list[Any]:
        return await self._call(lambda engine: engine.collective_rpc(method, kwargs=kwargs))

    async def pause(self) -> None:
        await self._call(lambda engine: self._set_paused(True))

    async def resume(self) -> None:
        await self._call(lambda engine: self._set_paused(False))

    async def sleep(self, level: int) -> None:
        await self._call(lambda engine: engine.sleep(level=level))

    async def wake(self, tag: str) -> None:
        await self._call(lambda engine: engine.wake_up(tags=[tag]))

    async def renew(self, version: int) -> None:
        def forget(engine: Any) -> None:
            if self._prefix_caching and not engine.reset_prefix_cache(reset_running_requests=self._paused):
                raise RuntimeError("vLLM refused to reset the prefix cache: requests are still running")
            engine.engine_core.reset_encoder_cache()
            engine.set_weight_version(str(version))

        await self._call(forget)

    async def stop(self) -> None:
        self._stopping = True
        self._inbox.put(lambda engine: engine.engine_core.shutdown())
        await asyncio.to_thread(self._thread.join)

    async def _call(self, function: Callable[[Any], Result]) -> Result:
        """Run a function of the vLLM engine between two steps."""
        if self._failure is not None:
            raise self._failure
        answer: asyncio.Future[Result] = self._loop.create_future()
        self._waiting.add(answer)
        answer.add_done_callback(self._waiting.discard)

        def run(engine: Any) -> None:
            try:
                result = function(engine)
            except Exception as error:
                self._loop.call_soon_threadsafe(_settle, answer, None, error)
            else:
                self._loop.call_soon_threadsafe(_settle, answer, result, None)

        self._inbox.put(run)
        return await answer

    # The methods below run in the engine's thread.

    def _run(self, arguments: dict[str, Any], built: asyncio.Future[None]) -> None:
        try:
            from vllm.engine.arg_utils import EngineArgs
            from vllm.v1.engine.llm_engine import LLMEngine

            engine = LLMEngine.from_engine_args(EngineArgs(**arguments))
        except BaseException as error:
            self._loop.call_soon_threadsafe(_settle, built, None, error)
            return
        self._loop.call_soon_threadsafe(_settle, built, None, None)
        try:
            while not self._stopping:
                self._serve(engine)
                if engine.has_unfinished_requests() and not self._paused and not self._stopping:
                    self._deliver(engine.step())
        except Exception as error:
            failure = RunFailed(f"{self.name}: vLLM failed in a step: {type(error).__name__}: {error}")
            failure.__cause__ = error
            self._loop.call_soon_threadsafe(self._die, failure)

    def _serve(self, engine: Any) -> None:
        """Run the functions queued since the last step; wait for one if the engine has no work, or is paused."""
        idle = self._paused or not engine.has_unfinished_requests()
        while True:
            try:
                task = self._inbox.get(block=idle)
            except queue.Empty:
                return
            task(engine)
            idle = False

    def _set_paused(self, paused: bool) -> None:
        self._paused = paused

    def _add(self, engine: Any, jobs: list[Job], stream: Stream) -> None:
        try:
            for job in jobs:
                engine.add_request(job.id, engine_input(engine.renderer, job), job.params, lora_request=job.adapter)
                self._streams[job.id] = stream
        except ValueError as error:  # vLLM refuses a request; the engine is not affected
            self._drop(engine, [job.id for job in jobs])
            self._loop.call_soon_threadsafe(stream.fail, RunFailed(f"{self.name}: vLLM refuses a request: {error}"))

    def _drop(self, engine: Any, ids: list[str]) -> None:
        known = [id for id in ids if self._streams.pop(id, None) is not None]
        engine.abort_request(known)

    def _deliver(self, outputs: list[Any]) -> None:
        """Pass a step's outputs to their streams, in one message to the event loop."""
        shares: dict[Stream, list[Any]] = {}
        for output in outputs:
            stream = self._streams[output.request_id]
            shares.setdefault(stream, []).append(output)
            if output.finished:
                del self._streams[output.request_id]
        if shares:
            self._loop.call_soon_threadsafe(_put, shares)

    # The method below runs in the event loop.

    def _die(self, failure: RunFailed) -> None:
        self._failure = failure
        for stream in list(self._open):
            if not stream.ended:
                stream.fail(failure)
        for answer in list(self._waiting):
            _settle(answer, None, failure)


def _put(shares: dict[Stream, list[Any]]) -> None:
    for stream, outputs in shares.items():
        stream.put(outputs)


def _settle(future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
    if future.done():  # its caller was cancelled
        return
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(result)
