"""Rare-mode Countdown: reach a target from three or four numbers, using each exactly once.

A prompt is `3 8 7 : 45 =`, a response `8 * 7 = 56 , 56 - 3 = 53 , ...`: a chain of operations, which may use the results
of earlier ones as numbers. All values lie in 0..99, and each is one token. Four problems in ten need multiplication. The
initial model seldom multiplies: to do so it has to begin with the token `?`, and very few of its demonstrations did so
without a hint. This is the rare mode that exploration has to find.
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path

LARGEST_VALUE = 99
LARGEST_NUMBER = 10
LARGEST_TARGET = 80
HINT = "?"
MAX_RESPONSE_TOKENS = 19
"""`?`, three operations of five tokens, two commas between them, and the end-of-text token."""

SHARE_OF_MULTIPLICATION = 0.4
SHARE_OF_FOUR_NUMBERS = 0.6
"""Among the problems that plus and minus can solve. Those that need multiplication have three numbers."""
SHARE_OF_TREES = 0.15
"""Solutions with four numbers that have the form (a . b) . (c . d). The others use one number after another."""

PLUS_MINUS = {"+": 5, "-": 4}
ALL_OPERATIONS = {"+": 1, "-": 1, "*": 1}

MOST_REDRAWS = 20_000

Key = tuple[tuple[int, ...], int]
"""Sorted numbers and target."""
Step = tuple[int, str, int, int]
"""(a, operation, b, result)"""


@dataclass(frozen=True, slots=True)
class Problem:
    """A Countdown problem."""

    numbers: tuple[int, ...]
    target: int
    kind: str  # pm3, pm4: three or four numbers, solvable with plus and minus; mul3, mul4: multiplication is needed

    @property
    def key(self) -> Key:
        """Return the identity of the problem; the order of the numbers does not count."""
        return tuple(sorted(self.numbers)), self.target

    @property
    def prompt(self) -> str:
        """Return the text that the model reads."""
        return f"{' '.join(map(str, self.numbers))} : {self.target} ="


def apply(a: int, operation: str, b: int) -> int | None:
    """Return the result, or None if it lies outside 0..99 or the operation is unknown."""
    match operation:
        case "+":
            result = a + b
        case "-":
            result = a - b
        case "*":
            result = a * b
        case _:
            return None
    return result if 0 <= result <= LARGEST_VALUE else None


def write_steps(steps: list[Step]) -> str:
    """Return the response that consists of these steps."""
    return " , ".join(f"{a} {operation} {b} = {result}" for a, operation, b, result in steps)


def random_steps(rng: random.Random, numbers: tuple[int, ...], weights: dict[str, int]) -> list[Step] | None:
    """Return random operations that use all numbers in random order, or None if a result lies outside 0..99."""
    pool = list(numbers)
    rng.shuffle(pool)
    steps: list[Step] = []

    def combine(a: int, b: int) -> int | None:
        operation = rng.choices(list(weights), list(weights.values()))[0]
        if operation == "-" and a < b:
            a, b = b, a
        result = apply(a, operation, b)
        if result is not None:
            steps.append((a, operation, b, result))
        return result

    if len(pool) == 4 and rng.random() < SHARE_OF_TREES:
        left = combine(pool[0], pool[1])
        right = combine(pool[2], pool[3])
        if left is None or right is None or combine(left, right) is None:
            return None
        return steps
    value = pool[0]
    for number in pool[1:]:
        result = combine(value, number)
        if result is None:
            return None
        value = result
    return steps


def reachable_by_plus_minus(numbers: tuple[int, ...]) -> set[int]:
    """Return all targets that plus and minus alone reach from the numbers, each used once."""
    sums = {0}
    for number in numbers:
        sums = {total + signed for total in sums for signed in (number, -number)}
    return {total for total in sums if total > 0}


def draw(rng: random.Random, kind: str) -> tuple[Problem, list[Step]]:
    """Return a random problem of the kind, with a solution."""
    family, size = kind[:-1], int(kind[-1])
    while True:
        numbers = tuple(rng.randint(1, LARGEST_NUMBER) for _ in range(size))
        steps = random_steps(rng, numbers, PLUS_MINUS if family == "pm" else ALL_OPERATIONS)
        if steps is None or not 1 <= steps[-1][3] <= LARGEST_TARGET:
            continue
        target = steps[-1][3]
        if family == "pm" or target not in reachable_by_plus_minus(numbers):
            return Problem(numbers, target, kind), steps


def draw_kind(rng: random.Random) -> str:
    """Return a random kind in the shares above; mul4 only occurs in demonstrations."""
    if rng.random() < SHARE_OF_MULTIPLICATION:
        return "mul3"
    return "pm4" if rng.random() < SHARE_OF_FOUR_NUMBERS else "pm3"


def problems(seed: int, count: int, avoid: set[Key]) -> list[Problem]:
    """Return `count` different problems in the shares above, none with a key in `avoid`.

    Raises ValueError if all problems of a kind are used (there are about 750 of pm3, 1,600 of mul3, 4,000 of pm4).
    """
    rng = random.Random(seed)
    seen = set(avoid)
    found: list[Problem] = []
    while len(found) < count:
        kind = draw_kind(rng)
        for _ in range(MOST_REDRAWS):
            problem, _ = draw(rng, kind)
            if problem.key not in seen:
                break
        else:
            raise ValueError(f"{count} different Countdown problems are too many: no new one of kind {kind} after {len(found)}")
        seen.add(problem.key)
        found.append(problem)
    return found


def write_jsonl(path: Path, rows: list[Problem]) -> None:
    """Write the columns prompt, answer, numbers and kind; an existing file is replaced."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [{"prompt": p.prompt, "answer": str(p.target), "numbers": list(p.numbers), "kind": p.kind} for p in rows]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
