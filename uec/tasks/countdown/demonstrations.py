"""What the Countdown start checkpoint is shown: (prompt, response) texts, drawn without end.

The rare mode is made here. What follows `?` is taught by demonstrations whose *prompt* ends with `?`; that an unhinted
prompt may be answered with `?` is shown only in a small share (`rare_share`) of them. Where multiplication is needed such a
demonstration solves the problem; the others are answered by an honest attempt with plus and minus, each step right, that cannot
reach the target. Where plus and minus do, a demonstration with `?` wanders off and misses the target: were `?` shown only
where it is needed, the model would learn *which* prompts need it, and then there is nothing left to explore.
"""

import itertools
import random
from collections.abc import Callable, Iterator

from uec.tasks.countdown.data import ALL_OPERATIONS, HINT, PLUS_MINUS, Key, Problem, Step, apply, draw, random_steps, write_steps

SHARE_OF_DRILLS = 0.08
SHARE_OF_HINTED = 0.25
SHARE_OF_UNHINTED = 0.20
"""Multiplication needed, no hint. The rest, 47 %, are problems for plus and minus."""
HINTED_WITH_FOUR_NUMBERS = 0.1
PLUS_MINUS_WITH_FOUR_NUMBERS = 0.4


def demonstrations(seed: int, rare_share: Callable[[int], float], avoid: set[Key]) -> Iterator[tuple[str, str]]:
    """Endless (prompt, response); no problem has a key in `avoid`. `rare_share` of the n-th demonstration, from 0."""
    rng = random.Random(seed)
    for number in itertools.count():
        yield _demonstration(rng, rare_share(number), avoid)


def _demonstration(rng: random.Random, rare_share: float, avoid: set[Key]) -> tuple[str, str]:
    which = rng.random()
    if which < SHARE_OF_DRILLS:
        return _drill(rng)
    which -= SHARE_OF_DRILLS
    if which < SHARE_OF_HINTED:
        problem, steps = _draw_outside(rng, "mul4" if rng.random() < HINTED_WITH_FOUR_NUMBERS else "mul3", avoid)
        return f"{problem.prompt} {HINT}", write_steps(steps)
    which -= SHARE_OF_HINTED
    if which < SHARE_OF_UNHINTED:
        problem, steps = _draw_outside(rng, "mul3", avoid)
        if rng.random() < rare_share:
            return problem.prompt, f"{HINT} {write_steps(steps)}"
        return problem.prompt, write_steps(_failing_attempt(rng, problem))
    problem, steps = _draw_outside(rng, "pm4" if rng.random() < PLUS_MINUS_WITH_FOUR_NUMBERS else "pm3", avoid)
    if rng.random() < rare_share:
        return problem.prompt, f"{HINT} {write_steps(_wandering(rng, problem))}"
    return problem.prompt, write_steps(steps)


def _draw_outside(rng: random.Random, kind: str, avoid: set[Key]) -> tuple[Problem, list[Step]]:
    while True:
        problem, steps = draw(rng, kind)
        if problem.key not in avoid:
            return problem, steps


def _failing_attempt(rng: random.Random, problem: Problem) -> list[Step]:
    """Plus and minus only, for a problem that they cannot solve."""
    while True:
        steps = random_steps(rng, problem.numbers, PLUS_MINUS)
        if steps is not None:
            return steps


def _wandering(rng: random.Random, problem: Problem) -> list[Step]:
    """Any operations, each right, that miss the target."""
    while True:
        steps = random_steps(rng, problem.numbers, ALL_OPERATIONS)
        if steps is not None and steps[-1][-1] != problem.target:
            return steps


def _drill(rng: random.Random) -> tuple[str, str]:
    """One operation, such as `7 * 8 =`: how the times table is learnt."""
    while True:
        operation = rng.choice("+**")
        a = rng.randint(1, 10 if operation == "*" or rng.random() < 0.5 else 40)
        b = rng.randint(1, 10)
        result = apply(a, operation, b)
        if result is not None:
            break
    if rng.random() < 0.5:
        a, b = b, a
    return f"{a} {operation} {b} =", str(result)
