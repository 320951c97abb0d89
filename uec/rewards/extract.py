"""The answer that a response gives, where the grader compares answers and not whole responses."""

from collections.abc import Callable
from typing import Any

from uec.rewards.load import list_names

Extract = Callable[[str, str], str | None]
"""(response, reference answer) -> the answer as text, equal for equal answers; None where the response gives none."""

COMPARING = ("boxed", "exact")
"""Graders whose accuracy is a comparison of one extracted answer with the reference."""


def extractor(fn: Any) -> Extract | None:
    """How the grader of `reward.fn` reads an answer; None for one that grades otherwise, as the user's own functions may."""
    names = [name for name in list_names(fn) if name != "format"]
    if names == ["boxed"]:
        from uec.rewards.boxed import extract
    elif names == ["exact"]:
        from uec.rewards.exact import extract
    else:
        return None
    return extract
