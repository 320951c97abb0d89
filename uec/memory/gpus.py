"""The memory of each GPU of a run, and the smallest GPU that is large enough. Calculated, not measured: see docs/unverified.md."""

import math
from dataclasses import replace

from uec.config.schema import Config
from uec.memory.allocations import GIB, Allocation, DeviceEstimate, Holder
from uec.memory.engine_memory import OWN_GPU, engine_memory, least_cache
from uec.memory.learner_memory import learner_memory, resting_memory
from uec.memory.shape import Shape
from uec.memory.workload import Workload
from uec.system.platform import Platform

PROCESS = 1 * GIB
"""Assumed bytes of a process's CUDA context, NCCL buffers and library work space."""

MARGIN = 0.02
"""Fraction of a shared GPU that stays free."""

SIZES = (16, 24, 40, 48, 80, 96, 141, 192)
"""GB, the nominal sizes of GPUs."""

USABLE = 0.98
"""Fraction of the nominal GiB that the driver reports: 79.6 of an H100's 80, 23.6 of an RTX 4090's 24."""


def gpu_estimates(cfg: Config, shape: Shape, platform: Platform, workload: Workload, device: float) -> list[DeviceEstimate]:
    """Return an estimate for learner GPUs and one for engine GPUs of `device` bytes.

    If `cluster.placement` is colocated, one for both; or one for each turn, where engines sleep (`rollout.sleep`) or learners offload.
    """
    engines, ranks = cfg.rollout.engines * cfg.rollout.tensor_parallel, cfg.learner.ranks
    if cfg.cluster.placement == "colocated":
        return _shared(cfg, shape, platform, workload, device, _named(max(engines, ranks), "shared GPU"))
    engine = Holder("engine", engine_memory(cfg, shape, platform, PROCESS, device))
    learner = Holder("learner", learner_memory(cfg, shape, platform, workload, PROCESS))
    return [
        DeviceEstimate(_named(ranks, "learner GPU"), [learner], _learner_advice(cfg, shape)),
        DeviceEstimate(_named(engines, "engine GPU"), [engine], _engine_advice(cfg)),
    ]


def _shared(cfg: Config, shape: Shape, platform: Platform, workload: Workload, device: float, name: str) -> list[DeviceEstimate]:
    if cfg.rollout.gpu_memory is None:
        share, _ = shared_gpu_memory(cfg, shape, platform, workload, device)
        cfg = replace(cfg, rollout=replace(cfg.rollout, gpu_memory=share))
    engine = Holder("engine", engine_memory(cfg, shape, platform, PROCESS, device))
    learner = Holder("learner", learner_memory(cfg, shape, platform, workload, PROCESS))
    learners, sampling, sleeps = _learner_advice(cfg, shape), _engine_advice(cfg), cfg.rollout.sleep > 0
    if not sleeps and cfg.learner.offload == "none":
        return [DeviceEstimate(name, [learner, engine], [*learners, *sampling, "rollout.sleep=1 with learner.offload=optimizer"])]
    asleep = Holder("engine", [Allocation("process", PROCESS)]) if sleeps else engine
    awake = Holder("engine", [one for one in engine.allocations if one.name in ("process", "weights")]) if sleeps else engine
    resting = Holder("learner", resting_memory(cfg, shape, platform, PROCESS, cfg.learner.offload))
    loaded = Holder("learner", resting_memory(cfg, shape, platform, PROCESS, "none"))
    return [
        DeviceEstimate(f"{name}, training", [learner, asleep], learners if sleeps else [*learners, "rollout.sleep=1"]),
        DeviceEstimate(f"{name}, weight sync", [loaded, awake], learners),
        DeviceEstimate(f"{name}, sampling", [resting, engine], sampling),
    ]


def shared_gpu_memory(cfg: Config, shape: Shape, platform: Platform, workload: Workload, device: float) -> tuple[float, float]:
    """Return the share of a GPU of `device` bytes for an engine beside a learner rank, and the bytes that are missing for both.

    The engine gets what the learner's estimate leaves, less MARGIN, at most OWN_GPU; with `rollout.sleep`, the learner rests meanwhile.
    If that is less than the engine needs to start, it gets what it needs: the estimate is an upper bound.
    """
    beside = resting_memory(cfg, shape, platform, PROCESS, cfg.learner.offload) if cfg.rollout.sleep else None
    learner = sum(one.bytes for one in beside or learner_memory(cfg, shape, platform, workload, PROCESS))
    fixed = [one for one in engine_memory(cfg, shape, platform, PROCESS, device) if one.name != "KV cache"]
    width = 4 if platform.dtype == "float32" else 2
    needed = sum(allocation.bytes for allocation in fixed) + least_cache(cfg, shape, width)
    left = 1 - learner / device - MARGIN
    least = math.ceil(100 * needed / device) / 100
    share = min(OWN_GPU, max(left, least))
    return math.floor(100 * share + 1e-9) / 100, max(0.0, learner + needed - device)


def smallest_gpu(cfg: Config, shape: Shape, platform: Platform, workload: Workload) -> int | None:
    """Return the smallest of SIZES that holds the estimate of every device; None if not even the largest does."""
    for size in SIZES:
        if all(estimate.bytes <= usable(size) for estimate in gpu_estimates(cfg, shape, platform, workload, usable(size))):
            return size
    return None


def usable(size: int) -> float:
    """Return the usable bytes of a GPU with `size` nominal GB."""
    return size * USABLE * GIB


def _named(number: int, kind: str) -> str:
    return f"{number} {kind}{'s' if number > 1 else ''}"


def _learner_advice(cfg: Config, shape: Shape) -> list[str]:
    learner = cfg.learner
    advice = [] if learner.gradient_checkpointing else ["learner.gradient_checkpointing=true"]
    advice.append(f"learner.micro_batch_tokens below {learner.micro_batch_tokens}")
    if learner.cpu_offload == "none" and learner.zero_stage:
        advice.append("learner.cpu_offload=optimizer")
    advice.append("more learner.ranks" + ("" if learner.zero_stage == 3 else " with learner.zero_stage=3"))
    if cfg.loss.kl_coef > 0:
        advice.append("loss.kl_coef=0, which needs no reference model")
    if shape.trains_vision:
        advice.append("model.freeze_vision_tower=true")
    return advice


def _engine_advice(cfg: Config) -> list[str]:
    return [f"rollout.gpu_memory below {cfg.rollout.gpu_memory or OWN_GPU:g}", "a larger rollout.tensor_parallel"]
