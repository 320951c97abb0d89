"""The memory of a learner rank, derived from DeepSpeed 0.19's ZeRO (`runtime/zero/`) as `uec/models/deepspeed_engine.py` configures it.

Weights, float32 copies and moments exist all the time. Gradients, activations and a chunk of logits exist in the backward pass; the
optimizer step holds copies of the gradients instead. The allocator reuses for the step what the backward pass has freed, so only the
larger of the two counts. On CPU, glibc's heap (with the settings of `actors/workers/learner.py`) returns nothing to the system and
seldom reuses blocks for another micro-batch or step of a different size: there, activations count FRAGMENTED times.
"""

from uec.config.schema import Config
from uec.memory.allocations import Allocation
from uec.memory.shape import Shape
from uec.memory.workload import Workload
from uec.models.packing import packs
from uec.models.pretrained import load_config
from uec.system.platform import Platform

BUCKET = 500_000_000
"""Elements of DeepSpeed's gradient bucket (`reduce_bucket_size`)."""

LIVE = 1_000_000_000
"""Elements of the parameters that ZeRO-3 keeps gathered at once (`max_live_parameters`), and of a group in its optimizer step."""

LOGITS = 3
"""Chunks of float32 logits that exist at once in the backward pass: log-probabilities, their gradient, and the logits' gradient."""

FRAGMENTED = 1.5
"""Bytes of memory on CPU per byte of activations, measured; see docs/hardware.md."""

PACKED_BUFFERS = 2 << 30
"""Bytes of the two buffers in which vLLM broadcasts weights (weights.backend=nccl)."""

OPTIMIZER_STATES = ("float32 weights of the optimizer", "AdamW's two moments")

IPC_BUFFER = 256 << 20
"""Bytes of each of the two buffers of weights.backend=ipc; a larger tensor enlarges them."""

GPU_SLACK = 0.08
"""Fraction of the tensors' memory that PyTorch's GPU allocator cannot use: assumed, not measured."""


def learner_memory(cfg: Config, shape: Shape, platform: Platform, workload: Workload, process: float) -> list[Allocation]:
    """Return the allocations of one rank at its peak. `process`: bytes of a process with its libraries loaded and without a model."""
    permanent, backward, step = _permanent(cfg, shape, platform), _backward(cfg, shape, platform, workload), _step(cfg, shape, platform)
    found = [*permanent, *max((backward, step), key=lambda phase: sum(allocation.bytes for allocation in phase))]
    if platform.device == "cuda":
        found.append(Allocation("allocator overhead", GPU_SLACK * sum(allocation.bytes for allocation in found)))
    return [Allocation("process", process), *(allocation for allocation in found if allocation.bytes)]


def resting_memory(cfg: Config, shape: Shape, platform: Platform, process: float, offload: str) -> list[Allocation]:
    """Return what a rank holds on a shared GPU while it does not train. `offload`: as `learner.offload`."""
    offloaded = {"none": (), "optimizer": OPTIMIZER_STATES, "all": (*OPTIMIZER_STATES, "weights")}[offload]
    return [
        Allocation("process", process),
        *(found for found in _permanent(cfg, shape, platform) if found.bytes and found.name not in offloaded),
    ]


def micro_batch_tokens(cfg: Config, workload: Workload) -> float:
    """Return the tokens of the largest micro-batch: the budget, fewer if a step has fewer, or one sequence that exceeds the budget."""
    step = workload.tokens(cfg, packs(cfg.learner, load_config(cfg.model)))
    return max(min(step, cfg.learner.micro_batch_tokens), workload.prompt + cfg.rollout.max_tokens)


def _permanent(cfg: Config, shape: Shape, platform: Platform) -> list[Allocation]:
    stage, ranks, width = cfg.learner.zero_stage, cfg.learner.ranks, _width(platform)
    of_weights, of_states = ranks if stage == 3 else 1, ranks if stage else 1
    # Stage 0, and stage 3 in float32, update the same weights that they compute with.
    master = 0 if stage == 0 or (stage == 3 and width == 4) else 4 * shape.trained / of_states
    found = [] if cfg.learner.cpu_offload == "parameters" else [Allocation("weights", width * shape.parameters / of_weights)]
    if cfg.learner.cpu_offload == "none":
        found += [Allocation(name, size) for name, size in zip(OPTIMIZER_STATES, (master, 8 * shape.trained / of_states), strict=True)]
    if cfg.loss.kl_coef > 0 and not cfg.lora.enabled:
        found.append(Allocation("reference model", width * shape.parameters / of_weights))
    if platform.weights == "ipc":
        found.append(Allocation("buffers of the weight sync", 2 * max(IPC_BUFFER, width * shape.head)))
    if platform.weights == "nccl":
        found.append(Allocation("buffers of the weight sync", PACKED_BUFFERS))
    return found


