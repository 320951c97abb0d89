"""The reward function of the geometry task. It grades the whole derivation, not the answer alone (task: uec/tasks/geometry/data.py)."""

import re
from typing import Any

from uec.rewards.graders import last_box

# A piece is a word, a number or one other character. Spaces are ignored, but they do not join digits.
PIECE = re.compile(r"[A-Za-z]+|[0-9]+|\S")


def score(response: str, answer: str, *, solution: str, **row: Any) -> dict[str, float]:
    r"""Return the parts `accuracy` and `answer`.

    `accuracy` is 1 iff the response is the `solution`: the same quantities in the same order, and one box; spaces are
    ignored. `answer` is 1 iff the last \boxed{} holds `answer`, which a lucky guess or a wrong derivation may reach.
    """
    box = last_box(response)
    is_answered = box is not None and box.strip() == answer
    is_derived = is_answered and PIECE.findall(response) == PIECE.findall(solution)
    return {"accuracy": float(is_derived), "answer": float(is_answered)}
