"""Check the weights of a model folder by their headers: names, shapes and number formats against the model that config.json describes.

transformers makes up a missing tensor at random and drops one that it does not know, each with a log line. Its own loading, run on
PyTorch's device `meta` with the files' shapes, says which these are: it renames, converts and ties as the learner's loading will.
"""

import re
from pathlib import Path
from typing import Any

import torch

from uec.errors import BadInput
from uec.models.weight_files import TensorHeader, read_headers, several

Headers = dict[str, TensorHeader]

FLOATS = {"F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
QUANTISED = re.compile(r"\.(qweight|qzeros|g_idx|scales|weight_scale(_inv)?|weight_packed|SCB)$|\.weight\.(nested_)?(absmax|quant_)")
ADAPTER = re.compile(r"\.(lora_[AB]|lora_embedding_[AB]|lora_magnitude_vector|modules_to_save)(\.|$)")
WRAPPERS = {
    "base_model.model.": "an unmerged PEFT model; merge it (merge_and_unload) and save it again",
    "module.": "a model inside DistributedDataParallel; save the model itself (model.module.save_pretrained)",
    "_orig_mod.": "a model inside torch.compile; save the model itself (model._orig_mod.save_pretrained)",
    "_fsdp_wrapped_module.": "a model inside FSDP; save its full state dict with save_pretrained",
}
"""What names that begin so come from."""
PARTS = ("layers", "embed_tokens", "norm")
"""First parts of names that lack the prefix `model.`."""
LEFT_OUT = re.compile(r"(^|\.)(mtp|nextn)(\.|_|$)|rotary_emb\.inv_freq$|\.masked_bias$|\.attn\.bias$")
"""Tensors that no language model of transformers or vLLM reads: heads of multi-token prediction and old buffers."""
ROWS_AT_ONCE = 4096


def check_weights(folder: Path, hf: Any) -> None:
    """Check the weights in `folder` against `hf`, the model that its config.json describes, on the device `meta`. Raises BadInput.

    Reads headers only, and two tensors' values where both of a tied pair are in the files. `hf` has no use afterwards.
    """
    headers = read_headers(folder)
    _check_names(folder, headers, hf)
    _check_formats(folder, headers)
    missing, unexpected, shapes, failed = _load(headers, hf)
    if missing:
        _refuse_missing(folder, sorted(missing, key=_natural), hf)
    for name, (found, wanted) in sorted(shapes.items()):
        raise BadInput(f"model.path: {name} in {folder} is {found}, and its config.json says {wanted}; they are of different models")
    if failed:
        name, why = sorted(failed.items())[0]
        raise BadInput(f"model.path: {name} in {folder} cannot be made from the files' tensors: {why.strip().splitlines()[-1][:200]}")
    if unexpected:
        raise BadInput(
            f"model.path: {folder} has {several(sorted(unexpected, key=_natural))}, for which the model of its config.json has no place, "
            "and which would be dropped; config.json is another model's (number of layers, biases, kind of model), or the weights are"
        )


def _check_names(folder: Path, headers: Headers, hf: Any) -> None:
    """Recognise names that a training program has left behind."""
    adapter = next((name for name in headers if ADAPTER.search(name)), None)
    for prefix, kind in WRAPPERS.items():
        if (name := next((name for name in headers if name.startswith(prefix)), None)) is not None:
            raise BadInput(f"model.path: {headers[name].file} has {name}, whose name is that of {kind}")
    if adapter is not None:
        raise BadInput(
            f"model.path: {headers[adapter].file} has {adapter}, an adapter's tensor, beside the model's; merge the adapter into the "
            "model (merge_and_unload of peft) and save it again"
        )
    prefix = f"{hf.base_model_prefix}."
    expected = set(hf.state_dict())
    bare = next((name for name in headers if name.partition(".")[0] in PARTS and prefix + name in expected), None)
    wanted = f"{prefix}{bare}"
    if bare is not None and not any(name.startswith(prefix) for name in headers):
        raise BadInput(
            f"model.path: {headers[bare].file} has {bare} where {type(hf).__name__} has {wanted}: all names lack their first part, as in a "
            "training program's consolidated files, and the head may be missing, too; save the whole model with save_pretrained"
        )


def _check_formats(folder: Path, headers: Headers) -> None:
    for name, header in headers.items():
        if QUANTISED.search(name) or header.dtype not in FLOATS and name.endswith((".weight", "_proj", "_blocks")):
            raise BadInput(
                f"model.path: {name} in {header.file} ({header.dtype}) is quantised, and quantised weights cannot be trained; give the "
                "model's unquantised weights"
            )


def _load(
    headers: Headers, hf: Any
) -> tuple[set[str], set[str], dict[str, tuple[list[int], list[int]]], dict[str, str]]:
    """Return the names that are missing and unexpected, shapes that differ (found, wanted), and conversions that failed."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import convert_and_load_state_dict_in_model
    from transformers.modeling_utils import LoadStateDictConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    tensors = {name: _on_meta(header) for name, header in headers.items()}
    mapping: Any = get_model_conversion_mapping(hf)
    settings = LoadStateDictConfig(device_map={"": "meta"}, dtype=torch.float32, weight_mapping=mapping, ignore_mismatched_sizes=True)
    verbosity = logging.get_verbosity()
    logging.set_verbosity_error()  # what it would log, the messages of this module say
    try:
        info, _ = convert_and_load_state_dict_in_model(model=hf, state_dict=tensors, load_config=settings)
        _check_tied(headers, hf, info.missing_keys)
        hf.tie_weights(missing_keys=info.missing_keys, recompute_mapping=False)
    finally:
        logging.set_verbosity(verbosity)
    hf._adjust_missing_and_unexpected_keys(info)
    buffers = {name for name, _ in hf.named_buffers()}
    unexpected = {name for name in info.unexpected_keys if name not in buffers and not LEFT_OUT.search(name)}
    shapes = {name: (list(found), list(wanted)) for name, found, wanted in info.mismatched_keys}
    return set(info.missing_keys) - buffers, unexpected, shapes, dict(info.conversion_errors)


def _on_meta(header: TensorHeader) -> torch.Tensor:
    return torch.empty(header.shape, dtype=FLOATS.get(header.dtype, torch.float32), device="meta")


def _check_tied(headers: Headers, hf: Any, missing: set[str]) -> None:
    """Raise BadInput where the config ties two parameters and the files have both, with different values."""
    for target, source in hf.all_tied_weights_keys.items():
        if target in missing or source in missing:
            continue
        names = [_file_name(name, headers, hf) for name in (target, source)]
        if None in names or same_values(headers[str(names[0])], headers[str(names[1])], str(names[0]), str(names[1])):
            continue
        raise BadInput(
            f"model.path: config.json in {headers[str(names[0])].file.parent} says tie_word_embeddings=true, and {names[0]} differs from "
            f"{names[1]} in the weights; set tie_word_embeddings=false there if the head was trained, or remove {names[0]}"
        )


def _file_name(parameter: str, headers: Headers, hf: Any) -> str | None:
    """Return the name that a parameter has in the files: its own, or one that ends alike."""
    if parameter in headers:
        return parameter
    end = ".".join(parameter.split(".")[-2:])
    return next((name for name in headers if name == end or name.endswith(f".{end}")), None)


def same_values(first: TensorHeader, second: TensorHeader, first_name: str, second_name: str) -> bool:
    """Return whether two tensors of files are equal; reads both, a few rows at a time, up to the first difference."""
    from safetensors import safe_open

    if first.shape != second.shape:
        return False
    with safe_open(first.file, framework="pt") as one, safe_open(second.file, framework="pt") as other:
        left, right = one.get_slice(first_name), other.get_slice(second_name)
        for begin in range(0, first.shape[0], ROWS_AT_ONCE):
            rows = slice(begin, begin + ROWS_AT_ONCE)
            if not torch.equal(left[rows].float(), right[rows].float()):
                return False
    return True


def _refuse_missing(folder: Path, names: list[str], hf: Any) -> None:
    head = hf.get_output_embeddings()
    tied = head is not None and any(parameter is head.weight for name, parameter in hf.named_parameters() if name in names)
    raise BadInput(
        f"model.path: {folder} lacks {several(names)}, which {type(hf).__name__} of its config.json has; transformers would make it up at "
        "random. Copy the model again, or save it with save_pretrained"
        + ("; if the model uses its embedding as head, config.json needs tie_word_embeddings=true" if tied else "")
    )


def _natural(name: str) -> list[tuple[int, int, str]]:
    """Return a key that sorts layer 2 before layer 10."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in name.split(".")]
