"""From `reward.fn` to a function: built-in names, `path/to/file.py:name`, `package.module:name`, or a list of those."""

import importlib
import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from uec.config import Reward
from uec.errors import BadInput
from uec.imports import absolute_name, load_module, take_function
from uec.rewards.parts import ACCURACY, merge_parts, read_parts, weigh

# The parts that each built-in grader returns.
BUILTIN: dict[str, tuple[str, ...]] = {
    "exact": ("accuracy",),
    "boxed": ("accuracy",),
    "format": ("format",),
    "countdown": ("accuracy",),
    "geometry": ("accuracy", "answer"),
}
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


def load_reward(cfg: Reward) -> RewardFunction:
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
    if name in BUILTIN:
        module, function = importlib.import_module(f"uec.rewards.{name}"), "score"
    else:
        module, function = load_module("reward.fn", name, tuple(BUILTIN))
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
