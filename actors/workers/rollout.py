"""RolloutActor: a vLLM engine that samples groups, takes new weights, and scores sequences with them."""

import asyncio
import itertools
import os
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import numpy as np

from actors.engines.vllm.async_llm import AsyncEngine
from actors.engines.vllm.in_process import InActorEngine
from actors.engines.vllm.job import Engine, Job, Pictures, Stream, engine_arguments
from actors.weights import transport
from uec.config.schema import Config
from uec.data.image import open_images
from uec.errors import RunFailed
from uec.models.processor import Processor, load_processor
from uec.models.source import context_length, load_tokenizer, resolve_model
from uec.models.vocabulary import stop_tokens, vocabulary_size
from uec.system.platform import detect
from uec.system.process_env import ONEDNN_CACHES
from uec.types import Continuation, ImageFeatures, Kind, Logprobs, Prompt, Request, Rollout, WeightUpdate

BUNDLE_INTERVAL_S = 0.02  # what finishes sooner after a bundle joins the next: a message costs about a millisecond
WHOLE = 1 << 30  # tokens between two outputs of a response: vLLM then sends its first token, and all others when it ends


def environment(cfg: Config, rank: int) -> dict[str, str]:
    """Environment variables of this actor's process, to be set before it starts."""
    variables = {
        "OMP_NUM_THREADS": str(cfg.rollout.threads),
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # engines that bind themselves all take the same cores
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1" if cfg.rollout.tensor_parallel > 1 else "0",  # on CPU, 1 forbids the executor "uni"
        "VLLM_NO_USAGE_STATS": "1",
        **ONEDNN_CACHES,
    }
    if cfg.weights.backend == "ipc" or cfg.cluster.placement == "colocated":
        variables["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"  # AsyncLLM pickles CUDA handles on their way to its own child process
    return variables


class RolloutActor:
    """An async Ray actor; every method but `start` may run many times at once."""

    def __init__(self, cfg: Config, rank: int) -> None:
        self.cfg = cfg
        self.rank = rank
        self.name = f"rollout-{rank}"
        self.version = 0
        self._ids = itertools.count()
        self._gate = ReadWriteLock()
        self._updating = asyncio.Lock()
        self._broken: RunFailed | None = None

    async def start(self, prompts: list[Prompt]) -> dict[str, float]:
        """Build the engine for these prompts and warm it up; seconds that each part took."""
        begin = time.perf_counter()
        os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # vLLM lets it override the size that the config gives
        self._prompts = {prompt.index: prompt for prompt in prompts}
        platform = detect(self.cfg)
        tokenizer = load_tokenizer(self.cfg.model)
        processor = load_processor(self.cfg.model, self.cfg.data.image, tokenizer)
        self._stop_tokens = stop_tokens(self.cfg.model, tokenizer)
        import vllm
        from vllm.sampling_params import RequestOutputKind

        imported = time.perf_counter()
        self._sampling = vllm.SamplingParams
        self._delta, self._final = RequestOutputKind.DELTA, RequestOutputKind.FINAL_ONLY
        self._engine: Engine = InActorEngine(self.name) if platform.engine == "in_actor" else AsyncEngine(self.name)
        model = resolve_model(self.cfg.model)
        pictures = max(len(prompt.images) for prompt in prompts) if processor else None
        arguments = engine_arguments(self.cfg, platform, self.rank, model, context_length(self.cfg.model), pictures)
        self._longest = arguments["max_model_len"]
        with tempfile.TemporaryDirectory() as folder:
            if self.cfg.rollout.stop:
                # Apart from the model's config.json, which makes transformers rebuild some tokenizers instead of loading them.
                tokenizer.save_pretrained(folder)
                arguments["tokenizer"] = folder
            await self._engine.start(arguments)
        never = processor.vision_tokens() if processor else []
        await self._engine.workers("limit_vocabulary", size=vocabulary_size(tokenizer), never=never)
        await self._engine.renew(self.version)
        built = time.perf_counter()
        self._receiver = transport.Receiver(self.cfg, platform, self.rank)
        await self._receiver.start(self._engine)
        checked = time.perf_counter()
        await self._warm_up(next((prompt for prompt in prompts if prompt.images), prompts[0]), processor)
        return {
            "import_s": imported - begin,
            "engine_s": built - imported,
            "weights_s": checked - built,
            "warm_up_s": time.perf_counter() - checked,
        }

    async def generate(self, requests: list[Request], *features: ImageFeatures) -> AsyncIterator[list[Rollout]]:
        """Sample every request's n responses, one vLLM request each; yields whatever responses ended since the last bundle.

        `features` of the images of all prompts that have any.
        """
        async with self._gate.running():
            self._refuse_if_broken()
            by_id = {str(next(self._ids)): request for request in requests}
            images = {found.prompt: found for found in features}
            jobs = []
            for id, request in by_id.items():
                prompt = self._prompts[request.prompt]
                jobs.append(Job(id, prompt.tokens.tolist(), self._sampling_params(request), self._pictures(prompt.index, images)))
            stream = self._engine.submit(jobs)
            try:
                async for bundle in self._bundles(stream, by_id):
                    yield bundle
            finally:
                if stream.pending:
                    self._engine.abort(stream)

    async def _bundles(self, stream: Stream, requests: dict[str, Request]) -> AsyncIterator[list[Rollout]]:
        started: dict[tuple[str, int], Any] = {}
        last = float("-inf")
        while not stream.exhausted:
            bundle = self._finished(await stream.get(), requests, started)
            pause = last + BUNDLE_INTERVAL_S - time.perf_counter()
            if bundle and pause > 0 and not stream.ended.is_set():
                with suppress(TimeoutError):
                    await asyncio.wait_for(stream.ended.wait(), pause)
                bundle += self._finished(stream.take(), requests, started)
            if bundle:
                last = time.perf_counter()
                yield bundle

    def _finished(self, outputs: list[Any], requests: dict[str, Request], started: dict[tuple[str, int], Any]) -> list[Rollout]:
        """The responses that end with these outputs; `started` keeps the first part of the others."""
        rollouts = []
        for output in outputs:
            for part in output.outputs:
                key = (output.request_id, part.index)
                first = started.pop(key, None)
                if part.finish_reason is None:
                    started[key] = part
                    continue
                tokens, logprobs = part.token_ids, part.logprobs.logprobs
                if first is not None:
                    tokens, logprobs = first.token_ids + tokens, first.logprobs.logprobs + logprobs
                request = requests[output.request_id]
                rollouts.append(
                    Rollout(
                        group=request.group,
                        index=part.index,
                        prompt=request.prompt,
                        kind=request.kind,
                        temperature=request.temperature,
                        prompt_tokens=self._prompts[request.prompt].tokens,
                        tokens=np.array(tokens, np.int32),
                        logprobs=np.array(logprobs, np.float32),
                        truncated=part.finish_reason == "length",
                        version=int(part.weight_versions[0].version),
                    )
                )
        return rollouts

    def _sampling_params(self, request: Request) -> Any:
        settings = self.cfg.rollout
        return self._sampling(
            n=request.n,
            temperature=request.temperature,
            top_p=settings.top_p,
            top_k=settings.top_k,
            min_p=settings.min_p,
            max_tokens=settings.max_tokens,
            stop=list(settings.stop),
            stop_token_ids=self._stop_tokens,
            detokenize=bool(settings.stop),
            skip_special_tokens=False,  # a stop text may be one
            logprobs=0,  # of the sampled token alone
            flat_logprobs=True,
            output_kind=self._delta,
            stream_interval=WHOLE,
            skip_clone=True,
        )

    async def update_weights(self, publication: WeightUpdate) -> None:
        """Take a published version of the weights; every later rollout carries its number.

        With `weights.pause=wait` running requests end first. With `keep` they pause and go on with the new weights: such a response's
        version is that of its first token.

        Raises RunFailed. If the publication was refused (it does not fit the model, or is not what was published), the engine is
        as it was. If it failed on the way, the engine is lost: every later call says so, and the actor has to be replaced.
        """
        self._refuse_if_broken()
        if publication.version < self.version:
            raise RunFailed(f"{self.name} holds weights version {self.version} and refuses the older {publication.version}")
        await asyncio.to_thread(self._receiver.check, publication)
        async with self._at_rest():
            self._refuse_if_broken()
            try:
                await self._receiver.take(self._engine, publication)
                await self._engine.renew(publication.version)
            except BaseException as error:  # being cancelled is a failure, too
                self._broken = RunFailed(
                    f"{self.name} is unusable and has to be replaced: taking weights version {publication.version} failed: "
                    f"{type(error).__name__}: {error}"
                )
                raise self._broken from error
            self.version = publication.version

    @asynccontextmanager
    async def _at_rest(self) -> AsyncIterator[None]:
        """The engine computes nothing meanwhile. One that broke meanwhile is left paused, for its responses are lost."""
        if self.cfg.weights.pause == "wait":
            async with self._gate.alone():
                yield
            return
        async with self._updating:
            await self._engine.pause()
            yield
            await self._engine.resume()

    async def score(self, sequences: list[Continuation], *features: ImageFeatures) -> list[Logprobs]:
        """Log-probabilities at T = 1 of each continuation's tokens, [T], computed afresh from the engine's weights.

        Asking vLLM for a prompt's log-probabilities makes it leave its prefix cache alone.
        """
        for one in sequences:
            if len(one.prompt_tokens) + len(one.tokens) >= self._longest:
                raise ValueError(f"{self.name} scores up to {self._longest - 1} tokens, got {len(one.prompt_tokens)} + {len(one.tokens)}")
        async with self._gate.running():
            self._refuse_if_broken()
            params = self._sampling(
                temperature=1.0, max_tokens=1, prompt_logprobs=0, flat_logprobs=True, detokenize=False, output_kind=self._final
            )
            images = {found.prompt: found for found in features}
            jobs = [
                Job(str(next(self._ids)), [*one.prompt_tokens.tolist(), *one.tokens.tolist()], params, self._pictures(one.prompt, images))
                for one in sequences
            ]
            stream = self._engine.submit(jobs)
            found: dict[str, Logprobs] = {}
            while not stream.exhausted:
                for output in await stream.get():
                    # The first token has none, so that entry i - 1 is token i's.
                    found[output.request_id] = np.array(output.prompt_logprobs.logprobs, np.float32)
            return [found[job.id][len(one.prompt_tokens) - 1 :] for job, one in zip(jobs, sequences, strict=True)]

    def _pictures(self, prompt: int, images: dict[int, ImageFeatures]) -> Pictures | None:
        """A prompt's images, with their places in it. Raises RunFailed where the features are of other pictures than its tokens."""
        spans = self._prompts[prompt].spans if prompt in self._prompts else ()
        if not spans:
            return None
        features = images.get(prompt)
        if features is None or len(features.digests) != len(spans):
            found = len(features.digests) if features else 0
            raise RunFailed(f"{self.name}: prompt {prompt} has {len(spans)} images, and there are features of {found}")
        return Pictures(features, spans)

    async def rng_state(self) -> list[str]:
        """Random state of every worker of the engine, JSON-able."""
        return await self._engine.workers("random_state")

    async def load_rng_state(self, states: list[str]) -> None:
        """Take up where `rng_state` left off."""
        if len(states) != self.cfg.rollout.tensor_parallel:
            raise RunFailed(f"{self.name}: {len(states)} random states for rollout.tensor_parallel={self.cfg.rollout.tensor_parallel}")
        async with self._gate.alone():
            await self._engine.workers("load_random_state", states=states)

    async def stop(self) -> None:
        """End the engine and its processes."""
        await self._engine.stop()

    async def _warm_up(self, prompt: Prompt, processor: Processor | None) -> None:
        """The first sampling compiles kernels; let no group wait for it."""
        features = []
        if processor is not None and prompt.images:
            features.append(processor.features(prompt, open_images(prompt, self.cfg.data.image)))
        async for _ in self.generate([Request(-1, prompt.index, 2, 1.0, Kind.REGULAR)], *features):
            pass

    def _refuse_if_broken(self) -> None:
        if self._broken is not None:
            raise self._broken


class ReadWriteLock:
    """Many callers run at once, or one alone."""

    def __init__(self) -> None:
        self._running = 0
        self._open = asyncio.Event()
        self._idle = asyncio.Event()
        self._alone = asyncio.Lock()
        self._open.set()
        self._idle.set()

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Wait for the one who is alone, or wants to be, then run beside all others."""
        while not self._open.is_set():
            await self._open.wait()
        self._running += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._running -= 1
            if self._running == 0:
                self._idle.set()

    @asynccontextmanager
    async def alone(self) -> AsyncIterator[None]:
        """Let nobody in any more, and wait for those inside."""
        async with self._alone:
            self._open.clear()
            try:
                await self._idle.wait()
                yield
            finally:
                self._open.set()
