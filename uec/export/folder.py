"""The exported folder: made beside its place under a passing name, moved there whole."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from uec.config.schema import Config
from uec.errors import BadInput
from uec.eval.target import Target
from uec.export.generation import generation_config
from uec.export.tokenizer import is_rebuilt
from uec.models.source import load_tokenizer
from uec.system.files import sync_folder

LEFT_OUT = {"README.md", "generation_config.json"}  # written anew
PRIVATE = ("_name_or_path", "name_or_path")  # where transformers notes from which folder a model was loaded
MARGIN = 1.1
TOKENIZER = "tokenizer"
TOKENIZER_FILES = re.compile(r"tokenizer.*\.json|special_tokens_map\.json|.*\.jinja|vocab\..*|merges\.txt")


def check_place(place: Path, target: Target, overwrite: bool) -> None:
    """Raise BadInput where the folder cannot be made, or would replace what is no exported model."""
    sources = [Path(target.path).resolve(), *([target.run.resolve()] if target.run else [])]
    where = place.expanduser().resolve()
    if any(where == source or where in source.parents for source in sources):
        raise BadInput(f"--to {place} is the run itself, or a folder that holds it; give another folder")
    if target.run is not None and where.is_relative_to(target.run.resolve() / "checkpoints"):
        raise BadInput(f"--to {place} is among the run's checkpoints, which are deleted in time; give a folder elsewhere")
    if where.exists() and not where.is_dir():
        raise BadInput(f"--to {place} is a file; give a folder")
    if where.is_dir() and any(where.iterdir()):
        if not overwrite:
            raise BadInput(f"--to {place} is there and not empty; give another folder, or --overwrite to replace it")
        if not (where / "config.json").is_file() or (where / ".git").exists():
            raise BadInput(f"--to {place} is no model (no config.json), or a git repository, and is not replaced; delete it by hand")
    parent = next(folder for folder in (where, *where.parents) if folder.exists())
    if not os.access(parent if parent != where else where.parent, os.W_OK):
        raise BadInput(f"--to {place}: {parent} cannot be written to; give a folder that can")
    need = int(MARGIN * sum(path.stat().st_size for path in Path(target.path).iterdir() if path.is_file()))
    free = shutil.disk_usage(parent).free
    if free < need:
        raise BadInput(f"--to {place}: {free >> 20} MiB are free, and the model takes {need >> 20} MiB; make room, or use another disk")


def write_model(place: Path, target: Target, cfg: Config, card: str) -> Path:
    """Copy the model, and write its generation config and card; returns the folder. Whole, or not there.

    The weights are copied and not linked: who trains on in the exported folder would write through a link into the run's checkpoint.
    """
    where, source = place.expanduser().resolve(), Path(target.path)
    unfinished = where.with_name(f".{where.name}.{os.getpid()}.unfinished")
    replaced = where.with_name(f".{where.name}.{os.getpid()}.replaced")
    try:
        where.parent.mkdir(parents=True, exist_ok=True)
        unfinished.mkdir()
        for path in sorted(source.iterdir()):
            if path.is_file() and path.name not in LEFT_OUT:
                shutil.copyfile(path, unfinished / path.name)
        for path in unfinished.glob("*.json"):
            _forget_places(path)
        _write_json(unfinished / "generation_config.json", generation_config(cfg, load_tokenizer(cfg.model)))
        if is_rebuilt(cfg.model):
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


def _add_tokenizer(folder: Path) -> None:
    """The tokenizer once more without the model's config.json beside it, so that it is loaded as it was saved."""
    (folder / TOKENIZER).mkdir()
    for path in folder.iterdir():
        if path.is_file() and TOKENIZER_FILES.fullmatch(path.name):
            shutil.copyfile(path, folder / TOKENIZER / path.name)


def _forget_places(path: Path) -> None:
    """Take out the folder that the model was loaded from."""
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
