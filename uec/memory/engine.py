"""What a vLLM engine holds."""

from uec.config.schema import Config
from uec.memory.learner import PACKED_BUFFERS
from uec.memory.parts import Part
from uec.memory.shape import Shape
from uec.system.platform import Platform

CPU_KV_CACHE_MB = 512
"""As `actors/engines/vllm/job.py` gives it to vLLM where `rollout.kv_cache_mb` is not set."""

SAMPLER_LOGITS = 3
"""Float32 logits at once: as they are, scaled, and as log-probabilities."""


def engine_parts(cfg: Config, shape: Shape, platform: Platform, process: float, device: float | None = None) -> list[Part]:
    """Of one device of an engine. `process`: bytes without a model. `device`: a GPU's memory, of which `rollout.gpu_memory` is taken."""
    rollout, width = cfg.rollout, 4 if platform.dtype == "float32" else 2
    split = rollout.tensor_parallel
    weights = width * shape.parameters / split
    work = rollout.max_batched_tokens * width * (2 * shape.text.hidden + 2 * shape.text.intermediate / split)
    logits = SAMPLER_LOGITS * 4 * rollout.max_num_seqs * shape.vocabulary
    parts = [Part("process", process), Part("weights", weights)]
    if platform.device == "cpu":
        parts.append(Part("weights packed for vLLM's CPU kernels", weights))
    parts += [Part("work space", work), Part("logits", logits)]
    taken = sum(part.bytes for part in parts)
    if rollout.kv_cache_mb or platform.device == "cpu":
        cache = float((rollout.kv_cache_mb or CPU_KV_CACHE_MB) << 20)
    elif device is not None:
        cache = max(rollout.gpu_memory * device - taken, least_cache(cfg, shape, width))
    else:
        cache = least_cache(cfg, shape, width)
    parts.append(Part("KV cache", cache))
    if platform.weights == "nccl":
        parts.append(Part("buffers of the weight exchange", PACKED_BUFFERS))
    return parts


def least_cache(cfg: Config, shape: Shape, width: int) -> float:
    """Keys and values of one sequence of full length, without which vLLM does not start: bytes a device of the engine."""
    longest = cfg.data.max_prompt_tokens + cfg.rollout.max_tokens + 1
    return longest * shape.kv_bytes(width) / min(cfg.rollout.tensor_parallel, max(1, shape.text.key_heads))
