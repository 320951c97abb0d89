"""What a learner rank holds: written after DeepSpeed 0.19's ZeRO (`runtime/zero/`), as `uec/models/deepspeed_engine.py` sets it up.

Weights, float32 copies and moments are there all the time. Gradients, activations and a piece of logits are there in the backward pass;
in the optimizer step gradients are copied instead. The allocator gives to the step what the backward pass no longer needs, so that only
the larger of the two counts. On CPU glibc's heap, as `actors/workers/learner.py` sets it up, gives nothing back, and takes blocks of one
size seldom for those of another micro-batch or step: there activations count FRAGMENTED times.
"""

from uec.config.schema import Config
from uec.memory.load import Load
from uec.memory.parts import Part
from uec.memory.shape import Shape
from uec.models.packing import packs
from uec.models.source import load_config
from uec.system.platform import Platform

BUCKET = 500_000_000
"""Numbers in DeepSpeed's buffer of gradients under way (`reduce_bucket_size`)."""

LIVE = 1_000_000_000
"""Numbers of partitioned parameters that ZeRO-3 keeps whole at once (`max_live_parameters`), and of a group in its optimizer step."""

LOGITS = 3
"""Pieces of float32 logits at once, in the backward pass: log-probabilities, their gradient, and that of the logits."""

FRAGMENTED = 1.5
"""Memory on CPU for a byte of activations: measured, see docs/hardware.md."""

PACKED_BUFFERS = 2 << 30
"""Two buffers of vLLM's broadcast of weights (weights.backend=nccl)."""

GPU_SLACK = 0.08
"""Share of its tensors' memory that PyTorch's allocator on a GPU cannot use: an assumption, not measured here."""


def learner_parts(cfg: Config, shape: Shape, platform: Platform, load: Load, process: float) -> list[Part]:
    """Of one rank, at its peak. `process`: bytes of a process that has loaded its libraries and holds no model."""
    held, backward, step = _held(cfg, shape, platform), _backward(cfg, shape, platform, load), _step(cfg, shape, platform)
    parts = [*held, *max((backward, step), key=lambda some: sum(part.bytes for part in some))]
    if platform.device == "cuda":
        parts.append(Part("what the allocator cannot use", GPU_SLACK * sum(part.bytes for part in parts)))
    return [Part("process", process), *(part for part in parts if part.bytes)]


def micro_batch_tokens(cfg: Config, load: Load) -> float:
    """Tokens of the largest micro-batch: the budget, or less where a step has no more, or one sequence that is longer."""
    step = load.tokens(cfg, packs(cfg.learner, load_config(cfg.model)))
    return max(min(step, cfg.learner.micro_batch_tokens), load.prompt + cfg.rollout.max_tokens)


def _held(cfg: Config, shape: Shape, platform: Platform) -> list[Part]:
    stage, ranks, width = cfg.learner.zero_stage, cfg.learner.ranks, _width(platform)
    of_weights, of_states = ranks if stage == 3 else 1, ranks if stage else 1
    # Stage 3 in float32 and stage 0 compute with the very weights that they update.
    master = 0 if stage == 0 or (stage == 3 and width == 4) else 4 * shape.trained / of_states
    parts = [
        Part("weights", width * shape.parameters / of_weights),
        Part("float32 weights of the optimizer", master),
        Part("AdamW's two moments", 8 * shape.trained / of_states),
    ]
    if cfg.loss.kl_coef > 0:
        parts.append(Part("reference model", width * shape.parameters / of_weights))
    if platform.weights == "ipc" and stage == 3:
        parts.append(Part("weights handed to the engine", width * shape.trained))
    if platform.weights == "nccl":
        parts.append(Part("buffers of the weight exchange", PACKED_BUFFERS))
    return parts


def _gradients(cfg: Config, shape: Shape) -> float:
    return 4 * shape.trained / (cfg.learner.ranks if cfg.learner.zero_stage >= 2 else 1)


def _bucket(cfg: Config, shape: Shape, platform: Platform) -> float:
    """On CPU memory that was never written to takes none; on a GPU all of it is taken. Stage 2 alone holds them as they were computed."""
    if cfg.learner.zero_stage == 0:
        return 0
    width = _width(platform) if cfg.learner.zero_stage == 2 else 4
    return width * (BUCKET if platform.device == "cuda" else min(BUCKET, shape.trained))


def _backward(cfg: Config, shape: Shape, platform: Platform, load: Load) -> list[Part]:
    width, stage = _width(platform), cfg.learner.zero_stage
    tokens = micro_batch_tokens(cfg, load)
    waste = FRAGMENTED if platform.device == "cpu" else 1
    chunk = min(4 * shape.vocabulary * tokens, max(cfg.learner.logits_chunk_mb << 20, 4 * shape.vocabulary))
    parts = [
        Part("gradients", _gradients(cfg, shape)),
        Part("gradients under way", _bucket(cfg, shape, platform)),
        Part(f"activations of {tokens:.0f} tokens", waste * _activations(cfg, shape, platform, load, tokens)),
        Part("logits", LOGITS * chunk + width * shape.head),  # and the output embedding's gradient of one piece
    ]
    if stage in (1, 2) and cfg.learner.ranks > 1 and platform.device == "cpu":  # gloo sums up a copy
        parts.append(Part("gradients on their way to other ranks", 4 * min(BUCKET, shape.trained)))
    if stage == 3:
        parts.append(Part("layers made whole", width * min(LIVE, shape.parameters)))
        if platform.device == "cpu":  # gloo has no reduce-scatter: gradients are laid out for all ranks and reduced as a whole
            parts.append(Part("gradients laid out for the ranks", (2 if cfg.learner.ranks == 1 else 3.5) * 4 * min(BUCKET, shape.trained)))
    return parts


def _step(cfg: Config, shape: Shape, platform: Platform) -> list[Part]:
    """The optimizer step's copies: of gradients for this rank's share of the parameters, and flat for AdamW."""
    stage, single = cfg.learner.zero_stage, _width(platform) == 4
    share = 4 * shape.trained / (cfg.learner.ranks if stage else 1)
    copies = {0: share, 1: 2 * share if single else share, 2: share if single else 0, 3: min(share, 4 * LIVE)}[stage]
    return [
        Part("gradients", _gradients(cfg, shape)),
        Part("gradients under way", _bucket(cfg, shape, platform) if stage == 3 or platform.device == "cpu" else 0),
        Part("the optimizer step's copies of gradients", copies),
    ]


def _activations(cfg: Config, shape: Shape, platform: Platform, load: Load, tokens: float) -> float:
    """Of a micro-batch, in bytes: what is kept for the backward pass, and two layers of what that works on."""
    width, again = _width(platform), cfg.learner.gradient_checkpointing
    prompt, response = load.prompt, cfg.rollout.max_tokens
    packed = packs(cfg.learner, load_config(cfg.model))
    parts = [(shape.text, tokens, 1 + prompt / response if packed else 1.0)]
    if shape.vision is not None and shape.trains_vision:
        image_tokens = min(prompt, (cfg.data.image.max_pixels or prompt * shape.pixels) // shape.pixels)  # of a prompt at most
        prompts = tokens / (prompt + response * (max(load.responses(cfg), 1) if packed else 1))
        parts.append((shape.vision, prompts * image_tokens * shape.patches, 1.0))
    total = 0.0
    for blocks, count, keys in parts:
        layer = blocks.kept(width, keys)
        kept = blocks.layers * width * blocks.hidden + layer if again else blocks.layers * layer
        total += count * (kept + 2 * layer)
    return total


def _width(platform: Platform) -> int:
    return 4 if platform.dtype == "float32" else 2
