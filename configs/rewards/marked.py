"""An own reward function, as `reward.fn: configs/rewards/marked.py:score`: does the response mark its answer as GSM8K does?"""

import re
from typing import Any

MARKED_NUMBER = re.compile(r"####\s*[-$]*\d[\d,.]*\s*$")


def score(response: str, answer: str, **row: Any) -> dict[str, float]:
    """format: 1 if the response ends with `#### ` and a number, half if it has the mark."""
    return {"format": 1.0 if MARKED_NUMBER.search(response) else 0.5 if "####" in response else 0.0}
