"""vLLM without an actor around it: the bound that RolloutActor is compared with."""

import asyncio
import itertools
import os
import time
from typing import Any

from bench.processes import cpu_seconds, tree
from bench.turns import Block
from uec.config.schema import Config


def _arguments(cfg: Config) -> dict[str, Any]:
    """Return the same engine arguments as VllmEngine's."""
    from actors.engines.vllm.job import engine_arguments
    from uec.models.model_config import is_vision_language
    from uec.models.pretrained import context_length, load_config, locate_model
    from uec.system.platform import detect

    os.environ.pop("VLLM_CPU_KVCACHE_SPACE", None)  # would override the size that the config gives
    images = 1 if is_vision_language(load_config(cfg.model)) else None
    return engine_arguments(cfg, detect(cfg), 0, locate_model(cfg.model), context_length(cfg.model), images)


def _sampling(cfg: Config) -> Any:
    """Return VllmEngine's sampling parameters, but with each request's output in one piece at its end: vLLM's cheapest way."""
    import vllm
    from vllm.sampling_params import RequestOutputKind

    from uec.models.pretrained import load_tokenizer
    from uec.models.vocabulary import stop_tokens

    settings = cfg.rollout
    return vllm.SamplingParams(
        n=settings.n,
        temperature=settings.temperature,
        top_p=settings.top_p,
        top_k=settings.top_k,
        min_p=settings.min_p,
        max_tokens=settings.max_tokens,
        stop_token_ids=stop_tokens(cfg.model, load_tokenizer(cfg.model), cfg.rollout.stop_tokens),
        detokenize=False,
        logprobs=0,
        flat_logprobs=True,
        output_kind=RequestOutputKind.FINAL_ONLY,
        skip_clone=True,
    )


def _tokens(output: Any) -> int:
    return sum(len(part.token_ids) for part in output.outputs)


def _cpu() -> float:
    """Return the CPU time of this process and its children, in seconds."""
    return cpu_seconds(tree(os.getpid()))


class BareLLM:
    """`vllm.LLM.generate` in the process that calls it."""

    def __init__(self, cfg: Config) -> None:
        import vllm

        self._llm = vllm.LLM(**_arguments(cfg))
        self._params = _sampling(cfg)

    def load_random_state(self, states: list[str]) -> None:
        """Restore an engine's random state."""
        self._llm.collective_rpc("load_random_state", kwargs={"states": states})

    def sample(self, batches: list[list[list[int]]]) -> Block:
        """Sample the batches of prompts one after the other, each in one call."""
        begin, cpu_begin = time.perf_counter(), _cpu()
        outputs = [self._llm.generate([{"prompt_token_ids": p} for p in batch], self._params, use_tqdm=False) for batch in batches]
        seconds = time.perf_counter() - begin
        return Block(seconds, sum(_tokens(output) for batch in outputs for output in batch), _cpu() - cpu_begin)


class BareVisionLLM:
    """vLLM's LLMEngine stepped in a loop, on prompts with image features."""

    def __init__(self, cfg: Config) -> None:
        from vllm.engine.arg_utils import EngineArgs
        from vllm.v1.engine.llm_engine import LLMEngine

        from uec.models.pretrained import load_tokenizer
        from uec.models.processor import load_processor
        from uec.models.vocabulary import vocabulary_size

        self._engine = LLMEngine.from_engine_args(EngineArgs(**_arguments(cfg)))
        self._params = _sampling(cfg)
        self._ids = itertools.count()
        tokenizer = load_tokenizer(cfg.model)
        never = load_processor(cfg.model, cfg.data.image, tokenizer).vision_tokens()
        self._engine.collective_rpc("limit_vocabulary", kwargs={"size": vocabulary_size(tokenizer), "never": never})

    def load_random_state(self, states: list[str]) -> None:
        """Restore an engine's random state."""
        self._engine.collective_rpc("load_random_state", kwargs={"states": states})

    def sample(self, batches: list[list[tuple[list[int], Any]]]) -> Block:
        """Sample the batches of prompts with their images one after the other, the requests of each at once."""
        from actors.engines.vllm.inputs import engine_input
        from actors.engines.vllm.job import Job

        begin, cpu_begin = time.perf_counter(), _cpu()
        tokens = 0
        for batch in batches:
            for prompt, images in batch:
                job = Job(str(next(self._ids)), prompt, self._params, images)
                self._engine.add_request(job.id, engine_input(self._engine.renderer, job), job.params)
            while self._engine.has_unfinished_requests():
                tokens += sum(_tokens(output) for output in self._engine.step())
        return Block(time.perf_counter() - begin, tokens, _cpu() - cpu_begin)


class BareAsyncLLM:
    """vLLM's AsyncLLM, its engine in a separate process, with a task for each request."""

    def __init__(self, cfg: Config) -> None:
        self._loop = asyncio.new_event_loop()
        self._params = _sampling(cfg)
        self._ids = itertools.count()
        self._loop.run_until_complete(self._start(_arguments(cfg)))

    def load_random_state(self, states: list[str]) -> None:
        """Restore an engine's random state."""
        self._loop.run_until_complete(self._llm.collective_rpc("load_random_state", kwargs={"states": states}))

    def sample(self, batches: list[list[list[int]]]) -> Block:
        """Sample the batches of prompts one after the other, the requests of each at once."""
        return self._loop.run_until_complete(self._sample(batches))

    async def _start(self, arguments: dict[str, Any]) -> None:
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        self._llm = AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments))

    async def _sample(self, batches: list[list[list[int]]]) -> Block:
        begin, cpu_begin = time.perf_counter(), _cpu()
        outputs = [await asyncio.gather(*(self._one(prompt) for prompt in batch)) for batch in batches]
        seconds = time.perf_counter() - begin
        return Block(seconds, sum(_tokens(output) for batch in outputs for output in batch), _cpu() - cpu_begin)

    async def _one(self, prompt: list[int]) -> Any:
        final = None
        async for output in self._llm.generate({"prompt_token_ids": prompt}, self._params, str(next(self._ids))):
            final = output
        return final
