"""Resolve the settings that depend on the cluster's GPUs: `cluster.placement`, `rollout.gpu_memory` and `rollout.max_num_seqs`.

The driver resolves them once, as soon as it knows the cluster. Actors and the run folder get the resolved config.
"""

from uec.config.schema import Config
from uec.config.validate import makes_pairs
from uec.memory.allocations import gib
from uec.memory.engine_memory import OWN_GPU
from uec.memory.gpus import shared_gpu_memory
from uec.memory.shape import shape_of
from uec.memory.workload import worst_case
from uec.system.gpu_devices import Gpu
from uec.system.platform import detect, sequences

SHARED_GPU = 0.4
"""The engine's share of a shared GPU of unknown memory."""


def resolve_placement(cfg: Config, gpus: float, gpu: Gpu | None, together: bool = True) -> list[str]:
    """Resolve the settings in `cfg` that are auto or null; return what was chosen, and why, in one line a setting.

    `gpus`: GPUs of the cluster; `gpu`: its smallest one, None if unknown. `together`: engines and learners run at the same time.
    Without GPUs only the placement is resolved, to `separate`.
    """
    lines = []
    if cfg.cluster.placement == "auto":
        cfg.cluster.placement, why = _placement(cfg, gpus, together)
        if gpus:
            lines.append(f"cluster.placement={cfg.cluster.placement}: {why}")
    if not gpus:
        return lines
    if cfg.rollout.max_num_seqs is None:
        cfg.rollout.max_num_seqs = sequences(cfg, gpu)
        lines.append(f"rollout.max_num_seqs={cfg.rollout.max_num_seqs}: vLLM's number for {gpu.name if gpu else 'an unknown GPU'}")
    if cfg.rollout.gpu_memory is None:
        cfg.rollout.gpu_memory, why = _gpu_memory(cfg, gpu, together)
        lines.append(f"rollout.gpu_memory={cfg.rollout.gpu_memory:g}: {why}")
    return lines


def _placement(cfg: Config, gpus: float, together: bool) -> tuple[str, str]:
    """Return the placement that `auto` stands for, and the reason."""
    rollout, ranks, pairs = cfg.rollout, cfg.learner.ranks, makes_pairs(cfg)
    wanted = rollout.engines * rollout.tensor_parallel + ranks
    found = f"the cluster has {gpus:g} GPU{'s' if gpus != 1 else ''}"
    if not together:
        return "separate", "an evaluation's engines and learners do not run at the same time"
    if not gpus:
        return "separate", "there is no GPU"
    if cfg.weights.backend == "ipc":
        return "colocated", "weights.backend=ipc needs engine and learner on one GPU"
    if cfg.weights.backend == "nccl":
        return "separate", "weights.backend=nccl needs engine and learner on different GPUs"
    if gpus >= wanted:
        return "separate", f"{found}, enough for {wanted} separate ones"
    if pairs and ranks <= gpus:
        return "colocated", f"{found}, and separate ones would be {wanted}"
    return "separate", f"{found}, too few even for shared ones"


def _gpu_memory(cfg: Config, gpu: Gpu | None, together: bool) -> tuple[float, str]:
    """Return the share of a GPU that `rollout.gpu_memory=null` stands for, and the reason."""
    if cfg.cluster.placement != "colocated" or not together:
        return OWN_GPU, "the engine has its GPU alone"
    if gpu is None:
        return SHARED_GPU, "engine and learner share a GPU of unknown memory"
    longest = worst_case(cfg.data.max_prompt_tokens)
    share, missing = shared_gpu_memory(cfg, shape_of(cfg.model, cfg.lora), detect(cfg, "cuda"), longest, gpu.bytes)
    if missing:
        return share, (
            f"the least that the engine starts with; engine and learner together may need {gib(missing)} more than this GPU has. "
            "If memory runs out, lower learner.micro_batch_tokens, set learner.gradient_checkpointing=true, or use more GPUs"
        )
    return share, f"what the learner's estimate leaves of {gib(gpu.bytes)}"
