"""vLLM's AsyncLLM: the engine runs in separate processes, so that Python in the actor never delays the device."""

import asyncio
from typing import Any

from actors.engines.vllm.inputs import engine_input
from actors.engines.vllm.job import Job, Stream
from uec.errors import RunFailed


class AsyncCore:
    """Implements `EngineCore`, with one task for each job."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._tasks: dict[asyncio.Task[None], Stream] = {}
        self._paused = False

    async def start(self, arguments: dict[str, Any]) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._prefix_caching = arguments["enable_prefix_caching"]
        self._engine = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))

    def submit(self, jobs: list[Job]) -> Stream:
        stream = Stream(job.id for job in jobs)
        for job in jobs:
            task = asyncio.create_task(self._follow(job, stream))
            self._tasks[task] = stream
            task.add_done_callback(self._tasks.pop)
        return stream

    def abort(self, stream: Stream) -> None:
        for task in [task for task, of in self._tasks.items() if of is stream]:
            task.cancel()  # vLLM's generator aborts the request

    async def workers(self, method: str, **kwargs: Any) -> list[Any]:
        return await self._guarded(self._engine.collective_rpc(method, kwargs=kwargs))

    async def pause(self) -> None:
        await self._guarded(self._engine.pause_generation(mode="keep", clear_cache=False))
        self._paused = True

    async def resume(self) -> None:
        await self._guarded(self._engine.resume_generation())
        self._paused = False

    async def sleep(self, level: int) -> None:
        await self._guarded(self._engine.sleep(level=level))

    async def wake(self, tag: str) -> None:
        await self._guarded(self._engine.wake_up(tags=[tag]))

    async def renew(self, version: int) -> None:
        reset = self._prefix_caching and self._guarded(self._engine.reset_prefix_cache(reset_running_requests=self._paused))
        if reset and not await reset:
            raise RuntimeError("vLLM refused to reset the prefix cache: requests are still running")
        await self._guarded(self._engine.reset_encoder_cache())
        await self._guarded(self._engine.update_weight_version(str(version)))

    async def stop(self) -> None:
        self._engine.shutdown()

    async def _follow(self, job: Job, stream: Stream) -> None:
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            given = engine_input(self._engine.renderer, job)
            async for output in self._engine.generate(given, job.params, job.id, lora_request=job.adapter):
                stream.put([output])
        except EngineDeadError as error:
            stream.fail(self._death(error))
        except ValueError as error:  # vLLM's refusal of a request
            stream.fail(RunFailed(f"{self.name}: vLLM refuses a request: {error}"))
        except Exception as error:
            stream.fail(error)

    async def _guarded(self, call: Any) -> Any:
        from vllm.v1.engine.exceptions import EngineDeadError

        try:
            return await call
        except EngineDeadError as error:
            raise self._death(error) from error

    def _death(self, error: BaseException) -> RunFailed:
        """Return an error that says how the engine's process ended, which vLLM's own error does not."""
        manager = self._engine.engine_core.resources.engine_manager
        ends = [f"{name} ended with status {code}" + _signal(code) for name, code in manager.finished_procs().items()] if manager else []
        failure = RunFailed(f"{self.name}: vLLM's engine process is dead: {', '.join(ends) or error}")
        failure.__cause__ = error
        return failure


def _signal(code: int) -> str:
    import signal

    return f" (killed by {signal.Signals(-code).name})" if code < 0 else ""
