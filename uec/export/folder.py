"""The exported folder: written under a temporary name beside its destination, then renamed, so that it is complete or absent."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from uec.config.schema import Config, ModelConfig
from uec.errors import BadInput
from uec.eval.target import Target
from uec.models.pretrained import load_tokenizer, locate_model
from uec.models.vocabulary import stop_tokens
from uec.system.files import sync_folder

REWRITTEN = {"README.md", "generation_config.json"}
PRIVATE = ("_name_or_path", "name_or_path")  # keys under which transformers stores the folder that a model was loaded from
DISK_MARGIN = 1.1
TOKENS_AT_ONCE = 1000
TOKENIZER = "tokenizer"
TOKENIZER_FILES = re.compile(r"tokenizer.*\.json|special_tokens_map\.json|.*\.jinja|vocab\..*|merges\.txt")


def check_place(place: Path, target: Target, overwrite: bool) -> None:
    """Raise BadInput if the folder cannot be made, or would replace something other than an exported model."""
    sources = [Path(target.path).resolve(), *([target.run.resolve()] if target.run else [])]
    where = place.expanduser().resolve()
    if any(where == source or where in source.parents for source in sources):
        raise BadInput(f"--to {place} is the run itself, or a folder that contains it; give another folder")
    if target.run is not None and where.is_relative_to(target.run.resolve() / "checkpoints"):
        raise BadInput(f"--to {place} is among the run's checkpoints, which are deleted in time; give a folder elsewhere")
    if where.exists() and not where.is_dir():
        raise BadInput(f"--to {place} is a file; give a folder")
    if where.is_dir() and any(where.iterdir()):
        if not overwrite:
            raise BadInput(f"--to {place} exists and is not empty; give another folder, or --overwrite to replace it")
        if not (where / "config.json").is_file() or (where / ".git").exists():
            raise BadInput(f"--to {place} is no model (no config.json), or a git repository, and is not replaced; delete it by hand")
    parent = next(folder for folder in (where, *where.parents) if folder.exists())
    if not os.access(parent if parent != where else where.parent, os.W_OK):
        raise BadInput(f"--to {place}: {parent} cannot be written to; give a folder that can")
    need = int(DISK_MARGIN * sum(path.stat().st_size for path in Path(target.path).iterdir() if path.is_file()))
    free = shutil.disk_usage(parent).free
    if free < need:
        raise BadInput(f"--to {place}: {free >> 20} MiB are free, and the model takes {need >> 20} MiB; make room, or use another disk")


def write_model(place: Path, target: Target, cfg: Config, card: str) -> Path:
    """Copy the model, write its generation config and card, and return the folder. The folder is complete or absent.

    The weights are copied, not linked: training in the exported folder would write through a link into the run's checkpoint.
    """
    where, source = place.expanduser().resolve(), Path(target.path)
    unfinished = where.with_name(f".{where.name}.{os.getpid()}.unfinished")
    replaced = where.with_name(f".{where.name}.{os.getpid()}.replaced")
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        unfinished.mkdir()
        for path in sorted(source.iterdir()):
            if path.is_file() and path.name not in REWRITTEN:
                shutil.copyfile(path, unfinished / path.name)
        for path in unfinished.glob("*.json"):
            _remove_private_keys(path)
        _write_json(unfinished / "generation_config.json", generation_config(cfg, load_tokenizer(cfg.model)))
        if tokenizer_is_rebuilt(cfg.model):
            _add_tokenizer(unfinished)
        (unfinished / "README.md").write_text(card, encoding="utf-8")
        _sync(unfinished)
        if where.exists():
            where.rename(replaced)
        unfinished.rename(where)
        sync_folder(where.parent)
    except OSError as error:
        if replaced.exists() and not where.exists():
            replaced.rename(where)
        raise BadInput(f"--to {place} cannot be written: {error}; give a folder that can, with room for the model") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    shutil.rmtree(replaced, ignore_errors=True)
    return where


def generation_config(cfg: Config, tokenizer: Any) -> dict[str, Any]:
    """Return the model's generation config with the sampling and end tokens of training.

    No length is set: it would limit every answer of a server.
    """
    from transformers import GenerationConfig

    try:
        given = json.loads(GenerationConfig.from_pretrained(locate_model(cfg.model)).to_json_string())
    except OSError:  # the model has none
        given = {}
    rollout = cfg.rollout
    found = {key: value for key, value in given.items() if key not in ("_from_model_config", "max_length", "max_new_tokens")}
    found |= {"do_sample": True, "temperature": rollout.temperature, "top_p": rollout.top_p, "top_k": max(0, rollout.top_k)}
    if rollout.min_p:
        found["min_p"] = rollout.min_p
    ends = stop_tokens(cfg.model, tokenizer, cfg.rollout.stop_tokens)
    found["eos_token_id"] = ends[0] if len(ends) == 1 else ends
    if found.get("pad_token_id") is None and tokenizer.pad_token_id is not None:
        found["pad_token_id"] = tokenizer.pad_token_id
    return found


def tokenizer_is_rebuilt(model: ModelConfig) -> bool:
    """Return whether AutoTokenizer, which vLLM uses too, makes another tokenizer from the saved files, as it does for some architectures.

    Compares both tokenizers on every token of the vocabulary.
    """
    from transformers import AutoTokenizer

    ours = load_tokenizer(model)
    theirs = AutoTokenizer.from_pretrained(locate_model(model), trust_remote_code=model.trust_remote_code)
    ids = sorted(ours.get_vocab().values())
    for begin in range(0, len(ids), TOKENS_AT_ONCE):
        text = str(ours.decode(ids[begin : begin + TOKENS_AT_ONCE]))
        if str(theirs.decode(ids[begin : begin + TOKENS_AT_ONCE])) != text or ours(text).input_ids != theirs(text).input_ids:
            return True
    return False


def _add_tokenizer(folder: Path) -> None:
    """Copy the tokenizer to a folder without the model's config.json, so that it is loaded as it was saved."""
    (folder / TOKENIZER).mkdir()
    for path in folder.iterdir():
        if path.is_file() and TOKENIZER_FILES.fullmatch(path.name):
            shutil.copyfile(path, folder / TOKENIZER / path.name)


def _remove_private_keys(path: Path) -> None:
    """Remove the path of the folder that the model was loaded from."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, dict) and any(key in content for key in PRIVATE):
        _write_json(path, {key: value for key, value in content.items() if key not in PRIVATE})


def _write_json(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _sync(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
