"""RolloutActor: an engine that samples responses, loads new weights, and computes log-probabilities with them."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress

from actors.engines import load_engine
from actors.engines.base import Engine, SleepPart
from uec.config.schema import Config
from uec.data.image_file import open_images
from uec.errors import RunFailed
from uec.models.pretrained import load_tokenizer
from uec.models.processor import Processor, load_processor
from uec.models.vocabulary import stop_tokens, vocabulary_size
from uec.system.cleanup import temporary_files
from uec.system.platform import detect
from uec.system.process_env import ONEDNN_CACHES
from uec.types import Completion, Continuation, ImageFeatures, Kind, Logprobs, Prompt, Request, Sampling, Trajectory, WeightUpdate

RESPONSE_BATCH_INTERVAL_S = 0.02  # responses that finish within this time share a message, which costs about a millisecond


def environment(cfg: Config, rank: int) -> dict[str, str]:
    """Return the environment variables of this actor's process, to be set before it starts."""
    engine = load_engine("in_actor" if cfg.rollout.backend == "auto" else cfg.rollout.backend)  # vLLM's two kinds need the same ones
    return {"OMP_NUM_THREADS": str(cfg.rollout.threads), **ONEDNN_CACHES, **temporary_files(), **engine.environment(cfg)}


class RolloutActor:
    """An async Ray actor; every method but `start` may run many times at once."""

    def __init__(self, cfg: Config, rank: int) -> None:
        self.cfg = cfg
        self.rank = rank
        self.name = f"rollout-{rank}"
        self.version = 0
        self._lock = ReadWriteLock()
        self._updating = asyncio.Lock()
        self._awake = asyncio.Event()
        self._awake.set()
        self._broken: RunFailed | None = None

    async def start(self, prompts: list[Prompt]) -> dict[str, float]:
        """Build the engine for these prompts and warm it up; return the seconds of each stage. With `rollout.sleep` it ends asleep."""
        begin = time.perf_counter()
        self._prompts = {prompt.index: prompt for prompt in prompts}
        tokenizer = load_tokenizer(self.cfg.model)
        processor = load_processor(self.cfg.model, self.cfg.data.image, tokenizer)
        settings = self.cfg.rollout
        sampling = Sampling(
            max_tokens=settings.max_tokens,
            vocabulary=vocabulary_size(tokenizer),
            never=tuple(processor.vision_tokens()) if processor else (),
            top_p=settings.top_p,
            top_k=settings.top_k,
            min_p=settings.min_p,
            stop=tuple(settings.stop),
            stop_tokens=tuple(stop_tokens(self.cfg.model, tokenizer, settings.stop_tokens)),
        )
        self._engine: Engine = load_engine(detect(self.cfg).engine)(self.cfg, self.rank, self.name)
        self.version = 0
        loaded = time.perf_counter()
        stages = await self._engine.start(prompts, sampling)
        built = time.perf_counter()
        await self._warm_up(next((prompt for prompt in prompts if prompt.images), prompts[0]), processor)
        if settings.sleep:
            await self.sleep()
        return {"load_s": loaded - begin, **stages, "warm_up_s": time.perf_counter() - built}

    async def generate(self, requests: list[Request], *features: ImageFeatures) -> AsyncIterator[list[Trajectory]]:
        """Sample every request's n responses; yield the responses that have finished since the last response batch.

        `features` of the images of all prompts that have any. The trajectory of a request with `behind` holds the new turn only.
        """
        async with self._computing():
            completions = self._engine.generate(requests, {found.prompt: found for found in features})
            async with aclosing(response_batches(completions)) as batches:
                async for batch in batches:
                    yield [self._trajectory(requests[completion.request], completion) for completion in batch]

    def _trajectory(self, request: Request, completion: Completion) -> Trajectory:
        return Trajectory(
            group=request.group,
            index=completion.index,
            prompt=request.prompt,
            kind=request.kind,
            temperature=request.temperature,
            prompt_tokens=self._prompts[request.prompt].tokens,
            tokens=completion.tokens,
            logprobs=completion.logprobs,
            truncated=completion.truncated,
            versions=(completion.version,),
        )

    async def update_weights(self, update: WeightUpdate) -> None:
        """Load a version of the weights; every later response carries its number.

        With `weights.pause=wait` running requests end first. With `keep` they pause and continue with the new weights: such a
        response's version is that of its first token.

        Raises RunFailed. If the update was refused (it does not fit the model, or its bytes changed), the engine is unchanged.
        If loading failed, the engine is unusable: every later call raises, and the actor has to be replaced.
        """
        self._refuse_if_broken()
        if update.version < self.version:
            raise RunFailed(f"{self.name} holds weights version {self.version} and refuses the older {update.version}")
        await asyncio.to_thread(self._engine.check_weights, update)
        async with self._at_rest("keep" if self._is_repeated(update) else self.cfg.weights.pause):
            self._refuse_if_broken()
            try:
                await self._engine.load_weights(update)
            except BaseException as error:  # cancellation is a failure, too
                self._broken = RunFailed(
                    f"{self.name} is unusable and has to be replaced: taking weights version {update.version} failed: "
                    f"{type(error).__name__}: {error}"
                )
                raise self._broken from error
            self.version = update.version

    def _is_repeated(self, update: WeightUpdate) -> bool:
        """Return whether an update only brings this engine together with a new one: running requests need not end before it."""
        return not update.is_kept and update.version == self.version

    async def ready(self) -> None:
        """Raise RunFailed if the engine cannot take an update; asks every worker."""
        self._refuse_if_broken()
        await self._engine.state()

    @asynccontextmanager
    async def _at_rest(self, pause: str) -> AsyncIterator[None]:
        """Keep the engine from computing. If loading fails, a paused engine stays paused, because its responses are lost."""
        if pause == "wait":
            async with self._lock.write():
                yield
            return
        async with self._updating:
            await self._engine.pause()
            yield
            await self._engine.resume()

    async def logprobs(self, continuations: list[Continuation], *features: ImageFeatures) -> list[Logprobs]:
        """Return log-probabilities at T = 1 of each continuation's tokens, [T], in nats, computed afresh from the engine's weights.

        `features` of the images of all prompts that have any.
        """
        async with self._computing():
            return await self._engine.logprobs(continuations, {found.prompt: found for found in features})

    async def sleep(self) -> None:
        """Free the GPU's memory for the learner, once running requests have ended. Later requests wait for the wake."""
        async with self._lock.write():
            self._refuse_if_broken()
            if self._awake.is_set():
                self._awake.clear()
                await self._engine.sleep()

    async def wake(self, part: SleepPart) -> None:
        """Allocate a part of the memory again."""
        async with self._lock.write():
            self._refuse_if_broken()
            await self._engine.wake(part)
            if part == "kv_cache":
                self._awake.set()

    @asynccontextmanager
    async def _computing(self) -> AsyncIterator[None]:
        """Keep the engine from loading weights and from sleeping; wait until it is awake."""
        while True:
            await self._awake.wait()
            async with self._lock.read():
                if not self._awake.is_set():
                    continue
                self._refuse_if_broken()
                yield
                return
    async def checksum(self) -> str:
        """Return a digest of the weights that the engine holds; "" if it cannot read all of them."""
        async with self._lock.read():
            self._refuse_if_broken()
            return await self._engine.checksum()

    async def state(self) -> list[str]:
        """Return the engine's random state, JSON-able."""
        return await self._engine.state()

    async def load(self, state: list[str]) -> None:
        """Restore what `state` returned."""
        async with self._lock.write():
            await self._engine.load(state)

    async def stop(self) -> None:
        """End the engine and its processes."""
        await self._engine.stop()

    async def _warm_up(self, prompt: Prompt, processor: Processor | None) -> None:
        """Sample once to compile kernels, so that no group waits for that."""
        features = []
        if processor is not None and prompt.images:
            features.append(processor.features(prompt, open_images(prompt, self.cfg.data.image)))
        async for _ in self.generate([Request(-1, prompt.index, 2, 1.0, Kind.REGULAR)], *features):
            pass

    def _refuse_if_broken(self) -> None:
        if self._broken is not None:
            raise self._broken


