"""What the geometry start checkpoint is shown: problems with their solutions, drawn without end.

Some solutions misread one side by one cell and go on from there without another mistake. A model that was shown perfect
solutions only is soon sure of its readings, right or wrong, and eight samples are then much like one; one that was shown
slips keeps the neighbouring values in play, and reward can tell them apart.
"""

import random
from collections.abc import Iterator
from dataclasses import replace

from uec.tasks.geometry.data import COLD_START, Problem, draw_from


def demonstrations(seed: int, share_of_slips: float, avoid: set[bytes]) -> Iterator[Problem]:
    """Endless problems of the cold start's mix, no picture with a key in `avoid`; after a slip, `sides` are the misread ones."""
    rng = random.Random(seed)
    while True:
        problem = draw_from(rng, COLD_START)
        if problem.key not in avoid:
            yield misread(rng, problem) if rng.random() < share_of_slips else problem


def misread(rng: random.Random, problem: Problem) -> Problem:
    """One side a cell longer or shorter, such that there is a figure of the kind with these sides."""
    while True:
        sides = list(problem.sides)
        sides[rng.randrange(len(sides))] += rng.choice((-1, 1))
        if _is_possible(problem.kind, sides):
            return replace(problem, sides=tuple(sides))


def _is_possible(kind: str, sides: list[int]) -> bool:
    w, h, *missing = sides
    rim = {"lshape": 1, "shaded": 2}.get(kind, 0)
    fits = all(part + rim <= whole for part, whole in zip(missing, (w, h), strict=False))
    return min(sides) >= 1 and fits and not (kind == "tri_area" and w * h % 2)
