"""Checkpoints that plain transformers loads: safetensors, config, generation config, tokenizer or processor with its chat template."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor


def save_pretrained(folder: Path, hf: Any, processing: Any, parameters: Iterator[tuple[str, Tensor]], writes: bool) -> None:
    """Write the model and its tokenizer or processor (`processing`) to `folder`.

    All ranks iterate over `parameters` (see uec.models.deepspeed_engine.gathered). The rank that `writes` collects them in host memory and
    saves them.
    """
    collected = {}
    for name, tensor in parameters:
        if writes:
            collected[name] = tensor.to("cpu", copy=True)
    if not writes:
        return
    folder.mkdir(parents=True, exist_ok=True)
    hf.save_pretrained(folder, state_dict=collected)
    processing.save_pretrained(folder)
