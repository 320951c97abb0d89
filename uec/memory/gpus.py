"""What each GPU of a run holds, and how large it has to be. Written, not measured: see docs/unverified.md."""

from uec.config.schema import Config
from uec.memory.engine import engine_parts
from uec.memory.learner import learner_parts
from uec.memory.load import Load
from uec.memory.parts import GIB, Estimate, Holder
from uec.memory.shape import Shape
from uec.system.platform import Platform

PROCESS = 1 * GIB
"""CUDA's context, NCCL's buffers and libraries' work space of a process: an assumption."""

SIZES = (16, 24, 40, 48, 80, 96, 141, 192)
"""GB, as makers name their GPUs."""

USABLE = 0.98
"""Of so many GiB a driver shows a little less: 79.6 of an H100's 80, 23.6 of an RTX 4090's 24."""


def gpu_estimates(cfg: Config, shape: Shape, platform: Platform, load: Load, device: float) -> list[Estimate]:
    """A device of each kind, of so many bytes: engines' and learners', or where `cluster.placement` is colocated, those of both."""
    engine = Holder("engine", engine_parts(cfg, shape, platform, PROCESS, device))
    learner = Holder("learner", learner_parts(cfg, shape, platform, load, PROCESS))
    engines, ranks = cfg.rollout.engines * cfg.rollout.tensor_parallel, cfg.learner.ranks
    if cfg.cluster.placement == "colocated":
        advice = [*_learner_advice(cfg, shape), *_engine_advice(cfg)]
        return [Estimate(_named(max(engines, ranks), "shared GPU"), [learner, engine], advice)]
    return [
        Estimate(_named(ranks, "learner GPU"), [learner], _learner_advice(cfg, shape)),
        Estimate(_named(engines, "engine GPU"), [engine], _engine_advice(cfg)),
    ]


def smallest_gpu(cfg: Config, shape: Shape, platform: Platform, load: Load) -> int | None:
    """The least of SIZES into which each device's part fits; None: not even the largest."""
    for size in SIZES:
        if all(estimate.bytes <= usable(size) for estimate in gpu_estimates(cfg, shape, platform, load, usable(size))):
            return size
    return None


def usable(size: int) -> float:
    """Bytes of a GPU of so many GB by name."""
    return size * USABLE * GIB


def _named(number: int, kind: str) -> str:
    return f"{number} {kind}{'s' if number > 1 else ''}"


def _learner_advice(cfg: Config, shape: Shape) -> list[str]:
    learner = cfg.learner
    said = [] if learner.gradient_checkpointing else ["learner.gradient_checkpointing=true"]
    said.append(f"learner.micro_batch_tokens below {learner.micro_batch_tokens}")
    said.append("more learner.ranks" + ("" if learner.zero_stage == 3 else " with learner.zero_stage=3"))
    if cfg.loss.kl_coef > 0:
        said.append("loss.kl_coef=0, which needs no reference model")
    if shape.trains_vision:
        said.append("model.freeze_vision_tower=true")
    return said


def _engine_advice(cfg: Config) -> list[str]:
    return [f"rollout.gpu_memory below {cfg.rollout.gpu_memory:g}", "a larger rollout.tensor_parallel"]
