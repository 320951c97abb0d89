"""The vLLM engine: convert requests to vLLM's jobs and its outputs to completions, and pass weight updates to its workers."""

import itertools
import os
import tempfile
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import numpy as np
import xxhash

from actors.engines.base import SleepPart
from actors.engines.vllm.adapter import adapter_request
from actors.engines.vllm.async_llm import AsyncCore
from actors.engines.vllm.in_process import InProcessCore
from actors.engines.vllm.inputs import logprobs_params, sampling_params
from actors.engines.vllm.job import EngineCore, Job, PromptImages, engine_arguments
from actors.engines.vllm.job import environment as vllm_environment
from actors.engines.vllm.weight_receiver import WeightReceiver
from uec.config.schema import Config
from uec.errors import RunFailed
from uec.models.model_config import is_vision_language
from uec.models.pretrained import context_length, load_config, load_tokenizer, locate_model
from uec.system.platform import detect
from uec.types import Completion, Continuation, ImageFeatures, Logprobs, Prompt, Request, Sampling, WeightUpdate


class VllmEngine:
    """Implements `Engine`. The two subclasses differ in the process in which vLLM computes."""

    core_type: type[EngineCore]

    def __init__(self, cfg: Config, rank: int, name: str) -> None:
        self.cfg = cfg
        self.rank = rank
        self.name = name
        self._ids = itertools.count()

    @staticmethod
    def environment(cfg: Config) -> dict[str, str]:
        return vllm_environment(cfg)

    async def start(self, prompts: list[Prompt], sampling: Sampling) -> dict[str, float]:
        begin = time.perf_counter()
        os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # vLLM lets it override the size that the config gives
        import vllm  # noqa: F401

        imported = time.perf_counter()
        self._prompts = {prompt.index: prompt for prompt in prompts}
        self._sampling = sampling
        platform = detect(self.cfg)
        self._core = self.core_type(self.name)
        self._adapter: Any = None  # what requests name, once the first weight update has brought an adapter
        self._receiver = WeightReceiver(self.cfg, platform, self.rank, self._core)
        model = self.cfg.model
        images = max(len(prompt.images) for prompt in prompts) if is_vision_language(load_config(model)) else None
        arguments = engine_arguments(self.cfg, platform, self.rank, locate_model(model), context_length(model), images)
        self._longest = arguments["max_model_len"]
        self._sleeps = arguments.get("enable_sleep_mode", False)
        with tempfile.TemporaryDirectory() as folder:
            if sampling.stop:
                # Apart from the model's config.json, which makes transformers rebuild some tokenizers instead of loading them.
                load_tokenizer(model).save_pretrained(folder)
                arguments["tokenizer"] = folder
            await self._core.start(arguments)
        await self._core.workers("limit_vocabulary", size=sampling.vocabulary, never=list(sampling.never))
        await self._core.renew(0)
        built = time.perf_counter()
        await self._receiver.start()
        return {"import_s": imported - begin, "engine_s": built - imported, "weights_s": time.perf_counter() - built}

    async def generate(self, requests: Sequence[Request], images: Mapping[int, ImageFeatures]) -> AsyncIterator[list[Completion]]:
        """As in the contract; each request is one vLLM request."""
        places = {str(next(self._ids)): place for place in range(len(requests))}
        jobs = []
        for id, request in zip(places, requests, strict=True):
            prompt = self._prompts[request.prompt]
            tokens = prompt.tokens.tolist() if request.behind is None else [*prompt.tokens.tolist(), *request.behind.tolist()]
            params = sampling_params(self._sampling, request.n, request.temperature)
            jobs.append(Job(id, tokens, params, self._prompt_images(request.prompt, images), self._adapter))
        stream = self._core.submit(jobs)
        started: dict[tuple[str, int], Any] = {}
        try:
            while not stream.exhausted:
                if completions := _finished(await stream.get(), places, started):
                    yield completions
        finally:
            if stream.pending:
                self._core.abort(stream)

    async def logprobs(self, continuations: Sequence[Continuation], images: Mapping[int, ImageFeatures]) -> list[Logprobs]:
        for one in continuations:
            if len(one.prompt_tokens) + len(one.tokens) >= self._longest:
                raise ValueError(
                    f"{self.name} computes log-probabilities of up to {self._longest - 1} tokens, "
                    f"got {len(one.prompt_tokens)} + {len(one.tokens)}"
                )
        params = logprobs_params()
        jobs = [
            Job(str(next(self._ids)), _joined(one), params, self._prompt_images(one.prompt, images), self._adapter) for one in continuations
        ]
        stream = self._core.submit(jobs)
        found: dict[str, Logprobs] = {}
        while not stream.exhausted:
            for output in await stream.get():
                # The first token has none, so that entry i - 1 is token i's.
                found[output.request_id] = np.array(output.prompt_logprobs.logprobs, np.float32)
        return [found[job.id][len(one.prompt_tokens) - 1 :] for job, one in zip(jobs, continuations, strict=True)]

    def check_weights(self, update: WeightUpdate) -> None:
        self._receiver.check(update)

    async def load_weights(self, update: WeightUpdate) -> None:
        await self._receiver.load(update)
        if update.kind == "adapter":
            self._adapter = adapter_request()
        await self._core.renew(update.version)

    async def checksum(self) -> str:
        """As in the contract, over all workers; "" on CPU where vLLM keeps a matrix in a packed form only."""
        digests = await self._core.workers("weight_checksum")
        return xxhash.xxh3_128_hexdigest(" ".join(digests).encode()) if all(digests) else ""

    async def pause(self) -> None:
        await self._core.pause()

    async def resume(self) -> None:
        await self._core.resume()

    async def sleep(self) -> None:
        if self._sleeps:
            await self._core.sleep(self.cfg.rollout.sleep)

    async def wake(self, part: SleepPart) -> None:
        if self._sleeps:
            await self._core.wake(part)

    async def state(self) -> list[str]:
        """Return one random state for each worker."""
        return await self._core.workers("random_state")

    async def load(self, state: list[str]) -> None:
        """As in the contract. Raises RunFailed for the state of another number of workers."""
        if len(state) != self.cfg.rollout.tensor_parallel:
            raise RunFailed(f"{self.name}: {len(state)} random states for rollout.tensor_parallel={self.cfg.rollout.tensor_parallel}")
        await self._core.workers("load_random_state", states=state)

    async def stop(self) -> None:
        await self._core.stop()

    def _prompt_images(self, prompt: int, images: Mapping[int, ImageFeatures]) -> PromptImages | None:
        """Return a prompt's images with their places in it. Raises RunFailed if the features are not those of the prompt's images."""
        spans = self._prompts[prompt].spans if prompt in self._prompts else ()
        if not spans:
            return None
        features = images.get(prompt)
        if features is None or len(features.digests) != len(spans):
            found = len(features.digests) if features else 0
            raise RunFailed(f"{self.name}: prompt {prompt} has {len(spans)} images, and there are features of {found}")
        return PromptImages(features, spans)


class InActorVllm(VllmEngine):
    """vLLM computes in the actor's process."""

    core_type = InProcessCore


class AsyncVllm(VllmEngine):
    """vLLM computes in processes that it starts."""

    core_type = AsyncCore


def _joined(one: Continuation) -> list[int]:
    return [*one.prompt_tokens.tolist(), *one.tokens.tolist()]


def _finished(outputs: list[Any], places: dict[str, int], started: dict[tuple[str, int], Any]) -> list[Completion]:
    """Return the completions that end with these outputs of vLLM; `started` holds the first part of the others."""
    completions = []
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
            completions.append(
                Completion(
                    request=places[output.request_id],
                    index=part.index,
                    tokens=np.array(tokens, np.int32),
                    logprobs=np.array(logprobs, np.float32),
                    truncated=part.finish_reason == "length",
                    version=int(part.weight_versions[0].version),
                )
            )
    return completions
