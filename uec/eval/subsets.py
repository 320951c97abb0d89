"""Subsets of an evaluation's prompts: by a column of the data, or by difficulty for the first model."""

from collections.abc import Sequence

from uec.errors import BadInput
from uec.eval.predictions import Groups, count_right
from uec.types import Prompt

MAX_VALUES = 24
"""Different values of a column that a table can show."""

def by_column(prompts: Sequence[Prompt], column: str) -> list[tuple[str, list[int]]]:
    """Return a subset for each value of the column, in the order of the values. Raises BadInput for a column that cannot divide the set."""
    columns = sorted({name for prompt in prompts for name in prompt.row})
    if column not in columns:
        raise BadInput(f"--by {column}: the data has no such column; beside the answer there are {', '.join(columns) or 'none'}")
    found: dict[str, list[int]] = {}
    for prompt in prompts:
        found.setdefault(_label(prompt.row.get(column)), []).append(prompt.index)
    if len(found) > MAX_VALUES:
        raise BadInput(
            f"--by {column}: the column has {len(found)} different values and a table shows {MAX_VALUES}; take one that has fewer, "
            "such as a level or a subject"
        )
    return [(f"{column} {value}", found[value]) for value in sorted(found, key=_order)]


def by_difficulty(first: Groups) -> list[tuple[str, list[int]]]:
    """Return subsets by how many of its n responses the first model has right: none, up to half, more than half, all; no empty ones."""
    bins: dict[str, list[int]] = {title: [] for title in ("none right", "up to half right", "more than half right", "all right")}
    for prompt, group in sorted(first.items()):
        right = count_right(group)
        title = 0 if right == 0 else 3 if right == len(group) else 1 if 2 * right <= len(group) else 2
        list(bins.values())[title].append(prompt)
    return [(title, prompts) for title, prompts in bins.items() if prompts]


def _label(value: object) -> str:
    text = "(none)" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _order(text: str) -> tuple[int, float, str]:
    """Sort numbers by value, before words."""
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)
