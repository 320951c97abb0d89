"""A vLLM engine as RolloutActor sees it: jobs go in, vLLM's outputs stream out. Two kinds share this interface.

`engine_in_actor.py` steps vLLM's LLMEngine in a thread of the actor: the CPU default, where a process of its own costs
a third of the tokens/s. `engine_async.py` is vLLM's AsyncLLM: the GPU default, where Python must not hold up the device.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from uec.config.schema import Config
from uec.system.platform import Platform
from uec.types import ImageFeatures

CPU_KV_CACHE_MB = 512
CPU_BLOCK_SIZE = 32  # vLLM's own on CPU, 128, never finds a shorter prompt in the prefix cache


@dataclass(frozen=True, slots=True)
class Pictures:
    """A prompt's images."""

    features: ImageFeatures
    spans: tuple[tuple[int, int], ...]  # see uec.types.Prompt


@dataclass(frozen=True, slots=True)
class Job:
    """One vLLM request: n continuations of a prompt."""

    id: str
    prompt: list[int]
    params: Any  # vllm.SamplingParams
    images: Pictures | None = None


class Stream:
    """vLLM's outputs to some jobs, on their way from the engine to the one who asked. Lives in the actor's event loop."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.pending = set(ids)
        self.ended = asyncio.Event()
        self._arrived = asyncio.Event()
        self._outputs: list[Any] = []
        self._error: BaseException | None = None
        if not self.pending:
            self._end()

    @property
    def exhausted(self) -> bool:
        """Every output was taken, and no more will come."""
        return self.ended.is_set() and not self._outputs and self._error is None

    def put(self, outputs: list[Any]) -> None:
        self._outputs += outputs
        self.pending.difference_update(output.request_id for output in outputs if output.finished)
        self._arrived.set()
        if not self.pending:
            self._end()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._end()

    async def get(self) -> list[Any]:
        """All outputs since the last call, as soon as there are any; none after the last. Raises what made the engine fail."""
        await self._arrived.wait()
        return self.take()

    def take(self) -> list[Any]:
        """As `get`, but what is there now."""
        if self._error is not None:
            raise self._error
        outputs, self._outputs = self._outputs, []
        if not self.ended.is_set():
            self._arrived.clear()
        return outputs

    def _end(self) -> None:
        self.ended.set()
        self._arrived.set()


class Engine(Protocol):
    """What both kinds do. Every method raises RunFailed, naming the cause, once the engine is dead."""

    async def start(self, arguments: dict[str, Any]) -> None:
        """Build the engine from vLLM's engine arguments."""

    def submit(self, jobs: list[Job]) -> Stream:
        """Have the jobs done, beside all others."""

    def abort(self, stream: Stream) -> None:
        """Give up what is still pending of a stream."""

    async def workers(self, method: str, **kwargs: Any) -> list[Any]:
        """Call a method of every vLLM worker (of WorkerExtension, or of vLLM's own weight transfer)."""

    async def pause(self) -> None:
        """Come to rest after the token that is being sampled; what runs stays where it is, and what is submitted waits."""

    async def resume(self) -> None:
        """Go on after `pause`."""

    async def renew(self, version: int) -> None:
        """Forget what earlier weights computed, and label the outputs from now on. Nothing is running, or the engine is paused.

        In a paused engine with prefix caching, what runs computes its KV anew when it goes on; without, it keeps what it has.
        """

    async def stop(self) -> None:
        """End the engine and its processes."""


def engine_arguments(
    cfg: Config, platform: Platform, rank: int, model: str, context_length: int, pictures: int | None = None
) -> dict[str, Any]:
    """vLLM's engine arguments for a config; `model` is its folder or hub name, `context_length` in tokens.

    `pictures`: most images of a prompt; None for a text model.
    """
    rollout = cfg.rollout
    longest = cfg.data.max_prompt_tokens + rollout.max_tokens
    arguments: dict[str, Any] = {
        "model": model,
        "dtype": platform.dtype,
        "trust_remote_code": cfg.model.trust_remote_code,
        "seed": cfg.run.seed + rank,
        "max_model_len": min(longest + 1, max(context_length, longest)),  # + 1: scoring samples a token beyond the sequence
        "max_num_seqs": rollout.max_num_seqs,
        "max_num_batched_tokens": max(rollout.max_batched_tokens, rollout.max_num_seqs),
        "tensor_parallel_size": rollout.tensor_parallel,
        "distributed_executor_backend": "uni" if rollout.tensor_parallel == 1 else "mp",
        "enable_prefix_caching": rollout.prefix_caching,
        "logprobs_mode": "processed_logprobs",  # of the behaviour policy: temperature, top_p, top_k and min_p applied
        "generation_config": "vllm",  # the model's own sampling defaults would change the policy silently
        "skip_tokenizer_init": not rollout.stop,
        "weight_transfer_config": {"backend": platform.weights},
        "worker_extension_cls": "actors.engines.vllm.worker_extension.WorkerExtension",
        "enforce_eager": rollout.enforce_eager or platform.device == "cpu",
        "disable_log_stats": True,
    }
    if rollout.kv_cache_mb or platform.device == "cpu":
        arguments["kv_cache_memory_bytes"] = (rollout.kv_cache_mb or CPU_KV_CACHE_MB) << 20
    if platform.device == "cpu" and rollout.prefix_caching:
        arguments["block_size"] = CPU_BLOCK_SIZE
    if pictures is not None:
        arguments["skip_tokenizer_init"] = False  # vLLM's processor asks for one, though it is given tokens
        arguments["limit_mm_per_prompt"] = {"image": pictures, "video": 0, "audio": 0}
        # Images come processed: vLLM must neither keep them nor normalise their pixels once more, as it would by default.
        arguments["mm_processor_cache_gb"] = 0
        arguments["mm_device_do_normalize"] = False
        arguments["skip_mm_profiling"] = platform.device == "cpu"  # there the size of the KV cache is given
    if platform.device == "cuda":
        arguments["gpu_memory_utilization"] = rollout.gpu_memory
    return arguments