async def response_batches(
    completions: AsyncIterator[list[Completion]], interval_s: float = RESPONSE_BATCH_INTERVAL_S
) -> AsyncGenerator[list[Completion]]:
    """Join completions that finish within `interval_s` of the last batch; the first batch and the last wait for nothing.

    Closing this iterator closes `completions`. An error of `completions` is raised at once.
    """
    finished: list[Completion] = []
    arrived, ended = asyncio.Event(), asyncio.Event()

    async def collect() -> None:
        try:
            async for some in completions:
                finished.extend(some)
                arrived.set()
        finally:
            ended.set()
            arrived.set()

    collecting = asyncio.create_task(collect())
    last = float("-inf")
    try:
        while not ended.is_set() or finished:
            await arrived.wait()
            pause = last + interval_s - time.perf_counter()
            if pause > 0 and not ended.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(ended.wait(), pause)
            if ended.is_set():
                await collecting  # raises its error
            else:
                arrived.clear()
            batch, finished[:] = list(finished), []
            if batch:
                last = time.perf_counter()
                yield batch
        await collecting
    finally:
        collecting.cancel()
        await asyncio.gather(collecting, return_exceptions=True)


class ReadWriteLock:
    """Many readers run at once, or one writer alone."""

    def __init__(self) -> None:
        self._readers = 0
        self._open = asyncio.Event()
        self._idle = asyncio.Event()
        self._writing = asyncio.Lock()
        self._open.set()
        self._idle.set()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[None]:
        """Wait for a writer that runs or waits, then run beside all other readers."""
        while not self._open.is_set():
            await self._open.wait()
        self._readers += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._readers -= 1
            if self._readers == 0:
                self._idle.set()

    @asynccontextmanager
    async def write(self) -> AsyncIterator[None]:
        """Admit no more readers, and wait until the current ones end."""
        async with self._writing:
            self._open.clear()
            try:
                await self._idle.wait()
                yield
            finally:
                self._open.set()
