"""The interface of vLLM's engine core: VllmEngine submits jobs and receives vLLM's outputs as a stream. It has two implementations.

`in_process.py` steps vLLM's LLMEngine in a thread of the actor. It is the default on CPU, where a separate process costs a third of the
tokens/s. `async_llm.py` is vLLM's AsyncLLM. It is the default on GPUs, where Python must not delay the device.
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from actors.engines.vllm.adapter import adapter_arguments
from uec.config.schema import Config
from uec.system.platform import Platform, sequences
from uec.types import ImageFeatures

CPU_KV_CACHE_MB = 512
CPU_BLOCK_SIZE = 32  # with vLLM's default on CPU, 128, the prefix cache never holds a shorter prompt


@dataclass(frozen=True, slots=True)
class PromptImages:
    """A prompt's images and their places in its tokens."""

    features: ImageFeatures
    spans: tuple[tuple[int, int], ...]  # see uec.types.Prompt


@dataclass(frozen=True, slots=True)
class Job:
    """One vLLM request: n continuations of a prompt."""

    id: str
    prompt: list[int]
    params: Any  # vllm.SamplingParams
    images: PromptImages | None = None
    adapter: Any = None  # vllm's LoRARequest


class Stream:
    """A queue of vLLM's outputs to some jobs, from the engine to the caller. Lives in the actor's event loop."""

    def __init__(self, ids: Iterable[str]) -> None:
        self.pending = set(ids)
        self.ended = False
        self._arrived = asyncio.Event()
        self._outputs: list[Any] = []
        self._error: BaseException | None = None
        if not self.pending:
            self._end()

    @property
    def exhausted(self) -> bool:
        """Return whether every output was taken and no more will come."""
        return self.ended and not self._outputs and self._error is None

    def put(self, outputs: list[Any]) -> None:
        """Add outputs; a job's last one ends it."""
        self._outputs += outputs
        self.pending.difference_update(output.request_id for output in outputs if output.finished)
        self._arrived.set()
        if not self.pending:
            self._end()

    def fail(self, error: BaseException) -> None:
        """End all jobs: `get` raises the error from now on."""
        self._error = error
        self._end()

    async def get(self) -> list[Any]:
        """Return all outputs since the last call, as soon as there are any; none after the last. Raises what made the engine fail."""
        await self._arrived.wait()
        if self._error is not None:
            raise self._error
        outputs, self._outputs = self._outputs, []
        if not self.ended:
            self._arrived.clear()
        return outputs

    def _end(self) -> None:
        self.ended = True
        self._arrived.set()


class EngineCore(Protocol):
    """Both implementations have these methods. Every method raises RunFailed, naming the cause, once the engine is dead."""

    def __init__(self, name: str) -> None:
        """Keep the actor's name, for messages."""

    async def start(self, arguments: dict[str, Any]) -> None:
        """Build the engine from vLLM's engine arguments."""

    def submit(self, jobs: list[Job]) -> Stream:
        """Start the jobs, beside all others, and return the stream of their outputs."""

    def abort(self, stream: Stream) -> None:
        """Abort the jobs of a stream that are still pending."""

    async def workers(self, method: str, **kwargs: Any) -> list[Any]:
        """Call a method of every vLLM worker (of WorkerExtension, or of vLLM's own weight transfer)."""

    async def pause(self) -> None:
        """Pause after the current decode step; running jobs keep their state, new ones queue."""

    async def resume(self) -> None:
        """Continue after `pause`."""

    async def sleep(self, level: int) -> None:
        """Discard the KV cache, and move the weights to host memory (level 1) or discard them (2). Nothing is running.

        Needs `enable_sleep_mode`.
        """

    async def wake(self, tag: str) -> None:
        """Allocate what vLLM tagged `weights` or `kv_cache`; weights of level 1 get their values back."""

    async def renew(self, version: int) -> None:
        """Drop every cache of earlier weights, and label later outputs with the version. Nothing is running, or the engine is paused.

        In a paused engine with prefix caching, running jobs compute their KV anew when they continue; without, they keep it.
        """

    async def stop(self) -> None:
        """End the engine and its processes."""


def environment(cfg: Config) -> dict[str, str]:
    """Return the environment variables that vLLM reads when it is imported."""
    variables = {
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",  # engines that bind themselves all take the same cores
        "VLLM_ENABLE_V1_MULTIPROCESSING": "1" if cfg.rollout.tensor_parallel > 1 else "0",  # on CPU, 1 forbids the executor "uni"
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_USE_FLASHINFER_SAMPLER": "0",  # nvcc would compile it at the start
    }
    if cfg.weights.backend == "ipc" or cfg.cluster.placement == "colocated":
        variables["VLLM_ALLOW_INSECURE_SERIALIZATION"] = "1"  # AsyncLLM pickles CUDA handles on their way to its own child process
    return variables


def engine_arguments(
    cfg: Config, platform: Platform, rank: int, model: str, context_length: int, images: int | None = None
) -> dict[str, Any]:
    """Return vLLM's engine arguments for a config; `model` is its folder or hub name, `context_length` in tokens.

    `images`: the most that a prompt has; None for a text model.
    """
    rollout = cfg.rollout
    longest = cfg.data.max_prompt_tokens + rollout.max_tokens
    arguments: dict[str, Any] = {
        "model": model,
        "dtype": platform.dtype,
        "load_format": "safetensors",  # "auto" would take pickled weights, and Mistral's files before those of transformers
        "trust_remote_code": cfg.model.trust_remote_code,
        "seed": cfg.run.seed + rank,
        "max_model_len": min(longest + 1, max(context_length, longest)),  # + 1: `logprobs` samples a token beyond the sequence
        "max_num_seqs": sequences(cfg),
        "max_num_batched_tokens": max(rollout.max_batched_tokens, sequences(cfg)),
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
    if platform.lora == "adapter":
        arguments |= adapter_arguments(cfg.lora.rank)
    if rollout.kv_cache_mb or platform.device == "cpu":
        arguments["kv_cache_memory_bytes"] = (rollout.kv_cache_mb or CPU_KV_CACHE_MB) << 20
    if platform.device == "cpu" and rollout.prefix_caching:
        arguments["block_size"] = CPU_BLOCK_SIZE
    if images is not None:
        arguments["skip_tokenizer_init"] = False  # vLLM's processor asks for one, though it is given tokens
        arguments["limit_mm_per_prompt"] = {"image": images, "video": 0, "audio": 0}
        # Images come processed: vLLM must neither cache them nor normalise their pixels again, as it would by default.
        arguments["mm_processor_cache_gb"] = 0
        arguments["mm_device_do_normalize"] = False
        limits = {"min_pixels": cfg.data.image.min_pixels, "max_pixels": cfg.data.image.max_pixels}
        if limits := {name: pixels for name, pixels in limits.items() if pixels is not None}:
            arguments["mm_processor_kwargs"] = limits  # vLLM measures its memory with the largest image that they allow
        arguments["skip_mm_profiling"] = platform.device == "cpu"  # there the size of the KV cache is given
    if rollout.head_dtype == "float32" and platform.dtype != "float32":
        # A vision-language model may build its language model from the text part of its config only.
        arguments["hf_overrides"] = {"head_dtype": "float32"} | ({} if images is None else {"text_config": {"head_dtype": "float32"}})
    if platform.device == "cuda":
        arguments["gpu_memory_utilization"] = rollout.gpu_memory
        if rollout.sleep:
            arguments["enable_sleep_mode"] = True
    return arguments
