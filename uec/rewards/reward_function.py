"""From `reward.fn` to a function: built-in names, `path/to/file.py:name`, `package.module:name`, or a list of those."""

import importlib
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Real
from types import ModuleType
from typing import Any, Protocol

from uec.config.schema import RewardConfig
from uec.errors import BadInput, RunFailed
from uec.system.user_code import absolute_name, load_module, take_function

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


BUILTIN: dict[str, tuple[str, ...]] = {
    "exact": ("accuracy",),
    "boxed": ("accuracy",),
    "format": ("format",),
    "countdown": ("accuracy",),
    "geometry": ("accuracy", "answer"),
}
"""The parts that each built-in reward function returns."""
PLACES = {
    "exact": "uec.rewards.graders:exact",
    "boxed": "uec.rewards.graders:boxed",
    "format": "uec.rewards.graders:format",
    "countdown": "uec.tasks.countdown.reward:score",
    "geometry": "uec.tasks.geometry.reward:score",
}
"""Where each built-in reward function is, as a user would name it."""
FORMS = f"{', '.join(BUILTIN)}, path/to/file.py:name or package.module:name"


@dataclass(frozen=True)
class Grader:
    """One reward function and how to call it."""

    name: str  # as in the config
    score: Callable[..., Any]
    file: str  # where it is defined: errors are located there
    taken: frozenset[str]  # names of its first two parameters: a data column of that name is not handed over
    needed: tuple[str, ...]  # columns without which it cannot be called

    def __call__(self, response: str, answer: str, row: dict[str, Any]) -> Any:
        if not self.taken.isdisjoint(row):
            row = {column: value for column, value in row.items() if column not in self.taken}
        return self.score(response, answer, **row)


@dataclass(frozen=True)
class RewardFunction:
    """All functions of `reward.fn` as one: (response, answer, row) -> parts."""

    graders: tuple[Grader, ...]
    weights: dict[str, float]

    @property
    def name(self) -> str:
        return " + ".join(grader.name for grader in self.graders)

    def __call__(self, response: str, answer: str, row: dict[str, Any]) -> dict[str, float]:
        """Every part, each in [0, 1]. Raises GradingError for a result that is none, and whatever a function raises."""
        return merge_parts([(grader.name, read_parts(grader.name, grader(response, answer, row))) for grader in self.graders])

    def check_columns(self, row: dict[str, Any]) -> None:
        """Raise BadInput if a row lacks a column that a function cannot be called without."""
        for grader in self.graders:
            missing = [column for column in grader.needed if column not in row]
            if missing:
                raise BadInput(
                    f"reward.fn: {grader.name} needs the data column {', '.join(missing)}; "
                    f"beside prompt and answer the data has {', '.join(row) or 'no column'}"
                )

    def reward(self, parts: dict[str, float]) -> float:
        """The weighted sum of the parts; see `weigh`."""
        return weigh(self.name, parts, self.weights)


def load_reward(cfg: RewardConfig) -> RewardFunction:
    """Resolve and check `reward.fn` and `reward.weights`; imports the user's code. Raises BadInput."""
    names = list_names(cfg.fn)
    weights = _read_weights(cfg.weights)
    if all(name in BUILTIN for name in names):
        returned = [part for name in names for part in BUILTIN[name]]
        if ACCURACY not in returned:
            raise BadInput(f"reward.fn: {', '.join(names)} returns no {ACCURACY}; add a grader that does, e.g. [exact, format]")
        for part, weight in weights.items():
            if weight and part not in returned:
                raise BadInput(f"reward.weights: {', '.join(names)} returns no part {part}; it returns {', '.join(returned)}")
    return RewardFunction(tuple(_load_one(name) for name in names), weights)


def list_names(fn: Any) -> list[str]:
    """`reward.fn` as a list. Raises BadInput if it is no text and no list of texts, or names a function twice."""
    names = [fn] if isinstance(fn, str) else list(fn) if isinstance(fn, (list, tuple)) else []
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise BadInput(f"reward.fn: {fn!r} is no reward function; give {FORMS}, or a list of those")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise BadInput(f"reward.fn: {twice[0]} is named twice; leave one out")
    return names


def absolute_names(fn: Any) -> list[str]:
    """`reward.fn` with absolute file paths, for a process that runs in another folder."""
    return [absolute_name(name) for name in list_names(fn)]


def _read_weights(weights: dict[str, float]) -> dict[str, float]:
    for part, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight) or weight < 0:
            raise BadInput(f"reward.weights.{part}: {weight!r} is no weight; give a number of 0 or more")
    if not any(weights.values()):
        raise BadInput(f"reward.weights: {dict(weights)} has no weight above 0, so every reward would be 0; e.g. {{{ACCURACY}: 1.0}}")
    return {part: float(weight) for part, weight in weights.items()}


def _load_one(name: str) -> Grader:
    module, function = load_module("reward.fn", PLACES.get(name, name), tuple(BUILTIN))
    if name == "boxed":
        importlib.import_module("math_verify")  # now, so that no response waits for it
    return _check(name, module, function)


def _check(name: str, module: ModuleType, function: str) -> Grader:
    where = module.__file__ or module.__name__
    wanted = f"def {function}(response: str, answer: str, **row) -> float | dict[str, float]"
    score = take_function("reward.fn", name, module, function, wanted)
    try:
        signature = inspect.signature(score)
        signature.bind_partial("response", "answer")
    except (TypeError, ValueError) as error:
        raise BadInput(f"reward.fn: {name}: {function} in {where} cannot be called ({error}); it must be {wanted}") from error
    if inspect.Parameter.VAR_KEYWORD not in [parameter.kind for parameter in signature.parameters.values()]:
        raise BadInput(
            f"reward.fn: {name}: {function}{signature} in {where} takes no **row, in which the other data columns come; it must be {wanted}"
        )
    code = inspect.unwrap(score)
    file = code.__code__.co_filename if inspect.isfunction(code) else where
    first, second, *others = signature.parameters.values()
    named = [p for p in others if p.kind not in (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)]
    needed = tuple(parameter.name for parameter in named if parameter.default is inspect.Parameter.empty)
    return Grader(name, score, file, frozenset((first.name, second.name)), needed)


class Graded(Protocol):
    """What `refuse_errors` reads of a graded response."""

    @property
    def error(self) -> str | None: ...
    @property
    def timed_out(self) -> bool: ...


def refuse_errors(scores: Sequence[Graded], reward: RewardConfig, expected: int = 0) -> None:
    """Raise RunFailed, naming the first error, if more than `reward.max_error_frac` of a step's gradings failed.

    `expected`: gradings that the step will have at the end. With it a step under way can be checked: it is refused as
    soon as what is still to come cannot save it.
    """
    errors = [score for score in scores if score.error is not None]
    total = max(len(scores), expected)
    if len(errors) <= reward.max_error_frac * total:
        return
    late = sum(score.timed_out for score in errors)
    raise RunFailed(
        f"{len(errors)} of {total} gradings of a step failed ({late} of them by timeout), more than "
        f"reward.max_error_frac={reward.max_error_frac:g} allows. The first: {errors[0].error}\n"
        "Mend the reward function, or raise reward.timeout_s or reward.max_error_frac."
    )
