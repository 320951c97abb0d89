"""The exact training state as safetensors and JSON: float32 weights, AdamW's moments, step count, random states.

    learner.json               contents of the folder, and the file of each parameter
    state-00000.safetensors    weight/NAME, exp_avg/NAME, exp_avg_sq/NAME, each flat float32
    random-00000.safetensors   random state of rank 0

DeepSpeed's own checkpoints are pickles, which can run code when they are loaded.
These files hold whole parameters, independent of the ZeRO stage and the number of ranks, so both may change on resume.
Each of R ranks writes every R-th file, so all ranks must see the folder.
"""

import json
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from uec.errors import BadInput, RunFailed
from uec.models.deepspeed_engine import Named

FORMAT = 1
FILE_BYTES = 1 << 30
MOMENTS = ("exp_avg", "exp_avg_sq")


def save_state(folder: Path, engine: Any, named: list[Named], steps_done: int, version: int) -> None:
    """Write the state. All ranks call this, with the trainable parameters in the same order."""
    rank, world = dist.get_rank(), dist.get_world_size()
    folder.mkdir(parents=True, exist_ok=True)
    kinds = ("weight", *MOMENTS) if steps_done else ("weight",)
    if steps_done:
        _link_moments(engine)
    files = _files(named, len(kinds))
    for number, parameters in enumerate(files):
        tensors = {}
        for name, parameter in parameters:
            for kind in kinds:
                full = _full(engine, parameter, kind).flatten()
                if number % world == rank:
                    tensors[f"{kind}/{name}"] = full.to("cpu", torch.float32, copy=True)
        if tensors:
            save_file(tensors, folder / f"state-{number:05d}.safetensors")
    save_file(_random_state(), folder / f"random-{rank:05d}.safetensors")
    if rank == 0:
        contents = {
            "format": FORMAT,
            "optimizer_steps": steps_done,
            "version": version,
            "parameters": {name: {"file": number, "shape": _shape(p)} for number, file in enumerate(files) for name, p in file},
        }
        (folder / "learner.json").write_text(json.dumps(contents, indent=1))
    dist.barrier()  # no rank returns before all files are written


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
    different = sorted(name for name in saved.keys() | ours.keys() if name not in saved or saved[name]["shape"] != ours.get(name))
    if different:
        raise BadInput(
            f"{folder} is of another model than model.path: {len(different)} parameters differ, for example {different[0]}"
        )
    steps_done = int(contents["optimizer_steps"])
    if steps_done:
        _make_moments(engine, steps_done)
    try:
        for number in sorted({place["file"] for place in saved.values()}):
            with safe_open(folder / f"state-{number:05d}.safetensors", "pt") as file:
                for name, parameter in named:
                    if saved[name]["file"] == number:
                        for kind in ("weight", *MOMENTS) if steps_done else ("weight",):
                            _restore(engine, parameter, kind, file.get_slice(f"{kind}/{name}"))
        _load_random_state(folder / f"random-{dist.get_rank():05d}.safetensors")
    except (OSError, SafetensorError) as error:
        raise RunFailed(f"the learner state in {folder} is damaged: {error}") from error
    _spread_weights(engine)
    return steps_done, int(contents["version"])


def _files(named: list[Named], kinds: int) -> list[list[Named]]:
    """Distribute parameters over files of about FILE_BYTES."""
    files: list[list[Named]] = [[]]
    nbytes = 0
    for name, parameter in named:
        size = 4 * kinds * torch.Size(_shape(parameter)).numel()
        if files[-1] and nbytes + size > FILE_BYTES:
            files.append([])
            nbytes = 0
        files[-1].append((name, parameter))
        nbytes += size
    return files


def _shape(parameter: Any) -> list[int]:
    return list(parameter.ds_shape if hasattr(parameter, "ds_id") else parameter.shape)


def _full(engine: Any, parameter: Any, kind: str) -> Tensor:
    """Return a whole float32 weight or moment. This is a collective call under ZeRO."""
    if engine.zero_optimization_stage() == 0:
        return parameter.detach() if kind == "weight" else engine.optimizer.state[parameter][kind]
    from deepspeed.utils import safe_get_full_fp32_param, safe_get_full_optimizer_state

    return safe_get_full_fp32_param(parameter) if kind == "weight" else safe_get_full_optimizer_state(parameter, kind)


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


def _restore(engine: Any, parameter: Any, kind: str, saved: Any) -> None:
    """Copy this rank's part of a saved flat tensor to the optimizer, and the whole weight to the model."""
    stage = engine.zero_optimization_stage()
    if stage == 0:
        target = parameter.data if kind == "weight" else engine.optimizer.state[parameter][kind]
        target.copy_(saved[:].view_as(target))
    elif stage < 3:
        mapping = parameter._hp_mapping
        if mapping is not None:  # None: other ranks hold the whole parameter
            part = mapping.lp_fragment_address
            mapping.get_hp_fragment(None if kind == "weight" else kind).data.copy_(saved[part.start : part.start + part.numel])
    else:
        import deepspeed
        from deepspeed.utils import safe_set_local_fp32_param, safe_set_local_optimizer_state

        size = parameter.ds_tensor.numel()
        begin = dist.get_rank() * size
        part = saved[min(begin, parameter.ds_numel) : min(begin + size, parameter.ds_numel)]
        part = torch.nn.functional.pad(part, (0, size - len(part))).to(parameter.ds_tensor.device)
        if kind != "weight":
            safe_set_local_optimizer_state(parameter, part, kind)
            return
        safe_set_local_fp32_param(parameter, part)
        with deepspeed.zero.GatheredParameters([parameter], modifier_rank=0):
            if dist.get_rank() == 0:
                parameter.data.copy_(saved[:].view(parameter.ds_shape))


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
