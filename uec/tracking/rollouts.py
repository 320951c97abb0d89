"""Write rollouts/step_NNNNNN.jsonl: every response of a step as text, with its reward and advantage, one JSON object a line.

rollouts/replayed_NNNNNN.jsonl lists the responses of earlier steps that the replay update of that step drew.
"""

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from uec.tracking.token_ends import token_ends
from uec.types import Prompt, Tokens, TrainingSample, Trajectory


@dataclass(frozen=True)
class Page:
    """The responses of a response batch to write. The driver makes it; the batch and its samples hold everything else."""

    slots: list[int]
    advantages: dict[int, float]  # of the slots that were kept for training
    difficult: set[int] = field(default_factory=set)  # slots whose prompt was found difficult


def write_rollouts(
    path: Path,
    step: int,
    pages: Sequence[Page],
    batches: Sequence[Sequence[Trajectory]],
    graded: Sequence[Sequence[TrainingSample]],
    prompts: Mapping[int, Prompt],
    decode: Callable[[list[Tokens]], list[str]],
) -> None:
    """Write the file and its folder, sorted by group; the file is complete or absent.

    A response batch's page, trajectories and samples have the same position in their lists. `decode` turns responses [T] into texts.
    `path` is in the run folder's `rollouts`; a prompt's images are named from the run folder if they are in it.
    Raises OSError if the disk refuses.
    """
    found = [
        (batch[slot], samples[slot], page.advantages.get(slot), slot in page.difficult)
        for page, batch, samples in zip(pages, batches, graded, strict=True)
        for slot in page.slots
    ]
    found.sort(key=lambda row: (row[1].group, row[1].index))
    tokens = [trajectory.tokens for trajectory, _, _, _ in found]
    texts = decode(tokens)
    ends = token_ends(tokens, texts, decode)
    lines = [
        _line(step, trajectory, sample, advantage, difficult, prompts[trajectory.prompt], text, cuts, path.parent.parent)
        for (trajectory, sample, advantage, difficult), text, cuts in zip(found, texts, ends, strict=True)
    ]
    _write_lines(path, lines)


def write_replayed(path: Path, step: int, drawn: Sequence[TrainingSample]) -> None:
    """Write which responses a replay update trained on.

    A group's number is unique only between two starts of a run, so the step at which the response was admitted goes with it.
    Raises OSError if the disk refuses.
    """
    rows = [
        {
            "step": step, "admitted": one.admitted, "prompt_index": one.prompt, "group": one.group, "index": one.index,
            "advantage": _finite(one.advantage),
        }
        for one in drawn
    ]  # fmt: skip
    _write_lines(path, [json.dumps(row, allow_nan=False) + "\n" for row in rows])


def _write_lines(path: Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        # JSON input may contain a lone surrogate. UTF-8 cannot encode it, but its escape is valid JSON.
        unfinished.write_text("".join(lines), encoding="utf-8", errors="backslashreplace")
        unfinished.replace(path)  # no fsync: unlike a checkpoint, nothing depends on this file
    finally:
        unfinished.unlink(missing_ok=True)


def _line(
    step: int, trajectory: Trajectory, sample: TrainingSample, advantage: float | None, difficult: bool, prompt: Prompt, response: str,
    ends: list[int] | None, run: Path,
) -> str:  # fmt: skip
    row: dict[str, Any] = {
        "step": step,
        "prompt_index": sample.prompt,
        "group": sample.group,
        "index": sample.index,
        "prompt": prompt.text,
        **({"images": [_within(run, image) for image in prompt.images]} if prompt.images else {}),
        "response": response,
        "answer": prompt.answer,
        "kind": sample.kind.value,
        "temperature": _finite(sample.temperature),
        "version": sample.version,
        "reward": _finite(sample.reward),
        "accuracy": _finite(sample.accuracy),
        "parts": {part: _finite(value) for part, value in sample.parts.items()},
        "advantage": None if advantage is None else _finite(advantage),
        "kept": advantage is not None,
        "difficult": difficult,
        "truncated": sample.truncated,
        "error": sample.error,
        "tokens": sample.response_tokens,
        "logprob_mean": _finite(float(trajectory.logprobs.mean())) if len(trajectory.logprobs) else None,
        "logprobs": [_rounded(value) for value in trajectory.logprobs.tolist()],
        "token_ends": ends,
    }
    return json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"


def _within(run: Path, image: str) -> str:
    """Return an image's path relative to the run folder if it is inside, so that the folder may be moved; else the path itself."""
    return str(Path(image).relative_to(run)) if Path(image).is_relative_to(run) else image


def _rounded(value: float) -> float | None:
    """Return a log-probability rounded to a thousandth, because it would otherwise be the longest part of a line."""
    return round(value, 3) + 0.0 if math.isfinite(value) else None  # -0.0 is three characters more than 0.0 says


def _finite(value: float) -> float | None:
    """Return the value, or None for NaN and infinity, which JSON does not have."""
    return float(value) if math.isfinite(value) else None
