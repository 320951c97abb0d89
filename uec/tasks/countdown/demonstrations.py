"""The demonstrations of the Countdown cold start: an endless stream of (prompt, response) texts.

They create the rare mode. Demonstrations whose *prompt* ends with `?` teach how to continue after `?`. Without this hint only
a small share (`rare_share`) of the responses begins with `?`. If the problem needs multiplication, such a response solves it,
and the other responses are attempts with plus and minus whose steps are right but which cannot reach the target. If plus and
minus suffice, a response with `?` misses the target. Otherwise the model would learn *which* prompts need `?`, and nothing
would be left to explore.
"""

import itertools
import random
from collections.abc import Callable, Iterator

from uec.tasks.countdown.data import ALL_OPERATIONS, HINT, PLUS_MINUS, Key, Problem, Step, apply, draw, random_steps, write_steps

SHARE_OF_DRILLS = 0.08
SHARE_OF_HINTED = 0.25
SHARE_OF_UNHINTED = 0.20
"""Problems that need multiplication, without a hint. The remaining 47 % are problems for plus and minus."""
HINTED_WITH_FOUR_NUMBERS = 0.1
PLUS_MINUS_WITH_FOUR_NUMBERS = 0.4


def demonstrations(seed: int, rare_share: Callable[[int], float], avoid: set[Key]) -> Iterator[tuple[str, str]]:
    """Yield (prompt, response) without end; no problem has a key in `avoid`. `rare_share` takes the demonstration's index, from 0."""
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
        return problem.prompt, f"{HINT} {write_steps(_missing_attempt(rng, problem))}"
    return problem.prompt, write_steps(steps)


def _draw_outside(rng: random.Random, kind: str, avoid: set[Key]) -> tuple[Problem, list[Step]]:
    while True:
        problem, steps = draw(rng, kind)
        if problem.key not in avoid:
            return problem, steps


def _failing_attempt(rng: random.Random, problem: Problem) -> list[Step]:
    """Return steps with plus and minus, for a problem that they cannot solve."""
    while True:
        steps = random_steps(rng, problem.numbers, PLUS_MINUS)
        if steps is not None:
            return steps


def _missing_attempt(rng: random.Random, problem: Problem) -> list[Step]:
    """Return right steps with any operations that miss the target."""
    while True:
        steps = random_steps(rng, problem.numbers, ALL_OPERATIONS)
        if steps is not None and steps[-1][-1] != problem.target:
            return steps


def _drill(rng: random.Random) -> tuple[str, str]:
    """Return a single operation, such as `7 * 8 =`, from which the model learns the times table."""
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
