"""The table of README.md and docs/hardware.md: the GPUs that each config needs. `python -m tests.support.hardware_table` prints both."""

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
        shape, platform = shape_of(cfg.model), detect(cfg, "cuda")
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


if __name__ == "__main__":
    print(table(OF_README), table(OF_PAGE), sep="\n")
