"""The reward function of a run: found from `reward.fn`, called on a response, its parts checked, merged and weighted."""

import functools
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
from uec.rewards.graders import extract_boxed, extract_exact
from uec.system.user_code import absolute_name, get_function, load_module

ACCURACY = "accuracy"
ROUNDING = 1e-6  # the mean of ones may exceed 1 by a rounding error
MOST_PARTS = 64
LONGEST_NAME = 100

Extract = Callable[[str, str | list[str]], str | None]
"""(response, reference answer or answers) -> the response's answer as text, equal for equal answers; None if it gives none."""


@dataclass(frozen=True)
class BuiltIn:
    """A reward function that ships with the project."""

    place: str  # where it is defined, in the form of a user's function
    parts: tuple[str, ...]  # that it returns
    extract: Extract | None = None  # reads the one answer that it compares with the reference; None: it grades otherwise


BUILTIN = {
    "exact": BuiltIn("uec.rewards.graders:exact", (ACCURACY,), extract_exact),
    "boxed": BuiltIn("uec.rewards.graders:boxed", (ACCURACY,), extract_boxed),
    "format": BuiltIn("uec.rewards.graders:format", ("format",)),
    "countdown": BuiltIn("uec.tasks.countdown.reward:score", (ACCURACY,)),
    "geometry": BuiltIn("uec.tasks.geometry.reward:score", (ACCURACY, "answer")),
}
"""By the names that `reward.fn` takes."""
FORMS = f"{', '.join(BUILTIN)}, path/to/file.py:name or package.module:name"


OURS = ("response", "answer")
COMPUTE_SCORE = ("solution_str", "ground_truth")
"""Names of the parameters for response and answer: of this project, and of the form that other frameworks share."""
EMPTY_COLUMNS: dict[str, Any] = {"data_source": "", "extra_info": None}
"""What a `compute_score` gets for its other parameters if the data have no such column."""
NO_RESPONSE = {"data_source", "prompt", "prompts", "question", "answer", "answers", "ground_truth", "reference", "label", "completions"}
NO_ANSWER = {"response", "responses", "completion", "completions", "prompt", "prompts", "solution_str", "question", "data_source"}
"""Names that the first and the second parameter cannot have."""


class GradingError(Exception):
    """A reward function returned something that is no reward. The message names the function."""


@dataclass(frozen=True)
class Grader:
    """One function of `reward.fn`, and how to call it."""

    name: str  # as in the config
    function: Callable[..., Any]
    file: str  # where it is defined; errors are located there
    reserved: frozenset[str]  # names of the parameters for response and answer: data columns of these names are not passed on
    required: tuple[str, ...]  # data columns without which it cannot be called
    names: tuple[str, str] | None = None  # of the parameters for response and answer if they are passed by name; None: by place
    columns: frozenset[str] | None = None  # the data columns that it takes; None: all

    def __call__(self, response: str, answer: str | list[str], row: dict[str, Any]) -> Any:
        """Return whatever the function returns; of a `compute_score` that returns a dict, the accuracy."""
        if self.columns is not None or not self.reserved.isdisjoint(row):
            row = {name: row[name] for name in row if name not in self.reserved and (self.columns is None or name in self.columns)}
        if self.names is None:
            return self.function(response, answer, **row)
        result = self.function(**{self.names[0]: response, self.names[1]: answer}, **row)
        if self.columns is not None and isinstance(result, dict) and ACCURACY not in result:
            return result.get("acc", result.get("score", result))
        return result


@dataclass(frozen=True)
class RewardFunction:
    """All functions of `reward.fn` as one: (response, answer, row) -> parts."""

    graders: tuple[Grader, ...]
    weights: dict[str, float]

    @property
    def name(self) -> str:
        """The functions' names, for messages."""
        return " + ".join(grader.name for grader in self.graders)

    def __call__(self, response: str, answer: str | list[str], row: dict[str, Any]) -> dict[str, float]:
        """Return all parts, each in [0, 1]. Raises GradingError for a result that is no reward, and whatever a function raises."""
        return merge_parts([(grader.name, read_parts(grader.name, grader(response, answer, row))) for grader in self.graders])

    def check_columns(self, row: dict[str, Any]) -> None:
        """Raise BadInput if the row lacks a column that a function requires."""
        for grader in self.graders:
            missing = [column for column in grader.required if column not in row]
            if missing:
                raise BadInput(
                    f"reward.fn: {grader.name} needs the data column {', '.join(missing)}; "
                    f"beside prompt and answer the data has {', '.join(row) or 'no column'}"
                )

    def reward(self, parts: dict[str, float]) -> float:
        """Return the weighted sum of the parts; see `weigh`."""
        return weigh(self.name, parts, self.weights)


