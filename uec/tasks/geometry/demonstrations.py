"""The demonstrations of the geometry cold start: an endless stream of problems with their solutions.

Some solutions misread one side by one cell and continue without another mistake. A model trained on perfect solutions alone
soon becomes certain of its readings, right or wrong, and eight samples hardly differ. After training with slips it also
samples neighbouring values, and the reward can tell them apart.
"""

import random
from collections.abc import Iterator
from dataclasses import replace

from uec.tasks.geometry.data import COLD_START, Problem, draw_from


def demonstrations(seed: int, share_of_slips: float, avoid: set[bytes]) -> Iterator[Problem]:
    """Yield problems of the cold-start mix without end; no image has a key in `avoid`. After a slip, `sides` are the misread ones."""
    rng = random.Random(seed)
    while True:
        problem = draw_from(rng, COLD_START)
        if problem.key not in avoid:
            yield misread(rng, problem) if rng.random() < share_of_slips else problem


def misread(rng: random.Random, problem: Problem) -> Problem:
    """Return the problem with one side a cell longer or shorter, so that a shape of the kind with these sides exists."""
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
