"""The exact training state as safetensors and JSON: float32 weights, AdamW's moments, step count, random states.

    learner.json               contents of the folder
    state-00000.safetensors    rank 0's parts of weight/NAME, exp_avg/NAME, exp_avg_sq/NAME, each flat float32
    random-00000.safetensors   random state of rank 0

Each rank writes the parts that it holds, without a collective, so all ranks must see the folder. A file's metadata says where its parts
begin in their parameters. Loading reads the slices that a rank needs from whichever files hold them, so the ZeRO stage and the number of
ranks may change on resume. DeepSpeed's own checkpoints are pickles, which can run code when they are loaded.
"""

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from uec.checkpoint_files import write_digests
from uec.errors import BadInput, RunFailed
from uec.models.deepspeed_engine import Named
from uec.models.state_files import StateFiles

FORMAT = 2
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One rank's part of the state, in host memory."""

    rank: int
    tensors: dict[str, Tensor]
    begins: dict[str, int]  # first element of this rank's part of each parameter
    random: dict[str, Tensor]
    contents: dict[str, Any] | None  # of learner.json, which rank 0 writes

    def write(self, folder: Path) -> None:
        """Write the files, flush them to disk, and leave their digests."""
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / f"{kind}-{self.rank:05d}.safetensors" for kind in ("state", "random")]
        save_file(self.tensors, paths[0], metadata={"begins": json.dumps(self.begins)})
        save_file(self.random, paths[1])
        if self.contents is not None:
            paths.append(folder / "learner.json")
            paths[-1].write_text(json.dumps(self.contents, indent=1))
        for path in paths:
            with open(path, "rb") as file:
                os.fsync(file.fileno())
        write_digests(folder, f"{self.rank:05d}", paths)


def snapshot(engine: Any, named: list[Named], steps_done: int, version: int, copy: bool) -> Snapshot:
    """Copy this rank's part of the state to host memory. All ranks call this, with the trainable parameters in the same order.

    `copy`: also copy what is in host memory already, so that training may go on while the snapshot is written.
    """
    rank, world = dist.get_rank(), dist.get_world_size()
    if steps_done:
        _link_moments(engine)
    kinds = ("weight", *MOMENTS) if steps_done else ("weight",)
    tensors: dict[str, Tensor] = {}
    begins: dict[str, int] = {}
    for number, (name, parameter) in enumerate(named):
        if engine.zero_optimization_stage() == 0 and number % world != rank:
            continue  # each rank holds every parameter
        for kind in kinds:
            begin, part = _part(engine, parameter, kind)
            if part is not None:
                begins[name] = begin
                tensors[f"{kind}/{name}"] = part.detach().flatten().to("cpu", torch.float32, copy=copy)
    contents = {
        "format": FORMAT,
        "optimizer_steps": steps_done,
        "version": version,
        "ranks": world,
        "parameters": {name: _shape(parameter) for name, parameter in named},
    }
    return Snapshot(rank, tensors, begins, _random_state(), contents if rank == 0 else None)


def load_state(folder: Path, engine: Any, named: list[Named]) -> tuple[int, int]:
    """Restore engine and parameters from a saved state. Returns the number of optimizer steps and the version of the weights.

    Raises BadInput if the folder holds no state, or the state of another model.
    """
    try:
        contents = json.loads((folder / "learner.json").read_text())
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder} holds no learner state: {error}") from error
    if contents.get("format") != FORMAT:
        found = contents.get("format")
        raise BadInput(f"{folder}/learner.json has format {found!r}, this version reads {FORMAT}; resume with the code that wrote it")
    saved, ours = contents["parameters"], {name: _shape(parameter) for name, parameter in named}
    different = sorted(name for name in saved.keys() | ours.keys() if saved.get(name) != ours.get(name))
    if different:
        raise BadInput(
            f"{folder} is of another model than model.path: {len(different)} parameters differ, for example {different[0]}"
        )
    steps_done = int(contents["optimizer_steps"])
    if steps_done:
        _make_moments(engine, steps_done)
    try:
        with StateFiles(folder, int(contents["ranks"])) as files:
            for name, parameter in named:
                for kind in ("weight", *MOMENTS) if steps_done else ("weight",):
                    _restore(engine, parameter, kind, files, name)
        _load_random_state(folder / f"random-{dist.get_rank():05d}.safetensors")
    except (OSError, ValueError, SafetensorError) as error:
        raise RunFailed(f"the learner state in {folder} is damaged: {error}") from error
    _spread_weights(engine)
    return steps_done, int(contents["version"])


