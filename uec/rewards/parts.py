"""What a reward function may return, and the one number that is made of it."""

from collections.abc import Mapping
from numbers import Real
from typing import Any

ACCURACY = "accuracy"
ROUNDING = 1e-6  # a mean of ones in floating point may pass 1 by a hair
MOST_PARTS = 64
LONGEST_NAME = 100


class GradingError(Exception):
    """A reward function returned what is no reward; the message names the function."""


def read_parts(name: str, result: Any) -> dict[str, float]:
    """The parts in [0, 1] that the function `name` returned: a bare number is the accuracy.

    A bool and a NumPy or torch scalar count as numbers. Raises GradingError for anything else.
    """
    if not isinstance(result, dict):
        return {ACCURACY: _number(name, ACCURACY, result)}
    if not result:
        raise GradingError(f"{name} returned a dict without parts; give at least {{'{ACCURACY}': ...}}")
    if len(result) > MOST_PARTS:
        raise GradingError(f"{name} returned {len(result)} parts; at most {MOST_PARTS} are reported")
    for part in result:
        if not isinstance(part, str) or not 0 < len(part) <= LONGEST_NAME:
            raise GradingError(f"{name} returned a part named {part!r:.100}; a part's name is a text such as '{ACCURACY}'")
    return {part: _number(name, part, value) for part, value in result.items()}


def _number(name: str, part: str, value: Any) -> float:
    scalar = value
    if hasattr(value, "item"):
        try:
            scalar = value.item()
        except (TypeError, ValueError, RuntimeError) as error:
            raise GradingError(f"{name} returned {part} = {value!r:.100}; one number in [0, 1] is wanted") from error
    if not isinstance(scalar, Real):
        raise GradingError(f"{name} returned {part} = {value!r:.100} ({type(value).__name__}); a number in [0, 1] is wanted")
    number: Any = scalar  # the type checker knows no order of Real
    # Compared before float(), which a huge int overflows; NaN fails every comparison.
    if not -ROUNDING <= number <= 1 + ROUNDING:
        # An int of a million digits has no decimal text within reason.
        shown = "a huge integer" if isinstance(number, int) and number.bit_length() > 64 else repr(number)
        raise GradingError(f"{name} returned {part} = {shown}; a number in [0, 1] is wanted, so scale it if it has another range")
    return float(number)


def merge_parts(returned: list[tuple[str, dict[str, float]]]) -> dict[str, float]:
    """The parts of several functions together. Raises GradingError if two of them return the same part."""
    merged: dict[str, float] = {}
    source: dict[str, str] = {}
    for name, parts in returned:
        for part, value in parts.items():
            if part in merged:
                raise GradingError(f"{source[part]} and {name} both return the part {part}; each part needs one source")
            merged[part], source[part] = value, name
    return merged


def weigh(names: str, parts: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """reward = sum_i weights[i] * parts[i], in [0, 1] while the weights sum to 1 or less. Nothing is clipped.

    Raises GradingError unless the functions `names` returned every weighted part, and the accuracy, which difficulty reads.
    """
    reward = 0.0
    for part, weight in weights.items():
        if weight == 0:
            continue
        if part not in parts:
            raise GradingError(f"reward.weights names the part {part}, which {names} did not return; it returned {', '.join(parts)}")
        reward += weight * parts[part]
    if ACCURACY not in parts:
        raise GradingError(f"{names} returned no part {ACCURACY}, which difficulty reads; it returned {', '.join(parts)}")
    return reward
