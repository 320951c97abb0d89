"""Fingerprints of everything that predictions depend on: existing predictions are reused only if all of it is unchanged."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import xxhash

from uec.config.schema import Config
from uec.errors import BadInput
from uec.models.pretrained import locate_model
from uec.rewards.reward_function import list_names
from uec.system.user_code import is_path
from uec.types import Prompt

HASHED_BYTES = 1 << 20  # at each end of a weights file

Fingerprint = dict[str, Any]
"""JSON-serializable values by the names of the settings."""


def settings_fingerprint(cfg: Config) -> Fingerprint:
    """Return the settings of sampling and grading."""
    rollout, reward = cfg.rollout, cfg.reward
    found: Fingerprint = {"eval.n": cfg.eval.n, "eval.temperature": cfg.eval.temperature, "run.seed": cfg.run.seed}
    found |= {f"rollout.{key}": getattr(rollout, key) for key in ("top_p", "top_k", "min_p", "max_tokens", "stop")}
    found |= {"reward.fn": [_function(name) for name in list_names(reward.fn)], "reward.on_error": reward.on_error}
    return found


def model_fingerprint(cfg: Config, prompts: Sequence[Prompt]) -> Fingerprint:
    """Return hashes of the model's weights and of its tokenized prompts, which include template and tokenizer."""
    digest = xxhash.xxh3_64()
    for prompt in prompts:
        digest.update(str(prompt.index).encode())
        digest.update(prompt.tokens.tobytes())
        answer = prompt.answer if isinstance(prompt.answer, str) else repr(prompt.answer)
        digest.update(answer.encode("utf-8", errors="surrogatepass"))
        digest.update("".join(Path(image).name for image in prompt.images).encode())
        digest.update(repr(sorted(prompt.row.items(), key=lambda item: item[0])).encode("utf-8", errors="surrogatepass"))
    return {"weights": _weights(locate_model(cfg.model)), "model.dtype": cfg.model.dtype, "prompts": digest.hexdigest()}


def check_unchanged(folder: Path, before: Fingerprint, now: Fingerprint) -> None:
    """Raise BadInput that names each setting that has changed since the folder's predictions were made."""
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
    """Return a reward function's name; for a file, its name without the folder and a hash of its content."""
    source, _, function = name.rpartition(":")
    if not is_path(source):
        return name
    path = Path(source).expanduser()
    return f"{path.name}:{function} ({hashlib.sha256(path.read_bytes()).hexdigest()[:12]})"


def _weights(path: str) -> str:
    """Return a hash of the size and both ends of each weights file in the folder; a hub name is returned as it is."""
    files = sorted(Path(path).glob("*.safetensors")) if Path(path).is_dir() else []
    if not files:
        return path
    digest = xxhash.xxh3_64()
    for file in files:
        size = file.stat().st_size
        digest.update(f"{file.name} {size}".encode())
        with file.open("rb") as content:
            digest.update(content.read(HASHED_BYTES))
            content.seek(max(0, size - HASHED_BYTES))
            digest.update(content.read(HASHED_BYTES))
    return digest.hexdigest()
