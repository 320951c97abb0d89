"""The memory of a vLLM engine."""

from uec.config.schema import Config
from uec.memory.allocations import Allocation
from uec.memory.learner_memory import PACKED_BUFFERS
from uec.memory.shape import Shape
from uec.system.gpu_devices import Gpu
from uec.system.platform import Platform, sequences

CPU_KV_CACHE_MB = 512
"""The size that `actors/engines/vllm/job.py` passes to vLLM where `rollout.kv_cache_mb` is not set."""

OWN_GPU = 0.85
"""Share of a GPU that an engine takes if `rollout.gpu_memory` is null and no learner shares the GPU."""

SAMPLER_LOGITS = 3
"""Copies of the float32 logits that exist at once: raw, scaled, and as log-probabilities."""


def engine_memory(cfg: Config, shape: Shape, platform: Platform, process: float, device: float | None = None) -> list[Allocation]:
    """Return the allocations on one device of an engine.

    `process`: bytes of the process without a model. `device`: bytes of a GPU, of which the engine takes `rollout.gpu_memory`, or
    OWN_GPU for null.
    """
    rollout, width = cfg.rollout, 4 if platform.dtype == "float32" else 2
    split = rollout.tensor_parallel
    weights = width * shape.parameters / split
    work = rollout.max_batched_tokens * width * (2 * shape.text.hidden + 2 * shape.text.intermediate / split)
    logits = SAMPLER_LOGITS * 4 * sequences(cfg, None if device is None else Gpu("", int(device))) * shape.vocabulary
    found = [Allocation("process", process), Allocation("weights", weights)]
    if platform.device == "cpu":
        found.append(Allocation("weights packed for vLLM's CPU kernels", weights))
    found += [Allocation("work space", work), Allocation("logits", logits)]
    taken = sum(allocation.bytes for allocation in found)
    if rollout.kv_cache_mb or platform.device == "cpu":
        cache = float((rollout.kv_cache_mb or CPU_KV_CACHE_MB) << 20)
    elif device is not None:
        cache = max((rollout.gpu_memory or OWN_GPU) * device - taken, least_cache(cfg, shape, width))
    else:
        cache = least_cache(cfg, shape, width)
    found.append(Allocation("KV cache", cache))
    if platform.weights == "nccl":
        found.append(Allocation("buffers of the weight sync", PACKED_BUFFERS))
    return found


def least_cache(cfg: Config, shape: Shape, width: int) -> float:
    """Return the bytes per device of one full-length sequence's keys and values; vLLM does not start with less."""
    longest = cfg.data.max_prompt_tokens + cfg.rollout.max_tokens + 1
    return longest * shape.kv_bytes(width) / min(cfg.rollout.tensor_parallel, max(1, shape.text.key_heads))
