"""What predictions depend on, as words that can be compared: predictions are used again only where all of it is the same."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xxhash

from uec.config.schema import Config
from uec.errors import BadInput
from uec.models.source import resolve_model
from uec.rewards.reward_function import list_names
from uec.system.user_code import is_path
from uec.types import Prompt

ENDS = 1 << 20  # bytes at either end of a weights file that are looked at

Words = dict[str, Any]
"""JSON-able values by the name that a person knows them under."""


def of_settings(cfg: Config) -> Words:
    """Sampling and grading."""
    rollout, reward = cfg.rollout, cfg.reward
    words: Words = {"eval.n": cfg.eval.n, "eval.temperature": cfg.eval.temperature, "run.seed": cfg.run.seed}
    words |= {f"rollout.{key}": getattr(rollout, key) for key in ("top_p", "top_k", "min_p", "max_tokens", "stop")}
    words |= {"reward.fn": [_function(name) for name in list_names(reward.fn)], "reward.on_error": reward.on_error}
    return words


def of_model(cfg: Config, prompts: Sequence[Prompt]) -> Words:
    """Its weights, and the prompts as it reads them: template and tokenizer are in there."""
    digest = xxhash.xxh3_64()
    for prompt in prompts:
        digest.update(str(prompt.index).encode())
        digest.update(prompt.tokens.tobytes())
        digest.update(prompt.answer.encode("utf-8", errors="surrogatepass"))
        digest.update("".join(Path(image).name for image in prompt.images).encode())
        digest.update(repr(sorted(prompt.row.items(), key=lambda item: item[0])).encode("utf-8", errors="surrogatepass"))
    return {"weights": _weights(resolve_model(cfg.model)), "model.dtype": cfg.model.dtype, "prompts": digest.hexdigest()}


def refuse_other(folder: Path, before: Words, now: Words) -> None:
    """Raise BadInput that names each setting that is not as it was when the folder's predictions were made."""
    changed = [key for key in {**before, **now} if before.get(key) != now.get(key)]
    if not changed:
        return
    lines = [f"{key}: {_short(before.get(key))} there, {_short(now.get(key))} now" for key in changed]
    raise BadInput(
        f"the predictions in {folder} were made with other settings:\n" + "\n".join(lines) + "\n"
        "Give another folder with --to, the settings as they were, or --overwrite to make them anew."
    )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:77] + "..."


def _function(name: str) -> str:
    """A reward function by its name and, of a file, what stands in it; the file's folder does not count."""
    source, _, function = name.rpartition(":")
    if not is_path(source):
        return name
    path = Path(source).expanduser()
    return f"{path.name}:{function} ({hashlib.sha256(path.read_bytes()).hexdigest()[:12]})"


def _weights(path: str) -> str:
    """Of a folder's weights: sizes, and both ends of each file. A hub name stands for itself."""
    files = sorted(Path(path).glob("*.safetensors")) if Path(path).is_dir() else []
    if not files:
        return path
    digest = xxhash.xxh3_64()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as content:
            digest.update(content.read(ENDS))
            content.seek(max(0, size - ENDS))
            digest.update(content.read(ENDS))
    return digest.hexdigest()