def load_reward(cfg: RewardConfig) -> RewardFunction:
    """Load the functions of `reward.fn` and check them and `reward.weights`. Imports the user's code. Raises BadInput."""
    names = list_names(cfg.fn)
    weights = _read_weights(cfg.weights)
    if all(name in BUILTIN for name in names):
        returned = [part for name in names for part in BUILTIN[name].parts]
        if ACCURACY not in returned:
            raise BadInput(f"reward.fn: {', '.join(names)} returns no {ACCURACY}; add a grader that does, e.g. [exact, format]")
        for part, weight in weights.items():
            if weight and part not in returned:
                raise BadInput(f"reward.weights: {', '.join(names)} returns no part {part}; it returns {', '.join(returned)}")
    return RewardFunction(tuple(_load_one(name) for name in names), weights)


def list_names(fn: Any) -> list[str]:
    """Return `reward.fn` as a list. Raises BadInput if it is neither a text nor a list of texts, or names a function twice."""
    names = [fn] if isinstance(fn, str) else list(fn) if isinstance(fn, (list, tuple)) else []
    if not names or not all(isinstance(name, str) and name.strip() for name in names):
        raise BadInput(f"reward.fn: {fn!r} is no reward function; give {FORMS}, or a list of those")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise BadInput(f"reward.fn: {twice[0]} is named twice; leave one out")
    return names


def absolute_names(fn: Any) -> list[str]:
    """Return the names of `reward.fn` with absolute file paths, for a process with another working folder."""
    return [absolute_name(name) for name in list_names(fn)]


def extractor(fn: Any) -> Extract | None:
    """Return how the grader of `reward.fn` reads an answer, or None if it is not one comparison with the reference."""
    names = [name for name in list_names(fn) if name != "format"]
    return BUILTIN[names[0]].extract if len(names) == 1 and names[0] in BUILTIN else None


def _read_weights(weights: dict[str, float]) -> dict[str, float]:
    for part, weight in weights.items():
        if isinstance(weight, bool) or not isinstance(weight, (int, float)) or not math.isfinite(weight) or weight < 0:
            raise BadInput(f"reward.weights.{part}: {weight!r} is no weight; give a number of 0 or more")
    if not any(weights.values()):
        raise BadInput(f"reward.weights: {dict(weights)} has no weight above 0, so every reward would be 0; e.g. {{{ACCURACY}: 1.0}}")
    return {part: float(weight) for part, weight in weights.items()}


def _load_one(name: str) -> Grader:
    place = BUILTIN[name].place if name in BUILTIN else name
    module, function = load_module("reward.fn", place, tuple(BUILTIN))
    if name == "boxed":
        importlib.import_module("math_verify")  # now, so that no response waits for it
    return _check(name, module, function)


def _check(name: str, module: ModuleType, function: str) -> Grader:
    where = module.__file__ or module.__name__
    wanted = f"def {function}(response: str, answer: str, **row) -> float | dict[str, float]"
    found = get_function("reward.fn", name, module, function, wanted)
    try:
        signature = inspect.signature(found)
        signature.bind_partial("response", "answer")
    except (TypeError, ValueError) as error:
        raise BadInput(f"reward.fn: {name}: {function} in {where} cannot be called ({error}); it must be {wanted}") from error
    inner = inspect.unwrap(found)
    file = inner.__code__.co_filename if inspect.isfunction(inner) else where
    names = _bind(name, function, where, signature, wanted)
    if names == COMPUTE_SCORE:
        return _check_compute_score(name, found, file, signature)
    if inspect.Parameter.VAR_KEYWORD not in [parameter.kind for parameter in signature.parameters.values()]:
        raise BadInput(
            f"reward.fn: {name}: {function}{signature} in {where} takes no **row, in which the other data columns come; it must be {wanted}"
        )
    first, second = names or [parameter.name for parameter in signature.parameters.values()][:2]
    required = tuple(p.name for p in _named(signature) if p.default is inspect.Parameter.empty and p.name not in (first, second))
    return Grader(name, found, file, frozenset((first, second)), required, names)


def _named(signature: inspect.Signature) -> list[inspect.Parameter]:
    """Return the parameters without *args and **kwargs."""
    variable = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    return [parameter for parameter in signature.parameters.values() if parameter.kind not in variable]


def _bind(name: str, function: str, where: str, signature: inspect.Signature, wanted: str) -> tuple[str, str] | None:
    """Return the names by which response and answer are passed, or None to pass them by place. Raises BadInput.

    By place, a function of another framework would compare the wrong things, and might find all of them equal.
    """
    by_place = [parameter.name for parameter in _named(signature)]
    by_name = {p.name for p in _named(signature) if p.kind is not inspect.Parameter.POSITIONAL_ONLY}
    for names in (OURS, COMPUTE_SCORE):
        if by_name.issuperset(names):
            return names
    first, second = [*by_place, "", ""][:2]
    others = {"response", "completion", "answer", "ground_truth"}.intersection(by_place[2:])
    if first in NO_RESPONSE or second in NO_ANSWER or others:
        raise BadInput(
            f"reward.fn: {name}: the first parameters of {function} in {where} are {first} and {second}, which are no response and answer; "
            f"it must be {wanted}, or compute_score(data_source, solution_str, ground_truth, extra_info=None)"
        )
    return None


