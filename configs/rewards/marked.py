"""A user's reward function, for `reward.fn: configs/rewards/marked.py:score`. It rewards responses that mark their answer as GSM8K does."""

import re
from typing import Any

MARKED_NUMBER = re.compile(r"####\s*[-$]*\d[\d,.]*\s*$")


def score(response: str, answer: str, **row: Any) -> dict[str, float]:
    """Return the part `format`: 1 if the response ends with `####` and a number, 0.5 if it only contains the mark."""
    return {"format": 1.0 if MARKED_NUMBER.search(response) else 0.5 if "####" in response else 0.0}
