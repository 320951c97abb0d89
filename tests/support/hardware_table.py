"""The tables of README.md and docs/hardware.md: the GPUs that each config needs. `python -m tests.support.hardware_table` prints them."""

import tempfile
from pathlib import Path

from tests.support.model_folders import PROJECT, model_folder
from uec.config.file import load_config
from uec.memory.allocations import GIB
from uec.memory.gpus import gpu_estimates, smallest_gpu, usable
from uec.memory.shape import shape_of
from uec.memory.workload import worst_case
from uec.system.platform import detect

OF_README = sorted(path.relative_to(PROJECT).as_posix() for path in (PROJECT / "configs/gpu").glob("*.yaml"))
OF_PAGE = [*OF_README, "configs/paper/qwen2_5_math_7b.yaml", "configs/paper/qwen2_5_vl_7b_geometry3k.yaml"]

HEAD = ("model", "config", "GPUs", "ZeRO", "TP", "placement", "micro-batch tokens", "memory of a learner", "of an engine")


def table(configs: list[str]) -> str:
    """Return a Markdown table, one row per config. Memory is in GiB of one GPU; an engine takes `rollout.gpu_memory` of it."""
    rows = [HEAD, ("---",) * len(HEAD), *map(_row, configs)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _row(config: str) -> tuple[str, ...]:
    cfg = load_config(PROJECT / config, [])
    name = cfg.model.path.rpartition("/")[2]
    with tempfile.TemporaryDirectory() as folder:
        cfg.model.path = str(model_folder(Path(folder) / "model", name))
        shape, platform = shape_of(cfg.model, cfg.lora), detect(cfg, "cuda")
        workload = worst_case(cfg.data.max_prompt_tokens)
        size = smallest_gpu(cfg, shape, platform, workload)
        assert size is not None, config
        estimates = gpu_estimates(cfg, shape, platform, workload, usable(size))
        holders = {holder.name: holder.bytes for estimate in estimates for holder in estimate.holders}
    engines, shared = cfg.rollout.engines * cfg.rollout.tensor_parallel, cfg.cluster.placement == "colocated"
    gpus = max(engines, cfg.learner.ranks) if shared else engines + cfg.learner.ranks
    return (
        name, f"`{config.removeprefix('configs/')}`", f"{gpus} x {size} GB", f"{cfg.learner.zero_stage}", f"{cfg.rollout.tensor_parallel}",
        "one GPU for both" if shared else f"{engines} engines, {cfg.learner.ranks} learners", f"{cfg.learner.micro_batch_tokens}",
        f"{holders['learner'] / GIB:.1f}", f"{holders['engine'] / GIB:.1f}",
    )  # fmt: skip


TURNS_HEAD = ("model", "GPUs", "settings", "training", "weight sync", "sampling")
TURNS = {
    1: "learner.cpu_offload=optimizer",
    2: "learner.cpu_offload=optimizer",
    4: "learner.offload=optimizer",
    8: "learner.offload=optimizer",
}
SHARED = ["cluster.placement=colocated", "rollout.sleep=1", "learner.zero_stage=3", "learner.gradient_checkpointing=true"]


def turns_table() -> str:
    """Return a Markdown table of 7B models on GPUs of 80 GB that engines and learners share in turns, in GiB of one GPU."""
    models = ("configs/gpu/qwen2_5_7b_gsm8k.yaml", "configs/gpu/qwen2_5_vl_7b_geometry3k.yaml")
    rows = [TURNS_HEAD, ("---",) * len(TURNS_HEAD), *(_turns(model, gpus) for model in models for gpus in TURNS)]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _turns(config: str, gpus: int) -> tuple[str, ...]:
    settings = [*SHARED, TURNS[gpus], f"rollout.engines={gpus}", f"learner.ranks={gpus}", "rollout.gpu_memory=null"]
    cfg = load_config(PROJECT / config, settings)
    name = cfg.model.path.rpartition("/")[2]
    with tempfile.TemporaryDirectory() as folder:
        cfg.model.path = str(model_folder(Path(folder) / "model", name))
        workload = worst_case(cfg.data.max_prompt_tokens)
        estimates = gpu_estimates(cfg, shape_of(cfg.model, cfg.lora), detect(cfg, "cuda"), workload, usable(80))
    assert all(estimate.bytes <= usable(80) for estimate in estimates), (config, gpus)
    return name, f"{gpus}", f"`{TURNS[gpus]}`", *(f"{estimate.bytes / GIB:.1f}" for estimate in estimates)


if __name__ == "__main__":
    print(table(OF_README), table(OF_PAGE), turns_table(), sep="\n")
