"""Checkpoints that plain transformers loads: safetensors, config, generation config, tokenizer or processor with its chat template."""

import copy
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from uec.checkpoint_files import write_digests
from uec.config.schema import ModelConfig
from uec.errors import BadInput
from uec.models.model_config import shortened
from uec.models.pretrained import load_config, locate_model, read_model_json

TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id")
SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


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
    hf.generation_config = writable(hf.generation_config)
    hf.save_pretrained(folder, state_dict=weights)
    processing.save_pretrained(folder)
    write_digests(folder, "hf", [path for path in folder.iterdir() if path.is_file()])


def writable(generation: Any) -> Any:
    """Return a generation config that transformers saves: the given one, or a copy without what contradicts itself.

    transformers loads a temperature without `do_sample`, as many models have it, and refuses to save it. Sampling is then meant, so
    `do_sample` is set. If it is still refused, only sampling and special tokens are kept, or the special tokens alone.
    """
    from transformers import GenerationConfig

    given = generation.to_dict()
    tokens = {name: given[name] for name in TOKENS if given.get(name) is not None and given[name] != -1}
    sampling = {name: given[name] for name in SAMPLING if given.get(name) is not None}
    if _is_valid(generation):
        return generation
    candidate = copy.deepcopy(generation)
    candidate.do_sample = True
    if _is_valid(candidate):
        return candidate
    candidate = GenerationConfig(**tokens, **sampling, do_sample=True)
    return candidate if _is_valid(candidate) else GenerationConfig(**tokens)


def _is_valid(generation: Any) -> bool:
    try:
        generation.validate(strict=True)
    except ValueError:
        return False
    return True


def check_writable(model: ModelConfig, processing: Any) -> None:
    """Prove that a checkpoint of this model can be written and read again, without weights. Raises BadInput.

    Writes config, generation config, and tokenizer or processor (`processing`) to a temporary folder, as `save_pretrained` does.
    """
    from transformers import AutoConfig, GenerationConfig

    path = locate_model(model)
    given = read_model_json(path, "generation_config.json")
    try:
        generation = GenerationConfig(**given)
    except (ValueError, TypeError) as error:
        raise BadInput(
            f"model.path: the generation_config.json of {model.path} cannot be used: {shortened(error)}; correct it, or remove the file"
        ) from error
    try:
        with tempfile.TemporaryDirectory(prefix="uec-") as place:
            config = load_config(model)
            config.save_pretrained(place)
            writable(generation).save_pretrained(place)
            processing.save_pretrained(place)
            AutoConfig.from_pretrained(place, trust_remote_code=model.trust_remote_code)
    except Exception as error:  # code of transformers, of the tokenizer or of the model: a run must not meet it at its first checkpoint
        raise BadInput(
            f"model.path: no checkpoint of {model.path} could be written: {type(error).__name__}: {shortened(error)}. Correct the named "
            "file of the model (config.json, generation_config.json, tokenizer or processor)"
        ) from error
