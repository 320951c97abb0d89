"""From predictions to figures: each model's with its interval, the paired difference to the first model, in all and by parts of the set."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from uec.eval.estimate import Estimate, Scores, difference, estimate
from uec.eval.majority import majority_at_k
from uec.eval.pass_at_k import pass_at_k
from uec.eval.predictions import Prediction

RIGHT = 1.0 - 1e-6
"""A response is right if its accuracy is full; partial credit is not."""

Groups = dict[int, list[Prediction]]
"""A model's responses by prompt."""

Value = tuple[float, float]
"""Of one prompt: a mean, and its weight in the figure."""

Measure = Callable[[list[Prediction]], Value | None]
"""Reads a prompt's figure off its responses; None where it has none."""


@dataclass(frozen=True)
class Figure:
    """One line of the table."""

    name: str
    values: list[Estimate | None]  # by model
    differences: list[Estimate | None]  # to the first model, which has none


@dataclass(frozen=True)
class Part:
    """The whole set, or some of its prompts."""

    title: str
    prompts: int  # of the first model
    figures: list[Figure]


def measures(models: Sequence[Groups], k: Sequence[int], votes: bool) -> dict[str, Measure]:
    """What is measured of these models, by name. `votes`: the grader compares answers, so that there is a majority."""
    found: dict[str, Measure] = {f"pass@{number}": _passes(number) for number in k}
    if votes:
        found |= {f"majority@{number}": _wins(number) for number in k if number > 1}
    ones = [one for groups in models for group in groups.values() for one in group]
    if any(0 < one.accuracy < RIGHT for one in ones):
        found["mean accuracy"] = _mean(lambda one: one.accuracy)  # with partial credit, it is not pass@1
    for part in sorted({part for one in ones for part in one.parts} - {"accuracy"}):
        found[f"mean {part}"] = _part(part)
    if any(one.entropy is not None for one in ones):
        found["entropy"] = _entropy
    found["response length"] = _mean(lambda one: float(one.tokens))
    found["truncated"] = _mean(lambda one: float(one.truncated))
    if any(one.error is not None for one in ones):
        found["grading failed"] = _mean(lambda one: float(one.error is not None))
    return found


def measure_parts(models: Sequence[Groups], parts: Sequence[tuple[str, list[int]]], measured: dict[str, Measure]) -> list[Part]:
    """The figures of each part, which is a title and its prompts."""
    return [
        Part(
            title,
            sum(prompt in models[0] for prompt in prompts),
            [_figure(name, [_values(groups, prompts, measure) for groups in models]) for name, measure in measured.items()],
        )
        for title, prompts in parts
    ]


def by_difficulty(first: Groups) -> list[tuple[str, list[int]]]:
    """Parts by how many of its n responses the first model has right: none, up to half, more than half, all; without empty ones."""
    bins: dict[str, list[int]] = {title: [] for title in ("none right", "up to half right", "more than half right", "all right")}
    for prompt, group in sorted(first.items()):
        right = _right(group)
        title = 0 if right == 0 else 3 if right == len(group) else 1 if 2 * right <= len(group) else 2
        list(bins.values())[title].append(prompt)
    return [(title, prompts) for title, prompts in bins.items() if prompts]


def _figure(name: str, values: list[dict[int, Value]]) -> Figure:
    """`values`: each model's, by prompt. A difference is of the prompts that both models have."""
    first = values[0]
    differences: list[Estimate | None] = [None]
    for other in values[1:]:
        shared = sorted(first.keys() & other.keys())
        differences.append(difference(_scores(first, shared), _scores(other, shared)))
    return Figure(name, [estimate(_scores(own, sorted(own))) for own in values], differences)


def _scores(values: dict[int, Value], prompts: Sequence[int]) -> Scores:
    return Scores.of([values[prompt][0] for prompt in prompts], [values[prompt][1] for prompt in prompts])


def _values(groups: Groups, prompts: Sequence[int], measure: Measure) -> dict[int, Value]:
    found = {prompt: measure(groups[prompt]) for prompt in prompts if prompt in groups}
    return {prompt: value for prompt, value in found.items() if value is not None}


def _right(group: list[Prediction]) -> int:
    return sum(one.accuracy >= RIGHT for one in group)


def _passes(k: int) -> Measure:
    return lambda group: (pass_at_k(len(group), _right(group), k), 1.0)


def _wins(k: int) -> Measure:
    return lambda group: (majority_at_k([one.accuracy >= RIGHT for one in group], [one.extracted for one in group], k), 1.0)


def _mean(of: Callable[[Prediction], float]) -> Measure:
    return lambda group: (math.fsum(map(of, group)) / len(group), 1.0)


def _part(part: str) -> Measure:
    def measure(group: list[Prediction]) -> Value | None:
        values = [one.parts[part] for one in group if part in one.parts]
        return (math.fsum(values) / len(values), 1.0) if values else None

    return measure


def _entropy(group: list[Prediction]) -> Value | None:
    """A mean over tokens, as in training: a prompt weighs as much as its first response has tokens."""
    return None if group[0].entropy is None else (group[0].entropy, float(group[0].tokens))
