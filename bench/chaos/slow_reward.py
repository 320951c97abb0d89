"""The reward of the disturbed run: that of Countdown, but slow, so that faults meet graders at work and few steps pass meanwhile."""

import time
from typing import Any

from uec.tasks.countdown import reward

PAUSE_S = 0.05


def score(response: str, answer: str, *, numbers: list[int], **row: Any) -> dict[str, float]:
    """Wait, then grade as Countdown does."""
    time.sleep(PAUSE_S)
    return reward.score(response, answer, numbers=numbers, **row)
