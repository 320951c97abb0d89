"""Adapter folders in peft's format: adapter_config.json and adapter_model.safetensors, here with tokenizer and base_model.json."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from uec.config.schema import LoraConfig
from uec.errors import BadInput
from uec.models.base_model import BaseModel
from uec.models.deepspeed_engine import Named

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FORM = f"a folder with {CONFIG} and {WEIGHTS}"


def is_adapter(folder: Path) -> bool:
    """Return whether the folder holds an adapter and no model."""
    return (folder / CONFIG).is_file() and not (folder / "config.json").is_file()


def save_adapter(folder: Path, config: Any, base: BaseModel, processing: Any, weights: dict[str, Tensor]) -> None:
    """Write an adapter that peft loads. `config`: peft's; `weights`: by the names of peft's files; `processing`: tokenizer or processor."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    config.base_model_name_or_path, config.inference_mode = base.path, True
    config.save_pretrained(folder)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS, metadata={"format": "pt"})
    processing.save_pretrained(folder)
    base.write(folder)


def check_adapter(lora: LoraConfig) -> dict[str, Any]:
    """Return adapter_config.json of `lora.path`. Raises BadInput where it is no adapter of this section's rank and scale."""
    assert lora.path is not None
    folder = Path(lora.path).expanduser()
    if not folder.is_dir():
        raise BadInput(f"lora.path: there is no folder {folder}; give {FORM}")
    if not (folder / WEIGHTS).is_file():
        raise BadInput(f"lora.path: {folder} has no {WEIGHTS}; give {FORM}, such as hf/ in a checkpoint of a LoRA run")
    config = read_config(folder)
    if config.get("peft_type") != "LORA":
        raise BadInput(f"lora.path: {folder / CONFIG} has peft_type {config.get('peft_type')!r}; only LORA can be trained here")
    for key in ("use_dora", "modules_to_save", "rank_pattern", "alpha_pattern", "lora_bias"):
        if config.get(key):
            raise BadInput(f"lora.path: {folder / CONFIG} sets {key}, which cannot be trained here; give an adapter without it")
    try:
        rank, alpha = int(config["r"]), float(config["lora_alpha"])
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"lora.path: {folder / CONFIG} has no numbers r and lora_alpha ({error}); give {FORM}") from error
    ours = 2.0 * lora.rank if lora.alpha is None else lora.alpha
    rslora = bool(config.get("use_rslora"))
    if (rank, alpha, rslora) != (lora.rank, ours, lora.rslora):
        raise BadInput(
            f"lora.path: the adapter in {folder} has another rank or scale than section lora; set lora.rank={rank} lora.alpha={alpha:g} "
            f"lora.rslora={str(rslora).lower()}"
        )
    return config


def read_config(folder: Path) -> dict[str, Any]:
    """Return adapter_config.json. Raises BadInput if it is not JSON."""
    try:
        return dict(json.loads((folder / CONFIG).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise BadInput(f"{folder / CONFIG} cannot be read: {error}; give {FORM}") from error


def load_adapter(lora: LoraConfig, trainable: Iterator[Named]) -> None:
    """Copy the adapter of `lora.path` to the parameters. Raises BadInput if it is of other layers than `lora.target_modules` names."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from uec.models.lora import adapter_name

    check_adapter(lora)
    assert lora.path is not None
    file = Path(lora.path).expanduser() / WEIGHTS
    try:
        saved = load_file(file)
    except (OSError, SafetensorError) as error:
        raise BadInput(f"lora.path: {file} is cut off or no safetensors file ({error}); copy it again") from error
    ours = {adapter_name(name): parameter for name, parameter in trainable}
    different = sorted(
        name for name in saved.keys() | ours.keys() if name not in saved or name not in ours or saved[name].shape != ours[name].shape
    )
    if different:
        raise BadInput(
            f"lora.path: {file} has other adapters than lora.target_modules and lora.layers name: {len(different)} tensors differ, for "
            f"example {different[0]}; make these fields those of the adapter"
        )
    with torch.no_grad():
        for name, parameter in ours.items():
            parameter.copy_(saved[name])
