r"""Grades a geometry response by its derivation, not by its answer alone (task: uec/tasks/geometry/data.py)."""

import re
from typing import Any

from uec.rewards.graders import last_box

# Words and numbers whole, anything else character by character: spaces neither count nor join or split digits.
PIECE = re.compile(r"[A-Za-z]+|[0-9]+|\S")


def score(response: str, answer: str, *, solution: str, **row: Any) -> dict[str, float]:
    r"""accuracy 1 iff the response is the worked `solution`, each quantity, its order and the only box; spaces aside.

    answer 1 iff the last \boxed{} alone holds `answer`: what a lucky guess or a wrong derivation may earn.
    """
    box = last_box(response)
    is_answered = box is not None and box.strip() == answer
    is_derived = is_answered and PIECE.findall(response) == PIECE.findall(solution)
    return {"accuracy": float(is_derived), "answer": float(is_answered)}
