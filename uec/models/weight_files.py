"""The weight files of a model folder, and their headers: names, shapes and number formats of all tensors, without the weights."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uec.errors import BadInput

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"

@dataclass(frozen=True, slots=True)
class TensorHeader:
    """What a file says of a tensor before its data."""

    shape: tuple[int, ...]
    dtype: str  # safetensors' name: F32, BF16, F8_E4M3, ...
    file: Path


PICKLED = ("*.bin", "*.pt", "*.pth")


def has_weights(folder: Path) -> bool:
    """Return whether a folder has any file or index of weights, also one that a run does not read."""
    return any(file for pattern in ("*.safetensors", INDEX, "*.gguf", *PICKLED) for file in folder.glob(pattern))


def read_headers(folder: Path) -> dict[str, TensorHeader]:
    """Return the headers of a model's tensors by name. Raises BadInput for files that are missing, cut off, or of several models."""
    from safetensors import SafetensorError, safe_open

    headers: dict[str, TensorHeader] = {}
    for file in weight_files(folder):
        try:
            with safe_open(file, framework="np") as tensors:
                for name in tensors.keys():  # noqa: SIM118
                    part = tensors.get_slice(name)
                    headers[name] = TensorHeader(tuple(part.get_shape()), str(part.get_dtype()), file)
        except (OSError, SafetensorError) as error:
            raise BadInput(f"model.path: {file} is cut off or no safetensors file ({error}); copy it again") from error
    return headers


def weight_files(folder: Path) -> list[Path]:
    """Return the files from which learner and engine load the model: `model.safetensors`, or those of its index. Raises BadInput."""
    present = sorted(folder.glob("*.safetensors"))
    if not present and not (folder / INDEX).exists():
        pickled = any(file for pattern in PICKLED for file in folder.glob(pattern))
        advice = "convert them: pickled weights can run code when they are loaded" if pickled else "save it with save_pretrained"
        raise BadInput(f"model.path: {folder} has no weights as .safetensors; {advice}")
    named = _index(folder)
    whole = folder / WEIGHTS
    if named is None and whole not in present:
        found = several([file.name for file in present])
        raise BadInput(
            f"model.path: {folder} has {found}, and neither {WEIGHTS} nor {INDEX} that joins several files; copy the model again, or "
            "save it with save_pretrained"
        )
    if named is not None and whole in present and whole not in named:
        raise BadInput(
            f"model.path: {folder} has {WEIGHTS} and {INDEX}, which names other files: two models in one folder; remove one of them"
        )
    used = [whole] if named is None else named
    for file in used:
        if not file.is_file():
            raise BadInput(
                f"model.path: {file} is missing" + (f", and {INDEX} names it" if named else "") + "; copy the model again, with all files"
            )
    _check_others(folder, used, [file for file in present if file not in used], named is None)
    return used


def _index(folder: Path) -> list[Path] | None:
    """Return the files that the index names, in order; None without an index. Raises BadInput."""
    file = folder / INDEX
    if not file.exists():
        return None
    names = read_json(file).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(name, str) for name in names.values()):
        raise BadInput(f"model.path: {file} has no weight_map from tensors to files; copy the model again")
    unique = sorted(set(names.values()))
    for name in unique:
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise BadInput(
                f"model.path: {file} names {name[:200]!r}; expected .safetensors files of the same folder, by their names alone"
            )
    return [folder / name for name in unique]


def _check_others(folder: Path, used: list[Path], others: list[Path], reads_all: bool) -> None:
    """Refuse weight files beside the model's, which are an adapter's, or which vLLM reads too where there is no index."""
    adapters = [file.name for file in others if file.name.startswith("adapter")]
    if adapters:
        raise BadInput(
            f"model.path: {folder} has a model, {used[0].name}, and an adapter, {several(adapters)}: it is open which of them to train. "
            "Merge the adapter into the model (merge_and_unload of peft), or move its files to another folder"
        )
    if others and reads_all:
        raise BadInput(
            f"model.path: {folder} has {several([file.name for file in others])} beside {WEIGHTS}, and the engine would load all of "
            "them; move the others to another folder"
        )


def read_json(file: Path) -> dict[str, Any]:
    """Return the object of a JSON file of a model. Raises BadInput."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"model.path: {file} is not valid JSON: {str(error)[:200]}") from error
    if not isinstance(found, dict):
        raise BadInput(f"model.path: {file} holds no JSON object but {type(found).__name__}; copy it again")
    return found


def several(names: list[str]) -> str:
    """Return the first three names, and the number of the others."""
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
