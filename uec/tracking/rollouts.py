"""rollouts/step_NNNNNN.jsonl: every response of a step as text, with what came of it, one JSON object a line."""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from uec.types import Prompt, Rollout, Tokens, Trajectory


@dataclass(frozen=True, slots=True)
class Record:
    """A line to be written: a scored response, and where its tokens are."""

    bundle: int  # index into the bundles handed over with it; the tokens are at [trajectory.score.slot]
    trajectory: Trajectory  # its own `bundle` is not read: None spares a reference
    kept: bool  # trained on, or waiting for it; its advantage is known then


def write_rollouts(
    path: Path,
    step: int,
    records: Sequence[Record],
    bundles: Sequence[Sequence[Rollout]],
    prompts: Mapping[int, Prompt],
    decode: Callable[[list[Tokens]], list[str]],
) -> None:
    """Write the file, folder and all, in the records' order; it is there whole or not at all.

    `decode` turns responses [T] into texts. Raises OSError if the disk refuses.
    """
    rollouts = [bundles[record.bundle][record.trajectory.score.slot] for record in records]
    texts = decode([rollout.tokens for rollout in rollouts])
    lines = [
        _line(step, record, rollout, prompts[record.trajectory.prompt], text)
        for record, rollout, text in zip(records, rollouts, texts, strict=True)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # A lone surrogate, which JSON input may hold, has no UTF-8 but has this escape, in JSON as in Python.
        unfinished.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
        unfinished.replace(path)  # no fsync: unlike a checkpoint, nothing depends on this file
    finally:
        unfinished.unlink(missing_ok=True)


def _line(step: int, record: Record, rollout: Rollout, prompt: Prompt, response: str) -> str:
    trajectory, score = record.trajectory, record.trajectory.score
    row: dict[str, Any] = {
        "step": step,
        "prompt_index": trajectory.prompt,
        "group": score.group,
        "index": score.index,
        "prompt": prompt.text,
        "response": response,
        "answer": prompt.answer,
        "kind": trajectory.kind.value,
        "temperature": _finite(trajectory.temperature),
        "version": score.version,
        "reward": _finite(score.reward),
        "accuracy": _finite(score.accuracy),
        "parts": {part: _finite(value) for part, value in score.parts.items()},
        "advantage": _finite(trajectory.advantage) if record.kept else None,
        "kept": record.kept,
        "truncated": score.truncated,
        "error": score.error,
        "tokens": score.response_tokens,
        "logprob_mean": _finite(float(rollout.logprobs.mean())) if len(rollout.logprobs) else None,
    }
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _finite(value: float) -> float | None:
    """JSON has no NaN or infinity: such a figure is null."""
    return float(value) if math.isfinite(value) else None
