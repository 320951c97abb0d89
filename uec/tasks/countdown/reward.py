"""The reward function of Countdown. It grades the whole derivation, not the last number alone (task: uec/tasks/countdown/data.py)."""

import re
from typing import Any

from uec.tasks.countdown.data import HINT, apply

STEP = re.compile(r"\s*(0|[1-9][0-9]?)\s*([-+*])\s*(0|[1-9][0-9]?)\s*=\s*(0|[1-9][0-9]?)\s*")


def score(response: str, answer: str, *, numbers: list[int], **row: Any) -> dict[str, float]:
    """Return accuracy 1 iff each step is right, each of `numbers` is used exactly once and the last result is `answer`.

    A leading `?` is allowed, and spaces may be omitted. Later steps use the results of earlier ones, so k numbers take k - 1 steps.
    """
    return {"accuracy": float(_solves(response, int(answer), [int(number) for number in numbers]))}


def _solves(response: str, target: int, pool: list[int]) -> bool:
    result = None
    for step in response.lstrip().removeprefix(HINT).split(","):
        match = STEP.fullmatch(step)
        if match is None:
            return False
        a, operation, b, result = int(match[1]), match[2], int(match[3]), int(match[4])
        for operand in (a, b):
            if operand not in pool:
                return False
            pool.remove(operand)
        if apply(a, operation, b) != result:
            return False
        pool.append(result)
    return len(pool) == 1 and result == target
