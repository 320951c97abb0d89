r"""Grader `format`: reasoning in <think>...</think>, then the answer in \boxed{...}."""

from typing import Any

from uec.rewards.box import last_box

OPEN, CLOSE = "<think>", "</think>"


def score(response: str, answer: str, **row: Any) -> dict[str, float]:
    r"""Part `format`: 1 iff the response has the asked-for form, else 0. Says nothing about the answer being right.

    The form: `<think>` first (white space aside) and once, `</think>` once, something thought between them, and behind
    them a balanced, non-empty \boxed{...} (the prompt of 2604.14646).
    """
    return {"format": float(_has_form(response))}


def _has_form(response: str) -> bool:
    text = response.strip()
    if not text.startswith(OPEN) or text.count(OPEN) != 1 or text.count(CLOSE) != 1:
        return False
    thought, _, rest = text.removeprefix(OPEN).partition(CLOSE)
    box = last_box(rest)
    return bool(thought.strip()) and box is not None and bool(box.strip())
