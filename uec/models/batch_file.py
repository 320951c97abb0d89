"""The file of a training batch whose loss or gradient was not finite, for a look: one JSON object for each response."""

import json
import math
from pathlib import Path
from typing import Any

from uec.system.files import atomic_write
from uec.types import Logprobs, Trajectory, UpdatePlan


def write_batch(path: Path, plan: UpdatePlan, trajectories: list[Trajectory], tokenizer: Any) -> None:
    """Write the responses of one rank's plan, with their texts, advantages and log-probabilities; numbers that are not finite as texts.

    Raises OSError if the disk refuses.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = []
    for one, advantage in zip(trajectories, plan.advantages, strict=True):
        content = {
            "prompt": one.prompt,
            "kind": one.kind.name.lower(),
            "temperature": one.temperature,
            "versions": list(one.versions),
            "advantage": _number(advantage),
            "prompt_text": tokenizer.decode(one.prompt_tokens),
            "text": tokenizer.decode(one.tokens),
            "tokens": one.tokens.tolist(),
            "logprobs": _numbers(one.logprobs),
            "old_logprobs": None if one.old_logprobs is None else _numbers(one.old_logprobs),
        }
        lines.append(json.dumps(content, allow_nan=False) + "\n")
    atomic_write(path, "".join(lines))


def _numbers(values_T: Logprobs) -> list[float | str]:
    return [_number(value) for value in values_T.tolist()]


def _number(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
