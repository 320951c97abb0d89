"""All processes of a run on a machine without GPUs.

Counted is what a process has written to (the kernel's RssAnon), the reference model, which stays mapped from its file, and the files of
the weight exchange in /dev/shm. Libraries are not: their pages are those of files, shared and dropped when memory gets short.
"""

from uec.config.schema import Config
from uec.memory.engine import engine_parts
from uec.memory.learner import learner_parts
from uec.memory.load import Load
from uec.memory.parts import MIB, Estimate, Holder, Part
from uec.memory.shape import Shape
from uec.system.platform import Platform

# Measured with models of a megabyte: libraries loaded, no batch yet. See docs/hardware.md.
ENGINE = 540 * MIB
PICTURES = 250 * MIB  # more of an engine that is given some
LEARNER = 400 * MIB
DRIVER = 320 * MIB
IMAGES = 320 * MIB
SMALL = 65 * MIB  # Python with Ray: graders, replay, difficulty
GRADER = 65 * MIB  # a grading process
RAY = 270 * MIB  # its servers, and the workers that it keeps ready


def host_estimate(cfg: Config, shape: Shape, platform: Platform, load: Load, store: float) -> Estimate:
    """The machine's memory, with all actors on it. `store`: bytes in Ray's object store."""
    holders = [
        Holder("learner", learner_parts(cfg, shape, platform, load, LEARNER), cfg.learner.ranks),
        Holder("engine", engine_parts(cfg, shape, platform, ENGINE + (0 if shape.vision is None else PICTURES)), cfg.rollout.engines),
        Holder("driver", [Part("process", DRIVER)]),
        Holder("grader", [Part("actor", SMALL), Part("grading processes", cfg.reward.processes * GRADER)], cfg.reward.workers),
        Holder("replay, difficulty", [Part("process", SMALL)], 2),
    ]
    if shape.vision is not None:
        holders.append(Holder("image worker", [Part("process", IMAGES)], cfg.data.image.workers))
    holders.append(Holder("weights in /dev/shm", [Part("two versions", 2 * (4 if platform.dtype == "float32" else 2) * shape.trained)]))
    holders.append(Holder("Ray", [Part("processes", RAY), Part("object store", store)]))
    return Estimate("this machine's memory", holders, _advice(cfg, shape))


def _advice(cfg: Config, shape: Shape) -> list[str]:
    said = [f"learner.micro_batch_tokens below {cfg.learner.micro_batch_tokens}"]
    if not cfg.learner.gradient_checkpointing:
        said.append("learner.gradient_checkpointing=true")
    if cfg.rollout.engines > 1:
        said.append("rollout.engines=1")
    if cfg.learner.ranks > 1:
        said.append("learner.ranks=1")
    said.append("rollout.kv_cache_mb, or a smaller model")
    return said
