"""Checkpoints that plain transformers loads: safetensors, config, generation config, tokenizer or processor with its chat template."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from uec.checkpoint_files import write_digests


def collect(parameters: Iterator[tuple[str, Tensor]], keep: bool) -> dict[str, Tensor]:
    """Copy whole parameters to host memory where `keep`. All ranks iterate (see uec.models.deepspeed_engine.gathered)."""
    collected = {}
    for name, tensor in parameters:
        if keep:
            collected[name] = tensor.to("cpu", copy=True)
    return collected


def save_pretrained(folder: Path, hf: Any, processing: Any, weights: dict[str, Tensor]) -> None:
    """Write a model with these weights, and its tokenizer or processor (`processing`), to `folder`, and leave the files' digests."""
    folder.mkdir(parents=True, exist_ok=True)
    hf.save_pretrained(folder, state_dict=weights)
    processing.save_pretrained(folder)
    write_digests(folder, "hf", [path for path in folder.iterdir() if path.is_file()])
