"""The memory of all processes of a run on a machine without GPUs.

It counts the pages that a process has written (the kernel's RssAnon), the reference model, which stays mapped from its file, and the
weight sync's files in /dev/shm. It does not count libraries: their pages belong to files, are shared, and are dropped under memory
pressure.
"""

from uec.config.schema import Config
from uec.memory.allocations import MIB, Allocation, DeviceEstimate, Holder
from uec.memory.engine_memory import engine_memory
from uec.memory.learner_memory import learner_memory
from uec.memory.shape import Shape
from uec.memory.workload import Workload
from uec.system.platform import Platform

# Measured with models of a megabyte: libraries loaded, no batch yet. See docs/hardware.md.
ENGINE = 540 * MIB
ENGINE_IMAGES = 250 * MIB  # additional, in an engine of a vision-language model
LEARNER = 400 * MIB
DRIVER = 320 * MIB
IMAGE_WORKER = 320 * MIB
SMALL = 65 * MIB  # Python with Ray: graders, replay, difficulty
GRADER = 65 * MIB  # a grading process
RAY = 270 * MIB  # Ray's servers and idle workers


def host_estimate(cfg: Config, shape: Shape, platform: Platform, workload: Workload, store: float) -> DeviceEstimate:
    """Return the estimate of this machine with all actors on it. `store`: bytes in Ray's object store."""
    holders = [
        Holder("learner", learner_memory(cfg, shape, platform, workload, LEARNER), cfg.learner.ranks),
        Holder("engine", engine_memory(cfg, shape, platform, ENGINE + (0 if shape.vision is None else ENGINE_IMAGES)), cfg.rollout.engines),
        Holder("driver", [Allocation("process", DRIVER)]),
        Holder("grader", [Allocation("actor", SMALL), Allocation("grading processes", cfg.reward.processes * GRADER)], cfg.reward.workers),
        Holder("replay, difficulty", [Allocation("process", SMALL)], 2),
    ]
    if shape.vision is not None:
        holders.append(Holder("image worker", [Allocation("process", IMAGE_WORKER)], cfg.data.image.workers))
    width = 4 if platform.dtype == "float32" else 2
    holders.append(Holder("weights in /dev/shm", [Allocation("two versions", 2 * width * shape.trained)]))
    holders.append(Holder("Ray", [Allocation("processes", RAY), Allocation("object store", store)]))
    return DeviceEstimate("this machine's memory", holders, _advice(cfg, shape))


def _advice(cfg: Config, shape: Shape) -> list[str]:
    advice = [f"learner.micro_batch_tokens below {cfg.learner.micro_batch_tokens}"]
    if not cfg.learner.gradient_checkpointing:
        advice.append("learner.gradient_checkpointing=true")
    if cfg.rollout.engines > 1:
        advice.append("rollout.engines=1")
    if cfg.learner.ranks > 1:
        advice.append("learner.ranks=1")
    advice.append("rollout.kv_cache_mb, or a smaller model")
    return advice