def _gradients(cfg: Config, shape: Shape) -> float:
    """Return the bytes of accumulated gradients on the device. With `learner.cpu_offload` they accumulate in host memory (ZeRO-2 and 3)."""
    if cfg.learner.cpu_offload != "none" and cfg.learner.zero_stage >= 2:
        return 0.0
    return 4 * shape.trained / (cfg.learner.ranks if cfg.learner.zero_stage >= 2 else 1)


def _bucket(cfg: Config, shape: Shape, platform: Platform) -> float:
    """Return the bytes of the gradient bucket. On CPU, pages that were never written take no memory; on a GPU the whole bucket counts.
    Only stage 2 keeps gradients in the dtype in which they were computed.
    """
    if cfg.learner.zero_stage == 0:
        return 0
    width = _width(platform) if cfg.learner.zero_stage == 2 else 4
    return width * (BUCKET if platform.device == "cuda" else min(BUCKET, shape.trained))


def _backward(cfg: Config, shape: Shape, platform: Platform, workload: Workload) -> list[Allocation]:
    width, stage = _width(platform), cfg.learner.zero_stage
    tokens = micro_batch_tokens(cfg, workload)
    waste = FRAGMENTED if platform.device == "cpu" else 1
    chunk = min(4 * shape.vocabulary * tokens, max(cfg.learner.logits_chunk_mb << 20, 4 * shape.vocabulary))
    found = [
        Allocation("gradients", _gradients(cfg, shape)),
        Allocation("gradient bucket", _bucket(cfg, shape, platform)),
        Allocation(f"activations of {tokens:.0f} tokens", waste * _activations(cfg, shape, platform, workload, tokens)),
        Allocation("logits", LOGITS * chunk + width * shape.head),  # with the output embedding's gradient from one chunk
    ]
    if stage in (1, 2) and cfg.learner.ranks > 1 and platform.device == "cpu":  # gloo reduces a copy
        found.append(Allocation("gradients sent to other ranks", 4 * min(BUCKET, shape.trained)))
    if stage == 3:
        found.append(Allocation("gathered layers", width * min(LIVE, shape.parameters)))
        if platform.device == "cpu":  # gloo has no reduce-scatter: full gradients are laid out for all ranks and reduced
            copies = 2 if cfg.learner.ranks == 1 else 3.5
            found.append(Allocation("gradients laid out for the ranks", copies * 4 * min(BUCKET, shape.trained)))
    return found


def _step(cfg: Config, shape: Shape, platform: Platform) -> list[Allocation]:
    """Return the optimizer step's copies of gradients: those of this rank's share of the parameters, and the flat ones for AdamW."""
    stage, single = cfg.learner.zero_stage, _width(platform) == 4
    share = 0.0 if cfg.learner.cpu_offload != "none" else 4 * shape.trained / (cfg.learner.ranks if stage else 1)
    copies = {0: share, 1: 2 * share if single else share, 2: share if single else 0, 3: min(share, 4 * LIVE)}[stage]
    return [
        Allocation("gradients", _gradients(cfg, shape)),
        Allocation("gradient bucket", _bucket(cfg, shape, platform) if stage == 3 or platform.device == "cpu" else 0),
        Allocation("the optimizer step's copies of gradients", copies),
    ]


def _activations(cfg: Config, shape: Shape, platform: Platform, workload: Workload, tokens: float) -> float:
    """Return the bytes of a micro-batch's activations: those kept for the backward pass, and two layers of temporaries."""
    width, recomputed = _width(platform), cfg.learner.gradient_checkpointing
    prompt, response = workload.prompt, cfg.rollout.max_tokens
    packed = packs(cfg.learner, load_config(cfg.model))
    stacks = [(shape.text, tokens, 1 + prompt / response if packed else 1.0)]
    if shape.vision is not None and shape.trains_vision:
        image_tokens = min(prompt, (cfg.data.image.max_pixels or prompt * shape.pixels) // shape.pixels)  # at most, per prompt
        prompts = tokens / (prompt + response * (max(workload.responses(cfg), 1) if packed else 1))
        stacks.append((shape.vision, prompts * image_tokens * shape.patches, 1.0))
    total = 0.0
    for layers, count, keys in stacks:
        layer = layers.kept_bytes(width, keys)
        kept = layers.count * width * layers.hidden + layer if recomputed else layers.count * layer
        total += count * (kept + 2 * layer)
    return total


def _width(platform: Platform) -> int:
    return 4 if platform.dtype == "float32" else 2
