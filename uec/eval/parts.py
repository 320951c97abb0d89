"""Parts of an evaluation's set by a column of the data."""

from collections.abc import Sequence

from uec.errors import BadInput
from uec.types import Prompt

MOST = 24
"""Different values of a column that a table still shows."""


def by_column(prompts: Sequence[Prompt], column: str) -> list[tuple[str, list[int]]]:
    """A part for each value of the column, in the order of the values. Raises BadInput for a column that cannot divide the set."""
    columns = sorted({name for prompt in prompts for name in prompt.row})
    if column not in columns:
        raise BadInput(f"--by {column}: the data has no such column; beside the answer there are {', '.join(columns) or 'none'}")
    found: dict[str, list[int]] = {}
    for prompt in prompts:
        found.setdefault(_named(prompt.row.get(column)), []).append(prompt.index)
    if len(found) > MOST:
        raise BadInput(
            f"--by {column}: the column has {len(found)} different values and a table shows {MOST}; take one that has fewer, "
            "such as a level or a subject"
        )
    return [(f"{column} {value}", found[value]) for value in sorted(found, key=_order)]


def _named(value: object) -> str:
    text = "(none)" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _order(text: str) -> tuple[int, float, str]:
    """Numbers by their value, before words."""
    try:
        return (0, float(text), text)
    except ValueError:
        return (1, 0.0, text)