def _part(engine: Any, parameter: Any, kind: str) -> tuple[int, Tensor | None]:
    """Return this rank's part of a float32 weight or moment and the index of its first element; None if it holds none."""
    stage = engine.zero_optimization_stage()
    if stage == 0:
        return 0, parameter if kind == "weight" else engine.optimizer.state[parameter][kind]
    if stage < 3:
        mapping = parameter._hp_mapping
        if mapping is None:  # other ranks hold the whole parameter
            return 0, None
        return mapping.lp_fragment_address.start, mapping.get_hp_fragment(None if kind == "weight" else kind)
    from deepspeed.utils import safe_get_local_fp32_param, safe_get_local_optimizer_state

    begin, end = _slice(parameter)
    part = safe_get_local_fp32_param(parameter) if kind == "weight" else safe_get_local_optimizer_state(parameter, kind)
    return begin, part[: end - begin] if begin < end else None


def _slice(parameter: Any) -> tuple[int, int]:
    """Return begin and end of this rank's partition under ZeRO-3, without the padding of the last ranks."""
    size = parameter.ds_tensor.numel()
    begin = min(dist.get_rank() * size, parameter.ds_numel)
    return begin, min(begin + size, parameter.ds_numel)


def _shape(parameter: Any) -> list[int]:
    return list(parameter.ds_shape if hasattr(parameter, "ds_id") else parameter.shape)


def _make_moments(engine: Any, steps_done: int) -> None:
    """Create AdamW's moments, which it would create in its first step, and let DeepSpeed link its fragments to them."""
    optimizer, stage = engine.optimizer, engine.zero_optimization_stage()
    adamw = engine.basic_optimizer
    masters = optimizer.fp32_partitioned_groups_flat if stage == 3 else [p for group in adamw.param_groups for p in group["params"]]
    for master in masters:
        state = adamw.state[master]
        for kind in MOMENTS:
            state.setdefault(kind, torch.zeros_like(master, memory_format=torch.preserve_format))
        state.setdefault("step", torch.zeros((), dtype=torch.float32, device=master.device)).fill_(steps_done)
    _link_moments(engine)


def _link_moments(engine: Any) -> None:
    """Link each parameter to its moments (ZeRO 1 and 2). DeepSpeed does so after the first group's step, before the others have any."""
    if engine.zero_optimization_stage() in (1, 2):
        engine.optimizer._hp_optimizer_states_linked = False
        engine.optimizer._lazy_init_hp_params_optimizer_state()


def _restore(engine: Any, parameter: Any, kind: str, files: StateFiles, name: str) -> None:
    """Copy this rank's part of a saved tensor to the optimizer, and the whole weight to the model."""
    stage, key = engine.zero_optimization_stage(), f"{kind}/{name}"
    if stage == 0:
        target = parameter.data if kind == "weight" else engine.optimizer.state[parameter][kind]
        target.copy_(files.read(key, 0, target.numel()).view_as(target))
    elif stage < 3:
        mapping = parameter._hp_mapping
        if mapping is not None:  # None: other ranks hold the whole parameter
            part = mapping.lp_fragment_address
            fragment = mapping.get_hp_fragment(None if kind == "weight" else kind)
            fragment.data.copy_(files.read(key, part.start, part.start + part.numel))
    else:
        import deepspeed
        from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

        begin, end = _slice(parameter)
        padding = parameter.ds_tensor.numel() - (end - begin)
        part = torch.nn.functional.pad(files.read(key, begin, end), (0, padding)).to(parameter.ds_tensor.device)
        if kind != "weight":
            safe_set_local_optimizer_state(parameter, part, kind)
            return
        safe_set_local_fp32_param(parameter, part)
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
            if dist.get_rank() == 0:
                parameter.data.copy_(files.read(key, 0, parameter.ds_numel).view(parameter.ds_shape))


def _spread_weights(engine: Any) -> None:
    """Copy each rank's float32 part to the weights of all ranks (ZeRO 1 and 2)."""
    if engine.zero_optimization_stage() in (1, 2):
        engine.optimizer.update_lp_params()


def _random_state() -> dict[str, Tensor]:
    state = {"cpu": torch.get_rng_state()}
    if torch.cuda.is_initialized():
        state["cuda"] = torch.cuda.get_rng_state()
    return state


def _load_random_state(file: Path) -> None:
    """Load the random state. A rank that the saved run did not have keeps its seeded state."""
    if not file.exists():
        return
    with safe_open(file, "pt") as state:
        torch.set_rng_state(state.get_tensor("cpu"))
        if torch.cuda.is_initialized() and "cuda" in state.keys():
            torch.cuda.set_rng_state(state.get_tensor("cuda"))
