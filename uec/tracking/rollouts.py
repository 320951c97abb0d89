"""rollouts/step_NNNNNN.jsonl: every response of a step as text, with what came of it, one JSON object a line."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uec.types import Prompt, Rollout, Score, Tokens


@dataclass(frozen=True)
class Page:
    """What to write of a bundle: the driver knows which responses count, the bundle and its scores have all else."""

    slots: list[int]
    advantages: dict[int, float]  # of the slots that were kept for training


def write_rollouts(
    path: Path,
    step: int,
    pages: Sequence[Page],
    bundles: Sequence[Sequence[Rollout]],
    scores: Sequence[Sequence[Score]],
    prompts: Mapping[int, Prompt],
    decode: Callable[[list[Tokens]], list[str]],
) -> None:
    """Write the file, folder and all, by group; it is there whole or not at all.

    A bundle's page, rollouts and scores have the same position in their lists. `decode` turns responses [T] into texts. `path` is in the
    run folder's `rollouts`; a prompt's images are named from the run folder if they are in it.
    Raises OSError if the disk refuses.
    """
    found = [
        (bundle[slot], graded[slot], page.advantages.get(slot))
        for page, bundle, graded in zip(pages, bundles, scores, strict=True)
        for slot in page.slots
    ]
    found.sort(key=lambda row: (row[1].group, row[1].index))
    texts = decode([rollout.tokens for rollout, _, _ in found])
    lines = [
        _line(step, rollout, score, advantage, prompts[rollout.prompt], text, path.parent.parent)
        for (rollout, score, advantage), text in zip(found, texts, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # A lone surrogate, which JSON input may hold, has no UTF-8 but has this escape, in JSON as in Python.
        unfinished.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
        unfinished.replace(path)  # no fsync: unlike a checkpoint, nothing depends on this file
    finally:
        unfinished.unlink(missing_ok=True)


def _line(step: int, rollout: Rollout, score: Score, advantage: float | None, prompt: Prompt, response: str, run: Path) -> str:
    row: dict[str, Any] = {
        "step": step,
        "prompt_index": rollout.prompt,
        "group": score.group,
        "index": score.index,
        "prompt": prompt.text,
        **({"images": [_within(run, image) for image in prompt.images]} if prompt.images else {}),
        "response": response,
        "answer": prompt.answer,
        "kind": rollout.kind.value,
        "temperature": _finite(rollout.temperature),
        "version": score.version,
        "reward": _finite(score.reward),
        "accuracy": _finite(score.accuracy),
        "parts": {part: _finite(value) for part, value in score.parts.items()},
        "advantage": None if advantage is None else _finite(advantage),
        "kept": advantage is not None,
        "truncated": score.truncated,
        "error": score.error,
        "tokens": score.response_tokens,
        "logprob_mean": _finite(float(rollout.logprobs.mean())) if len(rollout.logprobs) else None,
    }
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _within(run: Path, image: str) -> str:
    """An image's path from the run folder where it is in there, so that the folder may be moved; else as it is."""
    return str(Path(image).relative_to(run)) if Path(image).is_relative_to(run) else image


def _finite(value: float) -> float | None:
    """JSON has no NaN or infinity: such a figure is null."""
    return float(value) if math.isfinite(value) else None