def _check_compute_score(name: str, found: Callable[..., Any], file: str, signature: inspect.Signature) -> Grader:
    """Return the grader of a `compute_score(data_source, solution_str, ground_truth, extra_info)`; the row gives its other parameters."""
    others = [parameter for parameter in _named(signature) if parameter.name not in COMPUTE_SCORE]
    required = tuple(p.name for p in others if p.default is inspect.Parameter.empty and p.name not in EMPTY_COLUMNS)

    @functools.wraps(found)
    def call(**arguments: Any) -> Any:
        return found(**{p.name: EMPTY_COLUMNS[p.name] for p in others if p.name in EMPTY_COLUMNS} | arguments)

    return Grader(name, call, file, frozenset(COMPUTE_SCORE), required, COMPUTE_SCORE, frozenset(p.name for p in others))


def read_parts(name: str, result: Any) -> dict[str, float]:
    """Return the parts in [0, 1] that the function `name` returned. A number without a name is the accuracy.

    A bool and a NumPy or torch scalar count as numbers. Raises GradingError for anything else.
    """
    if not isinstance(result, dict):
        return {ACCURACY: _read_number(name, ACCURACY, result)}
    if not result:
        raise GradingError(f"{name} returned a dict without parts; give at least {{'{ACCURACY}': ...}}")
    if len(result) > MOST_PARTS:
        raise GradingError(f"{name} returned {len(result)} parts; at most {MOST_PARTS} are reported")
    for part in result:
        if not isinstance(part, str) or not 0 < len(part) <= LONGEST_NAME:
            raise GradingError(f"{name} returned a part named {part!r:.100}; a part's name is a text such as '{ACCURACY}'")
    return {part: _read_number(name, part, value) for part, value in result.items()}


def _read_number(name: str, part: str, value: Any) -> float:
    scalar = value
    if hasattr(value, "item"):
        try:
            scalar = value.item()
        except (TypeError, ValueError, RuntimeError) as error:
            raise GradingError(f"{name} returned {part} = {value!r:.100}; one number in [0, 1] is wanted") from error
    if not isinstance(scalar, Real):
        raise GradingError(f"{name} returned {part} = {value!r:.100} ({type(value).__name__}); a number in [0, 1] is wanted")
    number: Any = scalar  # the type checker does not know that a Real can be compared
    # Compared before float(), which overflows for a huge int; NaN fails every comparison.
    if not -ROUNDING <= number <= 1 + ROUNDING:
        # Writing an int of a million digits as decimal text takes too long.
        shown = "a huge integer" if isinstance(number, int) and number.bit_length() > 64 else repr(number)
        raise GradingError(f"{name} returned {part} = {shown}; a number in [0, 1] is wanted, so scale it if it has another range")
    return float(number)


def merge_parts(returned: list[tuple[str, dict[str, float]]]) -> dict[str, float]:
    """Return the parts of several functions, given as (name, parts), as one dict. Raises GradingError if a part comes twice."""
    merged: dict[str, float] = {}
    source: dict[str, str] = {}
    for name, parts in returned:
        for part, value in parts.items():
            if part in merged:
                raise GradingError(f"{source[part]} and {name} both return the part {part}; each part needs one source")
            merged[part], source[part] = value, name
    return merged


def weigh(names: str, parts: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """Return reward = sum_i weights[i] * parts[i]. It lies in [0, 1] if the weights sum to 1 or less; nothing is clipped.

    Raises GradingError, which says `names`, if a part with a weight is missing, or the accuracy, which difficulty reads.
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


class Graded(Protocol):
    """The fields of a graded response that `refuse_errors` reads."""

    @property
    def error(self) -> str | None: ...
    @property
    def timed_out(self) -> bool: ...


def is_error(graded: Graded, reward: RewardConfig) -> bool:
    """Return whether a failed grading counts as an error of the reward function.

    Where all functions are built in, a response that ran into the time limit does not: the policy wrote it, and `reward/timeout_frac`
    counts it. A user's function that is late may be broken.
    """
    return graded.error is not None and not (graded.timed_out and all(name in BUILTIN for name in list_names(reward.fn)))


def refuse_errors(graded: Sequence[Graded], reward: RewardConfig, expected: int = 0) -> None:
    """Raise RunFailed, with the first error, if more than `reward.max_error_frac` of a step's gradings failed; see `is_error`.

    `expected` is the number of gradings that the step will have in the end. With it an unfinished step can be checked: it
    is refused as soon as it would fail even if all gradings to come succeeded.
    """
    errors = [one for one in graded if is_error(one, reward)]
    total = max(len(graded), expected)
    if len(errors) <= reward.max_error_frac * total:
        return
    late = sum(one.timed_out for one in errors)
    raise RunFailed(
        f"{len(errors)} of {total} gradings of a step failed ({late} of them by timeout), more than "
        f"reward.max_error_frac={reward.max_error_frac:g} allows. The first: {errors[0].error}\n"
        "Mend the reward function, or raise reward.timeout_s or reward.max_error_frac."
    )
